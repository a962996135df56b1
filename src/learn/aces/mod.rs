//! ACES task files: who is labelled, when, and with what.
//!
//! Reads the whole grammar of ACES 0.7 (Xu et al., "ACES: Automatic Cohort Extraction
//! System for Event-Streams", 2024; `specs/clinical.md` 1.2), and more: a plain predicate needs
//! no code where it has limits of the value or asks for other columns, and `other_cols` may
//! stand in a file (upstream cannot read it there, only the columns themselves as keys beside
//! `code`; both are read). Evaluates it one subject at a time, in memory bounded by that
//! subject's record. Agrees with `es-aces` 0.7.3 on every realization, with three stated
//! exceptions: an index timestamp on a window that looks back by a span is the end it
//! names (upstream swaps the two), rows that upstream emits without a trigger are left
//! out, and a `has` on a window without extent is refused (upstream drops it silently).
//!
//! As upstream, and other than its prose says, whether an event at the very point a
//! search starts from may end it is decided by the inclusiveness of the end searched for.

mod config;
mod evaluate;
mod parse;
mod record;
mod resolve;
mod span;
#[cfg(test)]
mod tests;

pub use config::Config;
pub(super) use evaluate::merge;
pub use evaluate::{Evaluator, Label, Realization};

/// Any row of the record: one subject at one time, whatever happened then.
const ANY_EVENT: &str = "_ANY_EVENT";
/// The first row of the record.
const RECORD_START: &str = "_RECORD_START";
/// The last row of the record.
const RECORD_END: &str = "_RECORD_END";
