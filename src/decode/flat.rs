//! Flat JSON, one event a record: the hot path.
//!
//! Reads the fields of interfaces.md section 2 in one pass, borrowing every string that
//! holds no escape; a record without escapes costs no allocation. A field is judged only
//! after the whole record has been read, so that the reject can name it.

mod plain;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::json::{self, Scalar};
use super::time::parse_rfc3339;
use super::{Fact, Identifier, Link, LinkKind, Notes, Reason, Reject, Value};
use crate::events::{Micros, Op};

/// Codes of records that say who is who and nothing else: the field `patient` holds the identifier
/// that is kept, `value` the other one, in the same form.
const LINKS: [(&str, LinkKind); 3] =
    [("PATIENT//SAME", LinkKind::Same), ("PATIENT//MERGE", LinkKind::Merge), ("PATIENT//UNMERGE", LinkKind::Unmerge)];

/// The fields that are read; all others are ignored.
#[derive(Copy, Clone)]
enum Field {
    Patient,
    Time,
    Code,
    System,
    Value,
    Unit,
    Recorded,
    Id,
    Encounter,
    Op,
}

/// Their names, in the order of [`Field`].
const NAMES: [&str; 10] = ["patient", "time", "code", "system", "value", "unit", "recorded", "id", "encounter", "op"];

/// What a record holds for each field, by [`Field`].
#[derive(Default)]
struct Record<'a> {
    values: [Option<Scalar<'a>>; NAMES.len()],
    twice: Option<Field>,
}

/// Decodes one record into one fact, or into one link.
///
/// A field that stands twice is a reject, because readers differ in which of the two they
/// take. `null` says the same as an absent field, but for `time`, where it means static.
pub(super) fn decode<'a>(bytes: &'a [u8], facts: &mut Vec<Fact<'a>>) -> Result<Notes<'a>, Reject> {
    let text = json::text(bytes)?;
    let record = match plain::read(text) {
        Some(record) => record,
        None => Record::read(text)?,
    };
    let fact = record.into_fact()?;
    let mut notes = Notes::default();
    // Facts come far more often, and few of their codes begin so.
    match LINKS.iter().find(|(code, _)| fact.system.is_none() && fact.code == *code) {
        Some((_, kind)) => notes.links.push(link(fact, *kind)?),
        None => facts.push(fact),
    }
    Ok(notes)
}

/// The link that a record with one of the codes of [`LINKS`] states.
fn link<'a>(fact: Fact<'a>, kind: LinkKind) -> Result<Link<'a>, Reject> {
    let Value::Text(other) = fact.value else {
        return Err(wrong(Field::Value, "must be the other identifier, as a string"));
    };
    if fact.op == Op::Retract {
        return Err(wrong(Field::Op, "must be assert; a merge is undone by PATIENT//UNMERGE"));
    }
    let (assigner, patient) =
        identifier(other).ok_or_else(|| Reject::new(Reason::Patient, "field 'value' names no patient"))?;
    Ok(Link {
        kind,
        kept: Identifier { assigner: fact.assigner, patient: fact.patient },
        other: Identifier { assigner, patient },
        recorded: fact.recorded.or(fact.time),
    })
}

/// Assigner and identifier of `"assigner|id"`, `"|id"` or `"id"`; the first bar divides, as in a
/// FHIR token. `None` where there is no identifier.
fn identifier<'a>(whole: Cow<'a, str>) -> Option<(Option<Cow<'a, str>>, Cow<'a, str>)> {
    let assigner = json::part(&whole, |text| text.split_once('|').map(|(assigner, _)| assigner));
    let id = match assigner {
        Some(_) => json::part(&whole, |text| text.split_once('|').map(|(_, id)| id)),
        None => Some(whole),
    };
    let id = id.filter(|id| !id.trim().is_empty())?;
    Some((assigner.filter(|assigner| !assigner.is_empty()), id))
}

/// The field of that name; `None` where it is ignored.
fn field(name: &str) -> Option<Field> {
    match name {
        "patient" => Some(Field::Patient),
        "time" => Some(Field::Time),
        "code" => Some(Field::Code),
        "system" => Some(Field::System),
        "value" => Some(Field::Value),
        "unit" => Some(Field::Unit),
        "recorded" => Some(Field::Recorded),
        "id" => Some(Field::Id),
        "encounter" => Some(Field::Encounter),
        "op" => Some(Field::Op),
        _ => None,
    }
}

impl<'a> Record<'a> {
    /// Reads any JSON object.
    fn read(text: &'a str) -> Result<Self, Reject> {
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_map(RecordVisitor).and_then(|record| json.end().map(|()| record));
        read.map_err(|error| json::fault(&error))
    }

    fn into_fact(mut self) -> Result<Fact<'a>, Reject> {
        if let Some(field) = self.twice {
            return Err(wrong(field, "stands twice"));
        }
        let (assigner, patient) = self.patient()?;
        let time = self.time()?;
        let system = self.text(Field::System)?;
        let code = self.text(Field::Code)?.ok_or_else(|| wrong(Field::Code, "is missing"))?;
        let op = match self.text(Field::Op)? {
            None => Op::Assert,
            Some(word) => Op::parse(&word).ok_or_else(|| wrong(Field::Op, "must be assert or retract"))?,
        };
        Ok(Fact {
            assigner,
            patient,
            encounter: self.text(Field::Encounter)?,
            time,
            recorded: self.moment(Field::Recorded)?,
            system,
            code,
            value: self.value()?,
            unit: self.unit()?,
            id: self.text(Field::Id)?,
            op,
        })
    }

    fn take(&mut self, field: Field) -> Option<Scalar<'a>> {
        self.values[field as usize].take()
    }

    /// A string that names something, and so is never empty.
    fn text(&mut self, field: Field) -> Result<Option<Cow<'a, str>>, Reject> {
        match self.take(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) if text.is_empty() => Err(wrong(field, "is empty; leave it out")),
            Some(Scalar::Text(text)) => Ok(Some(text)),
            Some(Scalar::Bool(_) | Scalar::Number(_) | Scalar::Nested) => Err(wrong(field, "must be a string")),
        }
    }

    /// Whose fact it is; see [`identifier`].
    fn patient(&mut self) -> Result<(Option<Cow<'a, str>>, Cow<'a, str>), Reject> {
        let nobody = |what| Reject::new(Reason::Patient, format!("field 'patient' {what}"));
        let whole = match self.take(Field::Patient) {
            None | Some(Scalar::Null) => return Err(nobody("is missing")),
            Some(Scalar::Text(text)) => text,
            Some(Scalar::Bool(_) | Scalar::Number(_) | Scalar::Nested) => {
                return Err(wrong(Field::Patient, "must be a string"));
            }
        };
        identifier(whole).ok_or_else(|| nobody("names no patient"))
    }

    fn time(&mut self) -> Result<Option<Micros>, Reject> {
        match self.values[Field::Time as usize] {
            None => Err(wrong(Field::Time, "is missing; a static fact has the time null")),
            Some(_) => self.moment(Field::Time),
        }
    }

    fn moment(&mut self, field: Field) -> Result<Option<Micros>, Reject> {
        match self.take(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => match parse_rfc3339(&text) {
                Some(at) => Ok(Some(at)),
                None => {
                    let name = NAMES[field as usize];
                    Err(Reject::new(Reason::Time, format!("field '{name}' is not an RFC 3339 time with an offset")))
                }
            },
            Some(Scalar::Bool(_) | Scalar::Number(_) | Scalar::Nested) => Err(wrong(field, "must be a string")),
        }
    }

    fn value(&mut self) -> Result<Value<'a>, Reject> {
        match self.take(Field::Value) {
            None | Some(Scalar::Null) => Ok(Value::None),
            Some(Scalar::Bool(value)) => Ok(Value::Bool(value)),
            Some(Scalar::Number(value)) => Ok(Value::Number(value)),
            Some(Scalar::Text(text)) => Ok(Value::Text(text)),
            Some(Scalar::Nested) => Err(wrong(Field::Value, "must be a number, a string or a boolean")),
        }
    }

    /// The unit; feeds write an empty one for numbers that have none.
    fn unit(&mut self) -> Result<Option<Cow<'a, str>>, Reject> {
        if matches!(&self.values[Field::Unit as usize], Some(Scalar::Text(text)) if text.is_empty()) {
            return Ok(None);
        }
        self.text(Field::Unit)
    }
}

fn wrong(field: Field, what: &str) -> Reject {
    Reject::new(Reason::Field, format!("field '{}' {what}", NAMES[field as usize]))
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut record = Record::default();
        while let Some(Key(field)) = fields.next_key()? {
            match field {
                Some(field) => {
                    let before = record.values[field as usize].replace(fields.next_value()?);
                    if before.is_some() {
                        record.twice = Some(field);
                    }
                }
                None => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(record)
    }
}

/// The name of a field; `None` where it is ignored.
struct Key(Option<Field>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Key(field(name)))
    }
}

#[cfg(test)]
mod tests;
