//! An event batch as the value of one Kafka message: an Arrow IPC stream.
//!
//! Uncompressed here: the producer compresses (lz4), so that small messages, most of
//! which is schema, shrink too. The version travels in the header `auscult-schema`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::{EventsError, EventsView, column, schema};

/// Version of the event schema, value of the header `auscult-schema`.
pub const SCHEMA_VERSION: &str = "2";

/// One batch as an IPC stream.
///
/// # Errors
/// If Arrow cannot encode the batch.
pub fn encode(batch: &RecordBatch) -> Result<Vec<u8>, EventsError> {
    let mut writer =
        StreamWriter::try_new(Vec::with_capacity(batch.get_array_memory_size() + 4096), batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// The batch of an IPC stream, checked to have the event schema. One of version 1, which had no
/// column `implausible`, gets it, without a value.
///
/// # Errors
/// If the bytes are no IPC stream, hold no batch, or a batch of another schema.
pub fn decode(bytes: &[u8]) -> Result<RecordBatch, EventsError> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    let mut batch = reader.next().ok_or(EventsError::Empty)??;
    if batch.num_columns() == column::IMPLAUSIBLE {
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(BooleanArray::new_null(batch.num_rows())) as ArrayRef);
        batch = RecordBatch::try_new(schema(), columns)?;
    }
    EventsView::new(&batch)?;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::super::{EventKey, EventRef, EventsBuilder, Op};
    use super::*;

    #[test]
    fn encoding_is_undone_by_decoding() {
        let batch = EventsBuilder::new().finish().unwrap();
        assert_eq!(decode(&encode(&batch).unwrap()).unwrap(), batch);
    }

    #[test]
    fn a_message_of_the_first_version_is_read() {
        let event = EventRef {
            subject: None,
            time: None,
            code: "X",
            numeric_value: Some(1.0),
            text_value: None,
            unit: None,
            concept: None,
            implausible: false,
            recorded_at: 0,
            op: Op::Assert,
            event_key: EventKey([0; 16]),
            encounter_id: None,
            source: "s",
        };
        let mut builder = EventsBuilder::new();
        builder.push(&event).unwrap();
        let first = builder.finish().unwrap().project(&(0..column::IMPLAUSIBLE).collect::<Vec<_>>()).unwrap();
        let read = decode(&encode(&first).unwrap()).unwrap();
        assert_eq!(read.schema(), schema());
        assert_eq!(EventsView::new(&read).unwrap().row(0), event);
        assert!(decode(&encode(&first.project(&[0, 1]).unwrap()).unwrap()).is_err());
    }

    #[test]
    fn foreign_bytes_are_an_error() {
        assert!(decode(b"").is_err());
        assert!(decode(b"no arrow at all").is_err());
    }
}
