//! An event batch as the value of one Kafka message: an Arrow IPC stream.
//!
//! Uncompressed here: the producer compresses (lz4), so that small messages, most of
//! which is schema, shrink too. The version travels in the header `auscult-schema`.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::{EventsError, EventsView};

/// Version of the event schema, value of the header `auscult-schema`.
pub const SCHEMA_VERSION: &str = "1";

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

/// The batch of an IPC stream, checked to have the event schema.
///
/// # Errors
/// If the bytes are no IPC stream, hold no batch, or a batch of another schema.
pub fn decode(bytes: &[u8]) -> Result<RecordBatch, EventsError> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    let batch = reader.next().ok_or(EventsError::Empty)??;
    EventsView::new(&batch)?;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::super::EventsBuilder;
    use super::*;

    #[test]
    fn encoding_is_undone_by_decoding() {
        let batch = EventsBuilder::new().finish().unwrap();
        assert_eq!(decode(&encode(&batch).unwrap()).unwrap(), batch);
    }

    #[test]
    fn foreign_bytes_are_an_error() {
        assert!(decode(b"").is_err());
        assert!(decode(b"no arrow at all").is_err());
    }
}
