//! The facts of a partition's subjects that hold at the end of the log.
//!
//! What a label is made of: redeliveries are dropped, corrections replace, retractions
//! remove, links move, exactly as in the fold, but nothing is ever too old.
//!
//! Kept is every word on every fact, 32 bytes each; which of them is the last is found only
//! when a subject's facts are asked for.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

use super::LearnError;
use crate::events::{Codes, ColumnTest, EventKey, EventRef, EventsView, Fact, Links, Micros, Op, Seen, SubjectId};
use crate::library::Library;

/// In place of a code: the fact does not hold any more.
const WITHDRAWN: u32 = u32::MAX;
/// In place of a time: none.
const STATIC: Micros = Micros::MIN;

/// What was said of a fact, as far as labels go.
#[derive(Copy, Clone, Debug)]
struct Word {
    key: EventKey,
    time: Micros,
    code: u32,
    value: f32,
}

/// Everything that is known of the subjects, as far as labels go.
#[derive(Default, Debug)]
pub(super) struct Facts {
    /// What a task asks of other columns.
    tests: Vec<ColumnTest>,
    codes: Codes,
    links: Links,
    /// In the order in which it was said.
    subjects: HashMap<SubjectId, Vec<Word>, FixedState>,
}

impl Facts {
    /// No facts yet; their codes will be told apart by `tests` too.
    pub(super) fn new(tests: &[ColumnTest]) -> Self {
        Facts { tests: tests.to_vec(), ..Facts::default() }
    }

    /// What holds of a partition of the library at the end of its log.
    ///
    /// # Errors
    /// If the library cannot be read.
    pub(super) async fn of_partition(
        library: &Library,
        partition: u32,
        tests: &[ColumnTest],
    ) -> Result<Self, LearnError> {
        let mut facts = Facts::new(tests);
        let mut history = library.history(partition).await?;
        while let Some(batch) = history.next().await? {
            let view = EventsView::new(&batch)?;
            for i in 0..view.len() {
                facts.apply(&view.row(i));
            }
        }
        Ok(facts)
    }

    /// Adds, replaces or removes what an event says.
    pub(super) fn apply(&mut self, event: &EventRef<'_>) {
        let Some(subject) = event.subject else { return };
        match self.links.see(event) {
            Seen::Row(_) => {}
            Seen::Outdated | Seen::Elsewhere(..) | Seen::Joined => return,
            Seen::LeftAll => return drop(self.subjects.remove(&subject)),
            Seen::Left(keys) => {
                return self.subjects.entry(subject).or_default().extend(keys.into_iter().map(withdrawn));
            }
        }
        let word = match event.op {
            Op::Retract => withdrawn(event.event_key),
            Op::Assert => Word {
                key: event.event_key,
                time: event.time.unwrap_or(STATIC),
                code: self.codes.number(event.code, ColumnTest::passed(&self.tests, event)),
                // A number that cannot be is no reason for a label.
                value: event.numeric_value.filter(|_| !event.implausible).unwrap_or(f32::NAN),
            },
        };
        self.subjects.entry(subject).or_default().push(word);
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

    /// The codes of the facts.
    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }

    /// A number for a code of the caller's own facts.
    pub(super) fn number(&mut self, code: &str) -> u32 {
        self.codes.number(code, 0)
    }

    /// Takes one subject's facts out, in the order in which they were last told.
    pub(super) fn take(&mut self, subject: SubjectId) -> Vec<Fact> {
        let words = self.subjects.remove(&subject).unwrap_or_default();
        let mut seen: HashSet<EventKey, FixedState> =
            HashSet::with_capacity_and_hasher(words.len(), FixedState::default());
        let last = words.iter().rev().filter(|word| seen.insert(word.key) && word.code != WITHDRAWN);
        let fact =
            |word: &Word| Fact { time: (word.time != STATIC).then_some(word.time), code: word.code, value: word.value };
        let mut facts: Vec<Fact> = last.map(fact).collect();
        facts.reverse();
        facts
    }
}

fn withdrawn(key: EventKey) -> Word {
    Word { key, time: STATIC, code: WITHDRAWN, value: f32::NAN }
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
            let mut facts = Facts { codes: facts.codes.clone(), subjects: facts.subjects.clone(), ..Facts::default() };
            let taken = facts.take(SubjectId(subject));
            let mut codes: Vec<_> = taken.iter().map(|fact| facts.codes().code(fact.code).to_owned()).collect();
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

    #[test]
    fn the_last_word_on_a_fact_holds() {
        let test = ColumnTest { column: "unit".to_owned(), value: "mg".to_owned() };
        let mut facts = Facts::new(&[test]);
        facts.apply(&row(1, "A", "", "s", 1));
        facts.apply(&EventRef { time: None, implausible: true, numeric_value: Some(2.0), ..row(1, "B", "", "s", 2) });
        facts.apply(&EventRef { unit: Some("mg"), numeric_value: Some(3.0), time: Some(7), ..row(1, "A", "", "s", 3) });
        facts.apply(&EventRef { time: Some(9), ..row(1, "A", "", "s", 1) });
        facts.apply(&row(1, "C", "", "s", 4));
        facts.apply(&EventRef { op: Op::Retract, ..row(1, "C", "", "s", 4) });
        let taken = facts.take(SubjectId(1));
        let told: Vec<_> = taken
            .iter()
            .map(|fact| {
                (fact.time, facts.codes().code(fact.code), facts.codes().passed(fact.code), fact.value.to_string())
            })
            .collect();
        let nan = || "NaN".to_owned();
        assert_eq!(told, [(None, "B", 0, nan()), (Some(7), "A", 1, "3".to_owned()), (Some(9), "A", 0, nan())]);
        assert!(!facts.has(SubjectId(1)));
    }
}
