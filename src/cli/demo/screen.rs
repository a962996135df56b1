//! What a subscriber sees, on a terminal or not at all.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use prometheus::Histogram;
use prometheus::core::Collector as _;
use serde::Deserialize;
use terminal_size::{Height, Width, terminal_size};

use super::super::CliError;
use super::count;
use super::view::{Figures, Ward};
use crate::events::Micros;
use crate::kafka::Follower;
use crate::learn::TrainReport;
use crate::roles::Context;

/// Reads scores and alerts as any subscriber would.
#[derive(Debug)]
pub(super) struct Subscriber {
    scores: Follower,
    alerts: Follower,
    /// Names of pseudonyms, as far as an alert has told them.
    names: HashMap<String, String>,
}

#[derive(Deserialize)]
struct ScoreSeen {
    subject: String,
    prediction_time: String,
    risk: Option<f64>,
}

#[derive(Deserialize)]
struct AlertSeen {
    kind: String,
    subject: SubjectSeen,
    prediction_time: String,
    risk: Option<f64>,
    explanation: Option<ExplanationSeen>,
}

#[derive(Deserialize)]
struct SubjectSeen {
    pseudonym: String,
    identifier: Option<IdentifierSeen>,
}

#[derive(Deserialize)]
struct IdentifierSeen {
    value: String,
}

#[derive(Deserialize)]
struct ExplanationSeen {
    text: String,
}

impl Subscriber {
    /// Follows both topics from their beginning.
    pub(super) fn open(context: &Context) -> Result<Self, CliError> {
        let settings = &context.site.settings;
        let follow = |topic: &str| Follower::open(&settings.kafka, topic, settings.topics.partitions);
        Ok(Subscriber {
            scores: follow(&settings.topics.scores)?,
            alerts: follow(&settings.topics.alerts)?,
            names: HashMap::new(),
        })
    }

    /// Passes on what has come since.
    pub(super) fn follow(&mut self, ward: &mut Ward) {
        for value in self.scores.drain() {
            if let Ok(seen) = serde_json::from_slice::<ScoreSeen>(&value)
                && let (Some(at), Some(risk)) = (micros(&seen.prediction_time), seen.risk)
            {
                ward.score(&self.name(&seen.subject), at, risk);
            }
        }
        for value in self.alerts.drain() {
            let Ok(seen) = serde_json::from_slice::<AlertSeen>(&value) else { continue };
            let (Some(at), Some(risk)) = (micros(&seen.prediction_time), seen.risk) else { continue };
            let before = self.name(&seen.subject.pseudonym);
            if let Some(identifier) = seen.subject.identifier {
                self.names.insert(seen.subject.pseudonym.clone(), identifier.value);
            }
            let name = self.name(&seen.subject.pseudonym);
            ward.rename(&before, &name);
            let reason = seen.explanation.map(|explanation| explanation.text).unwrap_or_default();
            ward.alert(&name, at, &seen.kind, risk, &reason);
        }
    }

    /// The identifier, once an alert has told it; before, the end of the pseudonym.
    fn name(&self, pseudonym: &str) -> String {
        let short = || format!("..{}", &pseudonym[pseudonym.len().saturating_sub(6)..]);
        self.names.get(pseudonym).cloned().unwrap_or_else(short)
    }
}

fn micros(text: &str) -> Option<Micros> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}

/// The terminal, or nothing where there is none.
#[derive(Debug)]
pub(super) struct Screen {
    ward: Ward,
    shown: bool,
    model: String,
    note: String,
    drawn: Option<Instant>,
}

impl Screen {
    /// Takes over the terminal if stdout is one and a screen is wanted.
    pub(super) fn open(wanted: bool, first: &TrainReport) -> Self {
        let shown = wanted && std::io::stdout().is_terminal();
        if shown {
            // The alternate screen, without a cursor; what was there before comes back at the end.
            print!("\u{1b}[?1049h\u{1b}[?25l");
        }
        let mut screen =
            Screen { ward: Ward::default(), shown, model: String::new(), note: String::new(), drawn: None };
        screen.trained(first);
        screen
    }

    /// What is shown.
    pub(super) fn ward(&mut self) -> &mut Ward {
        &mut self.ward
    }

    /// Says what happens just now.
    pub(super) fn note(&mut self, note: &str) {
        note.clone_into(&mut self.note);
    }

    /// A training has ended.
    pub(super) fn trained(&mut self, report: &TrainReport) {
        let auroc = report.metrics.auroc.unwrap_or(f64::NAN);
        if report.promoted {
            self.model = format!("{} v{} (AUROC {auroc:.3})", report.model.name, report.model.version);
            self.note = "a new model is in use".to_owned();
        } else {
            self.note = format!("the new model was not promoted: {}", report.reason);
        }
    }

    /// Draws, at most four times a second.
    pub(super) fn draw(&mut self, context: &Context) -> Result<(), CliError> {
        if !self.shown || self.drawn.is_some_and(|at| at.elapsed() < Duration::from_millis(250)) {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        self.ward.figures = Figures {
            records: count(context, "raw_messages_total"),
            events: count(context, "events_total"),
            scores: count(context, "scores_total"),
            alerts: count(context, "alerts_total"),
            dead_letters: count(context, "dead_letters_total"),
            model: self.model.clone(),
            metrics_url: format!("http://{}/metrics", context.site.settings.listen),
            note: self.note.clone(),
        };
        let (width, height) =
            terminal_size().map_or((100, 30), |(Width(w), Height(h))| (usize::from(w), usize::from(h)));
        let text = self.ward.render(width, height).replace('\n', "\u{1b}[K\r\n");
        let mut out = std::io::stdout().lock();
        write!(out, "\u{1b}[H{text}\u{1b}[K\u{1b}[J").and_then(|()| out.flush())?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.shown {
            print!("\u{1b}[?25h\u{1b}[?1049l");
        }
    }
}

/// A quantile of a histogram, interpolated within its bucket as Prometheus' `histogram_quantile` does.
pub(super) fn quantile(histogram: &Histogram, q: f64) -> Option<f64> {
    let families = histogram.collect();
    let metric = families.first()?.get_metric().first()?;
    let histogram = metric.get_histogram();
    let total = histogram.get_sample_count();
    if total == 0 {
        return None;
    }
    let rank = q * total as f64;
    let (mut lower, mut below) = (0.0, 0.0);
    for bucket in histogram.get_bucket() {
        let (upper, count) = (bucket.upper_bound(), bucket.cumulative_count() as f64);
        if count >= rank && count > below {
            return Some(if upper.is_finite() {
                lower + (upper - lower) * (rank - below) / (count - below)
            } else {
                lower
            });
        }
        (lower, below) = (upper, count);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use prometheus::HistogramOpts;

    use super::*;

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let histogram = Histogram::with_opts(HistogramOpts::new("h", "h").buckets(vec![1.0, 2.0, 4.0])).unwrap();
        assert_eq!(quantile(&histogram, 0.5), None);
        for value in [0.5, 1.5, 1.5, 3.0] {
            histogram.observe(value);
        }
        assert_eq!(quantile(&histogram, 0.5), Some(1.5));
        assert_eq!(quantile(&histogram, 1.0), Some(4.0));
    }
}
