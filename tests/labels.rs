//! Labels of ACES tasks, through the command: those that es-aces 0.7.3 gives (`peers/aces_oracle.py`).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, NaiveDateTime};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::peer::{Place, shared};

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/aces/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What es-aces says of the tasks over some data.
fn oracle(data: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("oracle.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["data"] == data).collect()
}

/// The events of the fixture as a MEDS file, of the subjects that are wanted.
fn events(path: &Path, wanted: impl Fn(i64) -> bool) {
    let mut table = csv::Reader::from_path(fixture("events.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let rows: Vec<_> = rows.iter().filter(|row| wanted(row[0].parse().unwrap())).collect();
    let time = |text: &str| {
        let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").ok();
        time.map(|time| time.and_utc().timestamp_micros())
    };
    let texts = |column: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter(rows.iter().map(|row| Some(&row[column]).filter(|text| !text.is_empty()))))
    };
    let columns: [(&str, ArrayRef); 6] = [
        ("subject_id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row[0].parse::<i64>().unwrap())))),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| time(&row[1]))))),
        ("code", texts(2)),
        ("numeric_value", Arc::new(Float32Array::from_iter(rows.iter().map(|row| row[3].parse::<f32>().ok())))),
        ("unit", texts(4)),
        ("site", texts(5)),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A file of labels as the oracle tells of it; its columns must be those of the MEDS `LabelSchema`.
fn told(path: &str) -> Value {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let kinds: Vec<_> =
        reader.schema().fields().iter().map(|f| (f.name().as_str(), f.data_type().clone(), f.is_nullable())).collect();
    let schema = [
        ("subject_id", DataType::Int64, false),
        ("prediction_time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        ("boolean_value", DataType::Boolean, false),
    ];
    assert!(kinds == schema || kinds == schema[..2], "{kinds:?}");
    let has_value = kinds.len() == 3;
    let (mut lines, mut subjects, mut positives) = (Vec::new(), Vec::new(), 0);
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let ids = batch["subject_id"].as_primitive::<Int64Type>();
        let times = batch["prediction_time"].as_primitive::<TimestampMicrosecondType>();
        let values: Option<&BooleanArray> = batch.column_by_name("boolean_value").map(|column| column.as_boolean());
        for i in 0..ids.len() {
            let time = DateTime::from_timestamp_micros(times.value(i)).unwrap().naive_utc();
            // As Python's isoformat, which leaves a fraction of zero out.
            let time = if times.value(i) % 1_000_000 == 0 {
                time.format("%Y-%m-%dT%H:%M:%S").to_string()
            } else {
                time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
            };
            let value = values.map(|values| u8::from(values.value(i)));
            positives += u64::from(value.unwrap_or(0));
            lines.push(format!("{},{time},{}", ids.value(i), value.map_or(String::new(), |value| value.to_string())));
            subjects.push(ids.value(i));
        }
    }
    lines.sort_unstable();
    subjects.sort_unstable();
    subjects.dedup();
    let hash = sha2::Sha256::digest(lines.join("\n").as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let positives = has_value.then_some(positives);
    json!({"labels": lines.len(), "positives": positives, "subjects": subjects.len(), "content_sha256": hash})
}

/// Runs `label` and compares what it prints and writes with the oracle.
fn compare(place: &Place, task: &str, expected: &Value, from: &[&str]) {
    let out = place.path("labels.parquet");
    let printed = place.json(&[["label", "--aces", task, "--out", &out].as_slice(), from].concat());
    let told = told(&out);
    for key in ["labels", "positives", "subjects"] {
        assert_eq!((&printed[key], &told[key]), (&expected[key], &expected[key]), "{task}: {key}");
    }
    assert_eq!(told["content_sha256"], expected["content_sha256"], "{task}");
}

#[test]
fn labels_of_meds_data_and_of_the_library_are_those_of_es_aces() {
    let place = Place::new("hospital", "localhost:1");
    let file = place.path("events.parquet");
    events(Path::new(&file), |_| true);
    // A data set in two files, too.
    std::fs::create_dir_all(place.path("set/data/train")).unwrap();
    events(Path::new(&place.path("set/data/train/0.parquet")), |subject| subject % 3 == 0);
    events(Path::new(&place.path("set/data/train/1.parquet")), |subject| subject % 3 != 0);
    place.json(&["import", "--format", "meds", &file]);
    let oracle = oracle("events");
    assert_eq!(oracle.len(), 4);
    for expected in oracle {
        let name = expected["task"].as_str().unwrap();
        let task = fixture(&format!("{name}.yaml"));
        compare(&place, &task, &expected, &["--meds", &file]);
        compare(&place, &task, &expected, &["--meds", &place.path("set")]);
        if name != "kidney" {
            compare(&place, &task, &expected, &[]);
        }
    }
}

#[test]
fn a_column_that_the_data_lack_is_named() {
    let place = Place::new("hospital", "localhost:1");
    let file = place.path("events.parquet");
    events(Path::new(&file), |_| true);
    place.json(&["import", "--format", "meds", &file]);
    let run = |task: &str, from: &[&str]| {
        let done = place.run(&[["label", "--aces", task, "--out", "x.parquet"].as_slice(), from].concat());
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    // The library keeps a unit, and no site.
    let (code, said) = run(&fixture("kidney.yaml"), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("predicates.north.other_cols.site: is neither"), "{said}");
    let text = std::fs::read_to_string(fixture("kidney.yaml")).unwrap().replace(", site: north", "");
    let task = place.file("kidney.yaml", text.as_bytes());
    let labels = |from: &[&str]| {
        let out = place.path("labels.parquet");
        place.json(&[["label", "--aces", &task, "--out", &out].as_slice(), from].concat());
        told(&out)
    };
    let direct = labels(&["--meds", &file]);
    assert!(direct["positives"].as_u64().unwrap() > 100, "{direct}");
    assert_eq!(labels(&[]), direct);
    let task = place.file("ward.yaml", text.replace("unit: mg/dL", "ward: 3").as_bytes());
    let (code, said) = run(&task, &["--meds", &file]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no column 'ward'"), "{said}");
    assert!(!Path::new(&place.path("x.parquet")).exists());
}

#[test]
fn labels_that_nothing_can_be_learned_from_are_written_with_a_warning() {
    let place = Place::new("hospital", "localhost:1");
    let file = place.path("events.parquet");
    events(Path::new(&file), |_| true);
    let said = |task: &str| {
        let out = place.path("labels.parquet");
        let done = place.run(&["label", "--aces", task, "--out", &out, "--meds", &file]);
        assert!(done.status.success() && Path::new(&out).exists());
        String::from_utf8(done.stderr).unwrap()
    };
    let text = std::fs::read_to_string(fixture("unknown_code.yaml")).unwrap();
    assert!(said(&fixture("unknown_code.yaml")).contains("every label is false"));
    assert!(
        said(&fixture("unknown_code.yaml")).contains("occur nowhere, so compare their codes with the data: death\n")
    );
    let nobody = place.file("nobody.yaml", text.replace("^HOSPITAL_ADMISSION", "^ADMISSION").as_bytes());
    assert!(said(&nobody).contains("there is no label"));
    assert!(said(&nobody).contains(": admission, death\n"));
    let all =
        place.file("all.yaml", text.replace("code: DEATH", "value_min: 0").replace("30 days", "9 days").as_bytes());
    assert!(said(&all).contains("every label is true"));
    assert_eq!(said(&fixture("mortality.yaml")), "");
}

/// The tasks of upstream with the codes of the MIMIC-IV demo.
#[test]
fn labels_of_the_mimic_demo_are_those_of_es_aces() {
    let (Some(data), Some(tasks)) =
        (shared("data/meds/mimic_iv_demo_meds_events.parquet"), shared("peers/aces_configs"))
    else {
        return;
    };
    let place = Place::new("hospital", "localhost:1");
    let data = data.display().to_string();
    let oracle = oracle("mimic_iv_demo_meds_events");
    assert_eq!(oracle.len(), 6);
    place.json(&["import", "--format", "meds", &data]);
    for expected in oracle {
        let task = tasks.join(format!("{}.yaml", expected["task"].as_str().unwrap())).display().to_string();
        compare(&place, &task, &expected, &["--meds", &data]);
        compare(&place, &task, &expected, &[]);
    }
}
