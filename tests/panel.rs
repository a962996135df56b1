//! Models that answer more than yes or no, on a real broker: what a score tells beside its risk is what the same model
//! tells of the same stays offline.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde_json::json;

use crate::broker::Broker;
use crate::chart::{heart_rate, lactate, line, site, within_a_day};
use crate::peer::{Place, read_settled, read_topic, read_until};
use crate::predictions::predictions;

/// Which comes first within a day.
const WAY: &str = r#"
name = "way"
title = "What comes within a day"
horizon = "24h"

[trigger]
on = ["lactate"]

[label]
aces = "day.yaml"
kind = "multiclass"
of = ["icu", "ward", "none"]
watch = "icu"

[train]
family = "logistic"

[gate]
min_auroc = 0.6

[alert]
threshold = 0.5
"#;

/// How soon intensive care is needed.
const SOON: &str = r#"
name = "soon"
title = "Transfer to intensive care, and how soon"
horizon = "12h"

[trigger]
on = ["lactate"]

[label]
aces = "day.yaml"
kind = "survival"
times = ["6h", "12h", "24h"]
watch = "12h"

[train]
family = "boosting"

[gate]
min_auroc = 0.6

[alert]
threshold = 0.4
"#;

const PREDICATES: &str = r#"
predicates:
  prediction:
    code: AUSCULT//PREDICTION
  icu:
    code: ENCOUNTER//ICU//START
  ward:
    code: TRANSFER//WARD
"#;

/// Lactates of a patient.
const VISITS: u32 = 8;

/// The charts of patients, in the order of their hours: the higher a lactate, the likelier a transfer to intensive
/// care, and the sooner; else to a ward mostly.
fn charts(patients: Range<u32>) -> String {
    let mut lines: Vec<(i64, String)> = Vec::new();
    for patient in patients {
        let name = format!("p{patient}");
        for visit in 0..VISITS {
            let hour = i64::from(visit) * 48;
            let level = 1 + (patient * 7 + visit * 3) % 10;
            lines.push((hour, heart_rate(&name, hour, 70 + (patient + visit) % 20)));
            lines.push((hour, lactate(&name, hour, level)));
            let dice = (patient * VISITS + visit).wrapping_mul(2_654_435_761) >> 16;
            if dice % 100 < level * 8 {
                let hours = if level > 5 { [3, 3, 9, 18] } else { [3, 9, 18, 18] };
                let start = hour + hours[(dice / 100 % 4) as usize];
                for (at, code) in [(start, "ENCOUNTER//ICU//START"), (start + 6, "ENCOUNTER//ICU//END")] {
                    let stay = format!("{name}-{visit}");
                    lines.push((at, line(&name, at, json!({"code": code, "encounter": stay}))));
                }
            } else if dice % 100 < 90 {
                lines.push((hour + 5, line(&name, hour + 5, json!({"code": "TRANSFER//WARD"}))));
            }
        }
        // The last label's window closes.
        lines.push((24 * 30, heart_rate(&name, 24 * 30, 80)));
    }
    lines.sort_by_key(|(hour, _)| *hour);
    lines.into_iter().map(|(_, line)| line).collect()
}

#[test]
fn what_a_panel_tells_live_is_what_it_tells_offline_invariant_06_and_10() {
    let Some(broker) = Broker::start() else { return };
    let bootstrap = &broker.bootstrap;
    let dir = tempfile::TempDir::new().unwrap();
    let labels = within_a_day(PREDICATES, "icu");
    let tasks = [("way.toml", WAY), ("soon.toml", SOON), ("day.yaml", labels.as_str())];
    let mut place = Place::of(site(&dir.path().join("site"), &tasks), bootstrap);
    place.set("AUSCULT__TIME__CLOCK", "events");
    place.json(&["import", "--format", "flat", &place.file("past.jsonl", charts(0..400).as_bytes())]);
    for task in ["way", "soon"] {
        let trained = place.json(&["train", "--task", task]);
        assert_eq!(trained["promoted"], true, "{trained}");
        assert!(trained["panel"]["n"].as_u64().unwrap() > 0, "{trained}");
    }

    let patients = 400..425;
    let expected = 2 * patients.len() * VISITS as usize;
    let live = place.file("live.jsonl", charts(patients).as_bytes());
    let daemon = place.daemon("normalize,score");
    read_settled(bootstrap, "raw.flat", Duration::from_millis(300), Duration::from_secs(60));
    place.json(&["feed", "--topic", "raw.flat", "--key", "patient", &live]);
    read_until(bootstrap, "auscult.scores", Duration::from_secs(60), |scores| scores.len() >= expected);
    let messages = read_settled(bootstrap, "auscult.scores", Duration::from_secs(2), Duration::from_secs(60));
    assert_eq!(daemon.terminate(), Some(0));

    // Risk and outputs of each score, by task, subject and time.
    let mut scores = BTreeMap::new();
    for message in &messages {
        let score = message.json();
        let text = |key: &str| score[key].as_str().unwrap().to_owned();
        let outputs = score["outputs"].as_object().unwrap_or_else(|| panic!("nothing but a risk: {score}"));
        let told: BTreeMap<String, f64> =
            outputs.iter().map(|(name, value)| (name.clone(), value.as_f64().unwrap())).collect();
        let watched = match text("task").as_str() {
            "way" => {
                assert_eq!(told.keys().collect::<Vec<_>>(), ["icu", "none", "ward"]);
                assert!((told.values().sum::<f64>() - 1.0).abs() < 1e-12, "{score}");
                told["icu"]
            }
            _ => {
                assert_eq!(told.keys().collect::<Vec<_>>(), ["12h", "24h", "6h"]);
                // The share that is spared only falls.
                let spared = ["6h", "12h", "24h"].map(|time| 1.0 - told[time]);
                assert!(spared[0] <= 1.0 && spared.is_sorted_by(|a, b| a >= b) && spared[2] >= 0.0, "{score}");
                told["12h"]
            }
        };
        let risk = score["risk"].as_f64().unwrap();
        assert_eq!(watched.to_bits(), risk.to_bits(), "{score}");
        let key = (text("task"), text("subject"), text("prediction_time"));
        assert!(scores.insert(key, (risk, told)).is_none(), "a score came twice");
    }
    assert_eq!(scores.len(), expected);

    // Every alert explains the risk of its score.
    let mut raised = BTreeMap::new();
    for message in read_topic(bootstrap, "auscult.alerts") {
        let alert = message.json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let key = (text(&alert["task"]), text(&alert["subject"]["pseudonym"]), text(&alert["prediction_time"]));
        let risk = alert["risk"].as_f64().unwrap();
        assert_eq!(scores[&key].0.to_bits(), risk.to_bits(), "{alert}");
        let explanation = &alert["explanation"];
        let contributions = explanation["contributions"].as_array().unwrap();
        let sum: f64 = contributions.iter().map(|one| one["contribution"].as_f64().unwrap()).sum();
        assert!((explanation["base"].as_f64().unwrap() + sum - risk).abs() < 1e-9, "{alert}");
        if alert["kind"] == "raise" {
            assert!(contributions.iter().any(|one| one["contribution"].as_f64().unwrap() > 0.0), "{alert}");
            *raised.entry(key.0).or_insert(0) += 1;
        }
    }
    assert!(raised.len() == 2 && raised.values().all(|count| *count > 10), "{raised:?}");

    // The same stays offline, by the same models.
    let mut offline = Place::of(place.site.clone(), bootstrap);
    offline.set("AUSCULT__REGISTRY__URL", &format!("file://{}", place.path("registry")));
    offline.json(&["import", "--format", "flat", &live]);
    for task in ["way", "soon"] {
        let file = offline.path("predictions.parquet");
        offline.json(&["evaluate", "--task", task, "--split", "all", "--predictions", &file]);
        let rows = predictions(&file);
        assert_eq!(rows.len() * 2, expected);
        for ((subject, time), columns) in rows {
            let (risk, told) = &scores[&(task.to_owned(), subject, time)];
            let live: BTreeMap<String, u64> = told
                .iter()
                .map(|(name, value)| (format!("predicted_{name}"), value.to_bits()))
                .chain([("predicted_boolean_probability".to_owned(), risk.to_bits())])
                .collect();
            let offline: BTreeMap<String, u64> =
                columns.into_iter().map(|(name, value)| (name, value.to_bits())).collect();
            assert_eq!(live, offline);
        }
    }
}
