//! Several identifiers of one patient, on a real broker with processes of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use auscult::events::{EventsView, Pseudonyms, SubjectId, Told, bucket, decode};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::peer::{Place, Read, read_settled, read_until, shared};

const HISTORY: usize = 1500;
const ASSIGNER: &str = "physionet2012";

/// The records of the first stays of PhysioNet 2012, by stay.
fn stays(stays: usize) -> Option<Vec<Vec<Value>>> {
    let (tool, data) = (shared("tools/p12_events.py")?, shared("data/physionet2012")?);
    let mut command = Command::new("python3");
    command.arg(tool).arg(data.join("physionet2012_set-a_long.csv.gz")).arg(data.join("Outcomes-a.txt"));
    let output =
        command.args(["--stays", &stays.to_string()]).output().expect("python3, which the data's converter needs");
    assert!(output.status.success());
    let mut order: Vec<String> = Vec::new();
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let patient = record["patient"].as_str().unwrap().to_owned();
        if !all.contains_key(&patient) {
            order.push(patient.clone());
        }
        all.entry(patient).or_default().push(record);
    }
    Some(order.iter().map(|patient| all.remove(patient).unwrap()).collect())
}

fn file(place: &Place, name: &str, records: &[Value]) -> String {
    let path = PathBuf::from(place.path(name));
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path.display().to_string()
}

fn of(patient: &str, records: &[Value]) -> Vec<Value> {
    records
        .iter()
        .map(|record| {
            let mut record = record.clone();
            record["patient"] = json!(patient);
            record
        })
        .collect()
}

fn known(record: &Value) -> chrono::DateTime<chrono::FixedOffset> {
    chrono::DateTime::parse_from_rfc3339(record["recorded"].as_str().unwrap()).unwrap()
}

/// Codes and sources of a subject's rows in the log of record.
fn rows(log: &[Read], subject: SubjectId) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for message in log {
        let batch = decode(&message.value).unwrap();
        let view = EventsView::new(&batch).unwrap();
        for row in (0..view.len()).map(|i| view.row(i)).filter(|row| row.subject == Some(subject)) {
            rows.push((row.code.to_owned(), row.source.to_owned()));
        }
    }
    rows
}

fn has(log: &[Read], subject: SubjectId, wanted: impl Fn(&str, Told<'_>) -> bool) -> usize {
    rows(log, subject).iter().filter(|(code, source)| wanted(code, Told::of(source))).count()
}

#[test]
fn after_a_merge_both_identifiers_lead_to_one_subject_and_an_unmerge_parts_them() {
    let Some(broker) = Broker::start() else { return };
    let place = Place::new("physionet2012", &broker.bootstrap);
    let Some(mut all) = stays(HISTORY + 1) else { return };
    let stay = all.pop().unwrap();
    let start = known(&stay[0]);
    let mut stay: Vec<Value> = stay.into_iter().filter(|r| known(r) < start + chrono::Duration::hours(48)).collect();
    stay.sort_by_key(known);
    let history = file(&place, "history.jsonl", &all.concat());
    place.json(&["import", "--format", "flat", &history]);
    let trained = place.json(&["train", "--task", "icu_mortality"]);
    assert_eq!(trained["promoted"], true, "{trained}");

    // A temporary number whose subject another partition owns than that of the number that is kept.
    let key = Pseudonyms::new(b"a secret for tests only").unwrap();
    let kept = key.subject(ASSIGNER, "kept");
    let temporary = (0..).map(|i| format!("unknown-{i}"));
    let temporary = temporary.into_iter().find(|id| bucket(key.subject("er", id), 4) != bucket(kept, 4)).unwrap();
    let prior = key.subject("er", &temporary);
    let unknown = format!("er|{temporary}");

    let half = stay.len() / 2;
    let at = stay[half]["recorded"].clone();
    let merge = |code: &str, at: &Value| json!({"patient": "kept", "code": code, "value": unknown, "time": null, "recorded": at});
    let feed = |name: &str, records: &[Value]| {
        place.json(&["feed", "--topic", "raw.flat", &file(&place, name, records)]);
    };
    let until = |enough: &dyn Fn(&[Read]) -> bool| {
        read_until(&broker.bootstrap, "auscult.events", Duration::from_secs(60), enough)
    };
    let roles = ["normalize", "score", "archive"];
    let daemons = roles.map(|roles| place.daemon(roles));

    feed("first.jsonl", &[of("whole", &stay[..half]), of(&unknown, &stay[..half])].concat());
    until(&|log| has(log, prior, |_, _| true) > half);
    feed("merge.jsonl", &[merge("PATIENT//MERGE", &at)]);
    // All of it, the token too, is moved into the partition of the number that is kept.
    let log = until(&|log| has(log, kept, |_, told| told.moved.is_some()) > half);
    assert_eq!(has(&log, kept, |code, _| code == "SUBJECT//JOIN"), 1);
    assert_eq!(has(&log, prior, |code, _| code == "SUBJECT//LEAVE"), 1);

    // What is told later, a redelivery under the old number among it, and the next due time. Each part is in the
    // log before the next is sent: records under two numbers lie on two partitions, which nothing orders.
    let mut end = stay[half].clone();
    let late = (start + chrono::Duration::hours(49)).to_rfc3339();
    (end["recorded"], end["time"], end["id"]) = (json!(late), json!(late), json!("end"));
    let middle = half + (stay.len() - half) / 2;
    let facts = |log: &[Read]| has(log, kept, |code, _| !["PATIENT//TOKEN", "SUBJECT//JOIN"].contains(&code));
    feed("second.jsonl", &[of("whole", &stay[half..]), of("kept", &stay[half..middle])].concat());
    until(&|log| facts(log) >= middle);
    feed("third.jsonl", &[of(&unknown, &stay[middle..]), of(&unknown, &stay[..3])].concat());
    until(&|log| facts(log) >= stay.len() + 3);
    feed("end.jsonl", &["whole", "kept"].map(|patient| of(patient, std::slice::from_ref(&end))).concat());
    let scores = read_settled(&broker.bootstrap, "auscult.scores", Duration::from_secs(5), Duration::from_secs(90));
    let mut risks: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for score in scores.iter().map(Read::json) {
        let risk = score["risk"].as_f64().unwrap().to_bits();
        let time = score["prediction_time"].as_str().unwrap().to_owned();
        risks.entry(score["subject"].as_str().unwrap().to_owned()).or_default().push((time, risk));
    }
    let whole = key.subject(ASSIGNER, "whole");
    assert_eq!(risks.get(&whole.0.to_string()).map(Vec::len), Some(1), "{risks:?}");
    assert_eq!(risks.get(&kept.0.to_string()), risks.get(&whole.0.to_string()), "{risks:?}");
    assert_eq!(risks.len(), 2, "the temporary number is nobody any more");

    for daemon in daemons {
        assert_eq!(daemon.terminate(), Some(0));
    }
    let meds = place.path("meds");
    let merged = place.json(&["export", "--format", "meds", &meds]);
    assert_eq!(merged["subjects"], HISTORY + 2, "{merged}");

    // Undone after a restart: what was told under the number is the number's again.
    let daemons = roles.map(|roles| place.daemon(roles));
    feed("unmerge.jsonl", &[merge("PATIENT//UNMERGE", &json!(late))]);
    let back = stay.len() - (middle - half);
    until(&|log| has(log, prior, |_, told| told.moved.is_some()) > back);
    for daemon in daemons {
        assert_eq!(daemon.terminate(), Some(0));
    }
    let parted = place.json(&["export", "--format", "meds", &meds]);
    assert_eq!(parted["subjects"], HISTORY + 3, "{parted}");
    assert_eq!(parted["events"], merged["events"], "no fact is lost and none is doubled");

    let verified = place.json(&["verify"]);
    assert!(verified["invariants"].as_array().unwrap().iter().all(|one| one["holds"] == true), "{verified}");
    assert!(verified["invariants"][0]["checked"]["moved_rows"].as_u64().unwrap() > 0, "{verified}");
}
