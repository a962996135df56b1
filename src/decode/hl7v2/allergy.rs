//! AL1 and IAM: allergies and intolerances (HL7 v2.8, sections 3.4.6 and 3.4.7).
//!
//! The text says which of the two it is, in the words of FHIR: the code may be that of a drug, and must not look
//! as if the drug had been given.

use super::super::{Reject, Value};
use super::code::pick;
use super::message::{Entry, Message};
use super::order::Number;
use super::segment::Segment;
use super::sink::Sink;
use crate::events::Op;

const ALLERGY: &str = "allergy";
const INTOLERANCE: &str = "intolerance";
const EITHER: &str = "allergy-intolerance";

/// Reads AL1: the allergen (AL1-3) at AL1-6.
pub(super) fn read<'a>(message: &Message<'a>, al1: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let kind = by_type(al1.component(2, 1));
    let time = message.time(al1, 6, sink)?;
    allergy(message, al1, kind, time, Number::default(), Op::Assert, sink)
}

/// Reads IAM: the allergen (IAM-3) at its onset (IAM-11), else when it was reported (IAM-13), withdrawn by the action
/// code (IAM-6) or if it was erroneous (IAM-17).
pub(super) fn adverse<'a>(message: &Message<'a>, iam: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let kind = match iam.component(9, 1) {
        "AL" => ALLERGY,
        "IN" => INTOLERANCE,
        _ => by_type(iam.component(2, 1)),
    };
    let reported = message.time(iam, 13, sink)?;
    let time = message.time(iam, 11, sink)?.or(reported);
    let withdrawn = iam.component(6, 1) == "D" || iam.component(17, 1) == "E";
    let op = if withdrawn { Op::Retract } else { Op::Assert };
    allergy(message, iam, kind, time, Number::of(iam, 7), op, sink)
}

fn allergy<'a>(
    message: &Message<'a>,
    segment: &Segment<'a>,
    kind: &'static str,
    time: Option<super::super::time::Stamp>,
    number: Number<'a>,
    op: Op,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let Some(code) = pick(segment.first(3), segment.marks) else {
        sink.tally.unread(segment.name);
        return Ok(());
    };
    let id = match number {
        Number { number: "", .. } => message.id("AL1", "", &[&code.code]),
        Number { number, by } => message.id("IAM", by, &[number]),
    };
    let value = Value::Text(kind.into());
    message.push(Entry { op, value, in_visit: false, ..Entry::of(code, time, Some(id)) }, sink)?;
    Ok(())
}

/// By the type of table 0127: drug, food, environment, pollen, plant, animal are allergies; a contraindication may be
/// either.
fn by_type(kind: &str) -> &'static str {
    match kind {
        "DA" | "FA" | "MA" | "EA" | "LA" | "PA" | "AA" => ALLERGY,
        "DI" | "FI" => INTOLERANCE,
        _ => EITHER,
    }
}
