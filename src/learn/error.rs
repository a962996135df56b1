//! Why something could not be learned, judged, registered or loaded.

use std::io;
use std::path::{Path, PathBuf};

use crate::events::EventsError;
use crate::library::LibraryError;
use crate::models::ModelError;

/// An error of this room. Never holds a patient's identifier or a value.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The case library could not be read.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A batch of the library is not of the event schema.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// A model could not be fitted, saved or loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There is not enough to learn from, or nothing to judge by.
    #[error("task '{task}' cannot be trained: {reason}")]
    Cohort {
        /// Task.
        task: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// Not even one row of features may be in memory.
    #[error(
        "a row of {columns} features takes {bytes} bytes, limits.train_bytes is {limit}; raise it to thousands of rows"
    )]
    RowTooWide {
        /// Features.
        columns: usize,
        /// Bytes of a row.
        bytes: usize,
        /// Most bytes.
        limit: usize,
    },
    /// The terms of texts would not fit into memory.
    #[error("the texts of '{concept}' have more than {limit} {what}; raise --min-subjects")]
    TooManyTerms {
        /// Whose texts.
        concept: String,
        /// The bound.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// Rows of features could not be kept in a temporary file, or not be read back from it.
    #[error(
        "rows of features cannot be kept in {path}: {error}; set TMPDIR to a folder with more space, or raise limits.train_bytes"
    )]
    Spill {
        /// File or folder.
        path: PathBuf,
        /// What Arrow or the system says.
        error: arrow::error::ArrowError,
    },
    /// What was to be learned from a sample of the rows failed.
    #[error("{error} (only {rows} of {of} rows fit into limits.train_bytes; raise it)")]
    Sampled {
        /// Rows of the sample.
        rows: usize,
        /// All of them.
        of: usize,
        /// What failed.
        error: Box<LearnError>,
    },
    /// A task's name is more than a word.
    #[error("a task's name must consist of a-z, 0-9 and '_'")]
    TaskName,
    /// The registry lies where this version cannot go.
    #[error("the registry must be a file:// URL of a folder; set registry.url")]
    RegistryUrl,
    /// No such model.
    #[error("task '{task}' has no version {version} in the registry; see `auscult models list`")]
    NoVersion {
        /// Task.
        task: String,
        /// Version.
        version: u32,
    },
    /// No champion.
    #[error("task '{task}' has no champion; train it, or name a version")]
    NoChampion {
        /// Task.
        task: String,
    },
    /// Nothing to roll back to.
    #[error("task '{task}' had no champion before the present one")]
    NoPredecessor {
        /// Task.
        task: String,
    },
    /// Another process promoted a model at the same time.
    #[error("another model of task '{task}' became the champion meanwhile; judge again against that one")]
    ChampionChanged {
        /// Task.
        task: String,
    },
    /// A bundle's bytes are not those that were registered.
    #[error(
        "version {version} of task '{task}' is not what was registered: its files have changed; restore them or use another version"
    )]
    Changed {
        /// Task.
        task: String,
        /// Version.
        version: u32,
    },
    /// A model was fitted on other features than are computed now.
    #[error(
        "version {version} of task '{task}' was fitted on other features than features.toml describes; train again"
    )]
    OtherFeatures {
        /// Task.
        task: String,
        /// Version.
        version: u32,
    },
    /// An entry of a ledger cannot be read.
    #[error("the ledger at {path} is damaged: it {what}; restore it from a copy")]
    Ledger {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The target of an output holds something.
    #[error("'{path}' is not empty; give a new folder", path = .0.display())]
    Target(PathBuf),
    /// Data that is read more than once was not the same each time.
    #[error("the data changed while they were read; run it again")]
    ChangedMeanwhile,
    /// An ACES task whose samples have no time of prediction.
    #[error("the ACES task needs a window with index_timestamp: it gives the labels their prediction_time")]
    NoIndex,
    /// A file of labels or predictions could not be written.
    #[error("the parquet file cannot be written: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arrow refused columns.
    #[error("the parquet file cannot be written: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// Something could not be written as JSON.
    #[error("an entry of the ledger cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// A plot could not be drawn.
    #[error("the plot {name} cannot be drawn: {reason}")]
    Plot {
        /// File.
        name: &'static str,
        /// Why not.
        reason: String,
    },
    /// A thread of the replay was lost.
    #[error("the replay of the library was interrupted; run it again")]
    Interrupted,
}

impl LearnError {
    /// Turns an error of the system into one that names `path`.
    pub(super) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> LearnError {
        move |error| LearnError::Io { path: path.as_ref().to_owned(), error }
    }
}
