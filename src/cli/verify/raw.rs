//! Invariant 1: every raw message ends as events, as a dead letter, or as a counted deliberate drop.
//!
//! Pure: it is shown the rows of the log of record and the dead letters, says which raw records are left,
//! and is told how these end when they are normalized again. Drops leave no trace in a topic; so what is
//! left must be one now too, or was lost.
//!
//! Takes two bits an offset of the raw topics. That no event is there twice follows from the order of the
//! log: in a partition the rows of one raw partition ascend, and each subject has one partition.

use std::collections::HashMap;

use super::positions::Topic;
use super::report::Findings;
use crate::events::{EventRef, JOIN, LEAVE, TOKEN, Told, bucket};
use crate::normalize::Outcome;
use crate::roles::Letter;

/// Where a row of the log of record stands, and under which topic that is.
#[derive(Copy, Clone, Debug)]
pub(super) struct Row<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What became of the records of all raw topics.
#[derive(Debug)]
pub(super) struct Raw {
    /// Partitions of the log of record.
    partitions: u32,
    /// Topic to the number of its first account.
    topics: HashMap<String, usize>,
    accounts: Vec<Account>,
    /// The last row of an account in a partition of the log: its offset and index.
    last: HashMap<(i32, usize), (i64, u32)>,
    /// Dead letters in parts, by account and offset, with the part that came last.
    begun: HashMap<(usize, i64), (usize, usize)>,
    letters_gone: bool,
    is_blind: bool,
    findings: Findings,
}

/// A raw partition.
#[derive(Debug)]
struct Account {
    topic: String,
    partition: i32,
    low: i64,
    before: i64,
    after: i64,
    events: Bits,
    letters: Bits,
}

/// A set of offsets.
#[derive(Debug)]
struct Bits {
    low: i64,
    words: Vec<u64>,
}

impl Bits {
    fn new(low: i64, end: i64) -> Self {
        Bits { low, words: vec![0; ((end - low).max(0) as usize).div_ceil(64)] }
    }

    fn place(&self, offset: i64) -> Option<(usize, u64)> {
        let at = usize::try_from(offset - self.low).ok()?;
        (at / 64 < self.words.len()).then_some((at / 64, 1 << (at % 64)))
    }

    fn has(&self, offset: i64) -> bool {
        self.place(offset).is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// Puts it in; false if it was there.
    fn put(&mut self, offset: i64) -> bool {
        let Some((word, bit)) = self.place(offset) else { return true };
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// Topic, partition, offset and index of a source.
fn place(source: &str) -> Option<(&str, i32, i64, u32)> {
    let (rest, index) = Told::of(source).place.rsplit_once('#')?;
    let (rest, offset) = rest.rsplit_once('-')?;
    let (topic, partition) = rest.rsplit_once('-')?;
    Some((topic, partition.parse().ok()?, offset.parse().ok()?, index.parse().ok()?))
}

impl Raw {
    /// Nothing seen yet; `letters_gone`: the dead-letter topic no longer holds all that was in it.
    pub(super) fn new(raw: &[Topic], partitions: u32, letters_gone: bool) -> Self {
        let mut findings = Findings::default();
        let (mut topics, mut accounts) = (HashMap::new(), Vec::new());
        for topic in raw {
            topics.insert(topic.name.clone(), accounts.len());
            for part in &topic.parts {
                findings.count("offsets", (part.before - part.low).unsigned_abs());
                findings.count("offsets_gone", part.low.unsigned_abs());
                accounts.push(Account {
                    topic: topic.name.clone(),
                    partition: part.number,
                    low: part.low,
                    before: part.before,
                    after: part.after,
                    events: Bits::new(part.low, part.after),
                    letters: Bits::new(part.low, part.after),
                });
            }
        }
        let (last, begun) = (HashMap::new(), HashMap::new());
        Raw { partitions, topics, accounts, last, begun, letters_gone, is_blind: false, findings }
    }

    /// A part of the log of record or of the dead letters cannot be seen, so what is in it cannot be told from what was lost.
    pub(super) fn blind(&mut self, why: &str) {
        self.is_blind = true;
        self.findings.undecided(why);
    }

    /// The account of a raw partition.
    fn account(&self, topic: &str, partition: i32) -> Option<usize> {
        let at = self.topics.get(topic)? + usize::try_from(partition).ok()?;
        self.accounts.get(at).is_some_and(|account| account.topic == topic).then_some(at)
    }

    /// Whether the record of a source is consumed, as far as its topic is one of the site's.
    pub(super) fn is_consumed(&self, source: &str) -> bool {
        place(source).is_none_or(|(topic, partition, offset, _)| {
            self.account(topic, partition).is_none_or(|at| offset < self.accounts[at].after)
        })
    }

    /// The next row of a partition of the log of record.
    pub(super) fn row(&mut self, at: Row<'_>, event: &EventRef<'_>) {
        // A tick is of no record.
        let Some(subject) = event.subject else { return };
        self.findings.count("event_rows", 1);
        let mut wrong = |what| self.findings.violation(what, at.topic, at.partition, at.offset);
        if bucket(subject, self.partitions) as i32 != at.partition {
            wrong("an event stands in a partition that does not own its subject");
        }
        if Told::of(event.source).moved.is_some() {
            return self.findings.count("moved_rows", 1);
        }
        if event.code == JOIN || event.code == LEAVE {
            return;
        }
        let Some((topic, partition, offset, index)) = place(event.source) else {
            return wrong("an event does not say which record it is of");
        };
        let Some(account) = self.account(topic, partition) else {
            self.findings.note("events of topics that are not the site's are not followed to their records");
            return self.findings.count("rows_of_other_topics", 1);
        };
        if offset >= self.accounts[account].after {
            let what = "an event is of a record that is not consumed";
            return self.findings.violation(what, at.topic, at.partition, at.offset);
        }
        // A normalize that starts again gives tokens again.
        if event.code == TOKEN {
            return;
        }
        self.accounts[account].events.put(offset);
        let last = self.last.entry((at.partition, account)).or_insert((i64::MIN, 0));
        if *last >= (offset, index) {
            let what = "an event is in the log twice, or out of the order of its records";
            self.findings.violation(what, at.topic, at.partition, at.offset);
        } else {
            *last = (offset, index);
        }
    }

    /// The next message of the dead-letter topic, and where it stands. All rows must have been shown.
    pub(super) fn letter(&mut self, at: Row<'_>, letter: Option<&Letter>) {
        let mut wrong = |what| self.findings.violation(what, at.topic, at.partition, at.offset);
        let Some(letter) = letter else { return wrong("a dead letter does not say which record it is of") };
        let Some(place) = self.account(&letter.topic, letter.partition) else {
            self.findings.note("dead letters of topics that are not the site's are not followed to their records");
            return self.findings.count("letters_of_other_topics", 1);
        };
        let mut wrong = |what| self.findings.violation(what, at.topic, at.partition, at.offset);
        let account = &mut self.accounts[place];
        let (part, parts) = letter.part;
        if letter.offset >= account.after {
            return wrong("a dead letter is of a record that is not consumed");
        }
        if part == 1 {
            if !account.letters.put(letter.offset) {
                return wrong("a record has two dead letters");
            }
            if account.events.has(letter.offset) {
                wrong("a record has events and a dead letter");
            }
        } else {
            let before = self.begun.remove(&(place, letter.offset));
            if before != Some((part - 1, parts)) && !(before.is_none() && self.letters_gone) {
                return wrong("a part of a dead letter does not follow the one before it");
            }
        }
        if part < parts {
            self.begun.insert((place, letter.offset), (part, parts));
        }
    }

    /// How many accounts there are; they are numbered in the order of the topics and partitions.
    pub(super) fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Topic, partition, first and end of the offsets of an account among which some have neither events
    /// nor a dead letter; `None` if all have.
    pub(super) fn left(&self, account: usize) -> Option<(&str, i32, i64, i64)> {
        let of = &self.accounts[account];
        let first = (of.low..of.before).find(|offset| self.is_left(account, *offset))?;
        Some((&of.topic, of.partition, first, of.before))
    }

    /// Whether an offset has neither events nor a dead letter.
    pub(super) fn is_left(&self, account: usize, offset: i64) -> bool {
        let of = &self.accounts[account];
        !of.events.has(offset) && !of.letters.has(offset)
    }

    /// How a record that was left ends now.
    pub(super) fn ended(&mut self, account: usize, offset: i64, outcome: &Outcome) {
        let of = &self.accounts[account];
        match outcome {
            Outcome::Dropped(_) => self.findings.count("dropped", 1),
            Outcome::Accepted { events: 0 } => self.findings.count("without_events", 1),
            _ if self.is_blind => self.findings.count("unknown", 1),
            Outcome::Dead(_) if self.letters_gone => {
                self.findings.count("unknown", 1);
                self.findings.undecided("the dead-letter topic no longer holds all that was in it");
            }
            Outcome::Accepted { .. } | Outcome::Dead(_) => {
                let what = "a record is lost: it has neither events nor a dead letter, and is no drop";
                self.findings.violation(what, &of.topic, of.partition, offset);
            }
        }
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Findings {
        let mut begun: Vec<_> = self.begun.keys().copied().collect();
        begun.sort_unstable();
        for (account, offset) in begun {
            let of = &self.accounts[account];
            self.findings.violation("a dead letter is not whole", &of.topic, of.partition, offset);
        }
        for of in &self.accounts {
            self.findings.count("with_events", of.events.len());
            self.findings.count("dead_letters", of.letters.len());
        }
        if self.accounts.iter().all(|of| of.before == of.low) {
            self.findings.undecided("no record was consumed that is still there");
        }
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::super::positions::Part;
    use super::*;
    use crate::decode::{Reason, Reject};
    use crate::events::{EventKey, Op, SubjectId};
    use crate::normalize::Drop;

    /// A raw partition `raw.a-0` of offsets 10 to 20, of which those before 18 are consumed for certain.
    fn raw(letters_gone: bool) -> Raw {
        let part = Part { number: 0, low: 10, end: 20, before: 18, after: 20 };
        let topic = |name: &str| Topic { name: name.to_owned(), parts: vec![part] };
        Raw::new(&[topic("raw.a"), topic("raw.b")], 4, letters_gone)
    }

    fn event<'a>(source: &'a str, code: &'a str) -> EventRef<'a> {
        EventRef {
            subject: Some(SubjectId(0)),
            time: None,
            code,
            numeric_value: None,
            text_value: None,
            unit: None,
            concept: None,
            recorded_at: 0,
            op: Op::Assert,
            event_key: EventKey([0; 16]),
            encounter_id: None,
            source,
            implausible: false,
        }
    }

    fn show(raw: &mut Raw, rows: &[&str]) {
        let partition = bucket(SubjectId(0), 4) as i32;
        for (offset, source) in (0..).zip(rows) {
            raw.row(Row { topic: "events", partition, offset }, &event(source, "X"));
        }
    }

    fn letter(offset: i64, part: (usize, usize)) -> Letter {
        Letter { reason: "unit".to_owned(), topic: "raw.a".to_owned(), partition: 0, offset, part }
    }

    fn letters(raw: &mut Raw, letters: &[Letter]) {
        for (offset, letter) in (0..).zip(letters) {
            raw.letter(Row { topic: "letters", partition: 0, offset }, Some(letter));
        }
    }

    fn found(raw: Raw) -> Vec<(&'static str, i64)> {
        raw.finish().found().iter().map(|(what, _, offset)| (*what, *offset)).collect()
    }

    #[test]
    fn every_record_that_has_an_end_is_accounted_for() {
        let mut raw = raw(false);
        let all = ["raw.a-0-10#0", "raw.a-0-10#1", "raw.b-0-12#0", "raw.a-0-11#0@-7", "import-ab-0-3#0"];
        show(&mut raw, &[&all[..], &["raw.a-0-10#0~0.5.0", "raw.a-0-3#0~0.2.1"]].concat());
        letters(&mut raw, &[letter(12, (1, 2)), letter(12, (2, 2)), letter(13, (1, 1))]);
        assert_eq!(raw.left(0), Some(("raw.a", 0, 14, 18)));
        assert!(!raw.is_left(0, 13) && raw.is_left(0, 14) && raw.is_left(1, 10) && !raw.is_left(1, 12));
        raw.ended(0, 14, &Outcome::Dropped(Drop::Rules));
        raw.ended(0, 15, &Outcome::Accepted { events: 0 });
        let findings = raw.finish();
        assert_eq!(findings.found(), []);
        let counts = ["with_events", "dead_letters", "dropped", "without_events", "moved_rows", "rows_of_other_topics"];
        assert_eq!(counts.map(|what| findings.counted(what)), [3, 2, 1, 1, 2, 1]);
    }

    #[test]
    fn invariant_01_a_record_that_is_lost_is_found() {
        let dead = Outcome::Dead(Reject::new(Reason::Unit, ""));
        let mut lost = raw(false);
        lost.ended(0, 14, &Outcome::Accepted { events: 2 });
        lost.ended(1, 15, &dead);
        let found = lost.finish().found();
        assert!(found.iter().all(|(what, ..)| what.starts_with("a record is lost")));
        assert_eq!(found.iter().map(|(.., offset)| *offset).collect::<Vec<_>>(), [14, 15]);

        let mut gone = raw(true);
        gone.ended(0, 14, &dead);
        let findings = gone.finish();
        assert_eq!((findings.found().len(), findings.counted("unknown")), (0, 1));
        assert_eq!(findings.into_invariant(1, "one").holds(), None);
    }

    #[test]
    fn invariant_01_what_is_there_twice_or_out_of_order_is_found() {
        let twice = "an event is in the log twice, or out of the order of its records";
        for again in ["raw.a-0-12#1", "raw.a-0-12#0", "raw.a-0-11#5"] {
            let mut raw = raw(false);
            show(&mut raw, &["raw.a-0-12#0", "raw.a-0-12#1", again, "raw.a-0-13#0"]);
            assert_eq!(found(raw), [(twice, 2)], "{again}");
        }
        let mut tokens = raw(false);
        for _ in 0..2 {
            let partition = bucket(SubjectId(0), 4) as i32;
            tokens.row(Row { topic: "events", partition, offset: 0 }, &event("raw.a-0-12#0", TOKEN));
        }
        assert_eq!(found(tokens), [], "a token may be given again");
        let mut elsewhere = raw(false);
        let partition = (bucket(SubjectId(0), 4) as i32 + 1) % 4;
        elsewhere.row(Row { topic: "events", partition, offset: 7 }, &event("raw.a-0-12#0", "X"));
        assert_eq!(found(elsewhere), [("an event stands in a partition that does not own its subject", 7)]);
    }

    #[test]
    fn invariant_01_effects_of_what_is_not_consumed_are_found() {
        let mut raw = raw(false);
        show(&mut raw, &["raw.a-0-19#0", "raw.a-0-20#0", "nothing"]);
        letters(&mut raw, &[letter(19, (1, 1)), letter(21, (1, 1))]);
        assert!(
            raw.is_consumed("raw.a-0-19#0") && !raw.is_consumed("raw.a-0-20#0") && raw.is_consumed("import-x-0-99#0")
        );
        let expected = [
            ("an event is of a record that is not consumed", 1),
            ("an event does not say which record it is of", 2),
            ("a record has events and a dead letter", 0),
            ("a dead letter is of a record that is not consumed", 1),
        ];
        assert_eq!(found(raw), expected);
    }

    #[test]
    fn invariant_01_dead_letters_are_whole_and_there_once() {
        let mut twice = raw(false);
        letters(&mut twice, &[letter(12, (1, 1)), letter(12, (1, 1))]);
        assert_eq!(found(twice), [("a record has two dead letters", 1)]);
        let mut parts = raw(false);
        letters(&mut parts, &[letter(12, (1, 3)), letter(12, (3, 3)), letter(13, (1, 2))]);
        let follows = "a part of a dead letter does not follow the one before it";
        assert_eq!(found(parts), [(follows, 1), ("a dead letter is not whole", 13)]);
        let mut cut = raw(true);
        letters(&mut cut, &[letter(12, (2, 3)), letter(12, (3, 3))]);
        assert_eq!(found(cut), [], "its first part is gone");
        let mut strange = raw(false);
        strange.letter(Row { topic: "letters", partition: 0, offset: 3 }, None);
        assert_eq!(found(strange), [("a dead letter does not say which record it is of", 3)]);
    }
}
