//! The same clinical content gives the same facts whichever format it came in.

use serde_json::{Value as Json, json};

use super::super::super::*;
use super::segment;

const MSH: &str = "MSH|^~\\&|LIS|LAB|EHR|HOSP|20260102090000+0000||";

/// The only fact of a record that has this code, without its name: every source names its facts in its own way.
fn only(format: Format, record: &str, code: &str) -> Fact<'static> {
    let mut facts = Vec::new();
    decode(format, &Rules::default(), record.as_bytes(), &mut facts).unwrap();
    let mut of_code = facts.into_iter().filter(|fact| fact.code == code);
    let fact = of_code.next().unwrap_or_else(|| panic!("{format:?} has no {code}"));
    assert!(of_code.next().is_none(), "{format:?} has {code} twice");
    super::super::owned::fact(Fact { id: None, ..fact })
}

/// A resource of patient 77, known when the message was sent.
fn fhir(mut resource: Json) -> String {
    let subject = match resource["resourceType"].as_str() {
        Some("AllergyIntolerance" | "Immunization") => "patient",
        _ => "subject",
    };
    let object = resource.as_object_mut().unwrap();
    if object["resourceType"] != "Patient" {
        object.insert(subject.to_owned(), json!({"reference": "Patient/77"}));
    }
    object.insert("meta".to_owned(), json!({"lastUpdated": "2026-01-02T09:00:00Z"}));
    resource.to_string()
}

fn concept(system: &str, code: &str) -> Json {
    json!({"coding": [{"system": system, "code": code}]})
}

/// What is said: its code, a message's segments after PID, a resource, and the fields of a flat record.
fn cases() -> Vec<(&'static str, &'static str, String, Json, Json)> {
    let in_visit = json!({"reference": "Encounter/V9"});
    let (loinc, sct, rx) =
        ("http://loinc.org", "http://snomed.info/sct", "http://www.nlm.nih.gov/research/umls/rxnorm");
    let pv1 = segment("PV1", &[(2, "I"), (19, "V9"), (36, "01"), (44, "202601010800"), (45, "202601020830")]);
    let in_v9 = segment("PV1", &[(2, "I"), (19, "V9")]);
    let visit = json!({"resourceType": "Encounter", "id": "V9", "status": "finished", "class": {"code": "IMP"},
        "period": {"start": "2026-01-01T08:00:00Z", "end": "2026-01-02T08:30:00Z"},
        "hospitalization": {"dischargeDisposition": {"coding": [{"code": "01"}]}}});
    let patient = json!({"resourceType": "Patient", "id": "77", "birthDate": "1970-02-03", "gender": "female",
        "deceasedDateTime": "2026-01-02T07:00:00Z"});
    let death = segment("PID", &[(3, "77"), (7, "19700203"), (8, "F"), (29, "202601020700+0000"), (30, "Y")]);
    let death = format!("ADT^A08|1|P|2.5\r{death}");
    let adt = |trigger: &str, rest: &str| format!("ADT^{trigger}|1|P|2.5\rPID|||77\r{rest}");
    vec![
        (
            "8867-4",
            "an observation in a visit",
            [
                "ORU^R01|1|P|2.5\rPID|||77",
                &in_v9,
                &segment("OBR", &[(3, "F1"), (4, "P^Panel^L"), (7, "20260101"), (22, "20260101090000")]),
                "OBX|1|NM|HR^Pulse^L^8867-4^Heart rate^LN||72|/min^^UCUM|||||F|||202601010800+0000",
            ]
            .join("\r"),
            json!({"resourceType": "Observation", "id": "1", "status": "final", "code": concept(loinc, "8867-4"),
                "encounter": in_visit, "effectiveDateTime": "2026-01-01T08:00:00Z", "issued": "2026-01-01T09:00:00Z",
                "valueQuantity": {"value": 72, "unit": "beats", "system": "http://unitsofmeasure.org", "code": "/min"}}),
            json!({"encounter": "V9", "time": "2026-01-01T08:00:00Z", "recorded": "2026-01-01T09:00:00Z", "system": loinc, "value": 72, "unit": "/min"}),
        ),
        (
            "1988-5",
            "a result below a bound",
            "ORU^R01|1|P|2.5\rPID|||77\rOBX|1|SN|1988-5^CRP^LN||<^5|mg/L|||||C|||202601010800+0000".to_owned(),
            json!({"resourceType": "Observation", "id": "1", "status": "corrected", "code": concept(loinc, "1988-5"),
                "effectiveDateTime": "2026-01-01T08:00:00Z", "valueQuantity": {"value": 5, "comparator": "<", "unit": "mg/L"}}),
            json!({"time": "2026-01-01T08:00:00Z", "system": loinc, "value": "<5", "unit": "mg/L"}),
        ),
        (
            "600-7",
            "a coded result that was withdrawn",
            "ORU^R01|1|P|2.5\rPID|||77\rOBR|1||F1|P^Panel^L\rOBX|1|CWE|600-7^Culture^LN||112283007^E. coli^SCT||||||W|||202601010800+0000".to_owned(),
            json!({"resourceType": "Observation", "id": "1", "status": "entered-in-error", "code": concept(loinc, "600-7"),
                "effectiveDateTime": "2026-01-01T08:00:00Z", "valueCodeableConcept": concept(sct, "112283007")}),
            json!({"time": "2026-01-01T08:00:00Z", "system": loinc, "value": "112283007", "op": "retract"}),
        ),
        (
            "I21.9",
            "a diagnosis in a visit",
            adt("A08", &format!("{in_v9}\rDG1|1||I21.9^MI^I10C||202601010800+0000|A")),
            json!({"resourceType": "Condition", "id": "1", "code": concept("http://hl7.org/fhir/sid/icd-10-cm", "I21.9"),
                "encounter": in_visit, "onsetDateTime": "2026-01-01T08:00:00Z"}),
            json!({"encounter": "V9", "time": "2026-01-01T08:00:00Z", "system": "http://hl7.org/fhir/sid/icd-10-cm"}),
        ),
        (
            "ENCOUNTER//IMP//START",
            "the start of a visit",
            adt("A03", &pv1),
            visit.clone(),
            json!({"encounter": "V9", "time": "2026-01-01T08:00:00Z"}),
        ),
        (
            "ENCOUNTER//IMP//END",
            "the end of a visit",
            adt("A03", &pv1),
            visit,
            json!({"encounter": "V9", "time": "2026-01-02T08:30:00Z", "value": "01"}),
        ),
        (
            "161",
            "a dose",
            "RAS^O17|1|P|2.5\rPID|||77\rORC|RE||F1\rRXA|0|1|202601010800+0000||161^Paracetamol^RXNORM|500|mg".to_owned(),
            json!({"resourceType": "MedicationAdministration", "id": "1", "status": "completed", "medicationCodeableConcept": concept(rx, "161"),
                "effectiveDateTime": "2026-01-01T08:00:00Z", "dosage": {"dose": {"value": 500, "unit": "mg"}}}),
            json!({"time": "2026-01-01T08:00:00Z", "system": rx, "value": 500, "unit": "mg"}),
        ),
        (
            "161",
            "an order of a drug",
            "RDE^O11|1|P|2.5\rPID|||77\rORC|NW||F1||||||202601010800+0000\rRXE||161^Paracetamol^RXNORM|500||mg".to_owned(),
            json!({"resourceType": "MedicationRequest", "id": "1", "status": "active", "intent": "order",
                "medicationCodeableConcept": concept(rx, "161"), "authoredOn": "2026-01-01T08:00:00Z"}),
            json!({"time": "2026-01-01T08:00:00Z", "recorded": "2026-01-01T08:00:00Z", "system": rx, "value": "order"}),
        ),
        ("GENDER//F", "a sex", death.clone(), patient.clone(), json!({"time": null})),
        ("MEDS_BIRTH", "a birth", death.clone(), patient.clone(), json!({"time": "1970-02-03T00:00:00Z"})),
        ("MEDS_DEATH", "a death", death, patient, json!({"time": "2026-01-02T07:00:00Z"})),
        (
            "7980",
            "an allergy",
            adt("A08", "AL1|1|DA|7980^Penicillin^RXNORM|SV||20200101"),
            json!({"resourceType": "AllergyIntolerance", "id": "1", "type": "allergy", "code": concept(rx, "7980"), "onsetDateTime": "2020-01-01"}),
            json!({"time": "2020-01-01T00:00:00Z", "system": rx, "value": "allergy"}),
        ),
        (
            "115",
            "a vaccine",
            "VXU^V04|1|P|2.5\rPID|||77\rORC|RE||F1\rRXA|0|1|20260101||49281^T^NDC^115^Tdap^CVX|0.5|mL".to_owned(),
            json!({"resourceType": "Immunization", "id": "1", "status": "completed", "vaccineCode": {"coding": [
                {"system": "http://hl7.org/fhir/sid/ndc", "code": "49281"}, {"system": "http://hl7.org/fhir/sid/cvx", "code": "115"}]},
                "occurrenceDateTime": "2026-01-01"}),
            json!({"time": "2026-01-01T00:00:00Z", "system": "http://hl7.org/fhir/sid/cvx"}),
        ),
        (
            "80146002",
            "a procedure",
            adt("A08", "PR1|1||80146002^Appendectomy^SCT||202601010800+0000"),
            json!({"resourceType": "Procedure", "id": "1", "status": "completed", "code": concept(sct, "80146002"), "performedDateTime": "2026-01-01T08:00:00Z"}),
            json!({"time": "2026-01-01T08:00:00Z", "system": sct}),
        ),
    ]
}

#[test]
fn the_same_content_gives_the_same_fact_from_every_format() {
    for (code, what, hl7, resource, mut flat) in cases() {
        let object = flat.as_object_mut().unwrap();
        object.insert("patient".to_owned(), json!("77"));
        object.insert("code".to_owned(), json!(code));
        object.entry("recorded").or_insert(json!("2026-01-02T09:00:00Z"));
        let from_hl7 = only(Format::Hl7v2, &format!("{MSH}{hl7}"), code);
        assert_eq!(from_hl7, only(Format::Fhir, &fhir(resource), code), "{what}: HL7 v2 and FHIR");
        // Flat JSON cannot say that a text is a code; an event holds both as its text.
        let told = match from_hl7.value.clone() {
            Value::Code(code) => Fact { value: Value::Text(code), ..from_hl7 },
            _ => from_hl7,
        };
        assert_eq!(told, only(Format::Flat, &flat.to_string(), code), "{what}: HL7 v2 and flat JSON");
    }
}
