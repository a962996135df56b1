//! The simulated hospital's records as its interfaces send them: flat JSON or FHIR R4 JSON.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::signals::Coding;
use super::ward::{Gender, Record, Status, What};
use crate::events::{MEDS_BIRTH, MEDS_DEATH, Micros, Op};

/// Identifiers of one simulated hospital's patients and stays.
#[derive(Copy, Clone, Debug)]
pub(super) struct Names {
    /// Part of every identifier, so that two hospitals share no patient.
    pub(super) seed: u64,
}

impl Names {
    fn patient(self, record: &Record) -> String {
        format!("SIM{}-{:05}", self.seed, record.patient)
    }

    fn fact(self, record: &Record) -> String {
        format!("{}-{}", self.patient(record), record.fact)
    }

    /// The stay that a record belongs to: intensive care is a stay within the stay.
    fn stay(self, record: &Record) -> String {
        let is_icu = matches!(record.what, What::IcuStart | What::IcuEnd { .. });
        format!("{}-{}", self.patient(record), if is_icu { "icu" } else { "stay" })
    }
}

#[derive(Serialize)]
struct Flat<'a> {
    patient: String,
    encounter: String,
    time: Option<String>,
    recorded: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Number(f64),
    Text(&'static str),
}

/// A record as one flat JSON event (`specs/interfaces.md` section 2).
///
/// # Errors
/// If it cannot be written as JSON, which does not happen.
pub(super) fn flat(names: Names, record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    let coded = |coding: &'static Coding| (Some(coding.system), coding.code);
    let (system, code) = match record.what {
        What::Admitted => (None, "ENCOUNTER//IMP//START"),
        What::Born(_) => (None, MEDS_BIRTH),
        What::Gender(Gender::Female) => (None, "GENDER//F"),
        What::Gender(Gender::Male) => (None, "GENDER//M"),
        What::Diagnosed(coding) | What::Given(coding) => coded(coding),
        What::Measured(signal, _) => coded(&signal.coding),
        What::IcuStart => (None, "ENCOUNTER//ICU//START"),
        What::IcuEnd { .. } => (None, "ENCOUNTER//ICU//END"),
        What::Died => (None, MEDS_DEATH),
        What::Discharged { .. } => (None, "ENCOUNTER//IMP//END"),
    };
    let (value, unit) = match record.what {
        What::Measured(_, measured) => (Some(Found::Number(measured.value)), Some(measured.unit)),
        What::Discharged { alive, .. } => (Some(Found::Text(if alive { "home" } else { "dead" })), None),
        _ => (None, None),
    };
    serde_json::to_vec(&Flat {
        patient: names.patient(record),
        encounter: names.stay(record),
        time: record.time.map(stamp),
        recorded: stamp(record.recorded),
        id: names.fact(record),
        system,
        code,
        value,
        unit,
        op: (record.status == Status::EnteredInError).then_some(Op::Retract.as_str()),
    })
}

/// A record as one FHIR R4 resource. Birth and gender are one Patient, sent with the birth, so the
/// gender alone gives none.
///
/// # Errors
/// If it cannot be written as JSON, which does not happen.
pub(super) fn fhir(names: Names, record: &Record) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let at = record.time.map(stamp);
    let mut resource = match record.what {
        What::Gender(_) => return Ok(None),
        What::Born(_) | What::Died => patient(names, record),
        What::Admitted => stay("IMP", "in-progress", record.time, None),
        What::IcuStart => stay("ICU", "in-progress", record.time, None),
        What::IcuEnd { start } => stay("ICU", "finished", Some(start), record.time),
        What::Discharged { start, alive } => {
            let mut stay = stay("IMP", "finished", Some(start), record.time);
            let (code, display) = if alive { ("home", "Home") } else { ("exp", "Expired") };
            let system = "http://terminology.hl7.org/CodeSystem/discharge-disposition";
            stay["hospitalization"] =
                json!({"dischargeDisposition": {"coding": [{"system": system, "code": code, "display": display}]}});
            stay
        }
        What::Diagnosed(coding) => json!({
            "resourceType": "Condition",
            "code": concept(coding),
            "onsetDateTime": at,
            "recordedDate": stamp(record.recorded),
        }),
        What::Given(coding) => json!({
            "resourceType": "MedicationAdministration",
            "status": "completed",
            "medicationCodeableConcept": concept(coding),
            "effectiveDateTime": at,
        }),
        What::Measured(signal, measured) => json!({
            "resourceType": "Observation",
            "status": status(record.status),
            "code": concept(&signal.coding),
            "effectiveDateTime": at,
            "issued": stamp(record.recorded),
            "valueQuantity": quantity(measured.value, measured.unit),
        }),
    };
    let is_stay = resource["resourceType"] == "Encounter";
    if !matches!(record.what, What::Born(_) | What::Died) {
        let stays = json!({"reference": format!("Encounter/{}", names.stay(record))});
        resource["id"] = if is_stay { names.stay(record) } else { names.fact(record) }.into();
        resource["subject"] = json!({"reference": format!("Patient/{}", names.patient(record))});
        match record.what {
            _ if is_stay => {}
            What::Given(_) => resource["context"] = stays,
            _ => resource["encounter"] = stays,
        }
    }
    resource["meta"] = json!({"lastUpdated": stamp(record.recorded)});
    // Not every resource has an element of its own for when it became known.
    resource["meta"] = json!({"lastUpdated": stamp(record.recorded)});
    serde_json::to_vec(&resource).map(Some)
}

/// The Patient, as far as known by then.
fn patient(names: Names, record: &Record) -> Value {
    let mut patient = json!({"resourceType": "Patient", "id": names.patient(record)});
    match record.what {
        What::Born(gender) => {
            patient["gender"] = if gender == Gender::Female { "female" } else { "male" }.into();
            patient["birthDate"] = record.time.map(|at| stamp(at)[..10].to_owned()).into();
        }
        _ => patient["deceasedDateTime"] = record.time.map(stamp).into(),
    }
    patient
}

fn stay(class: &str, status: &str, start: Option<Micros>, end: Option<Micros>) -> Value {
    // HL7's own list of classes has none for intensive care.
    let system =
        if class == "IMP" { "http://terminology.hl7.org/CodeSystem/v3-ActCode" } else { "urn:auscult:simulated" };
    let mut period = json!({"start": start.map(stamp)});
    if let Some(end) = end {
        period["end"] = stamp(end).into();
    }
    json!({
        "resourceType": "Encounter",
        "status": status,
        "class": {"system": system, "code": class},
        "period": period,
    })
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Final => "final",
        Status::Corrected => "corrected",
        Status::EnteredInError => "entered-in-error",
    }
}

fn concept(coding: &Coding) -> Value {
    json!({"coding": [{"system": coding.system, "code": coding.code, "display": coding.display}]})
}

/// A Quantity; a unit that is not UCUM goes without a code.
fn quantity(value: f64, unit: &str) -> Value {
    match unit {
        "mmHg" => json!({"value": value, "unit": unit}),
        _ => json!({"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}),
    }
}

/// RFC 3339 to the second; simulated times have no fraction and lie within chrono's years.
fn stamp(at: Micros) -> String {
    DateTime::<Utc>::from_timestamp_micros(at).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}
