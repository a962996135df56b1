//! TXA: a document, whose text is in the OBX segments that follow (HL7 v2.8, chapter 9).

use super::super::Reject;
use super::code::pick;
use super::message::Message;
use super::order::{Number, Order};
use super::segment::Segment;
use super::sink::Sink;

/// Reads TXA: the texts that follow are of this document, by its number (TXA-12), at the time of what it reports
/// (TXA-4), else of its origination (TXA-6).
///
/// A document that was cancelled (T11, or TXA-19 `CA`) withdraws its texts.
pub(super) fn read<'a>(message: &mut Message<'a>, txa: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let number = Number::of(txa, 12).or(message.order.number);
    let (activity, origin) = (message.time(txa, 4, sink)?, message.time(txa, 6, sink)?);
    message.order = Order {
        number,
        code: txa.component(2, 1),
        what: pick(txa.first(2), txa.marks),
        time: activity.or(origin),
        written: txa.component(if activity.is_some() { 4 } else { 6 }, 1),
        withdrawn: message.trigger == "T11" || txa.component(19, 1) == "CA",
        ..Order::default()
    };
    Ok(())
}
