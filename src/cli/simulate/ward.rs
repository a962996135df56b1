//! The simulated hospital: who comes, how ill they become, what is measured and when it is known.
//!
//! Each patient has a hidden severity between 0 and 1 or so, which moves what is measured away
//! from the patient's own usual values. Some 15 % deteriorate over 12 to 24 hours and then go to
//! intensive care or die; others are ill for a while and recover, and a few fall ill within
//! hours, so that the outcome can be foreseen often but not always.

use std::collections::BTreeMap;
use std::vec;

use super::dice::Dice;
use super::signals::{COMORBIDITIES, Coding, Illness, REASONS, Reason, Rhythm, SIGNALS, Signal, VASOPRESSOR};
use crate::events::{DAY, HOUR, Micros, SECOND};

/// 9000-01-01, the latest a simulation starts: its times stay within four-digit years.
const LATEST: Micros = 221_845_392_000 * SECOND;

/// One fact of one patient, as a source of the hospital sends it.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::cli) struct Record {
    /// Number of the patient, from 0.
    pub(super) patient: usize,
    /// Number of the fact among the patient's. A redelivery, a correction and a retraction keep it.
    pub(super) fact: usize,
    /// When it happened; `None`: static.
    pub(super) time: Option<Micros>,
    /// When it became known.
    pub(super) recorded: Micros,
    /// When it is sent: when it became known, or later for a redelivery.
    pub(super) sent: Micros,
    pub(super) what: What,
    pub(super) status: Status,
}

/// What a record states.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) enum What {
    Admitted,
    Born(Gender),
    Gender(Gender),
    Diagnosed(&'static Coding),
    Given(&'static Coding),
    Measured(&'static Signal, Measurement),
    IcuStart,
    IcuEnd { start: Micros },
    Died,
    Discharged { start: Micros, alive: bool },
}

#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Measurement {
    pub(super) value: f64,
    pub(super) unit: &'static str,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Gender {
    Female,
    Male,
}

/// What a record does to its fact.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Final,
    Corrected,
    EnteredInError,
}

/// A hospital's records in the order they are sent; the same for the same arguments.
///
/// Memory is bounded by who is in hospital at one time: a patient's records are made at admission.
#[derive(Debug)]
pub(in crate::cli) struct Hospital {
    seed: u64,
    patients: usize,
    start: Micros,
    end: Micros,
    /// Number of the next patient to admit.
    next: usize,
    /// Records to come of those in hospital, by when the next is sent.
    inside: BTreeMap<(Micros, usize), vec::IntoIter<Record>>,
}

impl Hospital {
    /// A hospital that admits `patients` one after the other in the first three quarters of
    /// `hours` from `start`, and falls silent after `hours`, whoever is still inside.
    pub(in crate::cli) fn new(seed: u64, patients: usize, hours: u32, start: Micros) -> Self {
        let start = start.clamp(0, LATEST) / SECOND * SECOND;
        Hospital { seed, patients, start, end: start + i64::from(hours) * HOUR, next: 0, inside: BTreeMap::new() }
    }

    /// The seed it was made with, which is part of its patients' identifiers.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// When patient `number` is admitted: in a slot of its own, so that admissions are in order.
    fn admission(&self, number: usize) -> Micros {
        let span = (self.end - self.start) as f64 * 0.75;
        let slot = span / self.patients as f64;
        let within = Dice::new(self.seed, number as u64).unit();
        let offset = ((number as f64 + within) * slot) as Micros;
        self.start + offset / SECOND * SECOND
    }

    fn admit(&mut self, number: usize, at: Micros) {
        let mut records = Stay::new(self.seed, number, at).records();
        // Nothing is known after the end, so a stay may have none.
        records.retain(|record| record.sent <= self.end);
        let records = records.into_iter();
        if let Some(first) = records.as_slice().first() {
            self.inside.insert((first.sent, number), records);
        }
    }
}

impl Iterator for Hospital {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while self.next < self.patients {
            let at = self.admission(self.next);
            if self.inside.first_key_value().is_some_and(|(&(sent, _), _)| sent < at) {
                break;
            }
            self.admit(self.next, at);
            self.next += 1;
        }
        let ((_, number), mut records) = self.inside.pop_first()?;
        let record = records.next();
        if let Some(next) = records.as_slice().first() {
            self.inside.insert((next.sent, number), records);
        }
        record
    }
}

/// How a stay ends, hours since admission.
#[derive(Copy, Clone, PartialEq, Debug)]
enum End {
    Home { at: f64 },
    Ward { died: f64 },
    Icu { from: f64, to: f64, died: bool, home: f64 },
}

/// One patient's stay.
struct Stay {
    number: usize,
    admitted: Micros,
    dice: Dice,
    gender: Gender,
    age: f64,
    reason: &'static Reason,
    comorbidities: Vec<&'static Coding>,
    /// The patient's own usual value and own reaction to illness, by signal.
    usual: [f64; SIGNALS.len()],
    reaction: [f64; SIGNALS.len()],
    /// Whether the patient's devices, by signal, report in the other unit.
    other_unit: [bool; SIGNALS.len()],
    /// Severity over the hours since admission, linear between these points.
    course: Vec<(f64, f64)>,
    end: End,
    facts: usize,
    records: Vec<Record>,
}

impl Stay {
    fn new(seed: u64, number: usize, admitted: Micros) -> Self {
        let mut dice = Dice::new(!seed, number as u64);
        let gender = if dice.chance(0.48) { Gender::Female } else { Gender::Male };
        // The larger of two chances: hospitals are full of the old.
        let age = 20.0 + 75.0 * dice.unit().max(dice.unit());
        let reason = dice.one(&REASONS);
        let burden = (age - 20.0) / 75.0;
        let comorbidities: Vec<&Coding> = COMORBIDITIES.iter().filter(|_| dice.chance(0.45 * burden)).collect();
        let frailty = 0.65 * burden + 0.12 * comorbidities.len() as f64;
        let (course, end) = course(&mut dice, frailty);
        // Devices belong to wards, so vital signs share one choice and blood samples another.
        let (bedside, laboratory) = (dice.chance(0.15), dice.chance(0.1));
        let mut stay = Stay {
            number,
            admitted,
            gender,
            age,
            reason,
            comorbidities,
            usual: [0.0; SIGNALS.len()],
            reaction: [0.0; SIGNALS.len()],
            other_unit: [false; SIGNALS.len()],
            course,
            end,
            facts: 0,
            records: Vec::new(),
            dice,
        };
        for (i, signal) in SIGNALS.iter().enumerate() {
            stay.usual[i] = signal.usual.0 + signal.usual.1 * stay.dice.normal() + stay.habit(signal);
            stay.reaction[i] = signal.effect[stay.reason.illness as usize] * stay.dice.between(0.4, 1.2);
            let is_vital = matches!(signal.rhythm, Rhythm::Round | Rhythm::FourthRound);
            stay.other_unit[i] = if is_vital { bedside } else { laboratory };
        }
        stay
    }

    /// How the reason for admission and old illnesses move what is usual, severe or not.
    fn habit(&self, signal: &Signal) -> f64 {
        let has = |code| self.reason.diagnosis.code == code || self.comorbidities.iter().any(|one| one.code == code);
        let infected = self.reason.illness == Illness::Septic || has("J18.9");
        match signal.coding.code {
            "2708-6" if has("J44.1") => -4.0,
            "9279-1" if has("J44.1") => 3.0,
            "2160-0" if has("N18.30") => 0.9,
            "8480-6" if has("I10") => 10.0,
            "8867-4" if has("I48.91") => 9.0,
            "8310-5" if infected => 0.4,
            "6690-2" if infected => 3.0,
            "1988-5" if infected => 60.0,
            _ => 0.0,
        }
    }

    fn records(mut self) -> Vec<Record> {
        let born = ((self.admitted - (self.age * 365.25) as i64 * DAY) / DAY) * DAY;
        self.state(0.0, 0.0, What::Admitted);
        let born = Record { time: Some(born), ..self.record(0.0, 0.0, What::Born(self.gender)) };
        let gender = Record { time: None, ..self.record(0.0, 0.0, What::Gender(self.gender)) };
        self.records.extend([born, gender]);
        for coding in self.comorbidities.clone() {
            self.state(0.0, 0.5, What::Diagnosed(coding));
        }
        let delay = self.dice.between(1.0, 5.0);
        self.state(0.0, delay, What::Diagnosed(&self.reason.diagnosis));
        let (end, alive) = match self.end {
            End::Home { at } => (at, true),
            End::Ward { died } => (died, false),
            End::Icu { to, died: true, .. } => (to, false),
            End::Icu { home, .. } => (home, true),
        };
        self.rounds(end);
        self.samples(end);
        self.drugs(end);
        if let End::Icu { from, to, died, .. } = self.end {
            let start = self.at(from);
            self.state(from, from, What::IcuStart);
            if !died {
                self.state(to, to, What::IcuEnd { start });
            }
        }
        if !alive {
            self.state(end, end, What::Died);
            if let End::Icu { from, to, .. } = self.end {
                self.state(to, to, What::IcuEnd { start: self.at(from) });
            }
        }
        self.state(end, end, What::Discharged { start: self.admitted, alive });
        self.slips();
        // Stable: what is sent at one time keeps the order in which it was stated.
        self.records.sort_by_key(|record| record.sent);
        self.records
    }

    /// The nurse's rounds: every hour or so, every half hour for the very ill.
    fn rounds(&mut self, end: f64) {
        let mut hour = self.dice.between(0.1, 0.5);
        let mut round = 0;
        while hour < end {
            let severity = self.severity(hour);
            let known = hour + self.dice.between(0.02, 0.2);
            for (i, signal) in SIGNALS.iter().enumerate() {
                let due = match signal.rhythm {
                    Rhythm::Round => true,
                    Rhythm::FourthRound => round % 4 == 0,
                    Rhythm::Sample | Rhythm::SomeSamples => false,
                };
                // Now and then a device is off the patient.
                if due && !self.dice.chance(0.04) {
                    self.measure(i, signal, hour, known, severity);
                }
            }
            round += 1;
            hour += if severity > 0.6 { self.dice.between(0.4, 0.7) } else { self.dice.between(0.75, 1.3) };
        }
    }

    /// Blood samples: every 12 hours or so, every 6 for the ill; known one or two hours later.
    fn samples(&mut self, end: f64) {
        let mut hour = self.dice.between(0.3, 2.0);
        while hour < end {
            let severity = self.severity(hour);
            let known = hour + self.dice.between(0.7, 2.5);
            let all = severity > 0.4 || self.dice.chance(0.35);
            for (i, signal) in SIGNALS.iter().enumerate() {
                if signal.rhythm == Rhythm::Sample || (signal.rhythm == Rhythm::SomeSamples && all) {
                    self.measure(i, signal, hour, known, severity);
                }
            }
            hour += if severity > 0.3 { self.dice.between(5.0, 8.0) } else { self.dice.between(9.0, 14.0) };
        }
    }

    /// The drug of the admission's reason twice a day, a vasopressor in intensive care.
    fn drugs(&mut self, end: f64) {
        let mut hour = self.dice.between(2.0, 6.0);
        while hour < end {
            self.state(hour, hour + 0.1, What::Given(&self.reason.drug));
            hour += 12.0;
        }
        if let End::Icu { from, .. } = self.end
            && self.reason.illness != Illness::Respiratory
        {
            let hour = from + self.dice.between(0.2, 1.5);
            if hour < end {
                self.state(hour, hour + 0.1, What::Given(&VASOPRESSOR));
            }
        }
    }

    fn measure(&mut self, i: usize, signal: &'static Signal, hour: f64, known: f64, severity: f64) {
        let value = self.usual[i] + self.reaction[i] * severity + signal.noise * self.dice.normal();
        let value = value.clamp(signal.range.0, signal.range.1);
        let other = signal.other.as_ref().filter(|_| self.other_unit[i]);
        let (value, unit, decimals) = match other {
            Some(other) => (value * other.scale + other.offset, other.unit, other.decimals),
            None => (value, signal.unit, signal.decimals),
        };
        self.state(hour, known, What::Measured(signal, Measurement { value: round(value, decimals), unit }));
    }

    /// What goes wrong on the way: records sent twice, mistyped values set right, values of
    /// another patient withdrawn.
    fn slips(&mut self) {
        for i in 0..self.records.len() {
            let record = self.records[i].clone();
            let later = record.recorded + minutes(self.dice.between(10.0, 90.0));
            if self.dice.chance(0.004) {
                self.records.push(Record { sent: later, ..record });
                continue;
            }
            let What::Measured(signal, measured) = record.what else { continue };
            if self.dice.chance(0.003) {
                let slip = Measurement { value: round(measured.value * 10.0, signal.decimals), ..measured };
                self.records[i].what = What::Measured(signal, slip);
                self.records.push(Record { recorded: later, sent: later, status: Status::Corrected, ..record });
            } else if self.dice.chance(0.001) {
                self.records.push(Record { recorded: later, sent: later, status: Status::EnteredInError, ..record });
            }
        }
    }

    fn severity(&self, hour: f64) -> f64 {
        let after = self.course.partition_point(|point| point.0 <= hour);
        match (after.checked_sub(1).map(|before| self.course[before]), self.course.get(after)) {
            (Some(from), Some(to)) => from.1 + (to.1 - from.1) * (hour - from.0) / (to.0 - from.0),
            (Some(last), None) => last.1,
            (None, Some(first)) => first.1,
            (None, None) => 0.0,
        }
    }

    fn at(&self, hour: f64) -> Micros {
        self.admitted + minutes(hour * 60.0)
    }

    fn state(&mut self, hour: f64, known: f64, what: What) {
        let record = self.record(hour, known, what);
        self.records.push(record);
    }

    fn record(&mut self, hour: f64, known: f64, what: What) -> Record {
        let recorded = self.at(known);
        let fact = self.facts;
        self.facts += 1;
        Record {
            patient: self.number,
            fact,
            time: Some(self.at(hour)),
            recorded,
            sent: recorded,
            what,
            status: Status::Final,
        }
    }
}

/// Severity over the hours of a stay, and how the stay ends.
fn course(dice: &mut Dice, frailty: f64) -> (Vec<(f64, f64)>, End) {
    let onset = dice.between(5.0, 66.0);
    if dice.chance(0.01 + 0.27 * frailty) {
        // Most worsen over half a day or a day; a few within hours, which nobody foresees.
        let ramp = if dice.chance(0.07) { dice.between(1.0, 3.0) } else { dice.between(12.0, 24.0) };
        let peak = dice.between(0.75, 1.1);
        let event = onset + ramp;
        let mut course = vec![(onset, 0.0), (onset + 0.35 * ramp, 0.5 * peak), (event, peak)];
        let end = if dice.chance(0.8) {
            let to = event + dice.between(24.0, 84.0);
            let died = dice.chance(0.2);
            course.push((to, if died { 1.2 } else { 0.1 }));
            course.push((to + 24.0, 0.0));
            End::Icu { from: event, to, died, home: to + dice.between(30.0, 72.0) }
        } else {
            End::Ward { died: event }
        };
        return (course, end);
    }
    // Others are ill for a while and mend under treatment.
    let mut course = Vec::new();
    if dice.chance(0.25) {
        let (peak, rise) = (dice.between(0.15, 0.5), dice.between(4.0, 12.0));
        course = vec![(onset, 0.0), (onset + rise, peak), (onset + rise + dice.between(8.0, 24.0), 0.0)];
    }
    (course, End::Home { at: dice.between(30.0, 140.0) })
}

fn minutes(minutes: f64) -> Micros {
    (minutes * 60.0) as i64 * SECOND
}

/// To so many decimals, at most two.
fn round(value: f64, decimals: usize) -> f64 {
    let scale = [1.0, 10.0, 100.0][decimals];
    (value * scale).round() / scale
}
