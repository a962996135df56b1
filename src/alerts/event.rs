//! The message of `auscult.alerts`: CloudEvents 1.0 in Kafka binary mode.

use serde::Serialize;

use super::explain::{Contribution, Explained, Instead, Otherwise};
use super::fhir::{RiskAssessment, risk_assessment};
use super::memory::{Decision, Kind};
use super::reason::Reason;
use super::score::Decimal;
use super::stamp::{Span, Stamp};
use super::{AlertError, Outcome, text};
use crate::events::{Micros, SubjectId};

/// Value of `ce_type`.
const TYPE: &str = "org.auscult.alert.v1";

/// A model, by name.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ModelName<'a> {
    /// Name in the registry.
    pub name: &'a str,
    /// Version in the registry.
    pub version: u32,
    /// Hash of the bundle, 64 hexadecimal digits.
    pub sha256: &'a str,
}

/// The identifier of a patient as the site's systems know it.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Identifier<'a> {
    /// Who assigned it.
    pub system: &'a str,
    /// The identifier.
    pub value: &'a str,
}

impl std::fmt::Debug for Identifier<'_> {
    /// Never the identifier (invariant 7).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identifier")
    }
}

/// Everything that an alert says.
#[derive(Copy, Clone, Debug)]
pub struct Alert<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// What is predicted, in words.
    pub title: &'a str,
    /// What the policy decided.
    pub decision: &'a Decision<'a>,
    /// Pseudonym of the subject.
    pub subject: SubjectId,
    /// The patient's identifier; `None` where alerts do not name the patient.
    pub identifier: Option<Identifier<'a>>,
    /// Pseudonymous encounter.
    pub encounter: Option<&'a str>,
    /// The moment that is predicted from.
    pub prediction_time: Micros,
    /// When the alert is written.
    pub published_at: Micros,
    /// How far ahead the task looks.
    pub horizon: Micros,
    /// Calibrated probability, 0 to 1; `None` (or not finite) where none can be given.
    pub risk: Option<f64>,
    /// Why none can be given; told by an alert of kind [`Kind::Indeterminate`] only.
    pub reason: Option<Reason<'a>>,
    /// The model that gave it.
    pub model: ModelName<'a>,
    /// Why it is so, where the model could say.
    pub explanation: Option<&'a Explained<'a>>,
    /// What is predicted, as a code, if the task's policy gives one.
    pub outcome: Option<&'a Outcome>,
    /// Contributions named in the text: [`Policy::top`](super::Policy::top).
    pub top: usize,
    /// `topic-partition-offset#index` of the raw message that was known last.
    pub source: &'a str,
}

impl<'a> Alert<'a> {
    /// The risk, where there is a finite one.
    pub(super) fn risk(&self) -> Option<f64> {
        self.risk.filter(|risk| risk.is_finite())
    }

    /// Why there is none, where the alert says that.
    pub(super) fn reason(&self) -> Option<Reason<'a>> {
        self.reason.filter(|_| self.decision.kind == Kind::Indeterminate)
    }

    /// The id that the alert has, now and whenever the same input is read again.
    pub fn id(&self) -> String {
        alert_id(self.task, self.subject, self.encounter, self.prediction_time, self.decision.kind)
    }
}

/// A message for Kafka.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloudEvent {
    /// Headers: the attributes of the CloudEvents specification, and the content type.
    pub headers: Vec<(&'static str, String)>,
    /// The subject's pseudonym in decimal.
    pub key: String,
    /// The alert as JSON.
    pub data: Vec<u8>,
}

#[derive(Serialize)]
struct Json<'a> {
    alert_id: &'a str,
    task: &'a str,
    kind: &'static str,
    tier: &'a str,
    subject: Subject<'a>,
    encounter: Option<&'a str>,
    prediction_time: Stamp,
    published_at: Stamp,
    horizon: Span,
    risk: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    threshold: f64,
    model: Model<'a>,
    explanation: Option<Explanation<'a>>,
    source: &'a str,
    #[serde(rename = "riskAssessment")]
    risk_assessment: RiskAssessment<'a>,
}

#[derive(Serialize)]
struct Subject<'a> {
    pseudonym: Decimal,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    system: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    version: u32,
    sha256: &'a str,
}

#[derive(Serialize)]
struct Explanation<'a> {
    base: f64,
    contributions: Vec<Part<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counterfactual: Option<Counterfactual<'a>>,
    text: &'a str,
}

#[derive(Serialize)]
struct Counterfactual<'a> {
    risk: f64,
    changes: Vec<Change<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged: Option<&'a [String]>,
}

#[derive(Serialize)]
struct Change<'a> {
    concept: &'a str,
    value: f32,
    instead: f32,
    unit: Option<&'a str>,
}

impl<'a> From<&'a Instead> for Counterfactual<'a> {
    fn from(instead: &'a Instead) -> Self {
        let change = |one: &'a Otherwise| Change {
            concept: &one.concept,
            value: one.value,
            instead: one.instead,
            unit: Some(one.unit.as_str()).filter(|unit| !unit.is_empty()),
        };
        Counterfactual {
            risk: instead.risk,
            changes: instead.changes.iter().map(change).collect(),
            unchanged: Some(instead.unchanged.as_slice()).filter(|names| !names.is_empty()),
        }
    }
}

#[derive(Serialize)]
struct Part<'a> {
    feature: &'a str,
    value: Option<f32>,
    unit: Option<&'a str>,
    observed_at: Option<Stamp>,
    contribution: f64,
}

impl<'a> From<&Contribution<'a>> for Part<'a> {
    fn from(one: &Contribution<'a>) -> Self {
        Part {
            feature: one.feature,
            value: Some(one.value).filter(|value| value.is_finite()),
            unit: one.unit,
            observed_at: one.observed_at.map(Stamp),
            contribution: one.contribution,
        }
    }
}

/// Id of an alert: the same for the same input, a UUID of version 8 (RFC 9562, 5.8) made of a
/// BLAKE3 hash, 36 characters.
pub fn alert_id(
    task: &str,
    subject: SubjectId,
    encounter: Option<&str>,
    prediction_time: Micros,
    kind: Kind,
) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [
        task.as_bytes(),
        &subject.0.to_le_bytes(),
        // No encounter and an empty one differ.
        &[u8::from(encounter.is_some())],
        encounter.unwrap_or_default().as_bytes(),
        &prediction_time.to_le_bytes(),
        kind.as_str().as_bytes(),
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let hash = hasher.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let number = u128::from_be_bytes(bytes);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        number >> 96,
        number >> 80 & 0xffff,
        number >> 64 & 0xffff,
        number >> 48 & 0xffff,
        number & 0xffff_ffff_ffff
    )
}

/// The alert as the message that is produced.
///
/// # Errors
/// [`AlertError::Json`], which writing into memory does not run into.
pub fn cloud_event(alert: &Alert<'_>) -> Result<CloudEvent, AlertError> {
    let id = alert.id();
    let reason = alert.reason();
    let detail = reason.and_then(|reason| reason.detail(alert.top));
    let text = match reason {
        Some(reason) => text::without_risk(reason.words, detail.as_deref()),
        None => text::explanation(alert.risk(), alert.explanation, alert.top),
    };
    let json = Json {
        alert_id: &id,
        task: alert.task,
        kind: alert.decision.kind.as_str(),
        tier: alert.decision.tier,
        subject: Subject {
            pseudonym: Decimal(alert.subject),
            identifier: alert.identifier.map(|named| Named { system: named.system, value: named.value }),
        },
        encounter: alert.encounter,
        prediction_time: Stamp(alert.prediction_time),
        published_at: Stamp(alert.published_at),
        horizon: Span(alert.horizon),
        risk: alert.risk(),
        reason: reason.map(|reason| reason.words),
        detail: detail.as_deref(),
        threshold: alert.decision.threshold,
        model: Model { name: alert.model.name, version: alert.model.version, sha256: alert.model.sha256 },
        explanation: alert.explanation.map(|explained| Explanation {
            base: explained.base(),
            contributions: explained.contributions().iter().map(Part::from).collect(),
            error: explained.error(),
            counterfactual: explained.instead().map(Counterfactual::from),
            text: &text,
        }),
        source: alert.source,
        risk_assessment: risk_assessment(alert, &id, &text),
    };
    let data = serde_json::to_vec(&json)?;
    let key = alert.subject.0.to_string();
    let headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", id),
        ("ce_source", format!("urn:auscult:task:{}", alert.task)),
        ("ce_type", TYPE.to_owned()),
        ("ce_time", Stamp(alert.published_at).to_string()),
        ("ce_subject", key.clone()),
        ("content-type", "application/json".to_owned()),
    ];
    Ok(CloudEvent { headers, key, data })
}
