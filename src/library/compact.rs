//! Few large files instead of many small ones.
//!
//! Every commit of the archive leaves a file a partition. Opening a table reads the list of
//! its files, so without this each commit would cost more than the last. A rewrite changes
//! no row, no address and no order; rows that were archived meanwhile stay as they are.

use std::collections::{BTreeMap, HashMap};

use deltalake::DeltaTable;
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use futures::StreamExt as _;

use super::append::{FILE_BYTES, Writer, commit};
use super::history::{Scan, grouped};
use super::table::{DataFile, application_version, data_files};
use super::{Library, LibraryError, Table, passes};

/// Files below this size are rewritten together.
const SMALL_BYTES: u64 = 16 << 20;
/// Fewest files worth a rewrite.
const FEWEST: usize = 8;

/// What a compaction did.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Compacted {
    /// Small files that were rewritten.
    pub before: u64,
    /// Files that hold their rows now.
    pub after: u64,
}

impl Library {
    /// Rewrites runs of small files of a table into large ones, in one commit. The old files
    /// stay until [`vacuum`](Library::vacuum), for readers that opened the table before.
    ///
    /// # Errors
    /// [`Conflict`](LibraryError::Conflict) where another rewrite was first, which is harmless;
    /// else whatever the storage says.
    pub async fn compact(&self, table: Table) -> Result<Compacted, LibraryError> {
        let Some(delta) = self.open_table(table).await? else { return Ok(Compacted::default()) };
        let runs = runs(data_files(&delta, table)?);
        if runs.is_empty() {
            return Ok(Compacted::default());
        }
        let application = table.rewrite_application();
        let rewrites = application_version(&delta, &application).await?.unwrap_or(0);
        let scan = Scan::new(delta.clone())?;
        let mut actions = removals(&delta, table, &runs)?;
        let before = actions.len() as u64;
        for run in runs {
            for mut file in rewritten(&delta, &scan, table, run).await? {
                file.data_change = false;
                actions.push(Action::Add(file));
            }
        }
        let after = actions.len() as u64 - before;
        let operation =
            DeltaOperation::Optimize { predicate: None, target_size: FILE_BYTES.map_or(0, |bytes| bytes.get() as i64) };
        passes("rewritten")?;
        commit(&delta, table, actions, vec![Transaction::new(application, rewrites + 1)], operation).await?;
        passes("compacted")?;
        Ok(Compacted { before, after })
    }

    /// Removes data files that no reader can need any more: replaced, or left by a commit
    /// that failed, more than a week ago. Returns how many.
    ///
    /// # Errors
    /// If the table cannot be read, or a file not be removed.
    pub async fn vacuum(&self, table: Table) -> Result<u64, LibraryError> {
        let Some(delta) = self.open_table(table).await? else { return Ok(0) };
        let (_, metrics) = delta.vacuum().with_mode(VacuumMode::Full).await?;
        Ok(metrics.files_deleted.len() as u64)
    }
}

/// Runs of neighbouring small files, by partition and position.
fn runs(files: Vec<DataFile>) -> Vec<Vec<DataFile>> {
    let mut partitions: BTreeMap<Option<i64>, Vec<DataFile>> = BTreeMap::new();
    for file in files {
        partitions.entry(file.partition).or_default().push(file);
    }
    let mut runs: Vec<Vec<DataFile>> = Vec::new();
    for (_, mut files) in partitions {
        files.sort_by_key(|file| file.positions);
        let mut run = Vec::new();
        for file in files {
            if file.bytes < SMALL_BYTES {
                run.push(file);
            } else {
                runs.push(std::mem::take(&mut run));
            }
        }
        runs.push(run);
    }
    runs.retain(|run| run.len() >= FEWEST);
    runs
}

fn removals(delta: &DeltaTable, table: Table, runs: &[Vec<DataFile>]) -> Result<Vec<Action>, LibraryError> {
    let views: HashMap<String, _> =
        delta.snapshot()?.log_data().iter().map(|view| (view.path().into_owned(), view)).collect();
    let missing = || LibraryError::Column { table, column: "path".to_owned() };
    runs.iter()
        .flatten()
        .map(|file| Ok(Action::Remove(views.get(&file.path).ok_or_else(missing)?.remove_action(false))))
        .collect()
}

/// Writes the rows of a run anew, in order.
async fn rewritten(
    delta: &DeltaTable,
    scan: &Scan,
    table: Table,
    run: Vec<DataFile>,
) -> Result<Vec<Add>, LibraryError> {
    let should: Option<u64> = run.iter().map(|file| file.rows).sum();
    let (mut writer, schema) = (Writer::new(delta, table)?, table.schema());
    let mut rows = 0;
    for group in grouped(run) {
        let mut stream = scan.in_order(&group, &schema, None).await?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            writer.write(&batch).await?;
        }
    }
    match should {
        Some(should) if should != rows => Err(LibraryError::Lost { table, should, rows }),
        _ => writer.finish().await,
    }
}
