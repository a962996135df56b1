//! What the case library holds of a partition, folded into its state.
//!
//! Promises the state that the rows leave in their order, and a bound on the memory that this takes: a history of more
//! than [`ROWS_AT_ONCE`] rows is read in several passes, each of which folds the rows of a share of the subjects and
//! lets those go to rest who may. All passes read the table at one version, and fold every tick. A subject's state, and
//! what links say of it, follow from its own rows and the ticks alone: who is folded in which pass leaves no trace.

use super::RoleError;
use crate::events::{EventsView, Micros, SubjectId};
use crate::features::Fold;
use crate::kafka::NextOffset;
use crate::library::{History, Library, Table, positions};
use crate::models::mix;

/// Rows of a partition whose state is in memory before inactive subjects leave it: at about 100 bytes of state a row
/// some 800 MB, and several partitions are recovered at once, one a core. Those who stay in memory come on top.
pub(super) const ROWS_AT_ONCE: u64 = 8_000_000;

/// What bounds the memory of a replay.
#[derive(Copy, Clone, Debug)]
pub(super) struct Bounds {
    /// Rows that are folded in one pass, about.
    pub(super) rows: u64,
    /// For how long nothing must have become known of who goes to rest, as `limits.inactive` says.
    pub(super) inactive: Micros,
}

/// A partition's history, folded.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) fold: Fold,
    /// Rows of the partition that were folded.
    pub(super) rows: u64,
    /// How often the history was read; after one pass nobody went to rest.
    pub(super) passes: u64,
}

/// Folds the library's rows of a partition that lie before `next`, from the `empty` state on. `beat` is called as it
/// goes on.
pub(super) async fn replay(
    library: &Library,
    partition: u32,
    next: NextOffset,
    bounds: Bounds,
    empty: impl Fn() -> Fold,
    beat: impl Fn(),
) -> Result<Replayed, RoleError> {
    let Some(snapshot) = library.snapshot(Table::Events).await? else {
        return Ok(Replayed { fold: empty(), rows: 0, passes: 0 });
    };
    let passes = snapshot.history(partition)?.rows().div_ceil(bounds.rows.max(1)).max(1);
    let (mut state, mut rows) = (None::<Fold>, 0);
    for pass in 0..passes {
        let mut fold = empty();
        let is_of_pass = |subject| pass_of(subject, passes) == pass;
        rows = fold_some(snapshot.history(partition)?, next, &mut fold, is_of_pass, &beat).await?;
        if passes > 1 {
            // All that was folded is archived.
            fold.rest(fold.inactive_since(bounds.inactive), next.0 - 1);
        }
        match &mut state {
            Some(state) => state.absorb(fold),
            None => state = Some(fold),
        }
    }
    Ok(Replayed { fold: state.unwrap_or_else(empty), rows, passes })
}

/// In which of so many passes a subject is folded. The pseudonym's low bits choose the partition: they are mixed.
fn pass_of(subject: SubjectId, passes: u64) -> u64 {
    mix(subject.0 as u64) % passes
}

/// Folds the rows before `next` of those subjects that `is_wanted` names, and of nobody; returns how many there are of
/// all subjects.
async fn fold_some(
    mut history: History,
    next: NextOffset,
    fold: &mut Fold,
    is_wanted: impl Fn(SubjectId) -> bool,
    beat: impl Fn(),
) -> Result<u64, RoleError> {
    let mut rows = 0;
    while let Some(batch) = history.next().await? {
        beat();
        let view = EventsView::new(&batch)?;
        for (row, &position) in positions(&batch)?.iter().enumerate() {
            if position >= next.0 {
                return Ok(rows);
            }
            if view.subject(row).is_none_or(&is_wanted) {
                fold.at(position);
                fold.apply(&view.row(row), None);
            }
            rows += 1;
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use url::Url;

    use super::*;
    use crate::events::{EventKey, EventRef, EventsBuilder, JOIN, Op, SECOND, TICK};
    use crate::features::tests::oracle::{FEATURES, TRIGGERS};
    use crate::features::tests::{spec, trigger};
    use crate::library::with_position;

    const MINUTE: Micros = 60 * SECOND;

    fn empty() -> Fold {
        Fold::new(spec(FEATURES), TRIGGERS.iter().map(|text| trigger(text)).collect())
    }

    fn event(subject: i64, code: &'static str, minute: i64) -> EventRef<'static> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&subject.to_le_bytes());
        key[8..].copy_from_slice(&minute.to_le_bytes());
        EventRef {
            subject: Some(SubjectId(subject)),
            time: Some(minute * MINUTE),
            code,
            numeric_value: None,
            text_value: None,
            unit: None,
            concept: None,
            implausible: false,
            recorded_at: minute * MINUTE,
            op: Op::Assert,
            event_key: EventKey(key),
            encounter_id: None,
            source: "raw.flat-0-0#0",
        }
    }

    /// Forty patients of one bucket of four, two of three of whom leave; every tenth row is a tick. In the order of
    /// the log, whose positions are twice as far apart.
    fn log() -> Vec<EventRef<'static>> {
        let mut rows = Vec::new();
        for n in 0..40 {
            let subject = 4 * n + 1;
            let rate =
                EventRef { numeric_value: Some(80.0), unit: Some("/min"), ..event(subject, "LOINC//8867-4", n + 3) };
            rows.push(event(subject, "ENCOUNTER//ICU//START", n));
            rows.push(EventRef { text_value: Some("7 1 9"), time: None, ..event(subject, JOIN, n + 1) });
            rows.push(EventRef { concept: Some("heart_rate"), source: "raw.flat-0-1#0@9", ..rate });
            if n % 3 != 0 {
                rows.push(event(subject, "ENCOUNTER//ICU//END", n + 70));
            }
        }
        rows.sort_by_key(|row| row.recorded_at);
        let minutes: Vec<i64> = rows.iter().map(|row| row.recorded_at / MINUTE).collect();
        for (ticks, at) in (10..rows.len()).step_by(10).enumerate() {
            let of_nobody = EventRef { subject: None, numeric_value: Some(1.0), ..event(0, TICK, minutes[at]) };
            rows.insert(at + ticks, of_nobody);
        }
        rows
    }

    /// A library of this log, in two commits.
    async fn library(folder: &tempfile::TempDir) -> Library {
        let library = Library::open(&Url::from_directory_path(folder.path()).unwrap()).await.unwrap();
        let (rows, half) = (log(), 70);
        for part in [0..half, half..rows.len()] {
            let message = |place: usize| {
                let mut builder = EventsBuilder::new();
                builder.push(&rows[place]).unwrap();
                with_position(&builder.finish().unwrap(), 0, 2 * place as i64).unwrap()
            };
            let last = BTreeMap::from([(0, 2 * part.end as i64 - 1)]);
            library.append(Table::Events, part.map(message).collect(), &last).await.unwrap();
        }
        library
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn invariant_03_passes_leave_the_state_of_one_and_who_may_rests() {
        let folder = tempfile::tempdir().unwrap();
        let library = library(&folder).await;
        let all = log().len() as u64;
        // The whole log, and up to a row within each commit.
        for next in [2 * all as i64, 201, 64] {
            let read = async |rows, inactive| {
                let (beats, bounds) = (Cell::new(0), Bounds { rows, inactive });
                let beat = || beats.set(beats.get() + 1);
                let replayed = replay(&library, 0, NextOffset(next), bounds, empty, beat).await.unwrap();
                assert!(replayed.passes == all.div_ceil(rows) && beats.get() >= replayed.passes);
                replayed
            };
            let mut expected = empty();
            for (row, position) in log().iter().zip((0..next).step_by(2)) {
                expected.at(position);
                expected.apply(row, None);
            }
            let folded = (next as u64).div_ceil(2);
            for rows in [all, all - 1, 40, 13] {
                let whole = read(rows, Micros::MAX).await;
                assert_eq!((whole.rows, whole.fold.fingerprint()), (folded, expected.fingerprint()), "{rows} at once");
                assert_eq!((whole.fold.resting(), whole.fold.bytes()), (0, expected.bytes()));
                let rested = read(rows, 5 * MINUTE).await;
                let may = if rows < all { expected.restful(expected.inactive_since(5 * MINUTE)) } else { 0 };
                assert_eq!((rested.rows, rested.fold.resting()), (folded, may));
                assert_eq!(rested.fold.subjects() + may, expected.subjects());
                assert_eq!((rested.fold.clock(), rested.fold.known()), (expected.clock(), expected.known()));
                assert_eq!(may > 0, rows < all && next > 250, "{may} at {next}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_empty_library_is_an_empty_state() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(&Url::from_directory_path(folder.path()).unwrap()).await.unwrap();
        let bounds = Bounds { rows: 1, inactive: 0 };
        let none = replay(&library, 0, NextOffset(9), bounds, empty, || ()).await.unwrap();
        assert_eq!((none.rows, none.fold.fingerprint()), (0, empty().fingerprint()));
    }

    #[test]
    fn passes_share_every_bucket_evenly() {
        for bucket in 0..4 {
            for pass in 0..4 {
                let count = (0..40_000).filter(|i| pass_of(SubjectId(i * 4 + bucket), 4) == pass).count();
                assert!((9_500..10_500).contains(&count), "{count} of bucket {bucket} in pass {pass}");
            }
        }
    }
}
