//! A bedside score as a model: one feature that is a score already (NEWS2, SOFA, SAPS).
//!
//! The margin is the score itself; calibration on the tuning rows turns its points into a
//! risk. So what wards use today is measured, and beaten or not, on the very same rows.

use serde::{Deserialize, Serialize};

use super::files::MODEL;
use super::{Attribution, BedsideHyper, Family, Link, Matrix, Model, ModelError};

/// `margin = row[feature]`, a missing one filled.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bedside {
    columns: usize,
    feature: usize,
    /// Training median, for a missing score.
    fill: f32,
    /// Mean of the training rows, gaps filled.
    mean: f64,
}

impl Bedside {
    /// Takes the named feature of raw rows, whose columns are `names`.
    ///
    /// # Errors
    /// [`ModelError::Fit`] if there is no such feature, or no training row has it.
    pub(super) fn fit(hyper: &BedsideHyper, names: &[String], x: &Matrix) -> Result<Bedside, ModelError> {
        let name = &hyper.feature;
        let problem = |reason: String| ModelError::fit(Family::Bedside, reason);
        let feature = names.iter().position(|known| known == name).ok_or_else(|| {
            problem(format!(
                "bedside.feature is '{name}', which the feature set does not have; name one it has, or add it"
            ))
        })?;
        let present = x.known(feature);
        let Some(&fill) = present.get(present.len() / 2) else {
            return Err(problem(format!("no training row has a value of '{name}'; name a feature that is recorded")));
        };
        let mut out = Bedside { columns: x.columns(), feature, fill, mean: 0.0 };
        out.mean = (0..x.rows()).map(|row| out.points(x.row(row))).sum::<f64>() / x.rows() as f64;
        Ok(out)
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable model.
    pub(super) fn decode(bytes: &[u8]) -> Result<Bedside, ModelError> {
        let bedside: Bedside = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        if bedside.feature >= bedside.columns || !bedside.fill.is_finite() || !bedside.mean.is_finite() {
            return Err(ModelError::corrupt(MODEL, "the score is not among the features, or a number is not finite"));
        }
        Ok(bedside)
    }

    /// The score of a row; finite whatever the row holds.
    fn points(&self, row: &[f32]) -> f64 {
        let value = row[self.feature];
        f64::from(if value.is_nan() { self.fill } else { value.clamp(f32::MIN, f32::MAX) })
    }
}

impl Model for Bedside {
    fn columns(&self) -> usize {
        self.columns
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        out.extend(rows.chunks_exact(self.columns).map(|row| self.points(row)));
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        let mut contributions = vec![0.0; self.columns];
        contributions[self.feature] = self.points(row) - self.mean;
        Attribution::exact(self.mean, contributions)
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(feature: &str, column: [f32; 4]) -> Result<Bedside, ModelError> {
        let names = ["age", "news2"].map(str::to_owned);
        let x = Matrix::from_values(2, column.iter().flat_map(|&value| [50.0, value]).collect()).unwrap();
        Bedside::fit(&BedsideHyper { feature: feature.to_owned() }, &names, &x)
    }

    #[test]
    fn the_margin_is_the_score_and_a_gap_its_median() {
        let bedside = fit("news2", [1.0, f32::NAN, 7.0, 4.0]).unwrap();
        let mut margins = Vec::new();
        bedside.margins(&[50.0, 9.0, f32::NAN, f32::NAN, 1.0, f32::INFINITY], &mut margins);
        assert_eq!(margins, [9.0, 4.0, f64::from(f32::MAX)]);
        let found = bedside.attribute(&[80.0, 9.0]);
        assert_eq!((found.base, found.contributions, found.error), (4.0, vec![0.0, 5.0], None));
        assert_eq!(Bedside::decode(&bedside.encode().unwrap()).unwrap(), bedside);
    }

    #[test]
    fn a_score_that_is_not_there_is_refused_by_name() {
        let error = fit("sofa", [1.0; 4]).unwrap_err().to_string();
        assert!(error.contains("bedside.feature is 'sofa'"), "{error}");
        let error = fit("news2", [f32::NAN; 4]).unwrap_err().to_string();
        assert!(error.contains("no training row has a value of 'news2'"), "{error}");
    }

    #[test]
    fn a_damaged_model_is_refused() {
        for bytes in [
            &br#"{"columns":2,"feature":2,"fill":0.0,"mean":0.0}"#[..],
            br#"{"columns":2,"feature":0,"fill":1e99,"mean":0.0}"#,
            br#"{"columns":2,"feature":0,"fill":0.0,"mean":null}"#,
            b"not json",
        ] {
            assert!(matches!(Bedside::decode(bytes), Err(ModelError::Corrupt { .. })));
        }
    }
}
