//! ORC and OBR: which order, when it was placed, and the report that answers it (HL7 v2.8, chapter 4 and 7).

use super::super::time::Stamp;
use super::super::{Reject, Value};
use super::code::{Code, pick};
use super::message::{Entry, Message};
use super::segment::Segment;
use super::sink::Sink;
use crate::events::Op;

/// The text of an order, so that it does not look like what was ordered had been done; FHIR's intent.
pub(super) const ORDER: &str = "order";

/// Control codes (table 0119) by which an order is stopped, held, released or only told of: when it was placed is not
/// said again.
const SILENT: [&str; 20] = [
    "DC", "OD", "DR", "DF", "UD", "UC", "UX", "HD", "HR", "OH", "UH", "RL", "OE", "UR", "SC", "SR", "SS", "OF", "LI",
    "UN",
];

/// A number with who assigned it (EI).
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub(super) struct Number<'a> {
    /// The number; empty: none.
    pub(super) number: &'a str,
    /// Namespace, else universal id; empty: the sender.
    pub(super) by: &'a str,
}

impl<'a> Number<'a> {
    /// The number in a field.
    pub(super) fn of(segment: &Segment<'a>, field: usize) -> Self {
        let [number, namespace, universal] = [1, 2, 3].map(|part| segment.component(field, part));
        Number { number, by: if namespace.is_empty() { universal } else { namespace } }
    }

    /// This number, or the other where there is none.
    pub(super) fn or(self, other: Self) -> Self {
        if self.number.is_empty() { other } else { self }
    }
}

/// What the last ORC and the segment under it say of an order.
#[derive(Default)]
pub(super) struct Order<'a> {
    /// Its number: the filler's, else the placer's.
    pub(super) number: Number<'a>,
    /// What was ordered or reported, as it was sent (OBR-4.1, TXA-2.1).
    pub(super) code: &'a str,
    /// The same as a code, for results that name none.
    pub(super) what: Option<Code<'a>>,
    /// When what is reported was done (OBR-7, TXA-4).
    pub(super) time: Option<Stamp>,
    /// How that was written.
    pub(super) written: &'a str,
    /// When the results became known (OBR-22).
    pub(super) known: Option<Stamp>,
    /// Whether its results are withdrawn.
    pub(super) withdrawn: bool,
    /// When it was placed (ORC-9).
    pub(super) placed: Option<Stamp>,
    /// Whether it was cancelled.
    pub(super) cancelled: bool,
    /// Whether the ORC tells of something else than its placing or cancelling.
    pub(super) silent: bool,
    /// Where the fact of its RXO stands, which an RXE says better.
    pub(super) drug: Option<usize>,
}

impl<'a> Order<'a> {
    /// The name of the order's own fact.
    pub(super) fn id(&self, message: &Message<'a>, code: &str) -> Option<String> {
        let Number { number, by } = self.number;
        (!number.is_empty()).then(|| message.id("ORC", by, &[number, code]))
    }
}

/// Reads ORC: an order begins.
pub(super) fn control<'a>(message: &mut Message<'a>, orc: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let control = orc.component(1, 1);
    // Cancelled, or never accepted (table 0119).
    let cancelled = matches!(control, "CA" | "OC" | "CR" | "UA" | "DE");
    let silent = SILENT.contains(&control);
    if silent {
        sink.tally.unread("ORC");
    }
    let number = Number::of(orc, 3).or(Number::of(orc, 2));
    message.order = Order { number, placed: message.time(orc, 9, sink)?, cancelled, silent, ..Order::default() };
    Ok(())
}

/// Reads OBR: a fact for the report in a message of results, for the order in one of orders.
pub(super) fn request<'a>(message: &mut Message<'a>, obr: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let number = Number::of(obr, 3).or(message.order.number).or(Number::of(obr, 2));
    let (done, known) = (message.time(obr, 7, sink)?, message.time(obr, 22, sink)?);
    let what = pick(obr.first(4), obr.marks);
    let status = obr.component(25, 1);
    let order = &message.order;
    message.order = Order {
        number,
        code: obr.component(4, 1),
        what: what.clone(),
        time: done,
        written: obr.component(7, 1),
        known,
        withdrawn: status == "X",
        placed: order.placed,
        cancelled: order.cancelled,
        silent: order.silent,
        drug: None,
    };
    let Some(code) = what else {
        sink.tally.unread("OBR");
        return Ok(());
    };
    match message.kind {
        // Nothing to report yet (table 0123).
        "ORU" | "OUL" | "ORF" if matches!(status, "O" | "I" | "S" | "Y" | "Z") => sink.tally.unread("OBR"),
        "ORU" | "OUL" | "ORF" => {
            let time = done.or(known).or_else(|| message.time_of_message(sink));
            let id = message.order.id(message, message.order.code).map(|id| id.replacen("ORC", "OBR", 1));
            let op = if message.order.withdrawn { Op::Retract } else { Op::Assert };
            message.push(Entry { op, recorded: known, ..Entry::of(code, time, id) }, sink)?;
        }
        "ORM" | "OML" | "OMG" | "OMI" | "OMD" => return placed(message, code, message.order.code, sink).map(|_| ()),
        _ => sink.tally.unread("OBR"),
    }
    Ok(())
}

/// Adds the fact that something was ordered, and says where it stands: at its placing, when it also became known.
pub(super) fn placed<'a>(
    message: &Message<'a>,
    code: Code<'a>,
    part: &str,
    sink: &mut Sink<'_, 'a>,
) -> Result<Option<usize>, Reject> {
    if message.order.silent {
        return Ok(None);
    }
    let op = if message.order.cancelled { Op::Retract } else { Op::Assert };
    let time = message.order.placed.or_else(|| message.time_of_message(sink));
    let value = Value::Text(ORDER.into());
    let id = message.order.id(message, part);
    message.push(Entry { op, value, recorded: time, ..Entry::of(code, time, id) }, sink).map(Some)
}
