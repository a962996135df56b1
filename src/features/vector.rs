//! The samples of a subject into one row of features.

use super::NONE;
use super::aggregate::{Aggregate, Demographic, Window};
use super::derived::years;
use super::due::NOT_OBSERVED;
use super::series::{STATIC, Sample, Series, Spread, deviation, distinct, hours, median, slope};
use super::spec::{FeatureSpec, Pane};
use super::text::Held;
use crate::events::{DAY, HOUR, Micros};

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
/// none if there never was a sample; `held` is what their texts hold.
pub(super) fn fill(
    spec: &FeatureSpec,
    series: &mut [Series],
    held: &Held,
    moment: &Moment,
    values: &mut [f32],
    observed: &mut [Micros],
) {
    for (panes, series) in spec.panes().iter().zip(&mut *series) {
        if !series.samples().is_empty() {
            fill_series(panes, series, moment, values, observed);
        }
    }
    for texts in spec.texts() {
        texts.fill(series, held, moment, values, observed);
    }
    for (demographic, column) in spec.demographics() {
        if let Some(value) = demographic_of(*demographic, moment) {
            values[*column as usize] = number(value);
        }
    }
    for row in spec.formulas() {
        let value = number(row.formula.value(&|place| f64::from(values[row.inputs[place] as usize])));
        if !value.is_nan() {
            let times = row.inputs.iter().map(|column| observed[*column as usize]);
            observed[row.column as usize] = times.max().unwrap_or(NOT_OBSERVED);
            values[row.column as usize] = value;
        }
    }
    if let Some(grid) = spec.grid() {
        grid.fill(series, moment.at, values, observed);
    }
}

/// The earliest time within a window; `None` of an encounter where there is none.
pub(super) fn since(window: Window, moment: &Moment) -> Option<Micros> {
    match window {
        Window::Back(span) => Some(moment.at.saturating_sub(span).saturating_add(1)),
        Window::Ever => Some(Micros::MIN),
        Window::Encounter => moment.start,
    }
}

fn fill_series(panes: &[Pane], series: &mut Series, moment: &Moment, values: &mut [f32], observed: &mut [Micros]) {
    let mut last: Option<(usize, Spread)> = None;
    let mut may_run = true;
    for pane in panes {
        let Some(from) = since(pane.window, moment) else { continue };
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
                _ => series.spread(range.clone()),
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
    for column in &pane.columns {
        let mut time = last.time;
        let value = match column.aggregate {
            aggregate if column.category != NONE => {
                let (value, since) = of_category(aggregate, f32::from(column.category), samples, at);
                time = since;
                value
            }
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
            Aggregate::Change => match samples {
                [first, _, ..] => number(f64::from(last.value) - f64::from(first.value)),
                _ => f32::NAN,
            },
            Aggregate::Range => number(f64::from(spread.max) - f64::from(spread.min)),
            Aggregate::Sum => number(spread.sum),
            Aggregate::Median => number(median(samples)),
            Aggregate::Distinct => distinct(samples) as f32,
            Aggregate::Mean => number(spread.sum / count),
            Aggregate::Std => number(deviation(samples, spread.sum).unwrap_or(f64::NAN)),
            Aggregate::Slope => number(slope(samples).unwrap_or(f64::NAN)),
            Aggregate::TimeSinceLast if last.time == STATIC => f32::NAN,
            Aggregate::TimeSinceLast => number(hours(last.time, at)),
            Aggregate::Ever => 1.0,
        };
        // One sample has no deviation: nothing was observed of it then.
        if !value.is_nan() {
            values[column.column as usize] = value;
            observed[column.column as usize] = time;
        }
    }
}

/// An aggregate of those samples of texts that are of a category, and when it was observed.
fn of_category(aggregate: Aggregate, category: f32, samples: &[Sample], at: Micros) -> (f32, Micros) {
    let is_of = |sample: &&Sample| sample.value == category;
    let last_of = samples.iter().rfind(is_of);
    let edge = match aggregate {
        Aggregate::First => samples.first(),
        Aggregate::Last => samples.last(),
        _ => last_of.or(samples.last()),
    };
    let time = edge.map_or(NOT_OBSERVED, |edge| edge.time);
    let value = match aggregate {
        Aggregate::First | Aggregate::Last => edge.map_or(f32::NAN, |edge| f32::from(u8::from(is_of(&edge)))),
        Aggregate::Count => samples.iter().filter(is_of).count() as f32,
        Aggregate::Ever => f32::from(u8::from(last_of.is_some())),
        Aggregate::TimeSinceLast => match last_of {
            Some(last) if last.time != STATIC => number(hours(last.time, at)),
            _ => f32::NAN,
        },
        // No other aggregate is one of texts.
        _ => f32::NAN,
    };
    (value, time)
}

fn demographic_of(demographic: Demographic, moment: &Moment) -> Option<f64> {
    match demographic {
        Demographic::Age => Some(years(moment.birth?, moment.start.unwrap_or(moment.at))),
        Demographic::Sex => moment.sex.map(f64::from),
        Demographic::HoursInEncounter => Some(hours(moment.start?, moment.at)),
        Demographic::HourOfDay => Some(moment.at.rem_euclid(DAY) as f64 / HOUR as f64),
    }
}

/// The number of a feature: what f32 cannot hold is missing, so that no model meets an infinity.
pub(super) fn number(value: f64) -> f32 {
    let value = value as f32;
    if value.is_finite() { value } else { f32::NAN }
}
