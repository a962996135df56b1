//! The facts of a partition's subjects that hold at the end of the log.
//!
//! What a label is made of: redeliveries are dropped, corrections replace, retractions
//! remove, links move, exactly as in the fold, but nothing is ever too old.

use std::collections::HashMap;

use super::aces;
use crate::events::{EventKey, EventRef, Links, Micros, Op, Seen, SubjectId};

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
    links: Links,
    subjects: HashMap<SubjectId, HashMap<EventKey, Fact>>,
}

impl Facts {
    /// Adds, replaces or removes what an event says.
    pub(super) fn apply(&mut self, event: &EventRef<'_>) {
        let Some(subject) = event.subject else { return };
        match self.links.see(event) {
            Seen::Row(_) => {}
            Seen::Outdated | Seen::Elsewhere(..) | Seen::Joined => return,
            Seen::LeftAll => return drop(self.subjects.remove(&subject)),
            Seen::Left(keys) => {
                let facts = self.subjects.entry(subject).or_default();
                return facts.retain(|key, _| !keys.contains(key));
            }
        }
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

    /// Whether a subject has facts; one that was merged into another has none.
    pub(super) fn has(&self, subject: SubjectId) -> bool {
        self.subjects.contains_key(&subject)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{JOIN, LEAVE};

    fn row<'a>(subject: i64, code: &'a str, text: &'a str, source: &'a str, key: u8) -> EventRef<'a> {
        EventRef {
            subject: Some(SubjectId(subject)),
            time: Some(5),
            code,
            numeric_value: None,
            text_value: Some(text),
            unit: None,
            concept: None,
            recorded_at: 0,
            op: Op::Assert,
            event_key: EventKey([key; 16]),
            encounter_id: None,
            source,
            implausible: false,
        }
    }

    #[test]
    fn labels_are_made_of_the_facts_of_the_surviving_subject() {
        let mut facts = Facts::default();
        let codes = |facts: &Facts, subject| {
            let mut codes: Vec<String> = facts.of(SubjectId(subject)).iter().map(|fact| fact.code.to_owned()).collect();
            codes.sort();
            codes
        };
        facts.apply(&row(1, "A", "", "s", 1));
        facts.apply(&row(2, "B", "", "s", 2));
        facts.apply(&row(2, LEAVE, "1 1 2", "s", 0));
        facts.apply(&row(1, JOIN, "2 1 2", "s", 0));
        facts.apply(&row(1, "C", "", "s@2", 3));
        facts.apply(&row(1, "B", "", "s@2~0.0.0", 2));
        facts.apply(&row(2, "D", "", "a straggler", 4));
        assert_eq!(codes(&facts, 1), ["A", "B", "C"]);
        assert!(!facts.has(SubjectId(2)) && facts.subjects() == [SubjectId(1)]);
        facts.apply(&row(1, LEAVE, "2 2 2", "s", 0));
        assert_eq!(codes(&facts, 1), ["A"]);
    }
}
