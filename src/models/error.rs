//! What can go wrong with a model.

use super::Family;

/// An error of this room. Its text names features, files and parameters, never a value of
/// a row and never a subject.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No rows, or no columns.
    #[error("the {part} matrix has no {what}; give it labelled rows of at least two outcomes")]
    Empty {
        /// `training` or `tuning`.
        part: &'static str,
        /// `rows` or `columns`.
        what: &'static str,
    },
    /// All labels are the same.
    #[error("the {part} labels are all {label}; a model needs both outcomes: widen the cohort or the time span")]
    OneClass {
        /// `training` or `tuning`.
        part: &'static str,
        /// The only label there is.
        label: bool,
    },
    /// One of a panel's models has nothing to tell apart.
    #[error(
        "'{head}' holds for {positives} of the {rows} training rows that it is asked of; take it out of the task's label, or gather more history"
    )]
    Head {
        /// Class, time or cut.
        head: String,
        /// Rows that it is asked of.
        rows: usize,
        /// Those among them that it holds for.
        positives: usize,
    },
    /// As many labels as rows are needed.
    #[error("the {part} matrix has {rows} rows but {found} {what}; give one for each row")]
    Lengths {
        /// `training` or `tuning`.
        part: &'static str,
        /// `labels`, `groups` or `onsets`.
        what: &'static str,
        /// Rows of the matrix.
        rows: usize,
        /// How many there are.
        found: usize,
    },
    /// A row, or a matrix, of another width than the model was fitted on.
    #[error(
        "{found} values do not make whole rows of {expected} features; score with the feature set the model was fitted on, or fit it anew"
    )]
    Columns {
        /// Features of the model.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// An infinite value among the features.
    #[error(
        "feature '{feature}' of the {part} matrix holds an infinite value; NaN means missing, nothing else may be non-finite"
    )]
    Infinite {
        /// `training` or `tuning`.
        part: &'static str,
        /// Name of the feature.
        feature: String,
    },
    /// Names of features that cannot be used.
    #[error("the feature names cannot be used: {reason}")]
    Features {
        /// What is wrong with them.
        reason: String,
    },
    /// A hyperparameter out of its range.
    #[error("parameter {name} {reason}")]
    Parameter {
        /// `family.name`.
        name: &'static str,
        /// What it must be.
        reason: &'static str,
    },
    /// The library that fits gave up.
    #[error("the {family} model cannot be fitted: {reason}")]
    Fit {
        /// Which family.
        family: Family,
        /// What the library says.
        reason: String,
    },
    /// A model of another program cannot be used.
    #[error("the model cannot be imported: {reason}")]
    Import {
        /// Why not.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{at} cannot be read or written: {source}")]
    Io {
        /// Path.
        at: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A bundle lacks a file.
    #[error("the bundle has no {file}; restore the folder from the registry, or train again")]
    Missing {
        /// Name within the bundle.
        file: &'static str,
    },
    /// A file of a bundle is larger than any honest one.
    #[error("{file} of the bundle is larger than {limit} bytes; it is neither written nor read")]
    TooLarge {
        /// Name within the bundle.
        file: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A file's content is not what the manifest says.
    #[error("{file} of the bundle does not match its sha256; it was changed or damaged: restore it, or train again")]
    Hash {
        /// Name within the bundle.
        file: &'static str,
    },
    /// A bundle of a format this version does not know.
    #[error(
        "the bundle has format {found}, this version reads {supported}; use the version that wrote it, or train again"
    )]
    Format {
        /// Format of the bundle.
        found: u64,
        /// The format read here.
        supported: u32,
    },
    /// A file of a bundle with the right hash and an impossible content.
    #[error("{file} of the bundle is not usable: {reason}")]
    Corrupt {
        /// Name within the bundle.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A model that another program cannot read.
    #[error("a {family} model cannot be written as XGBoost JSON; only boosting and hazard can")]
    Export {
        /// Which family.
        family: Family,
    },
}

impl ModelError {
    /// A file of the bundle that makes no sense.
    pub(super) fn corrupt(file: &'static str, reason: impl std::fmt::Display) -> ModelError {
        ModelError::Corrupt { file, reason: reason.to_string() }
    }

    /// A fit that failed.
    pub(super) fn fit(family: Family, reason: impl std::fmt::Display) -> ModelError {
        ModelError::Fit { family, reason: reason.to_string() }
    }
}

/// Runs a library's code; a panic in there becomes an error of the fit, so that the daemon
/// outlives a bug of a numeric library (smartcore and burn assert on their inputs).
pub(super) fn guarded<T>(family: Family, work: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(_) => Err(ModelError::fit(family, "the library panicked; check the features for extreme values")),
    }
}
