//! PR1: something that was done (HL7 v2.8, section 6.5.4).

use super::super::Reject;
use super::code::{Code, pick_or};
use super::message::{Entry, Message};
use super::order::Number;
use super::segment::Segment;
use super::sink::Sink;
use crate::events::Op;

/// Reads PR1: the procedure (PR1-3, else its description) at PR1-5.
pub(super) fn read<'a>(message: &Message<'a>, pr1: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let described = || pr1.text(4, 1).map(Code::text);
    let Some(code) = pick_or(pr1.first(3), pr1.marks, pr1.component(2, 1)).or_else(described) else {
        sink.tally.unread("PR1");
        return Ok(());
    };
    let time = message.time(pr1, 5, sink)?;
    let op = if pr1.component(20, 1) == "D" { Op::Retract } else { Op::Assert };
    let id = match Number::of(pr1, 19) {
        Number { number: "", .. } => None,
        Number { number, by } => Some(message.id("PR1", by, &[number, &code.code])),
    };
    message.push(Entry { op, ..Entry::of(code, time, id) }, sink)?;
    Ok(())
}
