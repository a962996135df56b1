//! A message as it is read, segment by segment: what has been said so far of whom, when and in which visit.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono_tz::Tz;

use super::super::time::Stamp;
use super::super::{Fact, Identifier, Reason, Reject, Value};
use super::code::Code;
use super::lenient;
use super::observation::Lines;
use super::order::Order;
use super::segment::Segment;
use super::sink::Sink;
use super::{allergy, diagnosis, merge, observation, order, patient, pharmacy, procedure, report, stamp, visit};
use crate::events::Op;

/// What the segments so far say.
pub(super) struct Message<'a> {
    /// Zone of times that name no offset.
    pub(super) zone: Tz,
    /// MSH-9.1: `ADT`, `ORU` ...
    pub(super) kind: &'a str,
    /// MSH-9.2: `A01`, `R01` ...
    pub(super) trigger: &'a str,
    /// Who sends: facility (MSH-4), else application (MSH-3).
    pub(super) sender: &'a str,
    /// When it was sent (MSH-7).
    pub(super) sent: Option<Stamp>,
    /// When its event was entered (EVN-2).
    pub(super) entered: Option<Stamp>,
    /// When its event happened (EVN-6).
    pub(super) happened: Option<Stamp>,
    /// Of whom the segments after the last PID are.
    pub(super) person: Option<Identifier<'a>>,
    /// PID-18, of use where PV1-19 is empty.
    pub(super) account: &'a str,
    /// The visit of the last PV1.
    pub(super) visit: Option<Cow<'a, str>>,
    /// The order of the last ORC, OBR or TXA.
    pub(super) order: Order<'a>,
    /// How often an observation was met under the same name.
    pub(super) met: HashMap<u64, u32>,
    /// The text that the next OBX may go on with.
    pub(super) lines: Option<Lines<'a>>,
}

/// A fact, but for whose it is and where it was said.
pub(super) struct Entry<'a> {
    /// What.
    pub(super) code: Code<'a>,
    /// When; `None`: the source does not say.
    pub(super) time: Option<Stamp>,
    /// When it became known; `None`: when the message was sent.
    pub(super) recorded: Option<Stamp>,
    /// What was found.
    pub(super) value: Value<'a>,
    /// Its unit.
    pub(super) unit: Option<Cow<'a, str>>,
    /// Its name at the source; `None`: its fields name it.
    pub(super) id: Option<String>,
    /// Whether it holds.
    pub(super) op: Op,
    /// Whether it is of the visit, and not for life.
    pub(super) in_visit: bool,
}

impl<'a> Entry<'a> {
    /// A fact that holds, without a value, of the visit.
    pub(super) fn of(code: Code<'a>, time: Option<Stamp>, id: Option<String>) -> Self {
        Entry { code, time, recorded: None, value: Value::None, unit: None, id, op: Op::Assert, in_visit: true }
    }
}

impl<'a> Message<'a> {
    /// Reads MSH.
    ///
    /// # Errors
    /// `unsupported` if MSH-12 names no version 2, `field` if MSH-9 names no type of message, `time` if MSH-7 cannot
    /// be read.
    pub(super) fn begin(msh: &Segment<'a>, zone: Tz, sink: &mut Sink<'_, 'a>) -> Result<Self, Reject> {
        let version = msh.component(12, 1);
        if !version.is_empty() && !version.starts_with('2') {
            return Err(Reject::new(Reason::Unsupported, "MSH-12 names no version 2 of HL7"));
        }
        if msh.component(9, 1).is_empty() {
            return Err(Reject::new(Reason::Field, "MSH-9 names no type of message"));
        }
        let facility = msh.component(4, 1);
        let mut message = Message {
            zone,
            kind: msh.component(9, 1),
            trigger: msh.component(9, 2),
            sender: if facility.is_empty() { msh.component(3, 1) } else { facility },
            sent: None,
            entered: None,
            happened: None,
            person: None,
            account: "",
            visit: None,
            order: Order::default(),
            met: HashMap::new(),
            lines: None,
        };
        message.sent = message.time(msh, 7, sink)?;
        Ok(message)
    }

    /// Reads the next segment.
    ///
    /// # Errors
    /// What the segment lacks.
    pub(super) fn segment(&mut self, segment: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
        if segment.name != "OBX" {
            self.lines = None;
        }
        match segment.name {
            "EVN" => {
                self.entered = self.time(segment, 2, sink)?;
                self.happened = self.time(segment, 6, sink)?;
                if self.trigger.is_empty() {
                    self.trigger = segment.component(1, 1);
                }
                Ok(())
            }
            "PID" => patient::read(self, segment, sink),
            "PV1" => visit::read(self, segment, sink),
            "MRG" => merge::read(self, segment, sink),
            "ORC" => order::control(self, segment, sink),
            "OBR" => order::request(self, segment, sink),
            "OBX" => observation::read(self, segment, sink),
            "TXA" => report::read(self, segment, sink),
            "DG1" => diagnosis::read(self, segment, sink),
            "PRB" => diagnosis::problem(self, segment, sink),
            "PR1" => procedure::read(self, segment, sink),
            "AL1" => allergy::read(self, segment, sink),
            "IAM" => allergy::adverse(self, segment, sink),
            "RXO" => pharmacy::ordered(self, segment, sink),
            "RXE" => pharmacy::encoded(self, segment, sink),
            "RXD" => pharmacy::dispensed(self, segment, sink),
            "RXA" => pharmacy::administered(self, segment, sink),
            name => {
                sink.tally.unread(name);
                Ok(())
            }
        }
    }

    /// Ends the message.
    ///
    /// # Errors
    /// `patient` if it is a message about a patient and names none.
    pub(super) fn end(self) -> Result<(), Reject> {
        let about_a_patient = matches!(self.kind, "ADT" | "ORU" | "VXU" | "MDM" | "DFT" | "RDE" | "RDS" | "RAS");
        if about_a_patient && self.person.is_none() {
            return Err(nobody());
        }
        Ok(())
    }

    /// Adds a fact about the message's patient and says where it stands.
    ///
    /// # Errors
    /// `patient` if no PID came before.
    pub(super) fn push(&self, entry: Entry<'a>, sink: &mut Sink<'_, 'a>) -> Result<usize, Reject> {
        let person = self.person.clone().ok_or_else(nobody)?;
        let time = entry.time.map(|stamp| stamp.at);
        // What is not exact is read as its start, and nothing was known before it happened.
        let recorded = entry.recorded.or(self.sent).map(|known| match time {
            Some(time) if !known.exact => known.at.max(time),
            Some(_) | None => known.at,
        });
        sink.push(Fact {
            assigner: person.assigner,
            patient: person.patient,
            encounter: if entry.in_visit { self.visit.clone() } else { None },
            time,
            recorded,
            system: entry.code.system,
            code: entry.code.code,
            value: entry.value,
            unit: entry.unit,
            id: entry.id.map(Cow::Owned),
            op: entry.op,
        })
    }

    /// The time in a field; `None` where nothing stands.
    ///
    /// # Errors
    /// `time` if what stands there is no time.
    pub(super) fn time(
        &self,
        segment: &Segment<'a>,
        field: usize,
        sink: &mut Sink<'_, 'a>,
    ) -> Result<Option<Stamp>, Reject> {
        let text = segment.component(field, 1);
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            let detail = format!("{}-{field} is no time of HL7 (YYYYMMDDHHMMSS)", lenient::known(segment.name));
            Reject::new(Reason::Time, detail)
        };
        let (stamp, other) = stamp::parse_any(text, self.zone).ok_or_else(wrong)?;
        if other {
            sink.tally.lenient(lenient::TIME_WRITING);
        }
        Ok(Some(stamp))
    }

    /// When the message was sent, for a fact that has no time of its own.
    pub(super) fn time_of_message(&self, sink: &mut Sink<'_, 'a>) -> Option<Stamp> {
        if self.sent.is_some() {
            sink.tally.lenient(lenient::TIME_OF_MESSAGE);
        }
        self.sent
    }

    /// The name of a fact: what it is, who assigned the rest, and the rest. The bar cannot stand in a part, because
    /// parts are as they were sent.
    pub(super) fn id(&self, what: &str, by: &str, parts: &[&str]) -> String {
        let by = if by.is_empty() { self.sender } else { by };
        let length = what.len() + by.len() + 1 + parts.iter().map(|part| part.len() + 1).sum::<usize>();
        let mut id = String::with_capacity(length);
        id.push_str(what);
        id.push('|');
        id.push_str(by);
        for part in parts {
            id.push('|');
            id.push_str(part);
        }
        id
    }
}

/// The reject of a fact that is nobody's.
fn nobody() -> Reject {
    Reject::new(Reason::Patient, "the message names no patient: PID is missing")
}
