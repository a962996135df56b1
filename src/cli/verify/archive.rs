//! Invariant 4: a Delta commit for a partition holds exactly the rows of (previous position, position].
//!
//! Pure: [`Shelf`] compares, message by message in the order of the log, what a topic holds with what its
//! table does, and [`commits`] what each commit of the table's log added with how far it moved positions.

use std::collections::BTreeMap;

use super::report::Findings;
use crate::library::{Commit, LibraryError};

/// The rows of one message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    pub(super) position: i64,
    pub(super) rows: u64,
    /// Hash of all that they say, in their order.
    pub(super) hash: [u8; 32],
}

/// The messages of a partition in a table, in order.
pub(super) type Archived<'a> = Box<dyn Iterator<Item = Result<Message, LibraryError>> + 'a>;

/// A partition of a table beside that of its topic.
pub(super) struct Shelf<'a> {
    topic: &'a str,
    partition: i32,
    /// First offset that the topic still holds.
    low: i64,
    /// D: what is archived, inclusive.
    archived: i64,
    table: std::iter::Peekable<Archived<'a>>,
}

impl std::fmt::Debug for Shelf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("topic", &self.topic).field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl<'a> Shelf<'a> {
    /// The topic's partition begins at `low`; its table is archived up to `archived`.
    pub(super) fn new(topic: &'a str, partition: i32, (low, archived): (i64, i64), table: Archived<'a>) -> Self {
        Shelf { topic, partition, low, archived, table: table.peekable() }
    }

    /// Whether a message of the topic must be in the table.
    pub(super) fn wants(&self, offset: i64) -> bool {
        offset <= self.archived
    }

    /// The next message of the topic that must be in the table.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub(super) fn compare(&mut self, message: &Message, findings: &mut Findings) -> Result<(), LibraryError> {
        self.pass(message.position, findings)?;
        if !self.wants(message.position) {
            // The table turned out to be unreadable in order.
            return Ok(());
        }
        findings.count("messages", 1);
        let found = self.table.next_if(|next| matches!(next, Ok(next) if next.position == message.position));
        let what = match found {
            None if message.rows == 0 => return Ok(()),
            None => "a message is missing in the library",
            Some(Ok(found)) if found == *message => {
                findings.count("rows", message.rows);
                return Ok(());
            }
            Some(Ok(found)) if found.rows != message.rows => "a message has another number of rows in the library",
            Some(_) => "a message says something else in the library",
        };
        findings.violation(what, self.topic, self.partition, message.position);
        Ok(())
    }

    /// The topic has no more messages that must be in the table.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub(super) fn finish(mut self, findings: &mut Findings) -> Result<(), LibraryError> {
        self.pass(i64::MAX, findings)
    }

    /// Passes over what the table holds before a position and the topic does not.
    fn pass(&mut self, position: i64, findings: &mut Findings) -> Result<(), LibraryError> {
        while let Some(next) = self.table.next_if(|next| next.as_ref().is_ok_and(|next| next.position < position)) {
            let next = next?;
            let what = match next.position {
                ..0 => {
                    findings.count("rows_imported", next.rows);
                    continue;
                }
                at if at > self.archived => "the library holds rows beyond the position of their partition",
                at if at < self.low => {
                    // Kafka no longer has them to compare with.
                    findings.count("rows_gone_from_kafka", next.rows);
                    continue;
                }
                _ => "the library holds rows that no message of the topic has",
            };
            findings.violation(what, self.topic, self.partition, next.position);
        }
        match self.table.next_if(Result::is_err) {
            // The rows are read in order, or what is found is that they are not.
            Some(Err(LibraryError::Double { position, .. })) => {
                let what = "the library holds a row twice, or out of order";
                findings.violation(what, self.topic, self.partition, position);
                self.table = (Box::new(std::iter::empty()) as Archived<'a>).peekable();
                self.archived = i64::MIN;
                Ok(())
            }
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Compares what commits added with how far they moved positions; `topic` is the one that the table is of.
pub(super) fn commits(topic: &str, commits: &[Commit], findings: &mut Findings) {
    // The log may be cut off at its beginning; then what a partition's position was is not known at first.
    let is_whole = commits.first().is_some_and(|first| first.version == 0);
    let mut known: BTreeMap<u32, i64> = BTreeMap::new();
    for commit in commits {
        let before = |partition: u32| known.get(&partition).copied().or(is_whole.then_some(-1));
        for (&partition, &position) in &commit.positions {
            if before(partition).is_some_and(|before| position <= before) {
                findings.violation("a commit does not move a position on", topic, partition as i32, position);
            }
        }
        for added in &commit.added {
            let Some((least, greatest)) = added.positions else {
                findings.count("files_without_statistics", 1);
                continue;
            };
            if greatest < 0 {
                findings.count("files_imported", 1);
                continue;
            }
            findings.count("files", 1);
            let of = |partition: &u32| added.partition.is_none_or(|one| one == *partition);
            let moved = || commit.positions.iter().filter(|(partition, _)| of(partition));
            let up_to = moved().map(|(_, position)| *position).max();
            // Of several partitions in a file the least lower end bounds it.
            let from = moved().map(|(&partition, _)| before(partition)).min().flatten();
            if up_to.is_none_or(|up_to| greatest > up_to) || from.is_some_and(|from| least <= from) {
                let what = "a commit adds rows outside of (previous position, position]";
                findings.violation(what, topic, added.partition.map_or(-1, |one| one as i32), least);
            }
        }
        known.extend(&commit.positions);
        findings.count("commits", 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::{Added, Table};

    fn message(position: i64) -> Message {
        Message { position, rows: 2, hash: [position as u8; 32] }
    }

    /// Compares the messages at these offsets, archived up to 20, of a topic that begins at 10.
    fn compared(topic: &[i64], table: Vec<Result<Message, LibraryError>>) -> Findings {
        let mut findings = Findings::default();
        let mut shelf = Shelf::new("t", 1, (10, 20), Box::new(table.into_iter()));
        for offset in topic {
            if shelf.wants(*offset) {
                shelf.compare(&message(*offset), &mut findings).unwrap();
            }
        }
        shelf.finish(&mut findings).unwrap();
        findings
    }

    fn found(topic: &[i64], table: &[i64]) -> Vec<(&'static str, i64)> {
        let findings = compared(topic, table.iter().map(|at| Ok(message(*at))).collect());
        findings.found().iter().map(|(what, _, offset)| (*what, *offset)).collect()
    }

    #[test]
    fn a_table_that_holds_just_what_is_archived_is_right() {
        let findings = compared(&[10, 13, 20, 21], [-9, 3, 10, 13, 20].map(|at| Ok(message(at))).into());
        assert_eq!(findings.found(), []);
        let counts = ["messages", "rows", "rows_imported", "rows_gone_from_kafka"].map(|what| findings.counted(what));
        assert_eq!(counts, [3, 6, 2, 2]);
        assert_eq!(found(&[], &[]), []);
    }

    #[test]
    fn invariant_04_missing_foreign_changed_and_early_rows_are_found() {
        let (missing, foreign) =
            ("a message is missing in the library", "the library holds rows that no message of the topic has");
        assert_eq!(found(&[10, 13, 20], &[10, 20]), [(missing, 13)]);
        assert_eq!(found(&[10, 13, 20], &[10, 13]), [(missing, 20)]);
        assert_eq!(found(&[10, 20], &[10, 11, 20]), [(foreign, 11)]);
        assert_eq!(found(&[10], &[10, 19]), [(foreign, 19)]);
        let beyond = "the library holds rows beyond the position of their partition";
        assert_eq!(found(&[10, 21], &[10, 21]), [(beyond, 21)]);
        let other = Message { hash: [0; 32], ..message(10) };
        let changed = "a message says something else in the library";
        assert_eq!(compared(&[10], vec![Ok(other)]).found(), [(changed, 1, 10)]);
        let fewer = Message { rows: 1, ..message(10) };
        let number = "a message has another number of rows in the library";
        assert_eq!(compared(&[10], vec![Ok(fewer)]).found(), [(number, 1, 10)]);
    }

    #[test]
    fn invariant_04_doubled_rows_are_found_and_a_broken_table_is_an_error() {
        let double = LibraryError::Double { table: Table::Events, partition: 1, position: 13 };
        let twice = "the library holds a row twice, or out of order";
        assert_eq!(compared(&[10, 13, 20], vec![Ok(message(10)), Err(double)]).found(), [(twice, 1, 13)]);
        let broken: Archived<'_> = Box::new(std::iter::once(Err(LibraryError::Stopped)));
        let mut shelf = Shelf::new("t", 1, (0, 20), broken);
        assert!(shelf.compare(&message(1), &mut Findings::default()).is_err());
    }

    fn commit(version: u64, positions: &[(u32, i64)], added: &[(Option<u32>, i64, i64)]) -> Commit {
        let added = added
            .iter()
            .map(|(partition, least, greatest)| Added { partition: *partition, positions: Some((*least, *greatest)) });
        Commit { version, positions: positions.iter().copied().collect(), added: added.collect() }
    }

    fn wrong(all: &[Commit]) -> Vec<(&'static str, i32, i64)> {
        let mut findings = Findings::default();
        commits("t", all, &mut findings);
        assert_eq!(findings.counted("commits"), all.len() as u64);
        findings.found()
    }

    #[test]
    fn invariant_04_a_commit_that_adds_rows_outside_its_positions_is_found() {
        let first = commit(0, &[(0, 9), (1, 4)], &[(Some(0), 0, 9), (Some(1), 2, 4)]);
        let outside = "a commit adds rows outside of (previous position, position]";
        let second = |added: &[(Option<u32>, i64, i64)]| [first.clone(), commit(1, &[(0, 20)], added)];
        assert_eq!(wrong(&second(&[(Some(0), 10, 20)])), []);
        assert_eq!(wrong(&second(&[])), []);
        assert_eq!(wrong(&second(&[(Some(0), -9, -2)])), [], "an import");
        assert_eq!(wrong(&second(&[(Some(0), 9, 20)])), [(outside, 0, 9)]);
        assert_eq!(wrong(&second(&[(Some(0), 15, 21)])), [(outside, 0, 15)]);
        assert_eq!(wrong(&second(&[(Some(1), 5, 6)])), [(outside, 1, 5)]);
        assert_eq!(wrong(&second(&[(None, 10, 20)])), []);
        assert_eq!(wrong(&second(&[(None, 3, 20)])), [(outside, -1, 3)]);
        let back = commit(1, &[(0, 9)], &[]);
        assert_eq!(wrong(&[first.clone(), back]), [("a commit does not move a position on", 0, 9)]);
        // Of a log that is cut off only what follows the first word on a partition is known.
        let cut = [commit(7, &[(0, 20)], &[(Some(0), 3, 20)]), commit(8, &[(0, 30)], &[(Some(0), 20, 30)])];
        assert_eq!(wrong(&cut), [(outside, 0, 20)]);
    }
}
