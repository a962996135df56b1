//! A row of features as a sequence of hours: what models of sequences read.
//!
//! The last columns of a row are the hourly grid of the feature specification (`grid.heart_rate.-47h` to
//! `grid.heart_rate.-00h`, concept by concept), the others a table. Of every hour and concept there are three
//! inputs (Che et al. 2018): the last value so far (cut, shifted and scaled by the training rows; their mean
//! before the first), whether there is one in this hour, and the time since the last one as a share of the
//! grid's span (1 before the first). A network sees the hours one after the other, and beside its last layer
//! a [summary](Sequence::summary): mean, last, greatest and least of each input over the hours, and the table.
//!
//! Everything is fitted on the training rows alone and travels in `model.json`.

#[cfg(test)]
pub(super) mod tests;

use serde::{Deserialize, Serialize};

use super::gradients::{Gradient, integrate};
use super::preprocess::Preprocess;
use super::{Attribution, Family, Matrix, ModelError};

/// Most hours and concepts, and most of both together, that a loaded model may read.
const MOST: usize = 1 << 20;

/// Share of the values that is cut to the nearest kept value at either end.
const WINSOR: f64 = 0.005;

/// Inputs of a concept in an hour.
const KINDS: usize = 3;

/// How a row becomes inputs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sequence {
    hours: usize,
    /// One a concept, in the order of their columns.
    scales: Vec<Scale>,
    /// Of the columns before the grid.
    table: Preprocess,
}

/// How the values of a concept are cut, shifted and scaled.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    low: f32,
    high: f32,
    centre: f64,
    /// 1 over the standard deviation; 0 for values that never varied.
    factor: f64,
}

/// How many columns come before the hourly grid, which has the last ones.
pub(super) fn tabular(features: &[String]) -> usize {
    features.iter().rposition(|name| grid_column(name).is_none()).map_or(0, |last| last + 1)
}

/// Concept and hour of a column of the grid, `None` for another.
fn grid_column(name: &str) -> Option<(&str, usize)> {
    let (concept, hour) = name.strip_prefix("grid.")?.rsplit_once(".-")?;
    let hour = hour.strip_suffix('h').filter(|hour| hour.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((concept, usize::from(hour.parse::<u16>().ok()?)))
}

impl Sequence {
    /// Fits on the training rows; `family` is whose model it is.
    ///
    /// # Errors
    /// [`ModelError::Features`] if the features have no hourly grid, or not the same hours of every concept.
    pub(super) fn fit(family: Family, features: &[String], x: &Matrix) -> Result<Sequence, ModelError> {
        let table = tabular(features);
        let grid: Vec<(&str, usize)> = features[table..].iter().filter_map(|name| grid_column(name)).collect();
        let Some((_, oldest)) = grid.first() else {
            let reason = format!("a {family} model reads the hourly grid; add [grid] to features.toml");
            return Err(ModelError::Features { reason });
        };
        let hours = oldest + 1;
        let is_whole = |lane: &[(&str, usize)]| {
            lane.len() == hours && lane.iter().rev().enumerate().all(|(hour, one)| *one == (lane[0].0, hour))
        };
        if !grid.chunks(hours).all(is_whole) {
            let reason = "the hourly grid lacks hours of a concept, or has them in another order; take all columns of \
                          [grid] as they come";
            return Err(ModelError::Features { reason: reason.to_owned() });
        }
        let scales = (table..features.len()).step_by(hours).map(|first| Scale::fit(x, first..first + hours)).collect();
        // Shifted and scaled, with gaps filled: what a perceptron needs.
        Ok(Sequence { hours, scales, table: Preprocess::fit(Family::Mlp, &x.leading(table)) })
    }

    /// Checks a loaded one.
    ///
    /// # Errors
    /// A reason if a number is not usable.
    pub(super) fn check(&self) -> Result<(), String> {
        let grid = self.hours.checked_mul(self.scales.len()).filter(|grid| (1..=MOST).contains(grid));
        if grid.is_none() || self.table.features() > MOST {
            return Err("the sequence has no hours, or too many".to_owned());
        }
        let usable = |scale: &Scale| {
            let edges = scale.low.is_finite() && scale.high.is_finite() && scale.low <= scale.high;
            edges && scale.centre.is_finite() && scale.factor.is_finite()
        };
        if !self.scales.iter().all(usable) || self.table.is_raw() {
            return Err("a scale of the sequence is not usable".to_owned());
        }
        self.table.check()
    }

    /// Columns of a row.
    pub(super) fn columns(&self) -> usize {
        self.table.features() + self.hours * self.scales.len()
    }

    /// How many hours there are.
    pub(super) fn hours(&self) -> usize {
        self.hours
    }

    /// How many concepts there are.
    pub(super) fn concepts(&self) -> usize {
        self.scales.len()
    }

    /// Inputs of an hour.
    pub(super) fn width(&self) -> usize {
        KINDS * self.scales.len()
    }

    /// Inputs of the table.
    pub(super) fn table(&self) -> usize {
        self.table.columns()
    }

    /// How many numbers a summary has.
    pub(super) fn summary_width(&self) -> usize {
        4 * self.width() + self.table()
    }

    /// Clears `out` and fills it with the inputs of a row: hour by hour, the oldest first, all values, then
    /// all masks, then all times since; last the table. All are finite, whatever the row holds.
    pub(super) fn prepare(&self, row: &[f32], out: &mut Vec<f64>) {
        let (table, grid) = row.split_at(self.table.features().min(row.len()));
        let (hours, width, concepts) = (self.hours, self.width(), self.scales.len());
        out.clear();
        out.resize(hours * width, 0.0);
        for (concept, (scale, values)) in self.scales.iter().zip(grid.chunks_exact(hours)).enumerate() {
            // As far back as the grid goes: as if it had never been.
            let (mut last, mut since) = (0.0, hours);
            for (inputs, &value) in out.chunks_exact_mut(width).zip(values) {
                since = (since + 1).min(hours);
                if !value.is_nan() {
                    (last, since) = (scale.apply(value), 0);
                    inputs[concepts + concept] = 1.0;
                }
                inputs[concept] = last;
                inputs[2 * concepts + concept] = since as f64 / hours as f64;
            }
        }
        let mut scaled = Vec::with_capacity(self.table());
        self.table.apply(table, &mut scaled);
        out.extend(scaled.iter().map(|&value| f64::from(value)));
    }

    /// The inputs of a row in which nothing was observed, its table that of the mean training row.
    pub(super) fn baseline(&self) -> Vec<f64> {
        let mut inputs = Vec::new();
        self.prepare(&vec![f32::NAN; self.columns()], &mut inputs);
        // Scaled columns have the mean 0.
        inputs[self.hours * self.width()..].fill(0.0);
        inputs
    }

    /// The hours of inputs, one after the other.
    pub(super) fn of_hours<'a>(&self, inputs: &'a [f64]) -> &'a [f64] {
        &inputs[..self.hours * self.width()]
    }

    /// Appends the mean, the greatest and the least of each input over the hours, the last hour, and the table.
    pub(super) fn summary(&self, inputs: &[f64], out: &mut Vec<f64>) {
        let pooled = Pooled::of(self.of_hours(inputs), self.width());
        out.extend(pooled.mean);
        out.extend(pooled.greatest);
        out.extend(pooled.least);
        out.extend_from_slice(&inputs[(self.hours - 1) * self.width()..]);
    }

    /// Adds to the derivative by each input what the derivative by the summary is of it.
    pub(super) fn summary_back(&self, inputs: &[f64], of_summary: &[f64], of_inputs: &mut [f64]) {
        let (hours, width) = (self.hours, self.width());
        let (of_pooled, of_rest) = of_summary.split_at(3 * width);
        Pooled::of(self.of_hours(inputs), width).back(of_pooled, &mut of_inputs[..hours * width]);
        for (of, rest) in of_inputs[(hours - 1) * width..].iter_mut().zip(of_rest) {
            *of += rest;
        }
    }

    /// Why a row has its margin: integrated gradients from [`Sequence::baseline`], one a column. What a value
    /// does as long as it is the last one, its being there, and the time since are all its own hour's: an hour
    /// in which nothing was observed contributes nothing, as at the baseline.
    pub(super) fn attribute(&self, row: &[f32], gradient: Gradient<'_>) -> Attribution {
        let mut inputs = Vec::new();
        self.prepare(row, &mut inputs);
        let found = integrate(&self.baseline(), &inputs, gradient);
        let (of_hours, of_table) = found.contributions.split_at(self.hours * self.width());
        let mut contributions = self.table.fold(of_table.to_vec());
        let concepts = self.scales.len();
        let grid = row.get(self.table.features()..).unwrap_or(&[]);
        for (concept, values) in grid.chunks_exact(self.hours).enumerate() {
            let mut of_concept = vec![0.0; self.hours];
            let mut source = 0;
            for (hour, (value, of)) in values.iter().zip(of_hours.chunks_exact(self.width())).enumerate() {
                if !value.is_nan() {
                    source = hour;
                }
                of_concept[source] += of[concept] + of[concepts + concept] + of[2 * concepts + concept];
            }
            contributions.extend(of_concept);
        }
        Attribution { base: found.base, contributions, error: Some(found.error) }
    }
}

/// Moments of the same numbers, pooled over time.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Pooled {
    pub(super) mean: Vec<f64>,
    pub(super) greatest: Vec<f64>,
    pub(super) least: Vec<f64>,
    /// At which moment each was greatest and least, the first time.
    when: [Vec<usize>; 2],
}

impl Pooled {
    /// Pools moments of `width` numbers each, which follow each other; there is one at least.
    pub(super) fn of(moments: &[f64], width: usize) -> Pooled {
        let count = (moments.len() / width) as f64;
        let mut pooled = Pooled {
            mean: vec![0.0; width],
            greatest: vec![f64::NEG_INFINITY; width],
            least: vec![f64::INFINITY; width],
            when: [vec![0; width], vec![0; width]],
        };
        for (moment, numbers) in moments.chunks_exact(width).enumerate() {
            for (at, &number) in numbers.iter().enumerate() {
                pooled.mean[at] += number / count;
                if number > pooled.greatest[at] {
                    (pooled.greatest[at], pooled.when[0][at]) = (number, moment);
                }
                if number < pooled.least[at] {
                    (pooled.least[at], pooled.when[1][at]) = (number, moment);
                }
            }
        }
        pooled
    }

    /// Adds to the derivative by each number of the moments what the derivative by the means, the greatest
    /// and the least (these may be left out) is of it.
    pub(super) fn back(&self, of_pooled: &[f64], of_moments: &mut [f64]) {
        let width = self.mean.len();
        let count = (of_moments.len() / width) as f64;
        let mut parts = of_pooled.chunks_exact(width);
        let of_mean = parts.next().unwrap_or(&[]);
        for moment in of_moments.chunks_exact_mut(width) {
            for (of, mean) in moment.iter_mut().zip(of_mean) {
                *of += mean / count;
            }
        }
        for (when, of_extreme) in self.when.iter().zip(parts) {
            for (at, (moment, of)) in when.iter().zip(of_extreme).enumerate() {
                of_moments[moment * width + at] += of;
            }
        }
    }
}

impl Scale {
    /// Of the values in some columns, all hours of a concept.
    fn fit(x: &Matrix, columns: std::ops::Range<usize>) -> Scale {
        let rows = (0..x.rows()).flat_map(|row| x.row(row)[columns.clone()].iter().copied());
        let mut values: Vec<f32> = rows.filter(|value| !value.is_nan()).collect();
        values.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| {
            let index = (values.len().saturating_sub(1) as f64 * share).round() as usize;
            values.get(index).copied().unwrap_or(0.0)
        };
        let mut scale = Scale { low: at(WINSOR), high: at(1.0 - WINSOR), centre: 0.0, factor: 1.0 };
        if scale.low == scale.high {
            (scale.low, scale.high) = (at(0.0), at(1.0));
        }
        let count = values.len().max(1) as f64;
        let mean = values.iter().map(|&value| scale.apply(value)).sum::<f64>() / count;
        let squares: f64 = values.iter().map(|&value| (scale.apply(value) - mean).powi(2)).sum();
        let deviation = (squares / count).sqrt();
        let factor = if deviation > 1e-9 * mean.abs().max(1e-9) { 1.0 / deviation } else { 0.0 };
        (scale.centre, scale.factor) = (mean, factor);
        scale
    }

    fn apply(&self, value: f32) -> f64 {
        let scaled = (f64::from(value.clamp(self.low, self.high)) - self.centre) * self.factor;
        scaled.clamp(f64::from(f32::MIN), f64::from(f32::MAX))
    }
}
