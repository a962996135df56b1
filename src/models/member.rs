//! A model within a model: a family with its own preprocessing, over raw rows.
//!
//! What a stack weighs and a panel puts side by side.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::files::MODEL;
use super::fit::fit_on;
use super::preprocess::Preprocess;
use super::{Attribution, Family, FitSpec, Link, Matrix, Model, ModelError};

/// Rows that are preprocessed at a time.
const BLOCK: usize = 64;

/// A fitted member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) family: Family,
    preprocess: Preprocess,
    model: Box<dyn Model>,
}

/// A member in the `model.json` of what it belongs to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredMember {
    pub(super) family: Family,
    pub(super) preprocess: Preprocess,
    /// What a bundle of that family has in `model.json`, byte for byte.
    pub(super) model: Box<RawValue>,
}

impl Member {
    /// Fits preprocessing and model on raw rows, those that `spec.groups` stands for.
    pub(super) fn fit(
        family: Family,
        spec: &FitSpec,
        x: &Matrix,
        labels: &[bool],
        found: &mut BTreeMap<String, f64>,
    ) -> Result<Member, ModelError> {
        let (preprocess, model) = fit_on(family, spec, x, labels, found)?;
        Ok(Member { family, preprocess, model })
    }

    /// Reads a stored member of something that takes raw rows of `width`.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is none that can be used.
    pub(super) fn decode(stored: StoredMember, width: usize) -> Result<Member, ModelError> {
        let corrupt = |reason: String| ModelError::corrupt(MODEL, reason);
        let StoredMember { family, preprocess, model } = stored;
        // Before the model, which may index by what these say.
        preprocess.check().map_err(corrupt)?;
        let model = family.decode(model.get().as_bytes(), preprocess.features())?;
        let member = Member { family, preprocess, model };
        member.check(width).map_err(corrupt)?;
        Ok(member)
    }

    /// Whether its parts fit together and into raw rows of `width`.
    pub(super) fn check(&self, width: usize) -> Result<(), String> {
        let fits = self.family.takes(&self.preprocess)
            // A member that reads no grid sees the columns before it.
            && (1..=width).contains(&self.preprocess.features())
            && self.preprocess.columns() == self.model.columns();
        if fits { Ok(()) } else { Err(format!("the preprocessing of its {} does not fit", self.family)) }
    }

    /// The member as it is stored.
    pub(super) fn store(&self) -> Result<StoredMember, ModelError> {
        let corrupt = |reason: String| ModelError::corrupt(MODEL, reason);
        let text = String::from_utf8(self.model.encode()?).map_err(|e| corrupt(e.to_string()))?;
        Ok(StoredMember {
            family: self.family,
            preprocess: self.preprocess.clone(),
            model: RawValue::from_string(text).map_err(|e| corrupt(e.to_string()))?,
        })
    }

    /// What its margin is.
    pub(super) fn link(&self) -> Link {
        self.model.link()
    }

    /// Appends the margins of raw rows of `width`; `columns` is memory to work in.
    pub(super) fn margins(&self, rows: &[f32], width: usize, columns: &mut Vec<f32>, out: &mut Vec<f64>) {
        let used = self.preprocess.features();
        if self.preprocess.is_raw() && used == width {
            return self.model.margins(rows, out);
        }
        for block in rows.chunks(width * BLOCK) {
            columns.clear();
            for row in block.chunks_exact(width) {
                self.preprocess.apply(&row[..used], columns);
            }
            self.model.margins(columns, out);
        }
    }

    /// The margin of one raw row and why it is that: a contribution for each feature that it
    /// reads, which are the first ones.
    pub(super) fn attribute(&self, row: &[f32]) -> (f64, Attribution) {
        let (mut columns, mut margins) = (Vec::new(), Vec::new());
        self.preprocess.apply(&row[..self.preprocess.features()], &mut columns);
        self.model.margins(&columns, &mut margins);
        let mut attribution = self.model.attribute(&columns);
        attribution.contributions = self.preprocess.fold(attribution.contributions);
        // One row was given, so there is one margin.
        (margins.first().copied().unwrap_or(attribution.base), attribution)
    }
}
