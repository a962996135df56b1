//! The whole road with real patients: PhysioNet 2012, 3,000 stays as history, 1,000 live,
//! each role a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::broker::Broker;
use crate::peer::{Daemon, Place, Read, read_settled, read_topic, shared};
use crate::predictions::predictions;

const ROLES: [&str; 4] = ["normalize", "score", "archive", "train,serve"];

/// `AUSCULT_TEST_STAYS=3000,1000` is the full size; CI takes a smaller hospital.
fn sizes() -> (usize, usize) {
    let text = std::env::var("AUSCULT_TEST_STAYS").unwrap_or_else(|_| "1500,300".to_owned());
    let (history, live) = text.split_once(',').expect("AUSCULT_TEST_STAYS=HISTORY,LIVE");
    (history.parse().unwrap(), live.parse().unwrap())
}

/// Runs the converter and passes each line with the index of its stay's admission.
fn convert(stays: usize, outcome: bool, mut each: impl FnMut(usize, &str)) -> Option<()> {
    let (tool, data) = (shared("tools/p12_events.py")?, shared("data/physionet2012")?);
    let mut command = Command::new("python3");
    command.arg(tool).arg(data.join("physionet2012_set-a_long.csv.gz")).arg(data.join("Outcomes-a.txt"));
    command.args(["--stays", &stays.to_string()]);
    if !outcome {
        command.arg("--no-outcome");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("python3, which the data's converter needs");
    let mut order: BTreeMap<String, usize> = BTreeMap::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let start = line.find("\"patient\":\"").unwrap() + 11;
        let patient = &line[start..start + line[start..].find('"').unwrap()];
        let next = order.len();
        let index = *order.entry(patient.to_owned()).or_insert(next);
        each(index, &line);
    }
    assert!(child.wait().unwrap().success());
    Some(())
}

struct Files {
    history: PathBuf,
    live: PathBuf,
    live_with_outcome: PathBuf,
    /// Pseudonyms are unknown outside, so stays are counted, and outcomes compared by `evaluate`.
    stays_past_48h: usize,
}

fn files(dir: &Path, history: usize, live: usize) -> Option<Files> {
    let path = |name: &str| dir.join(name);
    let open = |name: &str| BufWriter::new(std::fs::File::create(path(name)).unwrap());
    let (mut a, mut b, mut c) = (open("history.jsonl"), open("live.jsonl"), open("outcome.jsonl"));
    convert(history + live, true, |index, line| {
        writeln!(if index < history { &mut a } else { &mut c }, "{line}").unwrap();
    })?;
    let (mut last, mut starts) = (0, BTreeMap::new());
    convert(history + live, false, |index, line| {
        if index >= history {
            writeln!(b, "{line}").unwrap();
            let event: Value = serde_json::from_str(line).unwrap();
            let at = chrono::DateTime::parse_from_rfc3339(event["recorded"].as_str().unwrap()).unwrap().timestamp();
            last = last.max(at);
            starts.entry(index).or_insert(at);
        }
    })?;
    let stays_past_48h = starts.values().filter(|start| **start + 48 * 3600 <= last).count();
    Some(Files {
        history: path("history.jsonl"),
        live: path("live.jsonl"),
        live_with_outcome: path("outcome.jsonl"),
        stays_past_48h,
    })
}

fn start(place: &Place) -> Vec<Daemon> {
    ROLES.iter().map(|roles| place.daemon(roles)).collect()
}

/// The scores by (subject, prediction time); two of one key are a failure.
fn scores(messages: &[Read]) -> BTreeMap<(String, String), f64> {
    let mut scores = BTreeMap::new();
    for message in messages {
        let score = message.json();
        assert_eq!(score["status"], "ok", "{score}");
        let key =
            (score["subject"].as_str().unwrap().to_owned(), score["prediction_time"].as_str().unwrap().to_owned());
        assert_eq!(message.key, key.0.as_bytes());
        assert!(scores.insert(key, score["risk"].as_f64().unwrap()).is_none(), "a score came twice");
    }
    scores
}

#[test]
fn one_score_a_stay_at_48_hours_equal_to_offline_and_after_restarts_invariant_02_and_06() {
    let (history, live) = sizes();
    let Some(broker) = Broker::start() else { return };
    let place = Place::new("physionet2012", &broker.bootstrap);
    let Some(files) = files(place.dir.path(), history, live) else { return };

    // History and a first model, offline.
    let text = |path: &Path| path.display().to_string();
    let imported = place.json(&["import", "--format", "flat", &text(&files.history)]);
    assert_eq!((imported["dead_letters"].as_u64(), imported["dropped"].as_u64()), (Some(0), Some(0)), "{imported}");
    let trained = place.json(&["train", "--task", "icu_mortality"]);
    println!("trained: {trained}");
    assert_eq!(trained["promoted"], true, "{trained}");

    // The live stays, with every process killed or stopped once in the middle.
    let mut daemons = start(&place);
    read_settled(&broker.bootstrap, "raw.flat", Duration::from_millis(500), Duration::from_secs(60));
    let mut feed = place
        .command(&["feed", "--topic", "raw.flat", "--rate", "20000", &text(&files.live)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    for (i, daemon) in daemons.drain(..).enumerate() {
        if i % 2 == 0 { daemon.kill() } else { assert_eq!(daemon.terminate(), Some(0)) }
    }
    std::thread::sleep(Duration::from_secs(1));
    daemons = start(&place);
    assert!(feed.wait().unwrap().success());
    let messages = read_settled(&broker.bootstrap, "auscult.scores", Duration::from_secs(15), Duration::from_secs(240));
    let live_scores = scores(&messages);
    println!(
        "{} scores, {} stays of {live} have their 48 h before the feed's end",
        live_scores.len(),
        files.stays_past_48h
    );
    assert_eq!(live_scores.len(), files.stays_past_48h);

    // Every alert's contributions add up to its score, and the score is the one published.
    let alerts = read_topic(&broker.bootstrap, "auscult.alerts");
    let mut ids = BTreeSet::new();
    for message in &alerts {
        let alert = message.json();
        assert!(ids.insert(alert["alert_id"].as_str().unwrap().to_owned()), "an alert came twice");
        let explanation = &alert["explanation"];
        let sum: f64 =
            explanation["contributions"].as_array().unwrap().iter().map(|c| c["contribution"].as_f64().unwrap()).sum();
        let risk = alert["risk"].as_f64().unwrap();
        assert!((explanation["base"].as_f64().unwrap() + sum - risk).abs() < 1e-9, "{alert}");
        let key = (
            alert["subject"]["pseudonym"].as_str().unwrap().to_owned(),
            alert["prediction_time"].as_str().unwrap().to_owned(),
        );
        assert_eq!(live_scores[&key], risk);
        assert_eq!(message.headers["ce_type"], "org.auscult.alert.v1");
        assert!(alert["subject"]["identifier"]["value"].as_str().is_some_and(|id| id.len() == 6), "{alert}");
    }
    assert!(!alerts.is_empty());
    for daemon in daemons {
        assert_eq!(daemon.terminate(), Some(0));
    }

    // The same stays offline, with their outcomes, under the same model: the same numbers.
    let mut offline = Place::new("physionet2012", &broker.bootstrap);
    offline.set("AUSCULT__REGISTRY__URL", &format!("file://{}", place.path("registry")));
    offline.json(&["import", "--format", "flat", &text(&files.live_with_outcome)]);
    let file = offline.path("predictions.parquet");
    let evaluation = offline.json(&["evaluate", "--task", "icu_mortality", "--split", "all", "--predictions", &file]);
    println!("evaluated on the live stays: {evaluation}");
    let (mut same, mut outside) = (0, 0);
    for (key, columns) in predictions(&file) {
        let risk = columns["predicted_boolean_probability"];
        match live_scores.get(&key) {
            Some(live) => {
                assert_eq!(live.to_bits(), risk.to_bits(), "{key:?}");
                same += 1;
            }
            None => outside += 1,
        }
    }
    println!(
        "{same} scores equal bit by bit; {outside} offline stays have no live score (their 48 h lie beyond the feed)"
    );
    assert_eq!(same + outside, live);
    assert_eq!(same, live_scores.len());
    if history >= 3000 {
        assert!(evaluation["auroc"].as_f64().unwrap() >= 0.84, "{evaluation}");
    }
}
