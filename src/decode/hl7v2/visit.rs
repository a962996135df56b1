//! PV1: start and end of an encounter, and where the patient is moved (HL7 v2.8, section 3.4.3).

use super::super::time::Stamp;
use super::super::{Reject, Value};
use super::code::Code;
use super::lenient;
use super::message::{Entry, Message};
use super::segment::Segment;
use super::sink::Sink;
use crate::events::Op;

/// What an event says of the encounter.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Event {
    /// It began (A01, A04) or is of another class from now on (A06, A07).
    Begins,
    /// It ended (A03).
    Ends,
    /// It never was (A11; A27 and A38 of what was only planned).
    Never,
    /// It did not end (A13).
    GoesOn,
    /// The patient was moved within it (A02).
    Moves,
    /// The patient was not moved (A12).
    Stays,
    /// Nothing has happened yet (A05, A14).
    Planned,
    /// The patient is there, whatever else is said (A15, A16 ...).
    Present,
    /// Something else; start and end may be told again.
    Told,
}

impl Event {
    fn of(message: &Message<'_>) -> Self {
        if message.kind != "ADT" {
            return Event::Told;
        }
        match message.trigger {
            "A01" | "A04" | "A06" | "A07" => Event::Begins,
            "A03" => Event::Ends,
            "A11" | "A27" | "A38" => Event::Never,
            "A13" => Event::GoesOn,
            "A02" => Event::Moves,
            "A12" => Event::Stays,
            "A05" | "A14" => Event::Planned,
            // Tracking, leave, and transfers or discharges that are only planned, or no more.
            "A09" | "A10" | "A15" | "A16" | "A21" | "A22" | "A25" | "A26" | "A32" | "A33" => Event::Present,
            _ => Event::Told,
        }
    }
}

/// Reads PV1: `ENCOUNTER//{class}//START` at PV1-44, `ENCOUNTER//{class}//END` at PV1-45 with the disposition
/// (PV1-36) as text, and `LOCATION//{place}//START` and `END` for a move, as FHIR's `Encounter.location` gives them.
///
/// The class is that of FHIR (`IMP`, `AMB`, `EMER`, `PRENC`). Every message that has the times tells them; they are
/// the same fact under the same visit. An admission or a discharge without its time has that of the event.
pub(super) fn read<'a>(message: &mut Message<'a>, pv1: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let mut number = pv1.component(19, 1);
    if number.is_empty() && !message.account.is_empty() {
        number = message.account;
        sink.tally.lenient(lenient::VISIT_BY_ACCOUNT);
    }
    message.visit = pv1.marks.text(number);
    let (mut start, mut end) = (message.time(pv1, 44, sink)?, message.time(pv1, 45, sink)?);
    // A visit without a number is known by when it began.
    let since;
    let name = match number {
        "" => {
            since = format!("@{}", pv1.component(44, 1));
            since.as_str()
        }
        number => number,
    };
    let event = Event::of(message);
    let named = name != "@";
    let id = |part: &str| named.then(|| message.id("PV1", pv1.marks.sub(pv1.component(19, 4), 1), &[name, part]));
    let mut class = pv1.component(2, 1);
    if class.is_empty() {
        sink.tally.lenient(lenient::CLASS_MISSING);
        class = "U";
    }
    let class = pv1.marks.text(act_class(class)).unwrap_or_default();
    let bound = |side| Code::meds(format!("ENCOUNTER//{class}//{side}"));

    if event == Event::Begins && start.is_none() {
        start = time_of_event(message, sink);
    }
    if event == Event::Ends && end.is_none() {
        end = time_of_event(message, sink);
    }
    let op = if event == Event::Never { Op::Retract } else { Op::Assert };
    // A visit that is only planned has not begun; a preadmitted patient is not there until admitted.
    let planned = event == Event::Planned || (event == Event::Told && class == "PRENC" && end.is_none());
    let told = start.is_some() && !planned;
    if told || (op == Op::Retract && named) {
        message.push(Entry { op, recorded: message.entered, ..Entry::of(bound("START"), start, id("start")) }, sink)?;
    }
    let retract_end = named && matches!(event, Event::Never | Event::GoesOn);
    let ends = end.is_some() && matches!(event, Event::Ends | Event::Told);
    if ends || retract_end {
        let value = pv1.text(36, 1).map_or(Value::None, Value::Text);
        let op = if retract_end { Op::Retract } else { Op::Assert };
        let entry = Entry { op, value, recorded: message.entered, ..Entry::of(bound("END"), end, id("end")) };
        message.push(entry, sink)?;
    }
    if matches!(event, Event::Moves | Event::Stays) {
        moved(message, pv1, name, event, sink)?;
    }
    Ok(())
}

/// A move from the point of care of PV1-6 to that of PV1-3, at EVN-6, which in a cancellation is when the cancelled move was; only by
/// that time is it known which move never was.
fn moved<'a>(
    message: &Message<'a>,
    pv1: &Segment<'a>,
    visit: &str,
    event: Event,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let moves = event == Event::Moves;
    let place = pv1.marks.text(pv1.marks.sub(pv1.component(3, 1), 1));
    let time = message.happened.or(if moves { message.entered.or(message.sent) } else { None });
    let (Some(place), Some(time)) = (place, time) else {
        sink.tally.unread("PV1");
        return Ok(());
    };
    let op = if moves { Op::Assert } else { Op::Retract };
    let left = pv1.marks.text(pv1.marks.sub(pv1.component(6, 1), 1));
    let sides = [left.map(|place| (place, "END")), Some((place, "START"))];
    for (place, side) in sides.into_iter().flatten() {
        let id = Some(message.id("PV1", "", &[visit, "location", side, &time.at.to_string()]));
        let code = Code::meds(format!("LOCATION//{place}//{side}"));
        message.push(Entry { op, recorded: message.entered, ..Entry::of(code, Some(time), id) }, sink)?;
    }
    Ok(())
}

/// When the event happened, was entered, or was sent.
fn time_of_event<'a>(message: &Message<'a>, sink: &mut Sink<'_, 'a>) -> Option<Stamp> {
    let time = message.happened.or(message.entered).or(message.sent);
    if time.is_some() {
        sink.tally.lenient(lenient::TIME_OF_EVENT);
    }
    time
}

/// The class of FHIR (v3 ActCode) for a patient class of table 0004, by the map of HL7's "V2 to FHIR"; a class of the
/// site's own stays as it is.
fn act_class(class: &str) -> &str {
    match class {
        "E" => "EMER",
        "I" | "B" => "IMP",
        "O" | "R" => "AMB",
        "P" => "PRENC",
        other => other,
    }
}
