//! A registered model on the library's labelled subjects.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array};
use arrow::datatypes::{DataType, Field};
use serde::Serialize;

use super::LearnError;
use super::abstention::Abstention;
use super::importance::{importance, sample};
use super::matrix::{LeftOut, Row, Rows, Source, dataset, write_rows};
use super::metrics::evaluate as figures;
use super::metrics::{Comparison, Curves, Dated, Details, Metrics, Scored, Subgroup, compare, subgroups};
use super::panel::{PanelFigures, PanelRows};
use super::plots;
use super::registry::Registry;
use super::strata::{MissingSubgroup, Strata};
use super::task::Task;
use super::train::Named;
use crate::events::Split;
use crate::features::FeatureSpec;
use crate::models::{Assessment, Bundle, Matrix, ModelError, Scratch};

/// Which subjects are judged by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Those nothing was fitted on.
    HeldOut,
    /// All: honest only for a model that was fitted elsewhere.
    All,
}

/// What is evaluated, and what is written beside what is told.
#[derive(Copy, Clone, Debug)]
pub struct EvaluateOptions<'a> {
    /// Version of the model; `None`: the champion.
    pub version: Option<u32>,
    /// Version of another that it is compared with.
    pub against: Option<u32>,
    /// Which subjects.
    pub part: Part,
    /// A Parquet file of the predictions, in the columns of meds-evaluation.
    pub predictions: Option<&'a Path>,
    /// A folder for plots, `report.json` and `importance.json`; made if need be.
    pub plots: Option<&'a Path>,
}

/// What `evaluate` prints.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Evaluation {
    /// Figures.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Figures of the whole answer, where the label is more than yes or no; those before are of what
    /// the task watches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panel: Option<PanelFigures>,
    /// Task.
    pub task: String,
    /// The model.
    pub model: Named,
    /// Predictions of the library that could not be used.
    pub left_out: LeftOut,
    /// How it abstained; null for a model that never does. The figures are of all rows.
    pub abstention: Option<Abstention>,
    /// Calibration, thresholds and time.
    #[serde(flatten)]
    pub details: Details,
    /// Figures by sex, age, unit and site.
    pub subgroups: Vec<Subgroup>,
    /// Which of these the features do not tell.
    pub subgroups_missing: Vec<MissingSubgroup>,
    /// The other model and how they differ, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// Curves, which are for plots: `report.json` has them, not what is printed.
    #[serde(skip)]
    pub curves: Curves,
}

/// Another model on the same rows.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Against {
    /// Which.
    pub model: Named,
    /// The first model's figures less this one's.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// Scores a task's labelled rows with a version and says how good it was. Of their features only
/// some rows' are looked at at a time.
///
/// Computes on the calling thread, as [`train`](super::train) does.
///
/// # Errors
/// If there is no such model, it needs other features, or something cannot be read or written.
pub async fn evaluate(
    source: &Source<'_>,
    registry: &Registry,
    task: &Task,
    options: EvaluateOptions<'_>,
) -> Result<Evaluation, LearnError> {
    let spec = &source.features;
    // Before anything costs time.
    let (model, bundle) = load(registry, spec, task, options.version)?;
    let other = options.against.map(|version| load(registry, spec, task, Some(version))).transpose()?;
    if let Some(folder) = options.plots {
        std::fs::create_dir_all(folder).map_err(LearnError::io(folder))?;
    }
    let only = match options.part {
        Part::HeldOut => Some(Split::HeldOut),
        Part::All => None,
    };
    let data = dataset(source, task, only, &mut |_| {}).await?;
    let (threshold, seed) = (bundle.card.threshold, task.train.seed);
    let parts = [data.train, data.tuning, data.held_out];
    let explained = match options.plots {
        Some(_) => sample(parts.iter().map(|part| part.rows.len()).sum(), spec.len(), seed),
        None => Vec::new(),
    };
    let mut judged = JudgedRows::of(&bundle);
    let (mut strata, mut sampled, mut looked_at) =
        (Strata::of(spec.names()), Matrix::with_capacity(spec.len(), explained.len()), 0);
    for part in parts {
        judged.add_part(part, &bundle, other.as_ref().map(|(_, other)| other), &mut |row| {
            strata.add(row);
            if explained.binary_search(&looked_at).is_ok() {
                sampled.push_row(row)?;
            }
            looked_at += 1;
            Ok(())
        })?;
    }
    let JudgedRows { rows, assessed, by_other, panel } = judged;
    let others: Vec<f64> = by_other.iter().map(|one| one.risk).collect();
    let scored = scored(&assessed, &rows);
    if let Some(path) = options.predictions {
        write(path, &rows, &scored, threshold, panel.columns())?;
    }
    let dated: Vec<Dated> = rows
        .iter()
        .zip(&scored)
        .map(|(row, scored)| Dated { scored: *scored, time: row.time, onset: row.onset })
        .collect();
    let (details, curves) = Details::of(&dated, threshold);
    let (groupings, subgroups_missing) = strata.finish();
    let against = other.map(|(model, other)| {
        let comparison = compare(&scored, &others, [threshold, other.card.threshold], seed);
        Against { model, comparison }
    });
    let evaluation = Evaluation {
        metrics: figures(&scored, threshold, seed),
        panel: panel.figures(seed),
        task: task.name.clone(),
        model,
        left_out: data.left_out,
        abstention: Abstention::of(&bundle, &assessed, &rows),
        details,
        subgroups: subgroups(&dated, &groupings, threshold, seed),
        subgroups_missing,
        against,
        curves,
    };
    if let Some(folder) = options.plots {
        plots::write(folder, &evaluation, &importance(&bundle, &sampled)?)?;
        if let Some(panel) = &evaluation.panel {
            panel.plot(folder, &evaluation.model)?;
        }
    }
    Ok(evaluation)
}

/// Labelled rows of which it is known whether what is watched happened, as one model, or two, judge them.
pub(super) struct JudgedRows {
    pub(super) rows: Vec<Row>,
    /// Of the model.
    pub(super) assessed: Vec<Assessment>,
    /// Of the other model, where there is one.
    pub(super) by_other: Vec<Assessment>,
    /// The model's whole answers, also of rows that were lost from sight.
    pub(super) panel: PanelRows,
}

impl JudgedRows {
    /// None yet, of a model.
    pub(super) fn of(bundle: &Bundle) -> JudgedRows {
        JudgedRows { rows: Vec::new(), assessed: Vec::new(), by_other: Vec::new(), panel: PanelRows::of(bundle) }
    }

    /// Judges rows, of which only some are in memory at a time; `look` sees the features of each that is known.
    ///
    /// # Errors
    /// If they cannot be read, or are of another width than a model's.
    pub(super) fn add_part(
        &mut self,
        part: Rows,
        bundle: &Bundle,
        other: Option<&Bundle>,
        look: &mut dyn FnMut(&[f32]) -> Result<(), ModelError>,
    ) -> Result<(), LearnError> {
        let (rows, blocks) = part.into_blocks();
        let mut done = 0;
        for block in blocks {
            let block = block?;
            let of = &rows[done..done + block.rows()];
            done += block.rows();
            self.add(&block, of, bundle, other)?;
            (0..block.rows()).filter(|&i| of[i].seen).try_for_each(|i| look(block.row(i)))?;
        }
        Ok(())
    }

    /// Judges rows that are in memory.
    ///
    /// # Errors
    /// If they are of another width than a model's.
    pub(super) fn add(
        &mut self,
        matrix: &Matrix,
        rows: &[Row],
        bundle: &Bundle,
        other: Option<&Bundle>,
    ) -> Result<(), ModelError> {
        let (mut scratch, mut assessed, mut outputs) = (Scratch::default(), Vec::new(), Vec::new());
        bundle.assess(matrix.values(), &mut scratch, &mut assessed, &mut outputs)?;
        self.panel.add(&outputs, rows);
        self.assessed.extend(seen(rows, &assessed));
        if let Some(other) = other {
            other.assess(matrix.values(), &mut scratch, &mut assessed, &mut outputs)?;
            self.by_other.extend(seen(rows, &assessed));
        }
        self.rows.extend(rows.iter().filter(|row| row.seen));
        Ok(())
    }
}

/// The assessments of the rows of which it is known whether what is watched happened.
fn seen(rows: &[Row], assessed: &[Assessment]) -> impl Iterator<Item = Assessment> {
    rows.iter().zip(assessed).filter(|(row, _)| row.seen).map(|(_, one)| *one)
}

/// A version (`None`: the champion) that scores rows of these features.
fn load(
    registry: &Registry,
    spec: &FeatureSpec,
    task: &Task,
    version: Option<u32>,
) -> Result<(Named, Bundle), LearnError> {
    let model = match version {
        Some(version) => registry.version(&task.name, version)?,
        None => registry.champion(&task.name)?.ok_or_else(|| LearnError::NoChampion { task: task.name.clone() })?,
    };
    let bundle = registry.load(&task.name, &model)?;
    if bundle.card.spec_hash != spec.hash() {
        return Err(LearnError::OtherFeatures { task: task.name.clone(), version: model.version });
    }
    Ok((Named { name: model.name, version: model.version }, bundle))
}

/// Labelled rows with the risks that were assessed of them.
pub(super) fn scored(assessed: &[Assessment], rows: &[Row]) -> Vec<Scored> {
    let both = rows.iter().zip(assessed);
    both.map(|(row, one)| Scored { subject: row.subject, risk: one.risk, outcome: row.outcome }).collect()
}

/// Writes predictions in the `PredictionSchema` of meds-evaluation, ordered by subject and time; `more`: columns
/// beside these.
fn write(
    path: &Path,
    rows: &[Row],
    scored: &[Scored],
    threshold: f64,
    more: Vec<(String, Vec<f64>)>,
) -> Result<(), LearnError> {
    let risks: Vec<f64> = scored.iter().map(|one| one.risk).collect();
    let alerted = risks.iter().map(|risk| Some(*risk >= threshold)).collect::<BooleanArray>();
    let mut columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("predicted_boolean_value", DataType::Boolean, false), Arc::new(alerted)),
        (Field::new("predicted_boolean_probability", DataType::Float64, false), Arc::new(Float64Array::from(risks))),
    ];
    for (name, values) in more {
        columns.push((Field::new(name, DataType::Float64, false), Arc::new(Float64Array::from(values))));
    }
    write_rows(path, rows, columns)
}
