use std::borrow::Cow;

use serde_json::{Value as Json, json};

use super::super::{Reason, Rules, Value, decode as decode_any};
use super::*;
use crate::events::{DAY, HOUR, Micros};
use crate::settings::Format;

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: Micros = 1_767_225_600_000_000;

/// Facts and count of a record; it lives as long as the test.
pub(super) fn try_read(record: &Json) -> Result<(Vec<Fact<'static>>, Notes<'static>), Reject> {
    let text: &'static str = Box::leak(record.to_string().into_boxed_str());
    let mut facts = Vec::new();
    let unread = decode_any(Format::Fhir, &Rules::default(), text.as_bytes(), &mut facts)?;
    Ok((facts, unread))
}

pub(super) fn facts(record: &Json) -> Vec<Fact<'static>> {
    try_read(record).unwrap().0
}

pub(super) fn fact(record: &Json) -> Fact<'static> {
    let mut all = facts(record);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Types that gave no fact, of a record that gave none.
pub(super) fn skipped(record: &Json) -> Vec<(&'static str, u32)> {
    let (facts, unread) = try_read(record).unwrap();
    assert!(facts.is_empty(), "{facts:?}");
    unread.unread
}

pub(super) fn reject(record: &Json) -> (Reason, String) {
    let reject = try_read(record).unwrap_err();
    (reject.reason, reject.detail)
}

/// The resource with the fields of `with` set; null takes a field away.
pub(super) fn but(mut resource: Json, with: Json) -> Json {
    let fields = resource.as_object_mut().unwrap();
    for (name, value) in with.as_object().unwrap() {
        match value {
            Json::Null => fields.remove(name),
            value => fields.insert(name.clone(), value.clone()),
        };
    }
    resource
}

pub(super) fn observation(with: Json) -> Json {
    let loinc = json!({"coding": [{"system": "http://loinc.org", "code": "8867-4"}]});
    but(
        json!({"resourceType": "Observation", "id": "o", "status": "final", "code": loinc,
            "subject": {"reference": "Patient/p"}, "effectiveDateTime": "2026-01-01T01:00:00+01:00"}),
        with,
    )
}

fn encounter(with: Json) -> Json {
    but(
        json!({"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "IMP"},
            "subject": {"reference": "Patient/p"}, "period": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-03"}}),
        with,
    )
}

pub(super) fn bundle(entries: Json) -> Json {
    json!({"resourceType": "Bundle", "type": "collection", "entry": entries})
}

#[test]
fn a_patient() {
    let all = facts(&json!({"resourceType": "Patient", "id": "p", "birthDate": "1969-12-31", "gender": "male",
        "deceasedDateTime": "2026-01-01T00:00:00Z", "name": [{"family": "x"}]}));
    let rows: Vec<_> = all.iter().map(|f| (&*f.code, f.time, f.id.as_deref().unwrap())).collect();
    assert_eq!(
        rows,
        [
            ("GENDER//M", None, "Patient/p#gender"),
            ("MEDS_BIRTH", Some(-DAY), "Patient/p#birth"),
            ("MEDS_DEATH", Some(NEW_YEAR), "Patient/p#death"),
        ]
    );
    assert!(all.iter().all(|f| f.patient == "p" && f.assigner.is_none() && f.system.is_none() && f.recorded.is_none()));
    for (word, code) in [("female", "GENDER//F"), ("other", "GENDER//O"), ("unknown", "GENDER//U")] {
        assert_eq!(fact(&json!({"resourceType": "Patient", "id": "p", "gender": word})).code, code);
    }
}

#[test]
fn a_patient_without_facts_is_counted_and_no_death_is_invented() {
    let patient = |with| but(json!({"resourceType": "Patient", "id": "p"}), with);
    assert_eq!(skipped(&patient(json!({}))), [("Patient", 1)]);
    assert_eq!(skipped(&patient(json!({"deceasedBoolean": true}))), [("Patient", 1)]);
    let (facts, unread) = try_read(&patient(json!({"deceasedBoolean": true, "gender": "male"}))).unwrap();
    assert_eq!((facts.len(), unread.unread), (1, vec![("Patient", 1)]));
    let (facts, unread) = try_read(&patient(json!({"deceasedBoolean": false, "gender": "male"}))).unwrap();
    assert_eq!((facts.len(), unread.unread), (1, vec![]));
    assert_eq!(reject(&patient(json!({"gender": "M"}))).0, Reason::Field);
    assert_eq!(reject(&json!({"resourceType": "Patient", "gender": "male"})).0, Reason::Patient);
}

#[test]
fn an_encounter_starts_and_ends() {
    let home = json!({"dischargeDisposition": {"coding": [{"system": "x", "code": "home"}]}});
    let all = facts(&encounter(json!({"hospitalization": home})));
    let rows: Vec<_> = all.iter().map(|f| (&*f.code, f.time, f.id.as_deref(), f.encounter.as_deref())).collect();
    assert_eq!(
        rows,
        [
            ("ENCOUNTER//IMP//START", Some(NEW_YEAR), Some("Encounter/e#start"), Some("e")),
            ("ENCOUNTER//IMP//END", Some(NEW_YEAR + 2 * DAY), Some("Encounter/e#end"), Some("e")),
        ]
    );
    assert_eq!((&all[0].value, &all[1].value), (&Value::None, &Value::Text("home".into())));
    let text = json!({"dischargeDisposition": {"text": "to her GP"}});
    assert_eq!(facts(&encounter(json!({"hospitalization": text})))[1].value, Value::Text("to her GP".into()));
}

#[test]
fn an_encounter_by_its_status() {
    for runs in ["arrived", "triaged", "in-progress", "onleave"] {
        assert_eq!(fact(&encounter(json!({"status": runs}))).code, "ENCOUNTER//IMP//START");
    }
    for withdrawn in ["cancelled", "entered-in-error"] {
        let all = facts(&encounter(json!({"status": withdrawn, "period": null})));
        let rows: Vec<_> = all.iter().map(|f| (&*f.code, f.time, f.op, f.id.as_deref())).collect();
        assert_eq!(
            rows,
            [
                ("ENCOUNTER//IMP//START", None, Op::Retract, Some("Encounter/e#start")),
                ("ENCOUNTER//IMP//END", None, Op::Retract, Some("Encounter/e#end")),
            ]
        );
    }
    assert_eq!(skipped(&encounter(json!({"status": "planned"}))), [("Encounter", 1)]);
    assert_eq!(skipped(&encounter(json!({"period": null}))), [("Encounter", 1)]);
    assert_eq!(fact(&encounter(json!({"period": {"end": "2026"}}))).code, "ENCOUNTER//IMP//END");
    assert_eq!(
        reject(&encounter(json!({"class": null}))),
        (Reason::Field, "Encounter.class is missing or has no code".to_owned())
    );
}

#[test]
fn every_value_of_an_observation() {
    let ucum = |value: Json, code| json!({"value": value, "unit": "word", "system": "http://unitsofmeasure.org", "code": code});
    let text = |text: &'static str| Value::Text(text.into());
    for (name, value, found, unit) in [
        ("valueQuantity", ucum(json!(36.6), "Cel"), Value::Number(36.6), Some("Cel")),
        ("valueQuantity", json!({"value": 7, "unit": "mmol/l"}), Value::Number(7.0), Some("mmol/l")),
        ("valueQuantity", json!({"value": 7, "code": "a", "system": "x"}), Value::Number(7.0), Some("a")),
        ("valueQuantity", json!({"value": -7e-2}), Value::Number(-0.07), None),
        ("valueQuantity", json!({"value": 5, "comparator": "<", "unit": "ng/L"}), text("<5"), Some("ng/L")),
        ("valueQuantity", json!({"value": 1.5, "comparator": ">="}), text(">=1.5"), None),
        (
            "valueCodeableConcept",
            json!({"coding": [{"code": "a"}, {"system": "http://loinc.org", "code": "LA1"}]}),
            Value::Code("LA1".into()),
            None,
        ),
        ("valueCodeableConcept", json!({"text": "blue"}), text("blue"), None),
        ("valueString", json!("as\nwritten"), text("as\nwritten"), None),
        ("valueBoolean", json!(false), Value::Bool(false), None),
        ("valueInteger", json!(-3), Value::Number(-3.0), None),
        ("valueRange", json!({"low": ucum(json!(1.0), "mg"), "high": ucum(json!(2), "mg")}), text("1.0-2"), Some("mg")),
        ("valueRange", json!({"low": ucum(json!(1), "mg"), "high": ucum(json!(2), "g")}), text("1 mg-2 g"), None),
        ("valueRange", json!({"low": {"value": 1}}), text(">=1"), None),
        ("valueRange", json!({"high": {"value": 2, "unit": "d"}}), text("<=2"), Some("d")),
        ("valueRatio", json!({"numerator": {"value": 1}, "denominator": {"value": 128}}), text("1:128"), None),
        (
            "valueRatio",
            json!({"numerator": {"value": 1, "comparator": "<", "unit": "mg"}, "denominator": {"value": 2, "unit": "mL"}}),
            text("<1:2"),
            Some("mg/mL"),
        ),
        (
            "valueRatio",
            json!({"numerator": {"value": 1}, "denominator": {"value": 2, "unit": "L"}}),
            text("1:2"),
            Some("/L"),
        ),
        ("valueRatio", json!({"numerator": {"value": 1, "unit": "g"}}), text("1"), Some("g")),
        ("valueTime", json!("10:30:00"), text("10:30:00"), None),
        ("valueDateTime", json!("2026-01"), text("2026-01"), None),
        ("valuePeriod", json!({"start": "2026", "end": "2027"}), text("2026/2027"), None),
        ("valuePeriod", json!({"end": "2027"}), text("/2027"), None),
    ] {
        let read = fact(&observation(json!({name: value})));
        assert_eq!((&read.value, read.unit.as_deref()), (&found, unit), "{name} {value}");
    }
    let samples = json!({"origin": ucum(json!(2048), "mV"), "period": 10, "factor": 1.612, "lowerLimit": -3300,
        "dimensions": 1, "data": "2041 E -7 \"U\""});
    let read = fact(&observation(json!({"valueSampledData": samples})));
    let expected =
        r#"{"origin":2048,"period":10,"factor":1.612,"lowerLimit":-3300,"dimensions":1,"data":"2041 E -7 \"U\""}"#;
    assert_eq!((&read.value, read.unit.as_deref()), (&text(expected), Some("mV")));
    // Readable as JSON, whatever the samples are.
    let Value::Text(text) = read.value else { panic!("{:?}", read.value) };
    assert_eq!(serde_json::from_str::<Json>(&text).unwrap()["data"], samples["data"]);
    assert_eq!(skipped(&observation(json!({"valueSampledData": {"period": 10}}))), [("Observation", 1)]);
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    for (name, value, detail) in [
        ("valueQuantity", json!(1), "Observation.valueQuantity must be an object"),
        ("valueQuantity", json!({"value": {"a": 1}}), "Quantity.value must be a number"),
        ("valueQuantity", json!({"value": "1"}), "Quantity.value must be a number"),
        ("valueQuantity", json!({"value": 1, "comparator": "~"}), "Quantity.comparator must be <, <=, >= or >"),
        ("valueQuantity", json!({"value": 1, "unit": 1}), "Quantity.unit must be a string"),
        ("valueString", json!({"a": 1}), "Observation.valueString must be a string"),
        ("valueBoolean", json!("true"), "Observation.valueBoolean must be true or false"),
        ("valueInteger", json!([]), "Observation.valueInteger must be a number"),
        ("valueCodeableConcept", json!("a"), "Observation.valueCodeableConcept must be an object"),
        ("valueCodeableConcept", json!({"coding": {}}), "CodeableConcept.coding must be an array"),
        ("valueCodeableConcept", json!({"coding": ["a"]}), "CodeableConcept.coding must be an object"),
        ("valueRange", json!({"low": 1}), "Range.low must be an object"),
        (
            "component",
            json!([{"code": {"text": "a"}, "valueInteger": true}]),
            "Observation.component.valueInteger must be a number",
        ),
        (
            "component",
            json!([{"valueInteger": 1}]),
            "Observation.component.code is missing or holds no code and no text",
        ),
    ] {
        assert_eq!(reject(&observation(json!({name: value}))), (Reason::Field, detail.to_owned()));
    }
    let two = observation(json!({"valueInteger": 1, "valueString": "a"}));
    assert_eq!(reject(&two), (Reason::Field, "Observation.value[x] stands twice".to_owned()));
    let text = observation(json!({"valueInteger": 1})).to_string();
    for huge in ["1e999", "-1e999"] {
        let text = text.replace("\"valueInteger\":1", &format!("\"valueInteger\":{huge}"));
        let reject = decode(text.as_bytes(), &mut Vec::new()).unwrap_err();
        assert_eq!(reject.detail, "Observation.valueInteger must be a finite number");
    }
    let twice = text.replace("\"valueInteger\":1", "\"valueInteger\":1,\"valueInteger\":2");
    assert_eq!(decode(twice.as_bytes(), &mut Vec::new()).unwrap_err().detail, "Observation.valueInteger stands twice");
}

#[test]
fn components_are_facts_of_their_own() {
    let part = |code: &str, value: Json| but(json!({"code": {"coding": [{"system": "s", "code": code}]}}), value);
    let parts = json!([
        part("a", json!({"valueInteger": 1})),
        part("b", json!({"dataAbsentReason": {}})),
        part("c", json!({"valueInteger": 3}))
    ]);
    let all = facts(&observation(json!({"component": parts})));
    let rows: Vec<_> = all.iter().map(|f| (&*f.code, f.id.as_deref().unwrap(), f.op)).collect();
    assert_eq!(rows, [("a", "Observation/o#0", Op::Assert), ("c", "Observation/o#2", Op::Assert)]);
    assert_eq!(facts(&observation(json!({"component": parts, "valueInteger": 0}))).len(), 3);
    let unnamed = facts(&observation(json!({"component": parts, "id": null})));
    assert!(unnamed.iter().all(|f| f.id.is_none()));
    // Corrected: what has lost its value is withdrawn; cancelled: all of it.
    let ops = |status| {
        facts(&observation(json!({"component": parts, "status": status})))
            .iter()
            .map(|f| (f.id.clone().unwrap(), f.op))
            .collect::<Vec<_>>()
    };
    let id = |n| Cow::Owned(format!("Observation/o{n}"));
    let all = |first| [("", Op::Retract), ("#0", first), ("#1", Op::Retract), ("#2", first)].map(|(n, op)| (id(n), op));
    assert_eq!(ops("corrected"), all(Op::Assert));
    assert_eq!(ops("cancelled"), all(Op::Retract));
}

#[test]
fn nothing_measured_is_no_fact_but_may_withdraw_one() {
    let absent = json!({"dataAbsentReason": {"text": "lost"}});
    assert_eq!(skipped(&observation(absent.clone())), [("Observation", 1)]);
    for status in ["amended", "corrected", "cancelled", "entered-in-error"] {
        let read = fact(&observation(but(absent.clone(), json!({"status": status}))));
        assert_eq!((read.op, &read.value, read.id.as_deref()), (Op::Retract, &Value::None, Some("Observation/o")));
    }
    for status in ["amended", "corrected"] {
        let read = fact(&observation(json!({"status": status, "valueInteger": 4})));
        assert_eq!((read.op, &read.value), (Op::Assert, &Value::Number(4.0)));
        // Without an id there is nothing that it could withdraw.
        let unnamed = but(observation(absent.clone()), json!({"status": status, "id": null}));
        assert_eq!(skipped(&unnamed), [("Observation", 1)]);
    }
    let read = fact(&observation(json!({"status": "entered-in-error", "valueInteger": 4})));
    assert_eq!((read.op, &read.value), (Op::Retract, &Value::Number(4.0)));
    assert_eq!(skipped(&observation(json!({"status": "registered"}))), [("Observation", 1)]);
}

#[test]
fn times_of_an_observation() {
    let times = |with| {
        let read = fact(&observation(but(json!({"valueInteger": 1, "effectiveDateTime": null}), with)));
        (read.time.map(|t| t - NEW_YEAR), read.recorded.map(|t| t - NEW_YEAR))
    };
    let issued = "2026-01-01T02:00:00Z";
    assert_eq!(times(json!({"effectiveDateTime": "2026-01-01T01:00:00+01:00"})), (Some(0), None));
    assert_eq!(times(json!({"effectiveDateTime": "2026-01-01", "issued": issued})), (Some(0), Some(2 * HOUR)));
    assert_eq!(times(json!({"effectivePeriod": {"start": "2026-01-01T01:00:00Z"}})), (Some(HOUR), None));
    assert_eq!(times(json!({"effectivePeriod": {"end": "2026-01-01T01:00:00Z"}})), (Some(HOUR), None));
    assert_eq!(times(json!({"effectiveInstant": "2026-01-01T01:00:00Z"})), (Some(HOUR), None));
    assert_eq!(times(json!({"effectiveTiming": {"event": ["2026-01-01T03:00:00Z"]}})), (Some(3 * HOUR), None));
    assert_eq!(times(json!({"issued": issued})), (Some(2 * HOUR), Some(2 * HOUR)));
    assert_eq!(times(json!({})), (None, None));
    for (field, time, detail) in [
        (
            "effectiveDateTime",
            json!("2026-01-01T01:00:00"),
            "Observation.effectiveDateTime is neither a date nor a time with an offset",
        ),
        ("issued", json!("yesterday"), "Observation.issued is neither a date nor a time with an offset"),
        ("effectivePeriod", json!({"start": "2026-13"}), "Period.start is neither a date nor a time with an offset"),
        ("effectiveTiming", json!({"event": ["x"]}), "Timing.event is neither a date nor a time with an offset"),
    ] {
        assert_eq!(reject(&observation(json!({"valueInteger": 1, field: time}))), (Reason::Time, detail.to_owned()));
    }
}

#[test]
fn a_condition_by_onset_and_record() {
    let condition = |with| {
        but(
            json!({"resourceType": "Condition", "id": "c", "code": {"text": "flu"}, "subject": {"reference": "Patient/p"}}),
            with,
        )
    };
    let times = |with| {
        let read = fact(&condition(with));
        (read.time.map(|t| t - NEW_YEAR), read.recorded.map(|t| t - NEW_YEAR))
    };
    assert_eq!(times(json!({"onsetDateTime": "2026-01-01", "recordedDate": "2026-01-02"})), (Some(0), Some(DAY)));
    assert_eq!(times(json!({"onsetPeriod": {"start": "2026-01-01T00:00:00Z"}})), (Some(0), None));
    assert_eq!(times(json!({"onsetString": "long ago", "recordedDate": "2026-01-02"})), (Some(DAY), Some(DAY)));
    assert_eq!(times(json!({"onsetAge": {"value": 4}})), (None, None));
    // On the day of its record it cannot have been known before it began.
    assert_eq!(
        times(json!({"onsetDateTime": "2026-01-02T06:00:00Z", "recordedDate": "2026-01-02"})),
        (Some(30 * HOUR), Some(30 * HOUR))
    );
    for (code, op) in [
        ("confirmed", Op::Assert),
        ("differential", Op::Assert),
        ("refuted", Op::Retract),
        ("entered-in-error", Op::Retract),
    ] {
        let status = json!({"verificationStatus": {"coding": [{"code": code}]}});
        assert_eq!(fact(&condition(status)).op, op, "{code}");
    }
    assert_eq!(skipped(&condition(json!({"code": null}))), [("Condition", 1)]);
    let withdrawn = json!({"code": null, "verificationStatus": {"coding": [{"code": "entered-in-error"}]}});
    assert_eq!(fact(&condition(withdrawn)).id.as_deref(), Some("Condition/c"));
}

#[test]
fn the_code_of_a_concept() {
    let code = |concept: Json| {
        let read = fact(&observation(json!({"valueInteger": 1, "code": concept})));
        (read.system.unwrap().into_owned(), read.code.into_owned())
    };
    let is = |system: &str, code: &str| (system.to_owned(), code.to_owned());
    let coding = |system: &str, code: &str| json!({"system": system, "code": code, "display": "d"});
    let (own, snomed, loinc) =
        (coding("urn:own", "1"), coding("http://snomed.info/sct", "2"), coding("http://loinc.org", "3"));
    assert_eq!(code(json!({"coding": [own, snomed, loinc], "text": "t"})), is("http://snomed.info/sct", "2"));
    assert_eq!(code(json!({"coding": [{"code": "0"}, own, coding("urn:b", "4")]})), is("urn:own", "1"));
    assert_eq!(code(json!({"coding": [{"code": "MEDS_DEATH"}]})), is(coding::TEXT, "MEDS_DEATH"));
    assert_eq!(code(json!({"coding": [{"display": "d"}], "text": "t"})), is(coding::TEXT, "t"));
    assert_eq!(code(json!({"coding": [{"display": "d"}]})), is(coding::TEXT, "d"));
    let detail = "Observation.code is missing or holds no code and no text".to_owned();
    for nothing in [json!({}), json!({"coding": []}), json!({"text": ""}), json!(null)] {
        let record = observation(json!({"valueInteger": 1, "code": nothing}));
        assert_eq!(reject(&record), (Reason::Field, detail.clone()));
    }
}

#[test]
fn orders_and_doses() {
    let request = |with| {
        but(
            json!({"resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order",
        "subject": {"reference": "Patient/p"}, "encounter": {"reference": "Encounter/e"}, "authoredOn": "2026-01-01T00:00:00Z",
        "medicationCodeableConcept": {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "1"}]}}),
            with,
        )
    };
    let read = fact(&request(json!({})));
    assert_eq!(
        (&*read.code, read.time, read.recorded, &read.value),
        ("1", Some(NEW_YEAR), Some(NEW_YEAR), &Value::Text("order".into()))
    );
    assert_eq!((read.encounter.as_deref(), read.id.as_deref()), (Some("e"), Some("MedicationRequest/m")));
    assert_eq!(fact(&request(json!({"status": "cancelled"}))).op, Op::Retract);
    for no_order in [
        json!({"intent": "proposal"}),
        json!({"intent": "option"}),
        json!({"doNotPerform": true}),
        json!({"status": "draft"}),
    ] {
        assert_eq!(skipped(&request(no_order)), [("MedicationRequest", 1)]);
    }
    assert_eq!(
        reject(&request(json!({"medicationCodeableConcept": null}))).1,
        "MedicationRequest.medication[x] is missing"
    );
    let dose = json!({"resourceType": "MedicationAdministration", "id": "a", "status": "completed", "subject": {"reference": "Patient/p"},
        "context": {"reference": "Encounter/e"}, "effectivePeriod": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02"},
        "medicationCodeableConcept": {"text": "aspirin"}, "dosage": {"dose": {"value": 4.5, "unit": "g"}}});
    let read = fact(&dose);
    assert_eq!(
        (read.time, &read.value, read.unit.as_deref(), read.encounter.as_deref()),
        (Some(NEW_YEAR), &Value::Number(4.5), Some("g"), Some("e"))
    );
    assert_eq!(fact(&but(dose, json!({"status": "not-done"}))).op, Op::Retract);
}

#[test]
fn the_medication_of_a_reference() {
    let request = |reference: Json, contained: Json| {
        json!({"resourceType": "MedicationRequest", "id": "m", "contained": contained,
        "subject": {"reference": "Patient/p"}, "medicationReference": reference})
    };
    let medication =
        json!({"resourceType": "Medication", "id": "1", "code": {"coding": [{"system": "ndc", "code": "9"}]}});
    let bare = json!({"resourceType": "Medication", "id": "1"});
    let code = |record: &Json| facts(record).pop().map(|f| (f.system.unwrap().into_owned(), f.code.into_owned()));
    let is = |system: &str, code: &str| Some((system.to_owned(), code.to_owned()));
    assert_eq!(code(&request(json!({"reference": "#1"}), json!([medication]))), is("ndc", "9"));
    assert_eq!(code(&request(json!({"reference": "#1", "display": "x"}), json!([bare]))), is(coding::TEXT, "x"));
    let mixed = json!({"resourceType": "Medication", "id": "1", "ingredient": [
        {"itemCodeableConcept": {"text": "a"}}, {"itemReference": {"reference": "#s"}}, {"itemCodeableConcept": {"text": "b"}}]});
    let parts = facts(&request(json!({"reference": "#1", "display": "x"}), json!([mixed])));
    let rows: Vec<_> = parts.iter().map(|f| (&*f.code, f.id.as_deref().unwrap())).collect();
    assert_eq!(rows, [("a", "MedicationRequest/m#0"), ("b", "MedicationRequest/m#1")]);
    let dose = json!({"resourceType": "MedicationAdministration", "subject": {"reference": "Patient/p"}, "contained": [mixed],
        "medicationReference": {"reference": "#1"}, "dosage": {"dose": {"value": 500, "unit": "mL"}}});
    assert!(facts(&dose).iter().all(|f| f.value == Value::None && f.unit.is_none() && f.id.is_none()));
    assert_eq!(facts(&dose).len(), 2);
    assert_eq!(code(&request(json!({"reference": "#2"}), json!([medication]))), None);
    assert_eq!(
        code(&request(json!({"reference": "Medication/1"}), json!([medication]))),
        is(coding::REFERENCE, "Medication/1")
    );
    assert_eq!(code(&request(json!({"identifier": {"system": "a", "value": "b"}}), json!([]))), is("a", "b"));
    for reference in ["Medication/1", "urn:uuid:7", "Medication/1/_history/2"] {
        let record = bundle(
            json!([{"fullUrl": "urn:uuid:7", "resource": medication}, {"resource": request(json!({"reference": reference}), json!([]))}]),
        );
        assert_eq!(code(&record), is("ndc", "9"), "{reference}");
    }
    let order = request(json!({"reference": "urn:uuid:7"}), json!([]));
    let record = bundle(json!([{"fullUrl": "urn:uuid:7", "resource": bare}, {"resource": order}]));
    assert_eq!(code(&record), is(coding::REFERENCE, "Medication/1"));
    assert_eq!(skipped(&order), [("MedicationRequest", 1)]);
}

#[test]
fn vaccines_allergies_procedures_and_reports() {
    let subject = json!({"reference": "Patient/p"});
    let vaccine = json!({"resourceType": "Immunization", "id": "i", "status": "completed", "patient": subject,
        "vaccineCode": {"coding": [{"system": "http://hl7.org/fhir/sid/cvx", "code": "140"}]},
        "occurrenceDateTime": "2026-01-01", "recorded": "2026-01-01T05:00:00Z"});
    let read = fact(&vaccine);
    assert_eq!((&*read.code, read.time, read.recorded), ("140", Some(NEW_YEAR), Some(NEW_YEAR + 5 * HOUR)));
    assert_eq!(fact(&but(vaccine, json!({"status": "not-done"}))).op, Op::Retract);
    let allergy = json!({"resourceType": "AllergyIntolerance", "patient": subject, "code": {"text": "nuts"}, "recordedDate": "2026"});
    let read = fact(&allergy);
    assert_eq!((read.id, &read.value, read.time), (None, &Value::Text("allergy-intolerance".into()), Some(NEW_YEAR)));
    let refuted = json!({"type": "allergy", "verificationStatus": {"coding": [{"code": "refuted"}]}});
    let read = fact(&but(allergy, refuted));
    assert_eq!((&read.value, read.op), (&Value::Text("allergy".into()), Op::Retract));
    let procedure = json!({"resourceType": "Procedure", "id": "q", "status": "completed", "subject": subject, "code": {"text": "x"}});
    assert_eq!(fact(&procedure).time, None);
    let performed = json!({"performedPeriod": {"start": "2026-01-01T01:00:00Z"}});
    assert_eq!(fact(&but(procedure.clone(), performed)).time, Some(NEW_YEAR + HOUR));
    assert_eq!(skipped(&but(procedure.clone(), json!({"status": "preparation"}))), [("Procedure", 1)]);
    assert_eq!(skipped(&but(procedure, json!({"code": null}))), [("Procedure", 1)]);
    let report = json!({"resourceType": "DiagnosticReport", "id": "r", "status": "final", "subject": subject, "code": {"text": "x"},
        "conclusion": "fine", "issued": "2026-01-01T01:00:00Z", "result": [{"reference": "Observation/1"}]});
    let read = fact(&report);
    assert_eq!(
        (read.time, read.recorded, &read.value),
        (Some(NEW_YEAR + HOUR), Some(NEW_YEAR + HOUR), &Value::Text("fine".into()))
    );
}

#[test]
fn whose_it_is() {
    let who = |subject: Json| {
        try_read(&observation(json!({"valueInteger": 1, "subject": subject})))
            .map(|(all, _)| all.first().map(|f| (f.assigner.as_deref().map(str::to_owned), f.patient.to_string())))
    };
    let id = |id: &str| Ok(Some((None, id.to_owned())));
    for same in ["Patient/abc", "urn:uuid:abc", "http://h.org/r4/Patient/abc", "Patient/abc/_history/2"] {
        assert_eq!(who(json!({"reference": same})), id("abc"), "{same}");
    }
    let known = Ok(Some((Some("mrn".to_owned()), "12".to_owned())));
    assert_eq!(who(json!({"identifier": {"system": "mrn", "value": "12"}})), known);
    assert_eq!(who(json!({"reference": "Patient?identifier=mrn|12"})), known);
    // A group, a device, a place: not a patient's fact, and counted.
    for other in [
        json!({"reference": "Group/herd"}),
        json!({"reference": "urn:uuid:1", "type": "Device"}),
        json!({"type": "Location", "identifier": {"system": "a", "value": "b"}}),
    ] {
        assert_eq!(who(other), Ok(None));
    }
    for nobody in [
        json!(null),
        json!({}),
        json!({"display": "Max"}),
        json!({"reference": "#p"}),
        json!({"reference": "Max"}),
        json!({"reference": "Patient/"}),
        json!({"identifier": {"value": "12"}}),
        json!({"reference": "Patient?name=x"}),
    ] {
        let reject = who(nobody.clone()).unwrap_err();
        assert_eq!(
            (reject.reason, &*reject.detail),
            (Reason::Patient, "Observation.subject names no patient"),
            "{nobody}"
        );
    }
    assert_eq!(who(json!("Patient/1")).unwrap_err().reason, Reason::Field);
}

#[test]
fn a_contained_patient_is_known_by_identifier_only() {
    let record =
        |patient: Json| observation(json!({"valueInteger": 1, "subject": {"reference": "#p"}, "contained": [patient]}));
    let known = json!({"resourceType": "Patient", "id": "p", "gender": "male", "identifier": [{"value": "0"}, {"system": "mrn", "value": "12"}]});
    let read = fact(&record(known));
    assert_eq!((read.assigner.as_deref(), &*read.patient), (Some("mrn"), "12"));
    assert_eq!(reject(&record(json!({"resourceType": "Patient", "id": "p"}))).0, Reason::Patient);
    assert_eq!(skipped(&record(json!({"resourceType": "Group", "id": "p"}))), [("Group", 1), ("Observation", 1)]);
}

#[test]
fn another_person_in_focus_is_not_the_patient() {
    let focus = |reference: &str| observation(json!({"valueInteger": 1, "focus": [{"reference": reference}]}));
    for other in ["Patient/mother", "RelatedPerson/1"] {
        assert_eq!(skipped(&focus(other)), [("Observation", 1)]);
    }
    for own in ["Patient/p", "Device/1", "Observation/2"] {
        assert_eq!(facts(&focus(own)).len(), 1, "{own}");
    }
}

#[test]
fn one_patient_in_a_bundle_has_one_name() {
    let patient = json!({"resourceType": "Patient", "id": "abc", "gender": "male", "identifier": [{"system": "mrn", "value": "12"}]});
    let subjects = [
        json!({"reference": "urn:uuid:77"}),
        json!({"reference": "Patient/abc"}),
        json!({"reference": "http://h/Patient/abc"}),
        json!({"identifier": {"system": "mrn", "value": "12"}}),
        json!({"reference": "Patient?identifier=mrn|12"}),
    ];
    let mut entries = vec![json!({"fullUrl": "urn:uuid:77", "resource": patient})];
    entries.extend(
        subjects.iter().map(|subject| json!({"resource": observation(json!({"valueInteger": 1, "subject": subject}))})),
    );
    let all = facts(&bundle(json!(entries)));
    assert_eq!(all.len(), 6);
    assert!(all.iter().all(|f| f.patient == "abc" && f.assigner.is_none()), "{all:?}");
    assert_eq!(fact(&patient).patient, "abc");
    // A Patient to be created has no id yet: that of its URL, for it and for those who refer to it.
    entries[0] = json!({"fullUrl": "urn:uuid:77", "resource": but(patient, json!({"id": null}))});
    entries.truncate(2);
    let all = facts(&bundle(json!(entries)));
    assert!(all.iter().all(|f| f.patient == "77" && f.assigner.is_none()), "{all:?}");
    assert_eq!(all[0].id, None);
}

#[test]
fn the_encounter_of_a_fact() {
    let visit = |reference: Json| {
        fact(&observation(json!({"valueInteger": 1, "encounter": reference}))).encounter.map(|e| e.into_owned())
    };
    for same in ["Encounter/e", "urn:uuid:e", "http://h/Encounter/e/_history/1"] {
        assert_eq!(visit(json!({"reference": same})).as_deref(), Some("e"));
    }
    assert_eq!(visit(json!({"identifier": {"system": "s", "value": "e"}})).as_deref(), Some("e"));
    for none in [json!({"reference": "EpisodeOfCare/e"}), json!({"display": "x"}), json!({"reference": "#e"})] {
        assert_eq!(visit(none), None);
    }
    let entries = json!([
        {"fullUrl": "urn:uuid:9", "resource": encounter(json!({"id": "real"}))},
        {"resource": observation(json!({"valueInteger": 1, "encounter": {"reference": "urn:uuid:9"}}))}
    ]);
    assert!(facts(&bundle(entries)).iter().all(|f| f.encounter.as_deref() == Some("real")));
}

#[test]
fn a_bundle_is_read_whole_or_not() {
    let good = observation(json!({"valueInteger": 1}));
    let other = json!({"resourceType": "Device"});
    let odd = json!({"resourceType": "Nonsense"});
    let (all, unread) = try_read(&bundle(json!([{"resource": good}, {"request": {"method": "GET"}}, {"resource": other}, {"resource": odd}, {"resource": other}, null]))).unwrap();
    assert_eq!((all.len(), unread.unread), (1, vec![("Device", 2), ("other", 1)]));
    let nobody = observation(json!({"valueInteger": 1, "subject": null}));
    let expected = (Reason::Patient, "entry 1: Observation.subject names no patient".to_owned());
    assert_eq!(reject(&bundle(json!([{"resource": good}, {"resource": nobody}]))), expected);
    assert_eq!(
        reject(&bundle(json!([{"resource": {}}]))),
        (Reason::Shape, "entry 0: a resource names no resourceType".to_owned())
    );
    assert_eq!(reject(&bundle(json!([1]))).0, Reason::Field);
    assert_eq!(reject(&bundle(json!([{"resource": 1}]))).1, "entry 0: Bundle.entry.resource must be an object");
    assert_eq!(reject(&bundle(json!({}))).1, "Bundle.entry must be an array");
    assert_eq!(try_read(&bundle(json!([]))), Ok((vec![], Notes::default())));
}

#[test]
fn bundles_in_bundles_have_a_bound() {
    let mut record = bundle(json!([{"resource": observation(json!({"valueInteger": 1}))}]));
    for _ in 0..3 {
        record = bundle(json!([{"resource": record}]));
        assert_eq!(facts(&record).len(), 1);
    }
    let too_deep = bundle(json!([{"resource": record}]));
    assert_eq!(
        reject(&too_deep),
        (Reason::Syntax, "entry 0: entry 0: entry 0: entry 0: more than 4 Bundles stand in each other".to_owned())
    );
}

#[test]
fn a_history_is_read_oldest_first() {
    let version = |value: i32| json!({"resource": observation(json!({"valueInteger": value}))});
    let mut record = bundle(json!([version(2), version(1)]));
    let values = |record: &Json| facts(record).into_iter().map(|f| f.value).collect::<Vec<_>>();
    assert_eq!(values(&record), [Value::Number(2.0), Value::Number(1.0)]);
    record["type"] = json!("history");
    assert_eq!(values(&record), [Value::Number(1.0), Value::Number(2.0)]);
}

#[test]
fn contained_results_are_read() {
    let subject = json!({"reference": "Patient/p"});
    let inner = but(observation(json!({"valueInteger": 1, "id": "r1"})), json!({"subject": subject}));
    let report = json!({"resourceType": "DiagnosticReport", "id": "d", "subject": subject, "code": {"text": "x"}, "contained": [inner, {"resourceType": "Specimen"}]});
    let (all, unread) = try_read(&report).unwrap();
    let ids: Vec<_> = all.iter().map(|f| f.id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["DiagnosticReport/d", "DiagnosticReport/d/Observation/r1"]);
    assert_eq!(unread.unread, [("Specimen", 1)]);
}

#[test]
fn other_resources_alone_give_no_facts() {
    assert_eq!(skipped(&json!({"resourceType": "Claim", "contained": 1})), [("Claim", 1)]);
    assert_eq!(skipped(&json!({"resourceType": "Claims"})), [("other", 1)]);
    assert_eq!(reject(&json!({})), (Reason::Shape, "a resource names no resourceType".to_owned()));
    assert_eq!(
        reject(&json!({"resourceType": 1})),
        (Reason::Field, "resource.resourceType must be a string".to_owned())
    );
}
