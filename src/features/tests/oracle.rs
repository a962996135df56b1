//! The fold against a naive model that, for every event, computes everything anew from the
//! log so far.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::events::{DAY, HOUR};

pub(crate) const FEATURES: &str = r#"
    [[derived]]
    name = "ratio"
    formula = "CASE WHEN lactate > 1 THEN heart_rate / lactate END"
    within = "3h"
    [[derived]]
    name = "load"
    formula = "coalesce(whole, 0) + few * 2 + ratio + coalesce(age, 0) + coalesce(sex, 0.5) + hours"
    within = "ever"
    [derived.inputs]
    whole = { concept = "lactate", aggregate = "sum", within = "2h" }
    few = { concept = "heart_rate", aggregate = "count", within = "90min" }
    hours = { concept = "heart_rate", aggregate = "hours" }
    [[feature]]
    concepts = ["lactate", "heart_rate"]
    windows = ["90min", "encounter", "ever", "4h"]
    aggregates = [
        "last", "first", "count", "min", "max", "mean", "std", "slope", "time_since_last", "ever",
        "sum", "median", "range", "change", "distinct",
    ]
    [[feature]]
    concepts = ["ratio", "load"]
    windows = ["4h", "ever"]
    aggregates = ["last", "count", "max", "sum", "time_since_last"]
    [[feature]]
    concepts = ["rhythm"]
    categories = ["Sinus", "AFib", "*"]
    windows = ["4h", "ever"]
    aggregates = ["last", "first", "count", "ever", "time_since_last", "distinct"]
    [[feature]]
    codes = { lab = ["LOINC//2524*"], any = ["LOINC//*", "ICD10CM//I10"] }
    windows = ["2h", "ever"]
    aggregates = ["count", "ever", "time_since_last", "distinct"]
    [[feature]]
    demographics = ["age", "sex", "hours_in_encounter", "hour_of_day"]
    [[feature]]
    name = "worst"
    formula = "greatest(\"lactate.max.4h\", 5) + coalesce(\"ratio.last.ever\", 0)"
    [[text]]
    concept = "note"
    windows = ["4h", "encounter", "ever"]
    terms = ["chest pain", "Pain", "no chest pain", "ätiologie"]
    [[text]]
    codes = { letter = ["LETTER*"], any_text = ["RHYTHM", "LETTER"] }
    windows = ["2h"]
    terms = ["pain", "sinus"]
    [[text]]
    concept = "note"
    windows = ["2h", "ever"]
    terms = ["38 5", "fever"]
    [grid]
    concepts = ["lactate", "heart_rate", "ratio"]
    hours = 4
    aggregate = "mean"
"#;

/// The same with the last value of every hour in the grid.
fn features_of_last() -> String {
    assert_eq!(FEATURES.matches("aggregate = \"mean\"").count(), 1);
    FEATURES.replace("aggregate = \"mean\"", "aggregate = \"last\"")
}

pub(crate) const TRIGGERS: [&str; 4] = [
    "encounter = \"ICU\"\nevery = \"1h\"\nuntil = \"5h\"",
    "at = [\"90min\", \"3h\"]",
    "encounter = \"ICU\"\non = [\"lactate\"]\nmin_gap = \"30min\"",
    "on = [\"ICD10CM//I10\", \"GENDER//F\"]",
];

/// One row of a log.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    subject: Option<i64>,
    time: Option<Micros>,
    kind: usize,
    value: Option<f32>,
    recorded_at: Micros,
    retract: bool,
    key: u8,
    encounter: Option<&'static str>,
    source: String,
}

/// Code, concept and unit of a kind of row.
const KINDS: [(&str, Option<&str>, Option<&str>); 16] = [
    ("LOINC//8867-4", Some("heart_rate"), Some("/min")),
    ("LOINC//2524-7", Some("lactate"), Some("mmol/L")),
    ("LOINC//2524-7", None, Some("mmol/L")),
    ("LOINC//8867-4", Some("heart_rate"), None),
    ("LOINC//2708-6", Some("spo2"), Some("%")),
    ("ICD10CM//I10", None, None),
    ("ENCOUNTER//ICU//START", None, None),
    ("ENCOUNTER//ICU//START", None, None),
    ("ENCOUNTER//ICU//END", None, None),
    ("ENCOUNTER//IMP//START", None, None),
    ("MEDS_BIRTH", None, None),
    ("GENDER//F", None, None),
    ("GENDER//M", None, None),
    ("RHYTHM", Some("rhythm"), None),
    ("LETTER", Some("note"), None),
    ("LETTER", None, None),
];

/// Texts of a rhythm, and their categories.
const RHYTHMS: [(&str, usize); 4] = [("sinus", 0), (" AFIB ", 1), ("paced", 2), ("VT", 2)];

/// Texts of a letter.
const LETTERS: [&str; 6] = [
    "No chest pain. Pain in the leg; no CHEST-PAIN!",
    "Fever 38.5, Ätiologie unklar",
    "painful chest",
    "",
    "PAIN, pain and chest\n\npain: sinus",
    "nothing of note, but Sinus rhythm",
];

impl Row {
    /// Text and category of a rhythm.
    fn rhythm(&self) -> Option<(&'static str, usize)> {
        let is_rhythm = KINDS[self.kind].0 == "RHYTHM";
        self.value.filter(|value| is_rhythm && value.is_finite()).map(|value| RHYTHMS[value as usize % 4])
    }

    /// The text of a rhythm or a letter.
    fn text(&self) -> Option<&'static str> {
        let is_letter = KINDS[self.kind].0 == "LETTER";
        let letter = self.value.filter(|value| is_letter && value.is_finite()).map(|value| LETTERS[value as usize % 6]);
        letter.or(self.rhythm().map(|(text, _)| text))
    }

    /// Its number, if its value is not a text.
    fn number(&self) -> Option<f32> {
        self.value.filter(|_| !["RHYTHM", "LETTER"].contains(&KINDS[self.kind].0))
    }

    pub(crate) fn event(&self) -> EventRef<'_> {
        let Some(subject) = self.subject else {
            return EventRef { recorded_at: self.recorded_at, ..tick(&self.source, self.time, self.retract, 2) };
        };
        let (code, concept, unit) = KINDS[self.kind];
        let mut event_key = [7; 16];
        event_key[15] = self.key;
        EventRef {
            subject: Some(SubjectId(subject)),
            time: self.time,
            code,
            numeric_value: self.number(),
            text_value: self.text(),
            unit,
            concept,
            implausible: false,
            recorded_at: self.recorded_at,
            op: if self.retract { Op::Retract } else { Op::Assert },
            event_key: EventKey(event_key),
            encounter_id: self.encounter,
            source: &self.source,
        }
    }

    /// What makes it another fact under the same key.
    fn content(&self) -> impl PartialEq {
        (self.time, KINDS[self.kind], self.number().map(f32::to_bits), self.text(), self.encounter)
    }
}

/// A random log of up to `rows` rows: late, doubled, corrected, withdrawn, with ticks.
pub(crate) fn log(rows: usize) -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![
        6 => (0u8..40).prop_map(|n| Some(f32::from(n) / 3.0)),
        1 => Just(None),
        1 => Just(Some(f32::NAN)),
    ];
    let encounter = prop_oneof![3 => Just(Some("a")), 1 => Just(Some("b")), 1 => Just(None)];
    // Minutes: a step of the log, how much earlier it happened, how far its record is out of order.
    let step = (prop_oneof![3 => 0i64..10, 1 => 10i64..100], prop_oneof![3 => -5i64..5, 1 => -5i64..200], -30i64..3);
    let what = (0i64..3, 0..KINDS.len(), value, 0u8..24, encounter);
    let flags = (prop::bool::weighted(0.15), prop::bool::weighted(0.12), prop::bool::weighted(0.1));
    prop::collection::vec((step, what, flags), 0..rows).prop_map(|rows| {
        let mut now = 0;
        let mut log: Vec<Row> = Vec::new();
        for (i, ((step, late, disorder), (subject, kind, value, key, encounter), (retract, is_tick, again))) in
            rows.into_iter().enumerate()
        {
            now += step * MINUTE;
            let recorded_at = now + if disorder < -25 { disorder * MINUTE } else { 0 };
            let mut row = Row {
                subject: (!is_tick).then_some(subject),
                time: (late != 4).then_some(now - late * MINUTE),
                kind,
                value,
                recorded_at,
                retract,
                key,
                encounter,
                source: format!("raw.flat-0-{i}#0"),
            };
            if is_tick {
                row.source = format!("raw.flat-{}", subject % 2);
            } else if again && let Some(before) = log.iter().rev().find(|other| other.subject == Some(subject)) {
                row = Row { recorded_at, source: row.source, ..before.clone() };
            }
            log.push(row);
        }
        log
    })
}

/// One encounter of one subject: class, id.
type Stay = (String, Option<&'static str>);

/// A prediction: trigger, subject, encounter, time, source; its vector.
type Made = ((usize, i64, Option<String>, Micros, String), Vec<f32>);

/// Everything computed anew from a log so far.
struct Naive<'a> {
    spec: Arc<FeatureSpec>,
    /// Whether the grid has the last value of an hour, else its mean.
    of_last: bool,
    log: &'a [Row],
    /// For a subject's stay and trigger: due times before this are past.
    low: BTreeMap<(i64, Stay, usize), Micros>,
    fired: BTreeMap<(i64, Stay, usize), Micros>,
    last_on: BTreeMap<(i64, usize), Micros>,
    out: Vec<Made>,
}

impl<'a> Naive<'a> {
    /// Facts of a subject that hold after the first `n` rows, in order of arrival.
    fn facts(&self, subject: i64, n: usize) -> Vec<&'a Row> {
        let mut facts: Vec<&Row> = Vec::new();
        for row in self.log[..n].iter().filter(|row| row.subject == Some(subject)) {
            let known = facts.iter().position(|fact| fact.key == row.key);
            match known {
                Some(place) if row.retract => {
                    facts.remove(place);
                }
                None if row.retract => {}
                Some(place) if facts[place].content() == row.content() => {}
                Some(place) => {
                    facts.remove(place);
                    facts.push(row);
                }
                None => facts.push(row),
            }
        }
        facts
    }

    /// Source of the last row of a subject that changed something.
    fn source(&self, subject: i64, n: usize) -> String {
        let changed = |i: &usize| {
            self.log[*i].subject == Some(subject) && {
                let (before, after) = (self.facts(subject, *i), self.facts(subject, i + 1));
                before.len() != after.len() || before.iter().zip(&after).any(|(a, b)| !std::ptr::eq(*a, *b))
            }
        };
        (0..n).rev().find(changed).map_or(String::new(), |i| self.log[i].source.clone())
    }

    /// Stays of a subject in order of their first asserted fact, with the start if open.
    fn stays(&self, subject: i64, n: usize) -> Vec<(Stay, Option<Micros>)> {
        let edge = |row: &Row| -> Option<(Stay, bool, Micros)> {
            let parts: Vec<&str> = KINDS[row.kind].0.split("//").collect();
            (parts[0] == "ENCOUNTER").then_some(())?;
            Some(((parts[1].to_owned(), row.encounter), parts[2] == "END", row.time?))
        };
        let mut stays: Vec<Stay> = Vec::new();
        for i in 0..n {
            let row = &self.log[i];
            // It counts from the first row that changed the state.
            let asserted = row.subject == Some(subject) && !row.retract;
            if asserted
                && self.facts(subject, i + 1).iter().any(|fact| std::ptr::eq(*fact, row))
                && let Some((stay, ..)) = edge(row)
                && !stays.contains(&stay)
            {
                stays.push(stay);
            }
        }
        let facts = self.facts(subject, n);
        let with_start = |stay: Stay| {
            let edges = facts.iter().filter_map(|row| edge(row)).filter(|(of, ..)| *of == stay);
            let mut edges: Vec<(Micros, bool)> = edges.map(|(_, end, time)| (time, end)).collect();
            if stay.1.is_some() {
                edges.sort()
            } else {
                edges.sort_by_key(|(time, _)| *time)
            }
            let mut open = None;
            for (time, end) in edges {
                open = if end { None } else { open.or(Some(time)) };
            }
            (stay, open)
        };
        stays.into_iter().map(with_start).collect()
    }

    /// The due times of a subject up to `limit`: time, subject, trigger, place of the stay.
    fn due(&self, subject: i64, n: usize, limit: Micros) -> Vec<(Micros, i64, usize, usize)> {
        let mut due = Vec::new();
        for (place, (stay, start)) in self.stays(subject, n).into_iter().enumerate() {
            let Some(start) = start else { continue };
            let grids: [Vec<Micros>; 2] = [(1..=5).map(|k| k * HOUR).collect(), vec![90 * MINUTE, 3 * HOUR]];
            for (trigger, grid) in grids.iter().enumerate().filter(|(i, _)| *i == 1 || stay.0 == "ICU") {
                let low = self.low.get(&(subject, stay.clone(), trigger)).copied().unwrap_or(Micros::MIN);
                let times = grid.iter().map(|after| start + after).filter(|at| *at >= low && *at <= limit);
                due.extend(times.map(|at| (at, subject, trigger, place)));
            }
        }
        due
    }

    fn predict(&mut self, n: usize, subject: i64, trigger: usize, stay: Option<&(Stay, Option<Micros>)>, at: Micros) {
        let start = stay.and_then(|(_, start)| *start);
        let vector = self.vector(&self.facts(subject, n), start, at);
        let encounter = stay.and_then(|((_, id), _)| id.map(str::to_owned));
        self.out.push(((trigger, subject, encounter, at, self.source(subject, n)), vector));
    }

    fn fire(&mut self, n: usize, mut due: Vec<(Micros, i64, usize, usize)>) {
        due.sort_unstable();
        for (at, subject, trigger, place) in due {
            let stays = self.stays(subject, n);
            self.predict(n, subject, trigger, Some(&stays[place]), at);
            let key = (subject, stays[place].0.clone(), trigger);
            self.low.insert(key.clone(), at + 1);
            self.fired.insert(key, at);
        }
    }

    fn run(&mut self) {
        for i in 0..self.log.len() {
            let row = &self.log[i];
            let Some(subject) = row.subject else {
                if let Some(now) = self.clock(i + 1) {
                    let due = (0..3).flat_map(|subject| self.due(subject, i, now)).collect();
                    self.fire(i, due);
                }
                continue;
            };
            self.fire(i, self.due(subject, i, row.recorded_at));
            let before = self.stays(subject, i);
            for (stay, start) in self.stays(subject, i + 1) {
                let was = before.iter().find(|(other, _)| *other == stay).and_then(|(_, start)| *start);
                for trigger in 0..2 {
                    if was != start {
                        let key = (subject, stay.clone(), trigger);
                        let fired = self.fired.get(&key).map_or(Micros::MIN, |at| at + 1);
                        self.low.insert(key, row.recorded_at.max(fired));
                    }
                }
            }
            let facts = self.facts(subject, i + 1);
            if row.retract || !facts.iter().any(|fact| std::ptr::eq(*fact, row)) {
                continue;
            }
            let (code, concept, _) = KINDS[row.kind];
            for (trigger, wanted) in
                [(2, concept == Some("lactate")), (3, ["ICD10CM//I10", "GENDER//F"].contains(&code))]
            {
                let stays = self.stays(subject, i + 1);
                let mut open: Vec<_> = stays
                    .iter()
                    .filter(|(stay, start)| {
                        start.is_some_and(|start| start <= row.recorded_at) && (trigger == 3 || stay.0 == "ICU")
                    })
                    .collect();
                open.sort_by_key(|(_, start)| *start);
                let named = open.iter().rev().find(|(stay, _)| stay.1.is_some() && stay.1 == row.encounter);
                let stay = named.or(open.last()).copied();
                let gap = if trigger == 2 { 30 * MINUTE } else { 1 };
                let soon = self.last_on.get(&(subject, trigger)).is_some_and(|last| row.recorded_at < last + gap);
                if wanted && !soon && (stay.is_some() || trigger == 3) {
                    self.predict(i + 1, subject, trigger, stay, row.recorded_at);
                    self.last_on.insert((subject, trigger), row.recorded_at);
                }
            }
        }
    }

    fn clock(&self, n: usize) -> Option<Micros> {
        let mut hands: BTreeMap<&str, (Option<Micros>, bool)> = BTreeMap::new();
        for row in self.log[..n].iter().filter(|row| row.subject.is_none()) {
            let before = hands.get(row.source.as_str()).and_then(|(watermark, _)| *watermark);
            hands.insert(&row.source, (before.max(row.time), row.retract));
        }
        let busy: Vec<Option<Micros>> =
            hands.values().filter(|(_, idle)| !idle).map(|(watermark, _)| *watermark).collect();
        match busy.as_slice() {
            _ if hands.len() < 2 => None,
            [] => hands.values().filter_map(|(watermark, _)| *watermark).max(),
            busy => busy.iter().copied().min().flatten(),
        }
    }

    fn vector(&self, facts: &[&'a Row], start: Option<Micros>, at: Micros) -> Vec<f32> {
        self.spec.names().iter().map(|name| self.feature(name, facts, start, at) as f32).collect()
    }

    /// The samples of a concept or group, by time: time, value, code.
    fn samples(&self, of: &str, facts: &[&'a Row]) -> Vec<(Option<Micros>, f64, &'a str)> {
        if of == "ratio" || of == "load" {
            return self.derived(of, facts);
        }
        let sample = |row: &&'a Row| {
            let (code, concept, _) = KINDS[row.kind];
            let number = row.value.filter(|value| value.is_finite()).map(f64::from);
            let value = match of {
                "lab" => code.starts_with("LOINC//2524").then_some(1.0),
                "any" => (code.starts_with("LOINC//") || code == "ICD10CM//I10").then_some(1.0),
                "rhythm" => row.rhythm().map(|(_, category)| category as f64),
                _ => number.filter(|_| concept == Some(of)),
            };
            value.map(|value| (row.time, value, code))
        };
        let mut samples: Vec<_> = facts.iter().filter_map(sample).collect();
        samples.sort_by_key(|(time, ..)| *time);
        samples
    }

    /// How often a term stands in the texts of a concept or group, one by one; by time.
    fn term(&self, of: &str, term: &str, facts: &[&'a Row]) -> Vec<(Option<Micros>, f64, &'a str)> {
        let split = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
            words.map(str::to_lowercase).collect()
        };
        let term = split(term);
        let sample = |row: &&'a Row| {
            let (code, concept, _) = KINDS[row.kind];
            let is_of = match of {
                "letter" => code == "LETTER",
                "any_text" => ["LETTER", "RHYTHM"].contains(&code),
                _ => concept == Some(of),
            };
            let text = row.text().filter(|_| is_of)?;
            let count = split(text).windows(term.len()).filter(|window| *window == term).count();
            Some((row.time, count as f64, code))
        };
        let mut samples: Vec<_> = facts.iter().filter_map(sample).collect();
        samples.sort_by_key(|(time, ..)| *time);
        samples
    }

    /// The samples of a derived concept, each computed from all facts.
    fn derived(&self, of: &str, facts: &[&'a Row]) -> Vec<(Option<Micros>, f64, &'a str)> {
        let inputs: &[&str] =
            if of == "ratio" { &["heart_rate", "lactate"] } else { &["heart_rate", "lactate", "ratio"] };
        let inputs: Vec<_> = inputs.iter().map(|input| self.samples(input, facts)).collect();
        let mut times: Vec<Option<Micros>> = inputs.iter().flatten().map(|(time, ..)| *time).collect();
        times.sort_unstable();
        times.dedup();
        let within = |input: usize, at: Option<Micros>, span: Option<Micros>| -> Vec<(Option<Micros>, f64)> {
            let upto = inputs[input].iter().filter(|(time, ..)| *time <= at);
            let recent = upto.filter(|(time, ..)| match (span, time, at) {
                (None, ..) | (_, None, None) => true,
                (Some(span), Some(time), Some(at)) => *time > at - span,
                _ => false,
            });
            recent.map(|(time, value, _)| (*time, *value)).collect()
        };
        let last = |input, at, span| within(input, at, span).last().map_or(f64::NAN, |(_, value)| *value);
        let person = |name, at: Micros| self.feature(name, facts, None, at);
        let mut samples = Vec::new();
        for at in times {
            let value = if of == "ratio" {
                let (heart_rate, lactate) = (last(0, at, Some(3 * HOUR)), last(1, at, Some(3 * HOUR)));
                if lactate > 1.0 { heart_rate / lactate } else { f64::NAN }
            } else {
                let whole = within(1, at, Some(2 * HOUR)).iter().fold(0.0, |sum, (_, value)| sum + value);
                let few = within(0, at, Some(90 * MINUTE)).len() as f64;
                let first = within(0, at, None).iter().find_map(|(time, _)| *time);
                let hours = at.zip(first).map_or(f64::NAN, |(at, first)| (at - first) as f64 / HOUR as f64);
                let age = at.map_or(f64::NAN, |at| person("age", at));
                let age = if age >= 0.0 { age } else { 0.0 };
                let sex = person("sex", 0);
                let sex = if sex.is_nan() { 0.5 } else { sex };
                whole + few * 2.0 + last(2, at, None) + age + sex + hours
            };
            if (value as f32).is_finite() {
                samples.push((at, f64::from(value as f32), ""));
            }
        }
        samples
    }

    /// One feature by its name alone.
    fn feature(&self, name: &str, facts: &[&'a Row], start: Option<Micros>, at: Micros) -> f64 {
        let latest = |code: &[&str]| facts.iter().rev().find(|row| code.contains(&KINDS[row.kind].0));
        match name {
            "age" => {
                let birth = facts.iter().rev().find(|row| KINDS[row.kind].0 == "MEDS_BIRTH" && row.time.is_some());
                return birth.map_or(f64::NAN, |row| {
                    (start.unwrap_or(at) - row.time.unwrap()) as f64 / SECOND as f64 / 86400.0 / 365.25
                });
            }
            "sex" => {
                return match latest(&["GENDER//F", "GENDER//M"]).map(|row| KINDS[row.kind].0) {
                    Some("GENDER//M") => 1.0,
                    Some(_) => 0.0,
                    None => f64::NAN,
                };
            }
            "worst" => {
                let of = |name: &str| self.feature(name, facts, start, at) as f32 as f64;
                let ratio = of("ratio.last.ever");
                return of("lactate.max.4h").max(5.0) + if ratio.is_nan() { 0.0 } else { ratio };
            }
            grid if grid.starts_with("grid.") => return self.hourly(grid, facts, at),
            "hours_in_encounter" => return start.map_or(f64::NAN, |start| (at - start) as f64 / HOUR as f64),
            "hour_of_day" => return at.rem_euclid(DAY) as f64 / HOUR as f64,
            _ => {}
        }
        let [of, aggregate, window] = name.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
        let inside = |time: Option<Micros>| match (window, time) {
            ("ever", None) => true,
            (_, None) => false,
            (_, Some(time)) if time > at => false,
            ("ever", _) => true,
            ("encounter", Some(time)) => start.is_some_and(|start| time >= start),
            ("90min", Some(time)) => time > at - 90 * MINUTE,
            ("4h", Some(time)) => time > at - 4 * HOUR,
            ("2h", Some(time)) => time > at - 2 * HOUR,
            _ => unreachable!(),
        };
        if let Some((of, term)) = of.split_once(':') {
            let mut samples = self.term(of, term, facts);
            samples.retain(|(time, ..)| inside(*time));
            let sum = samples.iter().fold(0.0, |sum, (_, count, _)| sum + count);
            return if samples.is_empty() { f64::NAN } else { sum };
        }
        let (of, category) = of.split_once('=').map_or((of, None), |(of, category)| (of, Some(category)));
        let mut samples = self.samples(of, facts);
        samples.retain(|(time, ..)| inside(*time));
        if let Some(category) = category {
            let category = ["Sinus", "AFib", "other"].iter().position(|known| *known == category).unwrap() as f64;
            let is_of = |sample: &(Option<Micros>, f64, &str)| sample.1 == category;
            match aggregate {
                "last" | "first" if samples.is_empty() => return f64::NAN,
                "last" => return f64::from(u8::from(is_of(&samples[samples.len() - 1]))),
                "first" => return f64::from(u8::from(is_of(&samples[0]))),
                _ => samples.retain(is_of),
            }
        }
        let values: Vec<f64> = samples.iter().map(|(_, value, _)| *value).collect();
        let n = values.len() as f64;
        let mean = || values.iter().fold(0.0, |sum, value| sum + value) / n;
        match aggregate {
            "count" => n,
            "ever" => f64::from(u8::from(!values.is_empty())),
            "distinct" if of == "lab" || of == "any" => {
                samples.iter().map(|(.., code)| code).collect::<std::collections::BTreeSet<_>>().len() as f64
            }
            "distinct" => {
                let mut values = values;
                values.sort_by(f64::total_cmp);
                values.dedup();
                values.len() as f64
            }
            _ if values.is_empty() => f64::NAN,
            "last" => values[values.len() - 1],
            "first" => values[0],
            "min" => values.iter().copied().fold(f64::INFINITY, f64::min),
            "max" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            "sum" => values.iter().fold(0.0, |sum, value| sum + value),
            "range" => {
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
                    - values.iter().copied().fold(f64::INFINITY, f64::min)
            }
            "change" if values.len() < 2 => f64::NAN,
            "change" => values[values.len() - 1] - values[0],
            "median" => {
                let mut values = values;
                values.sort_by(f64::total_cmp);
                let n = values.len();
                (values[(n - 1) / 2] + values[n / 2]) / 2.0
            }
            "mean" => mean(),
            "std" if values.len() < 2 => f64::NAN,
            "std" => (values.iter().map(|value| (value - mean()).powi(2)).sum::<f64>() / (n - 1.0)).sqrt(),
            "time_since_last" => samples[samples.len() - 1].0.map_or(f64::NAN, |time| (at - time) as f64 / HOUR as f64),
            "slope" => {
                let dated: Vec<(f64, f64)> =
                    samples.iter().filter_map(|(time, y, _)| Some(((*time)? as f64 / HOUR as f64, *y))).collect();
                let n = dated.len() as f64;
                let (mx, my) = (dated.iter().map(|p| p.0).sum::<f64>() / n, dated.iter().map(|p| p.1).sum::<f64>() / n);
                let sxx: f64 = dated.iter().map(|p| (p.0 - mx).powi(2)).sum();
                let sxy: f64 = dated.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
                if sxx > 1e-12 { sxy / sxx } else { f64::NAN }
            }
            _ => unreachable!(),
        }
    }
}

impl Naive<'_> {
    /// A value of the grid by its name alone.
    fn hourly(&self, name: &str, facts: &[&Row], at: Micros) -> f64 {
        let [_, of, hour] = name.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
        let hour: i64 = hour.trim_start_matches('-').trim_end_matches('h').parse().unwrap();
        let (after, upto) = (at - (hour + 1) * HOUR, at - hour * HOUR);
        let mut samples = self.samples(of, facts);
        samples.retain(|(time, ..)| time.is_some_and(|time| after < time && time <= upto));
        let sum = samples.iter().fold(0.0, |sum, (_, value, _)| sum + value);
        match samples.last() {
            None => f64::NAN,
            Some((_, last, _)) if self.of_last => *last,
            Some(_) => sum / samples.len() as f64,
        }
    }
}

fn close(a: f32, b: f32, exact: bool) -> bool {
    a.to_bits() == b.to_bits() || (!exact && (a - b).abs() <= 1e-6 * (1.0 + a.abs())) || (a.is_nan() && b.is_nan())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_fold_agrees_with_a_naive_model(log in log(70), of_last: bool) {
        let features = if of_last { features_of_last() } else { FEATURES.to_owned() };
        let mut run = Run::new(&features, &TRIGGERS);
        for row in &log {
            run.apply(row.event());
        }
        let spec = Arc::clone(&run.spec);
        let mut naive =
            Naive { spec, of_last, log: &log, low: BTreeMap::new(), fired: BTreeMap::new(), last_on: BTreeMap::new(), out: Vec::new() };
        naive.run();
        let made: Vec<_> = run.due.rows.iter()
            .map(|row| {
                let encounter = row.encounter.as_deref().map(str::to_owned);
                (row.trigger, row.subject.0, encounter, row.time, row.source.clone())
            })
            .collect();
        let expected: Vec<_> = naive.out.iter().map(|(made, _)| made.clone()).collect();
        prop_assert_eq!(made, expected);
        for (i, (_, vector)) in naive.out.iter().enumerate() {
            for (j, (a, b)) in run.due.row(i).iter().zip(vector).enumerate() {
                let name = run.spec.name(j);
                let exact = !name.contains(".slope.") && !name.contains(".std.");
                prop_assert!(close(*a, *b, exact), "{name} of prediction {i}: {a} is not {b}");
            }
        }
    }
}

/// The model says nothing about what random logs never do.
#[test]
fn random_logs_do_everything() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut applied: BTreeMap<String, usize> = BTreeMap::new();
    let mut triggers: BTreeMap<(usize, bool), usize> = BTreeMap::new();
    let mut known = vec![0; spec(FEATURES).len()];
    let mut by_clock = 0;
    for _ in 0..1_200 {
        let log = log(70).new_tree(&mut runner).unwrap().current();
        let mut run = Run::new(FEATURES, &TRIGGERS);
        for row in &log {
            let before = run.due.rows.len();
            let what = run.apply(row.event());
            *applied.entry(format!("{what:?}")).or_default() += 1;
            by_clock += if row.subject.is_none() { run.due.rows.len() - before } else { 0 };
        }
        for (i, row) in run.due.rows.iter().enumerate() {
            *triggers.entry((row.trigger, row.encounter.is_some())).or_default() += 1;
            for (known, value) in known.iter_mut().zip(run.due.row(i)) {
                *known += usize::from(!value.is_nan() && *value != 0.0);
            }
        }
    }
    assert_eq!(applied.len(), 6, "{applied:?}");
    assert!(applied.values().all(|times| *times > 100), "{applied:?}");
    assert_eq!(triggers.len(), 8, "{triggers:?}");
    assert!(triggers.values().all(|times| *times > 30) && by_clock > 100, "{triggers:?} {by_clock}");
    assert!(known.iter().all(|times| *times > 5), "{known:?}");
}
