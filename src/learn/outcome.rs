//! What became of one subject's predictions, by the ACES task's labels.

use std::collections::BTreeMap;

use super::aces::Evaluator;
use super::facts::Facts;
use super::wanted::{Told, Wanted, told};
use crate::events::{Fact, Micros, PREDICTION, SubjectId};

/// What became of one prediction.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Outcome {
    /// The label; `None` if the task gives two that differ.
    pub(super) told: Option<Told>,
    /// When what is watched first happened; `None` if it did not.
    pub(super) onset: Option<Micros>,
    /// When the label's predicate first counts from the start of its window on, also after the window; `None` if it
    /// never does, as far as is known.
    pub(super) happens: Option<Micros>,
    /// When the last window ends: until everything up to then is known, nothing is settled.
    pub(super) closes: Micros,
}

/// Takes a subject's facts out and says what became of its predictions at `times`, by time; `wanted`: what is
/// more than yes or no about it. Those that the task gives no label are missing; all are, where the subject was
/// merged into another, which has its facts now.
pub(super) fn outcomes(
    facts: &mut Facts,
    evaluator: &mut Evaluator<'_>,
    wanted: Option<&Wanted>,
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
        let Some((told, onset)) = told(wanted, &label) else { continue };
        outcomes
            .entry(label.prediction_time)
            .and_modify(|outcome| {
                outcome.told = outcome.told.filter(|before| *before == told);
                outcome.onset = outcome.onset.into_iter().chain(onset).min();
                outcome.happens = outcome.happens.into_iter().chain(label.next_outcome).min();
                outcome.closes = label.closes.max(outcome.closes);
            })
            .or_insert(Outcome { told: Some(told), onset, happens: label.next_outcome, closes: label.closes });
    }
    outcomes
}
