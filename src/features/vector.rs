//! The samples of a subject into one row of features.

use super::series::{STATIC, Sample, Spread, between, deviation, hours, slope, spread};
use super::spec::{Aggregate, Demographic, FeatureSpec, Pane, Window};
use crate::events::{DAY, HOUR, Micros, SECOND};

/// Days of a year, on average.
const YEAR: f64 = 365.25;

/// What a row is made of.
pub(super) struct Moment<'a> {
    /// Samples by series; empty if there never was one.
    pub(super) series: &'a [Vec<Sample>],
    /// Date of birth.
    pub(super) birth: Option<Micros>,
    /// 1 male, 0 female.
    pub(super) sex: Option<f32>,
    /// Start of the prediction's encounter.
    pub(super) start: Option<Micros>,
    /// The moment that is predicted from.
    pub(super) at: Micros,
}

/// Fills a row that is blank; what is unknown stays as it is.
pub(super) fn fill(spec: &FeatureSpec, moment: &Moment<'_>, values: &mut [f32], observed: &mut [Micros]) {
    for (panes, series) in spec.panes().iter().zip(moment.series) {
        if series.is_empty() {
            continue;
        }
        let mut last: Option<(usize, Option<Spread>)> = None;
        for pane in panes {
            let samples = looked_at(pane.window, series, moment);
            if samples.is_empty() {
                continue;
            }
            // A stay shorter than a window makes both the same samples: they all end together.
            let spread = match last {
                Some((length, Some(known))) if length == samples.len() => Some(known),
                _ if pane.needs_spread => spread(samples),
                _ => None,
            };
            last = Some((samples.len(), spread));
            fill_pane(pane, samples, spread, moment.at, values, observed);
        }
    }
    for (demographic, column) in spec.demographics() {
        if let Some(value) = demographic_of(*demographic, moment) {
            values[*column as usize] = number(value);
        }
    }
}

fn looked_at<'s>(window: Window, series: &'s [Sample], moment: &Moment<'_>) -> &'s [Sample] {
    let from = match window {
        Window::Back(span) => moment.at.saturating_sub(span).saturating_add(1),
        Window::Ever => Micros::MIN,
        Window::Encounter => match moment.start {
            Some(start) => start,
            None => return &[],
        },
    };
    between(series, from, moment.at)
}

fn fill_pane(
    pane: &Pane,
    samples: &[Sample],
    spread: Option<Spread>,
    at: Micros,
    values: &mut [f32],
    observed: &mut [Micros],
) {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return };
    let count = samples.len() as f64;
    for (aggregate, column) in &pane.columns {
        let of_spread = |pick: fn(&Spread) -> (f32, Micros)| spread.as_ref().map_or((f32::NAN, last.time), pick);
        let (value, time) = match aggregate {
            Aggregate::Last => (last.value, last.time),
            Aggregate::First => (first.value, first.time),
            Aggregate::Count => (samples.len() as f32, last.time),
            Aggregate::Min => of_spread(|spread| (spread.min, spread.min_at)),
            Aggregate::Max => of_spread(|spread| (spread.max, spread.max_at)),
            Aggregate::Mean => (number(spread.map_or(f64::NAN, |spread| spread.sum / count)), last.time),
            Aggregate::Std => {
                (number(spread.and_then(|spread| deviation(samples, spread.sum)).unwrap_or(f64::NAN)), last.time)
            }
            Aggregate::Slope => (number(slope(samples).unwrap_or(f64::NAN)), last.time),
            Aggregate::TimeSinceLast if last.time == STATIC => (f32::NAN, last.time),
            Aggregate::TimeSinceLast => (number(hours(last.time, at)), last.time),
            Aggregate::Ever => (1.0, last.time),
        };
        // One sample has no deviation: nothing was observed of it then.
        if !value.is_nan() {
            values[*column as usize] = value;
            observed[*column as usize] = time;
        }
    }
}

fn demographic_of(demographic: Demographic, moment: &Moment<'_>) -> Option<f64> {
    match demographic {
        Demographic::Age => {
            let lived = moment.start.unwrap_or(moment.at).saturating_sub(moment.birth?);
            Some(lived as f64 / SECOND as f64 / 86_400.0 / YEAR)
        }
        Demographic::Sex => moment.sex.map(f64::from),
        Demographic::HoursInEncounter => Some(hours(moment.start?, moment.at)),
        Demographic::HourOfDay => Some(moment.at.rem_euclid(DAY) as f64 / HOUR as f64),
    }
}

/// The number of a feature: what f32 cannot hold is missing, so that no model meets an infinity.
fn number(value: f64) -> f32 {
    let value = value as f32;
    if value.is_finite() { value } else { f32::NAN }
}
