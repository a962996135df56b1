//! A partition's history, in log order.
//!
//! The files of a partition mostly cover one stretch of positions each, so they are read
//! one after the other, and only what overlaps, or is too small to be worth a scan of its
//! own, is sorted. What comes out is checked to be strictly ascending: a doubled or
//! misplaced row is an error, never an event.
//!
//! Who needs few columns says so ([`History::reading`]): most of the time goes into decoding. And a file that says
//! that its rows are in order is read as it lies (`ordered`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Field, FieldRef, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, Expr, SessionConfig, SessionContext, col, lit};
use deltalake::DeltaTable;
use futures::{StreamExt as _, TryStreamExt as _};

use super::ordered::{ORDER, Ordered, Rows};
use super::table::{DataFile, data_files};
use super::{Library, LibraryError, Table, convert};
use crate::events::{JOIN, LEAVE, SomeEvents, SubjectId};

/// Rows up to which small files are read, and sorted, together.
const SORT_ROWS: u64 = 128 * 1024;
/// Memory of one scan; a larger sort spills to disk.
const SCAN_BYTES: usize = 512 << 20;
/// Rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Columns without which the events of a history cannot be looked at.
const NEEDED: [&str; 2] = ["code", "op"];
/// Columns that matter once something was linked.
const LINKED: [&str; 2] = ["text_value", "source"];
/// Columns that a history of some columns has as dictionaries.
const KEYED: [&str; 2] = ["code", "op"];

/// Files that are read in one scan.
#[derive(Debug)]
pub(super) struct Group {
    files: Vec<DataFile>,
    rows: u64,
    last: i64,
}

/// The rows of one partition, oldest first. See [`Library::history`].
pub struct History {
    scan: Option<Scan>,
    table: Table,
    partition: u32,
    /// Only these rows; `None`: all.
    filter: Option<Expr>,
    columns: Columns,
    groups: VecDeque<Group>,
    /// The files that are being read, and what is left of their rows.
    current: Option<(Group, Rows)>,
    last: Option<(i64, i32)>,
}

/// The columns that a history reads.
struct Columns {
    /// Their schema.
    read: SchemaRef,
    /// Whether [`LINKED`] must be read as well once a row tells of a link.
    unlinked: bool,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("partition", &self.partition).field("groups", &self.groups.len()).finish()
    }
}

impl Library {
    /// The history of a partition of `auscult.events` as it is archived now: imported rows,
    /// then live rows, ordered by (`position`, `row`).
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn history(&self, partition: u32) -> Result<History, LibraryError> {
        self.history_where(partition, None).await
    }

    /// The rows of some subjects in the [`history`](Library::history) of a partition.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn history_of(&self, partition: u32, subjects: Vec<SubjectId>) -> Result<History, LibraryError> {
        let wanted = subjects.iter().map(|subject| lit(subject.0)).collect();
        self.history_where(partition, Some(col("subject_id").in_list(wanted, false))).await
    }

    async fn history_where(&self, partition: u32, filter: Option<Expr>) -> Result<History, LibraryError> {
        History::of(self.open_table(Table::Events).await?, Table::Events, partition, filter)
    }
}

impl History {
    /// Those rows of a partition in the loaded state of a table for which `filter` holds.
    pub(super) fn of(
        delta: Option<DeltaTable>,
        table: Table,
        partition: u32,
        mut filter: Option<Expr>,
    ) -> Result<History, LibraryError> {
        let (mut groups, mut scan) = (VecDeque::new(), None);
        if let Some(delta) = delta {
            let mut files = data_files(&delta, table)?;
            if table.is_partitioned() {
                files.retain(|file| file.partition == Some(i64::from(partition)));
            } else {
                let of_partition = col("partition").eq(lit(i64::from(partition)));
                filter = Some(filter.map_or(of_partition.clone(), |filter| filter.and(of_partition)));
            }
            groups = grouped(files);
            scan = Some(Scan::new(delta)?);
        }
        let columns = Columns { read: table.schema(), unlinked: false };
        Ok(History { scan, table, partition, filter, columns, groups, current: None, last: None })
    }

    /// The same history of events, of which only these columns are read, and `code`, `op`, `position` and `row`: its
    /// batches are to be looked at by [`SomeEvents`].
    ///
    /// What [`Links`](crate::events::Links) asks for is there when it matters: from the first row on that tells of
    /// a link, `text_value` and `source` are read too. No row before it says that it was told under another
    /// identifier.
    pub fn reading(mut self, columns: &[&str]) -> History {
        let wanted = |name: &str| [columns, &NEEDED, &ORDER].iter().any(|some| some.contains(&name));
        self.columns = Columns::some(self.table, wanted);
        self
    }

    /// The same history, of which only these columns are read, and `position` and `row`: nothing tells of a link.
    pub fn reading_only(mut self, columns: &[&str]) -> History {
        let wanted = |name: &str| columns.contains(&name) || ORDER.contains(&name);
        self.columns = Columns { unlinked: false, ..Columns::some(self.table, wanted) };
        self
    }

    /// How many rows stand in the files that are not begun yet, as the table's log says; of a file of which it does not
    /// say so, a guess.
    pub fn rows(&self) -> u64 {
        self.groups.iter().map(|group| group.rows).sum()
    }

    /// The next rows (schema of the table, of which the first columns of [`Table::Events`] are the event schema; or
    /// the columns that are [read](Self::reading)), or `None` at the end.
    ///
    /// # Errors
    /// If a file cannot be read, or holds a row twice or out of order.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, LibraryError> {
        let Some(scan) = &self.scan else { return Ok(None) };
        loop {
            if let Some((group, stream)) = &mut self.current {
                if let Some(batch) = stream.next().await {
                    let batch = convert::conform(&batch?, &self.columns.read, self.table)?;
                    if self.columns.unlinked && tells_of_links(&batch)? {
                        self.columns = self.columns.with_links(self.table);
                        let later = self.last.map(later);
                        let filter = self.filter.iter().cloned().chain(later).reduce(Expr::and);
                        *stream = scan.in_order(group, &self.columns.read, filter.as_ref()).await?;
                        continue;
                    }
                    self.last = ascending(&batch, self.last, (self.table, self.partition))?;
                    if batch.num_rows() > 0 {
                        return Ok(Some(batch));
                    }
                    continue;
                }
                self.current = None;
            }
            let Some(group) = self.groups.pop_front() else { return Ok(None) };
            let stream = scan.in_order(&group, &self.columns.read, self.filter.as_ref()).await?;
            self.current = Some((group, stream));
        }
    }
}

impl Columns {
    /// Those that are wanted, by their name.
    fn some(table: Table, wanted: impl Fn(&str) -> bool) -> Self {
        let field = |field: &FieldRef| match field.name().as_str() {
            name if KEYED.contains(&name) => Arc::new(Field::new(name, SomeEvents::dictionary(), field.is_nullable())),
            _ => Arc::clone(field),
        };
        let schema = table.schema();
        let read: Vec<FieldRef> = schema.fields().iter().filter(|field| wanted(field.name())).map(field).collect();
        Columns { read: Arc::new(Schema::new(read)), unlinked: LINKED.iter().any(|name| !wanted(name)) }
    }

    /// The same and those that matter once something was linked.
    fn with_links(&self, table: Table) -> Self {
        Columns::some(table, |name| LINKED.contains(&name) || self.read.column_with_name(name).is_some())
    }
}

/// The names of a schema's columns.
pub(super) fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

/// Whether a row says that a subject has gained or lost identifiers.
fn tells_of_links(batch: &RecordBatch) -> Result<bool, LibraryError> {
    let codes = SomeEvents::new(batch)?.codes();
    let Some(texts) = codes.values().as_string_opt::<i32>() else { return Ok(false) };
    // The dictionary may be that of many batches: most have neither code.
    let is_link = |key: &usize| texts.is_valid(*key) && [JOIN, LEAVE].contains(&texts.value(*key));
    let links: Vec<usize> = (0..texts.len()).filter(is_link).collect();
    Ok(!links.is_empty() && codes.keys().values().iter().any(|key| links.contains(&(*key as usize))))
}

/// That a row stands after an address.
fn later((position, row): (i64, i32)) -> Expr {
    let same_message = col("position").eq(lit(position)).and(col("row").gt(lit(row)));
    col("position").gt(lit(position)).or(same_message)
}

/// Puts files that overlap, and small neighbours, into one group each; ordered by position.
pub(super) fn grouped(mut files: Vec<DataFile>) -> VecDeque<Group> {
    files.sort_by(|a, b| (a.positions, &a.path).cmp(&(b.positions, &b.path)));
    let mut groups: VecDeque<Group> = VecDeque::new();
    for file in files {
        // Without statistics a file may be of any size.
        let rows = file.rows.unwrap_or(SORT_ROWS);
        match groups.back_mut() {
            Some(group) if file.positions.0 <= group.last || group.rows + rows <= SORT_ROWS => {
                group.rows += rows;
                group.last = group.last.max(file.positions.1);
                group.files.push(file);
            }
            _ => groups.push_back(Group { rows, last: file.positions.1, files: vec![file] }),
        }
    }
    groups
}

/// Checks that rows follow each other, and returns the address of the last.
fn ascending(
    batch: &RecordBatch,
    mut last: Option<(i64, i32)>,
    (table, partition): (Table, u32),
) -> Result<Option<(i64, i32)>, LibraryError> {
    for at in addresses(batch)? {
        if last.is_some_and(|last| last >= at) {
            return Err(LibraryError::Double { table, partition, position: at.0 });
        }
        last = Some(at);
    }
    Ok(last)
}

fn addresses(batch: &RecordBatch) -> Result<impl Iterator<Item = (i64, i32)>, LibraryError> {
    let wrong = |column: &str| LibraryError::Column { table: Table::Events, column: column.to_owned() };
    let column = |name: &'static str| batch.column_by_name(name).ok_or_else(|| wrong(name));
    let positions = column("position")?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("position"))?;
    let rows = column("row")?.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong("row"))?;
    Ok(positions.values().iter().copied().zip(rows.values().iter().copied()))
}

/// One table, open for scans.
pub(super) struct Scan {
    delta: DeltaTable,
    context: SessionContext,
}

impl Scan {
    /// Makes the loaded state of a table ready for scans.
    pub(super) fn new(delta: DeltaTable) -> Result<Self, LibraryError> {
        // One partition keeps a file's rows in the file's order.
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_batch_size(BATCH_ROWS)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false);
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(SCAN_BYTES, 1.0).build_arc()?;
        Ok(Scan { delta, context: SessionContext::new_with_config_rt(config, runtime) })
    }

    /// Some columns of some files, in no promised order; of the rows only those for which `filter` holds.
    pub(super) async fn rows(
        &self,
        paths: &[String],
        columns: &[&str],
        filter: Option<&Expr>,
    ) -> Result<DataFrame, LibraryError> {
        let provider = self
            .delta
            .table_provider()
            .with_session(Arc::new(self.context.state()))
            .with_file_paths(paths.iter().cloned())
            .await?;
        let mut rows = self.context.read_table(provider)?;
        if let Some(filter) = filter {
            rows = rows.filter(filter.clone())?;
        }
        Ok(rows.select_columns(columns)?)
    }

    /// The columns of a schema of a group of files, `position` and `row` among them, by these two; of the rows only
    /// those for which `filter` holds.
    pub(super) async fn in_order(
        &self,
        group: &Group,
        schema: &Schema,
        filter: Option<&Expr>,
    ) -> Result<Rows, LibraryError> {
        let ordered = match group.files.as_slice() {
            [file] => Ordered::open(&self.delta, file).await?,
            _ => None,
        };
        let says_so = ordered.is_some();
        if let (Some(file), None) = (ordered, filter)
            && let Some(rows) = file.rows(schema, BATCH_ROWS)?
        {
            return Ok(rows);
        }
        let paths: Vec<String> = group.files.iter().map(|file| file.path.clone()).collect();
        let mut rows = self.rows(&paths, &names(schema), filter).await?;
        if !says_so && (paths.len() > 1 || !self.is_in_order(&paths).await?) {
            rows = rows.sort(vec![col("position").sort(true, false), col("row").sort(true, false)])?;
        }
        Ok(rows.execute_stream().await?.map_err(LibraryError::from).boxed())
    }

    /// Whether the rows of a file are in order that does not say so: those that an earlier version wrote are, those of
    /// another tool may be.
    async fn is_in_order(&self, paths: &[String]) -> Result<bool, LibraryError> {
        let mut stream = self.rows(paths, &["position", "row"], None).await?.execute_stream().await?;
        let mut last = None;
        while let Some(batch) = stream.next().await {
            for at in addresses(&batch?)? {
                if last.is_some_and(|last| last >= at) {
                    return Ok(false);
                }
                last = Some(at);
            }
        }
        Ok(true)
    }
}
