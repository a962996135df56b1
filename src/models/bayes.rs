//! Gaussian naive Bayes, fitted by smartcore.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::naive_bayes::gaussian::{GaussianNB, GaussianNBParameters};

use super::error::guarded;
use super::files::MODEL;
use super::{Attribution, BayesHyper, Family, Link, Matrix, Model, ModelError};

/// Bounds of a variance: what scaled rows and the smoothing can lead to, and more.
const VARIANCES: std::ops::RangeInclusive<f64> = 1e-10..=1e100;

/// `margin = prior + Σ log(density with the outcome / density without it)`, log-odds under
/// the assumption that columns are independent given the outcome.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bayes {
    /// Log-odds of the outcome among the training rows.
    prior: f64,
    densities: Vec<Densities>,
}

/// A column's normal densities, without and with the outcome.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Densities {
    means: [f64; 2],
    variances: [f64; 2],
    /// Mean over the training rows of what the column adds.
    average: f64,
}

impl Bayes {
    /// Fits on preprocessed rows.
    ///
    /// # Errors
    /// [`ModelError::Fit`] if smartcore refuses.
    pub(super) fn fit(hyper: &BayesHyper, x: &Matrix, labels: &[bool]) -> Result<Bayes, ModelError> {
        guarded(Family::Bayes, || {
            let fitted = fit_smartcore(x, labels)?;
            // Classes are sorted: 0, then 1.
            let ([without, with], [mean0, mean1], [var0, var1]) =
                (fitted.class_priors().as_slice(), fitted.theta().as_slice(), fitted.var().as_slice())
            else {
                return Err(ModelError::fit(Family::Bayes, "smartcore found other than two outcomes"));
            };
            let columns = mean0.iter().zip(mean1).zip(var0.iter().zip(var1));
            let mut densities: Vec<Densities> = columns
                .map(|((&mean0, &mean1), (&var0, &var1))| Densities {
                    means: [mean0, mean1],
                    // A difference of two means, so rounding may take it below zero.
                    variances: [var0, var1].map(|variance| variance.max(0.0) + hyper.smoothing),
                    average: 0.0,
                })
                .collect();
            densities.par_iter_mut().enumerate().for_each(|(column, densities)| {
                let sum: f64 = x.column(column).map(|value| densities.log_ratio(value)).sum();
                densities.average = sum / x.rows() as f64;
            });
            let out = Bayes { prior: (with / without).ln(), densities };
            out.check().map_err(|reason| ModelError::fit(Family::Bayes, reason))?;
            Ok(out)
        })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable model.
    pub(super) fn decode(bytes: &[u8]) -> Result<Bayes, ModelError> {
        let bayes: Bayes = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        bayes.check().map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        Ok(bayes)
    }

    fn check(&self) -> Result<(), String> {
        let sound = |d: &Densities| {
            d.variances.iter().all(|variance| VARIANCES.contains(variance))
                && d.means.iter().all(|mean| mean.abs() <= f64::from(f32::MAX))
                && d.average.is_finite()
        };
        if self.densities.is_empty() || !self.prior.is_finite() || !self.densities.iter().all(sound) {
            return Err("a mean or a variance is missing or not usable".to_owned());
        }
        Ok(())
    }
}

impl Densities {
    /// What the column adds to the log-odds; finite for every finite `x`.
    fn log_ratio(&self, x: f32) -> f64 {
        let [without, with] = [0, 1].map(|outcome| {
            let distance = f64::from(x) - self.means[outcome];
            distance * distance / self.variances[outcome] + self.variances[outcome].ln()
        });
        (without - with) / 2.0
    }
}

impl Model for Bayes {
    fn columns(&self) -> usize {
        self.densities.len()
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        out.extend(rows.chunks_exact(self.columns()).map(|row| {
            let terms = self.densities.iter().zip(row).map(|(densities, &x)| densities.log_ratio(x));
            terms.fold(self.prior, |sum, term| sum + term)
        }));
    }

    /// The margin is a sum over columns: each contributes its term less the term's mean.
    fn attribute(&self, row: &[f32]) -> Attribution {
        let base = self.densities.iter().fold(self.prior, |sum, densities| sum + densities.average);
        let contributions = self.densities.iter().zip(row).map(|(d, &x)| d.log_ratio(x) - d.average).collect();
        Attribution::exact(base, contributions)
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

fn fit_smartcore(x: &Matrix, labels: &[bool]) -> Result<GaussianNB<f64, u32, DenseMatrix<f64>, Vec<u32>>, ModelError> {
    let problem = |e: smartcore::error::Failed| ModelError::fit(Family::Bayes, e);
    let values: Vec<f64> = x.values().iter().map(|&value| f64::from(value)).collect();
    let table = DenseMatrix::new(x.rows(), x.columns(), values, false).map_err(problem)?;
    let targets: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
    GaussianNB::fit(&table, &targets, GaussianNBParameters { priors: None }).map_err(problem)
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    fn problem(rows: usize) -> (Matrix, Vec<bool>) {
        let mut random = Random::new(8);
        let mut x = Matrix::new(4);
        let mut labels = Vec::new();
        for _ in 0..rows {
            let label = random.unit() < 0.3;
            let spread = if label { 2.0 } else { 1.0 };
            let bell = |random: &mut Random| ((0..6).map(|_| random.unit()).sum::<f64>() - 3.0) as f32;
            let row = [bell(&mut random) * spread, bell(&mut random) + spread, bell(&mut random), 0.0];
            labels.push(label);
            x.push_row(&row).unwrap();
        }
        (x, labels)
    }

    #[test]
    fn decides_as_smartcore_does_where_no_variance_needs_smoothing() {
        let (x, labels) = problem(600);
        // The constant column would make smartcore's own densities NaN.
        let mut varying = Matrix::new(3);
        for row in 0..x.rows() {
            varying.push_row(&x.row(row)[..3]).unwrap();
        }
        let fitted = fit_smartcore(&varying, &labels).unwrap();
        let bayes = Bayes::fit(&BayesHyper { smoothing: 1e-9 }, &varying, &labels).unwrap();
        let values: Vec<f64> = varying.values().iter().map(|&value| f64::from(value)).collect();
        let want = fitted.predict(&DenseMatrix::new(600, 3, values, false).unwrap()).unwrap();
        let mut margins = Vec::new();
        bayes.margins(varying.values(), &mut margins);
        assert!(want.contains(&0) && want.contains(&1));
        for (margin, want) in margins.iter().zip(want) {
            assert_eq!(u32::from(*margin > 0.0), want, "{margin}");
        }
    }

    #[test]
    fn a_constant_column_adds_nothing_and_the_mean_row_has_the_base() {
        let (x, labels) = problem(600);
        let bayes = Bayes::fit(&BayesHyper::default(), &x, &labels).unwrap();
        let mut margins = Vec::new();
        bayes.margins(x.values(), &mut margins);
        let mean = margins.iter().sum::<f64>() / 600.0;
        for (row, margin) in margins.iter().enumerate() {
            let found = bayes.attribute(x.row(row));
            assert!((found.base - mean).abs() < 1e-10);
            assert!((found.base + found.contributions.iter().sum::<f64>() - margin).abs() < 1e-10);
            assert_eq!((found.contributions[3], found.error), (0.0, None));
        }
        assert_eq!(Bayes::decode(&bayes.encode().unwrap()).unwrap(), bayes);
    }

    #[test]
    fn a_damaged_model_is_refused() {
        for bytes in [
            &br#"{"prior":0.0,"densities":[]}"#[..],
            br#"{"prior":0.0,"densities":[{"means":[0.0,1.0],"variances":[0.0,1.0],"average":0.0}]}"#,
            br#"{"prior":0.0,"densities":[{"means":[0.0,1e300],"variances":[1.0,1.0],"average":0.0}]}"#,
            br#"{"prior":null,"densities":[{"means":[0.0,1.0],"variances":[1.0,1.0],"average":0.0}]}"#,
            b"not json",
        ] {
            assert!(matches!(Bayes::decode(bytes), Err(ModelError::Corrupt { .. })));
        }
    }
}
