//! The tables of the library: their schemas, where they lie, how they are opened and made.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use deltalake::DeltaTable;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::kernel::{StructField, StructType};
use deltalake::protocol::SaveMode;
use futures::{StreamExt as _, TryStreamExt as _};
use url::Url;

use super::{LibraryError, convert, passes};
use crate::events;

/// Commits between two checkpoints of a table's log.
pub(super) const CHECKPOINT_EVERY: u64 = 20;
/// Commits between two clean-ups of a table's log, each of which lists the whole of it.
pub(super) const CLEAN_EVERY: u64 = 100;
/// How long the log of a table is kept. Data files are never removed by this.
const LOG_RETENTION: &str = "interval 2 days";
/// Application transactions that are looked up at once.
const LOOK_UPS: usize = 8;

/// A table of the library.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Table {
    /// The log of record: the event schema, [`EXTRA`], and `partition`, `position`, `row`.
    Events,
    /// Every score, from `auscult.scores`.
    Predictions,
    /// Every alert, from `auscult.alerts`, without the identifier of the patient.
    Alerts,
    /// What became of predictions, a row for each whose label has settled; `partition` and `position` are
    /// those of the prediction.
    Labels,
}

/// Column of what imported MEDS data say beyond the event schema: a JSON object of column and
/// value, null where there is nothing. Live events have none.
pub(super) const EXTRA: &str = "extra";

static HISTORY: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(events::schema().fields().iter().cloned().chain([text(EXTRA, true)]).collect::<Vec<_>>()))
});
static EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| positioned(HISTORY.fields().iter().cloned().collect()));
static PREDICTIONS: LazyLock<SchemaRef> = LazyLock::new(|| {
    positioned(vec![
        text("task", false),
        Arc::new(Field::new("subject", DataType::Int64, false)),
        text("encounter", true),
        instant("prediction_time", false),
        Arc::new(Field::new("risk", DataType::Float64, true)),
        text("status", false),
        text("reason", true),
        text("model_name", true),
        Arc::new(Field::new("model_version", DataType::Int64, true)),
        // What the model told beside the risk, as its JSON.
        text("outputs", true),
        text("source", true),
    ])
});
static ALERTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    positioned(vec![
        text("alert_id", false),
        text("task", false),
        text("kind", false),
        text("tier", true),
        Arc::new(Field::new("subject", DataType::Int64, false)),
        text("encounter", true),
        instant("prediction_time", false),
        instant("published_at", true),
        Arc::new(Field::new("risk", DataType::Float64, true)),
        Arc::new(Field::new("threshold", DataType::Float64, true)),
        text("model_name", true),
        Arc::new(Field::new("model_version", DataType::Int64, true)),
        text("model_sha256", true),
        text("source", true),
        Arc::new(Field::new("data", DataType::LargeUtf8, false)),
    ])
});

static LABELS: LazyLock<SchemaRef> = LazyLock::new(|| {
    positioned(vec![
        text("task", false),
        Arc::new(Field::new("subject", DataType::Int64, false)),
        text("encounter", true),
        instant("prediction_time", false),
        // Null where there is no label, with the reason. Of a label that is more than yes or no, whether
        // what its task watches happened; beside it the amount, the hours until it happened or until
        // nothing more was seen, or the class.
        Arc::new(Field::new("boolean_value", DataType::Boolean, true)),
        Arc::new(Field::new("float_value", DataType::Float64, true)),
        text("categorical_value", true),
        text("reason", true),
        // When the last window ended, and until when things were known when the label settled.
        instant("closes", true),
        instant("known", false),
        Arc::new(Field::new("risk", DataType::Float64, true)),
        Arc::new(Field::new("model_version", DataType::Int64, true)),
    ])
});

impl Table {
    /// Every table.
    pub const ALL: [Table; 4] = [Table::Events, Table::Predictions, Table::Alerts, Table::Labels];

    /// The name: that of its folder and in queries.
    pub fn name(self) -> &'static str {
        match self {
            Table::Events => "events",
            Table::Predictions => "predictions",
            Table::Alerts => "alerts",
            Table::Labels => "labels",
        }
    }

    /// Schema of the rows that go in and come out. The last columns are `partition`
    /// (int32), `position` (int64, the Kafka offset) and `row` (int32, in the message).
    pub fn schema(self) -> SchemaRef {
        Arc::clone(match self {
            Table::Events => &EVENTS,
            Table::Predictions => &PREDICTIONS,
            Table::Alerts => &ALERTS,
            Table::Labels => &LABELS,
        })
    }

    /// Columns whose values name a folder: only events are replayed by partition.
    fn partitioned_by(self) -> &'static [&'static str] {
        match self {
            Table::Events => &["partition"],
            Table::Predictions | Table::Alerts | Table::Labels => &[],
        }
    }

    /// Whether its files hold rows of one partition each.
    pub(super) fn is_partitioned(self) -> bool {
        !self.partitioned_by().is_empty()
    }

    fn comment(self) -> &'static str {
        match self {
            Table::Events => "the clinical log of record, a superset of the MEDS 0.4 DataSchema",
            Table::Predictions => "every score that was published",
            Table::Alerts => "every alert that was published, without the patient's identifier",
            Table::Labels => "what became of published predictions, once it is known",
        }
    }

    /// Application transaction that keeps the archived position of a partition.
    pub(super) fn application(self, partition: u32) -> String {
        format!("{}{partition}", self.application_prefix())
    }

    /// What the names of these transactions begin with, before the partition's number.
    pub(super) fn application_prefix(self) -> String {
        format!("auscult-{}-", self.name())
    }

    /// Application transaction that every rewrite of data files must advance. Delta does not
    /// see that two rewrites took up the same file, which would double its rows.
    pub(super) fn rewrite_application(self) -> String {
        format!("auscult-{}-rewrite", self.name())
    }

    /// Application transaction that keeps how many partitions were ever archived, so that
    /// their positions can be found: Delta lists no transactions.
    pub(super) fn partitions_application(self) -> String {
        format!("auscult-{}-partitions", self.name())
    }
}

/// Schema of the rows that an import brings: the event schema and [`EXTRA`].
pub(super) fn history_schema() -> SchemaRef {
    Arc::clone(&HISTORY)
}

fn text(name: &str, nullable: bool) -> Arc<Field> {
    Arc::new(Field::new(name, DataType::Utf8, nullable))
}

fn instant(name: &str, nullable: bool) -> Arc<Field> {
    Arc::new(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), nullable))
}

fn positioned(mut fields: Vec<Arc<Field>>) -> SchemaRef {
    fields.push(Arc::new(Field::new("partition", DataType::Int32, false)));
    fields.push(Arc::new(Field::new("position", DataType::Int64, false)));
    fields.push(Arc::new(Field::new("row", DataType::Int32, false)));
    Arc::new(Schema::new(fields))
}

/// The case library at a URL. Holds no handle: cheap to clone, safe to share.
#[derive(Clone, Debug)]
pub struct Library {
    root: Url,
}

/// A data file of a table, with what its log entry says of it.
#[derive(Clone, Debug)]
pub(super) struct DataFile {
    /// Path below the table's folder.
    pub(super) path: String,
    /// Value of the Delta partition column, where the table has one.
    pub(super) partition: Option<i64>,
    /// Size in bytes.
    pub(super) bytes: u64,
    /// Rows; `None` where a foreign writer left no statistics.
    pub(super) rows: Option<u64>,
    /// Least and greatest position in the file; everything where they are not known.
    pub(super) positions: (i64, i64),
    /// Whether rows in it are marked as deleted, which only a foreign writer does.
    pub(super) has_deletions: bool,
}

impl Library {
    /// The library at `url`, whose folders are made where it is a file URL. The tables are
    /// made when something is first appended to them; those that an earlier version made get
    /// the columns that have come since.
    ///
    /// # Errors
    /// If a folder cannot be made, the scheme is not supported or what lies there is damaged.
    pub async fn open(url: &Url) -> Result<Library, LibraryError> {
        let library = Library::look(url);
        for table in Table::ALL {
            make_folder(&library.table_url(table)?)?;
            if let Some(delta) = library.open_table(table).await? {
                library.complete(delta, table).await?;
            }
        }
        Ok(library)
    }

    /// The same for who only reads: nothing is made or changed, and a folder that is missing is an empty
    /// table.
    pub fn look(url: &Url) -> Library {
        let mut root = url.clone();
        if !root.path().ends_with('/') {
            root.set_path(&format!("{}/", root.path()));
        }
        Library { root }
    }

    /// Where the library lies.
    pub fn url(&self) -> &Url {
        &self.root
    }

    /// Archived position (inclusive Kafka offset) of every partition that has one.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn positions(&self, table: Table) -> Result<BTreeMap<u32, i64>, LibraryError> {
        match self.snapshot(table).await? {
            Some(snapshot) => snapshot.positions().await,
            None => Ok(BTreeMap::new()),
        }
    }

    /// Partitions of the events table that hold rows, ascending.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn partitions(&self) -> Result<Vec<u32>, LibraryError> {
        match self.snapshot(Table::Events).await? {
            Some(snapshot) => snapshot.partitions(),
            None => Ok(Vec::new()),
        }
    }

    /// Rows in a table, as its log says.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn rows(&self, table: Table) -> Result<u64, LibraryError> {
        match self.snapshot(table).await? {
            Some(snapshot) => Ok(snapshot.size()?.rows),
            None => Ok(0),
        }
    }

    /// The table as it is now, or `None` where nothing was ever appended.
    pub(super) async fn open_table(&self, table: Table) -> Result<Option<DeltaTable>, LibraryError> {
        passes("opened")?;
        let url = self.table_url(table)?;
        if url.scheme() == "file" && !url.to_file_path().map_err(|()| LibraryError::Url)?.exists() {
            return Ok(None);
        }
        let delta = DeltaTable::try_from_url(url).await?;
        Ok(delta.version().is_some().then_some(delta))
    }

    /// The table as it is now; made where nothing was ever appended.
    pub(super) async fn open_or_make(&self, table: Table) -> Result<DeltaTable, LibraryError> {
        if let Some(delta) = self.open_table(table).await? {
            return Ok(delta);
        }
        let url = self.table_url(table)?;
        let schema: StructType = convert::stored_schema(&table.schema()).as_ref().try_into_kernel()?;
        let settings = [
            ("delta.checkpointInterval", Some(CHECKPOINT_EVERY.to_string())),
            ("delta.logRetentionDuration", Some(LOG_RETENTION.to_owned())),
            // The log's statistics then hold no clinical value, and stay small.
            ("delta.dataSkippingStatsColumns", Some("position".to_owned())),
        ];
        // Without retries: a retry after a lost race would commit a second table definition.
        let made = DeltaTable::try_from_url(url)
            .await?
            .create()
            .with_table_name(table.name())
            .with_comment(table.comment())
            .with_columns(schema.fields().cloned())
            .with_partition_columns(table.partitioned_by().iter().copied())
            .with_configuration(settings)
            .with_save_mode(SaveMode::ErrorIfExists)
            .with_commit_properties(CommitProperties::default().with_max_retries(0))
            .await;
        match made {
            Ok(delta) => Ok(delta),
            // Another process may have made it meanwhile; then there is nothing to complain of.
            Err(error) => self.open_table(table).await?.ok_or_else(|| error.into()),
        }
    }

    /// Adds the columns that a table lacks. Only such as may be null: what is there has none.
    async fn complete(&self, delta: DeltaTable, table: Table) -> Result<(), LibraryError> {
        let schema: StructType = convert::stored_schema(&table.schema()).as_ref().try_into_kernel()?;
        let missing = missing(&delta, &schema)?;
        if missing.is_empty() {
            return Ok(());
        }
        let added = delta.add_columns().with_fields(missing).await;
        match (added, self.open_table(table).await?) {
            // Another process may have added them meanwhile.
            (Err(error), Some(delta)) if !self::missing(&delta, &schema)?.is_empty() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn table_url(&self, table: Table) -> Result<Url, LibraryError> {
        self.root.join(&format!("{}/", table.name())).map_err(|_| LibraryError::Url)
    }
}

/// Columns of `schema` that may be null and are not in a table.
fn missing(delta: &DeltaTable, schema: &StructType) -> Result<Vec<StructField>, LibraryError> {
    let have = delta.snapshot()?.schema();
    Ok(schema.fields().filter(|field| field.is_nullable() && have.field(field.name()).is_none()).cloned().collect())
}

fn make_folder(url: &Url) -> Result<(), LibraryError> {
    if url.scheme() != "file" {
        return Ok(());
    }
    let path = url.to_file_path().map_err(|()| LibraryError::Url)?;
    std::fs::create_dir_all(&path).map_err(LibraryError::io(path))
}

/// Version of an application transaction in the loaded state of a table.
pub(super) async fn application_version(delta: &DeltaTable, application: &str) -> Result<Option<i64>, LibraryError> {
    let log = delta.log_store();
    Ok(delta.snapshot()?.transaction_version(log.as_ref(), application).await?)
}

/// Archived positions of some partitions in the loaded state of a table.
pub(super) async fn positions_of(
    delta: &DeltaTable,
    table: Table,
    partitions: impl IntoIterator<Item = u32>,
) -> Result<BTreeMap<u32, i64>, LibraryError> {
    let found: Vec<(u32, Option<i64>)> = futures::stream::iter(partitions)
        .map(|partition| async move {
            let version = application_version(delta, &table.application(partition)).await?;
            Ok::<_, LibraryError>((partition, version))
        })
        .buffered(LOOK_UPS)
        .try_collect()
        .await?;
    Ok(found.into_iter().filter_map(|(partition, version)| Some((partition, version?))).collect())
}

/// The data files in the loaded state of a table.
pub(super) fn data_files(delta: &DeltaTable, table: Table) -> Result<Vec<DataFile>, LibraryError> {
    let adds = delta.snapshot()?.add_actions_table(true)?;
    let numbers = |name: &str| -> Result<Option<_>, LibraryError> {
        let Some(column) = adds.column_by_name(name) else { return Ok(None) };
        Ok(Some(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
    };
    let missing = || LibraryError::Column { table, column: "path".to_owned() };
    let paths = cast(adds.column_by_name("path").ok_or_else(missing)?, &DataType::Utf8)?;
    let paths = paths.as_string::<i32>();
    let (bytes, rows, partition) = (numbers("size_bytes")?, numbers("num_records")?, numbers("partition.partition")?);
    let (least, greatest) = (numbers("min.position")?, numbers("max.position")?);
    let deletions = numbers("deletion_vector.cardinality")?;
    let at = |column: &Option<arrow::array::Int64Array>, i: usize| {
        column.as_ref().filter(|column| column.is_valid(i)).map(|column| column.value(i))
    };
    Ok((0..adds.num_rows())
        .map(|i| DataFile {
            path: paths.value(i).to_owned(),
            partition: at(&partition, i),
            bytes: at(&bytes, i).and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            rows: at(&rows, i).and_then(|rows| u64::try_from(rows).ok()),
            positions: (at(&least, i).unwrap_or(i64::MIN), at(&greatest, i).unwrap_or(i64::MAX)),
            has_deletions: at(&deletions, i).is_some(),
        })
        .collect())
}
