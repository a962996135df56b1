//! What became of one subject's predictions, by the ACES task's labels.

use std::collections::BTreeMap;

use super::aces::Evaluator;
use super::facts::Facts;
use crate::events::{Fact, Micros, PREDICTION, SubjectId};

/// What became of one prediction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    /// The label; `None` if the task gives two that differ.
    pub(super) value: Option<bool>,
    /// When it first happened; `None` if it did not.
    pub(super) onset: Option<Micros>,
    /// When the last window ends: until everything up to then is known, nothing is settled.
    pub(super) closes: Micros,
}

/// Takes a subject's facts out and says what became of its predictions at `times`, by time. Those that the
/// task gives no label are missing; all are, where the subject was merged into another, which has its facts now.
pub(super) fn outcomes(
    facts: &mut Facts,
    evaluator: &mut Evaluator<'_>,
    subject: SubjectId,
    times: &[Micros],
) -> BTreeMap<Micros, Outcome> {
    let mut outcomes: BTreeMap<Micros, Outcome> = BTreeMap::new();
    if !facts.has(subject) {
        return outcomes;
    }
    let mut events = facts.take(subject);
    // The predictions themselves, so that an ACES task can start there.
    let code = facts.number(PREDICTION);
    events.extend(times.iter().map(|time| Fact { time: Some(*time), code, value: f32::NAN }));
    for label in evaluator.labels(facts.codes(), &events) {
        outcomes
            .entry(label.prediction_time)
            .and_modify(|outcome| {
                outcome.value = outcome.value.filter(|value| Some(*value) == label.value);
                outcome.onset = outcome.onset.into_iter().chain(label.outcome_time).min();
                outcome.closes = label.closes.max(outcome.closes);
            })
            .or_insert(Outcome { value: label.value, onset: label.outcome_time, closes: label.closes });
    }
    outcomes
}
