//! What holds for every format: bad input ends as a reject, and a reject tells nothing.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const JSON_FORMATS: [Format; 2] = [Format::Flat, Format::Fhir];

/// Appears in every value of the records whose rejects must not tell.
const CANARY: &str = "CANARY-77310";

fn reason(format: Format, bytes: &[u8]) -> Reason {
    let mut facts = Vec::new();
    let reject = decode(format, &Rules::default(), bytes, &mut facts).unwrap_err();
    assert!(facts.is_empty());
    assert!(reject.detail.len() < 200 && !reject.detail.is_empty(), "{}", reject.detail);
    reject.reason
}

fn flat_record() -> Json {
    json!({"patient": CANARY, "time": "2026-01-01T00:07:00Z", "code": CANARY, "system": CANARY, "value": 77310,
        "unit": CANARY, "recorded": "2026-01-01T00:09:12.5+01:00", "id": CANARY, "encounter": CANARY, "op": "assert"})
}

/// A Bundle with one resource of every type that is read, every value marked.
pub(super) fn bundle() -> Json {
    let code = json!({"coding": [{"system": "http://loinc.org", "code": CANARY, "display": CANARY}], "text": CANARY});
    let subject = json!({"reference": "urn:uuid:CANARY-77310", "display": CANARY});
    let visit = json!({"reference": "Encounter/CANARY-77310", "type": "Encounter"});
    let period = json!({"start": "2026-01-01T00:00:00Z", "end": "2026-01-02"});
    let quantity = json!({"value": 77310.5, "comparator": "<", "unit": CANARY, "system": CANARY, "code": CANARY});
    let resources = [
        json!({"resourceType": "Patient", "id": CANARY, "birthDate": "1970-01", "gender": "female",
            "deceasedDateTime": "2026-01-03", "identifier": [{"system": CANARY, "value": CANARY}]}),
        json!({"resourceType": "Encounter", "id": CANARY, "status": "finished", "class": {"code": CANARY},
            "subject": subject, "period": period, "hospitalization": {"dischargeDisposition": code}}),
        json!({"resourceType": "Observation", "id": CANARY, "status": "final", "code": code, "subject": subject,
            "encounter": visit, "effectiveDateTime": "2026-01-01T01:00:00Z", "issued": "2026-01-01T02:00:00Z",
            "valueQuantity": quantity, "focus": [{"reference": "Device/CANARY-77310"}], "component": [
                {"code": code, "valueRange": {"low": quantity, "high": {"value": 77311, "unit": "mL"}}},
                {"code": code, "valueRatio": {"numerator": quantity, "denominator": quantity}},
                {"code": code, "valueCodeableConcept": code}, {"code": code, "valuePeriod": period},
                {"code": code, "valueBoolean": true}, {"code": code, "valueInteger": 77310},
                {"code": code, "valueString": CANARY}, {"code": code, "valueSampledData": {"data": CANARY}}]}),
        json!({"resourceType": "Condition", "id": CANARY, "code": code, "subject": {"identifier": {"system": CANARY, "value": CANARY}},
            "verificationStatus": {"coding": [{"code": "confirmed"}]}, "onsetPeriod": period, "recordedDate": "2026"}),
        json!({"resourceType": "Procedure", "id": CANARY, "status": "completed", "code": code, "subject": subject, "performedPeriod": period}),
        json!({"resourceType": "MedicationRequest", "id": CANARY, "status": "active", "intent": "order", "subject": subject,
            "authoredOn": "2026-01-01", "medicationCodeableConcept": code, "doNotPerform": false}),
        json!({"resourceType": "MedicationAdministration", "id": CANARY, "status": "completed", "subject": subject, "context": visit,
            "contained": [{"resourceType": "Medication", "id": "CANARY-77310", "code": code}],
            "effectiveTiming": {"event": ["2026-01-01T01:00:00Z"]}, "medicationReference": {"reference": "#CANARY-77310"},
            "dosage": {"dose": quantity}}),
        json!({"resourceType": "Immunization", "id": CANARY, "status": "completed", "vaccineCode": code, "patient": subject,
            "occurrenceDateTime": "2026-01-01", "recorded": "2026-01-02"}),
        json!({"resourceType": "AllergyIntolerance", "id": CANARY, "code": code, "patient": subject, "type": "allergy", "onsetDateTime": "2026"}),
        json!({"resourceType": "DiagnosticReport", "id": CANARY, "status": "final", "code": code, "subject": subject,
            "issued": "2026-01-01T02:00:00Z", "conclusion": CANARY, "contained": [{"resourceType": "Observation", "id": "1",
                "code": code, "subject": subject, "valueTime": "10:00:00"}]}),
        json!({"resourceType": "Claim", "id": CANARY}),
    ];
    let entries: Vec<Json> = resources
        .into_iter()
        .enumerate()
        .map(|(at, resource)| {
            let url = if at == 0 { format!("urn:uuid:{CANARY}") } else { format!("http://h.org/{at}") };
            json!({"fullUrl": url, "resource": resource})
        })
        .collect();
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}

pub(super) fn count(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(fields) => fields.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Replaces the `at`-th node in depth-first order.
pub(super) fn replace(json: &mut Json, at: &mut usize, with: &Json) {
    if *at == 0 {
        *json = with.clone();
        *at = usize::MAX;
        return;
    }
    *at -= 1;
    let children: Vec<&mut Json> = match json {
        Json::Array(items) => items.iter_mut().collect(),
        Json::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        if *at != usize::MAX {
            replace(child, at, with);
        }
    }
}

/// A reject of this record tells none of its values, and leaves `facts` as they were.
pub(super) fn tells_nothing(format: Format, text: &str) -> Result<(), TestCaseError> {
    let mut facts = Vec::new();
    if let Err(reject) = decode(format, &Rules::default(), text.as_bytes(), &mut facts) {
        prop_assert!(!reject.detail.contains("CANARY") && !reject.detail.contains("77310"), "{}", reject.detail);
        prop_assert!(facts.is_empty());
    }
    Ok(())
}

#[test]
fn the_records_of_these_tests_are_valid() {
    let mut facts = Vec::new();
    let (flat, fhir) = (flat_record().to_string(), bundle().to_string());
    decode(Format::Flat, &Rules::default(), flat.as_bytes(), &mut facts).unwrap();
    let unread = decode(Format::Fhir, &Rules::default(), fhir.as_bytes(), &mut facts).unwrap();
    assert_eq!(unread.unread, [("Claim", 1)]);
    assert_eq!(facts.len(), 1 + 3 + 2 + 9 + 6 + 2);
    assert!(facts.iter().all(|fact| fact.patient == CANARY));
}

#[test]
fn bad_lines_of_the_conformance_tool() {
    let heart = |time: &str, rest: &str| {
        format!(r#"{{"patient":"1","time":"{time}","code":"8867-4","system":"http://loinc.org",{rest}}}"#)
    };
    let new_year = "2026-01-01T00:00:00Z";
    for (line, expected) in [
        (
            r#"{"patient":"1","time":"2026-01-01T00:00:00Z","code":"8867-4","system":"http://loinc.org","value":7"#
                .to_owned(),
            Reason::Syntax,
        ),
        (String::new(), Reason::Empty),
        (" \r\n\t".to_owned(), Reason::Empty),
        ("null".to_owned(), Reason::Shape),
        ("[]".to_owned(), Reason::Shape),
        (r#"{"time":"2026-01-01T00:00:00Z","code":"8867-4","value":70}"#.to_owned(), Reason::Patient),
        (heart("2026-01-01T00:00:00", r#""value":70,"unit":"/min""#), Reason::Time),
        (heart("2026-13-01T00:00:00Z", r#""value":70,"unit":"/min""#), Reason::Time),
        (heart(new_year, r#""value":{"a":1},"unit":"/min""#), Reason::Field),
        (heart(new_year, r#""value":70,"unit":"/min","op":"perhaps""#), Reason::Field),
        (r#"{"patient":"1","time":"2026-01-01T00:00:00Z","value":70}"#.to_owned(), Reason::Field),
        ("{".repeat(100_000), Reason::Syntax),
    ] {
        assert_eq!(reason(Format::Flat, line.as_bytes()), expected, "{}", &line[..line.len().min(100)]);
    }
}

#[test]
fn own_codes_cannot_be_forged() {
    let flat =
        |code: &str, system: Json| json!({"patient": "1", "time": null, "code": code, "system": system}).to_string();
    for (code, system) in
        [("TICK", None), ("PATIENT//TOKEN", None), ("AUSCULT//PREDICTION", None), ("TOKEN", Some("PATIENT"))]
    {
        assert_eq!(reason(Format::Flat, flat(code, json!(system)).as_bytes()), Reason::Field);
    }
    for (code, system) in
        [("TICKS", None), ("TICK", Some("http://loinc.org")), ("TOKEN", None), ("TOKEN", Some("PATIENT//"))]
    {
        assert!(decode(Format::Flat, &Rules::default(), flat(code, json!(system)).as_bytes(), &mut Vec::new()).is_ok());
    }
    let mut record = bundle();
    record["entry"][2]["resource"]["code"] = json!({"coding": [{"system": "PATIENT", "code": "TOKEN"}]});
    assert_eq!(reason(Format::Fhir, record.to_string().as_bytes()), Reason::Field);
}

#[test]
fn bad_bytes_of_both_formats() {
    for format in JSON_FORMATS {
        for (bytes, expected) in [
            (&b""[..], Reason::Empty),
            (b"\n", Reason::Empty),
            (b"null", Reason::Shape),
            (b"[]", Reason::Shape),
            (b"[{}]", Reason::Shape),
            (b"\"a\"", Reason::Shape),
            (b"nul", Reason::Syntax),
            (b"NaN", Reason::Syntax),
            (b"\xef\xbb\xbf{}", Reason::Syntax),
            (b"\xff\xfe{\0}\0", Reason::Syntax),
            (b"{\"a\":\"\xc3\x28\"}", Reason::Syntax),
            (b"{\"\xed\xa0\x80\":1}", Reason::Syntax),
            (b"{} x", Reason::Syntax),
            (b"{}{}", Reason::Syntax),
            (b"{\"a\":1,}", Reason::Syntax),
            (b"{\"\\ud800\":1}", Reason::Syntax),
            (b"\0", Reason::Syntax),
            (b"MSH|^~\\&|", Reason::Syntax),
        ] {
            assert_eq!(reason(format, bytes), expected, "{format:?} {}", bytes.escape_ascii());
        }
    }
    assert_eq!(reason(Format::Hl7v2, b"MSH|"), Reason::Field);
}

#[test]
fn ten_megabytes_of_brackets_in_a_small_stack() {
    const N: usize = 5_000_000;
    let (open, close) = ("[".repeat(N), "]".repeat(N));
    let objects = r#"{"a":"#.repeat(N / 2);
    let flat = |field: &str, nested: &str| format!(r#"{{"patient":"1","time":null,"code":"a","{field}":{nested}}}"#);
    let fhir = |field: &str, nested: &str| {
        format!(
            r#"{{"resourceType":"Observation","status":"final","code":{{"text":"a"}},"subject":{{"reference":"Patient/1"}},"{field}":{nested}}}"#
        )
    };
    let nested = format!("{open}{close}");
    let bundles =
        format!("{}null{}", r#"{"resourceType":"Bundle","entry":[{"resource":"#.repeat(200_000), "}]}".repeat(200_000));
    let tests = move || {
        for format in JSON_FORMATS {
            for bytes in [&open, &objects, &"{".repeat(2 * N), &format!("{open}{open}")] {
                assert_eq!(
                    reason(format, bytes.as_bytes()),
                    if bytes.starts_with('[') { Reason::Shape } else { Reason::Syntax }
                );
            }
            assert_eq!(reason(format, nested.as_bytes()), Reason::Shape);
        }
        assert_eq!(reason(Format::Flat, flat("value", &nested).as_bytes()), Reason::Field);
        assert_eq!(reason(Format::Flat, flat("value", &open).as_bytes()), Reason::Syntax);
        assert_eq!(reason(Format::Flat, flat("time2", &open).as_bytes()), Reason::Syntax);
        assert_eq!(reason(Format::Fhir, fhir("extension", &open).as_bytes()), Reason::Syntax);
        assert_eq!(reason(Format::Fhir, fhir("valueQuantity", &nested).as_bytes()), Reason::Field);
        assert_eq!(reason(Format::Fhir, fhir("component", &nested).as_bytes()), Reason::Field);
        assert_eq!(reason(Format::Fhir, bundles.as_bytes()), Reason::Syntax);
        // What is not read may be nested as it likes.
        let (flat, fhir) = (flat("extra", &nested), fhir("extension", &nested));
        let mut facts = Vec::new();
        decode(Format::Flat, &Rules::default(), flat.as_bytes(), &mut facts).unwrap();
        decode(Format::Fhir, &Rules::default(), fhir.as_bytes(), &mut facts).unwrap();
        assert_eq!(facts.len(), 1);
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(tests).unwrap().join().unwrap();
}

#[test]
fn a_hostile_bundle_takes_time_in_proportion() {
    let observation = |id: usize| {
        format!(
            r##"{{"resourceType":"Observation","id":"{id}","code":{{"text":"a"}},"subject":{{"reference":"#p"}},"valueInteger":1}}"##
        )
    };
    let parts: Vec<String> = (0..50_000).map(observation).collect();
    let patient = r#"{"resourceType":"Patient","id":"p","identifier":[{"system":"s","value":"v"}]}"#;
    let report = format!(
        r##"{{"resourceType":"DiagnosticReport","id":"r","code":{{"text":"a"}},"subject":{{"reference":"#p"}},"contained":[{},{patient}]}}"##,
        parts.join(",")
    );
    let mut facts = Vec::new();
    let start = std::time::Instant::now();
    decode(Format::Fhir, &Rules::default(), report.as_bytes(), &mut facts).unwrap();
    assert_eq!(facts.len(), 50_001);
    assert!(facts.iter().all(|fact| fact.assigner.as_deref() == Some("s") && fact.patient == "v"));
    assert_eq!(facts[1].id.as_deref(), Some("DiagnosticReport/r/Observation/0"));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn a_cut_record_is_a_reject() {
    for (format, text) in [(Format::Flat, flat_record().to_string()), (Format::Fhir, bundle().to_string())] {
        for end in 0..text.len() {
            let expected = if end == 0 { Reason::Empty } else { Reason::Syntax };
            assert_eq!(reason(format, &text.as_bytes()[..end]), expected, "cut at {end}");
        }
    }
}

#[test]
fn any_node_may_be_of_another_type() {
    let strangers =
        [json!(null), json!(CANARY), json!(-77310), json!(true), json!([CANARY]), json!({(CANARY): CANARY}), json!("")];
    for (format, record) in [(Format::Flat, flat_record()), (Format::Fhir, bundle())] {
        for at in 0..count(&record) {
            for stranger in &strangers {
                let mut record = record.clone();
                replace(&mut record, &mut at.clone(), stranger);
                tells_nothing(format, &record.to_string()).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for format in JSON_FORMATS {
            let mut facts = Vec::new();
            let read = decode(format, &Rules::default(), &bytes, &mut facts);
            prop_assert!(read.is_ok() || facts.is_empty());
        }
    }

    #[test]
    fn any_text_of_json_signs(text in r#"([\[\]{}:,"\\]|\\u[dD][89a-f]00|null|-?[0-9]|e|"patient"|"time"|"resourceType"|"Bundle"|"entry"| ){0,60}"#) {
        for format in JSON_FORMATS {
            let mut facts = Vec::new();
            let read = decode(format, &Rules::default(), text.as_bytes(), &mut facts);
            prop_assert!(read.is_ok() || facts.is_empty());
        }
    }

    #[test]
    fn valid_records_with_wrong_bytes(at in any::<prop::sample::Index>(), length in 0_usize..4, with in proptest::collection::vec(any::<u8>(), 0..4)) {
        for (format, record) in [(Format::Flat, flat_record()), (Format::Fhir, bundle())] {
            let mut bytes = record.to_string().into_bytes();
            let start = at.index(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, with.iter().copied());
            let mut facts = Vec::new();
            if let Err(reject) = decode(format, &Rules::default(), &bytes, &mut facts) {
                prop_assert!(facts.is_empty());
                prop_assert!(!reject.detail.contains("CANARY"), "{}", reject.detail);
            }
        }
    }

    #[test]
    fn two_wrong_nodes_tell_nothing(first in any::<prop::sample::Index>(), second in any::<prop::sample::Index>(), text in "CANARY-77310.{0,8}") {
        for (format, mut record) in [(Format::Flat, flat_record()), (Format::Fhir, bundle())] {
            let nodes = count(&record);
            replace(&mut record, &mut first.index(nodes), &json!(text));
            let nodes = count(&record);
            replace(&mut record, &mut second.index(nodes), &json!({(text.clone()): [text.clone()]}));
            tells_nothing(format, &record.to_string())?;
        }
    }
}

#[test]
fn the_readme_lists_every_reason_with_what_to_do() {
    let readme = include_str!("../../README.md");
    let table = readme.split("| reason | meaning | what to do |").nth(1).unwrap_or_default();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let listed: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap_or_default()).collect();
    assert_eq!(listed, Reason::ALL.map(Reason::as_str));
}
