//! Resources mutated, cut and shuffled: never a panic, never a word of the record in a reject,
//! and the same facts in whatever order the members stand.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::decode::tests::{count, replace, tells_nothing};
use crate::decode::{Reason, Rules, decode as decode_any};
use crate::settings::Format;

/// Appears in every text of the records whose rejects must not tell.
const CANARY: &str = "CANARY-77310";

/// One Bundle with a resource of every type that `decode::tests::bundle` has not, every text marked.
fn record() -> Json {
    let code = json!({"coding": [{"system": "http://snomed.info/sct", "code": CANARY}], "text": CANARY});
    let subject = json!({"reference": "Patient/CANARY-77310", "display": CANARY});
    let period = json!({"start": "2026-01-01T00:00:00Z", "end": "2026-01-02"});
    let narrative = json!({"div": "<div>CANARY-77310 &lt;<b>x</b></div>"});
    let attachment = json!({"contentType": "text/plain; charset=utf-8", "data": "Q0FOQVJZLTc3MzEw", "title": CANARY});
    let resource = |kind: &str, with: Json| {
        let mut whole =
            json!({"resourceType": kind, "id": CANARY, "status": "completed", "subject": subject, "patient": subject});
        whole.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        json!({"fullUrl": format!("http://h.org/{kind}/{CANARY}"), "resource": whole})
    };
    let item = json!({"linkId": CANARY, "answer": [
        {"valueCoding": {"code": CANARY}, "item": [{"linkId": "/1-8", "answer": [{"valueDecimal": 77310.5}, {"valueUri": CANARY}]}]},
        {"valueSampledData": {"origin": {"value": 77310}, "period": 10, "dimensions": 1, "data": CANARY}}]});
    let section = json!({"title": CANARY, "text": narrative, "section": [{"code": code, "text": narrative}]});
    json!({"resourceType": "Bundle", "type": "history", "entry": [
        {"fullUrl": "urn:uuid:1", "request": {"method": "DELETE", "url": "Flag/CANARY-77310"}},
        resource("Patient", json!({"identifier": [{"type": {"coding": [{"code": "MR"}]}, "system": CANARY, "value": CANARY}],
            "meta": {"lastUpdated": "2026-01-01T00:00:00Z"}, "link": [{"type": "replaces", "other": {"reference": "Patient/x"}}]})),
        resource("Encounter", json!({"class": {"code": CANARY}, "classHistory": [{"class": {"code": "EMER"}, "period": period}],
            "location": [{"location": {"display": CANARY}, "status": "active", "period": period}]})),
        resource("MedicationStatement", json!({"medicationReference": {"reference": "#m"}, "effectivePeriod": period,
            "contained": [{"resourceType": "Medication", "id": "m", "ingredient": [{"itemCodeableConcept": code}]}]})),
        resource("MedicationDispense", json!({"medicationCodeableConcept": code, "whenPrepared": "2026"})),
        resource("DiagnosticReport", json!({"code": code, "conclusionCode": [code], "presentedForm": [attachment]})),
        resource("DocumentReference", json!({"type": code, "date": "2026-01-01T00:00:00Z", "description": CANARY,
            "context": {"period": period, "encounter": [{"reference": "Encounter/CANARY-77310"}]}, "content": [{"attachment": attachment}]})),
        resource("Composition", json!({"type": code, "date": "2026-01-01", "title": CANARY, "section": [section, section]})),
        resource("FamilyMemberHistory", json!({"relationship": code, "date": "2026", "condition": [{"code": code}]})),
        resource("QuestionnaireResponse", json!({"questionnaire": CANARY, "authored": "2026-01-01", "item": [item, item]})),
        resource("ServiceRequest", json!({"code": code, "intent": "order", "orderDetail": [code],
            "occurrenceTiming": {"repeat": {"boundsPeriod": period}}})),
        resource("CarePlan", json!({"category": [code], "period": period, "activity": [{"detail": {"code": code, "doNotPerform": false}}]})),
        resource("Specimen", json!({"type": code, "collection": {"collectedDateTime": "2026"}})),
        resource("ImagingStudy", json!({"series": [{"modality": {"system": CANARY, "code": CANARY}}], "started": "2026"})),
        resource("Consent", json!({"category": [code], "provision": {"type": "deny", "period": period}})),
        resource("Flag", json!({"code": code, "period": period, "modifierExtension": []})),
    ]})
}

/// The record with the members of every object in another order.
fn shuffled(json: &Json, seed: &mut u64, into: &mut String) {
    match json {
        Json::Object(fields) => {
            let mut members: Vec<_> = fields.iter().collect();
            for at in (1..members.len()).rev() {
                // Numerical Recipes' linear congruence: any order will do.
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                members.swap(at, (*seed >> 33) as usize % (at + 1));
            }
            into.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                into.push_str(if at > 0 { " ,\n" } else { "" });
                into.push_str(&Json::from(name.as_str()).to_string());
                into.push_str(": ");
                shuffled(value, seed, into);
            }
            into.push('}');
        }
        Json::Array(items) => {
            into.push('[');
            for (at, item) in items.iter().enumerate() {
                into.push_str(if at > 0 { "," } else { "" });
                shuffled(item, seed, into);
            }
            into.push(']');
        }
        scalar => into.push_str(&scalar.to_string()),
    }
}

#[test]
fn the_record_of_these_tests_is_read() {
    let text = record().to_string();
    let mut facts = Vec::new();
    let notes = decode(text.as_bytes(), &mut facts).unwrap();
    assert!(notes.unread.is_empty(), "{notes:?}");
    assert_eq!(notes.links.len(), 2);
    let kinds: std::collections::BTreeSet<_> =
        facts.iter().map(|f| f.id.as_deref().unwrap().split('/').next().unwrap()).collect();
    // All but the Patient, of whom only the links speak.
    assert_eq!(kinds.len(), 14, "{kinds:?}");
    assert_eq!(facts.iter().filter(|f| f.op == Op::Retract).count(), 1);
}

#[test]
fn a_cut_record_is_a_reject() {
    let text = record().to_string();
    for end in 1..text.len() {
        let reject = decode(&text.as_bytes()[..end], &mut Vec::new()).unwrap_err();
        assert_eq!(reject.reason, Reason::Syntax, "cut at {end}");
        assert!(!reject.detail.contains("77310"));
    }
}

#[test]
fn any_node_may_be_of_another_type() {
    let strangers =
        [json!(null), json!(CANARY), json!(-77310), json!(true), json!([CANARY]), json!({(CANARY): CANARY}), json!("")];
    let record = record();
    for at in 0..count(&record) {
        for stranger in &strangers {
            let mut record = record.clone();
            replace(&mut record, &mut at.clone(), stranger);
            tells_nothing(Format::Fhir, &record.to_string()).unwrap();
        }
    }
}

#[test]
fn what_would_stand_in_every_fact_is_short() {
    let long = "\u{e4}\\".repeat(100_000);
    let parts: Vec<Json> = (0..20_000).map(|_| json!({"code": {"text": "a"}, "valueInteger": 1})).collect();
    let start = std::time::Instant::now();
    for with in [
        json!({"id": long}),
        json!({"subject": {"reference": format!("Patient/{long}")}}),
        json!({"encounter": {"reference": format!("Encounter/{long}")}}),
    ] {
        let mut record = json!({"resourceType": "Observation", "id": "1", "code": {"text": "a"}, "subject": {"reference": "Patient/1"}, "component": parts});
        record.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let reject = decode(record.to_string().as_bytes(), &mut Vec::new()).unwrap_err();
        assert!(reject.reason == Reason::Field && reject.detail.ends_with("is longer than 1024 bytes"), "{reject:?}");
    }
    // A long text is kept, once.
    let findings: Vec<Json> = (0..20_000).map(|at| json!({"itemCodeableConcept": {"text": at.to_string()}})).collect();
    let record = json!({"resourceType": "ClinicalImpression", "subject": {"reference": "Patient/1"}, "summary": long, "finding": findings});
    let mut facts = Vec::new();
    let text = record.to_string();
    decode(text.as_bytes(), &mut facts).unwrap();
    let texts: usize =
        facts.iter().map(|f| if let crate::decode::Value::Text(text) = &f.value { text.len() } else { 0 }).sum();
    assert_eq!((facts.len(), texts), (20_000, long.len()));
    // Sections and items in each other, as deep as the record is long.
    let nest = |kind: &str, list: &str, rest: &str| {
        let inner = format!(r#""{list}":[{{{rest}"#).repeat(50_000);
        format!(
            r#"{{"resourceType":"{kind}","id":"1","subject":{{"reference":"Patient/1"}},"type":{{"text":"a"}},{inner}"x":1{}"#,
            "}]".repeat(50_000) + "}"
        )
    };
    for (kind, list, rest) in [
        ("Composition", "section", r#""title":"t","text":{"div":"x"},"#),
        ("QuestionnaireResponse", "item", r#""linkId":"1","answer":[{"valueInteger":1}],"#),
    ] {
        let text = nest(kind, list, rest);
        let mut facts = Vec::new();
        decode(text.as_bytes(), &mut facts).unwrap();
        assert!(facts.len() >= 50_000, "{kind} {}", facts.len());
    }
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn members_may_stand_in_any_order(mut seed in any::<u64>()) {
        for record in [record(), crate::decode::tests::bundle()] {
            let plain = record.to_string();
            let mut text = String::new();
            shuffled(&record, &mut seed, &mut text);
            let (mut expected, mut facts) = (Vec::new(), Vec::new());
            let theirs = decode_any(Format::Fhir, &Rules::default(), plain.as_bytes(), &mut expected);
            // The samples' text is the source's own, the order of its fields ours.
            let ours = decode_any(Format::Fhir, &Rules::default(), text.as_bytes(), &mut facts);
            prop_assert_eq!(ours, theirs);
            prop_assert_eq!(facts, expected);
        }
    }

    #[test]
    fn wrong_bytes(at in any::<prop::sample::Index>(), length in 0_usize..6, with in proptest::collection::vec(any::<u8>(), 0..6)) {
        let mut bytes = record().to_string().into_bytes();
        let start = at.index(bytes.len());
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, with);
        let mut facts = Vec::new();
        if let Err(reject) = decode_any(Format::Fhir, &Rules::default(), &bytes, &mut facts) {
            prop_assert!(facts.is_empty() && !reject.detail.contains("77310"), "{}", reject.detail);
        }
    }

    #[test]
    fn two_wrong_nodes(first in any::<prop::sample::Index>(), second in any::<prop::sample::Index>(), text in "CANARY-77310.{0,8}") {
        let mut record = record();
        let nodes = count(&record);
        replace(&mut record, &mut first.index(nodes), &json!(text));
        let nodes = count(&record);
        replace(&mut record, &mut second.index(nodes), &json!({(text.clone()): [text.clone()]}));
        tells_nothing(Format::Fhir, &record.to_string())?;
    }
}
