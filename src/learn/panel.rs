//! How good the whole answer of a panel is: every class, every time, the amount.
//!
//! Over all rows, also those that were lost from sight before what the task watches was decided:
//! figures of times know how to use them.

use std::path::Path;

use serde::Serialize;

use super::LearnError;
use super::matrix::Row;
use super::metrics::{AmountFigures, Amounts, ClassFigures, Incidences, SurvivalFigures};
use super::plots::panels::{write_amounts, write_classes, write_survival};
use super::train::Named;
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

impl PanelFigures {
    /// Draws them into a folder that is there: `confusion.svg`, `observed.svg` or `incidence.svg`.
    pub(super) fn plot(&self, folder: &Path, model: &Named) -> Result<(), LearnError> {
        match self {
            PanelFigures::Class(figures) => write_classes(folder, model, figures),
            PanelFigures::Amount(figures) => write_amounts(folder, model, figures),
            PanelFigures::Time(figures) => write_survival(folder, model, figures),
        }
    }
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

    /// How good it was; `None` of a model that tells nothing beside its risk, or without rows.
    pub(super) fn figures(&self, bundle: &Bundle, seed: u64) -> Option<PanelFigures> {
        let (width, subjects) = (bundle.output_names().len(), &self.subjects);
        if self.targets.is_empty() || width == 0 {
            return None;
        }
        let column = |from: usize, to: usize| -> Vec<f64> {
            self.told.chunks_exact(width).flat_map(|told| &told[from..to]).copied().collect()
        };
        Some(match bundle.card.question.as_ref()? {
            Question::Class { names, .. } => {
                let class = |target: &Target| match target {
                    Target::Class(class) => *class,
                    _ => 0,
                };
                let truth: Vec<usize> = self.targets.iter().map(class).collect();
                PanelFigures::Class(ClassFigures::of(names, &self.told, &truth, subjects, seed))
            }
            Question::Amount { .. } => {
                let amount = |target: &Target| match target {
                    Target::Amount(amount) => *amount,
                    _ => f64::NAN,
                };
                let central: Vec<[f64; 2]> = self.told.chunks_exact(width).map(|told| [told[1], told[3]]).collect();
                let rows = Amounts {
                    subjects,
                    truth: &self.targets.iter().map(amount).collect::<Vec<f64>>(),
                    expected: &column(0, 1),
                    training_mean: bundle.card.found.get(TRAINING_MEAN).copied().unwrap_or(f64::NAN),
                    cuts: bundle.cuts(),
                    reaching: &column(width - bundle.cuts().len(), width),
                    central: Some(&central),
                };
                PanelFigures::Amount(AmountFigures::of(rows, seed))
            }
            Question::Time { hours: times, .. } => {
                let time = |target: &Target| match target {
                    Target::Time { hours, happened } => (*hours, *happened),
                    _ => (f64::NAN, false),
                };
                let (hours, events): (Vec<f64>, Vec<bool>) = self.targets.iter().map(time).unzip();
                let rows = Incidences { subjects, hours: &hours, events: &events, times, incidence: &self.told };
                PanelFigures::Time(SurvivalFigures::of(rows, seed))
            }
        })
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
