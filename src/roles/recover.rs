//! A partition's state, rebuilt when the partition is given to this process.
//!
//! First the case library up to the committed offset C or the archived position D,
//! whichever is less; then, by reading the log on from there, Kafka up to C. All of that
//! is folded without emitting. Whatever is missing in between stops the role: it is never
//! skipped (invariant 3). What that takes of memory is bounded, however long the history of a partition is: see
//! [`replay`](super::replay). A subject that rested is folded anew from the library alone, which
//! held all of it when it went to rest; one that was trimmed, also from the log after that.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::thread;

use super::replay::{Bounds, ROWS_AT_ONCE, Replayed, replay};
use super::{Context, RoleError, past};
use crate::alerts::Memory;
use crate::events::{EventsView, SubjectId};
use crate::features::Fold;
use crate::kafka::{Assigned, NextOffset, Position, read_partitions};
use crate::library::{Library, Table};

/// A partition of the log of record in the hands of this process.
#[derive(Debug)]
pub(super) struct Part {
    /// State of its subjects.
    pub(super) fold: Fold,
    /// What the alert policy remembers, by [`memory_key`].
    pub(super) memory: HashMap<String, Memory>,
    /// Offset of the next message to fold.
    pub(super) next: NextOffset,
    /// Messages before this one were scored in an earlier life: they are folded silently.
    pub(super) live: NextOffset,
}

/// Key of an alert memory in `auscult.alert-state`.
pub(super) fn memory_key(task: &str, subject: i64, encounter: Option<&str>) -> String {
    format!("{task}/{subject}/{}", encounter.unwrap_or(""))
}

/// Where reading of the log starts: after what the library gave, if Kafka still has that.
///
/// `committed` is C, `archived` is D. A group that never committed starts live at the log's
/// beginning, whatever the archive holds. The second is where it goes live.
///
/// # Errors
/// If Kafka no longer has it.
pub fn start(assigned: &Assigned, archived: Option<Position>) -> Result<(NextOffset, NextOffset), RoleError> {
    let live = assigned.resume()?;
    let after_library = archived.map_or(NextOffset(0), Position::next).min(live);
    if assigned.committed.is_none() && archived.is_none() {
        return Ok((live, live));
    }
    Ok((assigned.check(after_library)?, live))
}

/// Rebuilds the state of assigned partitions, several at a time; reading goes on at [`Part::next`].
/// `beat` is called as it goes on.
pub(super) fn recover(
    context: &Context,
    library: &Library,
    assigned: &[Assigned],
    beat: impl Fn() + Sync,
) -> Result<BTreeMap<i32, Part>, RoleError> {
    let archived = context.runtime.block_on(library.positions(Table::Events))?;
    let numbers: Vec<i32> = assigned.iter().map(|one| one.partition.number).collect();
    let mut memories = memories(context, &numbers)?;
    let bounds = Bounds { rows: ROWS_AT_ONCE, inactive: context.site.settings.limits.inactive.as_micros() as i64 };
    let recovered = |one: &Assigned| {
        let number = one.partition.number;
        let (next, live) = start(one, archived.get(&(number as u32)).map(|&d| Position(d)))?;
        let replayed = replay(library, number as u32, next, bounds, || context.site.fold(), &beat);
        let Replayed { fold, rows, passes } = context.runtime.block_on(replayed)?;
        let subjects = fold.subjects();
        tracing::info!(partition = number, rows, passes, subjects, from = next.0, live = live.0, "state recovered");
        Ok((number, Part { fold, memory: HashMap::new(), next, live }))
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut parts = thread::scope(|scope| {
        let share = |worker| assigned.iter().skip(worker).step_by(workers).map(recovered).collect();
        let threads: Vec<_> =
            (0..workers.min(assigned.len())).map(|worker| scope.spawn(move || share(worker))).collect();
        let mut parts = BTreeMap::new();
        for thread in threads {
            let done: Result<Vec<(i32, Part)>, RoleError> =
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            parts.extend(done?);
        }
        Ok::<_, RoleError>(parts)
    })?;
    for (number, part) in &mut parts {
        part.memory = memories.remove(number).unwrap_or_default();
    }
    Ok(parts)
}

/// Takes subjects that rest, or were trimmed, back into the state of a partition, before the row at [`Part::next`];
/// a message there or later must have been read. `beat` is called as it goes on.
pub(super) fn wake(
    context: &Context,
    library: &Library,
    partition: i32,
    part: &mut Part,
    subjects: &[SubjectId],
    beat: &dyn Fn(),
) -> Result<(), RoleError> {
    let last = part.next.0 - 1;
    // Of those that rest the library holds all.
    let is_in_library = !part.fold.has_any(subjects);
    let archived = if is_in_library { Some(last) } else { past::archived(context, library, partition)? };
    let mut told = context.site.fold();
    past::read(context, library, partition, subjects.to_vec(), (archived, last), |batch, places| {
        beat();
        let view = EventsView::new(batch)?;
        for (row, &(position, _)) in places.iter().enumerate().take_while(|(_, place)| place.0 <= last) {
            if view.subject(row).is_some_and(|subject| subjects.contains(&subject)) {
                told.at(position);
                told.apply(&view.row(row), None);
            }
        }
        Ok(())
    })?;
    Ok(part.fold.wake(subjects, told)?)
}

/// What the alert policy remembers of the subjects of these partitions.
fn memories(context: &Context, numbers: &[i32]) -> Result<HashMap<i32, HashMap<String, Memory>>, RoleError> {
    let settings = &context.site.settings;
    let mut memories: HashMap<i32, HashMap<String, Memory>> = HashMap::new();
    let mut unread = 0;
    let topic = &settings.topics.alert_state;
    read_partitions(&settings.kafka, topic, numbers, settings.kafka.deadline, |number, key, value| {
        let Ok(key) = std::str::from_utf8(key) else { return unread += 1 };
        let memory = memories.entry(number).or_default();
        match value.map(serde_json::from_slice::<Memory>) {
            Some(Ok(one)) => {
                memory.insert(key.to_owned(), one);
            }
            Some(Err(_)) => unread += 1,
            None => {
                memory.remove(key);
            }
        }
    })?;
    if unread > 0 {
        tracing::error!(unread, "alert memories cannot be read; those subjects may be alerted again");
    }
    Ok(memories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Partition;

    fn assigned(committed: Option<i64>, low: i64, high: i64) -> Assigned {
        let partition = Partition { topic: "auscult.events".into(), number: 0 };
        Assigned { partition, committed: committed.map(NextOffset), low, high }
    }

    fn at(next: i64, live: i64) -> (NextOffset, NextOffset) {
        (NextOffset(next), NextOffset(live))
    }

    #[test]
    fn reading_starts_after_the_library_and_lives_from_the_committed_offset() {
        assert_eq!(start(&assigned(Some(50), 0, 90), Some(Position(29))).unwrap(), at(30, 50));
        assert_eq!(start(&assigned(Some(50), 0, 90), None).unwrap(), at(0, 50));
        assert_eq!(start(&assigned(Some(50), 0, 90), Some(Position(70))).unwrap(), at(50, 50));
        assert_eq!(start(&assigned(None, 0, 90), Some(Position(70))).unwrap(), at(0, 0));
        assert_eq!(start(&assigned(None, 7, 90), None).unwrap(), at(7, 7));
    }

    #[test]
    fn invariant_03_a_gap_between_library_and_log_stops_the_role() {
        let error = start(&assigned(Some(50), 40, 90), Some(Position(29))).unwrap_err().to_string();
        assert!(error.contains("auscult.events-0") && error.contains("30") && error.contains("40"), "{error}");
        assert!(start(&assigned(Some(50), 40, 90), None).is_err());
        assert!(start(&assigned(Some(30), 40, 90), Some(Position(60))).is_err());
    }
}
