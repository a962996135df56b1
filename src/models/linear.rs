//! Logistic regression, fitted by smartcore's L-BFGS; with an L1 penalty by [`super::elastic`].
//!
//! smartcore's own logistic regression goes through the rows five times a step where once would do, on one core and
//! value by value. So its optimiser is given a loss that is computed with its gradient in one go; a test holds the
//! weights to smartcore's own.

use std::cell::{Ref, RefCell};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smartcore::optimization::first_order::FirstOrderOptimizer;
use smartcore::optimization::first_order::lbfgs::LBFGS;
use smartcore::optimization::line_search::Backtracking;
use smartcore::optimization::{DF, F, FunctionOrder};

use super::calibration::{sigmoid, softplus};
use super::error::guarded;
use super::files::MODEL;
use super::{Attribution, Family, Link, LogisticHyper, Matrix, Model, ModelError, elastic};

/// Largest slope of the loss at the end, for each training row.
const TOLERANCE: f64 = 1e-8;
/// Rows that are summed together; a fixed number, so that the weights do not depend on the cores.
const BLOCK: usize = 256;

/// `margin = intercept + Σ weight * x`, with the mean row that explanations start from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Linear {
    weights: Vec<f64>,
    intercept: f64,
    means: Vec<f64>,
}

impl Linear {
    /// Fits on preprocessed rows; `family` is whose model it is.
    ///
    /// # Errors
    /// [`ModelError::Fit`] if the optimiser does not end at finite weights.
    pub(super) fn fit(
        family: Family,
        hyper: &LogisticHyper,
        x: &Matrix,
        labels: &[bool],
    ) -> Result<Linear, ModelError> {
        guarded(family, || {
            let problem = |reason: String| ModelError::fit(family, reason);
            if hyper.l1_ratio > 0.0 {
                let fitted = elastic::fit(hyper, x, labels);
                let (weights, intercept) =
                    fitted.map_err(|reason| problem(format!("{reason}; raise {family}.alpha")))?;
                return Ok(Linear { weights, intercept, means: means(x) });
            }
            let weights = ridge(hyper.alpha, x, labels);
            let intercept = weights[x.columns()];
            let out = Linear { weights: weights[..x.columns()].to_vec(), intercept, means: means(x) };
            match out.check() {
                Ok(()) => Ok(out),
                Err(reason) => Err(problem(format!("{reason}; raise {family}.alpha"))),
            }
        })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable model.
    pub(super) fn decode(bytes: &[u8]) -> Result<Linear, ModelError> {
        let linear: Linear = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        linear.check().map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        Ok(linear)
    }

    /// Whether its numbers can be used.
    ///
    /// # Errors
    /// A reason if they cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        let finite = self.weights.iter().chain(&self.means).chain([&self.intercept]).all(|x| x.is_finite());
        if self.weights.is_empty() || self.weights.len() != self.means.len() || !finite {
            return Err("the weights are missing, uneven or not finite".to_owned());
        }
        Ok(())
    }
}

impl Model for Linear {
    fn columns(&self) -> usize {
        self.weights.len()
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        out.extend(rows.chunks_exact(self.columns()).map(|row| margin(&self.weights, self.intercept, row)));
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        let terms = self.weights.iter().zip(&self.means);
        let base = terms.clone().fold(self.intercept, |sum, (weight, mean)| sum + weight * mean);
        let contributions = terms.zip(row).map(|((weight, mean), &value)| weight * (f64::from(value) - mean)).collect();
        Attribution::exact(base, contributions)
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

/// `intercept + Σ weight * x`.
fn margin(weights: &[f64], intercept: f64, row: &[f32]) -> f64 {
    // Eight running sums, so that the compiler may use the wide registers; their order
    // is fixed, so the result is too.
    let mut sums = [0.0f64; 8];
    let weights = weights.chunks_exact(8);
    let values = row.chunks_exact(8);
    let rest = weights.remainder().iter().zip(values.remainder());
    let tail = rest.fold(0.0, |sum, (weight, &value)| sum + weight * f64::from(value));
    for (weights, values) in weights.zip(values) {
        for ((sum, weight), &value) in sums.iter_mut().zip(weights).zip(values) {
            *sum += weight * f64::from(value);
        }
    }
    intercept + sums.iter().sum::<f64>() + tail
}

/// The mean of every column.
pub(super) fn means(x: &Matrix) -> Vec<f64> {
    let mut sums = vec![0.0; x.columns()];
    for row in x.values().chunks_exact(x.columns().max(1)) {
        add(&mut sums, 1.0, row);
    }
    let rows = x.rows().max(1) as f64;
    sums.iter().map(|sum| sum / rows).collect()
}

/// Adds `factor` times a row to sums, one a column.
fn add(sums: &mut [f64], factor: f64, row: &[f32]) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += factor * f64::from(value);
    }
}

/// The weights that minimise `Σ log loss + alpha / 2 * Σw²` and, last, the intercept, which is not penalised.
fn ridge(alpha: f64, x: &Matrix, labels: &[bool]) -> Vec<f64> {
    let start = vec![0.0; x.columns() + 1];
    let objective = Objective { alpha, x, labels, last: RefCell::new(Point::at(&start, alpha, x, labels)) };
    let optimizer = LBFGS { g_atol: TOLERANCE * x.rows() as f64, ..LBFGS::default() };
    let search: Backtracking<f64> = Backtracking { order: FunctionOrder::THIRD, ..Backtracking::default() };
    let loss: &F<'_, f64, Vec<f64>> = &|weights| objective.at(weights).loss;
    let gradient: &DF<'_, Vec<f64>> = &|out, weights| out.clone_from(&objective.at(weights).gradient);
    optimizer.optimize(loss, gradient, &start, &search).x
}

/// What is minimised. The optimiser asks for the loss and for its gradient one by one, mostly where it has just been.
struct Objective<'a> {
    alpha: f64,
    x: &'a Matrix,
    labels: &'a [bool],
    last: RefCell<Point>,
}

/// The loss and its gradient at some weights.
struct Point {
    weights: Vec<f64>,
    loss: f64,
    gradient: Vec<f64>,
}

impl Objective<'_> {
    fn at(&self, weights: &[f64]) -> Ref<'_, Point> {
        if self.last.borrow().weights != weights {
            self.last.replace(Point::at(weights, self.alpha, self.x, self.labels));
        }
        self.last.borrow()
    }
}

impl Point {
    fn at(weights: &[f64], alpha: f64, x: &Matrix, labels: &[bool]) -> Point {
        let columns = x.columns();
        let blocks = x.values().par_chunks((columns * BLOCK).max(1)).zip(labels.par_chunks(BLOCK));
        // Computed side by side, but added in order.
        let sums: Vec<(f64, Vec<f64>)> = blocks.map(|(rows, labels)| log_loss(weights, rows, labels)).collect();
        let penalised = &weights[..columns];
        let mut loss = alpha / 2.0 * penalised.iter().map(|w| w * w).sum::<f64>();
        let mut gradient: Vec<f64> = penalised.iter().map(|w| alpha * w).chain([0.0]).collect();
        for (part, slopes) in sums {
            loss += part;
            gradient.iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += slope);
        }
        Point { weights: weights.to_vec(), loss, gradient }
    }
}

/// The log loss of some rows, summed, and its derivative by each weight.
fn log_loss(weights: &[f64], rows: &[f32], labels: &[bool]) -> (f64, Vec<f64>) {
    let columns = weights.len() - 1;
    let (mut loss, mut slopes) = (0.0, vec![0.0; weights.len()]);
    for (row, &label) in rows.chunks_exact(columns).zip(labels) {
        let (margin, target) = (margin(&weights[..columns], weights[columns], row), f64::from(u8::from(label)));
        loss += softplus(margin) - target * margin;
        let residual = sigmoid(margin) - target;
        add(&mut slopes, residual, row);
        slopes[columns] += residual;
    }
    (loss, slopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_weights_and_their_direction() {
        let mut random = super::super::random::Random::new(3);
        let mut x = Matrix::new(2);
        let mut labels = Vec::new();
        for _ in 0..4_000 {
            let row = [random.unit() as f32 * 4.0 - 2.0, random.unit() as f32 * 4.0 - 2.0];
            let odds = 2.0 * f64::from(row[0]) - 1.0 * f64::from(row[1]) - 0.5;
            labels.push(random.unit() < sigmoid(odds));
            x.push_row(&row).unwrap();
        }
        let linear = Linear::fit(Family::Logistic, &LogisticHyper { alpha: 1e-3, l1_ratio: 0.0 }, &x, &labels).unwrap();
        for (found, want) in linear.weights.iter().zip([2.0, -1.0]) {
            assert!((found - want).abs() < 0.2, "{linear:?}");
        }
        assert!((linear.intercept + 0.5).abs() < 0.2);
        assert_eq!(Linear::decode(&linear.encode().unwrap()).unwrap(), linear);
    }

    /// 700 rows, more than two blocks, of 30 columns that are much alike.
    fn rows() -> (Matrix, Vec<bool>) {
        let mut random = super::super::random::Random::new(6);
        let (mut x, mut labels) = (Matrix::new(30), Vec::new());
        for _ in 0..700 {
            let common = random.unit() as f32 * 3.0;
            let row: Vec<f32> = (0..30).map(|_| common + random.unit() as f32 * 2.0 - 2.5).collect();
            labels.push(random.unit() < sigmoid(f64::from(row[0] - row[1] + common) - 2.0));
            x.push_row(&row).unwrap();
        }
        (x, labels)
    }

    #[test]
    fn the_weights_are_those_of_smartcores_own_regression() {
        use smartcore::linalg::basic::arrays::Array;
        use smartcore::linalg::basic::matrix::DenseMatrix;
        use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};

        let (x, labels) = rows();
        let values: Vec<f64> = x.values().iter().map(|&value| f64::from(value)).collect();
        let table = DenseMatrix::new(x.rows(), x.columns(), values, false).unwrap();
        let targets: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
        for alpha in [0.5, 100.0] {
            let parameters = LogisticRegressionParameters::default().with_alpha(alpha);
            let theirs = LogisticRegression::fit(&table, &targets, parameters).unwrap();
            let ours = ridge(alpha, &x, &labels);
            let theirs = theirs.coefficients().iterator(0).chain(theirs.intercept().iterator(0));
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!((ours - theirs).abs() < 1e-5, "alpha {alpha}: {ours} {theirs}");
            }
        }
    }

    #[test]
    fn the_gradient_is_the_derivative() {
        let (x, labels) = rows();
        let weights: Vec<f64> = (0..31).map(|i| (f64::from(i) - 15.0) / 60.0).collect();
        let found = Point::at(&weights, 3.0, &x, &labels).gradient;
        for (at, found) in found.iter().enumerate() {
            let loss = |step: f64| {
                let mut weights = weights.clone();
                weights[at] += step;
                Point::at(&weights, 3.0, &x, &labels).loss
            };
            let want = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            assert!((found - want).abs() < 1e-5 * (1.0 + want.abs()), "{at}: {found} {want}");
        }
    }

    #[test]
    fn the_weights_do_not_depend_on_the_cores() {
        let (x, labels) = rows();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| ridge(1.0, &x, &labels))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn a_damaged_model_is_refused() {
        for bytes in [
            &br#"{"weights":[1.0],"intercept":0.0,"means":[]}"#[..],
            br#"{"weights":[],"intercept":0.0,"means":[]}"#,
            br#"{"weights":[1e999],"intercept":0.0,"means":[0.0]}"#,
            br#"{"weights":[1.0],"intercept":null,"means":[0.0]}"#,
            b"not json",
        ] {
            assert!(matches!(Linear::decode(bytes), Err(ModelError::Corrupt { .. })));
        }
    }
}
