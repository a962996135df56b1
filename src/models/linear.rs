//! Logistic regression, fitted by smartcore; with an L1 penalty by [`super::elastic`].

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};

use super::error::guarded;
use super::files::MODEL;
use super::{Attribution, Family, Link, LogisticHyper, Matrix, Model, ModelError, elastic};

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
            let values: Vec<f64> = x.values().iter().map(|&value| f64::from(value)).collect();
            let table = DenseMatrix::new(x.rows(), x.columns(), values, false).map_err(|e| problem(e.to_string()))?;
            let targets: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
            let parameters = LogisticRegressionParameters::default().with_alpha(hyper.alpha);
            let fitted = LogisticRegression::fit(&table, &targets, parameters).map_err(|e| problem(e.to_string()))?;
            // smartcore models the odds of the class it lists second.
            if fitted.classes() != &[0, 1] {
                return Err(problem("smartcore ordered the classes unexpectedly".to_owned()));
            }
            let out = Linear {
                weights: fitted.coefficients().iterator(0).copied().collect(),
                intercept: *fitted.intercept().get((0, 0)),
                means: means(x),
            };
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

    fn margin(&self, row: &[f32]) -> f64 {
        // Eight running sums, so that the compiler may use the wide registers; their order
        // is fixed, so the result is too.
        let mut sums = [0.0f64; 8];
        let weights = self.weights.chunks_exact(8);
        let values = row.chunks_exact(8);
        let rest = weights.remainder().iter().zip(values.remainder());
        let tail = rest.fold(0.0, |sum, (weight, &value)| sum + weight * f64::from(value));
        for (weights, values) in weights.zip(values) {
            for ((sum, weight), &value) in sums.iter_mut().zip(weights).zip(values) {
                *sum += weight * f64::from(value);
            }
        }
        self.intercept + sums.iter().sum::<f64>() + tail
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
        out.extend(rows.chunks_exact(self.columns()).map(|row| self.margin(row)));
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

/// The mean of every column.
pub(super) fn means(x: &Matrix) -> Vec<f64> {
    let rows = x.rows().max(1) as f64;
    (0..x.columns())
        .into_par_iter()
        .map(|column| (0..x.rows()).map(|row| f64::from(x.row(row)[column])).sum::<f64>() / rows)
        .collect()
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
            labels.push(random.unit() < super::super::calibration::sigmoid(odds));
            x.push_row(&row).unwrap();
        }
        let linear = Linear::fit(Family::Logistic, &LogisticHyper { alpha: 1e-3, l1_ratio: 0.0 }, &x, &labels).unwrap();
        for (found, want) in linear.weights.iter().zip([2.0, -1.0]) {
            assert!((found - want).abs() < 0.2, "{linear:?}");
        }
        assert!((linear.intercept + 0.5).abs() < 0.2);
        assert_eq!(Linear::decode(&linear.encode().unwrap()).unwrap(), linear);
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
