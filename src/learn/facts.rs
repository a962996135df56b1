//! The facts of a partition's subjects that hold at the end of the log.
//!
//! What a label is made of: redeliveries are dropped, corrections replace, retractions
//! remove, links move, exactly as in the fold, but nothing is ever too old.
//!
//! Of every word on a fact is kept whom it is on and when that happened; what it says only if a
//! predicate of the task may count it, else its time makes a row of the record at most. Facts that
//! happened at once share their time, so most take the 16 bytes of their key. Which word is the last is
//! found only when a subject's facts are asked for, and only of keys that a sieve takes for repeated.
//!
//! Who wants one subject after the other reads a history twice: the first time for who is told of until where. So a
//! subject's words are let go of after the last of them, and memory does not grow with the history.

mod blocks;
mod repeats;
mod told;

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use foldhash::fast::FixedState;

use self::told::Told;
use super::LearnError;
use super::aces::Config;
use crate::events::{
    CodeNumbers, Codes, ColumnTest, EventRef, EventsError, Fact, Links, Op, Seen, SomeEvents, SubjectId,
};
use crate::library::History;

/// What is done with each subject.
type EachSubject<'a> = dyn FnMut(&mut Facts, SubjectId) -> Result<(), LearnError> + 'a;

/// Columns of an event that it is reduced to.
const COLUMNS: [&str; 7] = ["subject_id", "time", "code", "numeric_value", "op", "event_key", "implausible"];

/// Everything that is known of the subjects, as far as the labels of a task go.
#[derive(Default, Debug)]
pub(super) struct Facts {
    /// The task; without one, everything counts, and codes alone tell facts apart.
    config: Option<Config>,
    codes: Codes,
    /// What the keys of the last batch's codes are in `codes`.
    numbers: CodeNumbers,
    /// Of each number in `codes`, whether a predicate may count it.
    counted: Vec<bool>,
    /// A number that none counts; it stands for all of them.
    uncounted: u32,
    links: Links,
    subjects: HashMap<SubjectId, Told, FixedState>,
}

impl Facts {
    /// No facts yet; of a task, by whose tests their codes will be told apart too.
    pub(super) fn new(config: &Config) -> Self {
        Facts { config: Some(config.clone()), ..Facts::default() }
    }

    /// Adds what holds at the end of a partition's history.
    ///
    /// # Errors
    /// If the library cannot be read.
    pub(super) async fn read(mut self, history: History) -> Result<Self, LearnError> {
        let mut history = history.reading(&self.columns());
        while let Some(batch) = history.next().await? {
            self.add(&batch)?;
        }
        Ok(self)
    }

    /// Adds what a partition's history says, and calls `each` for every subject that has facts as soon as no later row
    /// is about it, in the order of these last rows; `each` takes them out. `twice`: the same history two times.
    ///
    /// # Errors
    /// If the library cannot be read, and whatever `each` says.
    pub(super) async fn read_by_subject(
        mut self,
        twice: [History; 2],
        each: &mut EachSubject<'_>,
    ) -> Result<(), LearnError> {
        let [history, again] = twice;
        let mut ends = ends(history).await?.into_iter().peekable();
        let (mut history, mut rows) = (again.reading(&self.columns()), 0);
        while let Some(batch) = history.next().await? {
            self.add(&batch)?;
            rows += batch.num_rows();
            while let Some((_, subject)) = ends.next_if(|(end, _)| *end <= rows) {
                if self.has(subject) {
                    each(&mut self, subject)?;
                }
            }
        }
        Ok(())
    }

    /// The columns of an event that are looked at.
    pub(super) fn columns(&self) -> Vec<&str> {
        COLUMNS.into_iter().chain(self.tests().iter().map(|test| test.column.as_str())).collect()
    }

    fn tests(&self) -> &[ColumnTest] {
        self.config.as_ref().map_or(&[], Config::tests)
    }

    /// Adds, replaces or removes what the next rows say of a history that reads [`columns`](Self::columns).
    ///
    /// # Errors
    /// If the batch is none of events.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), LearnError> {
        let rows = SomeEvents::new(batch)?;
        // Without the column nothing was linked so far: every row says something of its subject.
        if rows.has_source() || !self.tests().is_empty() {
            (0..rows.len()).for_each(|i| self.apply(&rows.row(i)));
        } else {
            self.tell(&rows);
        }
        Ok(())
    }

    /// [`add`](Self::add) where nothing was linked, and nothing but codes tells facts apart.
    fn tell(&mut self, rows: &SomeEvents<'_>) {
        self.numbers.learn(rows.codes(), &mut self.codes);
        self.learn();
        let mut i = 0;
        while i < rows.len() {
            let Some(subject) = rows.subject(i) else {
                i += 1;
                continue;
            };
            let told = self.subjects.entry(subject).or_default();
            // A subject's rows of one time mostly stand side by side.
            while i < rows.len() && rows.subject(i) == Some(subject) {
                if rows.op(i) == Op::Retract {
                    told.withdraw(rows.event_key(i));
                } else {
                    let code = self.numbers.number(rows.code_key(i));
                    if self.counted[code as usize] {
                        told.say(code, value(rows.numeric_value(i), rows.implausible(i)));
                    }
                    told.word(rows.event_key(i), rows.time(i));
                }
                i += 1;
            }
        }
    }

    /// Adds, replaces or removes what an event says.
    pub(super) fn apply(&mut self, event: &EventRef<'_>) {
        let Some(subject) = event.subject else { return };
        match self.links.see(event) {
            Seen::Row(_) => {}
            Seen::Outdated | Seen::Elsewhere(..) | Seen::Joined => return,
            Seen::LeftAll => return drop(self.subjects.remove(&subject)),
            Seen::Left(keys) => {
                let told = self.subjects.entry(subject).or_default();
                return keys.into_iter().for_each(|key| told.withdraw(key));
            }
        }
        if event.op == Op::Retract {
            return self.subjects.entry(subject).or_default().withdraw(event.event_key);
        }
        let code = self.codes.number(event.code, ColumnTest::passed(self.tests(), event));
        self.learn();
        let told = self.subjects.entry(subject).or_default();
        if self.counted[code as usize] {
            told.say(code, value(event.numeric_value, event.implausible));
        }
        told.word(event.event_key, event.time);
    }

    /// Finds out of the codes that have come since whether a predicate may count their facts.
    fn learn(&mut self) {
        // Numbers are given without gaps, so that their count fits one.
        for new in self.counted.len() as u32..self.codes.len() as u32 {
            let (code, passed) = (self.codes.code(new), self.codes.passed(new));
            let is_counted = self.config.as_ref().is_none_or(|config| config.may_count(code, passed));
            self.counted.push(is_counted);
            if !is_counted {
                self.uncounted = new;
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

    /// The codes of the facts.
    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }

    /// A number for a code of the caller's own facts.
    pub(super) fn number(&mut self, code: &str) -> u32 {
        self.codes.number(code, 0)
    }

    /// Takes one subject's facts out, in the order in which they were last told. Those that no predicate
    /// counts share a code, and there is one a time of them.
    pub(super) fn take(&mut self, subject: SubjectId) -> Vec<Fact> {
        self.subjects.remove(&subject).unwrap_or_default().facts(self.uncounted)
    }
}

/// The subjects of a history, and with which number of rows nothing more is said of each; in this order.
async fn ends(history: History) -> Result<Vec<(usize, SubjectId)>, LearnError> {
    let mut history = history.reading_only(&["subject_id"]);
    let (mut ends, mut rows) = (HashMap::<i64, usize, FixedState>::default(), 0);
    while let Some(batch) = history.next().await? {
        let subjects = batch.column_by_name("subject_id").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let subjects = subjects.ok_or(EventsError::Column("subject_id"))?;
        // A subject's rows mostly stand side by side.
        for (i, subject) in subjects.values().iter().enumerate() {
            let is_last = subjects.values().get(i + 1) != Some(subject) || subjects.is_null(i + 1);
            if is_last && subjects.is_valid(i) {
                ends.insert(*subject, rows + i + 1);
            }
        }
        rows += batch.num_rows();
    }
    let mut ends: Vec<(usize, SubjectId)> = ends.into_iter().map(|(id, end)| (end, SubjectId(id))).collect();
    ends.sort_unstable();
    Ok(ends)
}

/// What a fact is counted with; NaN is none. A number that cannot be is no reason for a label.
fn value(number: Option<f32>, implausible: bool) -> f32 {
    number.filter(|_| !implausible).unwrap_or(f32::NAN)
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;
    use arrow::compute::cast;
    use proptest::prelude::*;

    use super::*;
    use crate::events::{EventKey, EventsBuilder, JOIN, LEAVE};
    use crate::learn::aces::Evaluator;
    use crate::settings::TextFile;

    /// Counts every code, and tells those in mg apart.
    const ALL: &str = r#"
predicates:
  any: {code: {regex: "."}}
  mg: {code: A, other_cols: {unit: mg}}
trigger: any
windows:
  all: {start: trigger, end: start + 1h, start_inclusive: true, end_inclusive: true, has: {mg: "(None, 9)"}, label: any}
"#;

    fn config(text: &str) -> Config {
        Config::parse(&TextFile { name: "t.yaml".to_owned(), text: text.to_owned() }).unwrap()
    }

    /// Events as a history has them of which facts read their columns.
    fn batch(facts: &Facts, events: &[EventRef<'_>]) -> RecordBatch {
        let mut builder = EventsBuilder::new();
        events.iter().for_each(|event| builder.push(event).unwrap());
        let whole = builder.finish().unwrap();
        let column = |name: &str| match name {
            "code" | "op" => cast(&whole[name], &SomeEvents::dictionary()).unwrap(),
            _ => ArrayRef::clone(&whole[name]),
        };
        RecordBatch::try_from_iter(facts.columns().into_iter().map(|name| (name, column(name)))).unwrap()
    }

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
        let mut facts = Facts::new(&config(ALL));
        let codes = |facts: &Facts, subject| {
            let taken = facts.subjects.get(&SubjectId(subject)).cloned().unwrap_or_default().facts(0);
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
        let mut facts = Facts::new(&config(ALL));
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

    #[test]
    fn of_facts_that_no_predicate_counts_only_the_times_are_left() {
        let mut facts = Facts::new(&config(&ALL.replace(r#"{regex: "."}"#, "A")));
        for (key, time, code) in [(1, 3, "B"), (2, 3, "A"), (3, 3, "C"), (4, 8, "C"), (5, 8, "B"), (4, 9, "B")] {
            facts.apply(&EventRef { time: Some(time), ..row(1, code, "", "s", key) });
        }
        facts.apply(&EventRef { time: None, ..row(1, "B", "", "s", 6) });
        let taken = facts.take(SubjectId(1));
        let told: Vec<_> = taken.iter().map(|fact| (fact.time, facts.codes().code(fact.code) == "A")).collect();
        assert_eq!(told, [(Some(3), false), (Some(3), true), (Some(8), false), (Some(9), false)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a map of facts, of which nothing is left out; told one by one, and in batches.
        #[test]
        fn labels_are_those_of_the_last_words(
            words in prop::collection::vec((0_u8..8, prop::option::of(0_i64..6), 0_usize..4, any::<bool>()), 0..40),
        ) {
            let yaml = r#"
predicates:
  a: {code: A}
  high: {code: B, value_min: 3}
  sex: {code: A, static: true}
  either: {expr: "or(a, high)"}
trigger: _ANY_EVENT
windows:
  before: {start: NULL, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end, has: {_ANY_EVENT: "(2, None)"}}
  after: {start: trigger, end: start + 3s, start_inclusive: false, end_inclusive: true, label: either}
"#;
            let config = config(yaml);
            let mut facts = Facts::new(&config);
            let (mut codes, mut last) = (Codes::default(), Vec::<(u8, Option<Fact>)>::new());
            let mut events = Vec::new();
            for (key, time, code, retracts) in words {
                let (code, value) = (["A", "B", "C", "D"][code], time.map(|time| time as f32));
                let time = time.map(|time| time * 1_000_000);
                let op = if retracts { Op::Retract } else { Op::Assert };
                let event = EventRef { time, numeric_value: value, op, ..row(1, code, "", "s", key) };
                facts.apply(&event);
                // What others say stands between.
                events.extend([event, EventRef { subject: Some(SubjectId(2)), ..event }]);
                let fact = Fact { time, code: codes.number(code, 0), value: value.unwrap_or(f32::NAN) };
                last.retain(|(known, _)| *known != key);
                last.push((key, (!retracts).then_some(fact)));
            }
            let whole: Vec<Fact> = last.into_iter().filter_map(|(_, fact)| fact).collect();
            let expected = Evaluator::new(&config).labels(&codes, &whole);
            let taken = facts.take(SubjectId(1));
            prop_assert_eq!(&Evaluator::new(&config).labels(facts.codes(), &taken), &expected);
            let mut facts = Facts::new(&config);
            for events in events.chunks(17) {
                facts.add(&batch(&facts, events)).unwrap();
            }
            for subject in facts.subjects() {
                let taken = facts.take(subject);
                prop_assert_eq!(&Evaluator::new(&config).labels(facts.codes(), &taken), &expected);
            }
        }
    }
}
