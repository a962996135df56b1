//! Appending: one Delta commit holds rows and positions, exactly once (invariant 4).
//!
//! Delta does not reject a repeated application transaction. So the positions are read from
//! the very state the commit builds on: whoever committed the same partition since then
//! makes Delta's conflict check fail, and nobody else does. Data files of a commit that
//! failed stay behind unreferenced, invisible to every reader, until a vacuum.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, Schema};
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError};
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::operations::write::WriterStatsConfig;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::table::{CHECKPOINT_EVERY, CLEAN_EVERY, application_version, positions_of};
use super::{Library, LibraryError, Table, convert, ordered, passes};

/// Size at which a data file is closed and the next one begun.
pub(super) const FILE_BYTES: Option<NonZeroU64> = NonZeroU64::new(32 << 20);
/// Rows handed to the Parquet writer at once.
pub(super) const CHUNK_ROWS: usize = 8192;
/// Rows of a Parquet row group.
const GROUP_ROWS: usize = 128 * 1024;

/// Where a row stands: its address, and where in the given batches it lies.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Address {
    partition: i32,
    position: i64,
    row: i32,
    batch: u32,
    index: u32,
}

impl Library {
    /// Archives `rows` (schema of `table`, any order) and moves the positions of their
    /// partitions to `up_to`, in one commit. Returns the number of rows.
    ///
    /// A partition of `up_to` may come without rows: its messages held none.
    ///
    /// # Errors
    /// [`Behind`](LibraryError::Behind) where a partition is archived that far already,
    /// [`Gap`](LibraryError::Gap) and [`Double`](LibraryError::Double) where a row lies outside
    /// (archived, up_to] or stands there twice, [`Conflict`](LibraryError::Conflict) where
    /// another writer was first; else whatever the storage says. After any error the caller
    /// must read [`positions`](Library::positions) again: a commit whose answer was lost may
    /// still have happened.
    pub async fn append(
        &self,
        table: Table,
        rows: Vec<RecordBatch>,
        up_to: &BTreeMap<u32, i64>,
    ) -> Result<u64, LibraryError> {
        let rows =
            rows.iter().map(|batch| convert::conform(batch, &table.schema(), table)).collect::<Result<Vec<_>, _>>()?;
        let addresses = addresses(table, &rows)?;
        if addresses.is_empty() && up_to.is_empty() {
            return Ok(0);
        }
        if let Some((&partition, &position)) = up_to.iter().find(|(_, at)| **at < 0) {
            return Err(LibraryError::Gap { table, partition: i64::from(partition), position });
        }
        check_range(table, &addresses, up_to)?;
        let delta = self.open_or_make(table).await?;
        let archived = positions_of(&delta, table, up_to.keys().copied()).await?;
        for (&partition, &given) in up_to {
            if let Some(&archived) = archived.get(&partition)
                && archived >= given
            {
                return Err(LibraryError::Behind { table, partition, archived, given });
            }
        }
        check_after(table, &addresses, &archived)?;

        let mut transactions: Vec<Transaction> =
            up_to.iter().map(|(&partition, &at)| Transaction::new(table.application(partition), at)).collect();
        transactions.extend(grown(&delta, table, up_to).await?);
        let mut writer = Writer::new(&delta, table)?;
        let batches: Vec<&RecordBatch> = rows.iter().collect();
        for chunk in addresses.chunk_by(|a, b| a.partition == b.partition).flat_map(|part| part.chunks(CHUNK_ROWS)) {
            let places: Vec<(usize, usize)> = chunk.iter().map(|a| (a.batch as usize, a.index as usize)).collect();
            writer.write(&interleave_record_batch(&batches, &places)?).await?;
        }
        let files = writer.finish().await?;
        passes("written")?;
        commit_rows(&delta, table, files, transactions).await?;
        Ok(addresses.len() as u64)
    }
}

/// The addresses of all rows of conformed batches, in order; two rows at one address are an error.
fn addresses(table: Table, rows: &[RecordBatch]) -> Result<Vec<Address>, LibraryError> {
    let mut addresses = Vec::with_capacity(rows.iter().map(RecordBatch::num_rows).sum());
    for (batch, at) in rows.iter().zip(0_u32..) {
        let column = |name: &'static str| {
            batch.column_by_name(name).ok_or_else(|| LibraryError::Column { table, column: name.to_owned() })
        };
        let partitions = column("partition")?.as_primitive::<Int32Type>();
        let positions = column("position")?.as_primitive::<Int64Type>();
        let indexes = column("row")?.as_primitive::<Int32Type>();
        for (i, index) in (0..batch.num_rows()).zip(0_u32..) {
            addresses.push(Address {
                partition: partitions.value(i),
                position: positions.value(i),
                row: indexes.value(i),
                batch: at,
                index,
            });
        }
    }
    addresses.sort_unstable();
    let twice = addresses.windows(2).find(|pair| {
        (pair[0].partition, pair[0].position, pair[0].row) == (pair[1].partition, pair[1].position, pair[1].row)
    });
    match twice {
        Some(pair) => Err(LibraryError::Double {
            table,
            partition: u32::try_from(pair[0].partition).unwrap_or(u32::MAX),
            position: pair[0].position,
        }),
        None => Ok(addresses),
    }
}

/// Every row must be of a partition of the commit and not beyond its new position.
fn check_range(table: Table, rows: &[Address], up_to: &BTreeMap<u32, i64>) -> Result<(), LibraryError> {
    let beyond = rows.iter().find(|row| {
        let given = u32::try_from(row.partition).ok().and_then(|partition| up_to.get(&partition));
        // Negative positions are those of imported history, which never comes this way.
        row.position < 0 || given.is_none_or(|&given| row.position > given)
    });
    beyond.map_or(Ok(()), |row| Err(gap(table, row)))
}

/// No row may stand at or before the archived position of its partition.
fn check_after(table: Table, rows: &[Address], archived: &BTreeMap<u32, i64>) -> Result<(), LibraryError> {
    let before = rows.iter().find(|row| {
        let archived = u32::try_from(row.partition).ok().and_then(|partition| archived.get(&partition));
        archived.is_some_and(|&archived| row.position <= archived)
    });
    before.map_or(Ok(()), |row| Err(gap(table, row)))
}

fn gap(table: Table, row: &Address) -> LibraryError {
    LibraryError::Gap { table, partition: i64::from(row.partition), position: row.position }
}

/// The transaction that says how many partitions there are, where this commit adds one.
/// It is rare on purpose: every commit that carries it conflicts with every other.
async fn grown(
    delta: &DeltaTable,
    table: Table,
    up_to: &BTreeMap<u32, i64>,
) -> Result<Option<Transaction>, LibraryError> {
    let application = table.partitions_application();
    let known = application_version(delta, &application).await?.unwrap_or(0);
    let needed = up_to.keys().next_back().map_or(0, |&last| i64::from(last) + 1);
    Ok((needed > known).then(|| Transaction::new(application, needed)))
}

/// Writes the data files of one commit, in the order the rows are given.
pub(super) struct Writer {
    table: Table,
    schema: arrow::datatypes::SchemaRef,
    inner: DeltaWriter,
}

impl Writer {
    /// A writer of files of `table`.
    pub(super) fn new(delta: &DeltaTable, table: Table) -> Result<Self, LibraryError> {
        let snapshot = delta.snapshot()?.snapshot();
        let stats = WriterStatsConfig::from_config(snapshot.table_configuration());
        let schema = convert::stored_schema(&table.schema());
        let properties = properties(table, &schema)?;
        let config = WriterConfig::new(
            schema.clone(),
            snapshot.metadata().partition_columns().to_vec(),
            Some(properties),
            FILE_BYTES,
            Some(CHUNK_ROWS),
            stats.num_indexed_cols,
            stats.stats_columns,
        );
        Ok(Writer { table, schema, inner: DeltaWriter::new(delta.object_store(), config) })
    }

    /// Writes rows of one partition.
    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<(), LibraryError> {
        let rows = convert::conform(rows, &self.schema, self.table)?;
        Ok(self.inner.write(&rows).await?)
    }

    /// Closes the files and says what they are.
    pub(super) async fn finish(self) -> Result<Vec<Add>, LibraryError> {
        Ok(self.inner.close().await?)
    }
}

/// How the columns of a file are written.
fn properties(table: Table, schema: &Schema) -> Result<WriterProperties, LibraryError> {
    let (key, position) = (ColumnPath::from("event_key"), ColumnPath::from("position"));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(2)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_sorting_columns(ordered::order(table, schema))
        // Keys are random: there is nothing to compress, and side by side they are read in one piece.
        .set_column_compression(key.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(key.clone(), false)
        .set_column_encoding(key, Encoding::DELTA_LENGTH_BYTE_ARRAY)
        // Positions go up by small steps.
        .set_column_dictionary_enabled(position.clone(), false)
        .set_column_encoding(position, Encoding::DELTA_BINARY_PACKED);
    Ok(properties.build())
}

/// Commits new files and transactions on top of the loaded state of a table.
pub(super) async fn commit_rows(
    delta: &DeltaTable,
    table: Table,
    files: Vec<Add>,
    transactions: Vec<Transaction>,
) -> Result<(), LibraryError> {
    let partitioned = delta.snapshot()?.snapshot().metadata().partition_columns().to_vec();
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: (!partitioned.is_empty()).then_some(partitioned),
        predicate: None,
    };
    commit(delta, table, files.into_iter().map(Action::Add).collect(), transactions, operation).await
}

/// Commits actions and transactions on top of the loaded state of a table: whoever committed
/// one of the same transactions since that state was loaded makes this a conflict.
pub(super) async fn commit(
    delta: &DeltaTable,
    table: Table,
    actions: Vec<Action>,
    transactions: Vec<Transaction>,
    operation: DeltaOperation,
) -> Result<(), LibraryError> {
    let snapshot = delta.snapshot()?.snapshot();
    // The clean-up runs after a checkpoint or not at all, and only now and then.
    let clean = snapshot.version() % CLEAN_EVERY < CHECKPOINT_EVERY;
    let properties =
        CommitProperties::default().with_application_transactions(transactions).with_cleanup_expired_logs(Some(clean));
    let committed = CommitBuilder::from(properties)
        .with_actions(actions)
        .build(Some(snapshot as &dyn TableReference), delta.log_store(), operation)
        .into_prepared_commit_future()
        .await
        .map_err(|error| refused(table, error))?
        .await
        .map_err(|error| refused(table, error))?;
    if (committed.version + 1).is_multiple_of(CHECKPOINT_EVERY) {
        // The rows are in: a checkpoint that fails is made up for by the next one.
        if let Err(error) = committed.await {
            tracing::warn!(table = table.name(), %error, "no checkpoint of the library's log could be written");
        }
    }
    passes("committed")
}

fn refused(table: Table, error: DeltaTableError) -> LibraryError {
    match error {
        DeltaTableError::Transaction {
            source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_),
        }
        | DeltaTableError::VersionAlreadyExists(_) => LibraryError::Conflict { table },
        other => other.into(),
    }
}
