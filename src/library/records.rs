//! What the score role published, as rows of the tables `predictions` and `alerts`.
//!
//! An alert names the patient to whoever must act; the library never does. So everything
//! that may name somebody is cut out of the alert's JSON before it becomes a row.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{LibraryError, Table, convert};
use crate::events::Micros;

/// A pseudonym in decimal, as a JSON number or, since it may exceed 2^53, as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pseudonym {
    Number(i64),
    Text(String),
}

impl Pseudonym {
    fn value(&self) -> Option<i64> {
        match self {
            Pseudonym::Number(number) => Some(*number),
            Pseudonym::Text(text) => text.parse().ok(),
        }
    }
}

#[derive(Deserialize)]
struct Model {
    name: Option<String>,
    version: Option<i64>,
    sha256: Option<String>,
}

/// A message of `auscult.scores`.
#[derive(Deserialize)]
struct Score {
    task: String,
    subject: Pseudonym,
    encounter: Option<String>,
    prediction_time: String,
    risk: Option<f64>,
    status: String,
    reason: Option<String>,
    model: Option<Model>,
    outputs: Option<Box<RawValue>>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct AlertSubject {
    pseudonym: Pseudonym,
}

/// The data of a message of `auscult.alerts`.
#[derive(Deserialize)]
struct Alert {
    alert_id: String,
    task: String,
    kind: String,
    tier: Option<String>,
    subject: AlertSubject,
    encounter: Option<String>,
    prediction_time: String,
    published_at: Option<String>,
    risk: Option<f64>,
    threshold: Option<f64>,
    model: Option<Model>,
    source: Option<String>,
}

/// Where a message lies: partition and Kafka offset.
type Place = (u32, i64);

/// Messages of `auscult.scores` (partition, offset, value) as rows of
/// [`Table::Predictions`].
///
/// # Errors
/// [`Message`](LibraryError::Message) names the first message that is no score.
pub fn predictions_batch(messages: &[(u32, i64, &[u8])]) -> Result<RecordBatch, LibraryError> {
    let table = Table::Predictions;
    let mut places = Vec::with_capacity(messages.len());
    let mut scores = Vec::with_capacity(messages.len());
    let (mut subjects, mut times) = (Vec::new(), Vec::new());
    for &(partition, position, bytes) in messages {
        let place = (partition, position);
        let score: Score =
            serde_json::from_slice(bytes).map_err(|_| message(table, place, "its JSON or a field's type"))?;
        subjects.push(score.subject.value().ok_or_else(|| message(table, place, "subject"))?);
        times.push(instant(&score.prediction_time).ok_or_else(|| message(table, place, "prediction_time"))?);
        places.push(place);
        scores.push(score);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(scores.iter().map(|s| &s.task))),
        Arc::new(Int64Array::from(subjects)),
        Arc::new(StringArray::from_iter(scores.iter().map(|s| s.encounter.as_deref()))),
        Arc::new(TimestampMicrosecondArray::from(times)),
        Arc::new(Float64Array::from_iter(scores.iter().map(|s| s.risk))),
        Arc::new(StringArray::from_iter_values(scores.iter().map(|s| &s.status))),
        Arc::new(StringArray::from_iter(scores.iter().map(|s| s.reason.as_deref()))),
        Arc::new(StringArray::from_iter(scores.iter().map(|s| s.model.as_ref().and_then(|m| m.name.as_deref())))),
        Arc::new(Int64Array::from_iter(scores.iter().map(|s| s.model.as_ref().and_then(|m| m.version)))),
        Arc::new(StringArray::from_iter(scores.iter().map(|s| s.outputs.as_ref().map(|outputs| outputs.get())))),
        Arc::new(StringArray::from_iter(scores.iter().map(|s| s.source.as_deref()))),
    ];
    batch(table, columns, &places)
}

/// Messages of `auscult.alerts` (partition, offset, value) as rows of [`Table::Alerts`],
/// without whatever names the patient.
///
/// # Errors
/// [`Message`](LibraryError::Message) names the first message that is no alert.
pub fn alerts_batch(messages: &[(u32, i64, &[u8])]) -> Result<RecordBatch, LibraryError> {
    let table = Table::Alerts;
    let mut places = Vec::with_capacity(messages.len());
    let mut alerts = Vec::with_capacity(messages.len());
    let (mut subjects, mut times, mut published, mut data) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &(partition, position, bytes) in messages {
        let place = (partition, position);
        let mut value: Value = serde_json::from_slice(bytes).map_err(|_| message(table, place, "its JSON"))?;
        if !value.is_object() {
            return Err(message(table, place, "its JSON"));
        }
        let alert = Alert::deserialize(&value).map_err(|_| message(table, place, "a field's type"))?;
        let subject = alert.subject.pseudonym.value().ok_or_else(|| message(table, place, "subject.pseudonym"))?;
        anonymize(&mut value, subject);
        subjects.push(subject);
        times.push(instant(&alert.prediction_time).ok_or_else(|| message(table, place, "prediction_time"))?);
        published.push(match alert.published_at.as_deref() {
            Some(at) => Some(instant(at).ok_or_else(|| message(table, place, "published_at"))?),
            None => None,
        });
        data.push(value.to_string());
        places.push(place);
        alerts.push(alert);
    }
    let model =
        |alert: &Alert, field: fn(&Model) -> Option<&str>| alert.model.as_ref().and_then(field).map(str::to_owned);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(alerts.iter().map(|a| &a.alert_id))),
        Arc::new(StringArray::from_iter_values(alerts.iter().map(|a| &a.task))),
        Arc::new(StringArray::from_iter_values(alerts.iter().map(|a| &a.kind))),
        Arc::new(StringArray::from_iter(alerts.iter().map(|a| a.tier.as_deref()))),
        Arc::new(Int64Array::from(subjects)),
        Arc::new(StringArray::from_iter(alerts.iter().map(|a| a.encounter.as_deref()))),
        Arc::new(TimestampMicrosecondArray::from(times)),
        Arc::new(TimestampMicrosecondArray::from(published)),
        Arc::new(Float64Array::from_iter(alerts.iter().map(|a| a.risk))),
        Arc::new(Float64Array::from_iter(alerts.iter().map(|a| a.threshold))),
        Arc::new(StringArray::from_iter(alerts.iter().map(|a| model(a, |m| m.name.as_deref())))),
        Arc::new(Int64Array::from_iter(alerts.iter().map(|a| a.model.as_ref().and_then(|m| m.version)))),
        Arc::new(StringArray::from_iter(alerts.iter().map(|a| model(a, |m| m.sha256.as_deref())))),
        Arc::new(StringArray::from_iter(alerts.iter().map(|a| a.source.as_deref()))),
        Arc::new(LargeStringArray::from_iter_values(&data)),
    ];
    batch(table, columns, &places)
}

/// Cuts out of an alert whatever may name the patient: only the pseudonym stays.
fn anonymize(alert: &mut Value, subject: i64) {
    let Some(alert) = alert.as_object_mut() else { return };
    alert.insert("subject".to_owned(), json!({ "pseudonym": subject.to_string() }));
    match alert.get_mut("riskAssessment") {
        Some(Value::Object(assessment)) => {
            // A FHIR resource must have a subject, and may repeat it as text or inside.
            assessment.insert("subject".to_owned(), json!({ "reference": format!("Patient/{subject}") }));
            for name in ["text", "contained", "extension"] {
                assessment.remove(name);
            }
        }
        // Of another shape it cannot be trusted to name nobody.
        _ => {
            alert.remove("riskAssessment");
        }
    }
}

fn batch(table: Table, mut columns: Vec<ArrayRef>, places: &[Place]) -> Result<RecordBatch, LibraryError> {
    let partitions: Vec<i32> =
        places.iter().map(|&(partition, at)| convert::stored_partition(partition, at)).collect::<Result<_, _>>()?;
    columns.push(Arc::new(Int32Array::from(partitions)));
    columns.push(Arc::new(Int64Array::from_iter_values(places.iter().map(|&(_, position)| position))));
    columns.push(Arc::new(Int32Array::from_value(0, places.len())));
    Ok(RecordBatch::try_new(table.schema(), columns)?)
}

fn instant(text: &str) -> Option<Micros> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}

fn message(table: Table, (partition, position): Place, reason: &'static str) -> LibraryError {
    LibraryError::Message { table, partition, position, reason }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};

    use super::*;

    const SCORE: &str = r#"{"task":"icu_mortality","subject":"-8812345678901234567","encounter":"e1","prediction_time":"2026-01-03T00:00:00Z",
        "risk":0.83,"status":"ok","model":{"name":"icu_mortality","version":7},"source":"raw.flat-3-18223#0"}"#;
    const ALERT: &str = r#"{"alert_id":"a1","task":"icu_mortality","kind":"raise","tier":"watch",
        "subject":{"pseudonym":"-42","identifier":{"system":"urn:mrn","value":"132539"}},"encounter":"e1",
        "prediction_time":"2026-01-03T01:00:00+01:00","published_at":"2026-01-03T00:00:01Z","horizon":"PT24H","risk":0.83,"threshold":0.6,
        "model":{"name":"icu_mortality","version":7,"sha256":"ab"},"explanation":{"base":0.14,"contributions":[]},
        "source":"raw.flat-3-18223#0","riskAssessment":{"resourceType":"RiskAssessment","status":"final",
        "text":{"div":"132539"},"subject":{"identifier":{"system":"urn:mrn","value":"132539"},"display":"132539"}}}"#;

    #[test]
    fn a_score_becomes_a_row() {
        let unknown = r#"{"task":"t","subject":7,"encounter":null,"prediction_time":"2026-01-03T00:00:00Z","risk":null,"status":"indeterminate","reason":"too few values","outputs":{"home":0.25}}"#;
        let batch = predictions_batch(&[(3, 10, SCORE.as_bytes()), (0, 5, unknown.as_bytes())]).unwrap();
        assert_eq!(batch.schema(), Table::Predictions.schema());
        let subjects = batch["subject"].as_primitive::<Int64Type>();
        assert_eq!((subjects.value(0), subjects.value(1)), (-8_812_345_678_901_234_567, 7));
        assert_eq!(batch["risk"].as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(0.83), None]);
        assert_eq!(batch["model_version"].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), None]);
        assert_eq!(batch["reason"].as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("too few values")]);
        assert_eq!(batch["outputs"].as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some(r#"{"home":0.25}"#)]);
        assert_eq!(batch["position"].as_primitive::<Int64Type>().values(), &[10, 5]);
    }

    #[test]
    fn invariant_07_an_archived_alert_does_not_name_the_patient() {
        let batch = alerts_batch(&[(1, 2, ALERT.as_bytes())]).unwrap();
        assert_eq!(batch.schema(), Table::Alerts.schema());
        let data = batch["data"].as_string::<i64>().value(0);
        assert!(!data.contains("132539") && !data.contains("urn:mrn"), "{data}");
        let kept: Value = serde_json::from_str(data).unwrap();
        assert_eq!((kept["subject"]["pseudonym"].as_str(), kept["horizon"].as_str()), (Some("-42"), Some("PT24H")));
        assert_eq!(kept["riskAssessment"]["subject"]["reference"], "Patient/-42");
        let at = |name: &str| batch[name].as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!((at("prediction_time"), at("published_at")), (1_767_398_400_000_000, 1_767_398_401_000_000));
    }

    #[test]
    fn what_is_no_record_is_named_without_its_content() {
        for (bad, reason) in [
            ("{", "its JSON or a field's type"),
            (r#"{"task":"t","subject":"x","prediction_time":"2026-01-03T00:00:00Z","status":"ok"}"#, "subject"),
            (r#"{"task":"t","subject":"1","prediction_time":"yesterday","status":"ok"}"#, "prediction_time"),
        ] {
            let error = predictions_batch(&[(4, 9, bad.as_bytes())]).unwrap_err();
            let LibraryError::Message { partition: 4, position: 9, reason: named, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(named, reason);
        }
        assert!(alerts_batch(&[(4, 9, b"[1]")]).is_err());
        assert_eq!(predictions_batch(&[]).unwrap().num_rows(), 0);
    }
}
