//! Support vector machine with a Gaussian kernel, fitted by smartcore.
//!
//! smartcore's machine works out the kernel of two rows anew wherever it needs it, and
//! cannot score once it was saved. So it is handed the kernel's values worked out before,
//! and rows that are mere indexes into them; the support vectors and their weights are
//! taken out and scored here. A test holds the margins to smartcore's own decision
//! function, fitted on the rows themselves.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smartcore::error::Failed;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::svm::Kernel;
use smartcore::svm::svc::{SVC, SVCParameters};

use super::error::guarded;
use super::files::MODEL;
use super::points::{Points, squared};
use super::random::landmarks;
use super::{Attribution, Family, Link, Matrix, Model, ModelError, SvmHyper};

/// Passes over the rows, smartcore's own default; five gave the same AUROC.
const PASSES: usize = 2;

type Machine<'a> = SVC<'a, f64, u32, DenseMatrix<f64>, Vec<u32>>;
type Parameters = SVCParameters<f64, u32, DenseMatrix<f64>, Vec<u32>>;

/// `margin = bias + Σ weight * exp(-gamma * |row - vector|²)`, the decision function.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Svm {
    gamma: f64,
    bias: f64,
    /// One a support vector.
    weights: Vec<f64>,
    vectors: Points,
}

/// The kernel's values for all pairs of `count` rows.
#[derive(Debug, Serialize)]
struct Gram {
    count: usize,
    values: Vec<f64>,
}

/// smartcore's serde form, as far as it is read.
#[derive(Deserialize)]
struct Fitted {
    /// A support vector is a row of one value: its index.
    instances: Vec<[f64; 1]>,
    w: Vec<f64>,
    b: f64,
}

impl Svm {
    /// Fits on preprocessed rows, of which at most `landmarks` are used.
    ///
    /// # Errors
    /// [`ModelError::Fit`] if smartcore refuses or ends at weights that are not finite.
    pub(super) fn fit(
        hyper: &SvmHyper,
        seed: u64,
        x: &Matrix,
        labels: &[bool],
        groups: Option<&[i64]>,
    ) -> Result<Svm, ModelError> {
        guarded(Family::Svm, || {
            let problem = |reason: String| ModelError::fit(Family::Svm, reason);
            let rows = landmarks(labels, groups, hyper.landmarks, seed);
            let gamma = hyper.gamma.unwrap_or_else(|| scale(x));
            let indexes = DenseMatrix::new(rows.len(), 1, (0..rows.len()).map(|i| i as f64).collect(), false)
                .map_err(|e| problem(e.to_string()))?;
            let targets: Vec<u32> = rows.iter().map(|&row| u32::from(labels[row])).collect();
            let parameters: Parameters = Parameters::default()
                .with_epoch(PASSES)
                .with_c(hyper.c)
                .with_kernel(Gram::new(gamma, &x.pick(&rows)))
                .with_seed(Some(seed));
            let machine = Machine::fit(&indexes, &targets, &parameters).map_err(|e| problem(e.to_string()))?;
            let text = serde_json::to_vec(&machine).map_err(|e| problem(e.to_string()))?;
            let fitted: Fitted = serde_json::from_slice(&text)
                .map_err(|e| problem(format!("smartcore's support vectors changed: {e}")))?;

            // A row that ended up without weight supports nothing.
            let used: Vec<(usize, f64)> = fitted
                .instances
                .iter()
                .zip(fitted.w)
                .filter(|(_, w)| *w != 0.0)
                .map(|(i, w)| (i[0] as usize, w))
                .collect();
            let kept: Vec<usize> = used.iter().filter_map(|&(index, _)| rows.get(index).copied()).collect();
            let weights = used.into_iter().map(|(_, weight)| weight).collect();
            let out = Svm { gamma, bias: fitted.b, weights, vectors: Points::new(x, &kept) };
            match out.check() {
                Ok(()) => Ok(out),
                Err(reason) => Err(problem(format!("{reason}; change svm.c or svm.gamma"))),
            }
        })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable model.
    pub(super) fn decode(bytes: &[u8]) -> Result<Svm, ModelError> {
        let svm: Svm = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        svm.check().map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        Ok(svm)
    }

    /// Number of support vectors.
    pub(super) fn vectors(&self) -> usize {
        self.weights.len()
    }

    fn check(&self) -> Result<(), String> {
        // No kernel value is above 1, so a finite sum of weights bounds every margin.
        let bound = self.weights.iter().fold(self.bias.abs(), |sum, weight| sum + weight.abs());
        let is_kernel = self.gamma > 0.0 && self.gamma.is_finite();
        if !bound.is_finite() || !is_kernel {
            return Err("a weight or the kernel's gamma is not usable".to_owned());
        }
        self.vectors.check(self.weights.len())
    }

    fn margin(&self, distances: &[f64]) -> f64 {
        let terms = self.weights.iter().zip(distances);
        terms.fold(self.bias, |sum, (weight, distance)| sum + weight * kernel(self.gamma, *distance))
    }
}

impl Model for Svm {
    fn columns(&self) -> usize {
        self.vectors.columns()
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let mut distances = Vec::new();
        for row in rows.chunks_exact(self.columns()) {
            self.vectors.distances(row, &mut distances);
            out.push(self.margin(&distances));
        }
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        self.vectors.attribute(row, &mut |distances| self.margin(distances))
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

impl Gram {
    fn new(gamma: f64, x: &Matrix) -> Gram {
        let count = x.rows();
        let values = (0..count)
            .into_par_iter()
            .flat_map_iter(|a| (0..count).map(move |b| kernel(gamma, squared(x.row(a), x.row(b)))))
            .collect();
        Gram { count, values }
    }
}

/// smartcore's trait wants to be serialised by name (through `typetag`, whose attribute
/// would write the last two functions); a machine is saved without its kernel, so neither
/// is ever called.
impl Kernel for Gram {
    fn apply(&self, a: &Vec<f64>, b: &Vec<f64>) -> Result<f64, Failed> {
        let found = match (a.as_slice(), b.as_slice()) {
            (&[a], &[b]) => self.values.get(a as usize * self.count + b as usize).copied(),
            _ => None,
        };
        found.ok_or_else(|| Failed::fit("a row is not an index into the kernel's values"))
    }

    fn typetag_name(&self) -> &'static str {
        "Gram"
    }

    fn typetag_deserialize(&self) {}
}

fn kernel(gamma: f64, squared: f64) -> f64 {
    // Distances that were added up may end below zero by a rounding.
    (-gamma * squared.max(0.0)).exp()
}

/// 1 over (columns × variance of all values), as scikit-learn's `gamma="scale"`.
fn scale(x: &Matrix) -> f64 {
    let count = x.values().len() as f64;
    let mean = x.values().iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = x.values().iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    if variance > 0.0 { 1.0 / (x.columns() as f64 * variance) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use smartcore::svm::Kernels;

    use super::super::random::Random;
    use super::*;

    /// A ring: no line parts the outcomes.
    fn problem(seed: u64, rows: usize) -> (Matrix, Vec<bool>) {
        let mut random = Random::new(seed);
        let mut x = Matrix::new(5);
        let mut labels = Vec::new();
        for _ in 0..rows {
            let row: Vec<f32> = (0..5).map(|_| random.unit() as f32 * 2.0 - 1.0).collect();
            labels.push((row[0] * row[0] + row[1] * row[1] < 0.5) != (random.unit() < 0.05));
            x.push_row(&row).unwrap();
        }
        (x, labels)
    }

    fn table(x: &Matrix) -> DenseMatrix<f64> {
        DenseMatrix::new(x.rows(), x.columns(), x.values().iter().map(|&v| f64::from(v)).collect(), false).unwrap()
    }

    #[test]
    fn margins_are_smartcores_decision_function() {
        let ((x, labels), (fresh, truth)) = (problem(1, 300), problem(2, 500));
        let (seed, gamma) = (3, 0.8);
        let svm = Svm::fit(&SvmHyper { gamma: Some(gamma), ..SvmHyper::default() }, seed, &x, &labels, None).unwrap();

        let (rows, probes) = (table(&x), table(&fresh));
        let targets: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
        let parameters: Parameters = Parameters::default()
            .with_epoch(PASSES)
            .with_kernel(Kernels::rbf().with_gamma(gamma))
            .with_seed(Some(seed));
        let machine = Machine::fit(&rows, &targets, &parameters).unwrap();
        let want = machine.decision_function(&probes).unwrap();

        let mut margins = Vec::new();
        svm.margins(fresh.values(), &mut margins);
        assert_eq!(margins.len(), want.len());
        for (margin, want) in margins.iter().zip(&want) {
            assert!((margin - want).abs() < 1e-9, "{margin} {want}");
        }
        let classes = machine.predict(&probes).unwrap();
        assert!(margins.iter().zip(&classes).all(|(&margin, &class)| (margin > 0.0) == (class > 0.5)));
        let right = margins.iter().zip(&truth).filter(|&(&margin, &label)| (margin > 0.0) == label).count();
        assert!(right > 430, "{right} of 500");
    }

    #[test]
    fn the_solution_is_near_the_optimum() {
        // Of the dual: Σ weights = 0 and each weight within its bounds; a row whose weight
        // is strictly between them lies on its margin.
        let (x, labels) = problem(4, 400);
        let svm = Svm::fit(&SvmHyper::default(), 1, &x, &labels, None).unwrap();
        assert!(svm.weights.iter().sum::<f64>().abs() < 1e-9);
        assert!(svm.weights.iter().all(|weight| weight.abs() <= 1.0 + 1e-12));
        let mut margins = Vec::new();
        svm.margins(x.values(), &mut margins);
        let off: Vec<f64> = margins
            .iter()
            .enumerate()
            .map(|(row, margin)| {
                let side = if labels[row] { 1.0 } else { -1.0 };
                let mut distances = Vec::new();
                svm.vectors.distances(x.row(row), &mut distances);
                let weight = distances.iter().position(|&d| d == 0.0).map_or(0.0, |at| svm.weights[at].abs());
                let slack = side * margin - 1.0;
                match weight {
                    0.0 => (-slack).max(0.0),
                    weight if weight > 1.0 - 1e-9 => slack.max(0.0),
                    _ => slack.abs(),
                }
            })
            .collect();
        let worst = off.iter().fold(0.0f64, |worst, &one| worst.max(one));
        println!("{} support vectors, worst violation {worst:.4}", svm.vectors());
        assert!(worst < 0.05, "{worst}");
    }

    #[test]
    fn more_columns_than_rows_and_constant_columns_are_no_trouble() {
        let mut random = Random::new(6);
        let mut x = Matrix::new(60);
        let labels: Vec<bool> = (0..20).map(|row| row % 2 == 0).collect();
        for &label in &labels {
            let row: Vec<f32> =
                (0..60).map(|i| if i < 50 { random.unit() as f32 + f32::from(label) } else { 0.0 }).collect();
            x.push_row(&row).unwrap();
        }
        let svm = Svm::fit(&SvmHyper::default(), 1, &x, &labels, None).unwrap();
        let mut margins = Vec::new();
        svm.margins(x.values(), &mut margins);
        assert!(margins.iter().zip(&labels).all(|(margin, &label)| (*margin > 0.0) == label), "{margins:?}");
        let same = Matrix::from_values(2, vec![0.0; 40]).unwrap();
        let svm = Svm::fit(&SvmHyper::default(), 1, &same, &labels, None).unwrap();
        assert_eq!(svm.gamma, 1.0);
    }

    #[test]
    fn a_damaged_model_is_refused() {
        let (x, labels) = problem(7, 40);
        let svm = Svm::fit(&SvmHyper { landmarks: 30, ..SvmHyper::default() }, 1, &x, &labels, None).unwrap();
        assert!(svm.vectors() <= 30);
        assert_eq!(Svm::decode(&svm.encode().unwrap()).unwrap(), svm);
        let mut weights = svm.weights.clone();
        weights.pop();
        let (gamma, huge) = (svm.gamma, vec![1e308; svm.vectors()]);
        for (gamma, weights) in [(-gamma, svm.weights.clone()), (gamma, weights), (gamma, huge)] {
            let bad = Svm { gamma, weights, ..svm.clone() };
            assert!(matches!(Svm::decode(&bad.encode().unwrap()), Err(ModelError::Corrupt { .. })));
        }
    }
}
