//! Bytes of a raw record into facts, or a reason why not.
//!
//! Pure: no I/O, no clock, no key. Promises that any bytes end as facts or as a
//! [`Reject`], in memory and time bounded by their length, and that a reject's text never
//! holds an identifier, a value or a piece of the body (invariant 7).

mod code;
pub mod csv;
mod fhir;
mod flat;
mod hl7v2;
mod json;
mod time;

use std::borrow::Cow;

use crate::events::{self, Micros, Op};
use crate::settings::Format;

/// One clinical fact as its source states it, borrowed from the record's bytes.
#[derive(Clone, PartialEq, Debug)]
pub struct Fact<'a> {
    /// Assigner of the patient's identifier; `None`: the topic's default assigner.
    pub assigner: Option<Cow<'a, str>>,
    /// Identifier of the patient.
    pub patient: Cow<'a, str>,
    /// The source's identifier of the encounter.
    pub encounter: Option<Cow<'a, str>>,
    /// When it happened; `None`: static.
    pub time: Option<Micros>,
    /// When it became known; `None`: when the record reached Kafka.
    pub recorded: Option<Micros>,
    /// Code system as the source names it (URI); `None`: `code` is a MEDS code as it stands.
    pub system: Option<Cow<'a, str>>,
    /// Code within `system`, or the MEDS code.
    pub code: Cow<'a, str>,
    /// What was found.
    pub value: Value<'a>,
    /// Unit of a number, UCUM as far as the source keeps to it.
    pub unit: Option<Cow<'a, str>>,
    /// The source's own identifier of the fact; `None`: the fields identify it.
    pub id: Option<Cow<'a, str>>,
    /// Whether it holds or is withdrawn.
    pub op: Op,
}

/// What was found.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    /// The fact is its code (a diagnosis, an encounter's start).
    None,
    /// A number; finite.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// The code of a category: a text that is no number, though its letters may all be digits.
    Code(Cow<'a, str>),
    /// True or false.
    Bool(bool),
}

/// Why a record is a dead letter: the closed list of the header `reason`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// Nothing in the record.
    Empty,
    /// Longer than `limits.record_bytes`.
    TooLarge,
    /// Not the syntax of its format (for JSON: cut off, not UTF-8, nested too deep).
    Syntax,
    /// Not the shape of its format: no object, no resource.
    Shape,
    /// A required field is missing or has the wrong type.
    Field,
    /// A time that cannot be read or names no offset.
    Time,
    /// It does not say whose fact it is.
    Patient,
    /// A unit that cannot be converted to the concept's canonical unit.
    Unit,
    /// A format or version that this version does not read.
    Unsupported,
}

impl Reason {
    /// Every reason, for the docs and the metrics.
    pub const ALL: [Reason; 9] = [
        Reason::Empty,
        Reason::TooLarge,
        Reason::Syntax,
        Reason::Shape,
        Reason::Field,
        Reason::Time,
        Reason::Patient,
        Reason::Unit,
        Reason::Unsupported,
    ];

    /// The word in the header `reason` and the label of the same name.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::TooLarge => "too_large",
            Reason::Syntax => "syntax",
            Reason::Shape => "shape",
            Reason::Field => "field",
            Reason::Time => "time",
            Reason::Patient => "patient",
            Reason::Unit => "unit",
            Reason::Unsupported => "unsupported",
        }
    }
}

/// Why a record was not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reject {
    /// The closed reason.
    pub reason: Reason,
    /// Which field and what was expected; for the header `detail`. Holds nothing of the record.
    pub detail: String,
}

impl Reject {
    /// A reject for `reason`.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Reject { reason, detail: detail.into() }
    }
}

/// What a record held beside the facts.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Notes<'a> {
    /// What is not read, with its number: FHIR resource types and HL7 segments, from a closed list (others as `other`).
    pub unread: Vec<(&'static str, u32)>,
    /// What was read although it is not as its standard says, from a closed list, with its number.
    pub lenient: Vec<(&'static str, u32)>,
    /// What it says of who is who.
    pub links: Vec<Link<'a>>,
}

/// A statement of a record about two identifiers of patients.
#[derive(Clone, PartialEq, Debug)]
pub struct Link<'a> {
    /// What is said of them.
    pub kind: LinkKind,
    /// The one that stays in use.
    pub kept: Identifier<'a>,
    /// The other one.
    pub other: Identifier<'a>,
    /// When it became known; `None`: when the record reached Kafka.
    pub recorded: Option<Micros>,
}

/// What a [`Link`] says.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum LinkKind {
    /// Both are identifiers of one patient (HL7 v2 PID-3 repeats, FHIR `Patient.identifier`).
    Same,
    /// What is known under `other` belongs to `kept` (ADT A40, FHIR `Patient.link` `replaced-by`).
    Merge,
    /// A merge of the two was wrong and is undone (ADT A37 and its kin).
    Unmerge,
}

/// An identifier of a patient as its source states it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identifier<'a> {
    /// Who gave it; `None`: the topic's default assigner.
    pub assigner: Option<Cow<'a, str>>,
    /// The identifier.
    pub patient: Cow<'a, str>,
}

/// What a site says of its records.
#[derive(Copy, Clone, Debug)]
pub struct Rules {
    /// Zone of the times that name no offset, where their format allows that (HL7 v2).
    pub zone: chrono_tz::Tz,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { zone: chrono_tz::UTC }
    }
}

/// Codes of the system's own rows. From outside they would forge an identity or a clock.
const OWN: [&str; 5] = [events::TICK, events::TOKEN, events::PREDICTION, events::LEAVE, events::JOIN];

/// Decodes one record, appending its facts to `facts`; on a reject `facts` is as before.
///
/// # Errors
/// A [`Reject`] that says why the record is a dead letter.
pub fn decode<'a>(
    format: Format,
    rules: &Rules,
    bytes: &'a [u8],
    facts: &mut Vec<Fact<'a>>,
) -> Result<Notes<'a>, Reject> {
    let before = facts.len();
    let read = match format {
        _ if bytes.iter().all(u8::is_ascii_whitespace) => Err(Reject::new(Reason::Empty, "the record is empty")),
        Format::Flat => flat::decode(bytes, facts),
        Format::Fhir => fhir::decode(bytes, facts),
        Format::Csv => Err(Reject::new(
            Reason::Unsupported,
            "a row of CSV means nothing without its mapping; use auscult import --format csv --mapping",
        )),
        Format::Hl7v2 => hl7v2::decode(rules, bytes, facts),
    };
    let read = match read {
        Ok(_) if facts[before..].iter().any(is_forged) => {
            Err(Reject::new(Reason::Field, "a code is one of auscult's own, which no source may send"))
        }
        read => read,
    };
    if read.is_err() {
        facts.truncate(before);
    }
    read
}

/// Whether the log would write the fact's code like one of [`OWN`].
fn is_forged(fact: &Fact<'_>) -> bool {
    OWN.iter().any(|own| match &fact.system {
        None => fact.code == *own,
        Some(system) => own.strip_prefix(&**system).and_then(|rest| rest.strip_prefix("//")) == Some(&fact.code),
    })
}

#[cfg(test)]
pub(crate) mod corpus;
#[cfg(test)]
mod tests;
