//! Training rows that a model keeps, and how far a row is from each of them.
//!
//! A kernel machine and nearest neighbours have this in common: their margin is a function
//! of the squared distances alone. So a column can be exchanged by adding its change to
//! every distance, and a walk through all columns of a row (see [`super::shapley`]) costs
//! columns × points, not columns² × points.

use serde::{Deserialize, Serialize};

use super::linear::means;
use super::shapley;
use super::{Attribution, Matrix};

/// Rows kept from the training matrix.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Points {
    /// The mean training row, that explanations start from.
    baseline: Vec<f32>,
    /// Row-major.
    values: Vec<f32>,
}

impl Points {
    /// Keeps the rows at `kept` of the training rows `x`.
    pub(super) fn new(x: &Matrix, kept: &[usize]) -> Points {
        let baseline = means(x).into_iter().map(|mean| mean as f32).collect();
        Points { baseline, values: x.pick(kept).values().to_vec() }
    }

    /// Columns of a row.
    pub(super) fn columns(&self) -> usize {
        self.baseline.len()
    }

    /// Rows kept.
    pub(super) fn count(&self) -> usize {
        self.values.len().checked_div(self.columns()).unwrap_or(0)
    }

    /// Checks loaded points, of which there must be `count`.
    ///
    /// # Errors
    /// A reason if they are not usable.
    pub(super) fn check(&self, count: usize) -> Result<(), String> {
        if count == 0 || self.columns() == 0 || self.columns().checked_mul(count) != Some(self.values.len()) {
            return Err("the rows it keeps are none, uneven or too few".to_owned());
        }
        if !self.values.iter().chain(&self.baseline).all(|value| value.is_finite()) {
            return Err("a row it keeps is not finite".to_owned());
        }
        Ok(())
    }

    /// Clears `out` and fills it with the squared distance of `row` to every point.
    pub(super) fn distances(&self, row: &[f32], out: &mut Vec<f64>) {
        out.clear();
        out.extend(self.values.chunks_exact(self.columns()).map(|point| squared(row, point)));
    }

    /// Explains a margin that is a function of the distances, against the mean training row.
    pub(super) fn attribute(&self, row: &[f32], margin: &mut dyn FnMut(&[f64]) -> f64) -> Attribution {
        let (mut there, mut here) = (Vec::new(), Vec::new());
        self.distances(&self.baseline, &mut there);
        self.distances(row, &mut here);
        let (base, full) = (margin(&there), margin(&here));

        let moved = shapley::moved(row, &self.baseline);
        let count = self.count();
        let mut changes = Vec::with_capacity(moved.len() * count);
        for &column in &moved {
            let (to, from) = (f64::from(row[column]), f64::from(self.baseline[column]));
            let points = self.values.iter().skip(column).step_by(self.columns());
            // (to - point)² - (from - point)²
            changes.extend(points.map(|&point| (to - from) * (to + from - 2.0 * f64::from(point))));
        }

        let mut now = vec![0.0; count];
        shapley::attribute(row, &moved, base, &mut |order, gains| {
            now.copy_from_slice(&there);
            let mut before = base;
            for (step, &player) in order.iter().enumerate() {
                for (distance, change) in now.iter_mut().zip(&changes[player * count..(player + 1) * count]) {
                    *distance += change;
                }
                // Added up step by step, the distances carry rounding; the last are known.
                let after = if step + 1 == order.len() { full } else { margin(&now) };
                gains[player] += after - before;
                before = after;
            }
        })
    }
}

/// The squared distance of two rows.
pub(super) fn squared(a: &[f32], b: &[f32]) -> f64 {
    // Eight running sums for the wide registers, in a fixed order as in `linear.rs`.
    let mut sums = [0.0f64; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = left.remainder().iter().zip(right.remainder());
    let tail = rest.fold(0.0, |sum, (&a, &b)| sum + (f64::from(a) - f64::from(b)).powi(2));
    for (left, right) in left.zip(right) {
        for ((sum, &a), &b) in sums.iter_mut().zip(left).zip(right) {
            let difference = f64::from(a) - f64::from(b);
            *sum += difference * difference;
        }
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    fn points(columns: usize, rows: usize) -> Points {
        let mut random = Random::new(5);
        let values = (0..columns * rows).map(|_| random.unit() as f32 * 4.0 - 2.0).collect();
        let x = Matrix::from_values(columns, values).unwrap();
        Points::new(&x, &(0..rows).collect::<Vec<_>>())
    }

    #[test]
    fn a_margin_that_is_a_sum_over_columns_is_taken_apart_exactly() {
        // The summed distance is a sum over columns, so every order says the same.
        let points = points(11, 40);
        let mut row: Vec<f32> = (0..11).map(|i| i as f32 / 4.0).collect();
        row[3] = points.baseline[3];
        let found = points.attribute(&row, &mut |distances| distances.iter().sum());
        for (column, contribution) in found.contributions.iter().enumerate() {
            let sum = |x: f32| points.values.chunks(11).map(|p| f64::from(x - p[column]).powi(2)).sum::<f64>();
            let want = sum(row[column]) - sum(points.baseline[column]);
            assert!((contribution - want).abs() < 1e-3, "{column}: {contribution} {want}");
        }
        assert_eq!(found.contributions[3], 0.0);
        assert!(found.error.unwrap() < 1e-10);
    }

    #[test]
    fn damaged_points_are_refused() {
        let good = points(3, 4);
        assert!(good.check(4).is_ok());
        assert!(good.check(5).is_err() && good.check(0).is_err());
        let mut bad = good.clone();
        bad.values[2] = f32::INFINITY;
        assert!(bad.check(4).is_err());
        let none = Points { baseline: vec![], values: vec![] };
        assert!(none.check(0).is_err() && none.check(1).is_err());
    }
}
