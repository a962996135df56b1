//! What the log of record has told of some subjects of a partition: the library as far as it reaches, and the log
//! from there on. A history that is in neither any more stops the role.

use arrow::array::RecordBatch;

use super::{Context, RoleError};
use crate::events::{self, EventsError, SubjectId};
use crate::kafka::read_range;
use crate::library::{Library, Table, addresses};

/// How far the library reaches in a partition, if it holds anything of it.
///
/// # Errors
/// If the library cannot be read.
pub(super) fn archived(context: &Context, library: &Library, partition: i32) -> Result<Option<i64>, RoleError> {
    let positions = context.runtime.block_on(library.positions(Table::Events))?;
    Ok(positions.get(&(partition as u32)).copied())
}

/// Gives rows of a partition in their order, up to the position `last`, with the place of each: those of `subjects`
/// from the library up to the position `archived`, and all from the log after that. Some that stand after `last` may
/// be among them; a message that does must be there.
///
/// # Errors
/// If the library or the log cannot be read, no longer holds a part, or is silent for as long as `kafka.deadline`.
pub(super) fn read(
    context: &Context,
    library: &Library,
    partition: i32,
    subjects: Vec<SubjectId>,
    (archived, last): (Option<i64>, i64),
    mut each: impl FnMut(&RecordBatch, &[(i64, i32)]) -> Result<(), EventsError>,
) -> Result<(), RoleError> {
    let settings = &context.site.settings;
    let topic = &settings.topics.events;
    // What another process archives meanwhile is read from the log.
    let from = archived.map(|archived| archived + 1);
    let end = from.unwrap_or(0).min(last.saturating_add(1));
    context.runtime.block_on(async {
        let mut history = library.history_of(partition as u32, subjects).await?;
        while let Some(batch) = history.next().await? {
            let (positions, rows) = addresses(&batch)?;
            let places: Vec<(i64, i32)> = positions.iter().copied().zip(rows.iter().copied()).collect();
            let before = places.partition_point(|place| place.0 < end);
            each(&batch.slice(0, before), &places[..before])?;
            if before < places.len() {
                break;
            }
        }
        Ok::<_, RoleError>(())
    })?;
    if from.is_some_and(|from| from > last) {
        return Ok(());
    }
    let mut failed = None;
    read_range(&settings.kafka, topic, partition, (from, last), settings.kafka.deadline, |offset, bytes| {
        if failed.is_some() {
            return;
        }
        let done = events::decode(bytes).and_then(|batch| {
            let places: Vec<(i64, i32)> = (0..batch.num_rows() as i32).map(|row| (offset, row)).collect();
            each(&batch, &places)
        });
        failed = done.err().map(|cause| RoleError::Log { topic: topic.clone(), partition, offset, cause });
    })?;
    failed.map_or(Ok(()), Err)
}
