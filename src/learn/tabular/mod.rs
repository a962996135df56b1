//! Tabularization: for every subject and time a row of what happened in windows before it, as sparse
//! matrices that scipy reads, in the layout of MEDS-Tab.
//!
//! There is a row for each distinct time at which a subject has a dated event of a kept code, subjects in
//! the order of their file, times ascending. A row's window holds the subject's dated events with a time
//! in `(row - length, row]`, the row's own included, whatever their order in the file. A matrix is one
//! window and one [`Aggregate`]; its columns are codes, those of the value matrices codes with values. A
//! cell is stored if and only if the window holds at least one event (in value matrices: one value) of the
//! column, so that a stored 0 is a sum, minimum or maximum that is 0. Cells are float32; sums are made in
//! float64 and rounded once. A count above 2^24 is rounded too, and a sum beyond float32 is infinite.
//! Columns are ascending in a row (scipy's canonical format).
//!
//! ```text
//! out/codes.parquet                               the columns: see `Columns::table`
//! out/{shard}/rows.parquet                        the rows: subject_id, time
//! out/{shard}/{window}/{code,value}/{...}.npz     scipy.sparse.load_npz
//! ```
//!
//! MEDS-Tab 0.2.0 has the same rows and columns, but leaves out the last event of every time, counts times
//! where it says events, and has no right minimum or maximum; the tests tell its figures from these.
//!
//! Promises that what is written depends on the data alone, not on the threads, and that the memory is
//! that of a subject or two a thread, whatever the size of the data. The output appears whole or not at all.
//! Must never leave an event out because it is the last of its time, and must never look past a row's time.

mod aggregate;
mod columns;
mod group;
mod history;
mod npz;
mod shard;
mod slide;
mod target;
#[cfg(test)]
mod tests;
mod window;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use self::columns::{Columns, Tallies};
use self::shard::write_shard;
use super::LearnError;
use super::facts::Facts;
use super::output::write_parquet;
use crate::events::{Codes, Fact, Split, SubjectId, split_of};
use crate::library::{Library, MedsSubjects};

pub use aggregate::Aggregate;
pub use window::Window;

/// What is done with each subject and its facts.
type Each<'a> = dyn FnMut(SubjectId, &[Fact]) -> Result<(), LearnError> + 'a;

/// Which matrices are wanted.
#[derive(Clone, Debug)]
pub struct Tabular {
    /// Windows, each once.
    pub windows: Vec<Window>,
    /// Aggregates, each once.
    pub aggregates: Vec<Aggregate>,
    /// Dated events that a code needs to be kept; its values need as many to be kept.
    pub min_count: u64,
}

/// What was written.
#[derive(Copy, Clone, PartialEq, Default, Debug, Serialize)]
pub struct TabularReport {
    /// Rows of all shards: those of any one matrix.
    pub rows: u64,
    /// Columns of the code matrices.
    pub codes: u64,
    /// Columns of the value matrices.
    pub value_codes: u64,
    /// Stored values of all matrices.
    pub stored: u64,
    /// Bytes of all matrices' files.
    pub bytes: u64,
    /// Rows of the data without a subject or a code: nobody's, they are left out.
    pub refused: u64,
    /// Wall time.
    pub seconds: f64,
}

impl TabularReport {
    fn add(&mut self, shard: TabularReport) {
        self.rows += shard.rows;
        self.stored += shard.stored;
        self.bytes += shard.bytes;
    }

    fn finish(mut self, columns: &Columns, begin: Instant) -> Self {
        self.codes = columns.codes() as u64;
        self.value_codes = columns.values() as u64;
        self.seconds = begin.elapsed().as_secs_f64();
        self
    }
}

/// Writes the matrices of MEDS data, a Parquet file or a data set's root, into the new folder `out`, a
/// shard a file. Codes are counted over all files.
///
/// # Errors
/// If the data cannot be read or are no MEDS data, or change meanwhile; if `out` holds something or
/// cannot be written.
pub fn tabularize_meds(path: &Path, tabular: &Tabular, out: &Path) -> Result<TabularReport, LearnError> {
    let begin = Instant::now();
    let draft = Draft::new(out)?;
    let subjects = MedsSubjects::open(path, &[])?;
    // One a file.
    let parts = subjects.parts(1, u64::MAX);
    let (mut codes, mut tallies) = (Codes::default(), Tallies::default());
    let mut report = TabularReport { refused: subjects.orphans(), ..TabularReport::default() };
    for part in &parts {
        report.refused += part.for_each_subject(&mut codes, &mut |_, _, facts| {
            tallies.add(facts);
            Ok::<_, LearnError>(())
        })?;
    }
    let columns = Columns::new(tallies, &codes, tabular.min_count);
    for part in &parts {
        let folder = draft.folder.join(shard_name(path, part.path()));
        let shard = write_shard(tabular, &columns, &folder, &mut |each| {
            part.for_each_subject(&mut codes, &mut |_, subject, facts| each(subject, facts)).map(|_| ())
        })?;
        report.add(shard);
    }
    write_parquet(&draft.folder.join("codes.parquet"), &columns.table(&codes)?)?;
    draft.publish(out)?;
    Ok(report.finish(&columns, begin))
}

/// A file's shard: the name of a file that was given itself, or its path below `data/`, such as `train/0`.
fn shard_name(given: &Path, file: &Path) -> PathBuf {
    let data = given.join("data");
    let below = file.strip_prefix(&data).or_else(|_| file.strip_prefix(given)).unwrap_or(file);
    let name = if below.as_os_str().is_empty() { Path::new(file.file_name().unwrap_or_default()) } else { below };
    name.with_extension("")
}

/// Writes the matrices of what holds at the end of the library's log into the new folder `out`, a shard a
/// split and partition: `train/0` and so on. Codes are counted over all splits. The memory is that of the
/// largest partition.
///
/// # Errors
/// If the library cannot be read or changes meanwhile; if `out` holds something or cannot be written.
pub async fn tabularize_library(library: &Library, tabular: &Tabular, out: &Path) -> Result<TabularReport, LearnError> {
    let begin = Instant::now();
    let draft = Draft::new(out)?;
    let (mut codes, mut tallies) = (Codes::default(), Tallies::default());
    let partitions = library.partitions().await?;
    for &partition in &partitions {
        let mut facts = Facts::default().read(library.history(partition).await?).await?;
        let numbers = numbers(&facts, &mut codes);
        for subject in facts.subjects() {
            tallies.add(&rows(&mut facts, subject, &numbers));
        }
    }
    let columns = Columns::new(tallies, &codes, tabular.min_count);
    let mut report = TabularReport::default();
    for &partition in &partitions {
        let mut facts = Facts::default().read(library.history(partition).await?).await?;
        let numbers = numbers(&facts, &mut codes);
        let of = facts.subjects().into_iter().map(|subject| (subject, rows(&mut facts, subject, &numbers)));
        let subjects: Vec<(SubjectId, Vec<Fact>)> = of.collect();
        for split in [Split::Train, Split::Tuning, Split::HeldOut] {
            let of_split = || subjects.iter().filter(|(subject, _)| split_of(*subject) == split);
            if of_split().next().is_none() {
                continue;
            }
            let folder = draft.folder.join(split.as_str()).join(partition.to_string());
            let shard = write_shard(tabular, &columns, &folder, &mut |each| {
                of_split().try_for_each(|(subject, rows)| each(*subject, rows))
            })?;
            report.add(shard);
        }
    }
    write_parquet(&draft.folder.join("codes.parquet"), &columns.table(&codes)?)?;
    draft.publish(out)?;
    Ok(report.finish(&columns, begin))
}

/// What the numbers of a partition's codes are in `codes`.
fn numbers(facts: &Facts, codes: &mut Codes) -> Vec<u32> {
    // Numbers are given as u32, so that their count fits one.
    (0..facts.codes().len() as u32).map(|number| codes.number(facts.codes().code(number), 0)).collect()
}

/// Takes one subject's facts out, in an order of their own: the rounding of a sum has one.
fn rows(facts: &mut Facts, subject: SubjectId, numbers: &[u32]) -> Vec<Fact> {
    let mut rows = facts.take(subject);
    for row in &mut rows {
        row.code = numbers[row.code as usize];
    }
    rows.sort_unstable_by(|a, b| (a.time, a.code).cmp(&(b.time, b.code)).then(a.value.total_cmp(&b.value)));
    rows
}

/// The output before it is whole, in a folder beside its place.
struct Draft {
    folder: PathBuf,
}

impl Draft {
    /// Makes the folder, if the output's place is free.
    fn new(out: &Path) -> Result<Self, LearnError> {
        let free = match fs::read_dir(out) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => !out.exists(),
        };
        let name = out.file_name().filter(|_| free).ok_or_else(|| LearnError::Target(out.to_owned()))?;
        let mut name = name.to_owned();
        name.push(format!(".{}.draft", std::process::id()));
        let folder = out.with_file_name(name);
        fs::create_dir_all(&folder).map_err(LearnError::io(&folder))?;
        Ok(Draft { folder })
    }

    /// Puts the whole output in its place.
    fn publish(self, out: &Path) -> Result<(), LearnError> {
        fs::rename(&self.folder, out).map_err(LearnError::io(out))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Published, it is gone already; else it is of no use, and that it could not be removed changes nothing.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
