//! Nearest neighbours: the share of positives among the training rows most like a row.
//!
//! There is nothing to fit but which rows to keep. A test holds the shares to smartcore's
//! classifier, which searches by the same distances.

use serde::{Deserialize, Serialize};

use super::files::MODEL;
use super::points::Points;
use super::random::landmarks;
use super::{Attribution, KnnHyper, Link, Matrix, Model, ModelError};

/// Neighbours that are made up, with the outcome as often as all rows kept: they keep the
/// share of a few neighbours from being 0 or 1.
const MADE_UP: f64 = 1.0;

/// Rows kept, and how they are asked. The margin is a probability ([`Link::Probability`]).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Knn {
    neighbours: usize,
    weighted: bool,
    labels: Vec<bool>,
    rows: Points,
}

impl Knn {
    /// Keeps preprocessed rows.
    pub(super) fn fit(hyper: &KnnHyper, seed: u64, x: &Matrix, labels: &[bool], groups: Option<&[i64]>) -> Knn {
        let kept = landmarks(labels, groups, hyper.rows, seed);
        Knn {
            neighbours: hyper.neighbours.unwrap_or(kept.len() / 10).clamp(1, kept.len().max(1)),
            weighted: hyper.weighted,
            labels: kept.iter().map(|&row| labels[row]).collect(),
            rows: Points::new(x, &kept),
        }
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable model.
    pub(super) fn decode(bytes: &[u8]) -> Result<Knn, ModelError> {
        let knn: Knn = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        knn.rows.check(knn.labels.len()).map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        if knn.neighbours == 0 || knn.neighbours > knn.labels.len() {
            return Err(ModelError::corrupt(MODEL, "it asks no neighbours, or more than it keeps"));
        }
        Ok(knn)
    }

    /// The smoothed share of positives among the nearest rows, given all squared distances.
    fn probability(&self, distances: &[f64], sorted: &mut Vec<f64>) -> f64 {
        let count = self.neighbours as f64;
        let prevalence = self.labels.iter().filter(|&&label| label).count() as f64 / self.labels.len() as f64;
        (count * self.share(distances, sorted) + MADE_UP * prevalence) / (count + MADE_UP)
    }

    fn share(&self, distances: &[f64], sorted: &mut Vec<f64>) -> f64 {
        sorted.clear();
        sorted.extend_from_slice(distances);
        let (nearer, &mut farthest, _) = sorted.select_nth_unstable_by(self.neighbours - 1, f64::total_cmp);
        // Of rows equally far, those kept first are asked.
        let mut ties = self.neighbours - nearer.iter().filter(|&&distance| distance < farthest).count();
        let nearest = nearer.iter().fold(farthest, |least, &distance| least.min(distance));
        let (mut positive, mut all) = (0.0, 0.0);
        for (&distance, &label) in distances.iter().zip(&self.labels) {
            if distance > farthest || distance == farthest && ties == 0 {
                continue;
            }
            ties -= usize::from(distance == farthest);
            let weight = match self.weighted {
                false => 1.0,
                // A row that is the same says all there is to say.
                true if nearest <= 0.0 => f64::from(u8::from(distance <= 0.0)),
                true => 1.0 / distance.sqrt(),
            };
            all += weight;
            positive += weight * f64::from(u8::from(label));
        }
        positive / all
    }
}

impl Model for Knn {
    fn columns(&self) -> usize {
        self.rows.columns()
    }

    fn link(&self) -> Link {
        Link::Probability
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let (mut distances, mut sorted) = (Vec::new(), Vec::new());
        for row in rows.chunks_exact(self.columns()) {
            self.rows.distances(row, &mut distances);
            out.push(self.probability(&distances, &mut sorted));
        }
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        let mut sorted = Vec::new();
        self.rows.attribute(row, &mut |distances| self.probability(distances, &mut sorted))
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

#[cfg(test)]
mod tests {
    use smartcore::algorithm::neighbour::KNNAlgorithmName;
    use smartcore::linalg::basic::matrix::DenseMatrix;
    use smartcore::neighbors::KNNWeightFunction;
    use smartcore::neighbors::knn_classifier::{KNNClassifier, KNNClassifierParameters};

    use super::super::random::Random;
    use super::*;

    fn problem(seed: u64, rows: usize) -> (Matrix, Vec<bool>) {
        let mut random = Random::new(seed);
        let mut x = Matrix::new(9);
        let mut labels = Vec::new();
        for _ in 0..rows {
            let row: Vec<f32> = (0..9).map(|_| random.unit() as f32).collect();
            labels.push(row[0] + row[1] > 1.2);
            x.push_row(&row).unwrap();
        }
        (x, labels)
    }

    fn table(x: &Matrix) -> DenseMatrix<f64> {
        DenseMatrix::new(x.rows(), x.columns(), x.values().iter().map(|&v| f64::from(v)).collect(), false).unwrap()
    }

    #[test]
    fn shares_are_those_of_smartcores_classifier() {
        let ((x, labels), (fresh, _)) = (problem(1, 400), problem(2, 300));
        let targets: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
        for (neighbours, weighted) in [(1, false), (7, false), (25, true), (400, true)] {
            let weight = if weighted { KNNWeightFunction::Distance } else { KNNWeightFunction::Uniform };
            let parameters = KNNClassifierParameters::default()
                .with_k(neighbours)
                .with_algorithm(KNNAlgorithmName::LinearSearch)
                .with_weight(weight);
            let fitted = KNNClassifier::fit(&table(&x), &targets, parameters).unwrap();
            let knn = Knn::fit(&KnnHyper { neighbours: Some(neighbours), weighted, rows: 1_000 }, 0, &x, &labels, None);
            let prevalence = targets.iter().sum::<u32>() as f64 / 400.0;
            for (rows, name) in [(&fresh, "fresh"), (&x, "the training rows themselves")] {
                let want = fitted.predict_proba(&table(rows)).unwrap();
                let mut margins = Vec::new();
                knn.margins(rows.values(), &mut margins);
                assert_eq!(margins.len(), want.len());
                for (margin, want) in margins.iter().zip(&want) {
                    let count = neighbours as f64;
                    let smoothed = (count * want[1] + prevalence) / (count + 1.0);
                    assert!((margin - smoothed).abs() < 1e-12, "{neighbours} {weighted} {name}: {margin} {smoothed}");
                }
            }
        }
    }

    #[test]
    fn of_rows_equally_far_the_first_are_asked_and_never_more_than_there_are() {
        let x = Matrix::from_values(1, vec![1.0, -1.0, 1.0, -1.0, 5.0]).unwrap();
        let labels = [true, false, false, true, true];
        let share = |neighbours, weighted| {
            let knn = Knn::fit(&KnnHyper { neighbours: Some(neighbours), weighted, rows: 10 }, 0, &x, &labels, None);
            let mut distances = Vec::new();
            knn.rows.distances(&[0.0], &mut distances);
            knn.share(&distances, &mut Vec::new())
        };
        for weighted in [false, true] {
            assert_eq!(share(1, weighted), 1.0);
            assert_eq!(share(3, weighted), 1.0 / 3.0);
            assert_eq!(share(4, weighted), 0.5);
        }
        assert_eq!(share(99, false), 0.6);
    }

    #[test]
    fn a_damaged_model_is_refused() {
        let (x, labels) = problem(3, 20);
        let knn = Knn::fit(&KnnHyper::default(), 0, &x, &labels, None);
        assert_eq!(knn.neighbours, 2, "a tenth of the rows");
        assert_eq!(Knn::decode(&knn.encode().unwrap()).unwrap(), knn);
        for neighbours in [0, 21] {
            let bad = Knn { neighbours, ..knn.clone() };
            assert!(matches!(Knn::decode(&bad.encode().unwrap()), Err(ModelError::Corrupt { .. })));
        }
        let bad = Knn { labels: vec![true; 19], ..knn };
        assert!(matches!(Knn::decode(&bad.encode().unwrap()), Err(ModelError::Corrupt { .. })));
    }
}
