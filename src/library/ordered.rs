//! A data file whose rows lie in the order of the log, read as it lies.
//!
//! Every file of events that the library writes says so of itself, in Parquet's own words (`sorting_columns`).
//! Such a file needs no look through it before it is read, and no plan of Delta's reader, which goes through the
//! table's log for each; and its texts can stay the numbers by which it keeps them. Must never take a file for one
//! that it is not: what is in doubt is left to Delta's reader.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{DefaultParquetFileReaderFactory, ParquetFileReaderFactory as _};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use deltalake::DeltaTable;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::statistics::Statistics;

use super::table::DataFile;
use super::{LibraryError, Table};

/// By what the rows of a file are sorted: the address of an event within its partition.
pub(super) const ORDER: [&str; 2] = ["position", "row"];
/// The column that a file does not have, since all its rows have one value there.
const PARTITION: &str = "partition";
/// Bytes at a file's end that are read first: more than what its description takes.
const END_BYTES: usize = 64 * 1024;

/// Rows as they are read.
pub(super) type Rows = BoxStream<'static, Result<RecordBatch, LibraryError>>;

/// The order of the rows in a file of a table, for its description; none where a file has rows of several
/// partitions. `schema`: that of the table.
pub(super) fn order(table: Table, schema: &Schema) -> Option<Vec<SortingColumn>> {
    let columns = || schema.fields().iter().filter(|field| field.name() != PARTITION);
    let place = |name: &str| columns().position(|field| field.name() == name);
    let sorted = |name: &str| {
        let column_idx = i32::try_from(place(name)?).ok()?;
        Some(SortingColumn { column_idx, descending: false, nulls_first: false })
    };
    if table.is_partitioned() { ORDER.into_iter().map(sorted).collect() } else { None }
}

/// A file whose rows are certain to be in order.
pub(super) struct Ordered {
    reader: Box<dyn AsyncFileReader>,
    metadata: ArrowReaderMetadata,
    partition: i32,
}

impl Ordered {
    /// Opens a file; `None` of one that is not certain to be in order.
    pub(super) async fn open(delta: &DeltaTable, file: &DataFile) -> Result<Option<Self>, LibraryError> {
        let partition = file.partition.and_then(|partition| i32::try_from(partition).ok());
        let Some(partition) = partition else { return Ok(None) };
        if file.has_deletions || !has_plain_path(file) || maps_columns(delta)? {
            return Ok(None);
        }
        let factory = DefaultParquetFileReaderFactory::new(delta.object_store());
        let whole = PartitionedFile::new(file.path.as_str(), file.bytes);
        let mut reader: Box<dyn AsyncFileReader> =
            factory.create_reader(0, whole, Some(END_BYTES), &ExecutionPlanMetricsSet::new())?;
        let metadata = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await?;
        Ok(is_in_order(metadata.metadata()).then_some(Ordered { reader, metadata, partition }))
    }

    /// The columns of `schema`, in batches of so many rows; `None` if the file lacks one.
    pub(super) fn rows(self, schema: &Schema, batch_rows: usize) -> Result<Option<Rows>, LibraryError> {
        let Ordered { reader, metadata, partition } = self;
        let Some((places, typed)) = places(metadata.schema(), schema) else { return Ok(None) };
        let options = ArrowReaderOptions::new().with_schema(Arc::new(typed));
        // Where a text cannot be read as a number, it is made one later.
        let typed = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options).unwrap_or(metadata);
        let mask = ProjectionMask::roots(typed.parquet_schema(), places);
        let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, typed)
            .with_projection(mask)
            .with_batch_size(batch_rows)
            .build()?;
        Ok(Some(stream.map(move |batch| with_partition(&batch?, partition)).boxed()))
    }
}

/// Whether the path of a file means the same to every reader.
fn has_plain_path(file: &DataFile) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"=._-".contains(&byte);
    file.path.split('/').all(|name| !matches!(name, "" | "." | "..") && name.bytes().all(is_plain))
}

/// Whether the columns of the table's files may have other names.
fn maps_columns(delta: &DeltaTable) -> Result<bool, LibraryError> {
    let mode = delta.snapshot()?.metadata().configuration().get("delta.columnMapping.mode");
    Ok(mode.is_some_and(|mode| mode != "none"))
}

/// Whether a file says that the rows of each of its row groups are in order, and has none before another that comes
/// after it.
fn is_in_order(file: &ParquetMetaData) -> bool {
    let columns = file.file_metadata().schema_descr().columns();
    let [position, row] = ORDER.map(|name| columns.iter().position(|column| column.path().string() == name));
    let Some((position, row)) = position.zip(row) else { return false };
    let is_by =
        |sorted: &SortingColumn, column: usize| usize::try_from(sorted.column_idx) == Ok(column) && !sorted.descending;
    let mut last = None;
    file.row_groups().iter().all(|group| {
        let sorted = group.sorting_columns().map(Vec::as_slice);
        let is_sorted = matches!(sorted, Some([first, second, ..]) if is_by(first, position) && is_by(second, row));
        let Some(Statistics::Int64(range)) = group.column(position).statistics() else { return false };
        let (Some(&least), Some(&greatest)) = (range.min_opt(), range.max_opt()) else { return false };
        let follows = last.is_none_or(|last| last <= least);
        last = Some(greatest);
        is_sorted && follows
    })
}

/// Where a file of schema `found` has the columns of `wanted`, and its schema with these as dictionaries that are
/// wanted so; `None` if it lacks one.
fn places(found: &Schema, wanted: &Schema) -> Option<(Vec<usize>, Schema)> {
    let mut fields: Vec<FieldRef> = found.fields().iter().cloned().collect();
    let mut places = Vec::with_capacity(wanted.fields().len());
    for field in wanted.fields().iter().filter(|field| field.name() != PARTITION) {
        let place = found.index_of(field.name()).ok()?;
        if matches!(field.data_type(), DataType::Dictionary(..)) {
            fields[place] = Arc::new(fields[place].as_ref().clone().with_data_type(field.data_type().clone()));
        }
        places.push(place);
    }
    Some((places, Schema::new_with_metadata(fields, found.metadata().clone())))
}

/// Adds the column of the partition.
fn with_partition(batch: &RecordBatch, partition: i32) -> Result<RecordBatch, LibraryError> {
    let mut fields: Vec<FieldRef> = batch.schema_ref().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(PARTITION, DataType::Int32, false)));
    let column: ArrayRef = Arc::new(Int32Array::from_value(partition, batch.num_rows()));
    let columns = batch.columns().iter().cloned().chain([column]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// The description of a file of these addresses, two in a row group.
    fn described(addresses: &[(i64, i32)], order: Option<Vec<SortingColumn>>) -> ParquetMetaData {
        let columns: [(&str, ArrayRef); 2] = [
            ("position", Arc::new(Int64Array::from_iter_values(addresses.iter().map(|at| at.0)))),
            ("row", Arc::new(Int32Array::from_iter_values(addresses.iter().map(|at| at.1)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties =
            WriterProperties::builder().set_max_row_group_row_count(Some(2)).set_sorting_columns(order).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap()
    }

    #[test]
    fn a_file_is_in_order_if_each_row_group_says_so_and_they_follow_each_other() {
        let events = Table::Events.schema();
        let stored = order(Table::Events, &events).unwrap();
        let names: Vec<_> =
            events.fields().iter().map(|field| field.name()).filter(|name| *name != PARTITION).collect();
        let by: Vec<&str> = stored.iter().map(|sorted| names[sorted.column_idx as usize].as_str()).collect();
        assert_eq!(by, ORDER);
        assert!(order(Table::Predictions, &Table::Predictions.schema()).is_none());

        let column = |column_idx, descending| SortingColumn { column_idx, descending, nulls_first: false };
        let says = || Some(vec![column(0, false), column(1, false)]);
        let ascending = [(-5, 0), (-4, 0), (0, 0), (0, 1), (0, 2), (1, 0), (7, 0)];
        assert!(is_in_order(&described(&ascending, says())));
        assert!(is_in_order(&described(&[], says())));
        for other in [None, Some(vec![column(0, false)]), Some(vec![column(1, false), column(0, false)])] {
            assert!(!is_in_order(&described(&ascending, other)));
        }
        assert!(!is_in_order(&described(&ascending, Some(vec![column(0, true), column(1, false)]))));
        assert!(!is_in_order(&described(&[(3, 0), (4, 0), (1, 0), (2, 0)], says())));
    }
}
