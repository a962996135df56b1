//! A mapping file: what the columns of somebody's table mean, in TOML.
//!
//! Promises every problem of the file at once, each with its key and a remedy, and that an
//! unknown key is one. `tests/fixtures/csv/` holds worked examples.

mod read;

use std::path::Path;

use crate::decode::csv::Mapping;
use crate::settings::Problem;

/// Longest mapping file, in bytes.
const LONGEST: u64 = 1 << 20;

/// Reads the mapping file at `path`.
///
/// # Errors
/// Every problem of the file.
pub(super) fn mapping(path: &Path) -> Result<Mapping, Vec<Problem>> {
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

/// Validates the text of a mapping; `file` names it in problems.
///
/// # Errors
/// Every problem of the text.
pub(super) fn parse(file: &str, text: &str) -> Result<Mapping, Vec<Problem>> {
    let mut reader = read::Reader::new(file);
    match reader.mapping(text) {
        Some(mapping) if reader.problems.is_empty() => Ok(mapping),
        _ => Err(reader.problems),
    }
}

#[cfg(test)]
mod tests;
