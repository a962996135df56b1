//! Role `train`: the library to better models, on each task's schedule.
//!
//! One training at a time; a task that cannot be trained says why and waits for its next
//! turn. What passes the gate is promoted and announced on `auscult.models`; whoever died in between
//! left a champion that no running daemon knows of, so each start announces those that there are. Between
//! trainings the labels of published predictions settle.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use croner::Cron;

use super::{Context, RoleError, wall_now};
use crate::kafka::{Feeder, KafkaError};
use crate::learn::{self, Announcement, Registry, Task, TrainReport};
use crate::library::{Library, Table};
use crate::settings::Settings;
use crate::telemetry::{Beat, Health, Metrics, compact_every, fault};

/// Settlements after which the small files they left are put together.
const COMPACT_EVERY: u32 = 50;

/// Runs the role until the process stops.
pub(super) fn run(context: &Context, beat: &Beat) -> Result<(), RoleError> {
    let settings = &context.site.settings;
    let registry = Registry::open(&settings.registry)?;
    for task in &context.site.tasks {
        announce(settings, &registry, &task.name)?;
    }
    let mut turns: Vec<(&Task, Cron, DateTime<Utc>)> = Vec::new();
    for task in &context.site.tasks {
        if let Some(schedule) = &task.train.schedule {
            turns.push((task, schedule.clone(), now()));
        }
    }
    for (_, schedule, due) in &mut turns {
        *due = after(schedule, *due);
    }
    let mut labels = Labels { settled: Instant::now(), commits: 0 };
    beat.ready(true);
    while !context.stop.wait(Duration::from_millis(200)) {
        beat.beat();
        labels.look(context, beat);
        let now = now();
        for (task, schedule, due) in &mut turns {
            // A clock that was put back does not put the turn off.
            *due = after(schedule, now).min(*due);
            if *due <= now {
                train_once(context, task, beat)?;
                *due = after(schedule, self::now());
            }
        }
    }
    Ok(())
}

/// Watches a training: the role lives while a fit computes, but a fit that hangs is late all the same.
struct Watch {
    beat: Beat,
    /// What it said last.
    last: String,
}

impl Watch {
    /// From now on it must say something new every `deadline`.
    fn new(health: &Health, deadline: Duration) -> Watch {
        let beat = health.watch("training", deadline);
        beat.ready(true);
        Watch { beat, last: String::new() }
    }

    /// Takes note of what it says. The same again is what is heard of one that is silent.
    fn hear(&mut self, what: &str) {
        if what != self.last {
            self.beat.beat();
            what.clone_into(&mut self.last);
        }
    }
}

/// Labels that settle between trainings.
struct Labels {
    settled: Instant,
    commits: u32,
}

impl Labels {
    /// Settles labels if it is time to. What fails is told, and tried again next time: it loses nothing.
    fn look(&mut self, context: &Context, beat: &Beat) {
        if self.settled.elapsed() < context.site.settings.archive.settle {
            return;
        }
        self.settled = Instant::now();
        if let Err(error) = self.settle(context, beat) {
            tracing::warn!(%error, "no labels were settled this time");
        }
    }

    fn settle(&mut self, context: &Context, beat: &Beat) -> Result<(), RoleError> {
        let runtime = &context.runtime;
        let library = runtime.block_on(Library::open(&context.site.settings.library))?;
        let mut progress = |what: &str| {
            beat.beat();
            tracing::trace!(what, "settling labels");
        };
        let settled = runtime.block_on(learn::settle(&library, &context.site.tasks, &mut progress))?;
        fault("train", "settled");
        let mut count = 0;
        for task in &settled {
            let counts = [("true", task.positives), ("false", task.negatives), ("none", task.without)];
            for (label, number) in counts {
                context.metrics.labels.with_label_values(&[task.task.as_str(), label]).inc_by(number);
                count += number;
            }
            let lag = context.metrics.label_lag.with_label_values(&[&task.task]);
            task.lags.iter().for_each(|&micros| lag.observe(micros as f64 / 1e6));
            tracing::debug!(task = task.task, open = task.open, "labels settled");
        }
        self.commits += u32::from(count > 0);
        if self.commits >= compact_every(COMPACT_EVERY) {
            self.commits = 0;
            beat.beat();
            runtime.block_on(library.compact(Table::Labels))?;
            runtime.block_on(library.vacuum(Table::Labels))?;
        }
        Ok(())
    }
}

/// The wall clock, as a schedule reads it.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(wall_now()).unwrap_or_default()
}

/// The next turn after `now`; a schedule without one never comes due.
fn after(schedule: &Cron, now: DateTime<Utc>) -> DateTime<Utc> {
    schedule.find_next_occurrence(&now, false).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Trains one task, promotes what passes and announces it. `None` if this time there was nothing
/// to train on; only a broken registry, library or broker is an error.
///
/// # Errors
/// As said.
pub fn train_once(context: &Context, task: &Task, beat: &Beat) -> Result<Option<TrainReport>, RoleError> {
    let settings = &context.site.settings;
    let library = context.runtime.block_on(Library::open(&settings.library))?;
    let registry = Registry::open(&settings.registry)?;
    let source = context.site.source(&library);
    let mut watch = Watch::new(&context.health, settings.train_deadline);
    let mut progress = |what: &str| {
        beat.beat();
        watch.hear(what);
        tracing::info!(task = task.name, what, "training");
    };
    let trained = context.runtime.block_on(learn::train(&source, &registry, task, None, wall_now(), &mut progress));
    match trained {
        Ok(report) => {
            tracing::info!(task = task.name, promoted = report.promoted, reason = report.reason, "trained");
            observe(&context.metrics, &report);
            if report.promoted {
                fault("train", "promoted");
                announce(settings, &registry, &task.name)?;
            }
            Ok(Some(report))
        }
        Err(error) => {
            tracing::warn!(task = task.name, %error, "no model was trained this time");
            Ok(None)
        }
    }
}

fn observe(metrics: &Metrics, report: &TrainReport) {
    metrics.train_seconds.with_label_values(&[&report.task]).set(report.seconds);
    if let Some(auroc) = report.metrics.auroc {
        metrics.model_auroc.with_label_values(&[report.task.as_str(), "held_out"]).set(auroc);
    }
}

/// Tells every running score role of the champion of a task.
///
/// # Errors
/// If the registry cannot be read or the broker does not take the message within `kafka.deadline`.
pub fn announce(settings: &Settings, registry: &Registry, task: &str) -> Result<(), RoleError> {
    let Some(champion) = registry.champion(task)? else { return Ok(()) };
    let announcement =
        Announcement { task: task.to_owned(), name: champion.name, version: champion.version, sha256: champion.sha256 };
    let feeder = Feeder::open(settings)?;
    let value = serde_json::to_vec(&announcement)?;
    feeder.send(&settings.topics.models, Some(task.as_bytes()), &value, None)?;
    feeder.flush(settings.kafka.deadline).map_err(|error: KafkaError| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_that_says_nothing_new_is_late_and_ready_and_no_longer_watched_once_it_ends() {
        let (health, deadline) = (Health::new(), Duration::from_millis(200));
        let mut watch = Watch::new(&health, deadline);
        assert!(health.unready().is_empty() && health.late().is_empty());
        watch.hear("fitting");
        std::thread::sleep(deadline * 2);
        watch.hear("fitting");
        assert_eq!((health.late(), health.unready()), (vec!["training"], vec![]));
        watch.hear("judging");
        assert!(health.late().is_empty());
        std::thread::sleep(deadline * 2);
        assert_eq!(health.late(), ["training"]);
        drop(watch);
        assert!(health.late().is_empty());
    }
}
