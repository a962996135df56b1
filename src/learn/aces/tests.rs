//! ACES against upstream: 80 random tasks whose realizations `es-aces` 0.7.3 computed, and
//! its own sample tasks on public data where the shared data folder is there.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::events::{Codes, ColumnTest, DAY, Fact, HOUR, Micros};
use crate::settings::{Problem, TextFile};

/// One synthetic task and record; times of events in hours, of rows in minutes.
#[derive(serde::Deserialize)]
struct Golden {
    yaml: String,
    events: Vec<(i64, Option<i64>, String, Option<f32>)>,
    rows: Vec<(i64, i64, Option<i64>, Option<i64>)>,
}

fn config(yaml: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(&TextFile { name: "tasks/t.yaml".to_owned(), text: yaml.to_owned() })
}

/// Facts of (time, code, value), and their codes.
fn facts<'a>(events: impl IntoIterator<Item = (Option<Micros>, &'a str, Option<f32>)>) -> (Codes, Vec<Fact>) {
    let mut codes = Codes::default();
    let facts = events.into_iter().map(|(time, code, value)| Fact {
        time,
        code: codes.number(code, 0),
        value: value.unwrap_or(f32::NAN),
    });
    let facts = facts.collect();
    (codes, facts)
}

/// Labels of one subject as (prediction time, value).
fn labels(config: &Config, events: &[(Option<Micros>, &str, Option<f32>)]) -> Vec<(Micros, bool)> {
    let (codes, facts) = facts(events.iter().copied());
    let labels = Evaluator::new(config).labels(&codes, &facts);
    labels.iter().map(|label| (label.prediction_time, label.value.unwrap())).collect()
}

fn golden(text: &str) {
    for (i, line) in text.lines().enumerate() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let config = config(&golden.yaml).unwrap_or_else(|problems| panic!("case {i}: {problems:?}\n{}", golden.yaml));
        let mut evaluator = Evaluator::new(&config);
        let mut found = Vec::new();
        let (codes, all) = facts(golden.events.iter().map(|e| (e.1.map(|h| h * HOUR), e.2.as_str(), e.3)));
        for subject in 1..=4 {
            let of = golden.events.iter().zip(&all).filter(|(e, _)| e.0 == subject);
            let of: Vec<Fact> = of.map(|(_, fact)| *fact).collect();
            let minutes = |us: Micros| us / (HOUR / 60);
            let rows = evaluator.realizations(&codes, &of).into_iter();
            found.extend(rows.map(|r| (subject, minutes(r.trigger_time), r.index_time.map(minutes), r.label)));
        }
        found.sort_unstable();
        assert_eq!(found, golden.rows, "case {i}\n{}", golden.yaml);
    }
}

#[test]
fn realizations_equal_those_of_upstream() {
    golden(include_str!("golden.jsonl"));
    // More cases of the same shape, made by hand for a longer run.
    if let Ok(more) = std::env::var("AUSCULT_ACES_GOLDEN") {
        golden(&std::fs::read_to_string(more).unwrap());
    }
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")).join(path);
    if !path.exists() {
        println!("skipped: shared data is absent");
    }
    path.exists().then_some(path)
}

type Owned = (Option<Micros>, String, Option<f32>);

/// Events of every subject of a MEDS file; `value` is read as `numeric_value`.
fn meds(path: &Path) -> BTreeMap<i64, Vec<Owned>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let mut subjects: BTreeMap<i64, Vec<Owned>> = BTreeMap::new();
    for batch in reader {
        let batch = batch.unwrap();
        let column = |name: &str, to: &DataType| batch.column_by_name(name).map(|column| cast(column, to).unwrap());
        let subject = column("subject_id", &DataType::Int64).unwrap();
        let time = column("time", &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap();
        let code = column("code", &DataType::Utf8).unwrap();
        let value = column("numeric_value", &DataType::Float32).or_else(|| column("value", &DataType::Float32));
        for i in 0..batch.num_rows() {
            let time = time.as_primitive::<TimestampMicrosecondType>();
            let value = value.as_ref().map(|v| v.as_primitive::<Float32Type>()).filter(|v| v.is_valid(i));
            subjects.entry(subject.as_primitive::<Int64Type>().value(i)).or_default().push((
                time.is_valid(i).then(|| time.value(i)),
                code.as_string::<i32>().value(i).to_owned(),
                value.map(|v| v.value(i)),
            ));
        }
    }
    subjects
}

/// Labels, positives and subjects, and every row as the oracle's `content_sha256` is made of.
fn counts(config: &Config, subjects: &BTreeMap<i64, Vec<Owned>>) -> (u64, u64, u64, String) {
    let mut evaluator = Evaluator::new(config);
    let mut codes = Codes::default();
    let (mut labels, mut positives, mut with) = (0, 0, 0);
    let mut lines = Vec::new();
    for (subject, events) in subjects {
        let of: Vec<Fact> = events
            .iter()
            .map(|(time, code, value)| Fact {
                time: *time,
                code: codes.number(code, 0),
                value: value.unwrap_or(f32::NAN),
            })
            .collect();
        let found = evaluator.realizations(&codes, &of);
        labels += found.len() as u64;
        positives += found.iter().filter(|row| row.label.is_some_and(|count| count > 0)).count() as u64;
        with += u64::from(!found.is_empty());
        for row in found {
            let time = row.index_time.and_then(chrono::DateTime::from_timestamp_micros).unwrap().naive_utc();
            // Python's isoformat leaves a fraction of zero out.
            let micros = if row.index_time.unwrap_or(0) % 1_000_000 == 0 {
                "%Y-%m-%dT%H:%M:%S"
            } else {
                "%Y-%m-%dT%H:%M:%S%.6f"
            };
            let value = row.label.map_or(String::new(), |count| u8::from(count > 0).to_string());
            lines.push(format!("{subject},{},{value}", time.format(micros)));
        }
    }
    lines.sort_unstable();
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(lines.join("\n").as_bytes());
    (labels, positives, with, hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Every task of upstream's samples on the MIMIC-IV demo and on upstream's own sample data:
/// the very rows that upstream gives.
#[test]
fn labels_equal_the_oracle() {
    let Some(oracle) = shared("peers/aces_labels_oracle.jsonl") else { return };
    let data = [
        ("demo1x", "data/meds/mimic_iv_demo_meds_events.parquet", "peers/aces_configs"),
        ("demo1x-unmodified", "data/meds/mimic_iv_demo_meds_events.parquet", "data/meds/aces_sample_configs"),
        ("sample-train-0", "data/meds/aces_sample_data/meds_sample/train/0.parquet", "data/meds/aces_sample_configs"),
        ("sample-train-1", "data/meds/aces_sample_data/meds_sample/train/1.parquet", "data/meds/aces_sample_configs"),
        ("sample-tuning-0", "data/meds/aces_sample_data/meds_sample/tuning/0.parquet", "data/meds/aces_sample_configs"),
        (
            "sample-held_out-0",
            "data/meds/aces_sample_data/meds_sample/held_out/0.parquet",
            "data/meds/aces_sample_configs",
        ),
    ];
    let oracle = std::fs::read_to_string(oracle).unwrap();
    let lines: Vec<serde_json::Value> = oracle.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut compared = 0;
    for (set, file, configs) in data {
        let (Some(file), Some(configs)) = (shared(file), shared(configs)) else { return };
        let subjects = meds(&file);
        for line in &lines {
            let name = line["file"].as_str().unwrap();
            let Some(task) = name.strip_prefix(set).and_then(|rest| rest.strip_prefix('/')) else { continue };
            let task = task.trim_end_matches(".parquet");
            let yaml = std::fs::read_to_string(configs.join(format!("{task}.yaml"))).unwrap();
            let found = counts(&config(&yaml).unwrap(), &subjects);
            let number = |key: &str| line[key].as_u64().unwrap();
            let expected = (
                number("labels"),
                number("positive"),
                number("subjects"),
                line["content_sha256"].as_str().unwrap().to_owned(),
            );
            assert_eq!(found, expected, "{name}");
            compared += 1;
        }
    }
    assert_eq!(compared, 36, "the oracle has other tasks than it had");
}

const MORTALITY: &str = r#"
predicates:
  death: {code: MEDS_DEATH}
trigger: _ANY_EVENT
windows:
  target: {start: trigger, end: start + 1 day, start_inclusive: false, end_inclusive: true, label: death, index_timestamp: start}
"#;

#[test]
fn a_label_is_a_count_above_zero_at_the_index_time() {
    let config = config(MORTALITY).unwrap();
    let at = |time, code| (Some(time), code, None);
    let events = [at(2 * DAY, "MEDS_DEATH"), at(0, "X"), at(DAY, "X")];
    assert_eq!(labels(&config, &events), [(0, false), (DAY, true), (2 * DAY, false)]);
    assert_eq!(labels(&config, &[]), []);
}

/// After the window, too; whether at its very start, the window says.
#[test]
fn the_next_outcome_is_the_first_from_the_start_of_the_window_on() {
    let at = |day: i64, code| (Some(day * DAY), code, None);
    let (codes, facts) = facts([at(0, "X"), at(1, "MEDS_DEATH"), at(2, "X"), at(9, "MEDS_DEATH"), at(10, "X")]);
    let told = |yaml: &str| -> Vec<(Option<Micros>, Option<Micros>)> {
        let config = config(yaml).unwrap();
        let labels = Evaluator::new(&config).labels(&codes, &facts);
        let days = |time: Option<Micros>| time.map(|time| time / DAY);
        labels.iter().map(|label| (days(label.outcome_time), days(label.next_outcome))).collect()
    };
    assert_eq!(told(MORTALITY), [(Some(1), Some(1)), (None, Some(9)), (None, Some(9)), (None, None), (None, None)]);
    let inclusive = MORTALITY.replace("start_inclusive: false", "start_inclusive: true");
    let (first, last) = ((Some(1), Some(1)), (Some(9), Some(9)));
    assert_eq!(told(&inclusive), [first, first, (None, Some(9)), last, (None, None)]);
    let later = MORTALITY.replace("start: trigger, end: start + 1 day", "start: trigger + 1 day, end: start + 1 day");
    assert_eq!(told(&later), [(None, Some(9)), (None, Some(9)), (None, Some(9)), (None, None), (None, None)]);
}

#[test]
fn a_window_that_looks_back_has_its_index_where_it_is_named() {
    let yaml = MORTALITY.replace("start: trigger, end: start + 1 day", "start: end - 1 day, end: trigger");
    let config = config(&yaml).unwrap();
    assert_eq!(labels(&config, &[(Some(5 * DAY), "X", None)]), [(4 * DAY, false)]);
}

#[test]
fn a_value_that_is_not_a_number_is_no_value() {
    let yaml = MORTALITY.replace("{code: MEDS_DEATH}", "{code: V, value_min: 1}");
    let config = config(&yaml).unwrap();
    let at = |time, value| (Some(time), "V", value);
    for (value, expected) in [(Some(2.0), true), (Some(1.0), false), (Some(f32::NAN), false), (None, false)] {
        assert_eq!(labels(&config, &[at(0, None), at(HOUR, value)])[0].1, expected);
    }
}

/// Upstream has no predicate of values alone; tasks of abnormal laboratory values want one.
#[test]
fn a_range_alone_means_any_code() {
    let yaml = MORTALITY.replace("{code: MEDS_DEATH}", "{value_min: 5, value_max: 9, value_max_inclusive: true}");
    let config = config(&yaml).unwrap();
    for (code, value, expected) in [("V", 9.0, true), ("W", 6.0, true), ("V", 5.0, false), ("V", 9.5, false)] {
        let events = [(Some(0), "X", None), (Some(HOUR), code, Some(value))];
        assert_eq!(labels(&config, &events)[0].1, expected, "{code} {value}");
    }
}

/// Both ways to write them: as upstream reads a file, and as its own class has them.
#[test]
fn other_columns_are_asked_for_as_well_as_the_code() {
    for body in ["{code: V, unit: mg, site: 3}", "{code: V, other_cols: {unit: mg, site: 3}}"] {
        let config = config(&MORTALITY.replace("{code: MEDS_DEATH}", body)).unwrap();
        let test = |column: &str, value: &str| ColumnTest { column: column.to_owned(), value: value.to_owned() };
        assert_eq!(config.tests(), [test("unit", "mg"), test("site", "3")]);
        let mut codes = Codes::default();
        for (code, passed, expected) in [("V", 3, true), ("V", 1, false), ("V", 0, false), ("W", 3, false)] {
            let fact = |time, code| Fact { time: Some(time), code, value: f32::NAN };
            let facts = [fact(0, codes.number("V", 0)), fact(HOUR, codes.number(code, passed))];
            let mut evaluator = Evaluator::new(&config);
            assert_eq!(evaluator.labels(&codes, &facts)[0].value, Some(expected), "{body} {code} {passed}");
            assert_eq!(config.absent(evaluator.occurred()).is_empty(), expected);
        }
        let keys: Vec<_> = config.problems_in_library("t.yaml").into_iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["predicates.death.other_cols.site"]);
    }
    let many: String = (0..70).map(|i| format!(", c{i}: x")).collect();
    let problems = config(&MORTALITY.replace("{code: MEDS_DEATH}", &format!("{{code: V{many}}}"))).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn a_task_without_label_gives_times_without_a_value() {
    let config = config(&MORTALITY.replace(" label: death,", "")).unwrap();
    let (codes, facts) = facts([(Some(DAY), "X", None)]);
    let found = Evaluator::new(&config).labels(&codes, &facts);
    assert_eq!(
        found,
        [Label {
            prediction_time: DAY,
            value: None,
            count: None,
            outcome_time: None,
            next_outcome: None,
            trigger_time: DAY,
            closes: found[0].closes,
            until: None,
            firsts: Vec::new(),
            values: Vec::new(),
        }]
    );
}

/// Every mistake of one file is found in one go, each with its path.
#[test]
fn every_problem_is_found_with_its_path() {
    let keys = |yaml: &str| -> Vec<String> { config(yaml).unwrap_err().into_iter().map(|p| p.key).collect() };
    let yaml = r#"
predicates:
  bad name: {code: A}
  regex: {code: {regex: "("}}
  both: {code: {regex: a, any: [b]}}
  extra: {code: A, chamber: [atrial]}
  column: {code: A, other_cols: {unit: null}}
  bare: {value_min: null}
  nested: {expr: "and(a, or(b, c))"}
  value: {code: A, value_min: high}
  _ANY_EVENT: {code: A}
trigger: 7
window: {}
windows:
  a: {start: trigger, end: start - 1h, start_inclusive: true, end_inclusive: true}
  b: {start: NULL, end: NULL, start_inclusive: true, end_inclusive: true}
  c: {start: trigger, end: a.end, start_inclusive: true}
  d: {start: trigger + 1 month, end: start -> a <- b, start_inclusive: 1, end_inclusive: true, has: {x: (1), y: "(None, None)"}}
"#;
    assert_eq!(
        keys(yaml),
        [
            "window",
            "predicates.bad name",
            "predicates.regex.code.regex",
            "predicates.both.code",
            "predicates.extra.chamber",
            "predicates.column.unit",
            "predicates.bare.code",
            "predicates.nested.expr",
            "predicates.value.value_min",
            "predicates._ANY_EVENT",
            "windows.a",
            "windows.b",
            "windows.c.end_inclusive",
            "windows.c",
            "windows.d.start",
            "windows.d.end",
            "windows.d.start_inclusive",
            "windows.d.has.x",
            "windows.d.has.y",
            "trigger",
        ]
    );
    let names = r#"
predicates:
  a: {expr: "or(b, b)"}
  b: {expr: "or(a, c)"}
  d: {code: A, static: true}
trigger: d
windows:
  w: {start: v.end, end: start -> missing, start_inclusive: true, end_inclusive: true, label: _ANY_EVENT}
"#;
    assert_eq!(
        keys(names),
        ["windows.w.label", "trigger", "windows.w.end", "predicates.b.expr", "predicates.a.expr", "predicates.b.expr"]
    );
    let circle = r#"
trigger: _ANY_EVENT
windows:
  v: {start: w.end, end: start + 1h, start_inclusive: true, end_inclusive: true}
  w: {start: v.end, end: start + 1h, start_inclusive: true, end_inclusive: true}
"#;
    assert_eq!(keys(circle), ["windows.v", "windows.w"]);
    assert_eq!(keys("trigger: [").len(), 1);
    assert_eq!(keys("just text"), ["file"]);
    assert_eq!(keys(&format!("a: {}", "[".repeat(100_000))).len(), 1);
}
