//! Parquet files that appear whole or not at all.

use std::fs::{self, File};
use std::path::Path;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::LearnError;

/// Writes one batch as a Parquet file, replacing what is there.
///
/// # Errors
/// If the file cannot be written; nothing is left behind then.
pub(super) fn write_parquet(path: &Path, batch: &RecordBatch) -> Result<(), LearnError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.draft", std::process::id()));
    let draft = path.with_file_name(name);
    let written = write(&draft, batch).and_then(|()| fs::rename(&draft, path).map_err(LearnError::io(path)));
    if written.is_err() {
        // The draft is of no use; that it could not be removed changes nothing.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn write(path: &Path, batch: &RecordBatch) -> Result<(), LearnError> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
    let file = File::create(path).map_err(LearnError::io(path))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}
