//! Tests of the fold as a whole.

mod extraction;
mod lever;
pub(crate) mod oracle;
mod passes;
mod recovery;
mod scores;
mod semantics;
mod sites;
mod trimming;
mod ward;

use std::sync::Arc;

use super::{Due, FeatureSpec, Fold, RawTrigger, Trigger};
use crate::events::{EventKey, EventRef, MEDS_BIRTH, Micros, Op, SECOND, SubjectId, TICK};

/// One minute.
const MINUTE: Micros = 60 * SECOND;

/// A tick of a raw partition, of `all` in all.
pub(super) fn tick(source: &str, watermark: Option<Micros>, idle: bool, all: u16) -> EventRef<'_> {
    EventRef {
        subject: None,
        time: watermark,
        code: TICK,
        numeric_value: Some(f32::from(all)),
        text_value: idle.then_some("idle"),
        unit: None,
        concept: None,
        implausible: false,
        recorded_at: watermark.unwrap_or(0),
        op: Op::Assert,
        event_key: EventKey([0; 16]),
        encounter_id: None,
        source,
    }
}

/// An event of subject 1 with a key of its own, known when it happened.
fn event(code: &'static str, at: Micros, key: u64) -> EventRef<'static> {
    let mut event_key = [0; 16];
    event_key[..8].copy_from_slice(&key.to_le_bytes());
    EventRef {
        subject: Some(SubjectId(1)),
        time: Some(at),
        code,
        event_key: EventKey(event_key),
        recorded_at: at,
        ..EventRef {
            subject: None,
            text_value: None,
            numeric_value: None,
            ..tick("raw.flat-0-0#0", Some(at), false, 1)
        }
    }
}

/// A heart rate.
fn heart_rate(value: f32, at: Micros, key: u64) -> EventRef<'static> {
    let coded = event("LOINC//8867-4", at, key);
    EventRef { numeric_value: Some(value), unit: Some("/min"), concept: Some("heart_rate"), ..coded }
}

/// Start or end of the encounter `e`.
fn edge(code: &'static str, at: Micros, key: u64) -> EventRef<'static> {
    EventRef { encounter_id: Some("e"), ..event(code, at, key) }
}

fn birth(at: Micros, known: Micros, key: u64) -> EventRef<'static> {
    EventRef { recorded_at: known, ..event(MEDS_BIRTH, at, key) }
}

fn retract(what: EventRef<'static>, known: Micros) -> EventRef<'static> {
    EventRef { op: Op::Retract, recorded_at: known, ..what }
}

fn known_at(event: EventRef<'static>, recorded_at: Micros) -> EventRef<'static> {
    EventRef { recorded_at, ..event }
}

pub(crate) fn trigger(toml: &str) -> Trigger {
    toml::from_str::<RawTrigger>(toml).unwrap().validate("tasks/x.toml", "trigger").unwrap()
}

pub(crate) fn spec(toml: &str) -> Arc<FeatureSpec> {
    let concepts = [("heart_rate", "/min"), ("lactate", "mmol/L"), ("vasopressor", ""), ("rhythm", ""), ("note", "")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()));
    Arc::new(FeatureSpec::parse("features.toml", toml, &concepts.into()).unwrap())
}

/// A fold and what fell due, with names for values.
struct Run {
    spec: Arc<FeatureSpec>,
    fold: Fold,
    due: Due,
}

impl Run {
    fn new(features: &str, triggers: &[&str]) -> Self {
        let spec = spec(features);
        let fold = Fold::new(Arc::clone(&spec), triggers.iter().map(|text| trigger(text)).collect());
        Run { spec, fold, due: Due::new() }
    }

    fn apply(&mut self, event: EventRef<'_>) -> super::Applied {
        self.fold.apply(&event, Some(&mut self.due))
    }

    /// Times of the predictions so far; they are forgotten.
    fn times(&mut self) -> Vec<Micros> {
        let times = self.due.rows.iter().map(|row| row.time).collect();
        self.due.clear();
        times
    }

    /// A feature of the last prediction.
    fn value(&self, name: &str) -> f32 {
        let column = self.spec.names().iter().position(|known| known == name).unwrap();
        self.due.row(self.due.rows.len() - 1)[column]
    }

    /// When it was observed.
    fn observed(&self, name: &str) -> Micros {
        let column = self.spec.names().iter().position(|known| known == name).unwrap();
        self.due.observed_row(self.due.rows.len() - 1)[column]
    }
}
