//! Invariant 3: state after a restart equals state without one, bit by bit.
//!
//! The state of a partition at C is folded from Kafka's log alone, and as a score role that starts would:
//! from the library up to D and from Kafka on from there. What was imported comes first in both.

use super::report::Findings;
use super::walk::{Walk, log};
use crate::cli::CliError;
use crate::events::EventsView;
use crate::library::{LibraryError, Table, positions};

/// Fingerprint of the state at the offset `live` of a partition that is archived up to `archived`, as a
/// restart would make it; `None` if the library holds a row twice, which stops a restart.
pub(super) fn restarted(walk: &Walk<'_>, number: i32, archived: i64, live: i64) -> Result<Option<[u8; 32]>, CliError> {
    let mut fold = walk.site.fold();
    let from = (archived + 1).min(live);
    if let Some(snapshot) = walk.tables.get(&Table::Events) {
        let mut history = snapshot.history(number as u32)?;
        'library: loop {
            let batch = match walk.runtime.block_on(history.next()) {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(LibraryError::Double { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let view = EventsView::new(&batch)?;
            for (row, &position) in positions(&batch)?.iter().enumerate() {
                if position >= from {
                    break 'library;
                }
                fold.apply(&view.row(row), None);
            }
        }
    }
    log(walk.site, number, (from, live), |_, batch| {
        let view = EventsView::new(batch)?;
        for row in 0..view.len() {
            fold.apply(&view.row(row), None);
        }
        Ok(())
    })?;
    Ok(Some(fold.fingerprint()))
}

/// Compares the two states of a partition; `after` a restart there may be none.
pub(super) fn compare(
    findings: &mut Findings,
    topic: &str,
    (number, live): (i32, i64),
    without: [u8; 32],
    after: Option<[u8; 32]>,
) {
    findings.count("partitions", 1);
    let what = match after {
        Some(after) if after == without => return,
        Some(_) => "a restart here gives another state than the log does",
        None => "a restart here stops at a row that the library holds twice, or out of order",
    };
    findings.violation(what, topic, number, live);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_03_another_state_is_found() {
        let mut findings = Findings::default();
        compare(&mut findings, "log", (0, 9), [1; 32], Some([1; 32]));
        assert_eq!(findings.found(), []);
        compare(&mut findings, "log", (2, 9), [1; 32], Some([2; 32]));
        compare(&mut findings, "log", (3, 9), [1; 32], None);
        let other = "a restart here gives another state than the log does";
        let stops = "a restart here stops at a row that the library holds twice, or out of order";
        assert_eq!(findings.found(), [(other, 2, 9), (stops, 3, 9)]);
    }
}
