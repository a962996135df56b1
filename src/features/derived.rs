//! Concepts that follow from others by a formula: shock index, eGFR, the points of NEWS2.
//!
//! A derived concept has a value at every moment at which one of its inputs has, made of what
//! each input was at that moment: its last value, if that is no older than a span, or another
//! aggregate of the span before. So it has windows and aggregates like any concept, and what
//! comes late or is corrected changes it as if it had been known in time.
//!
//! Its samples are a cache of what they follow from, no part of the state: brought up to date
//! from the earliest change on, when they are looked at.

use super::aggregate::span_words;
use super::formula::Formula;
use super::series::{STATIC, Sample, Series, hours};
use super::spec::FeatureSpec;
use crate::events::{Micros, SECOND};

/// A moment that never comes: nothing is out of date.
pub(super) const FRESH: Micros = Micros::MAX;

/// Days of a year, on average.
const YEAR: f64 = 365.25;

/// What is made of the samples of an input up to a moment.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Take {
    Last,
    First,
    Min,
    Max,
    Sum,
    Mean,
    Count,
    /// Hours since the first.
    Hours,
}

impl Take {
    /// Every one, with its word.
    pub(super) const ALL: [(&'static str, Take); 8] = [
        ("last", Take::Last),
        ("first", Take::First),
        ("min", Take::Min),
        ("max", Take::Max),
        ("sum", Take::Sum),
        ("mean", Take::Mean),
        ("count", Take::Count),
        ("hours", Take::Hours),
    ];

    fn as_str(self) -> &'static str {
        Take::ALL.iter().find(|(_, take)| *take == self).map_or("", |(word, _)| word)
    }
}

/// What an input of a derived concept is of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Of {
    Series(u16),
    /// Years from birth to the moment.
    Age,
    /// 1 male, 0 female.
    Sex,
    /// A concept that the site does not have: always missing.
    Nothing,
}

/// An input of a derived concept.
#[derive(Copy, Clone, Debug)]
pub(super) struct Input {
    pub(super) of: Of,
    pub(super) take: Take,
    /// How far back from the moment; `None`: ever.
    pub(super) within: Option<Micros>,
}

/// A derived concept.
#[derive(Clone, Debug)]
pub(super) struct Derived {
    /// The series that its samples are in.
    pub(super) series: u16,
    pub(super) formula: Formula,
    /// Those of the formula, in its order.
    pub(super) inputs: Vec<Input>,
    /// What it is, for people.
    pub(super) title: String,
    /// Where that is written: a paper, or a standard's section.
    pub(super) source: String,
}

impl Derived {
    /// The series that it follows from.
    pub(super) fn series_of_inputs(&self) -> Vec<u16> {
        let series = self.inputs.iter().filter_map(|input| if let Of::Series(of) = input.of { Some(of) } else { None });
        let mut series: Vec<u16> = series.collect();
        series.sort_unstable();
        series.dedup();
        series
    }

    /// Whether it follows from birth or sex.
    pub(super) fn follows_from_person(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input.of, Of::Age | Of::Sex))
    }

    /// Everything that its values follow from, beside the inputs' own meaning, in one line.
    pub(super) fn meaning(&self) -> String {
        format!("{} {}", self.formula.text(), self.inputs_in_words())
    }

    /// What each input is: `(platelets: last within 24 h, age)`.
    pub(super) fn inputs_in_words(&self) -> String {
        let words =
            self.formula.inputs().iter().zip(&self.inputs).map(|(name, input)| match (input.of, input.within) {
                (Of::Age | Of::Sex, _) => name.clone(),
                (Of::Nothing, _) => format!("{name}: not in concepts.csv"),
                (Of::Series(_), Some(within)) => {
                    format!("{name}: {} within {}", input.take.as_str(), span_words(within))
                }
                (Of::Series(_), None) => format!("{name}: {} ever", input.take.as_str()),
            });
        format!("({})", words.collect::<Vec<_>>().join(", "))
    }
}

/// Who a derived value is of.
#[derive(Copy, Clone, Debug)]
pub(super) struct Person {
    pub(super) birth: Option<Micros>,
    pub(super) sex: Option<f32>,
}

/// Brings every derived series up to date that changed from the moments in `stale` on; they are
/// [`FRESH`] afterwards. `series` are those of the spec, `stale` one for each of its derived.
pub(super) fn refresh(spec: &FeatureSpec, series: &mut [Series], stale: &mut [Micros], person: Person) {
    for (place, derived) in spec.derived().iter().enumerate() {
        let Some(from) = stale.get_mut(place).map(|stale| std::mem::replace(stale, FRESH)).filter(|at| *at != FRESH)
        else {
            continue;
        };
        let Some(own) = series.get_mut(usize::from(derived.series)) else { continue };
        let mut own = std::mem::take(own);
        own.cut(from);
        extend(derived, &mut own, series, from, person);
        if let Some(empty) = series.get_mut(usize::from(derived.series)) {
            *empty = own;
        }
        for dependent in spec.dependents(derived.series) {
            if let Some(stale) = stale.get_mut(usize::from(*dependent)) {
                *stale = (*stale).min(from);
            }
        }
    }
}

/// Adds the samples of a derived concept from a moment on.
fn extend(derived: &Derived, own: &mut Series, series: &[Series], from: Micros, person: Person) {
    let samples_of = |input: &Input| match input.of {
        Of::Series(of) => series.get(usize::from(of)).map_or(&[][..], Series::samples),
        Of::Age | Of::Sex | Of::Nothing => &[],
    };
    let of: Vec<&[Sample]> = derived.inputs.iter().map(samples_of).collect();
    let mut ends: Vec<usize> = of.iter().map(|of| of.partition_point(|sample| sample.time < from)).collect();
    let mut values = vec![f64::NAN; of.len()];
    let next = |ends: &[usize]| of.iter().zip(ends).filter_map(|(of, end)| Some(of.get(*end)?.time)).min();
    while let Some(at) = next(&ends) {
        for (i, input) in derived.inputs.iter().enumerate() {
            while of[i].get(ends[i]).is_some_and(|sample| sample.time == at) {
                ends[i] += 1;
            }
            values[i] = match input.of {
                Of::Series(_) => taken(input, &of[i][..ends[i]], at),
                Of::Age => age(person.birth, at),
                Of::Sex => person.sex.map_or(f64::NAN, f64::from),
                Of::Nothing => f64::NAN,
            };
        }
        let value = derived.formula.value(&|place| values[place]) as f32;
        if value.is_finite() {
            own.insert(Sample { time: at, value, fact: 0 });
        }
    }
}

/// Whether a sample of that time counts at a moment.
pub(super) fn is_within(within: Option<Micros>, time: Micros, at: Micros) -> bool {
    match within {
        None => true,
        // A static sample is as old as can be, except to other static ones.
        Some(_) if time == STATIC => at == STATIC,
        Some(within) => time > at.saturating_sub(within),
    }
}

/// What an input is at a moment, of its samples up to then.
fn taken(input: &Input, samples: &[Sample], at: Micros) -> f64 {
    let is_within = |sample: &Sample| is_within(input.within, sample.time, at);
    let Some(last) = samples.last().filter(|last| is_within(last)) else {
        return if input.take == Take::Count { 0.0 } else { f64::NAN };
    };
    if input.take == Take::Last {
        return f64::from(last.value);
    }
    let samples = &samples[samples.partition_point(|sample| !is_within(sample))..];
    let values = samples.iter().map(|sample| f64::from(sample.value));
    match input.take {
        Take::Last => f64::from(last.value),
        Take::First => samples.first().map_or(f64::NAN, |first| f64::from(first.value)),
        Take::Min => values.fold(f64::INFINITY, f64::min),
        Take::Max => values.fold(f64::NEG_INFINITY, f64::max),
        Take::Sum => values.sum(),
        Take::Mean => values.sum::<f64>() / samples.len() as f64,
        Take::Count => samples.len() as f64,
        Take::Hours => {
            let dated = samples.iter().find(|sample| sample.time != STATIC);
            dated.map_or(f64::NAN, |first| hours(first.time, at))
        }
    }
}

/// Years from birth to a moment; NaN if either is not known, or it lies before birth.
fn age(birth: Option<Micros>, at: Micros) -> f64 {
    match birth {
        Some(birth) if at != STATIC && at >= birth => years(birth, at),
        _ => f64::NAN,
    }
}

/// Years from birth to a moment.
pub(super) fn years(birth: Micros, at: Micros) -> f64 {
    at.saturating_sub(birth) as f64 / SECOND as f64 / 86_400.0 / YEAR
}
