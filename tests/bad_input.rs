//! Whatever comes in on a raw topic: a dead letter with its reason, and the daemon goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use auscult::kafka::Feeder;

use crate::broker::Broker;
use crate::peer::{Place, read_until};

const GOOD: &str = r#"{"patient":"CANARY-1","time":"2026-01-01T00:00:00Z","code":"8867-4","system":"http://loinc.org","value":71,"unit":"/min"}"#;

/// Each bad record with its topic and the reason it must be given.
pub(crate) fn bad() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let flat = |reason, text: &str| ("raw.flat", reason, text.as_bytes().to_vec());
    vec![
        flat("syntax", &GOOD[..60]),
        flat("empty", ""),
        flat("empty", " \n"),
        flat("shape", "[]"),
        flat("shape", "null"),
        flat("field", &GOOD.replace("71", r#"{"a":71}"#)),
        flat("time", &GOOD.replace("00Z", "00")),
        flat("time", &GOOD.replace("-01-01T", "-13-01T")),
        flat("unit", &GOOD.replace("/min", "furlong")),
        flat("patient", &GOOD.replace(r#""patient":"CANARY-1","#, "")),
        ("raw.flat", "syntax", vec![0xff, 0xfe, b'{', b'}']),
        ("raw.fhir", "shape", vec![b'['; 3_000_000]),
        ("raw.fhir", "syntax", b"{\"a\":".repeat(500_000)),
        (
            "raw.fhir",
            "patient",
            br#"{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"effectiveDateTime":"2026-01-01T00:00:00Z","valueQuantity":{"value":71,"code":"/min"}}"#.to_vec(),
        ),
        ("raw.hl7v2", "patient", b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5\r".to_vec()),
        ("raw.hl7v2", "unsupported", b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|3.0\r".to_vec()),
    ]
}

#[test]
fn invariant_01_bad_records_are_dead_letters_with_their_reason_and_the_daemon_goes_on() {
    let Some(broker) = Broker::start() else { return };
    let place = Place::new("hospital", &broker.bootstrap);
    let mut daemon = place.daemon("normalize,score");
    let site = auscult::roles::Site::parse(
        &auscult::settings::SiteFiles::find(Some(&place.site), None).unwrap(),
        [("AUSCULT__KAFKA__BROKERS".to_owned(), broker.bootstrap.clone())].into_iter(),
    )
    .unwrap();
    // The daemon makes the topics; this client waits for them with the daemon's own check.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(auscult::kafka::ensure(&site.settings)).unwrap();
    let feeder = Feeder::open(&site.settings).unwrap();
    for (topic, _, bytes) in bad() {
        feeder.send(topic, None, &bytes, None).unwrap();
    }
    feeder.send("raw.flat", None, GOOD.as_bytes(), None).unwrap();
    feeder.flush(Duration::from_secs(20)).unwrap();

    let n = bad().len();
    let letters = read_until(&broker.bootstrap, "auscult.dead-letter", Duration::from_secs(60), |m| m.len() >= n);
    assert_eq!(letters.len(), n);
    let count = |items: Vec<(String, Vec<u8>)>| {
        let mut counts: BTreeMap<(String, Vec<u8>), usize> = BTreeMap::new();
        items.into_iter().for_each(|item| *counts.entry(item).or_default() += 1);
        counts
    };
    let wanted = count(bad().into_iter().map(|(_, reason, bytes)| (reason.to_owned(), bytes)).collect());
    let found = count(letters.iter().map(|l| (l.headers["reason"].clone(), l.value.clone())).collect());
    for (key, n) in &wanted {
        let head = String::from_utf8_lossy(&key.1[..key.1.len().min(80)]).into_owned();
        assert_eq!(
            found.get(key),
            Some(n),
            "{} for {head}; found {:?}",
            key.0,
            letters.iter().map(|l| &l.headers).collect::<Vec<_>>()
        );
    }
    for letter in &letters {
        for key in ["detail", "topic", "partition", "offset", "format", "at"] {
            assert!(letter.headers.contains_key(key), "header {key} is missing");
        }
        let text = format!("{:?}", letter.headers);
        assert!(!text.contains("CANARY") && !text.contains("furlong"), "a header holds patient data: {text}");
    }
    // The good record after all the bad ones came through: its subject's token and its value.
    read_until(&broker.bootstrap, "auscult.events", Duration::from_secs(30), |messages| {
        let rows = |m: &crate::peer::Read| {
            let batch = auscult::events::decode(&m.value).unwrap();
            let view = auscult::events::EventsView::new(&batch).unwrap();
            (0..view.len()).any(|i| view.row(i).concept == Some("heart_rate"))
        };
        messages.iter().any(rows)
    });
    assert!(daemon.is_alive());
    assert!(!daemon.log().contains("CANARY"), "a log line names a patient");
    assert_eq!(daemon.terminate(), Some(0));
}
