//! PID: who the patient is, birth, sex and death (HL7 v2.8, section 3.4.2).

use std::borrow::Cow;

use super::super::{Identifier, Link, LinkKind, Reason, Reject};
use super::code::Code;
use super::lenient;
use super::message::{Entry, Message};
use super::segment::{Marks, Segment};
use super::sink::Sink;
use super::stamp;
use crate::events::{MEDS_BIRTH, MEDS_DEATH};

/// Types of numbers that are not the patient's own (CX.5, table 0203): of accounts, visits, insurances, cards,
/// governments and staff.
const OTHERS: [&str; 38] = [
    "SS", "SSN", "SB", "AN", "ANON", "ANC", "AND", "ANT", "AM", "BA", "BC", "CC", "CZ", "DI", "DL", "DN", "DS", "EI",
    "EN", "GN", "MA", "MC", "MCN", "MI", "MS", "NH", "NPI", "PEN", "PPN", "PRN", "PRC", "TAX", "TN", "VN", "VS", "WC",
    "WCN", "WP",
];

/// Authorities whose numbers are the government's, where the type is left out.
const GOVERNMENTS: [&str; 2] = ["USSSA", "SSA"];

/// Reads PID: the segments that follow are of this patient.
pub(super) fn read<'a>(message: &mut Message<'a>, pid: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let (person, others) = identify(pid, sink)?;
    let recorded = message.sent.map(|stamp| stamp.at);
    for other in others {
        sink.link(Link { kind: LinkKind::Same, kept: person.clone(), other, recorded })?;
    }
    let before = message.person.replace(person.clone());
    // A link of two patients, and its undoing, name them in two PID segments.
    let kind = match message.trigger {
        "A24" => Some(LinkKind::Same),
        "A37" => Some(LinkKind::Unmerge),
        _ => None,
    };
    if let (Some(kind), Some(kept)) = (kind, before.filter(|before| *before != person)) {
        sink.link(Link { kind, kept, other: person, recorded })?;
    }
    message.account = pid.component(18, 1);
    message.visit = None;
    message.order = super::order::Order::default();
    // The record or the person is deleted: nothing is known of them any more that this could confirm.
    if matches!((message.kind, message.trigger), ("ADT", "A23" | "A29")) {
        sink.tally.unread("PID");
        return Ok(());
    }
    demographics(message, pid, sink)
}

/// The identifier by which the patient is known, and all others.
///
/// # Errors
/// `patient` if there is none.
fn identify<'a>(pid: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(Identifier<'a>, Vec<Identifier<'a>>), Reject> {
    let mut found: Vec<(u8, Identifier<'a>)> = Vec::new();
    let mut add = |field: usize| -> bool {
        found.extend(pid.repeats(field).filter_map(|cx| identifier(cx, pid.marks)));
        !found.is_empty()
    };
    if !add(3) {
        if !add(2) && !add(4) {
            let detail = "PID-3 holds no identifier of the patient, nor do PID-2 and PID-4";
            return Err(Reject::new(Reason::Patient, detail));
        }
        sink.tally.lenient(lenient::OLD_IDENTIFIER);
    }
    // The first of the best.
    let best = (0..found.len()).min_by_key(|at| found[*at].0).unwrap_or_default();
    let (_, person) = found.remove(best);
    let others = found.into_iter().map(|(_, other)| other).filter(|other| *other != person).collect();
    Ok((person, others))
}

/// The identifier of a CX with its rank: medical record number, patient internal identifier, any other. `None`
/// if it is empty or not the patient's own.
pub(super) fn identifier(cx: &str, marks: Marks) -> Option<(u8, Identifier<'_>)> {
    let (authority, kind) = (marks.component(cx, 4), marks.component(cx, 5));
    let [namespace, universal, universal_kind] = [1, 2, 3].map(|sub| marks.sub(authority, sub));
    let facility = marks.sub(marks.component(cx, 6), 1);
    let government = GOVERNMENTS.iter().any(|one| [namespace, facility].contains(one));
    if government || OTHERS.contains(&kind) {
        return None;
    }
    let patient = marks.text(marks.component(cx, 1)).filter(|id| id != "\"\"")?;
    let assigner = match (namespace, universal) {
        ("", "") => marks.text(kind),
        // An OID is a URI only with its scheme, which is how FHIR writes it.
        ("", oid) if universal_kind == "ISO" => Some(Cow::Owned(format!("urn:oid:{oid}"))),
        ("", other) => marks.text(other),
        (namespace, _) => marks.text(namespace),
    };
    let rank = match kind {
        "MR" => 0,
        "PI" | "MRN" => 1,
        _ => 2,
    };
    Some((rank, Identifier { assigner, patient }))
}

/// Birth (PID-7), sex (PID-8) and death (PID-29). A time of these that cannot be read is passed over and counted:
/// it must not hold back what else is said of the patient.
fn demographics<'a>(message: &Message<'a>, pid: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let Some(person) = message.person.clone() else { return Ok(()) };
    let by = person.assigner.as_deref().unwrap_or_default();
    let mut add = |part: &str, code: &'static str, time| {
        let id = Some(message.id("PID", by, &[&person.patient, part]));
        let entry = Entry { in_visit: false, ..Entry::of(Code::meds(code), time, id) };
        message.push(entry, sink).map(|_| ())
    };
    let mut unread = false;
    let (sex, spelt) = match pid.component(8, 1) {
        "" => (None, false),
        "F" => (Some("GENDER//F"), false),
        "M" => (Some("GENDER//M"), false),
        "O" | "A" | "X" => (Some("GENDER//O"), false),
        "U" | "N" => (Some("GENDER//U"), false),
        "f" | "Female" | "FEMALE" | "female" | "W" => (Some("GENDER//F"), true),
        "m" | "Male" | "MALE" | "male" => (Some("GENDER//M"), true),
        "o" | "Other" | "OTHER" | "other" | "D" => (Some("GENDER//O"), true),
        "u" | "Unknown" | "UNKNOWN" | "unknown" => (Some("GENDER//U"), true),
        _ => {
            unread = true;
            (None, false)
        }
    };
    if let Some(code) = sex {
        add("gender", code, None)?;
    }
    let birth = pid.component(7, 1);
    match stamp::date(birth) {
        Some(date) => add("birth", MEDS_BIRTH, Some(date))?,
        None => unread |= !birth.is_empty(),
    }
    let death = pid.component(29, 1);
    match stamp::parse_any(death, message.zone) {
        Some((time, _)) => add("death", MEDS_DEATH, Some(time))?,
        // PID-30 alone names no time of death, and none is invented.
        None => unread |= !death.is_empty() || pid.component(30, 1) == "Y",
    }
    if spelt {
        sink.tally.lenient(lenient::SEX_SPELT);
    }
    if unread {
        sink.tally.unread("PID");
    }
    Ok(())
}
