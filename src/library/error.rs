//! What can go wrong in the library.

use std::path::PathBuf;

use super::Table;
use crate::events::EventsError;

/// Why the library refuses or fails. No text holds an identifier or a clinical value.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The URL names no folder that this machine can have.
    #[error("the library's url has no usable path; give it as file:///absolute/folder")]
    Url,
    /// A file or folder could not be read, made or removed.
    #[error("cannot use '{path}': {source}", path = path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The rows were archived already: read the positions again and go on after them.
    #[error("partition {partition} of '{table}' is archived up to {archived}, asked for {given}; read the positions again", table = table.name())]
    Behind {
        /// Which table.
        table: Table,
        /// Source partition.
        partition: u32,
        /// Position that is archived.
        archived: i64,
        /// Position the commit would have reached.
        given: i64,
    },
    /// A row lies outside the range its commit covers, or its partition is not in the commit.
    #[error("a row at position {position} of partition {partition} of '{table}' is outside its commit; append the rows after the archived position and up to the new one", table = table.name())]
    Gap {
        /// Which table.
        table: Table,
        /// Source partition as the row has it.
        partition: i64,
        /// Position of the row.
        position: i64,
    },
    /// Two rows have one address, so one of them is a double.
    #[error("two rows of '{table}' stand at position {position} of partition {partition}; each row may be archived once", table = table.name())]
    Double {
        /// Which table.
        table: Table,
        /// Source partition.
        partition: u32,
        /// Position of the rows.
        position: i64,
    },
    /// Another writer committed the same partition first: read the positions again.
    #[error("another writer changed '{table}' at the same time; read the positions again and retry", table = table.name())]
    Conflict {
        /// Which table.
        table: Table,
    },
    /// History was imported for another number of partitions.
    #[error(
        "history was imported for {have} partitions, asked for {given}; keep the number or import into a new library"
    )]
    Partitions {
        /// Number the library holds history for.
        have: i64,
        /// Number asked for.
        given: u32,
    },
    /// One subject's events lie in several partitions, so no partition has its whole history.
    #[error(
        "a subject's events lie in more than one partition; the number of partitions of the events topic was changed, import into a new library"
    )]
    Scattered,
    /// A rewrite read another number of rows than the log counts; nothing was changed.
    #[error("a rewrite of '{table}' read {rows} rows of {should}; nothing was changed, check the files of the library", table = table.name())]
    Lost {
        /// Which table.
        table: Table,
        /// Rows by the log.
        should: u64,
        /// Rows in the files.
        rows: u64,
    },
    /// A batch or a table lacks a column or has it with another type.
    #[error("column '{column}' of '{table}' is missing, null or has another type", table = table.name())]
    Column {
        /// Which table.
        table: Table,
        /// Which column.
        column: String,
    },
    /// A message of a topic is not the JSON it should be.
    #[error("the message at position {position} of partition {partition} is no record of '{table}': {reason}", table = table.name())]
    Message {
        /// Which table it was for.
        table: Table,
        /// Source partition.
        partition: u32,
        /// Kafka offset.
        position: i64,
        /// Which field, without its value.
        reason: &'static str,
    },
    /// A file or folder is no MEDS data.
    #[error("'{path}' is not usable MEDS data: {reason}", path = path.display())]
    Meds {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The target of an export holds something else.
    #[error("'{path}' is not empty and holds no earlier export; give a new folder", path = .0.display())]
    Target(PathBuf),
    /// A batch is no event batch.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// Arrow could not build or convert a batch.
    #[error("arrow could not convert a batch of the library: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A Parquet file could not be read or written.
    #[error("a parquet file could not be read or written: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Delta Lake could not read or write a table.
    #[error("delta lake could not read or write a table of the library: {0}")]
    Delta(Box<deltalake::DeltaTableError>),
    /// A table could not be scanned.
    #[error("a table of the library could not be scanned: {0}")]
    Scan(Box<datafusion::error::DataFusionError>),
    /// A query of a user cannot be planned or run. What DataFusion says of it may quote the query, and
    /// values of rows: it is for whoever asked, never for a log.
    #[error("{0}; there are the tables events, predictions, alerts and features")]
    Query(Box<datafusion::error::DataFusionError>),
    /// Work moved to another thread did not come back.
    #[error("a task of the library was stopped before its end")]
    Stopped,
}

impl From<deltalake::DeltaTableError> for LibraryError {
    fn from(error: deltalake::DeltaTableError) -> Self {
        LibraryError::Delta(Box::new(error))
    }
}

impl LibraryError {
    /// What became of a user's query.
    pub(crate) fn query(error: datafusion::error::DataFusionError) -> Self {
        LibraryError::Query(Box::new(error))
    }
}

impl From<datafusion::error::DataFusionError> for LibraryError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        LibraryError::Scan(Box::new(error))
    }
}

impl LibraryError {
    /// Names the file or folder an I/O error is about.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> LibraryError {
        let path = path.into();
        move |source| LibraryError::Io { path, source }
    }
}
