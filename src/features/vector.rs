//! The samples of a subject into one row of features.

use super::series::{STATIC, Sample, Series, Spread, deviation, hours, slope};
use super::spec::{Aggregate, Demographic, FeatureSpec, Pane, Window};
use crate::events::{DAY, HOUR, Micros, SECOND};

/// Days of a year, on average.
const YEAR: f64 = 365.25;

/// What a row is made of, beside the samples.
pub(super) struct Moment {
    /// Date of birth.
    pub(super) birth: Option<Micros>,
    /// 1 male, 0 female.
    pub(super) sex: Option<f32>,
    /// Start of the prediction's encounter.
    pub(super) start: Option<Micros>,
    /// The moment that is predicted from.
    pub(super) at: Micros,
}

/// Fills a row that is blank; what is unknown stays as it is. `series` are those of the spec, or
/// none if there never was a sample.
pub(super) fn fill(
    spec: &FeatureSpec,
    series: &mut [Series],
    moment: &Moment,
    values: &mut [f32],
    observed: &mut [Micros],
) {
    for (panes, series) in spec.panes().iter().zip(series) {
        if !series.samples().is_empty() {
            fill_series(panes, series, moment, values, observed);
        }
    }
    for (demographic, column) in spec.demographics() {
        if let Some(value) = demographic_of(*demographic, moment) {
            values[*column as usize] = number(value);
        }
    }
}

fn fill_series(panes: &[Pane], series: &mut Series, moment: &Moment, values: &mut [f32], observed: &mut [Micros]) {
    let mut last: Option<(usize, Spread)> = None;
    let mut may_run = true;
    for pane in panes {
        let from = match pane.window {
            Window::Back(span) => moment.at.saturating_sub(span).saturating_add(1),
            Window::Ever => Micros::MIN,
            Window::Encounter => match moment.start {
                Some(start) => start,
                None => continue,
            },
        };
        let range = series.between(from, moment.at);
        if range.is_empty() {
            continue;
        }
        let mut spread = Spread::default();
        if pane.needs_spread {
            spread = match last {
                // All ranges end together: of the same length they are the same.
                Some((length, known)) if length == range.len() => known,
                // One window that begins where it began at the last prediction goes on from there.
                _ if may_run && !matches!(pane.window, Window::Back(_)) => {
                    may_run = false;
                    series.running_spread(from, range.clone())
                }
                _ => Spread::of(series.samples().get(range.clone()).unwrap_or(&[])),
            };
            last = Some((range.len(), spread));
        }
        let Some(last) = series.last_of(&range) else { continue };
        let looked_at = Look { samples: series.samples().get(range).unwrap_or(&[]), last, spread };
        fill_pane(pane, &looked_at, moment.at, values, observed);
    }
}

/// The samples of a window; there is one at least.
struct Look<'a> {
    samples: &'a [Sample],
    last: Sample,
    /// Of nothing where no column needs it.
    spread: Spread,
}

fn fill_pane(pane: &Pane, look: &Look<'_>, at: Micros, values: &mut [f32], observed: &mut [Micros]) {
    let Look { samples, last, spread } = look;
    let count = samples.len() as f64;
    for (aggregate, column) in &pane.columns {
        let mut time = last.time;
        let value = match aggregate {
            Aggregate::Last => last.value,
            Aggregate::First => samples.first().map_or(f32::NAN, |first| {
                time = first.time;
                first.value
            }),
            Aggregate::Count => samples.len() as f32,
            Aggregate::Min => {
                time = spread.min_at;
                spread.min
            }
            Aggregate::Max => {
                time = spread.max_at;
                spread.max
            }
            Aggregate::Mean => number(spread.sum / count),
            Aggregate::Std => number(deviation(samples, spread.sum).unwrap_or(f64::NAN)),
            Aggregate::Slope => number(slope(samples).unwrap_or(f64::NAN)),
            Aggregate::TimeSinceLast if last.time == STATIC => f32::NAN,
            Aggregate::TimeSinceLast => number(hours(last.time, at)),
            Aggregate::Ever => 1.0,
        };
        // One sample has no deviation: nothing was observed of it then.
        if !value.is_nan() {
            values[*column as usize] = value;
            observed[*column as usize] = time;
        }
    }
}

fn demographic_of(demographic: Demographic, moment: &Moment) -> Option<f64> {
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
