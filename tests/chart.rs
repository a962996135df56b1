//! A small site, and charts for it: heart rates, and lactates that are predicted from.

use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

const FEATURES: &str = r#"
[[feature]]
concepts = ["lactate", "heart_rate"]
windows = ["24h"]
aggregates = ["last"]
"#;

/// The windows of a label that something comes within a day.
const DAY: &str = r#"
trigger: prediction

windows:
  input:
    start: null
    end: trigger
    start_inclusive: true
    end_inclusive: true
    index_timestamp: end
  target:
    start: trigger
    end: start + 24h
    start_inclusive: false
    end_inclusive: true
    label: LABEL
"#;

/// The ACES file of that label, which is one of these predicates.
pub fn within_a_day(predicates: &str, label: &str) -> String {
    format!("{predicates}{}", DAY.replace("LABEL", label))
}

/// A site with the hospital's concepts and rules, these two features, and the files of its tasks.
pub fn site(dir: &Path, tasks: &[(&str, &str)]) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/hospital");
    std::fs::create_dir_all(dir.join("tasks")).unwrap();
    for name in ["auscult.toml", "concepts.csv", "normalize.sql"] {
        std::fs::copy(from.join(name), dir.join(name)).unwrap();
    }
    std::fs::write(dir.join("features.toml"), FEATURES).unwrap();
    for (name, text) in tasks {
        std::fs::write(dir.join("tasks").join(name), text).unwrap();
    }
    dir.to_owned()
}

/// A line that something was so many hours after the first of March, and was known at once.
pub fn line(patient: &str, hour: i64, what: Value) -> String {
    let start: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
    let time = (start + TimeDelta::hours(hour)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut record = json!({"patient": patient, "time": time, "recorded": time});
    record.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
    format!("{record}\n")
}

pub fn heart_rate(patient: &str, hour: i64, value: u32) -> String {
    line(patient, hour, json!({"system": "http://loinc.org", "code": "8867-4", "value": value, "unit": "/min"}))
}

pub fn lactate(patient: &str, hour: i64, value: u32) -> String {
    line(patient, hour, json!({"system": "http://loinc.org", "code": "2524-7", "value": value, "unit": "mmol/L"}))
}
