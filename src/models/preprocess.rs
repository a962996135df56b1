//! From raw features to the columns a family can take.
//!
//! Everything is fitted on the training rows alone and travels in the bundle. Boosting
//! takes raw rows (it learns where a missing value goes); a forest needs the gaps filled;
//! linear models and perceptrons also need outliers cut and columns of one scale.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::family::Needs;
use super::{Family, Matrix};

/// Share of the training rows that is cut to the nearest kept value at either end.
const WINSOR: f64 = 0.005;

/// Skewness from which a column that is never negative is taken by its logarithm: laboratory values and
/// durations differ by factors, and a few high ones would decide for a linear model.
const SKEWED: f64 = 1.0;
/// Share of the median that is added before the logarithm, so that 0 has one.
const OFFSET: f64 = 0.1;

/// Share of rows, at least [`FEWEST`], that must have and must lack a value for a mask.
const MASK_SHARE: f64 = 0.01;
/// Fewest rows on either side of a mask.
const FEWEST: usize = 5;
/// Rows that are preprocessed together.
const BLOCK: usize = 256;

/// A fitted preprocessing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Preprocess {
    /// The row as it is.
    Raw {
        /// Features of a row.
        features: usize,
    },
    /// A column a feature, then a column a mask.
    Table {
        /// One a feature.
        columns: Vec<Column>,
        /// Features whose absence is itself a column.
        masks: Vec<Mask>,
    },
}

/// What happens to a value: filled, cut, perhaps taken by its logarithm, shifted and scaled.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    /// Training median, for a missing value.
    fill: f32,
    low: f32,
    high: f32,
    /// What is added before the logarithm; none: the number itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<f64>,
    centre: f64,
    /// 1 over the standard deviation; 0 for a column that never varied, which silences it.
    factor: f64,
}

/// A column that is 1 where a feature is missing, else 0 (then shifted and scaled).
///
/// That a test was not ordered says something. Features missing in the same training rows
/// (the aggregates of one concept over one window) share one mask, that of the first.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mask {
    feature: usize,
    centre: f64,
    factor: f64,
}

impl Preprocess {
    /// Fits what `family` needs on the training rows.
    pub(super) fn fit(family: Family, x: &Matrix) -> Preprocess {
        let scaled = match family.needs() {
            Needs::Raw => return Preprocess::Raw { features: x.columns() },
            Needs::Filled | Needs::Whole => false,
            Needs::Scaled => true,
        };
        let fitted: Vec<(Column, Vec<u64>)> =
            (0..x.columns()).into_par_iter().map(|feature| fit_column(x, feature, scaled)).collect();
        let least = FEWEST.max((x.rows() as f64 * MASK_SHARE).ceil() as usize);
        let mut patterns = BTreeSet::new();
        let mut masks = Vec::new();
        for (feature, (_, missing)) in fitted.iter().enumerate() {
            let count = missing.iter().map(|word| word.count_ones() as usize).sum::<usize>();
            if family.needs() != Needs::Whole && count >= least && x.rows() - count >= least && patterns.insert(missing)
            {
                let share = count as f64 / x.rows() as f64;
                let (centre, factor) = if scaled { (share, 1.0 / (share * (1.0 - share)).sqrt()) } else { (0.0, 1.0) };
                masks.push(Mask { feature, centre, factor });
            }
        }
        Preprocess::Table { columns: fitted.iter().map(|(column, _)| *column).collect(), masks }
    }

    /// Features of a raw row.
    pub(super) fn features(&self) -> usize {
        match self {
            Preprocess::Raw { features } => *features,
            Preprocess::Table { columns, .. } => columns.len(),
        }
    }

    /// Columns of a preprocessed row.
    pub(super) fn columns(&self) -> usize {
        match self {
            Preprocess::Raw { features } => *features,
            Preprocess::Table { columns, masks } => columns.len() + masks.len(),
        }
    }

    /// Whether a row is left as it is.
    pub(super) fn is_raw(&self) -> bool {
        matches!(self, Preprocess::Raw { .. })
    }

    /// Appends a raw row, preprocessed; the result is finite whatever the row holds.
    pub(super) fn apply(&self, row: &[f32], out: &mut Vec<f32>) {
        match self {
            Preprocess::Raw { .. } => out.extend_from_slice(row),
            Preprocess::Table { columns, masks } => {
                out.extend(columns.iter().zip(row).map(|(column, &x)| column.apply(x)));
                out.extend(masks.iter().map(|mask| mask.apply(row[mask.feature])));
            }
        }
    }

    /// A whole matrix, preprocessed.
    pub(super) fn apply_all(&self, x: &Matrix) -> Matrix {
        let features = self.features().max(1);
        let apply = |rows: &[f32]| {
            let mut out = Vec::with_capacity(rows.len() / features * self.columns());
            rows.chunks_exact(features).for_each(|row| self.apply(row, &mut out));
            out
        };
        let blocks: Vec<Vec<f32>> = x.values().par_chunks(features * BLOCK).map(apply).collect();
        // Every row has the same width by construction, so this always holds.
        Matrix::from_values(self.columns(), blocks.concat()).unwrap_or_else(|_| Matrix::new(self.columns()))
    }

    /// Contributions a column as contributions a feature: a mask's go to its feature.
    pub(super) fn fold(&self, mut contributions: Vec<f64>) -> Vec<f64> {
        if let Preprocess::Table { columns, masks } = self {
            let of_masks = contributions.split_off(columns.len());
            for (mask, contribution) in masks.iter().zip(of_masks) {
                contributions[mask.feature] += contribution;
            }
        }
        contributions
    }

    /// Checks a loaded preprocessing.
    ///
    /// # Errors
    /// A reason if an index or a number is not usable.
    pub(super) fn check(&self) -> Result<(), String> {
        let Preprocess::Table { columns, masks } = self else { return Ok(()) };
        let usable = columns.iter().all(|c| {
            [c.fill, c.low, c.high].iter().all(|x| x.is_finite())
                && c.low <= c.high
                && c.log.is_none_or(|offset| offset.is_finite() && offset > 0.0 && c.low >= 0.0)
                && c.centre.is_finite()
                && c.factor.is_finite()
        });
        if !usable || masks.iter().any(|mask| !mask.centre.is_finite() || !mask.factor.is_finite()) {
            return Err("a column holds a number that is not usable".to_owned());
        }
        if masks.len() > columns.len() || masks.iter().any(|mask| mask.feature >= columns.len()) {
            return Err("a mask stands for a feature that is not there".to_owned());
        }
        Ok(())
    }
}

impl Column {
    fn apply(&self, x: f32) -> f32 {
        let x = if x.is_nan() { self.fill } else { x };
        let cut = f64::from(x.clamp(self.low, self.high));
        let value = self.log.map_or(cut, |offset| (cut + offset).ln());
        let scaled = (value - self.centre) * self.factor;
        scaled.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
    }
}

impl Mask {
    fn apply(&self, x: f32) -> f32 {
        let scaled = (f64::from(u8::from(x.is_nan())) - self.centre) * self.factor;
        scaled.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
    }
}

/// A column's numbers, and in which rows it is missing (a bit a row).
fn fit_column(x: &Matrix, feature: usize, scaled: bool) -> (Column, Vec<u64>) {
    let all: Vec<f32> = x.column(feature).collect();
    let mut missing = vec![0u64; x.rows().div_ceil(64)];
    let mut present = Vec::with_capacity(x.rows());
    for (row, &value) in all.iter().enumerate() {
        if value.is_nan() {
            missing[row / 64] |= 1 << (row % 64);
        } else {
            present.push(value);
        }
    }
    present.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| {
        let index = ((present.len().saturating_sub(1)) as f64 * share).round() as usize;
        present.get(index).copied().unwrap_or(0.0)
    };
    let mut column = Column { fill: at(0.5), low: f32::MIN, high: f32::MAX, log: None, centre: 0.0, factor: 1.0 };
    if scaled {
        (column.low, column.high) = (at(WINSOR), at(1.0 - WINSOR));
        // A rare event (a flag set in one row of a thousand) would be cut to nothing.
        if column.low == column.high {
            (column.low, column.high) = (at(0.0), at(1.0));
        }
        if column.low >= 0.0 && skewness(&present, column.low, column.high) > SKEWED {
            let median = f64::from(column.fill);
            column.log = Some(OFFSET * if median > 0.0 { median } else { 1.0 });
        }
        let values: Vec<f64> = all.iter().map(|&value| f64::from(column.apply(value))).collect();
        let rows = x.rows() as f64;
        let mean = values.iter().sum::<f64>() / rows;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / rows).sqrt();
        let factor = if deviation > 1e-9 * mean.abs().max(1e-9) { 1.0 / deviation } else { 0.0 };
        (column.centre, column.factor) = (mean, factor);
    }
    (column, missing)
}

/// The skewness of values that are cut to a range; 0 where they do not vary.
fn skewness(values: &[f32], low: f32, high: f32) -> f64 {
    let cut = || values.iter().map(|value| f64::from(value.clamp(low, high)));
    let count = values.len() as f64;
    let mean = cut().sum::<f64>() / count;
    let moment = |power: i32| cut().map(|value| (value - mean).powi(power)).sum::<f64>() / count;
    let variance = moment(2);
    if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Matrix {
        let mut x = Matrix::new(4);
        for i in 0..200 {
            let value = i as f32;
            let gap = if i % 4 == 0 { f32::NAN } else { value };
            // A number, a number with gaps, its twin with the same gaps, a constant.
            x.push_row(&[value, gap, gap * 2.0, 7.0]).unwrap();
        }
        x
    }

    #[test]
    fn scaled_columns_have_mean_zero_and_deviation_one() {
        let x = table();
        let fitted = Preprocess::fit(Family::Logistic, &x);
        fitted.check().unwrap();
        assert_eq!((fitted.features(), fitted.columns()), (4, 5), "the twins share one mask");
        let out = fitted.apply_all(&x);
        for column in [0, 1, 2, 4] {
            let values: Vec<f64> = (0..200).map(|row| f64::from(out.row(row)[column])).collect();
            let mean = values.iter().sum::<f64>() / 200.0;
            let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 200.0).sqrt();
            assert!(mean.abs() < 1e-6 && (deviation - 1.0).abs() < 1e-6, "column {column}");
        }
        assert!((0..200).all(|row| out.row(row)[3] == 0.0));
    }

    #[test]
    fn a_forest_gets_medians_and_masks_and_else_its_own_values() {
        let x = table();
        let fitted = Preprocess::fit(Family::Forest, &x);
        let mut out = Vec::new();
        fitted.apply(&[3.5, f32::NAN, 1.0, -9.0], &mut out);
        assert_eq!(out, [3.5, 101.0, 1.0, -9.0, 1.0]);
        assert_eq!(fitted.fold(vec![1.0, 2.0, 3.0, 4.0, 5.0]), [1.0, 7.0, 3.0, 4.0]);
    }

    #[test]
    fn outliers_are_cut_and_nothing_becomes_infinite() {
        let fitted = Preprocess::fit(Family::Mlp, &table());
        let (mut extreme, mut edge) = (Vec::new(), Vec::new());
        fitted.apply(&[f32::INFINITY, f32::MAX, f32::NEG_INFINITY, 1e30], &mut extreme);
        fitted.apply(&[198.0, 198.0, 2.0, 7.0], &mut edge);
        assert_eq!(extreme, edge);
    }

    #[test]
    fn what_is_skewed_is_taken_by_its_logarithm() {
        let mut x = Matrix::new(3);
        for i in 0..500 {
            let lactate = (i as f32 / 100.0).exp();
            x.push_row(&[lactate, lactate - 2.0, i as f32]).unwrap();
        }
        let fitted = Preprocess::fit(Family::Logistic, &x);
        fitted.check().unwrap();
        let Preprocess::Table { columns, .. } = &fitted else { panic!("raw") };
        assert_eq!([columns[1].log, columns[2].log], [None; 2], "a negative number, and one that is not skewed");
        assert!((columns[0].log.unwrap() - 0.1 * 2.5_f64.exp()).abs() < 0.1);
        let out = fitted.apply_all(&x);
        let values: Vec<f64> = (0..500).map(|row| f64::from(out.row(row)[0])).collect();
        assert!((values.iter().sum::<f64>() / 500.0).abs() < 1e-6);
        assert!(values.is_sorted() && values[499] < 2.2, "{}", values[499]);
        for hostile in [f32::NEG_INFINITY, f32::INFINITY, -1.0, f32::NAN] {
            let mut row = Vec::new();
            fitted.apply(&[hostile; 3], &mut row);
            assert!(row.iter().all(|value| value.is_finite()));
        }
        let wrong = Column { log: Some(-1.0), ..columns[0] };
        assert!(Preprocess::Table { columns: vec![wrong], masks: vec![] }.check().is_err());
    }

    #[test]
    fn a_rare_flag_and_an_empty_column_survive() {
        let mut x = Matrix::new(2);
        for i in 0..1_000 {
            x.push_row(&[f32::from(u8::from(i == 500)), f32::NAN]).unwrap();
        }
        let fitted = Preprocess::fit(Family::Logistic, &x);
        let mut out = Vec::new();
        fitted.apply(&[1.0, 5.0], &mut out);
        assert!(out[0] > 10.0 && out[1] == 0.0 && out.len() == 2);
    }

    #[test]
    fn a_forged_preprocessing_is_refused() {
        let Preprocess::Table { columns, masks } = Preprocess::fit(Family::Forest, &table()) else { panic!("raw") };
        let mask = Mask { feature: 4, ..masks[0] };
        assert!(Preprocess::Table { columns: columns.clone(), masks: vec![mask] }.check().is_err());
        let column = Column { low: 1.0, high: 0.0, ..columns[0] };
        assert!(Preprocess::Table { columns: vec![column], masks: vec![] }.check().is_err());
    }
}
