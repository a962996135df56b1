//! Logistic regression with an elastic net penalty (Zou and Hastie 2005).
//!
//! smartcore's lasso and elastic net are for squared loss only, so this fit is our own:
//! the proximal Newton method of glmnet (Friedman, Hastie, Tibshirani 2010), with the line
//! search that makes it converge from anywhere (Lee, Sun, Saunders 2014). The log loss is
//! replaced by its second order model at the current weights, that model with the penalty
//! is minimised column by column, and the weights go there as far as the true loss falls.
//! It ends when the optimality (KKT) conditions hold, which a test checks from outside.

use rayon::prelude::*;

use super::calibration::{sigmoid, softplus};
use super::{LogisticHyper, Matrix};

/// Largest violation of the KKT conditions at the end, for each training row.
const TOLERANCE: f64 = 1e-7;
/// Most Newton steps; ten are usual.
const STEPS: usize = 100;
/// Most passes over the columns in one step.
const PASSES: usize = 1_000;
/// Smallest weight of a row in the second order model: rows that are certain of their
/// outcome must not make it flat.
const CERTAIN: f64 = 1e-9;

/// What is minimised: `Σ log loss + lasso * Σ|w| + ridge / 2 * Σw²`.
struct Problem {
    /// By column; the last is all ones, for the intercept, which is not penalised.
    columns: Vec<Vec<f64>>,
    targets: Vec<f64>,
    lasso: f64,
    ridge: f64,
}

/// Fits on standardised rows; returns the weights, one a column, and the intercept.
///
/// # Errors
/// A reason if it does not converge.
pub(super) fn fit(hyper: &LogisticHyper, x: &Matrix, labels: &[bool]) -> Result<(Vec<f64>, f64), String> {
    let problem = Problem::new(hyper, x, labels);
    let mut weights = vec![0.0; problem.columns.len()];
    let mut margins = vec![0.0; x.rows()];
    let mut loss = problem.loss(&weights, &margins);
    for _ in 0..STEPS {
        let risks: Vec<f64> = margins.iter().map(|&margin| sigmoid(margin)).collect();
        let gradient = problem.gradient(&risks);
        let violation = problem.violation(&weights, &gradient);
        if violation <= TOLERANCE * x.rows() as f64 {
            let intercept = weights.pop().unwrap_or_default();
            return Ok((weights, intercept));
        }
        let step = problem.step(&weights, &gradient, &problem.curvature(&risks), violation);
        // How much the loss would fall if it were linear (and the penalty as it is).
        let moved = |share: f64| weights.iter().zip(&step).map(|(w, d)| w + share * d).collect::<Vec<f64>>();
        let slope = gradient.iter().zip(&step).map(|(g, d)| g * d).sum::<f64>() + problem.penalty(&moved(1.0))
            - problem.penalty(&weights);
        let along = problem.margins(&step);
        let mut share = 1.0;
        loop {
            let there = moved(share);
            let margins_there: Vec<f64> = margins.iter().zip(&along).map(|(m, d)| m + share * d).collect();
            let loss_there = problem.loss(&there, &margins_there);
            // Near the optimum the fall is smaller than the rounding of the loss itself.
            if loss_there <= loss + 1e-4 * share * slope + 1e-13 * loss.abs() {
                (weights, margins, loss) = (there, margins_there, loss_there);
                break;
            }
            share /= 2.0;
            if share < 1e-12 {
                return Err("the loss falls in no direction, yet is not at its least".to_owned());
            }
        }
    }
    Err(format!("it did not converge in {STEPS} steps"))
}

impl Problem {
    fn new(hyper: &LogisticHyper, x: &Matrix, labels: &[bool]) -> Problem {
        let mut columns: Vec<Vec<f64>> =
            (0..x.columns()).into_par_iter().map(|column| x.column(column).map(f64::from).collect()).collect();
        columns.push(vec![1.0; x.rows()]);
        Problem {
            columns,
            targets: labels.iter().map(|&label| f64::from(u8::from(label))).collect(),
            lasso: hyper.alpha * hyper.l1_ratio,
            ridge: hyper.alpha * (1.0 - hyper.l1_ratio),
        }
    }

    /// The penalties of a column: none for the intercept.
    fn penalties(&self, column: usize) -> (f64, f64) {
        if column + 1 == self.columns.len() { (0.0, 0.0) } else { (self.lasso, self.ridge) }
    }

    fn penalty(&self, weights: &[f64]) -> f64 {
        let penalised = &weights[..weights.len() - 1];
        penalised.iter().map(|w| self.lasso * w.abs() + self.ridge / 2.0 * w * w).sum()
    }

    fn loss(&self, weights: &[f64], margins: &[f64]) -> f64 {
        let losses = margins.iter().zip(&self.targets).map(|(&margin, target)| softplus(margin) - target * margin);
        losses.sum::<f64>() + self.penalty(weights)
    }

    fn margins(&self, weights: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.targets.len()];
        for (column, &weight) in self.columns.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
            for (margin, value) in out.iter_mut().zip(column) {
                *margin += weight * value;
            }
        }
        out
    }

    /// Of the log loss alone.
    fn gradient(&self, risks: &[f64]) -> Vec<f64> {
        let residuals: Vec<f64> = risks.iter().zip(&self.targets).map(|(risk, target)| risk - target).collect();
        self.columns.par_iter().map(|column| dot(column, &residuals)).collect()
    }

    /// The Hessian of the log loss, row by row.
    fn curvature(&self, risks: &[f64]) -> Vec<Vec<f64>> {
        let certainty: Vec<f64> = risks.iter().map(|risk| (risk * (1.0 - risk)).max(CERTAIN)).collect();
        let below: Vec<Vec<f64>> = self
            .columns
            .par_iter()
            .enumerate()
            .map(|(at, column)| {
                let weighted: Vec<f64> = column.iter().zip(&certainty).map(|(value, weight)| value * weight).collect();
                self.columns[..=at].iter().map(|other| dot(other, &weighted)).collect()
            })
            .collect();
        let count = self.columns.len();
        (0..count).map(|a| (0..count).map(|b| below[a.max(b)][a.min(b)]).collect()).collect()
    }

    /// How far the weights are from the KKT conditions.
    fn violation(&self, weights: &[f64], gradient: &[f64]) -> f64 {
        let each = weights.iter().zip(gradient).enumerate().map(|(column, (&weight, &slope))| {
            let (lasso, ridge) = self.penalties(column);
            if weight == 0.0 {
                (slope.abs() - lasso).max(0.0)
            } else {
                (slope + ridge * weight + lasso * weight.signum()).abs()
            }
        });
        each.fold(0.0, f64::max)
    }

    /// Minimises the second order model with the penalty by coordinate descent; returns
    /// the way there. It stops where little of the current `violation` is left.
    fn step(&self, weights: &[f64], gradient: &[f64], curvature: &[Vec<f64>], violation: f64) -> Vec<f64> {
        let mut step = vec![0.0; weights.len()];
        // The gradient of the model at `step`.
        let mut slopes = gradient.to_vec();
        for _ in 0..PASSES {
            let mut largest = 0.0f64;
            for (column, row) in curvature.iter().enumerate() {
                let bend = row[column];
                // A column of zeros has no say.
                if bend <= 0.0 {
                    continue;
                }
                let (lasso, ridge) = self.penalties(column);
                let here = weights[column] + step[column];
                let pull = bend * here - slopes[column];
                let there = pull.signum() * (pull.abs() - lasso).max(0.0) / (bend + ridge);
                let change = there - here;
                if change != 0.0 {
                    step[column] = there - weights[column];
                    for (slope, bend) in slopes.iter_mut().zip(row) {
                        *slope += change * bend;
                    }
                    largest = largest.max(change.abs() * (bend + ridge));
                }
            }
            if largest <= 1e-4 * violation {
                break;
            }
        }
        step
    }
}

/// Eight running sums, as in `linear.rs`.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail = left.remainder().iter().zip(right.remainder()).fold(0.0, |sum, (a, b)| sum + a * b);
    for (left, right) in left.zip(right) {
        for ((sum, a), b) in sums.iter_mut().zip(left).zip(right) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::linear::Linear;
    use super::super::random::Random;
    use super::*;

    /// 40 columns of one scale, of which three matter, some nearly the same, one constant.
    fn problem(rows: usize) -> (Matrix, Vec<bool>) {
        let mut random = Random::new(21);
        let mut x = Matrix::new(40);
        let mut labels = Vec::new();
        for _ in 0..rows {
            let mut row: Vec<f32> = (0..40).map(|_| (random.unit() as f32 - 0.5) * 3.4).collect();
            for twin in 30..39 {
                row[twin] = row[twin - 30] + row[twin] * 0.1;
            }
            row[39] = 0.0;
            let odds = 1.5 * f64::from(row[0]) - f64::from(row[1]) + 0.5 * f64::from(row[2]) - 2.0;
            labels.push(random.unit() < sigmoid(odds));
            x.push_row(&row).unwrap();
        }
        (x, labels)
    }

    /// The gradient of the log loss, worked out row by row; the intercept's is last.
    fn gradient(x: &Matrix, labels: &[bool], weights: &[f64], intercept: f64) -> Vec<f64> {
        let mut out = vec![0.0; 41];
        for (row, &label) in labels.iter().enumerate() {
            let margin: f64 = intercept + x.row(row).iter().zip(weights).map(|(&v, w)| f64::from(v) * w).sum::<f64>();
            let residual = sigmoid(margin) - f64::from(u8::from(label));
            for (sum, &value) in out.iter_mut().zip(x.row(row)) {
                *sum += residual * f64::from(value);
            }
            out[40] += residual;
        }
        out
    }

    #[test]
    fn the_optimality_conditions_hold_and_useless_weights_are_zero() {
        let (x, labels) = problem(800);
        for (alpha, l1_ratio) in [(20.0, 1.0), (20.0, 0.5), (20.0, 0.01), (0.1, 1.0), (400.0, 1.0)] {
            let (weights, intercept) = fit(&LogisticHyper { alpha, l1_ratio }, &x, &labels).unwrap();
            let slopes = gradient(&x, &labels, &weights, intercept);
            assert!(slopes[40].abs() < 1e-3, "{}", slopes[40]);
            let (lasso, ridge) = (alpha * l1_ratio, alpha * (1.0 - l1_ratio));
            for (weight, slope) in weights.iter().zip(&slopes) {
                if *weight == 0.0 {
                    assert!(slope.abs() <= lasso + 1e-3, "{alpha} {l1_ratio}: {slope}");
                } else {
                    let rest = slope + ridge * weight + lasso * weight.signum();
                    assert!(rest.abs() < 1e-3, "{alpha} {l1_ratio}: {rest}");
                }
            }
            let used = weights.iter().filter(|weight| **weight != 0.0).count();
            match (alpha, l1_ratio) {
                (400.0, _) => assert_eq!(used, 0),
                (20.0, 1.0) => assert!((2..=8).contains(&used), "{used}"),
                _ => assert!(used > 8, "{used}"),
            }
            assert_eq!(weights[39], 0.0, "the constant column");
        }
    }

    #[test]
    fn a_vanishing_share_of_lasso_is_smartcores_ridge() {
        let (x, labels) = problem(800);
        let ridge = Linear::fit(Family::Logistic, &LogisticHyper { alpha: 5.0, l1_ratio: 0.0 }, &x, &labels).unwrap();
        let near = Linear::fit(Family::Logistic, &LogisticHyper { alpha: 5.0, l1_ratio: 1e-9 }, &x, &labels).unwrap();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        super::super::Model::margins(&ridge, x.values(), &mut a);
        super::super::Model::margins(&near, x.values(), &mut b);
        let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("largest difference of a margin: {off:.5}");
        assert!(off < 0.05, "{off}");
    }

    #[test]
    fn outcomes_that_a_line_parts_still_converge() {
        let x = Matrix::from_values(1, (0..40).map(|i| i as f32 - 19.5).collect()).unwrap();
        let labels: Vec<bool> = (0..40).map(|i| i >= 20).collect();
        let (weights, intercept) = fit(&LogisticHyper { alpha: 1e-3, l1_ratio: 1.0 }, &x, &labels).unwrap();
        assert!(weights[0] > 3.0 && intercept.abs() < 1e-3, "{weights:?} {intercept}");
    }
}
