//! A mapping file: what the columns of somebody's table mean, in TOML.
//!
//! Promises every problem of the file at once, each with its key and a remedy, and that an
//! unknown key is one. `tests/fixtures/csv/` holds worked examples.

mod read;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CliError;
use super::records::{Records, rows};
use crate::decode::csv::{Mapping, Table};
use crate::settings::Problem;

/// Longest mapping file, in bytes.
const LONGEST: u64 = 1 << 20;

/// Reads the mapping file at `path`.
///
/// # Errors
/// Every problem of the file.
fn mapping(path: &Path) -> Result<Mapping, Vec<Problem>> {
    let name = path.display().to_string();
    let problem = |what: String, remedy: &str| vec![Problem::new(&name, "file", what, remedy)];
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    if length > LONGEST {
        return Err(problem(format!("is longer than {LONGEST} bytes"), "give the mapping, not the data"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| problem(format!("cannot be read ({})", error.kind()), "give a file of TOML in UTF-8"))?;
    parse(&name, &text)
}

/// The mapping at `path` for these files of CSV.
///
/// # Errors
/// Every problem of the mapping, or that it would take the rows of two files for the same patients.
pub(super) fn mapping_for(path: &Path, files: &[PathBuf]) -> Result<Arc<Mapping>, CliError> {
    let mapping = mapping(path).map_err(CliError::Mapping)?;
    if mapping.patient.column.is_none() && files.len() > 1 {
        let text = "the mapping names patients by the number of the row, which two files share; read each with a prefix of its own";
        return Err(CliError::Usage(text.to_owned()));
    }
    Ok(Arc::new(mapping))
}

/// Opens a file of CSV: what its columns mean, and its rows behind the header.
///
/// # Errors
/// If the file cannot be opened, or lacks a column.
pub(super) fn table(file: &Path, mapping: &Arc<Mapping>) -> Result<(Table, Records), CliError> {
    let mut rows = rows(file, mapping.dialect)?;
    let header = match mapping.columns {
        Some(_) => Vec::new(),
        None => rows.next().transpose()?.unwrap_or_default(),
    };
    let table = Table::new(Arc::clone(mapping), &header).map_err(|wrong| {
        let remedy = "correct the mapping, or give it columns = [...] if the file has no header";
        let problem = |what| Problem::new(&file.display().to_string(), "header", what, remedy);
        CliError::Mapping(wrong.into_iter().map(problem).collect())
    })?;
    Ok((table, rows))
}

/// Validates the text of a mapping; `file` names it in problems.
///
/// # Errors
/// Every problem of the text.
fn parse(file: &str, text: &str) -> Result<Mapping, Vec<Problem>> {
    let mut reader = read::Reader::new(file);
    match reader.mapping(text) {
        Some(mapping) if reader.problems.is_empty() => Ok(mapping),
        _ => Err(reader.problems),
    }
}

#[cfg(test)]
mod tests;
