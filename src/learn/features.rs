//! The features of every prediction that fell due in the library, as a Parquet file for other tools.
//!
//! Promises the numbers that the daemon computes at those moments (invariant 6), a row a
//! (`subject_id`, `prediction_time`), a column a feature. In memory are the states of as many
//! partitions as there are cores and a few batches of rows, however many rows there are.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::Serialize;
use tokio::sync::mpsc;

use super::LearnError;
use super::output::ParquetFile;
use crate::events::EventsView;
use crate::features::{Due, FeatureSpec, Fold, Trigger};
use crate::library::Library;

/// Rows of a batch, but for what a single event lets fall due at once.
const BATCH_ROWS: usize = 4096;
/// Batches of a partition that wait to be written.
const WAITING: usize = 2;

/// What `features --out` prints.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct FeaturesReport {
    /// Rows: predictions.
    pub rows: u64,
    /// Columns that are features.
    pub columns: u64,
    /// Due times that the fold skipped because too many came at once.
    pub skipped: u64,
    /// Wall time.
    pub seconds: f64,
}

/// Replays the library and writes the features of every prediction of the tasks to `out`, by partition and in
/// the order in which they fell due: `subject_id`, `prediction_time`, `task`, then the features, null where
/// missing. `tasks` are names with triggers.
///
/// # Errors
/// If the library cannot be read or the file not be written.
pub async fn features(
    library: &Library,
    spec: &Arc<FeatureSpec>,
    tasks: &[(String, Trigger)],
    out: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<FeaturesReport, LearnError> {
    let begin = Instant::now();
    let schema = schema(spec);
    let mut file = ParquetFile::create(out, Arc::clone(&schema))?;
    let (mut rows, mut skipped) = (0, 0);
    let partitions = library.partitions().await?;
    let (count, at_once) = (partitions.len(), std::thread::available_parallelism().map_or(1, usize::from));
    let mut waiting = partitions.into_iter();
    let mut running = std::collections::VecDeque::new();
    let mut done = 0;
    loop {
        // The next partitions are replayed while this one is written, until their channels are full.
        while running.len() < at_once
            && let Some(partition) = waiting.next()
        {
            running.push_back(replay(library, partition, spec, tasks, &schema));
        }
        let Some((mut batches, replayed)) = running.pop_front() else { break };
        while let Some(batch) = batches.recv().await {
            rows += batch.num_rows() as u64;
            file.write(&batch)?;
        }
        skipped += replayed.await.map_err(|_| LearnError::Interrupted)??;
        done += 1;
        progress(&format!("replayed {done} of {count} partitions, {rows} rows"));
    }
    file.finish()?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(FeaturesReport { rows, columns: spec.len() as u64, skipped, seconds })
}

type Replay = (mpsc::Receiver<RecordBatch>, tokio::task::JoinHandle<Result<u64, LearnError>>);

/// Replays a partition on a thread of its own; its result is how many due times were skipped.
fn replay(
    library: &Library,
    partition: u32,
    spec: &Arc<FeatureSpec>,
    tasks: &[(String, Trigger)],
    schema: &SchemaRef,
) -> Replay {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (library, spec, schema) = (library.clone(), Arc::clone(spec), Arc::clone(schema));
    let (names, triggers): (Vec<String>, Vec<Trigger>) = tasks.iter().cloned().unzip();
    let runtime = tokio::runtime::Handle::current();
    let replayed = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let mut fold = Fold::new(Arc::clone(&spec), triggers);
            let mut due = Due::default();
            let mut history = library.history(partition).await?;
            while let Some(batch) = history.next().await? {
                let view = EventsView::new(&batch)?;
                for i in 0..view.len() {
                    fold.apply(&view.row(i), Some(&mut due));
                    // Whoever receives is gone only if it failed, which it says itself.
                    if due.rows.len() >= BATCH_ROWS && sender.send(take(&mut due, &names, &schema)?).await.is_err() {
                        return Ok(fold.skipped());
                    }
                }
            }
            if !due.rows.is_empty() {
                let _ = sender.send(take(&mut due, &names, &schema)?).await;
            }
            Ok(fold.skipped())
        })
    });
    (receiver, replayed)
}

fn schema(spec: &FeatureSpec) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut fields = vec![
        Field::new("subject_id", DataType::Int64, false),
        Field::new("prediction_time", time, false),
        Field::new("task", DataType::Utf8, false),
    ];
    fields.extend(spec.names().iter().map(|name| Field::new(name, DataType::Float32, true)));
    Arc::new(Schema::new(fields))
}

/// What is due as a batch; nothing is due afterwards.
fn take(due: &mut Due, names: &[String], schema: &SchemaRef) -> Result<RecordBatch, LearnError> {
    let rows = due.rows.len();
    let task = |trigger: usize| names.get(trigger).map_or("", String::as_str);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(due.rows.iter().map(|row| row.subject.0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(due.rows.iter().map(|row| row.time))),
        Arc::new(StringArray::from_iter_values(due.rows.iter().map(|row| task(row.trigger)))),
    ];
    let width = schema.fields().len() - columns.len();
    for column in 0..width {
        let values: Vec<f32> = (0..rows).map(|row| due.values[row * width + column]).collect();
        let nulls = NullBuffer::from_iter(values.iter().map(|value| !value.is_nan()));
        columns.push(Arc::new(Float32Array::new(values.into(), Some(nulls))));
    }
    due.clear();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
