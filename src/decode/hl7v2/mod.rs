//! HL7 v2.1 to v2.8 in the encoding ER7: one message a record, or a batch of them.
//!
//! One file a subject. Promises that a segment ends as facts, as a reject of the whole record, or in the
//! count of what was not read, and that a record takes memory in proportion to its length. The same clinical
//! content gives the same facts as from FHIR; the names of facts (`Fact::id`) are the sender's own: order
//! number, observation and sub-id, with who assigned them, and never the message's control id, so that a result
//! that is sent again is the same fact and a correction replaces it.
//!
//! What real feeds do against the standard is read where its meaning is clear, and counted ([`lenient`]). A time
//! of a clinical fact that cannot be read is a reject, because another time would be a lie.
//!
//! Patients are known by PID-3. Numbers that are not the patient's but of an account, a visit, an insurance or a
//! government (CX.5 `AN`, `VN`, `SS` ...) never identify and never link: two patients may share them.

mod allergy;
mod charset;
mod code;
mod diagnosis;
mod escape;
mod lenient;
mod merge;
mod message;
mod observation;
mod order;
mod owned;
mod patient;
mod pharmacy;
mod procedure;
mod report;
mod segment;
mod sink;
mod stamp;
mod value;
mod visit;

use std::borrow::Cow;

use lenient::Tally;
use message::Message;
use segment::{Marks, Segment};
use sink::Sink;

use super::{Fact, Notes, Reason, Reject, Rules};

/// Decodes one record.
///
/// # Errors
/// `syntax` if no message begins in it, `unsupported` for a version or a character set that is not known,
/// `patient`, `field` or `time` by what a segment lacks, `too_large` if its facts would take many times its length.
pub(super) fn decode<'a>(rules: &Rules, bytes: &'a [u8], facts: &mut Vec<Fact<'a>>) -> Result<Notes<'a>, Reject> {
    let mut tally = Tally::default();
    match charset::text(bytes, &mut tally)? {
        Cow::Borrowed(text) => {
            let mut sink = Sink::new(facts, tally, bytes.len());
            record(text, rules, &mut sink)?;
            Ok(sink.notes())
        }
        Cow::Owned(text) => {
            let mut read = Vec::new();
            let mut sink = Sink::new(&mut read, tally, bytes.len());
            record(&text, rules, &mut sink)?;
            let notes = owned::notes(sink.notes());
            facts.extend(read.into_iter().map(owned::fact));
            Ok(notes)
        }
    }
}

/// What ends a segment: CR, LF, and the signs around a message on a socket (MLLP: VT before, FS after).
const ENDS: [char; 4] = ['\r', '\n', '\u{b}', '\u{1c}'];

/// Reads the messages of a record.
fn record<'a>(text: &'a str, rules: &Rules, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let nothing = || Reject::new(Reason::Syntax, "the record does not begin with an MSH, FHS or BHS segment");
    let mut message: Option<Message<'a>> = None;
    let mut marks = None;
    let mut rest = text.trim_start();
    if rest.contains('\n') {
        sink.tally.lenient(lenient::LINE_FEED);
    }
    while !rest.is_empty() {
        // A message brings its own signs.
        let own = if begins_message(rest) { rest.chars().nth(3) } else { None };
        let separator = own.unwrap_or(marks.map_or('|', |marks: Marks| marks.field));
        let (line, tail, broken) = line(rest, separator);
        rest = tail;
        if broken {
            sink.tally.lenient(lenient::BROKEN_LINE);
        }
        match line.get(..3) {
            Some("MSH") => {
                if let Some(message) = message.take() {
                    message.end()?;
                }
                let signs = Marks::read(line)
                    .ok_or_else(|| Reject::new(Reason::Syntax, "MSH-1 and MSH-2 hold no five different signs"))?;
                marks = Some(signs);
                message = Some(Message::begin(&Segment::cut(line, signs), rules.zone, sink)?);
            }
            Some("FHS" | "BHS" | "FTS" | "BTS") => marks = marks.or(Marks::read(line)),
            _ => match (&mut message, marks) {
                (Some(message), Some(marks)) => {
                    message.segment(&Segment::cut(line, marks), sink)?;
                }
                _ => return Err(nothing()),
            },
        }
    }
    message.ok_or_else(nothing)?.end()
}

/// The segment at the head of a text, what follows it, and whether lines that begin no segment were added to it.
fn line(text: &str, separator: char) -> (&str, &str, bool) {
    let (mut end, mut broken) = (0, false);
    loop {
        let rest = text.get(end..).unwrap_or_default();
        // By bytes: every record passes here whole.
        let stop = end + rest.bytes().position(|byte| ENDS.contains(&char::from(byte))).unwrap_or(rest.len());
        let tail = text.get(stop..).unwrap_or_default();
        let next = tail.trim_start_matches(ENDS);
        let line = text.get(..stop).unwrap_or_default();
        if next.trim_ascii().is_empty() {
            return (line, "", broken);
        }
        if begins_message(next) || begins(next, separator) {
            return (line, next, broken);
        }
        broken = true;
        end = text.len() - next.len();
    }
}

/// Whether a text begins with a message or a batch.
fn begins_message(text: &str) -> bool {
    ["MSH", "FHS", "BHS"].iter().any(|name| text.starts_with(name))
}

/// Whether the line at the head of a text begins a segment.
fn begins(text: &str, separator: char) -> bool {
    // The four bytes that decide; a name alone may end its line.
    let head = text.get(..4).filter(|head| !head.ends_with(ENDS)).or(text.get(..3));
    head.is_some_and(|head| Segment::begins(head, separator))
}

#[cfg(test)]
mod tests;
