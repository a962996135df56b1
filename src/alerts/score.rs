//! The message of `auscult.scores`.

use serde::{Serialize, Serializer};

use super::AlertError;
use super::event::ModelName;
use super::stamp::Stamp;
use crate::events::{Micros, SubjectId};
use crate::models::Assessment;

/// What became of a prediction.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Status<'a> {
    /// A calibrated probability, 0 to 1.
    Ok(f64),
    /// No risk can be given, with the reason in words; holds nothing of a patient.
    Indeterminate(&'a str),
}

impl Status<'static> {
    /// What a model's assessment comes to: its doubt, else its risk.
    pub fn of(assessment: &Assessment) -> Self {
        assessment.doubt.map_or(Status::Ok(assessment.risk), |doubt| Status::Indeterminate(doubt.as_str()))
    }
}

impl<'a> Status<'a> {
    /// The risk where there is one; a risk that is not finite is none.
    pub fn risk(&self) -> Option<f64> {
        match self {
            Status::Ok(risk) if risk.is_finite() => Some(*risk),
            _ => None,
        }
    }

    /// Why there is none; `None` where there is one.
    pub fn reason(&self) -> Option<&'a str> {
        match *self {
            Status::Indeterminate(reason) => Some(reason),
            Status::Ok(risk) if risk.is_finite() => None,
            Status::Ok(_) => Some("the model gave no finite number"),
        }
    }
}

/// One prediction as others read it.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Score<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// Pseudonym of the subject.
    pub subject: SubjectId,
    /// Pseudonymous encounter.
    pub encounter: Option<&'a str>,
    /// The moment that is predicted from.
    pub prediction_time: Micros,
    /// The risk, or why there is none.
    pub status: Status<'a>,
    /// The model that was asked; its hash is not written.
    pub model: ModelName<'a>,
    /// Names and numbers of what a model tells beside the risk: probabilities of classes or times, an
    /// amount. Finite; without a risk they are not written.
    pub outputs: (&'a [String], &'a [f64]),
    /// `topic-partition-offset#index` of the raw message that was known last.
    pub source: &'a str,
}

#[derive(Serialize)]
struct Json<'a> {
    task: &'a str,
    subject: Decimal,
    encounter: Option<&'a str>,
    prediction_time: Stamp,
    risk: Option<f64>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Outputs::is_empty")]
    outputs: Outputs<'a>,
    model: Model<'a>,
    source: &'a str,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    version: u32,
}

/// What a model tells beside the risk, an object of numbers.
struct Outputs<'a>(&'a [String], &'a [f64]);

impl Outputs<'_> {
    fn is_empty(&self) -> bool {
        self.1.is_empty()
    }
}

impl Serialize for Outputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

/// A pseudonym as a decimal string: as a JSON number most readers would round it.
#[derive(Copy, Clone)]
pub(super) struct Decimal(pub(super) SubjectId);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.0)
    }
}

/// Writes a score as JSON in place of what `out` holds; its room is used again.
///
/// # Errors
/// [`AlertError::Json`], which writing into memory does not run into.
pub fn score_json(score: &Score<'_>, out: &mut Vec<u8>) -> Result<(), AlertError> {
    let risk = score.status.risk();
    let json = Json {
        task: score.task,
        subject: Decimal(score.subject),
        encounter: score.encounter,
        prediction_time: Stamp(score.prediction_time),
        risk,
        status: if risk.is_some() { "ok" } else { "indeterminate" },
        reason: score.status.reason(),
        outputs: if risk.is_some() { Outputs(score.outputs.0, score.outputs.1) } else { Outputs(&[], &[]) },
        model: Model { name: score.model.name, version: score.model.version },
        source: score.source,
    };
    out.clear();
    serde_json::to_writer(out, &json)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(status: Status<'_>) -> Score<'_> {
        Score {
            task: "icu_mortality",
            subject: SubjectId(-88_123),
            encounter: Some("5f00"),
            prediction_time: 1_767_398_400_000_000,
            status,
            model: ModelName { name: "icu_mortality", version: 7, sha256: "ab" },
            outputs: (&[], &[]),
            source: "raw.flat-3-18223#0",
        }
    }

    fn json(score: &Score<'_>) -> String {
        let mut out = b"what was there before".to_vec();
        score_json(score, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_score_is_the_json_of_the_interfaces() {
        assert_eq!(
            json(&score(Status::Ok(0.83))),
            r#"{"task":"icu_mortality","subject":"-88123","encounter":"5f00","prediction_time":"2026-01-03T00:00:00Z","risk":0.83,"status":"ok","model":{"name":"icu_mortality","version":7},"source":"raw.flat-3-18223#0"}"#
        );
    }

    #[test]
    fn what_is_told_beside_the_risk_stands_under_its_names() {
        let names = ["home".to_owned(), "died".to_owned()];
        let all = Score { outputs: (&names, &[0.25, 0.75]), ..score(Status::Ok(0.75)) };
        assert!(json(&all).contains(r#""status":"ok","outputs":{"home":0.25,"died":0.75},"model""#));
        let none = Score { status: Status::Indeterminate("ambiguous"), ..all };
        assert!(!json(&none).contains("outputs"));
    }

    #[test]
    fn without_a_risk_there_is_a_reason() {
        for (status, reason) in [
            (Status::Indeterminate("no \"vitals\""), r#""reason":"no \"vitals\"""#),
            (Status::Ok(f64::NAN), r#""reason":"the model gave no finite number""#),
        ] {
            let text = json(&Score { encounter: None, ..score(status) });
            assert!(text.contains(r#""encounter":null"#) && text.contains(r#""risk":null,"status":"indeterminate""#));
            assert!(text.contains(reason), "{text}");
        }
    }

    #[test]
    fn a_doubt_takes_the_risk_away() {
        use crate::models::Doubt;
        let of = |doubt| Status::of(&Assessment { risk: 0.83, possible: [true, true], doubt });
        assert_eq!(of(None), Status::Ok(0.83));
        for (doubt, reason) in [
            (Doubt::Ambiguous, "ambiguous"),
            (Doubt::Novel, "unlike anything seen"),
            (Doubt::TooLittleData, "too little data"),
        ] {
            assert_eq!(of(Some(doubt)), Status::Indeterminate(reason));
            assert_eq!(of(Some(doubt)).risk(), None);
        }
    }

    #[test]
    fn risks_come_back_bit_by_bit() {
        for risk in [0.1 + 0.2, 1.0 / 3.0, f64::MIN_POSITIVE, 1.0 - f64::EPSILON, 0.0] {
            let value: serde_json::Value = serde_json::from_str(&json(&score(Status::Ok(risk)))).unwrap();
            assert_eq!(value["risk"].as_f64().unwrap().to_bits(), risk.to_bits());
        }
    }
}
