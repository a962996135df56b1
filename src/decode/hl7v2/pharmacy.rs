//! RXO, RXE, RXD and RXA: what was ordered, dispensed and given (HL7 v2.8, chapter 4A).

use super::super::{Reject, Value};
use super::code::{Code, pick, unit};
use super::message::{Entry, Message};
use super::order::{Number, placed};
use super::segment::Segment;
use super::sink::Sink;
use crate::events::Op;

/// The text of a dispense, so that it does not look like a dose.
const DISPENSE: &str = "dispense";

/// RXA-6 where the amount is not known (section 4A.4.7.6).
const UNKNOWN_AMOUNT: f64 = 999.0;

/// CVX code of a visit at which no vaccine was given.
const NO_VACCINE: &str = "998";

/// Reads RXO: the drug as it was ordered (RXO-1).
pub(super) fn ordered<'a>(message: &mut Message<'a>, rxo: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    match pick(rxo.first(1), rxo.marks) {
        Some(code) => message.order.drug = placed(message, code, "", sink)?,
        None => sink.tally.unread("RXO"),
    }
    Ok(())
}

/// Reads RXE: the drug as the pharmacy encoded it (RXE-2), in place of what the RXO of the same order says.
pub(super) fn encoded<'a>(message: &mut Message<'a>, rxe: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let Some(Code { system, code }) = pick(rxe.first(2), rxe.marks) else {
        sink.tally.unread("RXE");
        return Ok(());
    };
    match message.order.drug.take().and_then(|place| sink.at(place)) {
        Some(fact) => (fact.system, fact.code) = (system, code),
        None => drop(placed(message, Code { system, code }, "", sink)?),
    }
    Ok(())
}

/// Reads RXD: the drug (RXD-2) when it was dispensed (RXD-3). It was not taken yet.
pub(super) fn dispensed<'a>(
    message: &mut Message<'a>,
    rxd: &Segment<'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let Some(code) = pick(rxd.first(2), rxd.marks) else {
        sink.tally.unread("RXD");
        return Ok(());
    };
    let time = message.time(rxd, 3, sink)?.or_else(|| message.time_of_message(sink));
    let Number { number, by } = message.order.number;
    let parts = [number, rxd.component(7, 1), rxd.component(3, 1), rxd.component(1, 1)];
    let id = (!number.is_empty()).then(|| message.id("RXD", by, &parts));
    let value = Value::Text(DISPENSE.into());
    let op = if message.order.cancelled { Op::Retract } else { Op::Assert };
    message.push(Entry { op, value, ..Entry::of(code, time, id) }, sink)?;
    Ok(())
}

/// Reads RXA: the dose (RXA-6 in RXA-7) of the drug (RXA-5) when it was given (RXA-3); in a message of immunizations
/// the vaccine, of which FHIR too gives no amount. What was refused or not given (RXA-20), or is deleted (RXA-21),
/// withdraws.
pub(super) fn administered<'a>(
    message: &mut Message<'a>,
    rxa: &Segment<'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let code = pick(rxa.first(5), rxa.marks).filter(|code| code.code != NO_VACCINE);
    let Some(code) = code else {
        sink.tally.unread("RXA");
        return Ok(());
    };
    let time = message.time(rxa, 3, sink)?.or_else(|| message.time_of_message(sink));
    let immunization = matches!(message.kind, "VXU" | "VXR" | "VXX" | "RSP");
    let (value, unit) = match amount(rxa).filter(|_| !immunization) {
        Some(value) => (value, unit(rxa.first(7), rxa.marks)),
        None => (Value::None, None),
    };
    let withdrawn = matches!(rxa.component(20, 1), "RE" | "NA") || rxa.component(21, 1) == "D";
    let op = if withdrawn { Op::Retract } else { Op::Assert };
    let Number { number, by } = message.order.number;
    let when = rxa.component(3, 1);
    let id = match number {
        "" => message.id("RXA", "", &["@", when, &code.code]),
        number => message.id("RXA", by, &[number, rxa.component(2, 1), when]),
    };
    message.push(Entry { op, value, unit, ..Entry::of(code, time, Some(id)) }, sink)?;
    Ok(())
}

/// RXA-6, unless it says that the amount is not known.
fn amount<'a>(rxa: &Segment<'a>) -> Option<Value<'a>> {
    let text = rxa.text(6, 1)?;
    match text.parse::<f64>() {
        Ok(UNKNOWN_AMOUNT) => None,
        Ok(number) if number.is_finite() => Some(Value::Number(number)),
        _ => Some(Value::Text(text)),
    }
}
