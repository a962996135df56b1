//! Predictions that fell due, with their vectors.

use std::fmt;
use std::sync::Arc;

use super::spec::FeatureSpec;
use crate::events::{Micros, SubjectId};

/// In [`Due::observed`]: nothing was observed, or it has no time.
pub const NOT_OBSERVED: Micros = Micros::MIN;

/// One prediction to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prediction {
    /// Index into the triggers that the fold was made with.
    pub trigger: usize,
    /// Of whom.
    pub subject: SubjectId,
    /// Pseudonymous encounter; `None` if it has no id, or there is none.
    pub encounter: Option<Arc<str>>,
    /// The moment that is predicted from.
    pub time: Micros,
    /// Source of the event that last changed the state of the subject.
    pub source: String,
}

/// Predictions of a batch, in the order in which they fell due. Meant to be used again.
#[derive(Clone, PartialEq, Default)]
pub struct Due {
    /// The predictions.
    pub rows: Vec<Prediction>,
    /// Their vectors, row by row, each of [`FeatureSpec::len`]; `NaN` is missing.
    pub values: Vec<f32>,
    /// Beside each value, when what is behind it was observed: for a minimum or maximum when it
    /// was first reached, for the first when that was, else the last sample of the window.
    /// [`NOT_OBSERVED`] where there is no such time.
    pub observed: Vec<Micros>,
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Due").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl Due {
    /// Nothing due.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything and keeps the room.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.values.clear();
        self.observed.clear();
    }

    /// The vector of row `i`; empty beyond the last.
    pub fn row(&self, i: usize) -> &[f32] {
        let columns = self.values.len() / self.rows.len().max(1);
        self.values.get(i * columns..(i + 1) * columns).unwrap_or(&[])
    }

    /// The times of observation behind row `i`; empty beyond the last.
    pub fn observed_row(&self, i: usize) -> &[Micros] {
        let columns = self.observed.len() / self.rows.len().max(1);
        self.observed.get(i * columns..(i + 1) * columns).unwrap_or(&[])
    }

    /// Takes the last prediction back.
    pub(super) fn pop(&mut self, spec: &FeatureSpec) {
        self.rows.pop();
        self.values.truncate(self.rows.len() * spec.len());
        self.observed.truncate(self.rows.len() * spec.len());
    }

    /// Adds a prediction; gives its row to fill, blank.
    pub(super) fn push(&mut self, prediction: Prediction, spec: &FeatureSpec) -> (&mut [f32], &mut [Micros]) {
        let before = (self.values.len(), self.observed.len());
        self.rows.push(prediction);
        self.values.extend_from_slice(spec.blank());
        self.observed.resize(before.1 + spec.len(), NOT_OBSERVED);
        (&mut self.values[before.0..], &mut self.observed[before.1..])
    }
}
