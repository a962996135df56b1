//! A table as it is at one version, for whoever looks at it from outside.
//!
//! Promises that all it tells is of that version, whatever is committed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use deltalake::DeltaTable;
use deltalake::kernel::{Action, Add};
use deltalake::logstore::get_actions;
use futures::StreamExt as _;
use serde_json::Value;

use super::history::History;
use super::table::{data_files, positions_of};
use super::{Library, LibraryError, Table, table};

/// A table at one version.
#[derive(Clone, Debug)]
pub struct Snapshot {
    delta: DeltaTable,
    table: Table,
}

/// How much a table holds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Size {
    /// Data files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
}

/// What a commit of a table's log did to positions and rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// Version that it made.
    pub version: u64,
    /// Positions that it moved, by partition.
    pub positions: BTreeMap<u32, i64>,
    /// Files of new rows. Those of a rewrite, which adds none, are left out.
    pub added: Vec<Added>,
}

/// A file that a commit added.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Added {
    /// Partition whose rows it holds; `None`: of several.
    pub partition: Option<u32>,
    /// Least and greatest position of its rows; `None` where its writer did not say.
    pub positions: Option<(i64, i64)>,
}

impl Library {
    /// A table as it is now, or `None` where nothing was ever appended.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn snapshot(&self, table: Table) -> Result<Option<Snapshot>, LibraryError> {
        Ok(self.open_table(table).await?.map(|delta| Snapshot { delta, table }))
    }
}

impl Snapshot {
    /// Version of the table.
    pub fn version(&self) -> u64 {
        self.delta.version().unwrap_or_default()
    }

    /// When that version was committed, milliseconds since the epoch, if its commit says so.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn committed_ms(&self) -> Result<Option<i64>, LibraryError> {
        match self.delta.history(Some(1)).next().await {
            Some(info) => Ok(info?.timestamp),
            None => Ok(None),
        }
    }

    /// How much it holds, as its log says.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn size(&self) -> Result<Size, LibraryError> {
        let files = data_files(&self.delta, self.table)?;
        Ok(Size {
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            rows: files.iter().filter_map(|file| file.rows).sum(),
        })
    }

    /// Archived position (inclusive Kafka offset) of every partition that has one.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn positions(&self) -> Result<BTreeMap<u32, i64>, LibraryError> {
        let known = table::application_version(&self.delta, &self.table.partitions_application()).await?;
        let known = known.and_then(|known| u32::try_from(known).ok()).unwrap_or(0);
        positions_of(&self.delta, self.table, 0..known).await
    }

    /// Partitions that hold rows, ascending; none of a table whose files hold rows of several.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn partitions(&self) -> Result<Vec<u32>, LibraryError> {
        let partitions: BTreeSet<u32> = data_files(&self.delta, self.table)?
            .iter()
            .filter_map(|file| file.partition.and_then(|partition| u32::try_from(partition).ok()))
            .collect();
        Ok(partitions.into_iter().collect())
    }

    /// The rows of a partition in log order; see [`Library::history`].
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn history(&self, partition: u32) -> Result<History, LibraryError> {
        History::of(Some(self.delta.clone()), self.table, partition, None)
    }

    /// The commits that the log still holds, oldest first. It is cut off at checkpoints, days after.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn commits(&self) -> Result<Vec<Commit>, LibraryError> {
        let log = self.delta.log_store();
        let mut commits = Vec::new();
        for version in (0..=self.version()).rev() {
            let Some(bytes) = log.read_commit_entry(version).await? else { break };
            let mut commit = Commit { version, positions: BTreeMap::new(), added: Vec::new() };
            for action in get_actions(version, &bytes)? {
                match action {
                    Action::Add(add) if add.data_change => commit.added.push(added(&add)),
                    Action::Txn(txn) => {
                        let partition = txn.app_id.strip_prefix(&self.table.application_prefix());
                        if let Some(partition) = partition.and_then(|partition| partition.parse().ok()) {
                            commit.positions.insert(partition, txn.version);
                        }
                    }
                    _ => {}
                }
            }
            commits.push(commit);
        }
        commits.reverse();
        Ok(commits)
    }
}

fn added(add: &Add) -> Added {
    let partition = add.partition_values.get("partition").cloned().flatten();
    let stats: Option<Value> = add.stats.as_deref().and_then(|stats| serde_json::from_str(stats).ok());
    let position = |bound: &str| stats.as_ref()?.get(bound)?.get("position")?.as_i64();
    Added {
        partition: partition.and_then(|partition| partition.parse().ok()),
        positions: position("minValues").zip(position("maxValues")),
    }
}
