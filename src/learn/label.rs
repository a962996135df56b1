//! The labels of an ACES task over the whole library, as MEDS labels.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde::Serialize;

use super::LearnError;
use super::aces::{Config, Evaluator};
use super::facts::Facts;
use super::output::write_parquet;
use crate::events::EventsView;
use crate::library::Library;

/// What `label` prints.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct LabelReport {
    /// Labels.
    pub labels: u64,
    /// Labels that are true.
    pub positives: u64,
    /// Subjects with a label.
    pub subjects: u64,
    /// Wall time.
    pub seconds: f64,
}

/// Writes the labels of `config` to a Parquet file of the MEDS `LabelSchema` (`subject_id`,
/// `prediction_time`, `boolean_value`), by partition, subject and trigger.
///
/// # Errors
/// [`LearnError::NoLabel`] if the task has no label or no index timestamp; if the library
/// cannot be read or the file not be written.
pub async fn label(library: &Library, config: &Config, out: &Path) -> Result<LabelReport, LearnError> {
    let begin = Instant::now();
    if !config.has_label() || !config.has_index() {
        return Err(LearnError::NoLabel);
    }
    let mut evaluator = Evaluator::new(config);
    let (mut subjects, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut with = 0;
    for partition in library.partitions().await? {
        let mut facts = Facts::default();
        let mut history = library.history(partition).await?;
        while let Some(batch) = history.next().await? {
            let view = EventsView::new(&batch)?;
            for i in 0..view.len() {
                facts.apply(&view.row(i));
            }
        }
        for subject in facts.subjects() {
            let labels = evaluator.labels(&facts.of(subject));
            with += u64::from(!labels.is_empty());
            for label in labels {
                subjects.push(subject.0);
                times.push(label.prediction_time);
                values.push(label.value);
            }
        }
    }
    let (labels, positives) = (values.len() as u64, values.iter().filter(|value| **value).count() as u64);
    let fields = [
        Field::new("subject_id", DataType::Int64, false),
        Field::new("prediction_time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("boolean_value", DataType::Boolean, false),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(subjects)),
        Arc::new(TimestampMicrosecondArray::from(times)),
        Arc::new(BooleanArray::from(values)),
    ];
    write_parquet(out, &RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns)?)?;
    Ok(LabelReport { labels, positives, subjects: with, seconds: begin.elapsed().as_secs_f64() })
}
