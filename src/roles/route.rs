//! Event rows to the partitions that own their subjects.

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Int64Type;

use crate::events::{self, EventsError, SubjectId, bucket, column};
use crate::kafka::Outbox;

/// Splits a batch by owner partition, keeping the order of the rows within each.
/// Element `p` holds the rows of partition `p`; rows without subject go nowhere.
///
/// # Errors
/// If the batch is no event batch.
pub(super) fn by_owner(batch: &RecordBatch, partitions: u32) -> Result<Vec<RecordBatch>, EventsError> {
    let subjects =
        batch.column(column::SUBJECT_ID).as_primitive_opt::<Int64Type>().ok_or(EventsError::Column("subject_id"))?;
    let mut rows: Vec<Vec<u32>> =
        vec![Vec::with_capacity(batch.num_rows() / partitions.max(1) as usize + 1); partitions as usize];
    for (row, subject) in subjects.iter().enumerate() {
        if let Some(subject) = subject {
            rows[bucket(SubjectId(subject), partitions) as usize].push(row as u32);
        }
    }
    rows.into_iter().map(|rows| Ok(take_record_batch(batch, &UInt32Array::from(rows))?)).collect()
}

/// Adds rows to `outbox` as messages of one partition of the log of record, whose topic has the index
/// `topic` there, each of at most `bytes` bytes unless a single row is longer.
///
/// # Errors
/// If Arrow cannot encode them.
pub(super) fn push(
    outbox: &mut Outbox,
    topic: usize,
    partition: usize,
    rows: &RecordBatch,
    bytes: usize,
    timestamp_ms: Option<i64>,
) -> Result<(), EventsError> {
    let mut messages = Vec::new();
    encode_bounded(rows, bytes, &mut messages)?;
    for message in &messages {
        let headers = vec![("auscult-schema", events::SCHEMA_VERSION.to_owned())];
        outbox.push(topic, &[], message).to_partition(partition as i32).with_headers(headers);
        if let Some(timestamp_ms) = timestamp_ms {
            outbox.at(timestamp_ms);
        }
    }
    Ok(())
}

/// Encodes rows as one message or, where that would be longer than `bytes`, as several.
/// A single row is one message however long.
///
/// # Errors
/// If Arrow cannot encode them.
fn encode_bounded(batch: &RecordBatch, bytes: usize, out: &mut Vec<Vec<u8>>) -> Result<(), EventsError> {
    if batch.num_rows() == 0 {
        return Ok(());
    }
    let encoded = events::encode(batch)?;
    if encoded.len() <= bytes || batch.num_rows() == 1 {
        out.push(encoded);
        return Ok(());
    }
    let parts = encoded.len().div_ceil(bytes).clamp(2, batch.num_rows());
    let rows = batch.num_rows().div_ceil(parts);
    for start in (0..batch.num_rows()).step_by(rows) {
        encode_bounded(&batch.slice(start, rows.min(batch.num_rows() - start)), bytes, out)?;
    }
    Ok(())
}

/// `rows`, then `ticks`.
///
/// # Errors
/// If Arrow cannot join them.
pub(super) fn followed_by(rows: RecordBatch, ticks: Option<&RecordBatch>) -> Result<RecordBatch, EventsError> {
    match ticks {
        None => Ok(rows),
        Some(ticks) if rows.num_rows() == 0 => Ok(ticks.clone()),
        Some(ticks) => Ok(concat_batches(&events::schema(), [&rows, ticks])?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventKey, EventRef, EventsBuilder, EventsView, Op};

    fn batch(subjects: &[Option<i64>], text: &str) -> RecordBatch {
        let mut builder = EventsBuilder::new();
        for subject in subjects {
            builder
                .push(&EventRef {
                    subject: subject.map(SubjectId),
                    time: None,
                    code: "X",
                    numeric_value: None,
                    text_value: Some(text),
                    unit: None,
                    concept: None,
                    implausible: false,
                    recorded_at: 0,
                    op: Op::Assert,
                    event_key: EventKey([0; 16]),
                    encounter_id: None,
                    source: "s",
                })
                .unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn every_row_goes_to_its_owner_in_order() {
        let all: Vec<Option<i64>> = (-20..20).map(Some).chain([None]).collect();
        let parts = by_owner(&batch(&all, ""), 4).unwrap();
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 40);
        for (p, part) in parts.iter().enumerate() {
            let view = EventsView::new(part).unwrap();
            let subjects: Vec<SubjectId> = (0..view.len()).map(|i| view.row(i).subject.unwrap()).collect();
            assert!(subjects.is_sorted() && subjects.iter().all(|s| bucket(*s, 4) == p as u32));
        }
    }

    #[test]
    fn long_batches_become_several_messages_with_all_rows() {
        let long = batch(&vec![Some(1); 100], &"x".repeat(1000));
        let mut messages = Vec::new();
        encode_bounded(&long, 20_000, &mut messages).unwrap();
        assert!(messages.len() > 5 && messages.iter().all(|m| m.len() <= 20_000));
        let rows: usize = messages.iter().map(|m| events::decode(m).unwrap().num_rows()).sum();
        assert_eq!(rows, 100);
        messages.clear();
        encode_bounded(&batch(&[Some(1)], &"x".repeat(50_000)), 20_000, &mut messages).unwrap();
        assert_eq!(messages.len(), 1);
    }
}
