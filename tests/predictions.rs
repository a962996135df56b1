//! The file that `evaluate --predictions` writes.

use std::collections::BTreeMap;
use std::fs::File;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, SecondsFormat};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Subject and prediction time of each row as a score has them, and its numbers by column.
pub fn predictions(path: &str) -> Vec<((String, String), BTreeMap<String, f64>)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let subjects = batch["subject_id"].as_primitive::<Int64Type>();
        let times = batch["prediction_time"].as_primitive::<TimestampMicrosecondType>();
        let schema = batch.schema();
        let numbers = schema.fields().iter().zip(batch.columns()).filter(|(f, _)| *f.data_type() == DataType::Float64);
        let numbers: Vec<_> = numbers.map(|(f, column)| (f.name(), column.as_primitive::<Float64Type>())).collect();
        for i in 0..batch.num_rows() {
            let time = DateTime::from_timestamp_micros(times.value(i)).unwrap();
            let key = (subjects.value(i).to_string(), time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
            rows.push((key, numbers.iter().map(|(name, column)| ((*name).clone(), column.value(i))).collect()));
        }
    }
    rows
}
