//! DG1 and PRB: diagnoses and problems (HL7 v2.8, sections 6.5.2 and 12.4.2).

use super::super::Reject;
use super::code::{Code, pick, pick_or};
use super::message::{Entry, Message};
use super::order::Number;
use super::segment::Segment;
use super::sink::Sink;
use crate::events::Op;

/// Reads DG1: the diagnosis (DG1-3, else its description) at DG1-5, else when it was attested (DG1-19).
pub(super) fn read<'a>(message: &Message<'a>, dg1: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let Some(code) = pick_or(dg1.first(3), dg1.marks, dg1.component(2, 1)).or_else(|| pick_text(dg1, 4)) else {
        sink.tally.unread("DG1");
        return Ok(());
    };
    let attested = message.time(dg1, 19, sink)?;
    let time = message.time(dg1, 5, sink)?.or(attested);
    let op = if dg1.component(21, 1) == "D" { Op::Retract } else { Op::Assert };
    let id = match Number::of(dg1, 20) {
        // A diagnosis without a number is told again and again in the same words.
        Number { number: "", .. } => message.visit.as_deref().map(|visit| message.id("DG1", "", &[visit, &code.code])),
        // Senders number their diagnoses within the patient's visit, some by the message's template.
        Number { number, by } => Some(message.id("DG1", by, &[number, &code.code])),
    };
    message.push(Entry { op, recorded: attested, ..Entry::of(code, time, id) }, sink)?;
    Ok(())
}

/// Reads PRB: the problem (PRB-3) at its onset (PRB-16), else when it was established (PRB-7).
pub(super) fn problem<'a>(message: &Message<'a>, prb: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let Some(code) = pick(prb.first(3), prb.marks) else {
        sink.tally.unread("PRB");
        return Ok(());
    };
    let established = message.time(prb, 7, sink)?;
    let time = message.time(prb, 16, sink)?.or(established);
    let op = if prb.component(1, 1) == "DE" { Op::Retract } else { Op::Assert };
    let Number { number, by } = Number::of(prb, 4);
    let id = (!number.is_empty()).then(|| message.id("PRB", by, &[number]));
    message.push(Entry { op, recorded: message.time(prb, 2, sink)?, ..Entry::of(code, time, id) }, sink)?;
    Ok(())
}

fn pick_text<'a>(segment: &Segment<'a>, field: usize) -> Option<Code<'a>> {
    segment.text(field, 1).map(Code::text)
}
