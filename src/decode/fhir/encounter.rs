//! Encounter: its start and its end.

use std::borrow::Cow;

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{self, Code};
use super::frame::Frame;
use super::reference::{Scope, whose};
use super::resource::Resource;
use super::status::by_status;
use crate::events::Op;

/// Reads `ENCOUNTER//{class}//START` and `ENCOUNTER//{class}//END`, each at its side of the
/// period, the end with where the patient went as text.
///
/// An encounter that still runs has no end, whatever its period says; one without a period is
/// not read, because a start without a time starts nothing.
pub(super) fn read<'a>(resource: &Resource<'a>, scope: Scope<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_status(element)?.op() else { return Ok(()) };
    let Some(person) = whose(resource, "subject", scope)? else { return Ok(()) };
    let class = match element.element("class", "Coding")? {
        Some(class) => class.text("code")?.or(class.text("display")?),
        None => None,
    };
    let class = class.ok_or_else(|| element.wrong("class", "is missing or has no code"))?;
    let (start, end) = match element.element("period", "Period")? {
        Some(period) => (period.time("start")?, period.time("end")?),
        None => (None, None),
    };
    let runs = matches!(element.text("status")?.as_deref(), Some("arrived" | "triaged" | "in-progress" | "onleave"));
    let name = resource.name.clone();
    let mut frame = Frame { person, encounter: resource.public_id(), time: start, recorded: None, name, op };
    // A withdrawal need not repeat the times: the ids say what is withdrawn.
    let withdrawn = op == Op::Retract && frame.name.is_some();
    if start.is_some() || withdrawn {
        let code = Code::meds(format!("ENCOUNTER//{class}//START"));
        sink.facts.push(frame.part("start", code, Value::None, None));
    }
    if (end.is_some() && !runs) || withdrawn {
        frame.time = end;
        let code = Code::meds(format!("ENCOUNTER//{class}//END"));
        let value = disposition(resource)?.map_or(Value::None, Value::Text);
        sink.facts.push(frame.part("end", code, value, None));
    }
    Ok(())
}

/// Where the patient went: code or text of the discharge disposition.
fn disposition<'a>(resource: &Resource<'a>) -> Result<Option<Cow<'a, str>>, Reject> {
    let Some(stay) = resource.element.element("hospitalization", "Encounter.hospitalization")? else {
        return Ok(None);
    };
    Ok(coding::code(&stay, "dischargeDisposition")?.map(|code| code.code))
}
