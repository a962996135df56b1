//! Role `score`: the log of record to scores and alerts.
//!
//! Consume, fold, score what falls due, decide, produce, commit: one Kafka transaction a
//! batch holds the scores, the alerts, the policy's memory and the offsets (invariant 2).
//! Models are swapped between batches only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::champions::{Champion, Champions};
use super::lag::Lag;
use super::moves::Moves;
use super::recover::{Part, memory_key, recover, wake};
use super::{Context, RoleError, wall_now};
use crate::alerts::{
    Alert, Contribution, Decision, Explained, Identifier, Instead, ModelName, Otherwise, Reason, Score, Status,
    cloud_event, decide, score_json,
};
use crate::events::{self, EventsView};
use crate::features::{Applied, Due, FeatureSpec, Levels, Prediction, Vector};
use crate::kafka::{
    Block, NextOffset, Outbox, Parcel, Partition, Publisher, Source, SourceEvent, SourceSettings, Transactions,
};
use crate::learn::Task;
use crate::library::{Library, Table};
use crate::models::{Change, Lever, Scratch, counterfactual};
use crate::telemetry::{Beat, Metrics, fault};

/// Indices into the topics of the role's producer.
const SCORES: usize = 0;
const ALERTS: usize = 1;
const ALERT_STATE: usize = 2;
const EVENTS: usize = 3;

/// Why a prediction has no risk while no model was ever promoted.
const NO_MODEL: &str = "no model has passed its gate yet";

/// Runs the role until the process stops.
pub(super) fn run(context: &Context, beat: &Beat) -> Result<(), RoleError> {
    let library = context.runtime.block_on(Library::open(&context.site.settings.library))?;
    let mut role = Scoring::open(context, library.clone())?;
    let waits = context.metrics.source_wait_seconds.with_label_values(&["score"]);
    let mut asked = Instant::now();
    while !context.stop.is_stopped() {
        beat.beat();
        role.champions.follow();
        role.look_at_lag()?;
        role.rest();
        match role.source.next(Duration::from_millis(100))? {
            Some(SourceEvent::Block(block)) => {
                waits.observe(asked.elapsed().as_secs_f64());
                role.batch(&block, beat)?;
                asked = Instant::now();
            }
            Some(SourceEvent::Assigned(assigned, reply)) => {
                fault("score", "assigned");
                beat.ready(false);
                let parts = recover(context, &library, &assigned, || beat.beat())?;
                let starts = assigned.iter().filter_map(|one| Some(parts.get(&one.partition.number)?.next)).collect();
                role.parts.extend(parts);
                role.measure();
                fault("score", "recovered");
                beat.ready(true);
                // A polling thread that gave up waiting has said so itself.
                let _ = reply.send(starts);
            }
            Some(SourceEvent::Revoked(partitions, reply)) => {
                fault("score", "revoked");
                for partition in &partitions {
                    role.parts.remove(&partition.number);
                    context.metrics.forget_partition("score", &partition.topic, partition.number);
                }
                role.measure();
                role.publisher.settle()?;
                let _ = reply.send(());
            }
            Some(SourceEvent::Failed(error)) => return Err(error.into()),
            None => role.publisher.look()?,
        }
    }
    Ok(role.publisher.settle()?)
}

struct Scoring<'c> {
    context: &'c Context,
    library: Library,
    champions: Champions<'c>,
    // Before the source: what is under way is committed while the member is still in its group.
    publisher: Publisher,
    source: Source,
    parts: BTreeMap<i32, Part>,
    lag: Lag,
    /// When what is not needed in memory last went.
    rested: Instant,
    due: Due,
    moves: Moves,
    scratch: Scratch,
    /// Partition and arrival (milliseconds) of each row of `due`.
    origins: Vec<Origin>,
    outbox: Outbox,
    json: Vec<u8>,
    /// What the models tell of the rows of `due` beside their risks.
    outputs: Vec<f64>,
    /// What is counted once the transaction is committed.
    made: Made,
}

#[derive(Copy, Clone, Debug)]
struct Origin {
    partition: i32,
    arrived_ms: i64,
}

/// What a model says of a row of `due`.
#[derive(Copy, Clone, Debug)]
struct Answer {
    /// The risk, or why there is none: no model, or one that abstains.
    status: Status<'static>,
    /// From where on what it tells beside the risk stands in `outputs`.
    outputs: usize,
}

#[derive(Default, Debug)]
struct Made {
    /// Scores by (task, whether there is a risk).
    scores: BTreeMap<(usize, bool), u64>,
    /// Alerts by (task, tier, kind).
    alerts: BTreeMap<(usize, String, &'static str), u64>,
    /// Arrivals behind the alerts.
    arrivals: Vec<i64>,
    applied: [u64; 3],
}

impl Made {
    fn count(&self, metrics: &Metrics, tasks: &[Task]) {
        for ((task, is_ok), count) in &self.scores {
            let status = if *is_ok { "ok" } else { "indeterminate" };
            metrics.scores.with_label_values(&[tasks[*task].name.as_str(), status]).inc_by(*count);
        }
        for ((task, tier, kind), count) in &self.alerts {
            metrics.alerts.with_label_values(&[tasks[*task].name.as_str(), tier, kind]).inc_by(*count);
        }
        let now_ms = wall_now() / 1000;
        for arrived in &self.arrivals {
            metrics.alert_latency.observe((now_ms - arrived).max(0) as f64 / 1e3);
        }
        metrics.redelivered_events.inc_by(self.applied[0]);
        metrics.corrected_events.inc_by(self.applied[1]);
        metrics.retracted_events.inc_by(self.applied[2]);
    }
}

impl<'c> Scoring<'c> {
    fn open(context: &'c Context, library: Library) -> Result<Self, RoleError> {
        let settings = &context.site.settings;
        let topics = &settings.topics;
        // The group takes a second or so to let a member in; the rest is opened meanwhile.
        let source = Source::open(SourceSettings {
            kafka: settings.kafka.clone(),
            limits: settings.limits,
            role: "score",
            instance: settings.instance.clone(),
            topics: vec![topics.events.clone()],
            writes: Some(topics.scores.clone()),
        })?;
        let outputs = [&topics.scores, &topics.alerts, &topics.alert_state, &topics.events].map(String::as_str);
        let transactions = Transactions::open(settings, "score", &outputs)?;
        Ok(Scoring {
            context,
            library,
            champions: Champions::open(context)?,
            publisher: Publisher::start(transactions, source.member(), context.metrics.clone())?,
            source,
            parts: BTreeMap::new(),
            lag: Lag::new("score"),
            rested: Instant::now(),
            due: Due::default(),
            moves: Moves::default(),
            // A fit of the role `train` may keep the cores busy for minutes.
            scratch: Scratch::staying(),
            origins: Vec::new(),
            outbox: Outbox::default(),
            json: Vec::new(),
            outputs: Vec::new(),
            made: Made::default(),
        })
    }

    /// One block of event batches into one transaction.
    fn batch(&mut self, block: &Block, beat: &Beat) -> Result<(), RoleError> {
        let metrics = &self.context.metrics;
        self.due.clear();
        self.origins.clear();
        self.made = Made::default();
        let mut next: BTreeMap<i32, NextOffset> = BTreeMap::new();
        let timer = metrics.stage_seconds.with_label_values(&["fold"]).start_timer();
        for record in block.iter() {
            let number = record.partition.number;
            // Records of a partition that was taken away meanwhile belong to its new owner.
            let Some(part) = self.parts.get_mut(&number) else { continue };
            if record.offset < part.next.0 {
                continue;
            }
            let batch = events::decode(record.bytes).map_err(|cause| RoleError::Log {
                topic: record.partition.topic.to_string(),
                partition: number,
                offset: record.offset,
                cause,
            })?;
            let view = EventsView::new(&batch)?;
            let asleep = part.fold.asleep(&view);
            if !asleep.is_empty() {
                wake(self.context, &self.library, number, part, &asleep, &|| beat.beat())?;
                metrics.woken_subjects.inc_by(asleep.len() as u64);
            }
            part.fold.at(record.offset);
            let is_live = record.offset >= part.live.0;
            for row in 0..view.len() {
                let due = is_live.then_some(&mut self.due);
                let event = view.row(row);
                match part.fold.apply(&event, due) {
                    Applied::Redelivered => self.made.applied[0] += 1,
                    Applied::Corrected => self.made.applied[1] += 1,
                    Applied::Retracted => self.made.applied[2] += 1,
                    Applied::Elsewhere(to, number) if is_live => {
                        self.moves.straggler(&event, to, number, (record.offset, row))?
                    }
                    Applied::Left if is_live => self.moves.departure(number, (record.offset, row), &event)?,
                    _ => {}
                }
            }
            self.origins.resize(self.due.rows.len(), Origin { partition: number, arrived_ms: record.timestamp_ms });
            part.next = NextOffset(record.offset + 1);
            if is_live {
                next.insert(number, part.next);
            }
        }
        timer.observe_duration();
        fault("score", "folded");
        self.outbox = self.publisher.outbox();
        let timer = metrics.stage_seconds.with_label_values(&["score"]).start_timer();
        self.score()?;
        timer.observe_duration();
        fault("score", "scored");
        self.moves.write(self.context, &self.library, &mut self.outbox, EVENTS)?;
        if !next.is_empty() {
            self.publish(&next)?;
        }
        self.measure();
        Ok(())
    }

    /// Scores what fell due and decides about each, in the order it fell due.
    fn score(&mut self) -> Result<(), RoleError> {
        let due = std::mem::take(&mut self.due);
        let columns = self.context.site.features.len();
        let answers = self.answers(&due, columns)?;
        for (row, prediction) in due.rows.iter().enumerate() {
            let task = &self.context.site.tasks[prediction.trigger];
            let champion = self.champions.of(prediction.trigger).cloned();
            let Answer { status, outputs } = answers[row];
            let vector = Vector {
                values: &due.values[row * columns..(row + 1) * columns],
                observed: &due.observed[row * columns..(row + 1) * columns],
                at: prediction.time,
            };
            let names: &[String] = match &champion {
                Some(champion) => champion.bundle.output_names(),
                None => &[],
            };
            score_json(
                &Score {
                    task: &task.name,
                    subject: prediction.subject,
                    encounter: prediction.encounter.as_deref(),
                    prediction_time: prediction.time,
                    status,
                    model: name(task, champion.as_ref()),
                    outputs: (names, &self.outputs[outputs..outputs + names.len()]),
                    source: &prediction.source,
                },
                &mut self.json,
            )?;
            self.outbox.push(SCORES, prediction.subject.0.to_string().as_bytes(), &self.json);
            *self.made.scores.entry((prediction.trigger, status.risk().is_some())).or_default() += 1;
            self.alert(prediction, self.origins[row], champion.as_ref(), status, &vector)?;
        }
        self.due = due;
        Ok(())
    }

    /// What the models say of each row of `due`; `outputs` holds what they tell beside the risk.
    fn answers(&mut self, due: &Due, columns: usize) -> Result<Vec<Answer>, RoleError> {
        let mut answers = vec![Answer { status: Status::Indeterminate(NO_MODEL), outputs: 0 }; due.rows.len()];
        self.outputs.clear();
        let mut rows = Vec::new();
        let mut values = Vec::new();
        let (mut assessed, mut outputs) = (Vec::new(), Vec::new());
        for task in 0..self.context.site.tasks.len() {
            let Some(champion) = self.champions.of(task) else { continue };
            rows.clear();
            rows.extend((0..due.rows.len()).filter(|&row| due.rows[row].trigger == task));
            if rows.len() == due.rows.len() {
                champion.bundle.assess(&due.values, &mut self.scratch, &mut assessed, &mut outputs)?;
            } else {
                values.clear();
                for &row in &rows {
                    values.extend_from_slice(&due.values[row * columns..(row + 1) * columns]);
                }
                champion.bundle.assess(&values, &mut self.scratch, &mut assessed, &mut outputs)?;
            }
            let width = champion.bundle.output_names().len();
            for (i, (&row, assessment)) in rows.iter().zip(&assessed).enumerate() {
                answers[row] = Answer { status: Status::of(assessment), outputs: self.outputs.len() + i * width };
            }
            self.outputs.append(&mut outputs);
        }
        Ok(answers)
    }

    /// Decides about one risk, or that there is none; an alert and the policy's memory go into the outbox.
    fn alert(
        &mut self,
        prediction: &Prediction,
        origin: Origin,
        champion: Option<&Champion>,
        status: Status<'_>,
        vector: &Vector<'_>,
    ) -> Result<(), RoleError> {
        let site = &self.context.site;
        let task = &site.tasks[prediction.trigger];
        let Some(part) = self.parts.get_mut(&origin.partition) else { return Ok(()) };
        let key = memory_key(&task.name, prediction.subject.0, prediction.encounter.as_deref());
        let risk = status.risk();
        let threshold = task.policy.threshold_or(champion.map_or(f64::NAN, |champion| champion.bundle.threshold()));
        if !part.memory.contains_key(&key) && risk.is_none_or(|risk| risk < threshold) {
            // Nothing stands and nothing rises: nothing to remember either.
            return Ok(());
        }
        let memory = part.memory.entry(key.clone()).or_default();
        let Some(decision) = decide(&task.policy, threshold, memory, prediction.time, risk) else { return Ok(()) };
        let stored = serde_json::to_vec(memory)?;
        let identifier = if site.settings.identify {
            part.fold.token(prediction.subject).map(|token| self.context.pseudonyms.open(token)).transpose()?
        } else {
            None
        };
        let grounds = champion.filter(|_| risk.is_none()).and_then(|one| one.bundle.grounds(vector.values));
        // An alert without its reasons is better than none.
        let explained = champion.zip(risk).and_then(|(champion, risk)| {
            Self::explain(self.context, task, champion, risk, vector)
                .inspect_err(|error| tracing::error!(task = task.name, %error, "an alert goes out without its reasons"))
                .ok()
        });
        let event = cloud_event(&Alert {
            task: &task.name,
            title: &task.title,
            decision: &decision,
            subject: prediction.subject,
            identifier: identifier.as_ref().map(|(system, value)| Identifier { system, value }),
            encounter: prediction.encounter.as_deref(),
            prediction_time: prediction.time,
            published_at: wall_now(),
            horizon: task.horizon,
            risk,
            reason: status.reason().map(|words| Reason { words, grounds: grounds.as_ref() }),
            model: name(task, champion),
            explanation: explained.as_ref(),
            outcome: task.policy.outcome.as_ref(),
            top: task.policy.top,
            source: &prediction.source,
        })?;
        self.outbox.push(ALERTS, event.key.as_bytes(), &event.data).with_headers(event.headers);
        self.outbox.push(ALERT_STATE, key.as_bytes(), &stored).to_partition(origin.partition);
        self.count_alert(prediction.trigger, &decision);
        self.made.arrivals.push(origin.arrived_ms);
        Ok(())
    }

    /// Why a risk is what it is.
    fn explain(
        context: &'c Context,
        task: &Task,
        champion: &Champion,
        risk: f64,
        vector: &Vector<'_>,
    ) -> Result<Explained<'c>, RoleError> {
        let features = &context.site.features;
        let explanation = champion.bundle.explain(vector.values)?;
        let contributions = explanation
            .contributions
            .iter()
            .enumerate()
            .map(|(i, &contribution)| Contribution {
                feature: features.name(i),
                value: vector.values[i],
                unit: Some(features.unit(i)).filter(|unit| !unit.is_empty()),
                observed_at: Some(vector.observed[i]).filter(|&at| at != i64::MIN),
                contribution,
            })
            .collect();
        let explained = Explained::new(risk, explanation.base, contributions)?.with_error(explanation.error);
        Ok(explained.with_instead(Self::instead(features, task, champion, risk, vector)?))
    }

    /// What would have to be otherwise for a risk to lie below the threshold.
    fn instead(
        features: &FeatureSpec,
        task: &Task,
        champion: &Champion,
        risk: f64,
        vector: &Vector<'_>,
    ) -> Result<Option<Instead>, RoleError> {
        let threshold = task.policy.threshold_or(champion.bundle.threshold());
        if risk < threshold {
            return Ok(None);
        }
        let concepts: Vec<Levels> =
            task.policy.actionable.iter().filter_map(|concept| features.levels(concept)).collect();
        let usual = &champion.bundle.card.usual;
        let lever = |levels: &Levels| {
            // The last value stands first; where it is not known, whatever is.
            let values = vector.values;
            let known = levels.columns.iter().map(|&column| column as usize).find(|&column| !values[column].is_nan());
            let (from, to) = known.map_or((None, None), |at| (Some(values[at]), usual.get(at).copied().flatten()));
            Lever { from: from.unwrap_or(f32::NAN), usual: to.unwrap_or(f32::NAN) }
        };
        let levers: Vec<Lever> = concepts.iter().map(lever).collect();
        let (mut row, mut risks) = (Vec::new(), Vec::new());
        let mut then = |changes: &[Change]| {
            features.with_levels(vector, &levels_at(&concepts, changes), &mut row);
            champion.bundle.score(&row, &mut risks)?;
            Ok(risks.first().copied().unwrap_or(f64::NAN))
        };
        let Some(found) = counterfactual(&levers, threshold, &mut then)? else { return Ok(None) };
        let unchanged = features.with_levels(vector, &levels_at(&concepts, &found.changes), &mut row);
        Ok(Some(Instead {
            changes: found
                .changes
                .iter()
                .map(|change| Otherwise {
                    concept: concepts[change.lever].concept.clone(),
                    unit: concepts[change.lever].unit.clone(),
                    value: levers[change.lever].from,
                    instead: change.to,
                })
                .collect(),
            risk: found.risk,
            unchanged: unchanged.into_iter().map(str::to_owned).collect(),
        }))
    }

    fn count_alert(&mut self, task: usize, decision: &Decision<'_>) {
        let key = (task, decision.tier.to_owned(), decision.kind.as_str());
        *self.made.alerts.entry(key).or_default() += 1;
    }

    /// The outbox and the offsets into one transaction; then what it held is counted.
    fn publish(&mut self, next: &BTreeMap<i32, NextOffset>) -> Result<(), RoleError> {
        let context = self.context;
        let topic: Arc<str> = context.site.settings.topics.events.as_str().into();
        let offsets: Vec<(Partition, NextOffset)> =
            next.iter().map(|(&number, &next)| (Partition { topic: topic.clone(), number }, next)).collect();
        let (made, metrics, site) =
            (std::mem::take(&mut self.made), context.metrics.clone(), Arc::clone(&context.site));
        let committed = Box::new(move || made.count(&metrics, &site.tasks));
        let outbox = std::mem::take(&mut self.outbox);
        self.publisher.publish(Parcel { outbox, fill: Box::new(|_| Ok(())), offsets, committed })?;
        Ok(())
    }

    fn look_at_lag(&mut self) -> Result<(), RoleError> {
        let (settings, metrics) = (&self.context.site.settings, &self.context.metrics);
        let topic: Arc<str> = settings.topics.events.as_str().into();
        let owned = self.parts.iter().map(|(&number, part)| (Partition { topic: topic.clone(), number }, part.next));
        self.lag.measure(&self.source, metrics, &metrics.consumer_lag, settings.kafka.deadline, owned)
    }

    /// Lets go of what no window reaches any more, and of subjects of whom nothing became known for long, once the
    /// library holds all of them.
    fn rest(&mut self) {
        let settings = &self.context.site.settings;
        if self.rested.elapsed() < settings.archive.every {
            return;
        }
        self.rested = Instant::now();
        let inactive = settings.limits.inactive.as_micros() as i64;
        let trimmed: usize = self.parts.values_mut().map(|part| part.fold.trim(inactive)).sum();
        if trimmed > 0 {
            self.measure();
        }
        if self.parts.values().all(|part| part.fold.restful(part.fold.inactive_since(inactive)) == 0) {
            return;
        }
        let archived = match self.context.runtime.block_on(self.library.positions(Table::Events)) {
            Ok(archived) => archived,
            // They stay awake, which costs memory only.
            Err(error) => return tracing::warn!(%error, "nobody goes to rest this time"),
        };
        for (number, part) in &mut self.parts {
            if let Some(&position) = archived.get(&(*number as u32)) {
                part.fold.rest(part.fold.inactive_since(inactive), position);
            }
        }
        self.measure();
    }

    fn measure(&self) {
        let metrics = &self.context.metrics;
        let folds = || self.parts.values().map(|part| &part.fold);
        metrics.queue_bytes.with_label_values(&["score"]).set(self.source.queued_bytes() as i64);
        metrics.state_resting_subjects.set(folds().map(|fold| fold.resting() as i64).sum());
        metrics.state_subjects.set(folds().map(|fold| fold.subjects() as i64).sum());
        metrics.state_bytes.set(folds().map(|fold| fold.bytes() as i64).sum());
    }
}

/// The model that was asked; without one, the name that the task's models have.
fn name<'m>(task: &'m Task, champion: Option<&'m Champion>) -> ModelName<'m> {
    match champion {
        Some(Champion { model, .. }) => ModelName { name: &model.name, version: model.version, sha256: &model.sha256 },
        None => ModelName { name: &task.name, version: 0, sha256: "" },
    }
}

/// The levels of concepts after changes of the levers that stand for them.
fn levels_at<'l>(concepts: &'l [Levels], changes: &[Change]) -> Vec<(&'l Levels, f32)> {
    changes.iter().map(|change| (&concepts[change.lever], change.to)).collect()
}
