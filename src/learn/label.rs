//! The labels of an ACES task over the case library or over MEDS data, as MEDS labels.
//!
//! Subjects are labelled one after the other, part by part, and what is found is written some parts at a time: however
//! large the data are, no more of them is in memory.

mod shelf;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rayon::prelude::*;
use serde::Serialize;
use tokio::runtime::Handle;

use self::shelf::Shelf;
use super::LearnError;
use super::aces::{self, Config, Evaluator};
use super::facts::Facts;
use super::output::ParquetFile;
use crate::events::{Codes, Micros, SubjectId};
use crate::library::{Library, MedsPart, MedsSubjects, Snapshot, Table};

/// Parts of MEDS data that are read before their labels are written, for each core: more than one, since they differ in
/// how much they cost. Of the library's partitions, which are large, it is one.
const PARTS: usize = 4;
/// Most rows of a part of MEDS data, for all may have labels.
const PART_ROWS: u64 = 256 * 1024;

/// What `label` prints.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct LabelReport {
    /// Labels.
    pub labels: u64,
    /// Labels that are true; none where the task labels no window.
    pub positives: Option<u64>,
    /// Subjects with a label.
    pub subjects: u64,
    /// Wall time.
    pub seconds: f64,
    /// Predicates of the task that occur in no record.
    #[serde(skip)]
    pub absent: Vec<String>,
    /// Rows of MEDS data without `subject_id` or `code`, which are left out.
    #[serde(skip)]
    pub refused: u64,
}

impl LabelReport {
    /// What nobody should train on without having read it: no labels at all, or all the same.
    pub fn warning(&self) -> Option<String> {
        let what = match (self.labels, self.positives) {
            (0, _) => "there is no label: no trigger has all its windows",
            (_, Some(0)) => "every label is false, so that nothing can be learned from them",
            (labels, Some(positives)) if labels == positives => {
                "every label is true, so that nothing can be learned from them"
            }
            _ => return None,
        };
        let why = if self.absent.is_empty() {
            "every predicate occurs, so look at the windows and their has".to_owned()
        } else {
            format!("these predicates occur nowhere, so compare their codes with the data: {}", self.absent.join(", "))
        };
        Some(format!("{what}; {why}"))
    }
}

/// Writes the labels of `config` over the library to a Parquet file of the MEDS `LabelSchema`
/// (`subject_id`, `prediction_time`, `boolean_value`), by partition, subject and trigger.
///
/// A task that labels no window gives no `boolean_value`, as upstream: its rows are the times
/// at which a prediction could be made. The file is written even if it has no rows.
/// Partitions are read on all cores, all at one version of the library.
///
/// # Errors
/// [`LearnError::NoIndex`] if the task has no index timestamp; if the library cannot be read
/// or the file not be written.
pub async fn label(library: &Library, config: &Config, out: &Path) -> Result<LabelReport, LearnError> {
    let mut output = Output::create(config, out)?;
    let Some(snapshot) = library.snapshot(Table::Events).await? else { return output.finish() };
    let (partitions, config, runtime) = (snapshot.partitions()?, config.clone(), Handle::current());
    let work = move || {
        let read = |partition: &u32| runtime.block_on(of_partition(&snapshot, *partition, &config));
        output.write(&partitions, 1, read)?;
        output.finish()
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| LearnError::Interrupted)?
}

/// Writes the labels of `config` over MEDS data, a Parquet file or a data set's root, like
/// [`label`], by file, subject and trigger. All cores read.
///
/// # Errors
/// As [`label`]; if the path is no MEDS data or lacks a column that a predicate asks for.
pub fn label_meds(path: &Path, config: &Config, out: &Path) -> Result<LabelReport, LearnError> {
    let mut output = Output::create(config, out)?;
    let subjects = MedsSubjects::open(path, config.tests())?;
    output.report.refused = subjects.orphans();
    let parts = subjects.parts(rayon::current_num_threads() * PARTS, PART_ROWS);
    output.write(&parts, PARTS, |part| of_part(part, config))?;
    output.finish()
}

/// The labels of a partition.
async fn of_partition(snapshot: &Snapshot, partition: u32, config: &Config) -> Result<Found, LearnError> {
    let (mut evaluator, mut shelf, mut with) = (Evaluator::new(config), Shelf::make()?, 0);
    let twice = [snapshot.history(partition)?, snapshot.history(partition)?];
    let mut each = |facts: &mut Facts, subject| {
        let of = facts.take(subject);
        let labels = evaluator.labels(facts.codes(), &of);
        with += u64::from(!labels.is_empty());
        shelf.put(subject, labels.iter().map(|label| (label.prediction_time, label.value)))
    };
    Facts::new(config).read_by_subject(twice, &mut each).await?;
    Ok(Found { labels: Laid::Down(shelf), with, occurred: evaluator.occurred().to_vec(), refused: 0 })
}

fn of_part(part: &MedsPart<'_>, config: &Config) -> Result<Found, LearnError> {
    let (mut evaluator, mut labels, mut with) = (Evaluator::new(config), Labels::default(), 0);
    let refused = part.for_each_subject(&mut Codes::default(), &mut |codes, subject, facts| {
        let found = evaluator.labels(codes, facts);
        with += u64::from(!found.is_empty());
        found.iter().for_each(|label| labels.push(subject, label.prediction_time, label.value));
        Ok::<_, LearnError>(())
    })?;
    Ok(Found { labels: Laid::Here(labels), with, occurred: evaluator.occurred().to_vec(), refused })
}

/// What was found in a part.
struct Found {
    labels: Laid,
    /// Subjects with a label.
    with: u64,
    occurred: Vec<bool>,
    refused: u64,
}

/// Where the labels of a part are.
enum Laid {
    /// In memory, in the order in which they are written.
    Here(Labels),
    /// In a file.
    Down(Shelf),
}

/// The file of labels, and what has been written to it.
struct Output {
    config: Config,
    begin: Instant,
    schema: SchemaRef,
    file: ParquetFile,
    report: LabelReport,
    occurred: Vec<bool>,
}

impl Output {
    fn create(config: &Config, out: &Path) -> Result<Self, LearnError> {
        let begin = Instant::now();
        if !config.has_index() {
            return Err(LearnError::NoIndex);
        }
        let mut fields = vec![
            Field::new("subject_id", DataType::Int64, false),
            Field::new("prediction_time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        ];
        if config.has_label() {
            fields.push(Field::new("boolean_value", DataType::Boolean, false));
        }
        let schema = Arc::new(Schema::new(fields));
        let file = ParquetFile::create(out, Arc::clone(&schema))?;
        let report = LabelReport { positives: config.has_label().then_some(0), ..LabelReport::default() };
        Ok(Output { config: config.clone(), begin, schema, file, report, occurred: Vec::new() })
    }

    /// Writes the labels of parts, in their order; those of some, so many a core, are made before any is written.
    fn write<P: Sync>(
        &mut self,
        parts: &[P],
        of_core: usize,
        read: impl Fn(&P) -> Result<Found, LearnError> + Sync,
    ) -> Result<(), LearnError> {
        for some in parts.chunks(rayon::current_num_threads() * of_core) {
            let found: Vec<Found> = some.par_iter().with_max_len(1).map(&read).collect::<Result<_, LearnError>>()?;
            found.into_iter().try_for_each(|found| self.add(found))?;
        }
        Ok(())
    }

    fn add(&mut self, found: Found) -> Result<(), LearnError> {
        self.report.subjects += found.with;
        self.report.refused += found.refused;
        aces::merge(&mut self.occurred, &found.occurred);
        match found.labels {
            Laid::Here(labels) => self.put(labels),
            Laid::Down(shelf) => shelf.take(self.config.has_label(), &mut |labels| self.put(labels)),
        }
    }

    fn put(&mut self, labels: Labels) -> Result<(), LearnError> {
        self.report.labels += labels.len() as u64;
        if let Some(positives) = &mut self.report.positives {
            *positives += labels.values.iter().filter(|value| **value).count() as u64;
        }
        self.file.write(&labels.batch(&self.schema)?)
    }

    fn finish(self) -> Result<LabelReport, LearnError> {
        self.file.finish()?;
        let absent = self.config.absent(&self.occurred);
        Ok(LabelReport { seconds: self.begin.elapsed().as_secs_f64(), absent, ..self.report })
    }
}

/// Labels, column by column.
#[derive(Default)]
struct Labels {
    subjects: Vec<i64>,
    times: Vec<Micros>,
    /// As long as the others, or empty if the task labels no window.
    values: Vec<bool>,
}

impl Labels {
    fn push(&mut self, subject: SubjectId, time: Micros, value: Option<bool>) {
        self.subjects.push(subject.0);
        self.times.push(time);
        self.values.extend(value);
    }

    fn len(&self) -> usize {
        self.subjects.len()
    }

    /// The columns as the file has them.
    fn batch(self, schema: &SchemaRef) -> Result<RecordBatch, LearnError> {
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(self.subjects)), Arc::new(TimestampMicrosecondArray::from(self.times))];
        if schema.fields().len() > columns.len() {
            columns.push(Arc::new(BooleanArray::from(self.values)));
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}
