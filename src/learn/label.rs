//! The labels of an ACES task over the case library or over MEDS data, as MEDS labels.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use rayon::prelude::*;
use serde::Serialize;
use tokio::runtime::Handle;

use super::LearnError;
use super::aces::{self, Config, Evaluator};
use super::facts::Facts;
use super::output::write_parquet;
use crate::events::{Codes, Fact, Micros, SubjectId};
use crate::library::{Library, MedsPart, MedsSubjects, Snapshot, Table};

/// Parts of MEDS data for each core: more than one, since subjects differ in how much they cost.
const PARTS: usize = 4;

/// What `label` prints.
#[derive(Clone, PartialEq, Debug, Serialize)]
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
/// Partitions are read on the runtime's blocking threads, as many at once as there are cores, all at one version of
/// the library.
///
/// # Errors
/// [`LearnError::NoIndex`] if the task has no index timestamp; if the library cannot be read
/// or the file not be written.
pub async fn label(library: &Library, config: &Config, out: &Path) -> Result<LabelReport, LearnError> {
    let begin = Instant::now();
    check(config)?;
    let mut labels = Labels::default();
    if let Some(snapshot) = library.snapshot(Table::Events).await? {
        of_partitions(snapshot, config).await?.into_iter().for_each(|part| labels.append(part));
    }
    labels.finish(config, out, begin)
}

/// Writes the labels of `config` over MEDS data, a Parquet file or a data set's root, like
/// [`label`], by file, subject and trigger. All cores read.
///
/// # Errors
/// As [`label`]; if the path is no MEDS data or lacks a column that a predicate asks for.
pub fn label_meds(path: &Path, config: &Config, out: &Path) -> Result<LabelReport, LearnError> {
    let begin = Instant::now();
    check(config)?;
    let subjects = MedsSubjects::open(path, config.tests())?;
    let parts = subjects.parts(rayon::current_num_threads() * PARTS);
    let found: Vec<Labels> = parts.par_iter().map(|part| of_part(part, config)).collect::<Result<_, LearnError>>()?;
    let mut labels = Labels { refused: subjects.orphans(), ..Labels::default() };
    found.into_iter().for_each(|part| labels.append(part));
    labels.finish(config, out, begin)
}

fn check(config: &Config) -> Result<(), LearnError> {
    if config.has_index() { Ok(()) } else { Err(LearnError::NoIndex) }
}

/// The labels of every partition. A thread takes one after the other, so that its memory serves for the next.
async fn of_partitions(snapshot: Snapshot, config: &Config) -> Result<Vec<Labels>, LearnError> {
    let partitions: Arc<[u32]> = snapshot.partitions()?.into();
    let (next, config, runtime) = (Arc::new(AtomicUsize::new(0)), Arc::new(config.clone()), Handle::current());
    let at_once = std::thread::available_parallelism().map_or(1, usize::from).min(partitions.len());
    let work = |_| {
        let (snapshot, partitions, next) = (snapshot.clone(), Arc::clone(&partitions), Arc::clone(&next));
        let (config, runtime) = (Arc::clone(&config), runtime.clone());
        tokio::task::spawn_blocking(move || -> Result<Vec<(usize, Labels)>, LearnError> {
            let mut found = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(&partition) = partitions.get(at) else { return Ok(found) };
                let done = runtime.block_on(of_partition(&snapshot, partition, &config));
                if done.is_err() {
                    // Nobody takes another.
                    next.store(partitions.len(), Ordering::Relaxed);
                }
                found.push((at, done?));
            }
        })
    };
    let threads: Vec<_> = (0..at_once).map(work).collect();
    let mut found = Vec::new();
    for thread in threads {
        found.extend(thread.await.map_err(|_| LearnError::Interrupted)??);
    }
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, labels)| labels).collect())
}

async fn of_partition(snapshot: &Snapshot, partition: u32, config: &Config) -> Result<Labels, LearnError> {
    let mut facts = Facts::new(config).read(snapshot.history(partition)?).await?;
    let (mut evaluator, mut labels) = (Evaluator::new(config), Labels::default());
    for subject in facts.subjects() {
        let of = facts.take(subject);
        labels.add(&mut evaluator, facts.codes(), subject, &of);
    }
    labels.occurred = evaluator.occurred().to_vec();
    Ok(labels)
}

fn of_part(part: &MedsPart<'_>, config: &Config) -> Result<Labels, LearnError> {
    let (mut evaluator, mut labels) = (Evaluator::new(config), Labels::default());
    let refused = part.for_each_subject(&mut Codes::default(), &mut |codes, subject, facts| {
        labels.add(&mut evaluator, codes, subject, facts);
        Ok::<_, LearnError>(())
    })?;
    labels.refused = refused;
    labels.occurred = evaluator.occurred().to_vec();
    Ok(labels)
}

/// Labels, column by column.
#[derive(Default)]
struct Labels {
    subjects: Vec<i64>,
    times: Vec<Micros>,
    /// As long as the others, or empty if the task labels no window.
    values: Vec<bool>,
    /// Subjects with a label.
    with: u64,
    occurred: Vec<bool>,
    refused: u64,
}

impl Labels {
    fn add(&mut self, evaluator: &mut Evaluator<'_>, codes: &Codes, subject: SubjectId, facts: &[Fact]) {
        let found = evaluator.labels(codes, facts);
        self.with += u64::from(!found.is_empty());
        self.subjects.extend(found.iter().map(|_| subject.0));
        self.times.extend(found.iter().map(|label| label.prediction_time));
        self.values.extend(found.iter().filter_map(|label| label.value));
    }

    fn append(&mut self, mut other: Labels) {
        self.subjects.append(&mut other.subjects);
        self.times.append(&mut other.times);
        self.values.append(&mut other.values);
        self.with += other.with;
        self.refused += other.refused;
        aces::merge(&mut self.occurred, &other.occurred);
    }

    fn finish(self, config: &Config, out: &Path, begin: Instant) -> Result<LabelReport, LearnError> {
        let labels = self.subjects.len() as u64;
        let positives = self.values.iter().filter(|value| **value).count() as u64;
        let mut fields = vec![
            Field::new("subject_id", DataType::Int64, false),
            Field::new("prediction_time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        ];
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(self.subjects)), Arc::new(TimestampMicrosecondArray::from(self.times))];
        if config.has_label() {
            fields.push(Field::new("boolean_value", DataType::Boolean, false));
            columns.push(Arc::new(BooleanArray::from(self.values)));
        }
        write_parquet(out, &RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)?;
        Ok(LabelReport {
            labels,
            positives: config.has_label().then_some(positives),
            subjects: self.with,
            seconds: begin.elapsed().as_secs_f64(),
            absent: config.absent(&self.occurred),
            refused: self.refused,
        })
    }
}
