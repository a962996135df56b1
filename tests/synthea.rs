//! The 19 Synthea Bundles through Kafka: counts equal an independent count over the JSON.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use auscult::events::{EventsView, decode};
use serde_json::Value;

use crate::broker::Broker;
use crate::peer::{Place, Read, read_settled, read_topic, read_until, shared};

/// The JSON files of a .tar.gz.
pub fn bundles(archive: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(archive).unwrap()).read_to_end(&mut tar).unwrap();
    let (mut files, mut at) = (Vec::new(), 0);
    while at + 512 <= tar.len() && tar[at] != 0 {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&tar[at + range.start..at + range.end]).trim_matches(['\0', ' ']).to_owned()
        };
        let (name, size, kind) = (text(0..100), usize::from_str_radix(&text(124..136), 8).unwrap(), tar[at + 156]);
        if (kind == b'0' || kind == 0) && name.ends_with(".json") {
            files.push((name, tar[at + 512..at + 512 + size].to_vec()));
        }
        at += 512 + size.div_ceil(512) * 512;
    }
    files
}

/// What the Bundles hold, counted without any of our decoding: facts by kind.
fn independent_count(files: &[(String, Vec<u8>)]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    let mut add = |kind, n: usize| *counts.entry(kind).or_default() += n;
    for (_, bytes) in files {
        let bundle: Value = serde_json::from_slice(bytes).unwrap();
        for entry in bundle["entry"].as_array().unwrap() {
            let resource = &entry["resource"];
            let has_value = |o: &Value| o.as_object().unwrap().keys().any(|k| k.starts_with("value"));
            match resource["resourceType"].as_str().unwrap() {
                "Observation" => {
                    let components =
                        resource["component"].as_array().map_or(0, |c| c.iter().filter(|c| has_value(c)).count());
                    add("observation", usize::from(has_value(resource)) + components);
                }
                "Condition" => add("condition", 1),
                "MedicationRequest" | "MedicationAdministration" => add("medication", 1),
                "Encounter" => {
                    add("encounter start", usize::from(resource["period"]["start"].is_string()));
                    add("encounter end", usize::from(resource["period"]["end"].is_string()));
                }
                "Procedure" => add("procedure", 1),
                "Immunization" => add("immunization", 1),
                "Patient" => {
                    add("birth", usize::from(resource["birthDate"].is_string()));
                    add("death", usize::from(resource["deceasedDateTime"].is_string()));
                }
                _ => {}
            }
        }
    }
    counts
}

/// Events of subjects in messages of the log of record.
fn events(messages: &[Read]) -> usize {
    let of = |m: &Read| {
        let batch = decode(&m.value).unwrap();
        let view = EventsView::new(&batch).unwrap();
        (0..view.len()).filter(|&i| view.row(i).subject.is_some()).count()
    };
    messages.iter().map(of).sum()
}

#[test]
fn synthea_bundles_become_as_many_events_as_they_hold_facts() {
    let Some(archive) = shared("data/fhir/synthea_r4_dev19.tar.gz") else { return };
    let Some(broker) = Broker::start() else { return };
    let files = bundles(&archive);
    assert_eq!(files.len(), 19);
    let place = Place::new("hospital", &broker.bootstrap);
    let daemon = place.daemon("normalize");
    read_settled(&broker.bootstrap, "raw.fhir", Duration::from_secs(1), Duration::from_secs(60));
    for (i, (_, bytes)) in files.iter().enumerate() {
        std::fs::write(place.dir.path().join(format!("{i}.json")), bytes).unwrap();
    }
    let names: Vec<String> = (0..files.len()).map(|i| place.path(&format!("{i}.json"))).collect();
    let mut args = vec!["feed", "--topic", "raw.fhir", "--format", "fhir"];
    args.extend(names.iter().map(String::as_str));
    assert_eq!(place.json(&args)["sent"], 19);

    // The wall clock's ticks go on for ever, so the facts are waited for, and then a while for more.
    let facts: usize = independent_count(&files).values().sum();
    read_until(&broker.bootstrap, "auscult.events", Duration::from_secs(60), |m| events(m) >= facts);
    std::thread::sleep(Duration::from_secs(2));
    let messages = read_topic(&broker.bootstrap, "auscult.events");
    let letters = read_topic(&broker.bootstrap, "auscult.dead-letter");
    assert!(letters.is_empty(), "{:?}", letters.iter().map(|l| &l.headers).collect::<Vec<_>>());
    let mut found: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut systems: BTreeMap<String, usize> = BTreeMap::new();
    for message in &messages {
        let batch = decode(&message.value).unwrap();
        let view = EventsView::new(&batch).unwrap();
        for event in (0..view.len()).map(|i| view.row(i)).filter(|e| e.subject.is_some()) {
            *systems.entry(event.code.split("//").next().unwrap_or_default().to_owned()).or_default() += 1;
            let kind = match event.code {
                "MEDS_BIRTH" => "birth",
                "MEDS_DEATH" => "death",
                code if code.starts_with("ENCOUNTER//") && code.ends_with("//START") => "encounter start",
                code if code.starts_with("ENCOUNTER//") && code.ends_with("//END") => "encounter end",
                _ => continue,
            };
            *found.entry(kind).or_default() += 1;
        }
    }
    println!("events by code system: {systems:?}");
    let wanted = independent_count(&files);
    println!("facts in the Bundles: {wanted:?}");
    for kind in ["birth", "death", "encounter start", "encounter end"] {
        assert_eq!(found.get(kind), wanted.get(kind), "{kind}");
    }
    // Medications are the only facts coded in RxNorm, immunizations in CVX, observations in LOINC.
    assert_eq!(systems["CVX"], wanted["immunization"]);
    assert_eq!(systems["RXNORM"], wanted["medication"]);
    assert_eq!(daemon.terminate(), Some(0));
}
