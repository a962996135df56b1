//! The types beyond the first ten, the links, histories and modifiers.

use super::tests::{bundle, but, fact, facts, observation, reject, skipped, try_read};
use super::*;
use crate::decode::{LinkKind, Reason, Value};
use serde_json::{Value as Json, json};

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: i64 = 1_767_225_600_000_000;

fn of(kind: &str, with: Json) -> Json {
    let subject = json!({"reference": "Patient/p"});
    let both = json!({"resourceType": kind, "id": "r", "status": "active", "subject": subject, "patient": subject});
    but(both, with)
}

fn snomed(code: &str) -> Json {
    json!({"coding": [{"system": "http://snomed.info/sct", "code": code}]})
}

fn text(text: &'static str) -> Value<'static> {
    Value::Text(text.into())
}

/// Code, value, time and part of each fact.
fn rows(record: &Json) -> Vec<(String, Value<'static>, Option<i64>, String)> {
    let row = |f: Fact<'static>| {
        let part = f.id.as_deref().and_then(|id| id.split_once('#')).map_or(String::new(), |(_, part)| part.to_owned());
        (f.code.into_owned(), f.value, f.time.map(|time| time - NEW_YEAR), part)
    };
    facts(record).into_iter().map(row).collect()
}

#[test]
fn one_code_at_a_time() {
    for (record, value, time) in [
        (
            of("ServiceRequest", json!({"code": snomed("1"), "intent": "order", "authoredOn": "2026-01-01"})),
            text("order"),
            Some(0),
        ),
        (of("Flag", json!({"code": snomed("1"), "period": {"start": "2026-01-01"}})), text("active"), Some(0)),
        (of("Goal", json!({"description": snomed("1"), "lifecycleStatus": "accepted"})), text("accepted"), None),
        (
            of("DetectedIssue", json!({"code": snomed("1"), "severity": "high", "identifiedDateTime": "2026"})),
            text("high"),
            Some(0),
        ),
        (
            of("AdverseEvent", json!({"event": snomed("1"), "actuality": "actual", "date": "2026-01"})),
            Value::None,
            Some(0),
        ),
        (
            of("DeviceRequest", json!({"codeCodeableConcept": snomed("1"), "intent": "plan", "authoredOn": "2026"})),
            text("plan"),
            Some(0),
        ),
        (
            of("MedicationStatement", json!({"medicationCodeableConcept": snomed("1"), "dateAsserted": "2026"})),
            text("active"),
            Some(0),
        ),
        (
            of(
                "MedicationStatement",
                json!({"medicationCodeableConcept": snomed("1"), "status": "stopped", "effectivePeriod": {"start": "2026"}, "dateAsserted": "2027"}),
            ),
            text("stopped"),
            Some(0),
        ),
        (
            of(
                "MedicationDispense",
                json!({"medicationCodeableConcept": snomed("1"), "whenHandedOver": "2026", "whenPrepared": "2025", "quantity": {"value": 30}}),
            ),
            text("dispense"),
            Some(0),
        ),
        (
            of(
                "Specimen",
                json!({"type": snomed("1"), "status": "available", "collection": {"collectedPeriod": {"start": "2026"}}}),
            ),
            text("available"),
            Some(0),
        ),
        (of("Procedure", json!({"code": snomed("1"), "performedPeriod": {"end": "2026"}})), Value::None, Some(0)),
    ] {
        assert_eq!(rows(&record), [("1".to_owned(), value, time, String::new())], "{record}");
    }
    let many = of(
        "Consent",
        json!({"category": [snomed("1"), snomed("2"), snomed("1")], "dateTime": "2026", "provision": {"type": "deny"}}),
    );
    assert_eq!(
        rows(&many),
        [
            ("1".to_owned(), text("deny"), Some(0), "category0".to_owned()),
            ("2".to_owned(), text("deny"), Some(0), "category1".to_owned())
        ]
    );
    let plan = of(
        "CarePlan",
        json!({"category": [snomed("1")], "intent": "plan", "created": "2026", "activity": [
        {"detail": {"code": snomed("2"), "doNotPerform": true}}, {"detail": {"code": snomed("3")}}, {"reference": {"reference": "Task/1"}}]}),
    );
    let codes: Vec<_> = rows(&plan).into_iter().map(|row| (row.0, row.3)).collect();
    assert_eq!(codes, [("1".to_owned(), "category0".to_owned()), ("3".to_owned(), "activity.detail.code0".to_owned())]);
}

#[test]
fn what_was_not_asked_for_or_did_not_happen() {
    let drug = json!({"medicationCodeableConcept": snomed("1")});
    for (kind, with, op) in [
        ("MedicationStatement", but(drug.clone(), json!({"status": "not-taken"})), Some(Op::Retract)),
        ("MedicationStatement", but(drug.clone(), json!({"status": "intended"})), None),
        ("MedicationDispense", but(drug.clone(), json!({"status": "declined"})), Some(Op::Retract)),
        ("Goal", json!({"description": snomed("1"), "lifecycleStatus": "rejected"}), Some(Op::Retract)),
        ("Goal", json!({"description": snomed("1"), "lifecycleStatus": "proposed"}), None),
        ("Flag", json!({"code": snomed("1"), "status": "entered-in-error"}), Some(Op::Retract)),
        ("ServiceRequest", json!({"code": snomed("1"), "intent": "proposal"}), None),
        ("ServiceRequest", json!({"code": snomed("1"), "intent": "order", "doNotPerform": true}), None),
        ("AdverseEvent", json!({"event": snomed("1"), "actuality": "potential"}), None),
        ("DocumentReference", json!({"type": snomed("1"), "docStatus": "entered-in-error"}), Some(Op::Retract)),
        ("DocumentReference", json!({"type": snomed("1"), "status": "superseded"}), Some(Op::Retract)),
        (
            "QuestionnaireResponse",
            json!({"status": "in-progress", "item": [{"linkId": "1", "answer": [{"valueInteger": 1}]}]}),
            None,
        ),
        ("ServiceRequest", json!({"status": "entered-in-error"}), Some(Op::Retract)),
    ] {
        let record = of(kind, with);
        match op {
            Some(op) => assert_eq!((fact(&record).op, fact(&record).id.as_deref()), (op, Some(&*format!("{kind}/r")))),
            None => assert_eq!(skipped(&record), [(kind, 1)]),
        }
    }
}

#[test]
fn a_subject_that_r4_does_not_require() {
    let nobody =
        json!({"subject": null, "patient": null, "type": snomed("1"), "category": [snomed("1")], "code": snomed("1")});
    for kind in ["Specimen", "Media", "Consent", "DocumentReference", "Composition", "DetectedIssue"] {
        assert_eq!(skipped(&of(kind, nobody.clone())), [(kind, 1)]);
    }
    for kind in ["Flag", "Procedure", "ServiceRequest"] {
        assert_eq!(reject(&of(kind, nobody.clone())).0, Reason::Patient);
    }
    // In another resource it says nothing of its own, and the record is not lost for it.
    let inner = json!({"resourceType": "Condition", "id": "1", "code": snomed("1")});
    let (all, notes) = try_read(&of("Procedure", json!({"code": snomed("2"), "contained": [inner]}))).unwrap();
    assert_eq!((all.len(), notes.unread), (1, vec![("Condition", 1)]));
}

#[test]
fn reports_conclude_and_show() {
    let report = of(
        "DiagnosticReport",
        json!({"status": "final", "code": snomed("1"), "issued": "2026-01-01", "conclusion": "bad",
        "conclusionCode": [snomed("2"), {"text": "x"}], "presentedForm": [
            {"contentType": "text/plain; charset=ISO-8859-1", "data": "R3L232U="}, {"contentType": "application/pdf", "data": "R3L232U="},
            {"contentType": "text/html", "data": "PHA+YSZhbXA7YjwvcD4="}, {"contentType": "text/plain", "data": "R3L232U="},
            {"contentType": "text/plain", "url": "http://h/1"}]}),
    );
    // Not the PDF, nor what is no UTF-8, nor what is elsewhere.
    assert_eq!(try_read(&report).unwrap().1.unread, [("DiagnosticReport", 3)]);
    let row = |code: &str, value, part: &str| (code.to_owned(), value, Some(0), part.to_owned());
    let expected = [
        row("1", text("bad"), ""),
        row("2", Value::None, "conclusion0"),
        row("x", Value::None, "conclusion1"),
        row("1", text("Gr\u{f6}\u{df}e"), "form0"),
        row("1", text("a&b"), "form2"),
    ];
    assert_eq!(rows(&report), expected);
}

#[test]
fn documents_are_their_texts() {
    let document = of(
        "DocumentReference",
        json!({"status": "current", "type": snomed("1"), "description": "d", "date": "2026-01-02",
        "context": {"period": {"start": "2026-01-01"}, "encounter": [{"reference": "Encounter/e"}]},
        "content": [{"attachment": {"contentType": "text/plain", "data": "R3LDtsOfZQ=="}}]}),
    );
    let row = |code: &str, value, part: &str| (code.to_owned(), value, Some(0), part.to_owned());
    assert_eq!(rows(&document), [row("1", text("d"), ""), row("1", text("Gr\u{f6}\u{df}e"), "content0")]);
    assert!(facts(&document).iter().all(|f| f.encounter.as_deref() == Some("e") && f.recorded > f.time));
    let section = |code: Json, div: &str, inner: Json| json!({"title": "t", "code": code, "text": {"div": div}, "section": inner});
    let sections = json!([
        section(snomed("2"), "<div>a</div>", json!([section(json!(null), "<div>b<br/>c</div>", json!([]))])),
        section(snomed("3"), "<div> </div>", json!([])),
        {"text": {"div": "<div>no heading</div>"}},
        but(section(snomed("4"), "<div>not</div>", json!([])), json!({"modifierExtension": [{"url": "u"}]})),
    ]);
    let composition = of(
        "Composition",
        json!({"status": "final", "type": snomed("1"), "title": "T", "date": "2026-01-01", "section": sections}),
    );
    let expected = [row("1", text("T"), ""), row("2", text("a"), "section0"), row("t", text("b\nc"), "section1")];
    assert_eq!(rows(&composition), expected);
    assert_eq!(try_read(&composition).unwrap().1.unread, [("Composition", 2)]);
}

#[test]
fn a_relatives_condition_is_not_the_patients() {
    let history = of(
        "FamilyMemberHistory",
        json!({"status": "completed", "date": "2026-01-01", "relationship": {"coding": [{"code": "MTH"}]},
        "condition": [{"code": snomed("1"), "onsetAge": {"value": 50}}, {"code": {"text": "x"}}]}),
    );
    let row = |value, part: &str| ("FAMILY_HISTORY//MTH".to_owned(), value, Some(0), part.to_owned());
    assert_eq!(rows(&history), [row(text("1"), "0"), row(text("x"), "1")]);
    assert!(facts(&history).iter().all(|f| f.system.is_none()));
    assert_eq!(rows(&but(history, json!({"condition": null}))), [row(Value::None, "")]);
}

#[test]
fn answers_of_a_questionnaire() {
    let answers = json!([
        {"linkId": "/34565-2/8310-5", "answer": [{"valueQuantity": {"value": 37.5, "unit": "Cel"}}]},
        {"linkId": "g", "item": [
            {"linkId": "1", "answer": [{"valueCoding": {"system": "s", "code": "yes"}, "item": [{"linkId": "1.1", "answer": [{"valueDecimal": 2.5}]}]}]},
            {"linkId": "2", "answer": [{"valueBoolean": true}, {"valueDate": "2026"}, {"valueReference": {"reference": "Patient/q"}}]}]},
        {"linkId": "3"},
    ]);
    let response = of(
        "QuestionnaireResponse",
        json!({"status": "completed", "authored": "2026-01-01", "questionnaire": "http://q/1|2.0", "item": answers}),
    );
    let row = |code: &str, value, part: &str| (code.to_owned(), value, Some(0), part.to_owned());
    let expected = [
        row("8310-5", Value::Number(37.5), "/34565-2/8310-5"),
        row("1", Value::Code("yes".into()), "1"),
        row("1.1", Value::Number(2.5), "1.1"),
        row("2", Value::Bool(true), "2"),
        row("2", text("2026"), "2.1"),
    ];
    assert_eq!(rows(&response), expected);
    let systems: Vec<_> = facts(&response).into_iter().map(|f| f.system.unwrap()).collect();
    assert_eq!(systems, ["http://loinc.org", "http://q/1", "http://q/1", "http://q/1", "http://q/1"]);
    assert_eq!(
        reject(&but(response, json!({"item": [{"answer": []}]}))).1,
        "QuestionnaireResponse.item.linkId is missing"
    );
}

#[test]
fn an_encounter_moves() {
    let period = |start: &str, end: Json| json!({"start": start, "end": end});
    let place = |display: &str, status: &str, start: &str, end: Json| json!({"location": {"display": display}, "status": status, "period": period(start, end)});
    let visit = of(
        "Encounter",
        json!({"status": "in-progress", "class": {"code": "IMP"}, "period": period("2026-01-01", json!(null)),
        "classHistory": [{"class": {"code": "EMER"}, "period": period("2026-01-01", json!("2026-01-02"))}, {"class": {"code": "IMP"}, "period": period("2026-01-02", json!(null))}],
        "contained": [{"resourceType": "Location", "id": "l", "name": "ICU 3"}],
        "location": [place("ER", "completed", "2026-01-01", json!("2026-01-02")), place("W", "reserved", "2026-01-01", json!(null)),
            {"location": {"reference": "#l"}, "period": period("2026-01-02", json!(null))}, {"location": {"reference": "Location/9"}}]}),
    );
    let day = crate::events::DAY;
    let row = |code: &str, time, part: &str| (code.to_owned(), Value::None, Some(time), part.to_owned());
    let expected = [
        row("ENCOUNTER//IMP//START", 0, "start"),
        row("ENCOUNTER//EMER//START", 0, "class0.START"),
        row("ENCOUNTER//EMER//END", day, "class0.END"),
        row("LOCATION//ER//START", 0, "location0.START"),
        row("LOCATION//ER//END", day, "location0.END"),
        row("LOCATION//ICU 3//START", day, "location2.START"),
    ];
    assert_eq!(rows(&visit), expected);
    assert!(facts(&visit).iter().all(|f| f.encounter.as_deref() == Some("r")));
}

#[test]
fn a_modifier_that_is_not_known_is_not_ignored() {
    let modifier = json!([{"url": "http://h/not", "valueBoolean": true}]);
    for kind in ["Observation", "Flag", "Patient", "Composition", "MedicationRequest", "Encounter"] {
        assert_eq!(skipped(&of(kind, json!({"modifierExtension": modifier}))), [(kind, 1)]);
    }
    assert_eq!(fact(&observation(json!({"valueInteger": 1, "modifierExtension": []}))).value, Value::Number(1.0));
    let parts = json!([{"code": snomed("1"), "valueInteger": 1, "modifierExtension": modifier}, {"code": snomed("2"), "valueInteger": 2}]);
    let (all, notes) = try_read(&observation(json!({"component": parts}))).unwrap();
    assert_eq!((all.len(), all[0].id.as_deref(), notes.unread), (1, Some("Observation/o#1"), vec![("Observation", 1)]));
}

#[test]
fn a_device_is_its_patients() {
    let device = |patient: Json| json!({"resourceType": "Device", "id": "d", "patient": patient});
    let entries = |patient: Json| {
        bundle(
            json!([{"resource": device(patient)}, {"resource": observation(json!({"valueInteger": 1, "subject": {"reference": "Device/d"}}))}]),
        )
    };
    assert_eq!(fact(&entries(json!({"reference": "Patient/p"}))).patient, "p");
    assert_eq!(skipped(&entries(json!(null))), [("Device", 1), ("Observation", 1)]);
    assert_eq!(reject(&entries(json!({"display": "Max"}))).1, "entry 1: Device.patient names no patient");
}

/// Kind, kept and other of each link, `assigner|id`.
fn links(record: &Json) -> Vec<(LinkKind, String, String)> {
    let name = |id: &crate::decode::Identifier<'_>| format!("{}|{}", id.assigner.as_deref().unwrap_or(""), id.patient);
    try_read(record).unwrap().1.links.iter().map(|link| (link.kind, name(&link.kept), name(&link.other))).collect()
}

#[test]
fn who_else_a_patient_is() {
    let typed = |code: &str, system: &str| json!({"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": code}]}, "system": system, "value": "1"});
    let identifiers = json!([typed("SS", "s"), typed("MR", "mrn"), typed("DL", "d"), typed("PPN", "p"), {"value": "9"}, {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "2"}, {"system": "v", "value": "3"}]);
    let link = |kind: &str, other: Json| json!({"type": kind, "other": other});
    let patient = json!({"resourceType": "Patient", "id": "a", "identifier": identifiers, "meta": {"lastUpdated": "2026-01-01T00:00:00Z"}, "link": [
        link("replaced-by", json!({"reference": "Patient/b"})), link("replaces", json!({"reference": "Patient/c"})),
        link("refer", json!({"identifier": {"system": "s", "value": "d"}})), link("seealso", json!({"reference": "http://h/Patient/e"})),
        link("seealso", json!({"reference": "RelatedPerson/f"})), link("seealso", json!({"reference": "Patient/a"}))]});
    let of = |kind, kept: &str, other: &str| (kind, kept.to_owned(), other.to_owned());
    let expected = [
        of(LinkKind::Same, "|a", "mrn|1"),
        of(LinkKind::Same, "|a", "v|3"),
        of(LinkKind::Merge, "|b", "|a"),
        of(LinkKind::Merge, "|a", "|c"),
        of(LinkKind::Same, "s|d", "|a"),
        of(LinkKind::Same, "|a", "|e"),
    ];
    assert_eq!(links(&patient), expected);
    assert!(try_read(&patient).unwrap().1.links.iter().all(|link| link.recorded == Some(NEW_YEAR)));
    // Without an id of its own it stands under a number that a hospital gave, if there is one.
    assert_eq!(links(&but(patient.clone(), json!({"id": null, "link": null}))), [of(LinkKind::Same, "mrn|1", "v|3")]);
    assert_eq!(
        reject(&but(patient.clone(), json!({"link": [link("twin", json!({"reference": "Patient/b"}))]}))).0,
        Reason::Field
    );
    assert_eq!(
        reject(&but(patient, json!({"link": [link("refer", json!({"display": "x"}))]}))).1,
        "Patient.link.other names no patient"
    );
}

#[test]
fn a_deletion_withdraws_what_its_history_shows() {
    let delete = |url: &str| json!({"fullUrl": "http://h/x", "request": {"method": "DELETE", "url": url}, "response": {"status": "204"}});
    let value = |number: i32| json!({"resource": observation(json!({"valueInteger": number})), "request": {"method": "PUT", "url": "Observation/o"}});
    let mut history = bundle(json!([
        delete("Observation/o"),
        delete("Observation/gone"),
        value(2),
        value(1),
        delete("Nonsense"),
        delete("Patient?name=x")
    ]));
    history["type"] = json!("history");
    let (all, notes) = try_read(&history).unwrap();
    let ops: Vec<_> = all.iter().map(|f| (f.op, &f.value, f.id.as_deref().unwrap())).collect();
    assert_eq!(
        ops,
        [
            (Op::Assert, &Value::Number(1.0), "Observation/o"),
            (Op::Assert, &Value::Number(2.0), "Observation/o"),
            (Op::Retract, &Value::Number(2.0), "Observation/o"),
        ]
    );
    assert_eq!(notes.unread, [("Observation", 1), ("Patient", 1), ("other", 1)]);
    // A transaction's deletion is of something older than what it brings.
    history["type"] = json!("transaction");
    let (all, notes) = try_read(&history).unwrap();
    assert!(all.iter().all(|f| f.op == Op::Assert));
    assert_eq!(notes.unread, [("Observation", 2), ("Patient", 1), ("other", 1)]);
}

#[test]
fn a_subscription_notifies() {
    let version = |number: i32| json!({"fullUrl": "http://h/Observation/o", "resource": observation(json!({"valueInteger": number}))});
    let id_only = json!({"fullUrl": "http://h/Condition/1", "request": {"method": "POST", "url": "Condition/1"}, "response": {"status": "201"}});
    for status in ["Parameters", "SubscriptionStatus"] {
        let mut notification = bundle(
            json!([{"fullUrl": "urn:uuid:1", "resource": {"resourceType": status}}, version(1), id_only, version(2)]),
        );
        notification["type"] = json!("history");
        let (all, notes) = try_read(&notification).unwrap();
        let values: Vec<_> = all.iter().map(|f| &f.value).collect();
        // In the order of the events, and what was not sent is counted.
        assert_eq!(values, [&Value::Number(1.0), &Value::Number(2.0)]);
        assert!(notes.unread.contains(&("Condition", 1)), "{notes:?}");
    }
}

#[test]
fn lines_of_a_bulk_export_are_of_one_subject() {
    let lines = [
        json!({"resourceType": "Patient", "id": "123", "gender": "male", "identifier": [{"system": "mrn", "value": "7"}]}),
        observation(json!({"valueInteger": 1, "subject": {"reference": "Patient/123"}})),
        observation(json!({"valueInteger": 1, "subject": {"reference": "https://h/fhir/Patient/123"}})),
    ];
    assert!(lines.iter().all(|line| fact(line).patient == "123" && fact(line).assigner.is_none()));
    // One that names the patient by number only is led to the same subject by the link.
    let by_number =
        fact(&observation(json!({"valueInteger": 1, "subject": {"identifier": {"system": "mrn", "value": "7"}}})));
    assert_eq!((by_number.assigner.as_deref(), &*by_number.patient), (Some("mrn"), "7"));
    assert_eq!(links(&lines[0]), [(LinkKind::Same, "|123".to_owned(), "mrn|7".to_owned())]);
}
