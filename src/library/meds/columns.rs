//! What every reader of MEDS data needs: which files there are, and columns in the types of the
//! event schema.

use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};

use super::super::LibraryError;

/// Folders below a data set's root that are looked into.
const DEPTH: usize = 8;

/// A Parquet file, or every one below `data/` of a data set's root, by name.
///
/// # Errors
/// If the path cannot be read or holds no Parquet file.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    if !std::fs::metadata(path).map_err(LibraryError::io(path))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (data, mut files) = (path.join("data"), Vec::new());
    collect(if data.is_dir() { &data } else { path }, DEPTH, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(unusable(path, "no .parquet file below its data folder; give a file or a data set's root"));
    }
    Ok(files)
}

pub(super) fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        // A column without a single value often comes without a type.
        DataType::Null => true,
        _ => false,
    }
}

pub(super) fn is_number(kind: &DataType) -> bool {
    kind.is_numeric() || *kind == DataType::Null
}

pub(super) fn is_instant(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null)
}

pub(super) fn named(batch: &RecordBatch, name: &str) -> Result<ArrayRef, LibraryError> {
    let missing = || arrow::error::ArrowError::SchemaError(format!("column '{name}' is missing"));
    Ok(batch.column_by_name(name).cloned().ok_or_else(missing)?)
}

/// Casts; what does not fit is an error, never a silent null.
pub(super) fn to(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, LibraryError> {
    Ok(cast_with_options(column, kind, &CastOptions { safe: false, ..CastOptions::default() })?)
}

pub(super) fn integers(column: &ArrayRef) -> Result<Int64Array, LibraryError> {
    Ok(to(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

pub(super) fn strings(column: &ArrayRef) -> Result<StringArray, LibraryError> {
    Ok(to(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Microseconds UTC. A zone is only a way to show an instant, so it is dropped, not applied.
pub(super) fn instants(column: &ArrayRef) -> Result<TimestampMicrosecondArray, LibraryError> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros = to(column, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    Ok(micros.as_primitive::<TimestampMicrosecondType>().clone())
}

pub(super) fn valid<A: Array, T>(column: &A, i: usize, value: fn(&A, usize) -> T) -> Option<T> {
    column.is_valid(i).then(|| value(column, i))
}

pub(super) fn text(column: Option<&StringArray>, i: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(i)).map(|column| column.value(i))
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), LibraryError> {
    for entry in std::fs::read_dir(folder).map_err(LibraryError::io(folder))? {
        let entry = entry.map_err(LibraryError::io(folder))?;
        let kind = entry.file_type().map_err(LibraryError::io(entry.path()))?;
        let path = entry.path();
        // Links are not followed into folders: they may lead round in a circle.
        if kind.is_dir() && (depth == 0 || path.ends_with("metadata")) {
            continue;
        } else if kind.is_dir() {
            collect(&path, depth - 1, files)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    Ok(())
}

pub(super) fn unusable(path: &Path, reason: &str) -> LibraryError {
    LibraryError::Meds { path: path.to_owned(), reason: reason.to_owned() }
}
