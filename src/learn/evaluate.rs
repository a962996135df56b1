//! A registered model on the library's labelled subjects.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde::Serialize;

use super::LearnError;
use super::matrix::{LeftOut, Row, dataset};
use super::metrics::{Metrics, Scored, evaluate as figures};
use super::output::write_parquet;
use super::registry::Registry;
use super::task::Task;
use super::train::Named;
use crate::events::Split;
use crate::features::FeatureSpec;
use crate::library::Library;
use crate::models::{Bundle, Matrix, ModelError};

/// Which subjects are judged by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Those nothing was fitted on.
    HeldOut,
    /// All: honest only for a model that was fitted elsewhere.
    All,
}

/// What `evaluate` prints.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Evaluation {
    /// Figures.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Task.
    pub task: String,
    /// The model.
    pub model: Named,
    /// Predictions of the library that could not be used.
    pub left_out: LeftOut,
}

/// Scores a task's labelled rows with a version (default: the champion) and says how good it
/// was; `predictions`: a Parquet file of them, in the columns of meds-evaluation.
///
/// Computes on the calling thread, as [`train`](super::train) does.
///
/// # Errors
/// If there is no such model, it needs other features, or something cannot be read or written.
pub async fn evaluate(
    library: &Library,
    registry: &Registry,
    spec: Arc<FeatureSpec>,
    task: &Task,
    version: Option<u32>,
    part: Part,
    predictions: Option<&Path>,
) -> Result<Evaluation, LearnError> {
    let model = match version {
        Some(version) => registry.version(&task.name, version)?,
        None => registry.champion(&task.name)?.ok_or_else(|| LearnError::NoChampion { task: task.name.clone() })?,
    };
    let bundle = registry.load(&task.name, &model)?;
    if bundle.card.spec_hash != spec.hash() {
        return Err(LearnError::OtherFeatures { task: task.name.clone(), version: model.version });
    }
    let only = match part {
        Part::HeldOut => Some(Split::HeldOut),
        Part::All => None,
    };
    let data = dataset(library, &spec, task, only, &mut |_| {}).await?;
    let (mut rows, mut scored) = (Vec::new(), Vec::new());
    for part in [data.train, data.tuning, data.held_out] {
        let (matrix, of) = part.into_matrix(spec.len())?;
        scored.extend(score(&bundle, &matrix, &of)?);
        rows.extend(of);
    }
    let threshold = bundle.card.threshold;
    if let Some(path) = predictions {
        write(path, &rows, &scored, threshold)?;
    }
    Ok(Evaluation {
        metrics: figures(&scored, threshold, task.train.seed),
        task: task.name.clone(),
        model: Named { name: model.name, version: model.version },
        left_out: data.left_out,
    })
}

/// The risks of labelled rows.
pub(super) fn score(bundle: &Bundle, matrix: &Matrix, rows: &[Row]) -> Result<Vec<Scored>, ModelError> {
    let mut risks = Vec::with_capacity(rows.len());
    bundle.score(matrix.values(), &mut risks)?;
    let scored = rows.iter().zip(risks);
    Ok(scored.map(|(row, risk)| Scored { subject: row.subject, risk, outcome: row.outcome }).collect())
}

/// Writes predictions in the `PredictionSchema` of meds-evaluation, ordered by subject and time.
fn write(path: &Path, rows: &[Row], scored: &[Scored], threshold: f64) -> Result<(), LearnError> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|i| (rows[*i].subject, rows[*i].time));
    let risks = order.iter().map(|i| scored[*i].risk);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(order.iter().map(|i| rows[*i].subject.0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(order.iter().map(|i| rows[*i].time))),
        Arc::new(order.iter().map(|i| Some(rows[*i].outcome)).collect::<BooleanArray>()),
        Arc::new(risks.clone().map(|risk| Some(risk >= threshold)).collect::<BooleanArray>()),
        Arc::new(Float64Array::from_iter_values(risks)),
    ];
    let fields = [
        Field::new("subject_id", DataType::Int64, false),
        Field::new("prediction_time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("boolean_value", DataType::Boolean, false),
        Field::new("predicted_boolean_value", DataType::Boolean, false),
        Field::new("predicted_boolean_probability", DataType::Float64, false),
    ];
    write_parquet(path, &RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns)?)
}
