//! Whole messages: their shape against the interfaces and HL7's own examples.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::events::{DAY, HOUR, SubjectId};
use crate::models::Grounds;

const NAME: &str = "MRN-132539";
const MIDNIGHT: i64 = 1_767_398_400_000_000; // 2026-01-03T00:00:00Z
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/fhir/hl7_r4_examples_clinical.tar.gz");

fn policy(outcome: bool) -> Policy {
    let text = r#"
        threshold = 0.6
        outcome = { system = "http://snomed.info/sct", code = "419099009", display = "Dead" }
    "#;
    let mut raw: RawPolicy = toml::from_str(text).unwrap();
    if !outcome {
        raw.outcome = None;
    }
    raw.validate("tasks/icu_mortality.toml", "alert").unwrap()
}

fn explained() -> Explained<'static> {
    let heart = Contribution {
        feature: "heart_rate.max.8h",
        value: 131.0,
        unit: Some("/min"),
        observed_at: Some(MIDNIGHT - HOUR),
        contribution: 0.42,
    };
    let missing = Contribution {
        feature: "lactate.last.24h",
        value: f32::NAN,
        unit: None,
        observed_at: None,
        contribution: 0.27,
    };
    Explained::new(0.83, 0.14, vec![missing, heart]).unwrap()
}

const RAISE: Decision<'_> = Decision { kind: Kind::Raise, tier: "watch", threshold: 0.6 };

fn alert<'a>(policy: &'a Policy, explained: &'a Explained<'a>) -> Alert<'a> {
    Alert {
        task: "icu_mortality",
        title: "Death before the end of the ICU stay",
        decision: &RAISE,
        subject: SubjectId(-88_123),
        identifier: Some(Identifier { system: "http://hospital.example/mrn", value: NAME }),
        encounter: Some("5f00aa"),
        prediction_time: MIDNIGHT,
        published_at: MIDNIGHT + 1_500_000,
        horizon: DAY,
        risk: Some(0.83),
        reason: None,
        model: ModelName { name: "icu_mortality", version: 7, sha256: "ab12" },
        explanation: Some(explained),
        outcome: policy.outcome.as_ref(),
        top: policy.top,
        source: "raw.flat-3-18223#0",
    }
}

fn json(alert: &Alert<'_>) -> Value {
    serde_json::from_slice(&cloud_event(alert).unwrap().data).unwrap()
}

#[test]
fn an_alert_is_the_json_of_the_interfaces() {
    let (policy, explained) = (policy(true), explained());
    let alert = alert(&policy, &explained);
    let mut got = json(&alert);
    let id = alert.id();
    let rationale =
        "risk 0.83 from a base of 0.14: heart rate up to 131/min in 8 h (+0.42), lactate not known in 24 h (+0.27)";
    let resource = got.as_object_mut().unwrap().remove("riskAssessment").unwrap();
    let expected = serde_json::json!({
        "alert_id": id, "task": "icu_mortality", "kind": "raise", "tier": "watch",
        "subject": {"pseudonym": "-88123", "identifier": {"system": "http://hospital.example/mrn", "value": NAME}},
        "encounter": "5f00aa", "prediction_time": "2026-01-03T00:00:00Z", "published_at": "2026-01-03T00:00:01.500000Z",
        "horizon": "PT24H", "risk": 0.83, "threshold": 0.6,
        "model": {"name": "icu_mortality", "version": 7, "sha256": "ab12"},
        "explanation": {"base": 0.14, "contributions": [
            {"feature": "heart_rate.max.8h", "value": 131.0, "unit": "/min", "observed_at": "2026-01-02T23:00:00Z", "contribution": 0.42},
            {"feature": "lactate.last.24h", "value": null, "unit": null, "observed_at": null, "contribution": 0.27}],
            "text": rationale},
        "source": "raw.flat-3-18223#0"
    });
    assert_eq!(got, expected);
    let expected = serde_json::json!({
        "resourceType": "RiskAssessment",
        "identifier": [{"system": "urn:auscult:alert", "value": id}],
        "status": "final",
        "method": {"coding": [{"system": "urn:auscult:model", "version": "7", "code": "icu_mortality"}]},
        "code": {"text": "Death before the end of the ICU stay"},
        "subject": {"identifier": {"system": "http://hospital.example/mrn", "value": NAME}},
        "encounter": {"identifier": {"system": "urn:auscult:encounter", "value": "5f00aa"}},
        "occurrenceDateTime": "2026-01-03T00:00:00Z",
        "prediction": [{
            "outcome": {"coding": [{"system": "http://snomed.info/sct", "code": "419099009", "display": "Dead"}],
                        "text": "Death before the end of the ICU stay"},
            "probabilityDecimal": 0.83,
            "qualitativeRisk": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/risk-probability",
                                            "code": "high", "display": "high likelihood"}]},
            "whenPeriod": {"start": "2026-01-03T00:00:00Z", "end": "2026-01-04T00:00:00Z"},
            "rationale": rationale}],
        "note": [{"text": "probabilityDecimal is a calibrated probability on a scale from 0 to 1, given by a statistical \
                           model; it supports a clinical judgement and does not replace one."}]
    });
    assert_eq!(resource, expected);
}

#[test]
fn an_alert_is_a_cloud_event_in_binary_mode() {
    let (policy, explained) = (policy(true), explained());
    let alert = alert(&policy, &explained);
    let event = cloud_event(&alert).unwrap();
    let headers: BTreeMap<&str, &str> = event.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(headers.len(), event.headers.len());
    // The four required attributes of CloudEvents 1.0, then the optional ones that are used.
    assert_eq!(headers["ce_specversion"], "1.0");
    assert_eq!(headers["ce_id"], alert.id());
    assert_eq!(headers["ce_source"], "urn:auscult:task:icu_mortality");
    assert_eq!(headers["ce_type"], "org.auscult.alert.v1");
    assert_eq!(headers["ce_time"], "2026-01-03T00:00:01.500000Z");
    assert_eq!((headers["ce_subject"], event.key.as_str()), ("-88123", "-88123"));
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(cloud_event(&alert).unwrap(), event);
}

#[test]
fn an_id_names_one_input() {
    let of = |task, subject, encounter, at, kind| alert_id(task, SubjectId(subject), encounter, at, kind);
    let ids: BTreeSet<String> = [
        of("a", 1, Some("e"), 5, Kind::Raise),
        of("b", 1, Some("e"), 5, Kind::Raise),
        of("a", 2, Some("e"), 5, Kind::Raise),
        of("a", 1, None, 5, Kind::Raise),
        of("a", 1, Some(""), 5, Kind::Raise),
        of("a", 1, Some("e"), 6, Kind::Raise),
        of("a", 1, Some("e"), 5, Kind::Clear),
    ]
    .into();
    assert_eq!(ids.len(), 7);
    let id = of("a", 1, Some("e"), 5, Kind::Raise);
    assert!(ids.contains(&id));
    assert_eq!((id.len(), &id[14..15]), (36, "8"));
    assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    // Subscribers store ids: another release must not make others.
    assert_eq!(id, "e0be0650-2244-8b3a-a93f-0fa553fa68b9");
}

#[test]
fn invariant_07_the_identifier_stands_in_the_subjects_only() {
    let (policy, explained) = (policy(false), explained());
    let named = alert(&policy, &explained);
    let event = cloud_event(&named).unwrap();
    assert!(!event.headers.iter().any(|(_, value)| value.contains(NAME)) && !event.key.contains(NAME));
    assert_eq!(String::from_utf8(event.data).unwrap().matches(NAME).count(), 2);
    assert!(!format!("{named:?}").contains(NAME));

    let anonymous = json(&Alert { identifier: None, ..named });
    assert!(!anonymous.to_string().contains(NAME));
    assert_eq!(anonymous["subject"], serde_json::json!({"pseudonym": "-88123"}));
    let subject = &anonymous["riskAssessment"]["subject"]["identifier"];
    assert_eq!(subject, &serde_json::json!({"system": "urn:auscult:subject", "value": "-88123"}));
    // A plain name is no FHIR uri.
    let plain = json(&Alert { identifier: Some(Identifier { system: "ward 3", value: NAME }), ..named });
    assert_eq!(plain["riskAssessment"]["subject"]["identifier"], serde_json::json!({"value": NAME}));
}

const AMBIGUOUS: Reason<'_> = Reason { words: "ambiguous", grounds: None };

#[test]
fn an_indeterminate_alert_gives_a_reason_and_no_number() {
    let (policy, explained) = (policy(false), explained());
    for risk in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        let decision = &Decision { kind: Kind::Indeterminate, ..RAISE };
        let reason = Some(AMBIGUOUS);
        let got = json(&Alert { decision, risk, reason, explanation: None, ..alert(&policy, &explained) });
        assert_eq!((&got["kind"], &got["risk"]), (&Value::from("indeterminate"), &Value::Null));
        assert_eq!((&got["reason"], got.get("detail")), (&Value::from("ambiguous"), None));
        assert_eq!(got["explanation"], Value::Null);
        let prediction = &got["riskAssessment"]["prediction"][0];
        assert!(prediction.get("probabilityDecimal").is_none());
        let absent = serde_json::json!({
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                        "code": "unknown", "display": "Unknown"}],
            "text": "ambiguous"});
        assert_eq!(prediction["qualitativeRisk"], absent);
        assert_eq!(prediction["rationale"], "no risk can be given: ambiguous");
        assert!(got["riskAssessment"]["note"][0]["text"].as_str().unwrap().starts_with("No probability"));
    }
}

#[test]
fn a_reason_says_what_it_rests_on_and_other_alerts_give_none() {
    let (policy, explained) = (policy(false), explained());
    let grounds = Grounds::Outside(vec!["heart_rate.max.8h"]);
    let reason = Some(Reason { words: "unlike anything seen", grounds: Some(&grounds) });
    let of = |kind, risk| {
        let decision = &Decision { kind, threshold: f64::NAN, ..RAISE };
        json(&Alert { decision, risk, reason, ..alert(&policy, &explained) })
    };
    let got = of(Kind::Indeterminate, None);
    let detail = "heart_rate.max.8h lies outside the range seen in training";
    assert_eq!((&got["reason"], &got["detail"]), (&"unlike anything seen".into(), &detail.into()));
    let rationale = format!("no risk can be given: unlike anything seen ({detail})");
    assert_eq!(got["riskAssessment"]["prediction"][0]["rationale"], rationale);
    assert_eq!(got["threshold"], Value::Null, "without a model there may be none");
    let raised = of(Kind::Raise, Some(0.83));
    assert!(raised.get("reason").is_none() && raised.get("detail").is_none());
    assert!(raised["explanation"]["text"].as_str().unwrap().starts_with("risk 0.83"));
}

#[test]
fn a_counterfactual_names_what_it_leaves_as_it_is() {
    let (policy, explained) = (policy(false), explained());
    let changes =
        vec![Otherwise { concept: "heart_rate".to_owned(), unit: "/min".to_owned(), value: 131.0, instead: 90.0 }];
    let of = |unchanged: &[&str]| {
        let unchanged = unchanged.iter().map(|name| (*name).to_owned()).collect();
        let instead = Some(Instead { changes: changes.clone(), risk: 0.25, unchanged });
        json(&alert(&policy, &explained.clone().with_instead(instead)))["explanation"]["counterfactual"].take()
    };
    let change = serde_json::json!([{"concept": "heart_rate", "value": 131.0, "instead": 90.0, "unit": "/min"}]);
    assert_eq!(of(&[]), serde_json::json!({"risk": 0.25, "changes": change}));
    assert_eq!(of(&["news2"]), serde_json::json!({"risk": 0.25, "changes": change, "unchanged": ["news2"]}));
}

proptest! {
    #[test]
    fn invariant_10_published_contributions_add_up_to_the_published_risk(
        base in 0.0..1.0f64,
        parts in prop::collection::vec(prop_oneof![Just(0.0), -0.1..0.1f64], 0..300),
    ) {
        let risk = base + parts.iter().sum::<f64>();
        let contributions = parts
            .iter()
            .map(|&contribution| Contribution { feature: "f", value: 1.0, unit: None, observed_at: None, contribution })
            .collect();
        let (policy, explained) = (policy(false), Explained::new(risk, base, contributions).unwrap());
        let got = json(&Alert { risk: Some(risk), ..alert(&policy, &explained) });
        let all = got["explanation"]["contributions"].as_array().unwrap();
        prop_assert_eq!(all.len(), parts.iter().filter(|&&part| part != 0.0).count());
        let sum: f64 = all.iter().map(|one| one["contribution"].as_f64().unwrap()).sum();
        let published = got["risk"].as_f64().unwrap();
        prop_assert!((got["explanation"]["base"].as_f64().unwrap() + sum - published).abs() < 1e-12);
        prop_assert_eq!(published.to_bits(), risk.to_bits());
    }
}

/// Every field below `value` with the JSON type of what it holds, as `prediction[].rationale: string`.
fn shape(path: &str, value: &Value, out: &mut BTreeMap<String, &'static str>) {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|item| shape(&format!("{path}[]"), item, out));
            "array"
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                shape(&format!("{path}{}{field}", if path.is_empty() { "" } else { "." }), value, out);
            }
            "object"
        }
    };
    out.insert(path.to_owned(), name);
}

/// The members of a tar archive whose name begins so.
fn members(tar: &[u8], start: &str) -> Vec<(String, Vec<u8>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches(['\0', ' ']).to_owned();
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 512 <= tar.len() && tar[at] != 0 {
        let (name, size) = (text(&tar[at..at + 100]), text(&tar[at + 124..at + 136]));
        let size = usize::from_str_radix(&size, 8).unwrap();
        let file = name.rsplit('/').next().unwrap().to_owned();
        if file.starts_with(start) {
            found.push((file, tar[at + 512..at + 512 + size].to_vec()));
        }
        at += 512 + size.div_ceil(512) * 512;
    }
    found
}

#[test]
fn the_resource_has_the_fields_and_types_of_the_official_examples() {
    let Ok(file) = std::fs::File::open(EXAMPLES) else {
        println!("skipped: no official FHIR examples beside the repository");
        return;
    };
    let mut tar = Vec::new();
    GzDecoder::new(file).read_to_end(&mut tar).unwrap();
    let mut official = BTreeMap::new();
    let examples = members(&tar, "RiskAssessment-");
    assert_eq!(examples.len(), 6);
    for (_, bytes) in &examples {
        let example: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(example["resourceType"], "RiskAssessment");
        shape("", &example, &mut official);
    }
    // What the definition of R4 allows and none of the six examples happens to use.
    let defined = [
        ("method.coding[].system", "string"),
        ("method.coding[].version", "string"),
        ("code.text", "string"),
        ("subject.identifier", "object"),
        ("subject.identifier.system", "string"),
        ("subject.identifier.value", "string"),
        ("encounter.identifier", "object"),
        ("encounter.identifier.system", "string"),
        ("encounter.identifier.value", "string"),
        ("prediction[].outcome.coding[].display", "string"),
        ("prediction[].whenPeriod", "object"),
        ("prediction[].whenPeriod.start", "string"),
        ("prediction[].whenPeriod.end", "string"),
        ("prediction[].rationale", "string"),
        ("prediction[].qualitativeRisk.text", "string"),
    ];
    for (path, name) in defined {
        assert_eq!(official.insert(path.to_owned(), name), None, "{path} is in an example, so it need not be listed");
    }
    let (policies, explained) = ([policy(true), policy(false)], explained());
    for policy in &policies {
        for kind in [Kind::Raise, Kind::Escalate, Kind::Clear, Kind::Indeterminate] {
            let decision = &Decision { kind, ..RAISE };
            let risk = (kind != Kind::Indeterminate).then_some(0.83);
            let reason = Some(AMBIGUOUS);
            let resource =
                json(&Alert { decision, risk, reason, ..alert(policy, &explained) })["riskAssessment"].take();
            let mut ours = BTreeMap::new();
            shape("", &resource, &mut ours);
            for (path, name) in &ours {
                assert_eq!(official.get(path), Some(name), "{path}");
            }
            // Required by R4.
            assert!(["status", "subject", "resourceType"].iter().all(|field| ours.contains_key(*field)));
        }
    }
}
