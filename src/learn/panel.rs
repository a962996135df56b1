//! How good the whole answer of a panel is: every class, every time, the amount.
//!
//! Over all rows, also those that were lost from sight before what the task watches was decided:
//! figures of times know how to use them.

use serde::Serialize;

use super::matrix::Row;
use super::metrics::{AmountFigures, ClassFigures, SurvivalFigures};
use crate::events::SubjectId;
use crate::models::{Bundle, Matrix, ModelError, Question, TRAINING_MEAN, Target};

/// The figures of a panel, by what it was asked.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PanelFigures {
    /// Which.
    Class(ClassFigures),
    /// How much or how many.
    Amount(AmountFigures),
    /// How soon.
    Time(SurvivalFigures),
}

/// What a panel told of rows, and what became of them.
#[derive(Default, Debug)]
pub(super) struct PanelRows {
    /// What it told, row by row.
    told: Vec<f64>,
    targets: Vec<Target>,
    subjects: Vec<SubjectId>,
    seen: Vec<bool>,
}

impl PanelRows {
    /// Adds rows with a target; none of a model that tells nothing beside its risk.
    pub(super) fn add(&mut self, bundle: &Bundle, matrix: &Matrix, rows: &[Row]) -> Result<(), ModelError> {
        if bundle.output_names().is_empty() {
            return Ok(());
        }
        let mut told = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            let Some(target) = row.target else { continue };
            bundle.outputs(matrix.row(i), &mut told)?;
            self.told.extend_from_slice(&told);
            self.targets.push(target);
            self.subjects.push(row.subject);
            self.seen.push(row.seen);
        }
        Ok(())
    }

    /// What was told of the rows that are [`seen`](super::matrix::seen), a column a name, for a file.
    pub(super) fn columns(&self, bundle: &Bundle) -> Vec<(String, Vec<f64>)> {
        let names = bundle.output_names();
        let rows = || self.told.chunks_exact(names.len().max(1)).zip(&self.seen).filter(|(_, seen)| **seen);
        let column =
            |(i, name): (usize, &String)| (format!("predicted_{name}"), rows().map(|(told, _)| told[i]).collect());
        names.iter().enumerate().map(column).collect()
    }
}
