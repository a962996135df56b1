//! What a model's risks are made of, over many rows.
//!
//! Promises no subject: of single rows only a feature's value and its contribution are told,
//! ordered by the value.

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rayon::prelude::*;
use serde::Serialize;

use crate::models::{Bundle, Explanation, Matrix, ModelError};

/// Most rows that are explained, and most contributions that they may have together.
const ROWS: (usize, usize) = (1_000, 50_000_000);
/// Features whose dependence is told.
const DEPENDENCE: usize = 10;
/// Most points of a dependence.
const POINTS: usize = 200;

/// Contributions to the risk, averaged over a sample of the rows.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Importance {
    /// Rows of the sample.
    pub rows: usize,
    /// Each feature, the most important first.
    pub features: Vec<FeatureImportance>,
    /// Each concept, the most important first.
    pub concepts: Vec<ConceptImportance>,
    /// Of the most important features, how the contribution depends on the value.
    pub dependence: Vec<Dependence>,
}

/// What a feature does to the risk.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FeatureImportance {
    /// Its name.
    pub feature: String,
    /// What it is a feature of: its name up to the first `.`, `=` or `:`.
    pub concept: String,
    /// Mean size of its contribution, in probability.
    pub mean_abs: f64,
    /// Mean contribution, in probability: above 0, it raises the risk of these rows on the whole.
    pub mean: f64,
}

/// What all features of a concept do together.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ConceptImportance {
    /// The concept.
    pub concept: String,
    /// Its features.
    pub features: usize,
    /// Mean size of the sum of their contributions to a row: what cancels out does not count.
    pub mean_abs: f64,
}

/// A feature's values and what they contributed.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Dependence {
    /// The feature.
    pub feature: String,
    /// Value (null where missing) and contribution of up to 200 rows, by value.
    pub points: Vec<(Option<f32>, f64)>,
}

/// Which of `rows` rows are explained, ascending; the same for the same arguments.
pub(super) fn sample(rows: usize, features: usize, seed: u64) -> Vec<usize> {
    let most = ROWS.0.min(ROWS.1 / features.max(1)).max(1);
    let mut picked = if rows <= most {
        (0..rows).collect()
    } else {
        rand::seq::index::sample(&mut StdRng::seed_from_u64(seed), rows, most).into_vec()
    };
    picked.sort_unstable();
    picked
}

/// Explains every row.
///
/// # Errors
/// [`ModelError::Columns`] if they are not rows of the model.
pub(super) fn importance(bundle: &Bundle, rows: &Matrix) -> Result<Importance, ModelError> {
    let explain = |i: usize| bundle.explain(rows.row(i));
    let explained: Vec<Explanation> = (0..rows.rows()).into_par_iter().map(explain).collect::<Result<_, _>>()?;
    let names = &bundle.card.features;
    let mean = |sum: f64| if explained.is_empty() { 0.0 } else { sum / explained.len() as f64 };
    let mut features: Vec<(usize, FeatureImportance)> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let contributions = || explained.iter().map(|row| row.contributions[i]);
            let importance = FeatureImportance {
                feature: name.clone(),
                concept: concept(name).to_owned(),
                mean_abs: mean(contributions().map(f64::abs).sum()),
                mean: mean(contributions().sum()),
            };
            (i, importance)
        })
        .collect();
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, name) in names.iter().enumerate() {
        members.entry(concept(name)).or_default().push(i);
    }
    let mut concepts: Vec<ConceptImportance> = members
        .into_iter()
        .map(|(concept, members)| {
            let together = |row: &Explanation| members.iter().map(|i| row.contributions[*i]).sum::<f64>().abs();
            ConceptImportance {
                concept: concept.to_owned(),
                features: members.len(),
                mean_abs: mean(explained.iter().map(together).sum()),
            }
        })
        .collect();
    // Sorting keeps the order of those that are alike.
    features.sort_by(|a, b| b.1.mean_abs.total_cmp(&a.1.mean_abs));
    concepts.sort_by(|a, b| b.mean_abs.total_cmp(&a.mean_abs));
    let dependence = features.iter().take(DEPENDENCE).map(|(i, importance)| {
        let point = |(row, of): (usize, &Explanation)| (rows.row(row)[*i], of.contributions[*i]);
        let points = thin(explained.iter().enumerate().map(point).collect());
        Dependence { feature: importance.feature.clone(), points }
    });
    let dependence = dependence.collect();
    let features = features.into_iter().map(|(_, importance)| importance).collect();
    Ok(Importance { rows: explained.len(), features, concepts, dependence })
}

fn concept(feature: &str) -> &str {
    feature.split(['.', '=', ':']).next().unwrap_or(feature)
}

/// Points by value, evenly thinned out; missing values stand last.
fn thin(mut points: Vec<(f32, f64)>) -> Vec<(Option<f32>, f64)> {
    let key = |value: f32| if value.is_nan() { f32::NAN.copysign(1.0) } else { value };
    points.sort_by(|a, b| key(a.0).total_cmp(&key(b.0)).then(a.1.total_cmp(&b.1)));
    let kept = points.len().min(POINTS);
    let pick = |i: usize| points[i * (points.len() - 1) / (kept - 1).max(1)];
    (0..kept).map(pick).map(|(value, contribution)| (Some(value).filter(|v| !v.is_nan()), contribution)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::tests::bundle;

    #[test]
    fn importance_is_the_mean_of_the_explanations() {
        let bundle = bundle("task", 1);
        let mut rows = Matrix::new(2);
        for i in 0..300_u16 {
            rows.push_row(&[if i % 10 == 0 { f32::NAN } else { f32::from(i % 60) }, f32::from(i % 11)]).unwrap();
        }
        let found = importance(&bundle, &rows).unwrap();
        assert_eq!((found.rows, found.features.len(), found.concepts.len()), (300, 2, 2));
        let sizes = (0..300).map(|i| bundle.explain(rows.row(i)).unwrap().contributions[0].abs());
        let mean = sizes.sum::<f64>() / 300.0;
        assert_eq!(found.features[0].feature, "a", "the column that tells the outcome");
        assert!((found.features[0].mean_abs - mean).abs() < 1e-12);
        assert!((found.concepts[0].mean_abs - mean).abs() < 1e-12);
        let points = &found.dependence[0].points;
        assert_eq!((points.len(), points[0].0, points[199].0), (200, Some(1.0), None));
        assert!(points.iter().filter_map(|point| point.0).is_sorted());
        assert_eq!(importance(&bundle, &Matrix::new(2)).unwrap().rows, 0);
    }

    #[test]
    fn the_sample_is_the_same_each_time_and_fits() {
        assert_eq!(sample(5, 10, 1), [0, 1, 2, 3, 4]);
        let picked = sample(100_000, 10, 1);
        assert!(picked.len() == 1_000 && picked.is_sorted() && picked == sample(100_000, 10, 1));
        assert_ne!(picked, sample(100_000, 10, 2));
        assert_eq!(sample(100_000, 1_000_000, 1).len(), 50);
        assert!(sample(0, 10, 1).is_empty());
        assert_eq!(
            ["lactate.last.24h", "ward=ICU.last.ever", "note:chest pain.count.24h", "age"].map(concept),
            ["lactate", "ward", "note", "age"]
        );
    }
}
