//! An alert as a FHIR R4 RiskAssessment (<https://hl7.org/fhir/R4/riskassessment.html>).
//!
//! `probabilityDecimal` is a fraction from 0 to 1, as in HL7's own examples, though the element's
//! comment speaks of percentages; a note in the resource says so.
//!
//! Why there is no probability stands in `qualitativeRisk`, as the code of HL7's `data-absent-reason` and the
//! reason in words, and in `rationale`. R4's extension for absent data would have to hang on a
//! `probabilityDecimal` without a value, of which the rule `ras-2` (at most 100) cannot be told to hold.

use serde::Serialize;

use super::event::Alert;
use super::stamp::Stamp;
use super::{Kind, Outcome, Reason};

const MODEL_SYSTEM: &str = "urn:auscult:model";
const ALERT_SYSTEM: &str = "urn:auscult:alert";
const SUBJECT_SYSTEM: &str = "urn:auscult:subject";
const ENCOUNTER_SYSTEM: &str = "urn:auscult:encounter";
const RISK_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/risk-probability";
const ABSENT_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/data-absent-reason";

const NOTE: &str = "probabilityDecimal is a calibrated probability on a scale from 0 to 1, given by a statistical model; \
                    it supports a clinical judgement and does not replace one.";
const NOTE_INDETERMINATE: &str = "No probability is given, for the reason in the prediction's rationale. An earlier \
                                  alert stands.";

/// The embedded resource.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RiskAssessment<'a> {
    resource_type: &'static str,
    identifier: [Identifier<'a>; 1],
    status: &'static str,
    method: Concept<'a>,
    code: Concept<'a>,
    subject: Reference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encounter: Option<Reference<'a>>,
    occurrence_date_time: Stamp,
    prediction: [Prediction<'a>; 1],
    note: [Note; 1],
}

#[derive(Serialize)]
struct Identifier<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    value: String,
}

#[derive(Serialize)]
struct Reference<'a> {
    identifier: Identifier<'a>,
}

#[derive(Serialize)]
struct Concept<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    coding: Option<[Coding<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

#[derive(Serialize)]
struct Coding<'a> {
    system: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Prediction<'a> {
    outcome: Concept<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability_decimal: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qualitative_risk: Option<Concept<'a>>,
    when_period: Period,
    rationale: &'a str,
}

#[derive(Serialize)]
struct Period {
    start: Stamp,
    end: Stamp,
}

#[derive(Serialize)]
struct Note {
    text: &'static str,
}

/// The resource of an alert with that id; `rationale` is the explanation in words.
pub(super) fn risk_assessment<'a>(alert: &Alert<'a>, id: &str, rationale: &'a str) -> RiskAssessment<'a> {
    let risk = alert.risk();
    RiskAssessment {
        resource_type: "RiskAssessment",
        identifier: [Identifier { system: Some(ALERT_SYSTEM), value: id.to_owned() }],
        status: "final",
        method: coded(MODEL_SYSTEM, Some(alert.model.version.to_string()), alert.model.name, None, None),
        code: Concept { coding: None, text: Some(alert.title) },
        subject: Reference { identifier: subject(alert) },
        encounter: alert.encounter.map(|encounter| Reference {
            identifier: Identifier { system: Some(ENCOUNTER_SYSTEM), value: encounter.to_owned() },
        }),
        occurrence_date_time: Stamp(alert.prediction_time),
        prediction: [Prediction {
            outcome: match alert.outcome {
                Some(Outcome { system, code, display }) => coded(system, None, code, Some(display), Some(alert.title)),
                None => Concept { coding: None, text: Some(alert.title) },
            },
            probability_decimal: risk,
            qualitative_risk: risk.map(qualitative).or(alert.reason().map(absent)),
            when_period: Period {
                start: Stamp(alert.prediction_time),
                end: Stamp(alert.prediction_time.saturating_add(alert.horizon.max(0))),
            },
            rationale,
        }],
        note: [Note { text: if alert.decision.kind == Kind::Indeterminate { NOTE_INDETERMINATE } else { NOTE } }],
    }
}

/// By the identifier where the alert may name the patient, else by the pseudonym.
fn subject<'a>(alert: &Alert<'a>) -> Identifier<'a> {
    match alert.identifier {
        Some(named) => {
            // A FHIR uri holds no white space and is never empty; some assigners are plain names.
            let uri = !named.system.is_empty() && !named.system.contains(char::is_whitespace);
            Identifier { system: uri.then_some(named.system), value: named.value.to_owned() }
        }
        None => Identifier { system: Some(SUBJECT_SYSTEM), value: alert.subject.0.to_string() },
    }
}

fn coded<'a>(
    system: &'a str,
    version: Option<String>,
    code: &'a str,
    display: Option<&'a str>,
    text: Option<&'a str>,
) -> Concept<'a> {
    Concept { coding: Some([Coding { system, version, code, display }]), text }
}

/// The code of HL7's `risk-probability` whose definition fits: from "exceptionally unlikely" over
/// "possible but unlikely", "reasonable likelihood" and "more likely to occur than not" to
/// "effectively guaranteed".
fn qualitative(risk: f64) -> Concept<'static> {
    let (code, display) = match risk {
        risk if risk >= 0.99 => ("certain", "certain"),
        risk if risk > 0.5 => ("high", "high likelihood"),
        risk if risk >= 0.1 => ("moderate", "moderate likelihood"),
        risk if risk >= 0.01 => ("low", "low likelihood"),
        _ => ("negligible", "negligible likelihood"),
    };
    coded(RISK_SYSTEM, None, code, Some(display), None)
}

/// That a likelihood is expected and not known, and why.
fn absent(reason: Reason<'_>) -> Concept<'_> {
    coded(ABSENT_SYSTEM, None, "unknown", Some("Unknown"), Some(reason.words))
}
