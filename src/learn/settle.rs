//! Labels as they settle: the table `labels`, a row a published prediction whose outcome is known.
//!
//! Promises that a prediction settles once, when everything up to the end of its last window is known, and
//! with the label that training would give it at that moment: the same facts, the same evaluator. A settled
//! label is never revised; what becomes known later is for the next training. Nothing settles early, not even
//! what is certain: else the true ones would be known before the false ones, and figures of the last days
//! would be of the true ones alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use futures::StreamExt as _;

use super::LearnError;
use super::aces::Evaluator;
use super::facts::Facts;
use super::outcome::{Outcome, outcomes};
use super::task::Task;
use crate::events::{DAY, Micros, SubjectId};
use crate::library::{Library, LibraryError, Query, Table};
use crate::models::Target;

/// How long after a prediction's horizon it may still get a label; then there is none to come.
const PATIENCE: Micros = 90 * DAY;

/// Why there is no label.
const CONTRADICTORY: &str = "the task gives two labels that differ";
const NONE: &str = "the task gives no label";
const LOST: &str = "lost from sight before it was decided";

/// Every prediction of a subject and task that has one which is open, with whether it is.
const OPEN: &str = "
WITH open AS (
    SELECT DISTINCT task, subject FROM predictions p WHERE NOT EXISTS
        (SELECT 1 FROM labels l WHERE l.\"partition\" = p.\"partition\" AND l.\"position\" = p.\"position\"))
SELECT p.task, p.subject, p.prediction_time, p.encounter, p.risk, p.model_version, p.\"partition\", p.\"position\",
    l.\"position\" IS NULL AS is_open
FROM predictions p
JOIN open o ON o.task = p.task AND o.subject = p.subject
LEFT JOIN labels l ON l.\"partition\" = p.\"partition\" AND l.\"position\" = p.\"position\"";

/// Until when things are known, by partition of the log of record.
const KNOWN: &str = "SELECT \"partition\", max(recorded_at) AS known FROM events GROUP BY \"partition\"";

/// What was settled of a task.
#[derive(Clone, PartialEq, Debug)]
pub struct Settled {
    /// Name of the task.
    pub task: String,
    /// Labels that are true.
    pub positives: u64,
    /// Labels that are false.
    pub negatives: u64,
    /// Predictions that have no label, and get none any more.
    pub without: u64,
    /// Of each label, from the prediction until it settled, in microseconds of the events' clock.
    pub lags: Vec<Micros>,
    /// Predictions that are still open.
    pub open: u64,
}

/// A published prediction.
#[derive(Clone, Debug)]
struct Prediction {
    time: Micros,
    encounter: Option<String>,
    risk: Option<f64>,
    model: Option<i64>,
    partition: i32,
    position: i64,
    is_open: bool,
}

/// Predictions by task (its number) and subject.
type Predictions = BTreeMap<(usize, SubjectId), Vec<Prediction>>;

/// A label that has settled, or that there is none.
#[derive(Debug)]
struct Row {
    task: usize,
    subject: SubjectId,
    prediction: Prediction,
    value: Option<bool>,
    target: Option<Target>,
    reason: Option<&'static str>,
    closes: Option<Micros>,
    known: Micros,
}

/// Settles what can be settled of the predictions in the library, and says what that was, a task an entry.
/// `progress` is called as it goes on, with what it does.
///
/// # Errors
/// If the library cannot be read; if another process settled labels meanwhile, and it is to be tried again.
pub async fn settle(
    library: &Library,
    tasks: &[Task],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Settled>, LearnError> {
    let since = library.settlements().await?;
    let mut waiting = open(library, tasks, progress).await?;
    if waiting.is_empty() {
        return Ok(summary(tasks, &[], &[]));
    }
    let known = known(library).await?;
    let mut rows = Vec::new();
    for (partition, known) in &known {
        if !waiting.is_empty() {
            let mut progress = || progress(&format!("reading partition {partition}"));
            rows.extend(of_partition(library, tasks, &mut waiting, (*partition, *known), &mut progress).await?);
        }
    }
    // Whose facts are nowhere was merged into another; nothing will be told of it.
    let latest = known.values().copied().max().unwrap_or(Micros::MIN);
    for ((task, subject), predictions) in waiting {
        rows.extend(decide(&tasks[task], (task, subject), predictions, &BTreeMap::new(), latest));
    }
    let (settled, open): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| row.value.is_some() || row.reason.is_some());
    if !settled.is_empty() {
        progress("writing labels");
        library.settle(&batch(tasks, &settled)?, since).await?;
    }
    Ok(summary(tasks, &settled, &open))
}

/// The predictions of every subject that has one which is open, of the tasks there are.
async fn open(library: &Library, tasks: &[Task], progress: &mut dyn FnMut(&str)) -> Result<Predictions, LearnError> {
    let numbers: BTreeMap<&str, usize> = tasks.iter().enumerate().map(|(i, task)| (task.name.as_str(), i)).collect();
    let mut predictions = Predictions::new();
    let mut stream = Query::parse(OPEN)?.run(library).await?;
    while let Some(batch) = stream.next().await {
        progress("reading predictions");
        let batch = batch.map_err(LibraryError::from)?;
        let column = |i: usize, kind: DataType| -> Result<ArrayRef, LearnError> {
            Ok(cast(batch.column(i), &kind).map_err(LibraryError::from)?)
        };
        let (task, encounter) = (column(0, DataType::Utf8)?, column(3, DataType::Utf8)?);
        let subject = column(1, DataType::Int64)?;
        let time = column(2, DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let (risk, model) = (column(4, DataType::Float64)?, column(5, DataType::Int64)?);
        let (partition, position) = (column(6, DataType::Int32)?, column(7, DataType::Int64)?);
        let is_open = column(8, DataType::Boolean)?;
        for i in 0..batch.num_rows() {
            // A task that was taken out of the site stays open, and settles if it comes back.
            let Some(&number) = numbers.get(task.as_string::<i32>().value(i)) else { continue };
            let subject = SubjectId(subject.as_primitive::<Int64Type>().value(i));
            predictions.entry((number, subject)).or_default().push(Prediction {
                time: time.as_primitive::<TimestampMicrosecondType>().value(i),
                encounter: encounter.is_valid(i).then(|| encounter.as_string::<i32>().value(i).to_owned()),
                risk: risk.is_valid(i).then(|| risk.as_primitive::<Float64Type>().value(i)),
                model: model.is_valid(i).then(|| model.as_primitive::<Int64Type>().value(i)),
                partition: partition.as_primitive::<Int32Type>().value(i),
                position: position.as_primitive::<Int64Type>().value(i),
                is_open: is_open.as_boolean().value(i),
            });
        }
    }
    Ok(predictions)
}

/// Until when things are known, by partition.
async fn known(library: &Library) -> Result<BTreeMap<u32, Micros>, LearnError> {
    let mut known = BTreeMap::new();
    let mut stream = Query::parse(KNOWN)?.run(library).await?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(LibraryError::from)?;
        let partitions = cast(batch.column(0), &DataType::UInt32).map_err(LibraryError::from)?;
        let times =
            cast(batch.column(1), &DataType::Timestamp(TimeUnit::Microsecond, None)).map_err(LibraryError::from)?;
        let partitions = partitions.as_primitive::<arrow::datatypes::UInt32Type>();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        known.extend(partitions.iter().zip(times).filter_map(|(partition, time)| Some((partition?, time?))));
    }
    Ok(known)
}

/// Decides about the predictions of the subjects of a partition, of which things are known until then; they do
/// not wait any more. `progress` is called batch by batch and subject by subject.
async fn of_partition(
    library: &Library,
    tasks: &[Task],
    waiting: &mut Predictions,
    (partition, known): (u32, Micros),
    progress: &mut dyn FnMut(),
) -> Result<Vec<Row>, LearnError> {
    let mut subjects: Vec<SubjectId> = waiting.keys().map(|(_, subject)| *subject).collect();
    subjects.sort_unstable();
    subjects.dedup();
    let mut facts: Vec<Facts> = tasks.iter().map(|task| Facts::new(&task.aces)).collect();
    let mut history = library
        .history_of(partition, subjects)
        .await?
        .reading(&facts.iter().flat_map(Facts::columns).collect::<Vec<_>>());
    while let Some(batch) = history.next().await? {
        progress();
        facts.iter_mut().try_for_each(|facts| facts.add(&batch))?;
    }
    let mut rows = Vec::new();
    for (number, (task, facts)) in tasks.iter().zip(&mut facts).enumerate() {
        let mut evaluator = Evaluator::new(&task.aces);
        for subject in facts.subjects() {
            let Some(predictions) = waiting.remove(&(number, subject)) else { continue };
            progress();
            let mut times: Vec<Micros> = predictions.iter().map(|one| one.time).collect();
            times.sort_unstable();
            times.dedup();
            let outcomes = outcomes(facts, &mut evaluator, task.wanted.as_ref(), subject, &times);
            rows.extend(decide(task, (number, subject), predictions, &outcomes, known));
        }
    }
    Ok(rows)
}

/// What is to be said of a subject's open predictions; those that stay open have neither value nor reason.
fn decide(
    task: &Task,
    (number, subject): (usize, SubjectId),
    predictions: Vec<Prediction>,
    outcomes: &BTreeMap<Micros, Outcome>,
    known: Micros,
) -> Vec<Row> {
    let decide = |prediction: Prediction| {
        let outcome = outcomes.get(&prediction.time);
        let last = prediction.time.saturating_add(task.horizon).saturating_add(PATIENCE);
        let (value, reason) = match outcome {
            Some(outcome) if outcome.closes > known => (None, None),
            Some(Outcome { told: None, .. }) => (None, Some(CONTRADICTORY)),
            Some(Outcome { told: Some(told), .. }) => (told.outcome, told.outcome.is_none().then_some(LOST)),
            None => (None, (last <= known).then_some(NONE)),
        };
        let target = outcome.and_then(|outcome| outcome.told?.target).filter(|_| value.is_some() || reason.is_some());
        Row { task: number, subject, prediction, value, target, reason, closes: outcome.map(|one| one.closes), known }
    };
    predictions.into_iter().filter(|one| one.is_open).map(decide).collect()
}

fn batch(tasks: &[Task], rows: &[Row]) -> Result<RecordBatch, LearnError> {
    let mut order: Vec<&Row> = rows.iter().collect();
    order.sort_by_key(|row| (row.prediction.partition, row.prediction.position));
    let of = || order.iter().map(|row| &row.prediction);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(order.iter().map(|row| &tasks[row.task].name))),
        Arc::new(Int64Array::from_iter_values(order.iter().map(|row| row.subject.0))),
        Arc::new(StringArray::from_iter(of().map(|one| one.encounter.as_deref()))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(of().map(|one| one.time))),
        Arc::new(BooleanArray::from_iter(order.iter().map(|row| row.value))),
        Arc::new(Float64Array::from_iter(order.iter().map(|row| match row.target? {
            Target::Amount(number) | Target::Time { hours: number, .. } => Some(number),
            Target::Class(_) => None,
        }))),
        Arc::new(StringArray::from_iter(order.iter().map(|row| match (row.target?, &tasks[row.task].wanted) {
            (Target::Class(class), Some(wanted)) => wanted.class(class),
            _ => None,
        }))),
        Arc::new(StringArray::from_iter(order.iter().map(|row| row.reason))),
        Arc::new(TimestampMicrosecondArray::from_iter(order.iter().map(|row| row.closes))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(order.iter().map(|row| row.known))),
        Arc::new(Float64Array::from_iter(of().map(|one| one.risk))),
        Arc::new(Int64Array::from_iter(of().map(|one| one.model))),
        Arc::new(Int32Array::from_iter_values(of().map(|one| one.partition))),
        Arc::new(Int64Array::from_iter_values(of().map(|one| one.position))),
        Arc::new(Int32Array::from_iter_values(of().map(|_| 0))),
    ];
    Ok(RecordBatch::try_new(Table::Labels.schema(), columns).map_err(LibraryError::from)?)
}

fn summary(tasks: &[Task], settled: &[Row], open: &[Row]) -> Vec<Settled> {
    let of = |(number, task): (usize, &Task)| {
        let rows = || settled.iter().filter(move |row| row.task == number);
        let count = |value: Option<bool>| rows().filter(|row| row.value == value).count() as u64;
        Settled {
            task: task.name.clone(),
            positives: count(Some(true)),
            negatives: count(Some(false)),
            without: count(None),
            lags: rows().filter(|row| row.value.is_some()).map(|row| row.known - row.prediction.time).collect(),
            open: open.iter().filter(|row| row.task == number).count() as u64,
        }
    };
    tasks.iter().enumerate().map(of).collect()
}
