//! The case library: everything the daemon ever learned of its patients, on Delta Lake.
//!
//! Promises: a commit holds exactly the rows after the last archived position of its
//! partitions, once (invariant 4), whatever crashes or races; a partition's history comes
//! back in log order, bit by bit as it went in; every other Delta or MEDS tool can read
//! what is here. The library is the checkpoint that recovery and training replay, so it
//! must never skip, double or reorder a row, and it must never hold an identifier.
//!
//! Four tables lie under one URL: `events`, `predictions`, `alerts`, and `labels`, which says what became of
//! predictions. Where the archive stands is kept in the first three themselves, as Delta application transactions
//! `auscult-<table>-<partition>`, written in the commit that adds the rows. Handles are
//! opened for one operation and dropped: a long-lived Delta handle grows with every update.

mod append;
mod compact;
mod convert;
mod error;
mod history;
mod import;
mod known;
mod meds;
mod ordered;
mod query;
mod records;
mod settle;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

pub use compact::Compacted;
pub use convert::with_position;
pub use error::LibraryError;
pub use history::History;
pub use known::{addresses, fingerprint, positions};
pub use meds::{Exported, MedsPart, MedsReader, MedsSubjects, export_meds, read_meds};
pub use query::Query;
pub use records::{alerts_batch, predictions_batch};
pub use snapshot::{Added, Commit, Size, Snapshot};
pub use table::{Library, Table};

use crate::telemetry::fault;

/// A point at which tests break the process, make the store slow or take its answer away.
fn passes(step: &'static str) -> Result<(), LibraryError> {
    if fault("library", step) {
        let source = std::io::Error::other("a test took the store's answer away");
        return Err(LibraryError::Io { path: step.into(), source });
    }
    Ok(())
}
