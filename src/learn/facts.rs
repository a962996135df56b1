//! The facts of a partition's subjects that hold at the end of the log.
//!
//! What a label is made of: redeliveries are dropped, corrections replace, retractions
//! remove, exactly as in the fold, but nothing is ever too old.

use std::collections::HashMap;

use super::aces;
use crate::events::{EventKey, EventRef, Micros, Op, SubjectId};

/// What is left of a fact when only its label counts.
#[derive(Copy, Clone, Debug)]
struct Fact {
    time: Option<Micros>,
    code: u32,
    value: Option<f32>,
}

/// Everything that is known of the subjects, as far as labels go.
#[derive(Default, Debug)]
pub(super) struct Facts {
    codes: Vec<String>,
    numbers: HashMap<String, u32>,
    subjects: HashMap<SubjectId, HashMap<EventKey, Fact>>,
}

impl Facts {
    /// Adds, replaces or removes what an event says.
    pub(super) fn apply(&mut self, event: &EventRef<'_>) {
        let Some(subject) = event.subject else { return };
        let facts = self.subjects.entry(subject).or_default();
        match event.op {
            Op::Retract => {
                facts.remove(&event.event_key);
            }
            Op::Assert => {
                let code = match self.numbers.get(event.code) {
                    Some(code) => *code,
                    None => {
                        // A partition with four billion different codes does not exist.
                        let code = self.codes.len() as u32;
                        self.codes.push(event.code.to_owned());
                        self.numbers.insert(event.code.to_owned(), code);
                        code
                    }
                };
                // A number that cannot be is no reason for a label.
                let value = event.numeric_value.filter(|_| !event.implausible);
                facts.insert(event.event_key, Fact { time: event.time, code, value });
            }
        }
    }

    /// The subjects that have facts, ascending.
    pub(super) fn subjects(&self) -> Vec<SubjectId> {
        let mut subjects: Vec<SubjectId> = self.subjects.keys().copied().collect();
        subjects.sort_unstable();
        subjects
    }

    /// The facts of one subject, in no order.
    pub(super) fn of(&self, subject: SubjectId) -> Vec<aces::Event<'_>> {
        let facts = self.subjects.get(&subject).into_iter().flat_map(HashMap::values);
        let event = |fact: &Fact| aces::Event {
            time: fact.time,
            code: &self.codes[fact.code as usize],
            numeric_value: fact.value,
        };
        facts.map(event).collect()
    }
}
