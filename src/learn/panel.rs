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
use crate::models::{Bundle, Question, TRAINING_MEAN, Target};

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

/// What a panel, or one of each fold, told of rows, and what became of them.
#[derive(Debug)]
pub(super) struct PanelRows {
    /// What was asked; `None` of a model that tells nothing beside its risk, of which no rows are kept.
    question: Option<Question>,
    /// Names of what is told of a row.
    names: Vec<String>,
    /// The amounts that the last names are about.
    cuts: Vec<f64>,
    /// Mean amount of the training rows; not a number where no amount is asked for.
    training_mean: f64,
    /// What was told, row by row.
    told: Vec<f64>,
    targets: Vec<Target>,
    subjects: Vec<SubjectId>,
    seen: Vec<bool>,
}

impl PanelRows {
    /// None yet, of a model.
    pub(super) fn of(bundle: &Bundle) -> PanelRows {
        PanelRows {
            question: bundle.card.question.clone(),
            names: bundle.output_names().to_vec(),
            cuts: bundle.cuts().to_vec(),
            training_mean: bundle.card.found.get(TRAINING_MEAN).copied().unwrap_or(f64::NAN),
            told: Vec::new(),
            targets: Vec::new(),
            subjects: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Adds those of the rows that have a target; `told`: what was told of each row, row after row.
    pub(super) fn add(&mut self, told: &[f64], rows: &[Row]) {
        for (row, told) in rows.iter().zip(told.chunks_exact(self.width())) {
            let Some(target) = row.target else { continue };
            self.told.extend_from_slice(told);
            self.targets.push(target);
            self.subjects.push(row.subject);
            self.seen.push(row.seen);
        }
    }

    /// The rows of two panels that were asked the same. What only one of them tells falls away: cuts of an amount
    /// follow from a panel's own training rows, and only the level that is watched is sure to be one of both.
    pub(super) fn and(mut self, mut other: PanelRows) -> PanelRows {
        let (own, others) = (self.targets.len() as f64, other.targets.len() as f64);
        self.training_mean = (self.training_mean * own + other.training_mean * others) / (own + others);
        self.keep(&other.names);
        other.keep(&self.names);
        self.told.append(&mut other.told);
        self.targets.append(&mut other.targets);
        self.subjects.append(&mut other.subjects);
        self.seen.append(&mut other.seen);
        self
    }

    /// Leaves out what is told under none of these names.
    fn keep(&mut self, names: &[String]) {
        let kept: Vec<usize> = (0..self.names.len()).filter(|&i| names.contains(&self.names[i])).collect();
        let first_cut = self.names.len() - self.cuts.len();
        let told = self.told.chunks_exact(self.width());
        self.told = told.flat_map(|told| kept.iter().map(move |&i| told[i])).collect();
        self.cuts = kept.iter().filter_map(|i| self.cuts.get(i.checked_sub(first_cut)?).copied()).collect();
        self.names = kept.iter().map(|&i| self.names[i].clone()).collect();
    }

    /// Numbers that are told of a row; 1 where there are none, so that there are no such rows either.
    fn width(&self) -> usize {
        self.names.len().max(1)
    }

    /// How good it was; `None` of a model that tells nothing beside its risk, or without rows.
    pub(super) fn figures(&self, seed: u64) -> Option<PanelFigures> {
        let (width, subjects) = (self.width(), &self.subjects);
        if self.targets.is_empty() {
            return None;
        }
        let column = |from: usize, to: usize| -> Vec<f64> {
            self.told.chunks_exact(width).flat_map(|told| &told[from..to]).copied().collect()
        };
        Some(match self.question.as_ref()? {
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
                    training_mean: self.training_mean,
                    cuts: &self.cuts,
                    reaching: &column(width - self.cuts.len(), width),
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

    /// What was told of the rows of which it is known whether what is watched happened, a column a name, for a file.
    pub(super) fn columns(&self) -> Vec<(String, Vec<f64>)> {
        let rows = || self.told.chunks_exact(self.width()).zip(&self.seen).filter(|(_, seen)| **seen);
        let column =
            |(i, name): (usize, &String)| (format!("predicted_{name}"), rows().map(|(told, _)| told[i]).collect());
        self.names.iter().enumerate().map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of these amounts; each cut is said to be reached with a tenth of it, a little less from row to row.
    fn panel(cuts: &[f64], truth: &[f64]) -> PanelRows {
        let names = ["mean", "p10", "p50", "p90"].map(str::to_owned).into_iter();
        let told =
            |row: usize| [1.0, 0.0, 1.0, 5.0].into_iter().chain(cuts.iter().map(move |cut| cut / (10 + row) as f64));
        PanelRows {
            question: Some(Question::Amount { cuts: 9, level: 2.0, below: false }),
            names: names.chain(cuts.iter().map(|cut| format!(">= {cut}"))).collect(),
            cuts: cuts.to_vec(),
            training_mean: cuts[0],
            told: (0..truth.len()).flat_map(told).collect(),
            targets: truth.iter().copied().map(Target::Amount).collect(),
            subjects: (0..truth.len()).map(|row| SubjectId(row as i64)).collect(),
            seen: vec![true; truth.len()],
        }
    }

    #[test]
    fn of_panels_with_other_cuts_the_common_ones_are_told() {
        let both = panel(&[1.0, 2.0, 4.0], &[2.5]).and(panel(&[2.0, 3.0, 4.0, 9.0], &[1.0, 3.5]));
        assert_eq!(both.cuts, [2.0, 4.0]);
        assert_eq!((both.training_mean * 3.0, both.targets.len(), both.seen.len()), (5.0, 3, 3));
        let columns = both.columns();
        let names: Vec<&str> = columns.iter().map(|(name, _)| &**name).collect();
        let wanted = ["mean", "p10", "p50", "p90", ">= 2", ">= 4"].map(|name| format!("predicted_{name}"));
        assert_eq!(names, wanted);
        assert_eq!((&columns[3].1[..], &columns[5].1[..]), (&[5.0; 3][..], &[0.4, 0.4, 4.0 / 11.0][..]));
        let Some(PanelFigures::Amount(figures)) = both.figures(0) else { panic!("{both:?}") };
        let cuts: Vec<(f64, usize)> = figures.cuts.iter().map(|at| (at.cut, at.reached)).collect();
        assert_eq!((figures.n, cuts), (3, vec![(2.0, 2), (4.0, 0)]));
    }
}
