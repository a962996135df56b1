//! The whole road of links without Kafka: who decides, who writes rows, who moves them.
//!
//! Every party reads the logs at its own pace, as in a site of several processes. In the end each
//! subject must hold what a model says that keeps nothing but the last word on every fact.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::link::tell;
use super::*;
use crate::decode::LinkKind;
use crate::events::{Op, SECOND, bucket};
use crate::features::{Applied, Due, FeatureSpec, Fold, RawTrigger};
use crate::normalize::{Decision, Entry, Forest, Statement};

const PARTITIONS: u32 = 3;
const IDENTIFIERS: i64 = 6;
const FACTS: u8 = 3;
/// Raw partitions, each read by a process of its own.
const PROCESSES: usize = 2;

const FEATURES: &str = r#"
    [[feature]]
    concepts = ["heart_rate"]
    windows = ["ever"]
    aggregates = ["count", "last", "first", "min", "max", "mean", "slope"]
    [[feature]]
    codes = { any = ["LOINC//*"] }
    windows = ["ever"]
    aggregates = ["count"]
"#;
const PROBE: &str = "PROBE";

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A record says something of an identifier: a value, or that there is none.
    Fact(i64, u8, Option<u8>),
    /// A record says who is who.
    Link(LinkKind, i64, i64),
    /// A process reads the identity table.
    Follow(usize),
    /// The owner of a partition reads on, so many messages.
    Score(u32, usize),
    /// It starts again.
    Restart(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0..IDENTIFIERS;
    prop_oneof![
        8 => (id(), 0..FACTS, proptest::option::weighted(0.8, 0u8..5)).prop_map(|(a, b, c)| Step::Fact(a, b, c)),
        3 => (id(), id()).prop_map(|(a, b)| Step::Link(LinkKind::Merge, a, b)),
        1 => (id(), id()).prop_map(|(a, b)| Step::Link(LinkKind::Same, a, b)),
        3 => (id(), id()).prop_map(|(a, b)| Step::Link(LinkKind::Unmerge, a, b)),
        4 => (0..PROCESSES).prop_map(Step::Follow),
        4 => (0..PARTITIONS, 1usize..4).prop_map(|(a, b)| Step::Score(a, b)),
        1 => (0..PARTITIONS).prop_map(Step::Restart),
    ]
}

struct Owner {
    fold: Fold,
    next: usize,
}

struct Road {
    spec: Arc<FeatureSpec>,
    logs: Vec<Vec<RecordBatch>>,
    owners: Vec<Owner>,
    decider: Forest,
    table: Vec<Entry>,
    processes: Vec<(Forest, usize)>,
    clock: Micros,
    words: BTreeMap<(i64, u8), Option<u8>>,
}

fn key(identifier: i64, fact: u8) -> EventKey {
    let mut key = [fact; 16];
    key[..8].copy_from_slice(&identifier.to_le_bytes());
    EventKey(key)
}

/// A row of a fact, which happens at a time of its own.
fn fact(subject: i64, identifier: i64, fact: u8, value: Option<u8>, known: Micros) -> EventRef<'static> {
    EventRef {
        subject: Some(SubjectId(subject)),
        time: Some((identifier * 10 + i64::from(fact)) * 60 * SECOND),
        code: "LOINC//8867-4",
        numeric_value: value.map(|value| 60.0 + f32::from(value)),
        text_value: None,
        unit: None,
        concept: Some("heart_rate"),
        recorded_at: known,
        op: if value.is_some() { Op::Assert } else { Op::Retract },
        event_key: key(identifier, fact),
        encounter_id: None,
        source: "raw-0-0#0",
        implausible: false,
    }
}

fn fold(spec: &Arc<FeatureSpec>) -> Fold {
    let trigger: RawTrigger = toml::from_str(&format!("on = [\"{PROBE}\"]")).unwrap();
    Fold::new(Arc::clone(spec), vec![trigger.validate("t", "trigger").unwrap()])
}

/// What the fold would give a model of this subject now, bit by bit.
fn features(fold: &mut Fold, subject: i64, at: Micros) -> Vec<u32> {
    let mut due = Due::new();
    let probe = EventRef { code: PROBE, concept: None, ..fact(subject, 99, 99, Some(1), at) };
    fold.apply(&probe, Some(&mut due));
    assert_eq!(due.rows.len(), 1);
    due.row(0).iter().map(|value| value.to_bits()).collect()
}

/// What the subjects of a partition's log hold, read as the mover reads it.
fn collector(log: &[RecordBatch], departures: Vec<Departure>, all: bool) -> Collector {
    let mut collector = Collector::new(departures);
    if all {
        collector.wanted = (0..IDENTIFIERS).map(SubjectId).collect();
    }
    for (offset, batch) in log.iter().enumerate() {
        let places: Vec<(i64, i32)> = (0..batch.num_rows() as i32).map(|row| (offset as i64, row)).collect();
        collector.take(batch, &places).unwrap();
    }
    collector
}

impl Road {
    fn new() -> Self {
        let concepts = [("heart_rate".to_owned(), "/min".to_owned())];
        let spec = Arc::new(FeatureSpec::parse("features.toml", FEATURES, &concepts.into()).unwrap());
        Road {
            logs: vec![Vec::new(); PARTITIONS as usize],
            owners: (0..PARTITIONS).map(|_| Owner { fold: fold(&spec), next: 0 }).collect(),
            spec,
            decider: Forest::default(),
            table: Vec::new(),
            processes: vec![(Forest::default(), 0); PROCESSES],
            clock: 0,
            words: BTreeMap::new(),
        }
    }

    fn write(&mut self, rows: &RecordBatch) {
        for (partition, rows) in by_owner(rows, PARTITIONS).unwrap().into_iter().enumerate() {
            if rows.num_rows() > 0 {
                self.logs[partition].push(rows);
            }
        }
    }

    fn take(&mut self, step: &Step) {
        self.clock += SECOND;
        match *step {
            Step::Fact(identifier, number, value) => {
                self.words.insert((identifier, number), value);
                // The facts of an identifier come in one order, and so through one partition.
                let (known, _) = &self.processes[identifier as usize % PROCESSES];
                let subject = known.subject(SubjectId(identifier));
                let under = Some(SubjectId(identifier)).filter(|own| *own != subject);
                let source = Told { place: "raw-0-0#0", under, moved: None }.to_string();
                let row = EventRef { source: &source, ..fact(subject.0, identifier, number, value, self.clock) };
                let mut rows = EventsBuilder::new();
                rows.push(&row).unwrap();
                self.write(&rows.finish().unwrap());
            }
            Step::Link(kind, kept, other) => {
                let statement = Statement { kind, kept: SubjectId(kept), other: SubjectId(other), at: self.clock };
                let Decision::Change(change) = self.decider.decide(&statement) else { return };
                self.decider.apply(change.entry);
                self.table.push(change.entry);
                let mut rows = EventsBuilder::new();
                if let Some(moves) = &change.moves {
                    tell(&mut rows, moves, change.entry.number, self.clock, "s", |_, _| EventKey([255; 16])).unwrap();
                }
                self.write(&rows.finish().unwrap());
            }
            Step::Follow(process) => {
                let (known, read) = &mut self.processes[process];
                for entry in &self.table[*read..] {
                    known.apply(*entry);
                }
                *read = self.table.len();
            }
            Step::Score(partition, messages) => self.score(partition, messages),
            Step::Restart(partition) => {
                let owner = &self.owners[partition as usize];
                let again = self.replayed(partition, owner.next);
                // Invariant 3.
                assert_eq!(again.fingerprint(), owner.fold.fingerprint());
                assert_eq!(again.bytes(), owner.fold.bytes());
                self.owners[partition as usize].fold = again;
            }
        }
    }

    fn replayed(&self, partition: u32, to: usize) -> Fold {
        let mut again = fold(&self.spec);
        for batch in &self.logs[partition as usize][..to] {
            let view = EventsView::new(batch).unwrap();
            for row in 0..view.len() {
                again.apply(&view.row(row), None);
            }
        }
        again
    }

    fn score(&mut self, partition: u32, messages: usize) {
        let owner = &mut self.owners[partition as usize];
        let log = &self.logs[partition as usize];
        let mut moves = Moves::default();
        let last = (owner.next + messages).min(log.len());
        for (offset, batch) in log.iter().enumerate().take(last).skip(owner.next) {
            let view = EventsView::new(batch).unwrap();
            for row in 0..view.len() {
                let event = view.row(row);
                match owner.fold.apply(&event, None) {
                    Applied::Elsewhere(to, number) => {
                        moves.straggler(&event, to, number, (offset as i64, row)).unwrap();
                    }
                    Applied::Left => moves.departure(partition as i32, (offset as i64, row), &event).unwrap(),
                    _ => {}
                }
            }
        }
        owner.next = last;
        let rows = moves.rows(|_, departures| Ok(collector(&log[..last], departures, false).found)).unwrap();
        for rows in rows {
            self.write(&rows);
        }
    }

    /// Lets everyone read to the end.
    fn settle(&mut self) {
        for process in 0..PROCESSES {
            self.take(&Step::Follow(process));
        }
        for round in 0.. {
            assert!(round < 1000, "rows go round in circles");
            if (0..PARTITIONS as usize).all(|p| self.owners[p].next == self.logs[p].len()) {
                break;
            }
            (0..PARTITIONS).for_each(|partition| self.score(partition, usize::MAX / 2));
        }
    }

    /// Every subject holds what the model says, in its state, in the log and for a model to score.
    fn check(&mut self) {
        let mut should: BTreeMap<i64, Vec<(i64, u8, u8)>> = BTreeMap::new();
        for ((identifier, number), value) in &self.words {
            let Some(value) = value else { continue };
            let subject = self.decider.subject(SubjectId(*identifier));
            should.entry(subject.0).or_default().push((*identifier, *number, *value));
        }
        let mut holds: BTreeMap<i64, Vec<(i64, u8, u8)>> = BTreeMap::new();
        for log in &self.logs {
            let collector = collector(log, Vec::new(), true);
            for (subject, facts) in &collector.held {
                for Word { under, place: (batch, row), .. } in facts.values() {
                    let view = EventsView::new(&collector.batches[*batch]).unwrap();
                    let event = view.row(*row);
                    if event.op == Op::Assert {
                        let value = event.numeric_value.unwrap() as u8 - 60;
                        holds.entry(subject.0).or_default().push((under.0, event.event_key.0[15], value));
                    }
                }
            }
        }
        holds.values_mut().for_each(|facts| facts.sort_unstable());
        assert_eq!(holds, should);

        let at = self.clock + SECOND;
        for identifier in 0..IDENTIFIERS {
            if self.decider.subject(SubjectId(identifier)).0 != identifier {
                continue;
            }
            let mut alone = fold(&self.spec);
            for (own, number, value) in should.remove(&identifier).unwrap_or_default() {
                alone.apply(&fact(identifier, own, number, Some(value), 0), None);
            }
            let owner = &mut self.owners[bucket(SubjectId(identifier), PARTITIONS) as usize];
            assert_eq!(features(&mut owner.fold, identifier, at), features(&mut alone, identifier, at));
        }
    }
}

fn go(steps: &[Step]) {
    let mut road = Road::new();
    for step in steps {
        road.take(step);
    }
    road.settle();
    for partition in 0..PARTITIONS {
        road.take(&Step::Restart(partition));
    }
    road.check();
}

const MERGE: LinkKind = LinkKind::Merge;
const UNMERGE: LinkKind = LinkKind::Unmerge;

#[test]
fn after_a_merge_the_survivor_holds_both_histories_and_an_undoing_gives_them_back() {
    let (a, b) = (Step::Fact(0, 0, Some(1)), Step::Fact(1, 0, Some(2)));
    let steps = [a, b, Step::Link(MERGE, 0, 1), Step::Follow(1), Step::Fact(1, 1, Some(3))];
    go(&steps);
    // A redelivery and a correction under the old identifier meet what they were before.
    let mut more = steps.to_vec();
    more.extend([Step::Fact(1, 0, Some(2)), Step::Fact(1, 1, Some(4)), Step::Fact(1, 0, None)]);
    go(&more);
    more.push(Step::Link(UNMERGE, 0, 1));
    go(&more);
    more.extend([Step::Fact(1, 2, Some(4)), Step::Follow(1), Step::Fact(1, 2, Some(0)), Step::Link(MERGE, 0, 1)]);
    go(&more);
}

#[test]
fn a_temporary_number_becomes_a_patient_whose_owner_reads_late() {
    // 1 is John Doe, who turns out to be 2, who is told to be 0 before anyone has moved John's facts;
    // meanwhile one of them is corrected and one withdrawn, directly.
    go(&[
        Step::Fact(1, 0, Some(1)),
        Step::Fact(1, 1, Some(1)),
        Step::Link(MERGE, 2, 1),
        Step::Follow(1),
        Step::Fact(1, 0, Some(2)),
        Step::Fact(1, 1, None),
        Step::Link(MERGE, 0, 2),
        Step::Score(2, 9),
        Step::Score(0, 9),
        Step::Score(1, 9),
    ]);
}

#[test]
fn a_newborn_stays_a_subject_of_its_own() {
    // Nothing links it to its mother: that they were told of in one record does not.
    let mut road = Road::new();
    for step in [Step::Fact(0, 0, Some(1)), Step::Fact(3, 0, Some(4)), Step::Link(MERGE, 0, 1)] {
        road.take(&step);
    }
    road.settle();
    road.check();
    assert_eq!(road.decider.subject(SubjectId(3)), SubjectId(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn invariant_03_every_subject_holds_what_was_last_said_of_its_identifiers(steps in vec(step(), 0..60)) {
        go(&steps);
    }
}
