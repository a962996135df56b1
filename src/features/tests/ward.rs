//! The ward job of the benchmark on the stays of the PhysioNet/CinC Challenge 2012: hour by
//! hour the same vectors as a running state, and how fast.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;

use super::*;
use crate::events::{DAY, HOUR};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/physionet2012/physionet2012_set-a_long.csv.gz");
const RANGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/peers/concepts.json");

/// One event of the job.
pub(super) struct Item {
    pub(super) recorded_at: Micros,
    pub(super) stay: u32,
    pub(super) time: Option<Micros>,
    /// Below the number of concepts: that one; then the codes of [`Ward::codes`].
    pub(super) code: u16,
    value: Option<f32>,
}

pub(super) struct Ward {
    pub(super) concepts: Vec<String>,
    codes: Vec<String>,
    ranges: BTreeMap<String, (f32, f32)>,
    pub(super) stays: Vec<String>,
    pub(super) items: Vec<Item>,
}

pub(super) const START: u16 = 37;
const BIRTH: u16 = 38;
const FEMALE: u16 = 39;
const MALE: u16 = 40;
const ICU_TYPE: u16 = 41;
const HEIGHT: u16 = 42;

/// The events that `p12_events.py --no-outcome` writes, in its order; `None` without the data.
pub(super) fn ward() -> Option<Ward> {
    let (Ok(file), Ok(ranges)) = (std::fs::File::open(DATA), std::fs::read_to_string(RANGES)) else {
        println!("the data are not here: nothing tested");
        return None;
    };
    let ranges: BTreeMap<String, (f32, f32)> = serde_json::from_str(&ranges).unwrap();
    let concepts: Vec<String> = ranges.keys().cloned().collect();
    let rest = [
        "ENCOUNTER//ICU//START",
        "MEDS_BIRTH",
        "GENDER//F",
        "GENDER//M",
        "PHYSIONET2012//ICUType",
        "PHYSIONET2012//Height",
    ];
    let codes = concepts.iter().map(|name| format!("PHYSIONET2012//{name}")).chain(rest.map(str::to_owned)).collect();
    let mut ward = Ward { concepts, codes, ranges, stays: Vec::new(), items: Vec::new() };
    let number: HashMap<String, u16> = (0..).zip(&ward.concepts).map(|(i, name)| (name.clone(), i)).collect();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut start = 0;
    for line in text.lines().skip(1) {
        let [id, clock, name, value] = line.split(',').collect::<Vec<_>>()[..] else { panic!("four columns") };
        if ward.stays.last().is_none_or(|last| last != id) {
            start = 20_454 * DAY + ward.stays.len() as i64 * 20 * MINUTE;
            ward.stays.push(id.to_owned());
            let stay = ward.stays.len() as u32 - 1;
            ward.items.push(Item { recorded_at: start, stay, time: Some(start), code: START, value: None });
        }
        let stay = ward.stays.len() as u32 - 1;
        let (hour, minute) = clock.split_once(':').unwrap();
        let at = start + hour.parse::<i64>().unwrap() * HOUR + minute.parse::<i64>().unwrap() * MINUTE;
        let value: f32 = value.parse().unwrap();
        let descriptor =
            ["Age", "Gender", "Height", "ICUType"].contains(&name) || (name == "Weight" && clock == "00:00");
        if ["RecordID", ""].contains(&name) || (descriptor && value == -1.0) {
            continue;
        }
        let age = || start - (f64::from(value) * 365.25).round_ties_even() as i64 * DAY;
        let (time, code, value) = match name {
            "Age" => (Some(age()), BIRTH, None),
            "Gender" => (None, if value == 1.0 { MALE } else { FEMALE }, None),
            "ICUType" => (Some(at), ICU_TYPE, Some(value)),
            "Height" => (Some(at), HEIGHT, Some(value)),
            _ => (Some(at), number[name], Some(value)),
        };
        ward.items.push(Item { recorded_at: at, stay, time, code, value });
    }
    ward.items.sort_by_key(|item| (item.recorded_at, item.stay));
    Some(ward)
}

impl Ward {
    fn spec(&self) -> Arc<FeatureSpec> {
        let list = self.concepts.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
        let text = format!(
            "count_of_none = \"missing\"\n[[feature]]\nconcepts = [{list}]\nwindows = [\"encounter\"]\n\
             aggregates = [\"last\", \"min\", \"max\", \"mean\", \"count\"]\n[[feature]]\ndemographics = [\"age\", \"sex\"]\n\
             [[feature]]\nconcepts = [\"icu_type\"]\nwindows = [\"encounter\"]\naggregates = [\"last\"]\n"
        );
        let mut concepts: BTreeMap<String, String> =
            self.concepts.iter().map(|name| (name.clone(), "1".to_owned())).collect();
        concepts.insert("icu_type".to_owned(), "1".to_owned());
        Arc::new(FeatureSpec::parse("features.toml", &text, &concepts).unwrap())
    }

    pub(super) fn event<'a>(&'a self, i: usize, sources: &'a [String]) -> EventRef<'a> {
        let item = &self.items[i];
        let concept = match self.concepts.get(usize::from(item.code)) {
            Some(name) => {
                let (low, high) = self.ranges[name];
                item.value.filter(|value| (low..=high).contains(value)).map(|_| name.as_str())
            }
            None => (item.code == ICU_TYPE).then_some("icu_type"),
        };
        let mut key = [0; 16];
        key.copy_from_slice(&(i as u128 + 1).wrapping_mul(0xda94_2042_e4dd_58b5_9e37_79b9_7f4a_7c15).to_le_bytes());
        EventRef {
            subject: Some(SubjectId(i64::from(item.stay).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64))),
            time: item.time,
            code: &self.codes[usize::from(item.code)],
            numeric_value: item.value,
            text_value: None,
            unit: item.value.map(|_| "mmol/L"),
            concept,
            implausible: false,
            recorded_at: item.recorded_at,
            op: Op::Assert,
            event_key: EventKey(key),
            encounter_id: Some(&self.stays[item.stay as usize]),
            source: &sources[i % sources.len()],
        }
    }
}

/// The state of `peers/ward.py`: for each concept last, min, max, sum, count; age, sex, ICU type.
#[derive(Clone)]
struct Running {
    concepts: [[f64; 5]; 37],
    rest: [f64; 3],
    start: Option<Micros>,
    next: i64,
}

impl Running {
    fn row(&self) -> Vec<f32> {
        let of = |[last, min, max, sum, count]: &[f64; 5]| [*last, *min, *max, sum / count, *count];
        self.concepts.iter().flat_map(of).chain(self.rest).map(|value| value as f32).collect()
    }

    fn update(&mut self, item: &Item, plausible: bool) {
        let value = f64::from(item.value.unwrap_or(f32::NAN));
        match item.code {
            START => self.start = Some(item.recorded_at),
            BIRTH => {
                let lived = item.recorded_at - item.time.unwrap();
                self.rest[0] = (lived / SECOND) as f64 / 86400.0 / 365.25;
            }
            FEMALE => self.rest[1] = 0.0,
            MALE => self.rest[1] = 1.0,
            ICU_TYPE => self.rest[2] = value,
            code if code < 37 && plausible => {
                let state = &mut self.concepts[usize::from(code)];
                let [_, min, max, sum, count] = *state;
                *state = if count.is_nan() {
                    [value, value, value, value, 1.0]
                } else {
                    [value, min.min(value), max.max(value), sum + value, count + 1.0]
                };
            }
            _ => {}
        }
    }
}

#[test]
fn invariant_06_a_ward_has_the_vectors_of_a_running_state() {
    let Some(ward) = ward() else { return };
    let mut fold = Fold::new(ward.spec(), vec![trigger("encounter = \"ICU\"\nevery = \"1h\"\nuntil = \"48h\"")]);
    let fresh = Running { concepts: [[f64::NAN; 5]; 37], rest: [f64::NAN; 3], start: None, next: 1 };
    let mut states = vec![fresh; ward.stays.len()];
    let sources = ["raw.flat-0-1#0".to_owned()];
    let (mut due, mut scores) = (Due::new(), 0);
    for (i, item) in ward.items.iter().enumerate() {
        let event = ward.event(i, &sources);
        due.clear();
        fold.apply(&event, Some(&mut due));
        let state = &mut states[item.stay as usize];
        let hour = state.start.map_or(0, |start| (item.recorded_at - start) / HOUR).min(48);
        let hours: Vec<i64> = (state.next..=hour).collect();
        state.next += hours.len() as i64;
        let start = state.start.unwrap_or(0);
        let made: Vec<i64> = due.rows.iter().map(|row| (row.time - start) / HOUR).collect();
        assert_eq!(made, hours);
        if !hours.is_empty() {
            let row: Vec<u32> =
                state.row().iter().map(|value| if value.is_nan() { 0 } else { value.to_bits() }).collect();
            for made in 0..hours.len() {
                let bits = due.row(made).iter().map(|value| if value.is_nan() { 0 } else { value.to_bits() });
                assert!(bits.eq(row.iter().copied()), "event {i}");
            }
        }
        scores += hours.len();
        states[item.stay as usize].update(item, event.concept.is_some());
    }
    assert_eq!(scores, 186_611, "as many as peers/README.md says");
}

/// What this thread has computed so far: the machine may be shared.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[test]
#[ignore = "a measurement"]
fn how_fast_a_ward_is_folded() {
    let Some(ward) = ward() else { return };
    let sources: Vec<String> = (0..1024).map(|i| format!("raw.flat-{}-{}#0", i % 4, 100_000 + i * 37)).collect();
    for (what, silent) in [("with vectors", false), ("silent", true), ("with vectors", false), ("silent", true)] {
        let mut fold = Fold::new(ward.spec(), vec![trigger("encounter = \"ICU\"\nevery = \"1h\"\nuntil = \"48h\"")]);
        let (mut due, mut rows) = (Due::new(), 0);
        let (mut spent, events) = (0.0, ward.items.len());
        for first in (0..events).step_by(200_000) {
            let batch: Vec<EventRef<'_>> =
                (first..events.min(first + 200_000)).map(|i| ward.event(i, &sources)).collect();
            let before = cpu_seconds();
            for (i, event) in batch.iter().enumerate() {
                // As in the daemon, where what fell due in a batch is scored behind it.
                if i % 2_000 == 0 {
                    rows += due.rows.len();
                    due.clear();
                }
                fold.apply(event, (!silent).then_some(&mut due));
            }
            spent += cpu_seconds() - before;
        }
        rows += due.rows.len();
        println!(
            "{what}: {events} events, {rows} vectors in {:.3} CPU s: {:.2} M events/s; {} subjects, {:.1} MB, {:.1} bytes an event",
            spent,
            events as f64 / spent / 1e6,
            fold.subjects(),
            fold.bytes() as f64 / 1e6,
            fold.bytes() as f64 / events as f64,
        );
    }
}
