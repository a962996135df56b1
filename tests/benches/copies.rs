//! MEDS data many times over.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Writes `copies` of the data under ids of their own: id + copy * 10^9.
pub fn copy(from: &Path, copies: i64, to: &Path) {
    let read = ParquetRecordBatchReaderBuilder::try_new(File::open(from).unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(to).unwrap(), Arc::clone(read.schema()), None).unwrap();
    drop(read);
    for copy in 0..copies {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(from).unwrap()).unwrap();
        for batch in reader.with_batch_size(64 * 1024).build().unwrap() {
            let batch = batch.unwrap();
            let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
            let at = batch.schema_ref().index_of("subject_id").unwrap();
            let ids = columns[at].as_primitive::<Int64Type>();
            columns[at] = Arc::new(Int64Array::from_iter(ids.iter().map(|id| Some(id? + copy * 1_000_000_000))));
            writer.write(&RecordBatch::try_new(batch.schema(), columns).unwrap()).unwrap();
        }
    }
    writer.close().unwrap();
}
