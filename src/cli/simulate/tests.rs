//! The simulated hospital, seen from outside.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::decode::Value as Found;
use crate::decode::{self, Fact, Notes};
use crate::events::{HOUR, Op};

fn hospital(seed: u64, patients: usize, hours: u32) -> Hospital {
    Hospital::new(seed, patients, hours, START)
}

fn written(hospital: Hospital, format: Format) -> Vec<Line> {
    lines(hospital, format).unwrap().map(Result::unwrap).collect()
}

/// The facts of a line, owned, after checking that it is read whole.
fn facts(line: &Line, format: Format) -> Vec<Fact<'_>> {
    let mut facts = Vec::new();
    let unread = decode::decode(format, &decode::Rules::default(), &line.bytes, &mut facts).unwrap();
    assert_eq!(unread, Notes::default());
    facts
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_every_release() {
    let all = |seed| -> Vec<u8> {
        written(hospital(seed, 5, 12), Format::Flat).into_iter().flat_map(|line| line.bytes).collect()
    };
    assert_eq!(all(7), all(7));
    assert_ne!(all(7), all(8));
    assert_eq!(&blake3::hash(&all(7)).to_hex()[..16], "7d587feaf161bca1");
}

#[test]
fn records_come_in_the_order_they_are_sent_and_end_with_the_hours() {
    let lines = written(hospital(3, 40, 100), Format::Flat);
    assert!(lines.is_sorted_by_key(|line| line.sent));
    assert!(lines[0].sent >= START && lines[lines.len() - 1].sent <= START + 100 * HOUR);
    let first: BTreeMap<usize, Micros> = lines.iter().rev().map(|line| (line.patient, line.sent)).collect();
    assert_eq!(first.len(), 40);
    assert!(first.values().is_sorted());
    assert!(written(hospital(3, 0, 100), Format::Flat).is_empty());
    // Far outside any calendar it still ends.
    assert!(Hospital::new(3, 2, 10, Micros::MAX).count() > 0 && Hospital::new(3, 2, 10, Micros::MIN).count() > 0);
}

#[test]
fn a_small_hospital_is_enough_to_look_at() {
    let lines = written(hospital(7, 5, 12), Format::Flat);
    assert!(lines.len() > 50, "{}", lines.len());
    for line in &lines {
        let json: serde_json::Value = serde_json::from_slice(&line.bytes).unwrap();
        assert!(["patient", "code", "time"].iter().all(|key| json.get(key).is_some()));
    }
}

#[test]
fn every_line_is_valid_and_both_formats_say_the_same() {
    // What a fact says, but for the words on where a patient went, which differ.
    let said = |format| {
        let mut said = BTreeSet::new();
        for line in written(hospital(11, 60, 200), format) {
            for fact in facts(&line, format) {
                assert!(fact.recorded.is_some_and(|recorded| START <= recorded && recorded <= line.sent));
                let number = match fact.value {
                    Found::Number(number) => Some(number.to_bits()),
                    _ => None,
                };
                let text = |text: Option<&str>| text.map(str::to_owned);
                said.insert((
                    fact.patient.to_string(),
                    fact.time,
                    text(fact.system.as_deref()),
                    fact.code.to_string(),
                    number,
                    text(fact.unit.as_deref()),
                    fact.op == Op::Assert,
                ));
            }
        }
        said
    };
    let flat = said(Format::Flat);
    assert!(flat.len() > 10_000, "{}", flat.len());
    let fhir = said(Format::Fhir);
    assert_eq!(flat.difference(&fhir).next(), None);
    assert_eq!(fhir.difference(&flat).next(), None);
}

#[test]
fn real_feeds_faults_are_among_the_records() {
    let lines = written(hospital(5, 200, 400), Format::Flat);
    let (mut seen, mut contents) = (BTreeMap::new(), BTreeSet::new());
    let (mut redelivered, mut corrected, mut retracted, mut units) = (0, 0, 0, BTreeSet::new());
    for line in &lines {
        for fact in facts(line, Format::Flat) {
            units.extend(fact.unit.as_deref().map(str::to_owned));
            let again = seen.insert(fact.id.clone().unwrap().into_owned(), ()).is_some();
            retracted += usize::from(fact.op == Op::Retract);
            redelivered += usize::from(again && contents.contains(&line.bytes));
            corrected += usize::from(again && fact.op == Op::Assert && !contents.contains(&line.bytes));
        }
        contents.insert(line.bytes.clone());
    }
    assert!(redelivered > 20 && corrected > 20 && retracted > 5, "{redelivered} {corrected} {retracted}");
    assert!(["[degF]", "mmHg", "g/L"].iter().all(|unit| units.contains(*unit)));
}

#[test]
fn hl7_is_refused_with_what_to_do() {
    let Err(error) = lines(hospital(1, 1, 1), Format::Hl7v2) else { panic!("it was written") };
    assert!(matches!(error, CliError::Usage(ref text) if text.contains("--format flat")));
}

/// Times of the outcome of the task `deterioration`, and of what is measured, by patient.
#[derive(Default)]
struct Seen {
    start: Option<Micros>,
    end: Option<Micros>,
    outcomes: Vec<Micros>,
    /// When known, which code, what value.
    measured: Vec<(Micros, &'static str, f64)>,
}

/// Codes, usual values and how much is far from them, for an early warning score by hand.
const WARNING: [(&str, f64, f64); 4] =
    [("8867-4", 80.0, 15.0), ("9279-1", 16.5, 3.0), ("8480-6", 129.0, -20.0), ("2708-6", 96.5, -2.5)];

fn seen() -> BTreeMap<usize, Seen> {
    let mut all: BTreeMap<usize, Seen> = BTreeMap::new();
    for line in written(hospital(21, 800, 1000), Format::Flat) {
        let seen = all.entry(line.patient).or_default();
        for fact in facts(&line, Format::Flat) {
            match (&*fact.code, fact.value) {
                ("ENCOUNTER//IMP//START", _) => seen.start = fact.time,
                ("ENCOUNTER//IMP//END", _) => seen.end = fact.time,
                ("MEDS_DEATH" | "ENCOUNTER//ICU//START", _) => seen.outcomes.extend(fact.time),
                (code, Found::Number(value)) => {
                    let code = WARNING.iter().find(|signal| signal.0 == code);
                    seen.measured.extend(code.map(|code| (line.sent, code.0, value)));
                }
                _ => {}
            }
        }
    }
    all
}

#[test]
fn some_deteriorate_and_it_can_be_foreseen_but_not_always() {
    let all = seen();
    let ill = all.values().filter(|seen| !seen.outcomes.is_empty()).count() as f64 / all.len() as f64;
    assert!((0.10..0.20).contains(&ill), "{ill}");
    // Every four hours of a stay: a score by hand, and whether the outcome came within a day.
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for seen in all.values() {
        let (Some(start), Some(end)) = (seen.start, seen.end) else { continue };
        for at in (1..).map(|i| start + i * 4 * HOUR).take_while(|&at| at < end) {
            let score: f64 = WARNING
                .iter()
                .map(|&(code, usual, far)| {
                    let last = seen.measured.iter().rev().find(|one| one.0 <= at && one.1 == code);
                    last.map_or(0.0, |one| (one.2 - usual) / far)
                })
                .sum();
            let outcome = seen.outcomes.iter().any(|&outcome| at < outcome && outcome <= at + 24 * HOUR);
            if outcome { &mut with } else { &mut without }.push(score);
        }
    }
    let wins: f64 = with
        .iter()
        .map(|a| {
            without
                .iter()
                .map(|b| {
                    if a > b {
                        1.0
                    } else if a == b {
                        0.5
                    } else {
                        0.0
                    }
                })
                .sum::<f64>()
        })
        .sum();
    let auroc = wins / (with.len() * without.len()) as f64;
    assert!((0.72..0.90).contains(&auroc), "{auroc}");
}
