//! Between the types auscult speaks and the types Delta Lake has.
//!
//! Delta knows no fixed-size binary and no large string; everything else is stored as it
//! is, timestamps without a zone included. What comes back has exactly the schema of what
//! went in.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::table::EXTRA;
use super::{LibraryError, Table};

/// The schema as it lies in Delta.
pub(super) fn stored_schema(schema: &Schema) -> SchemaRef {
    let stored = |field: &FieldRef| match field.data_type() {
        DataType::FixedSizeBinary(_) => Arc::new(Field::new(field.name(), DataType::Binary, field.is_nullable())),
        DataType::LargeUtf8 => Arc::new(Field::new(field.name(), DataType::Utf8, field.is_nullable())),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(stored).collect::<Vec<_>>()))
}

/// Brings a batch into `schema`, column by name; columns that it does not have are dropped, and
/// [`EXTRA`] is null where the batch lacks it.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef, table: Table) -> Result<RecordBatch, LibraryError> {
    // Not "safe": a value that does not fit is an error, never a silent null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let wrong = || LibraryError::Column { table, column: field.name().clone() };
        let column = match batch.column_by_name(field.name()) {
            Some(column) => column,
            None if field.name() == EXTRA => &new_null_array(field.data_type(), batch.num_rows()),
            None => return Err(wrong()),
        };
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(wrong());
        }
        let fixed = match field.data_type() {
            DataType::FixedSizeBinary(width) => fixed(column, *width),
            _ => None,
        };
        columns.push(match fixed {
            Some(fixed) => Arc::new(fixed),
            None if column.data_type() == field.data_type() => Arc::clone(column),
            None => cast_with_options(column, field.data_type(), &options)?,
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Bytes as values of one width, without a copy; `None` where they are not.
fn fixed(column: &ArrayRef, width: i32) -> Option<FixedSizeBinaryArray> {
    let column = column.as_binary_opt::<i32>()?;
    let offsets = column.value_offsets();
    let (start, end) = (*offsets.first()?, *offsets.last()?);
    if !offsets.windows(2).all(|pair| pair[1] - pair[0] == width) {
        return None;
    }
    let values = column.values().slice_with_length(start as usize, (end - start) as usize);
    FixedSizeBinaryArray::try_new(width, values, column.nulls().cloned()).ok()
}

/// Brings the events of one message into the schema of the events table: adds the address
/// columns `partition`, `position` and, per row, its index `row`.
///
/// # Errors
/// If the partition does not fit an int32, or the batch has the columns already.
pub fn with_position(batch: &RecordBatch, partition: u32, position: i64) -> Result<RecordBatch, LibraryError> {
    let rows = i32::try_from(batch.num_rows()).map_err(|_| outside(partition, position))?;
    let address = [
        Arc::new(Int32Array::from_value(stored_partition(partition, position)?, batch.num_rows())) as ArrayRef,
        Arc::new(Int64Array::from_value(position, batch.num_rows())),
        Arc::new(Int32Array::from_iter_values(0..rows)),
    ];
    with_address(batch, address)
}

/// Adds given address columns, and [`EXTRA`] where it is not there.
pub(super) fn with_address(batch: &RecordBatch, address: [ArrayRef; 3]) -> Result<RecordBatch, LibraryError> {
    let mut fields: Vec<FieldRef> = batch.schema_ref().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    if batch.column_by_name(EXTRA).is_none() {
        fields.push(Arc::new(Field::new(EXTRA, DataType::Utf8, true)));
        columns.push(new_null_array(&DataType::Utf8, batch.num_rows()));
    }
    for (name, column) in ["partition", "position", "row"].into_iter().zip(address) {
        fields.push(Arc::new(Field::new(name, column.data_type().clone(), false)));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// A partition as the tables keep it.
pub(super) fn stored_partition(partition: u32, position: i64) -> Result<i32, LibraryError> {
    i32::try_from(partition).map_err(|_| outside(partition, position))
}

fn outside(partition: u32, position: i64) -> LibraryError {
    LibraryError::Gap { table: Table::Events, partition: i64::from(partition), position }
}
