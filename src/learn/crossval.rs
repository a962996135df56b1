//! Cross-validation by subject: how good each family would be here, and how sure that is.
//!
//! Each fold's rows are scored by a model that saw neither them nor, in any way, their
//! subjects: of the other folds' subjects a ninth, as many as of the real split, serves calibration and threshold, the rest
//! the fit; where the task cross-fits, all serve both, in folds of their own. Nothing is registered. Fits run one after the other, so that their times mean
//! something. A family that cannot be fitted stays in the report, with the reason.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int32Array};
use arrow::datatypes::{DataType, Field};
use serde::Serialize;

use super::LearnError;
use super::aside::aside;
use super::evaluate::{JudgedRows, scored};
use super::matrix::{Dataset, LeftOut, Row, Source, dataset, onsets, panel_of, write_rows};
use super::metrics::{Metrics, Scored, evaluate};
use super::panel::{PanelFigures, PanelRows};
use super::sample::{Sampled, sample};
use super::task::Task;
use crate::models::{Bundle, Family, FitSpec, Folds, Matrix, ModelError, Question};

/// One in so many subjects of the other folds serves calibration and threshold.
const TUNING: usize = 9;

/// Which subjects are dealt into folds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Subjects {
    /// Those for training and tuning: the held-out ones stay unseen.
    Train,
    /// All: then no subject is left that a choice made from this was not made on.
    All,
}

/// What `crossval` prints.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Crossval {
    /// Task.
    pub task: String,
    /// Folds by subject.
    pub folds: usize,
    /// Seed of folds and fits.
    pub seed: u64,
    /// Labelled rows.
    pub rows: usize,
    /// Rows whose outcome is true.
    pub positives: usize,
    /// Features of a row.
    pub features: usize,
    /// Predictions of the library that could not be used.
    pub left_out: LeftOut,
    /// That the rows are some only, for want of `limits.train_bytes`; null where they are all.
    pub sampled: Option<Sampled>,
    /// One a family, in the order asked for.
    pub families: Vec<FamilyReport>,
    /// Wall time of the whole.
    pub seconds: f64,
}

/// How a family fared.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FamilyReport {
    /// Family.
    pub family: Family,
    /// Why it could not be fitted; null if it could.
    pub refused: Option<String>,
    /// Its figures.
    #[serde(flatten)]
    pub judged: Option<Judged>,
}

/// The figures of a family that could be fitted on every fold.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Judged {
    /// Mean over the folds.
    pub mean: Figures,
    /// Standard deviation over the folds (of a sample). Folds share most of their training
    /// rows, so it understates how much another hospital's figures would differ.
    pub spread: Figures,
    /// Of all rows together, each at its own fold's risk and threshold.
    pub pooled: Figures,
    /// Bootstrap interval of the pooled AUROC at 95 %, drawing subjects.
    pub auroc_ci: Option<[f64; 2]>,
    /// Figures of the whole answer, where the label is more than yes or no; those before are of what the task watches.
    /// Of all rows together, each as its own fold's model answers it, and also of those that were lost from sight. An
    /// amount's cuts are those that all folds share, the level that is watched among them; its baseline is the mean
    /// that the folds' training rows have on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panel: Option<PanelFigures>,
    /// How many features `[train.select]` kept, as in [`TrainReport`](super::TrainReport): mean over the folds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features_kept: Option<f64>,
    /// Of each fold.
    pub by_fold: Vec<Figures>,
    /// Mean wall time of a fit, calibration included.
    pub fit_seconds: f64,
    /// Mean wall time of scoring a fold, on all cores (one of fewer than 512 rows on one).
    pub score_seconds: f64,
    /// Rows scored in a second, likewise.
    pub rows_per_second: f64,
}

/// Figures as [`Metrics`] explains them; null where one does not exist.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize)]
pub struct Figures {
    /// Area under the receiver operating characteristic.
    pub auroc: Option<f64>,
    /// Average precision.
    pub auprc: Option<f64>,
    /// The smaller of sensitivity and positive predictivity at the model's own threshold.
    pub min_se_ppv: Option<f64>,
    /// Mean squared error.
    pub brier: Option<f64>,
    /// Expected calibration error.
    pub ece: Option<f64>,
}

/// Columns of numbers, by name.
type Columns = Vec<(String, Vec<f64>)>;

/// Judges families by cross-validation on the labelled rows of a task. `predictions`: a Parquet file of each row's
/// risks, from the models that did not see its subject: `subject_id`, `prediction_time`, `boolean_value`, `fold` and of
/// each family that could be fitted a column `risk_FAMILY` and, where the label is more than yes or no, a column
/// `predicted_NAME_FAMILY` of each name that all its folds' models tell.
///
/// Computes on the calling thread, as [`train`](super::train) does.
///
/// # Errors
/// [`LearnError::Cohort`] if a fold would lack an outcome; if the library cannot be read.
pub async fn crossval(
    source: &Source<'_>,
    task: &Task,
    families: &[Family],
    folds: usize,
    subjects: Subjects,
    predictions: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> Result<Crossval, LearnError> {
    let (begin, spec) = (Instant::now(), &source.features);
    let Dataset { train: mut all, tuning, held_out, left_out, .. } = dataset(source, task, None, progress).await?;
    all.append(tuning);
    match subjects {
        Subjects::Train => drop(held_out),
        Subjects::All => all.append(held_out),
    }
    let sampled = sample(&mut [&mut all], source, task, progress);
    let (x, rows) = all.into_matrix(spec.len())?;
    let (labels, groups) = outcomes(&rows);
    let dealt = Folds::new(&labels, Some(&groups), folds, task.train.seed);
    if !dealt.can_judge(&labels, 1) {
        let positives = labels.iter().filter(|&&label| label).count();
        let reason = format!(
            "{positives} of {} rows are positive, too few subjects of either outcome for {folds} folds; take fewer \
             folds or gather more history",
            labels.len()
        );
        return Err(Sampled::blame(sampled, LearnError::Cohort { task: task.name.clone(), reason }));
    }
    let own = FitSpec {
        seed: task.train.seed,
        params: task.train.params.clone(),
        select: task.train.select,
        crossfit: task.train.crossfit,
        ..FitSpec::new(task.train.family, &task.name, spec.names().to_vec(), spec.hash())
    };
    let question = task.wanted.as_ref().map(|wanted| &wanted.question);
    let mut columns = Vec::new();
    let reports = aside(progress, |say| {
        let report =
            |&family: &Family| match judge(&FitSpec { family, ..own.clone() }, question, &x, &rows, &dealt, say) {
                Ok((judged, told)) => {
                    columns.extend(told.into_iter().map(|(name, values)| (format!("{name}_{family}"), values)));
                    FamilyReport { family, refused: None, judged: Some(judged) }
                }
                Err(error) => FamilyReport { family, refused: Some(error.to_string()), judged: None },
            };
        families.iter().map(report).collect()
    })?;
    if let Some(path) = predictions {
        write(path, &rows, &dealt, columns)?;
    }
    Ok(Crossval {
        task: task.name.clone(),
        folds,
        seed: task.train.seed,
        rows: rows.len(),
        positives: labels.iter().filter(|&&label| label).count(),
        features: spec.len(),
        left_out,
        sampled,
        families: reports,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// Writes the rows of which the outcome is known, with columns as [`judge`] gives them.
fn write(path: &Path, rows: &[Row], folds: &Folds, told: Columns) -> Result<(), LearnError> {
    let (mut known, mut fold_of) = (Vec::new(), Vec::new());
    for fold in 0..folds.count() {
        known.extend(folds.held(fold).into_iter().map(|row| rows[row]).filter(|row| row.seen));
        fold_of.resize(known.len(), fold as i32);
    }
    let mut columns: Vec<(Field, ArrayRef)> =
        vec![(Field::new("fold", DataType::Int32, false), Arc::new(Int32Array::from(fold_of)))];
    for (name, values) in told {
        columns.push((Field::new(name, DataType::Float64, false), Arc::new(Float64Array::from(values))));
    }
    write_rows(path, &known, columns)
}

/// Fits and scores every fold with the family and the hyperparameters of `own`; beside the figures the risks, and what
/// is told beside them, of the rows of which the outcome is known, fold after fold.
fn judge(
    own: &FitSpec,
    question: Option<&Question>,
    x: &Matrix,
    rows: &[Row],
    folds: &Folds,
    say: &mut dyn FnMut(&str),
) -> Result<(Judged, Columns), ModelError> {
    let (mut by_fold, mut all, mut caught, mut alerts) = (Vec::new(), Vec::new(), 0.0, 0.0);
    let (mut fit_seconds, mut score_seconds) = (0.0, 0.0);
    let (mut panels, mut kept): (Vec<PanelRows>, Vec<f64>) = (Vec::new(), Vec::new());
    for fold in 0..folds.count() {
        say(&format!("{}, fold {} of {}", own.family, fold + 1, folds.count()));
        let others = Part::of(x, rows, &folds.kept(fold));
        let inner = Folds::new(&others.labels, Some(&others.groups), TUNING, own.seed);
        let train = Part::of(&others.x, &others.rows, &inner.kept(0));
        let tuning = Part::of(&others.x, &others.rows, &inner.held(0));
        let held = Part::of(x, rows, &folds.held(fold));

        let panel = question.map(|question| panel_of(question, &train.rows, &tuning.rows));
        let spec = FitSpec {
            groups: Some(train.groups),
            tuning_groups: Some(tuning.groups),
            onsets: Some(onsets(&train.rows)),
            tuning_onsets: Some(onsets(&tuning.rows)),
            panel,
            ..own.clone()
        };
        let begin = Instant::now();
        let bundle = Bundle::fit(spec, &train.x, &train.labels, &tuning.x, &tuning.labels)?;
        fit_seconds += begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let mut judged = JudgedRows::of(&bundle);
        judged.add(&held.x, &held.rows, &bundle, None)?;
        score_seconds += begin.elapsed().as_secs_f64();

        let scored = scored(&judged.assessed, &judged.rows);
        by_fold.push(Figures::of(&evaluate(&scored, bundle.threshold(), own.seed)));
        let alerted = scored.iter().filter(|row| row.risk >= bundle.threshold());
        caught += alerted.clone().filter(|row| row.outcome).count() as f64;
        alerts += alerted.count() as f64;
        all.extend(scored);
        panels.push(judged.panel);
        kept.extend(bundle.card.found.get("features_kept"));
    }
    let positives = all.iter().filter(|row: &&Scored| row.outcome).count() as f64;
    let metrics = evaluate(&all, 0.5, own.seed);
    let min_se_ppv =
        (positives > 0.0).then(|| (caught / positives).min(if alerts > 0.0 { caught / alerts } else { 0.0 }));
    let panel = panels.into_iter().reduce(PanelRows::and);
    let count = folds.count() as f64;
    let judged = Judged {
        mean: Figures::each(&by_fold, |values| values.iter().sum::<f64>() / count),
        spread: Figures::each(&by_fold, deviation),
        pooled: Figures { min_se_ppv, ..Figures::of(&metrics) },
        auroc_ci: metrics.ci.auroc,
        panel: panel.as_ref().and_then(|panel| panel.figures(own.seed)),
        features_kept: (!kept.is_empty()).then(|| kept.iter().sum::<f64>() / kept.len() as f64),
        by_fold,
        fit_seconds: fit_seconds / count,
        score_seconds: score_seconds / count,
        rows_per_second: rows.len() as f64 / score_seconds.max(1e-9),
    };
    let mut columns = vec![("risk".to_owned(), all.iter().map(|row| row.risk).collect())];
    columns.extend(panel.iter().flat_map(PanelRows::columns));
    Ok((judged, columns))
}

/// Some rows of a matrix, with what stands beside them.
struct Part {
    x: Matrix,
    rows: Vec<Row>,
    labels: Vec<bool>,
    groups: Vec<i64>,
}

impl Part {
    fn of(x: &Matrix, rows: &[Row], picked: &[usize]) -> Part {
        let rows: Vec<Row> = picked.iter().map(|&row| rows[row]).collect();
        let (labels, groups) = outcomes(&rows);
        Part { x: x.pick(picked), rows, labels, groups }
    }
}

fn outcomes(rows: &[Row]) -> (Vec<bool>, Vec<i64>) {
    rows.iter().map(|row| (row.outcome, row.subject.0)).unzip()
}

impl Figures {
    fn of(metrics: &Metrics) -> Figures {
        let Metrics { auroc, auprc, min_se_ppv, brier, ece, .. } = *metrics;
        Figures { auroc, auprc, min_se_ppv, brier, ece }
    }

    /// A summary of each figure over folds; none where a fold lacks it.
    fn each(folds: &[Figures], summary: impl Fn(&[f64]) -> f64) -> Figures {
        let of = |get: fn(&Figures) -> Option<f64>| {
            folds.iter().map(get).collect::<Option<Vec<f64>>>().map(|values| summary(&values))
        };
        Figures {
            auroc: of(|f| f.auroc),
            auprc: of(|f| f.auprc),
            min_se_ppv: of(|f| f.min_se_ppv),
            brier: of(|f| f.brier),
            ece: of(|f| f.ece),
        }
    }
}

/// The standard deviation of a sample.
fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0).max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{HOUR, SubjectId};
    use crate::models::BoostingHyper;

    /// Two rows a subject; the first column tells the outcome of most, the second one names
    /// the subject, so that a model that saw one row of a subject could know the other.
    fn problem(subjects: i64) -> (Matrix, Vec<Row>, FitSpec) {
        let mut x = Matrix::new(2);
        let mut rows = Vec::new();
        for subject in 0..subjects {
            for time in 0..2 {
                let outcome = subject * 7 % 10 < 3;
                let told = if subject % 4 == 0 { (subject * 3 % 10) as f32 } else { (subject * 7 % 10) as f32 };
                x.push_row(&[told, subject as f32]).unwrap();
                rows.push(Row { time, ..Row::of(SubjectId(subject), outcome) });
            }
        }
        let names = vec!["told".to_owned(), "subject".to_owned()];
        (x, rows, FitSpec::new(Family::Logistic, "t", names, "spec"))
    }

    fn folds(rows: &[Row], count: usize) -> Folds {
        let (labels, groups) = outcomes(rows);
        Folds::new(&labels, Some(&groups), count, 0)
    }

    #[test]
    fn every_row_is_scored_once_and_figures_are_those_of_its_fold() {
        let (x, rows, own) = problem(300);
        let mut said = 0;
        let (judged, columns) = judge(&own, None, &x, &rows, &folds(&rows, 5), &mut |_| said += 1).unwrap();
        assert_eq!(columns.iter().map(|(name, of)| (&**name, of.len())).collect::<Vec<_>>(), [("risk", rows.len())]);
        assert_eq!((&judged.panel, judged.features_kept), (&None, None));
        assert_eq!((said, judged.by_fold.len()), (5, 5));
        let areas: Vec<f64> = judged.by_fold.iter().map(|fold| fold.auroc.unwrap()).collect();
        assert!((judged.mean.auroc.unwrap() - areas.iter().sum::<f64>() / 5.0).abs() < 1e-12);
        assert!((judged.spread.auroc.unwrap() - deviation(&areas)).abs() < 1e-12);
        let pooled = judged.pooled;
        assert!(pooled.auroc.unwrap() > 0.8 && pooled.auroc.unwrap() < 1.0, "{judged:?}");
        let [low, high] = judged.auroc_ci.unwrap();
        assert!(low < pooled.auroc.unwrap() && pooled.auroc.unwrap() < high);
        assert!(pooled.min_se_ppv.unwrap() > 0.5 && pooled.brier.unwrap() < 0.2 && pooled.ece.unwrap() < 0.2);
        let (again, same) = judge(&own, None, &x, &rows, &folds(&rows, 5), &mut |_| {}).unwrap();
        assert_eq!(same, columns);
        assert_eq!((again.by_fold, again.pooled), (judged.by_fold, pooled));
    }

    /// Outcomes that nothing but the subject's own other row could tell.
    #[test]
    fn a_subject_tells_nothing_about_itself() {
        let (x, mut rows, mut own) = problem(300);
        for row in &mut rows {
            row.outcome = row.subject.0.wrapping_mul(0x5851_f42d_4c95_7f2d) >> 61 == 0;
        }
        own.family = Family::Boosting;
        own.params.boosting.min_child_weight = 0.1;
        let auroc = judge(&own, None, &x, &rows, &folds(&rows, 5), &mut |_| {}).unwrap().0.pooled.auroc.unwrap();
        assert!(auroc < 0.62, "{auroc}");
    }

    /// Against all sense those with the outcome have it last, so that what comes of it tells whose onsets a fit was
    /// given.
    #[test]
    fn a_hazard_learns_from_the_onsets_of_its_own_rows() {
        let (x, mut rows, mut own) = problem(300);
        own.family = Family::Hazard;
        own.params.hazard = BoostingHyper { rounds: 30, patience: 0, eta: 0.1, ..BoostingHyper::default() };
        for crossfit in [None, Some(3)] {
            own.crossfit = crossfit;
            let auroc = |rows: &[Row]| {
                judge(&own, None, &x, rows, &folds(rows, 3), &mut |_| {}).unwrap().0.pooled.auroc.unwrap()
            };
            rows.iter_mut().for_each(|row| row.happens = None);
            let by_labels = auroc(&rows);
            rows.iter_mut().for_each(|row| row.happens = Some(row.time + if row.outcome { 50 * HOUR } else { HOUR }));
            let by_onsets = auroc(&rows);
            assert!(by_labels > 0.7 && by_onsets < 0.3, "{by_labels} {by_onsets}");
        }
    }

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert!((deviation(&[1.0, 2.0, 3.0, 4.0]) - (5.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(deviation(&[7.0]), 0.0);
        let some = Figures { auroc: Some(0.5), ..Figures::default() };
        let none = Figures::default();
        assert_eq!(Figures::each(&[some, none], |values| values[0]).auroc, None);
    }
}
