//! OBX: a result, a measurement or a piece of text (HL7 v2.8, section 7.4.2).

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::{Reason, Reject, Value};
use super::code::{pick, unit};
use super::lenient;
use super::message::{Entry, Message};
use super::segment::Segment;
use super::sink::Sink;
use super::value::{self, Found};
use crate::events::Op;

/// A text that goes on from one OBX to the next.
pub(super) struct Lines<'a> {
    /// OBX-3 of all its lines.
    code: &'a str,
    /// OBX-4 of all its lines.
    sub_id: &'a str,
    /// Where its fact stands.
    fact: usize,
}

/// What a status (OBX-11, table 0085) says.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Status {
    Holds,
    /// It replaces what was said before, also by nothing.
    Corrected,
    Withdrawn,
    /// There should be no value yet.
    Pending,
}

/// Reads OBX: one fact for each value; the lines of a text (TX, FT) under one code and sub-id are one fact.
///
/// The time is OBX-14, else that of the order (OBR-7), else of the message. What was withdrawn (D, W, X) or
/// corrected to nothing retracts the fact of that name.
pub(super) fn read<'a>(message: &mut Message<'a>, obx: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let lines = message.lines.take();
    let status = match obx.component(11, 1) {
        "D" | "W" | "X" => Status::Withdrawn,
        "C" | "A" => Status::Corrected,
        "I" | "N" | "O" => Status::Pending,
        "" if message.order.withdrawn => Status::Withdrawn,
        _ if message.order.withdrawn && message.kind == "MDM" => Status::Withdrawn,
        _ => Status::Holds,
    };
    let (field, sub_id) = (obx.first(3), obx.component(4, 1));
    let found = value::read(message, obx, sink);
    let text = matches!(obx.component(2, 1), "TX" | "FT");
    if text
        && status != Status::Withdrawn
        && let Some(lines) = lines.filter(|lines| lines.code == field && lines.sub_id == sub_id)
    {
        append(&lines, found, sink)?;
        message.lines = Some(lines);
        return Ok(());
    }
    if found.is_empty() && matches!(status, Status::Holds | Status::Pending) && !obx.is_null(5) {
        sink.tally.unread("OBX");
        return Ok(());
    }
    let code = match pick(field, obx.marks) {
        Some(code) => code,
        None => {
            let code = message.order.what.clone();
            let code = code.ok_or_else(|| Reject::new(Reason::Field, "OBX-3 names no observation"))?;
            sink.tally.lenient(lenient::CODE_OF_ORDER);
            code
        }
    };
    let own = message.time(obx, 14, sink)?;
    let time = own.or(message.order.time);
    let id = name(message, obx, sub_id, sink)?;
    if found.is_empty() && id.is_none() {
        sink.tally.unread("OBX");
        return Ok(());
    }
    let time = time.or_else(|| message.time_of_message(sink));
    let entry = |value, id| Entry {
        recorded: message.order.known,
        value,
        unit: unit(obx.first(6), obx.marks),
        ..Entry::of(code.clone(), time, id)
    };
    if found.is_empty() {
        message.push(Entry { op: Op::Retract, ..entry(Value::None, id) }, sink)?;
        return Ok(());
    }
    if status == Status::Pending {
        sink.tally.lenient(lenient::VALUE_BEFORE_RESULT);
    }
    let op = if status == Status::Withdrawn { Op::Retract } else { Op::Assert };
    let mut last = 0;
    for (place, Found { value, unit }) in found.into_iter().enumerate() {
        let id = id.as_ref().map(|id| if place == 0 { id.clone() } else { format!("{id}~{place}") });
        let mut entry = Entry { op, ..entry(value, id) };
        if !unit {
            entry.unit = None;
        }
        last = message.push(entry, sink)?;
    }
    if text && op == Op::Assert {
        message.lines = Some(Lines { code: field, sub_id, fact: last });
    }
    Ok(())
}

/// Adds a line to a text.
fn append<'a>(lines: &Lines<'a>, found: Vec<Found<'a>>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let line = found.into_iter().next().map_or(Value::None, |found| found.value);
    let line = match &line {
        Value::Text(line) => line,
        Value::None | Value::Number(_) | Value::Code(_) | Value::Bool(_) => "",
    };
    // What stands already was borrowed; from now on it is a copy that grows.
    sink.charge(line.len() * 2 + 1)?;
    let mut copied = 0;
    if let Some(Value::Text(text)) = sink.at(lines.fact).map(|fact| &mut fact.value) {
        if let Cow::Borrowed(text) = text {
            copied = text.len() * 2;
        }
        let text = text.to_mut();
        text.push('\n');
        text.push_str(line);
    }
    sink.charge(copied)
}

/// The name of the fact: order number and what was ordered, observation and sub-id, and how many before it had the
/// same. Without an order number the time stands for it; without that too there is no name.
fn name<'a>(
    message: &mut Message<'a>,
    obx: &Segment<'a>,
    sub_id: &'a str,
    sink: &mut Sink<'_, 'a>,
) -> Result<Option<String>, Reject> {
    let order = &message.order;
    let [code, text, _, other] = std::array::from_fn(|at| obx.component(3, at + 1));
    let code = [code, other, text].into_iter().find(|part| !part.is_empty()).unwrap_or_default();
    let own = obx.component(14, 1);
    let (number, written) = match order.number.number {
        "" if own.is_empty() => ("@", order.written),
        "" => ("@", own),
        number => (number, order.code),
    };
    if number == "@" && written.is_empty() {
        return Ok(None);
    }
    let parts = [number, written, code, sub_id];
    let by = order.number.by;
    let mut hasher = DefaultHasher::new();
    (by, parts).hash(&mut hasher);
    sink.charge(size_of::<(u64, u32)>())?;
    let met = message.met.entry(hasher.finish()).or_insert(0);
    *met += 1;
    let met = *met;
    Ok(Some(match met {
        1 => message.id("OBX", by, &parts),
        met => message.id("OBX", by, &[number, written, code, sub_id, &met.to_string()]),
    }))
}
