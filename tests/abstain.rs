//! A model that abstains, on a real broker: no risk, the reason in scores and alerts, once and in order.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::broker::Broker;
use crate::chart::{heart_rate, lactate, line, site, within_a_day};
use crate::peer::{Place, Read, read_settled, read_topic, read_until};

const TASK: &str = r#"
name = "transfer"
title = "Transfer to intensive care within a day"
horizon = "24h"

[trigger]
on = ["lactate"]

[label]
aces = "transfer.yaml"

[train]
family = "logistic"

[alert]
threshold = 0.6
silence = "8h"

[abstain]
error_rate = 0.1
"#;

const PREDICATES: &str = r#"
predicates:
  prediction:
    code: AUSCULT//PREDICTION
  transfer:
    code: ENCOUNTER//ICU//START
"#;

/// Stays in which a lactate of 7 to 10 mostly, one of 1 to 3 seldom, and one of 4 to 6 every other time comes
/// before a transfer.
fn history() -> String {
    let mut lines = String::new();
    for patient in 0..400u32 {
        let name = format!("p{patient}");
        for visit in 0..8u32 {
            let hour = i64::from(visit) * 48;
            let level = 1 + (patient * 7 + visit * 3) % 10;
            lines.push_str(&heart_rate(&name, hour, 70 + (patient + visit) % 20));
            lines.push_str(&lactate(&name, hour, level));
            let dice = (patient * 8 + visit).wrapping_mul(2_654_435_761) >> 16;
            let transferred = if level < 4 {
                10
            } else if level < 7 {
                50
            } else {
                90
            };
            if dice % 100 < transferred {
                for (after, code) in [(6, "ENCOUNTER//ICU//START"), (12, "ENCOUNTER//ICU//END")] {
                    let stay = format!("{name}-{visit}");
                    lines.push_str(&line(&name, hour + after, json!({"code": code, "encounter": stay})));
                }
            }
        }
        // The last label's window closes.
        lines.push_str(&heart_rate(&name, 24 * 30, 80));
    }
    lines
}

/// Status and reason of each score, by subject, in the order of the topic.
fn scores(messages: &[Read]) -> BTreeMap<Vec<u8>, Vec<(String, String)>> {
    let mut scores: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in messages {
        let score = message.json();
        assert_eq!(score["risk"].is_f64(), score["status"] == "ok", "{score}");
        let text = |key: &str| score[key].as_str().unwrap_or_default().to_owned();
        scores.entry(message.key.clone()).or_default().push((text("status"), text("reason")));
    }
    scores
}

#[test]
fn what_a_model_does_not_know_raises_nothing_and_is_said_of_an_alert_that_stands() {
    let Some(broker) = Broker::start() else { return };
    let bootstrap = &broker.bootstrap;
    let dir = tempfile::TempDir::new().unwrap();
    let labels = within_a_day(PREDICATES, "transfer");
    let tasks = [("transfer.toml", TASK), ("transfer.yaml", labels.as_str())];
    let mut place = Place::of(site(&dir.path().join("site"), &tasks), bootstrap);
    // Short, since processes die here.
    place.set("AUSCULT__TIME__CLOCK", "events").set("AUSCULT__KAFKA__SESSION", "6s");
    let past = place.file("past.jsonl", history().as_bytes());
    place.json(&["import", "--format", "flat", &past]);
    let trained = place.json(&["train", "--task", "transfer"]);
    println!("trained: {trained}");
    assert_eq!(trained["promoted"], true, "{trained}");

    let first = [
        heart_rate("a", 0, 80),
        lactate("a", 0, 9),
        lactate("a", 1, 5),
        lactate("a", 2, 30),
        lactate("a", 9, 9),
        heart_rate("b", 0, 80),
        lactate("b", 0, 9),
        heart_rate("c", 0, 80),
        lactate("c", 0, 5),
    ];
    let second = [
        lactate("a", 10, 30),
        lactate("a", 30, 9),
        heart_rate("a", 31, 80),
        lactate("a", 31, 1),
        lactate("b", 25, 9),
        lactate("c", 1, 1),
    ];
    let feed = |name: &str, lines: &[String]| {
        let file = place.file(name, lines.concat().as_bytes());
        place.json(&["feed", "--topic", "raw.flat", "--key", "patient", &file]);
    };
    // One process dies when it has scored and not yet committed, the next one in between.
    let mut dies = place.daemon_with("normalize,score", &[("AUSCULT_FAULTS", "score.scored=1:abort")]);
    read_settled(bootstrap, "raw.flat", Duration::from_millis(300), Duration::from_secs(60));
    feed("first.jsonl", &first);
    assert!(dies.ends_within(Duration::from_secs(30)), "nothing was scored");
    let daemon = place.daemon("normalize,score");
    read_until(bootstrap, "auscult.scores", Duration::from_secs(60), |scores| scores.len() >= 6);
    daemon.kill();
    feed("second.jsonl", &second);
    let daemon = place.daemon("normalize,score");
    read_until(bootstrap, "auscult.scores", Duration::from_secs(60), |scores| scores.len() >= 11);
    let scored = read_settled(bootstrap, "auscult.scores", Duration::from_secs(2), Duration::from_secs(60));
    assert_eq!(daemon.terminate(), Some(0));

    let mut alerts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in read_topic(bootstrap, "auscult.alerts") {
        let alert = message.json();
        alerts.entry(alert["subject"]["identifier"]["value"].as_str().unwrap().to_owned()).or_default().push(alert);
    }
    let said = |patient: &str| -> Vec<(&str, Option<&str>)> {
        alerts[patient].iter().map(|alert| (alert["kind"].as_str().unwrap(), alert["reason"].as_str())).collect()
    };
    let expected = [
        ("raise", None),
        ("indeterminate", Some("ambiguous")),
        ("raise", None),
        ("indeterminate", Some("unlike anything seen")),
        ("clear", None),
    ];
    assert_eq!(said("a"), expected, "once after each raise");
    assert_eq!(said("b"), [("raise", None), ("indeterminate", Some("too little data"))]);
    assert_eq!(alerts.len(), 2, "nobody else was alerted about");

    let details: Vec<Option<&str>> =
        [&alerts["a"][1], &alerts["a"][3], &alerts["b"][1]].map(|alert| alert["detail"].as_str()).into();
    let outside = "lactate.last.24h lies outside the range seen in training";
    let short = "1 of 2 inputs is known, at least 2 are needed";
    assert_eq!(details, [None, Some(outside), Some(short)]);
    for alert in alerts.values().flatten().filter(|alert| alert["kind"] == "indeterminate") {
        assert!(alert["risk"].is_null() && alert["explanation"].is_null(), "{alert}");
        let prediction = &alert["riskAssessment"]["prediction"][0];
        assert!(prediction.get("probabilityDecimal").is_none(), "{alert}");
        assert_eq!(prediction["qualitativeRisk"]["text"], alert["reason"]);
        let told = alert["detail"].as_str().or(alert["reason"].as_str()).unwrap();
        assert!(prediction["rationale"].as_str().unwrap().contains(told), "{alert}");
    }

    let mut scores = scores(&scored);
    let ok = || ("ok".to_owned(), String::new());
    let not = |reason: &str| ("indeterminate".to_owned(), reason.to_owned());
    let mut of = |patient: &str| {
        let subject = alerts[patient][0]["subject"]["pseudonym"].as_str().unwrap();
        scores.remove(subject.as_bytes()).unwrap()
    };
    let (ambiguous, novel, little) = (not("ambiguous"), not("unlike anything seen"), not("too little data"));
    assert_eq!(of("a"), [ok(), ambiguous.clone(), novel.clone(), ok(), novel, little.clone(), ok()]);
    assert_eq!(of("b"), [ok(), little]);
    assert_eq!(scores.into_values().collect::<Vec<_>>(), [[ambiguous, ok()]]);
}
