//! Parquet files that appear whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::LearnError;

/// Rows of a row group: what a writer holds in memory.
const GROUP_ROWS: usize = 64 * 1024;

/// Writes one batch as a Parquet file, replacing what is there.
///
/// # Errors
/// If the file cannot be written; nothing is left behind then.
pub(super) fn write_parquet(path: &Path, batch: &RecordBatch) -> Result<(), LearnError> {
    let mut file = ParquetFile::create(path, batch.schema())?;
    file.write(batch)?;
    file.finish()
}

/// A Parquet file that takes its place when it is finished; dropped before, it leaves nothing behind.
pub(super) struct ParquetFile {
    writer: Option<ArrowWriter<File>>,
    draft: PathBuf,
    path: PathBuf,
}

impl ParquetFile {
    /// A file that will lie at `path`.
    ///
    /// # Errors
    /// If nothing can be written beside it.
    pub(super) fn create(path: &Path, schema: SchemaRef) -> Result<Self, LearnError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.draft", std::process::id()));
        let draft = path.with_file_name(name);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let file = File::create(&draft).map_err(LearnError::io(path))?;
        let mut new = ParquetFile { writer: None, draft, path: path.to_owned() };
        new.writer = Some(ArrowWriter::try_new(file, schema, Some(properties))?);
        Ok(new)
    }

    /// Adds rows.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), LearnError> {
        if let Some(writer) = &mut self.writer {
            writer.write(batch)?;
        }
        Ok(())
    }

    /// Puts the file in its place, replacing what is there.
    ///
    /// # Errors
    /// If it cannot be written whole.
    pub(super) fn finish(mut self) -> Result<(), LearnError> {
        if let Some(writer) = self.writer.take() {
            writer.close()?;
            fs::rename(&self.draft, &self.path).map_err(LearnError::io(&self.path))?;
        }
        Ok(())
    }
}

impl Drop for ParquetFile {
    fn drop(&mut self) {
        // The draft is of no use; that it could not be removed changes nothing. Once finished it is not there.
        let _ = fs::remove_file(&self.draft);
    }
}
