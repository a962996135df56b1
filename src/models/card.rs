//! What a bundle says about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Aim, Calibration, Conformal, Family, Hyper, ModelError, Question, Selection};

/// The bundle format written here, and the only one read.
pub const FORMAT: u32 = 2;

/// Most features of a model.
const MAX_FEATURES: usize = 1_000_000;

/// Rows a model was fitted or tuned on.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Rows.
    pub rows: u64,
    /// Rows with the outcome.
    pub positives: u64,
}

impl Counts {
    /// Counts labels.
    pub(super) fn of(labels: &[bool]) -> Counts {
        let positives = labels.iter().filter(|&&label| label).count() as u64;
        Counts { rows: labels.len() as u64, positives }
    }
}

/// The model card: what it is, what it was made from, how good it was.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Format of the bundle, [`FORMAT`].
    pub format: u32,
    /// Name of the model, as a rule that of its task.
    pub name: String,
    /// Version within that name; 0 until the registry gives one.
    pub version: u32,
    /// Kind of model.
    pub family: Family,
    /// Names of the features, in the order of a row.
    pub features: Vec<String>,
    /// Hash of the feature specification that makes such rows.
    pub spec_hash: String,
    /// When it was fitted, microseconds UTC, as the caller said.
    pub created_at: i64,
    /// Rows it was fitted on; all zero for an imported model.
    pub trained_on: Counts,
    /// Rows that calibration and threshold come from.
    pub tuned_on: Counts,
    /// Figures of an evaluation, by name; filled in by whoever evaluates. Finite.
    pub metrics: BTreeMap<String, f64>,
    /// What the fit found out by itself, such as `rounds` or `epochs`.
    pub found: BTreeMap<String, f64>,
    /// Alert at `risk >= threshold`.
    pub threshold: f64,
    /// From margin to risk.
    pub calibration: Calibration,
    /// Hyperparameters of the fit.
    pub params: Hyper,
    /// Seed of everything random in the fit.
    pub seed: u64,
    /// What the threshold was chosen for; `None` where it came with an imported model.
    pub aim: Option<Aim>,
    /// Why the threshold falls short of its aim; `None` where it does not.
    pub threshold_note: Option<String>,
    /// What it abstains by; `None`: it never does.
    pub conformal: Option<Conformal>,
    /// Median of each feature in the training rows; null where it was never known. Empty for an
    /// imported model, and shorter than the features where the model reads no more of them.
    pub usual: Vec<Option<f32>>,
    /// What a panel was asked; `None`: yes or no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// The features that the model reads, where `[train.select]` left any out; `None`: all that its family reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Selection>,
}

impl Card {
    /// Checks what a loaded or edited card claims.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        const FILE: &str = super::files::CARD;
        if self.format != FORMAT {
            return Err(ModelError::Format { found: u64::from(self.format), supported: FORMAT });
        }
        check_features(&self.features)?;
        if !(self.threshold.is_finite() && (0.0..=1.0).contains(&self.threshold)) {
            return Err(ModelError::corrupt(FILE, "the threshold is not between 0 and 1"));
        }
        if !self.calibration.is_sound() {
            return Err(ModelError::corrupt(FILE, "the calibration is not a finite curve that rises"));
        }
        if let Some(reason) = self.question.as_ref().and_then(|question| question.check().err()) {
            return Err(ModelError::corrupt(FILE, format!("its question {reason}")));
        }
        if let Some(reason) = self.conformal.as_ref().and_then(|one| one.check(self.features.len()).err()) {
            return Err(ModelError::corrupt(FILE, reason));
        }
        if self.usual.len() > self.features.len() || self.usual.iter().flatten().any(|usual| !usual.is_finite()) {
            return Err(ModelError::corrupt(FILE, "what is usual is not a finite number a feature"));
        }
        if let Some(reason) = self.selected.as_ref().and_then(|one| one.check(self.features.len()).err()) {
            return Err(ModelError::corrupt(FILE, reason));
        }
        // JSON has no NaN: it would come back as null, and the card could not be read again.
        if let Some((name, _)) = self.metrics.iter().chain(&self.found).find(|(_, value)| !value.is_finite()) {
            return Err(ModelError::corrupt(FILE, format!("the figure '{name}' is not finite; leave it out")));
        }
        Ok(())
    }
}

/// Feature names must be there, few enough, not empty and different.
pub(super) fn check_features(features: &[String]) -> Result<(), ModelError> {
    let problem = |reason: String| Err(ModelError::Features { reason });
    if features.is_empty() || features.len() > MAX_FEATURES {
        return problem(format!("there must be 1 to {MAX_FEATURES}, not {}", features.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for feature in features {
        if feature.is_empty() {
            return problem("one is empty".to_owned());
        }
        if !seen.insert(feature) {
            return problem(format!("'{feature}' occurs twice"));
        }
    }
    Ok(())
}
