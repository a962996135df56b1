//! MRG: what is known under one identifier belongs to another (HL7 v2.8, sections 3.4.8 and 3.6.2).

use super::super::{Link, LinkKind, Reject};
use super::lenient;
use super::message::Message;
use super::patient::identifier;
use super::segment::Segment;
use super::sink::Sink;

/// Events that merge patients, and those that change an identifier, which is the same.
const PATIENTS: [&str; 9] = ["A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47", "A48"];

/// Events that merge accounts or visits; the patient on both sides should be the same.
const ACCOUNTS: [&str; 6] = ["A35", "A41", "A42", "A49", "A50", "A51"];

/// Reads MRG-1, or MRG-4 as older versions have it.
///
/// A move of an account or a visit to another patient (A43 to A45) cannot be said of a patient as a whole: it is
/// counted as not read.
pub(super) fn read<'a>(message: &Message<'a>, mrg: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let accounts = ACCOUNTS.contains(&message.trigger);
    let Some(kept) = message.person.clone().filter(|_| accounts || PATIENTS.contains(&message.trigger)) else {
        sink.tally.unread("MRG");
        return Ok(());
    };
    let field = if mrg.field(1).is_empty() { 4 } else { 1 };
    let recorded = message.sent.map(|stamp| stamp.at);
    let mut merged = false;
    for cx in mrg.repeats(field) {
        let Some((_, mut other)) = identifier(cx, mrg.marks) else { continue };
        merged = true;
        if other.assigner.is_none() && kept.assigner.is_some() {
            other.assigner.clone_from(&kept.assigner);
            sink.tally.lenient(lenient::MERGE_AUTHORITY);
        }
        if other == kept {
            continue;
        }
        if accounts {
            sink.tally.lenient(lenient::MERGE_BY_ACCOUNT);
        }
        sink.link(Link { kind: LinkKind::Merge, kept: kept.clone(), other, recorded })?;
    }
    if !merged {
        sink.tally.unread("MRG");
    }
    Ok(())
}
