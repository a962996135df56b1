//! Facts as flat JSON records: what `feed` makes of the rows of a table.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use crate::decode::{Fact, Value};
use crate::events::Micros;

#[derive(Serialize)]
struct Flat<'a> {
    patient: String,
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encounter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Found<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    op: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Found<'a> {
    Number(f64),
    Text(&'a str),
    Bool(bool),
}

/// A fact as one flat record, which decodes to the same fact.
///
/// # Errors
/// If it cannot be written as JSON, which does not happen.
pub(super) fn flat(fact: &Fact<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let patient = match &fact.assigner {
        Some(assigner) => format!("{assigner}|{}", fact.patient),
        // The first bar would divide an identifier that holds one.
        None if fact.patient.contains('|') => format!("|{}", fact.patient),
        None => fact.patient.to_string(),
    };
    serde_json::to_vec(&Flat {
        patient,
        time: fact.time.map(stamp),
        recorded: fact.recorded.map(stamp),
        encounter: fact.encounter.as_deref(),
        system: fact.system.as_deref(),
        code: &fact.code,
        value: match &fact.value {
            Value::None => None,
            Value::Number(number) => Some(Found::Number(*number)),
            Value::Text(text) | Value::Code(text) => Some(Found::Text(text)),
            Value::Bool(truth) => Some(Found::Bool(*truth)),
        },
        unit: fact.unit.as_deref(),
        id: fact.id.as_deref(),
        op: fact.op.as_str(),
    })
}

fn stamp(at: Micros) -> String {
    let at = DateTime::from_timestamp_micros(at).unwrap_or_default();
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::{Rules, decode};
    use crate::events::Op;
    use crate::settings::Format;

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            Just(Value::None),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Number),
            ".{0,12}".prop_map(|text: String| Value::Text(text.into())),
            any::<bool>().prop_map(Value::Bool),
        ]
    }

    proptest! {
        #[test]
        fn a_fact_decodes_as_it_was(
            assigner in prop::option::of("[a-z]{1,5}"), patient in "[a-z|\"é0-9]{1,9}", value in value(),
            time in prop::option::of(-62_135_596_800_000_000_i64..253_402_300_799_000_000), unit in prop::option::of("[a-z/]{1,5}"),
            encounter in prop::option::of("[a-z0-9 ]{1,9}"), system in prop::option::of("[a-z:/]{1,9}"), code in "[a-z0-9/-]{1,9}",
        ) {
            let text = |text: Option<String>| text.map(Into::into);
            let fact = Fact {
                assigner: text(assigner), patient: patient.into(), encounter: text(encounter), time, recorded: time,
                system: text(system), code: code.into(), value, unit: text(unit), id: None, op: Op::Assert,
            };
            let bytes = flat(&fact).unwrap();
            let mut facts = Vec::new();
            decode(Format::Flat, &Rules::default(), &bytes, &mut facts).unwrap();
            prop_assert_eq!(facts, vec![fact]);
        }
    }
}
