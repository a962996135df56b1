//! Encounter: its start and its end, its classes and places.

use std::borrow::Cow;

use super::super::time::Stamp;
use super::super::{Reject, Value};
use super::Sink;
use super::coding::{self, Code};
use super::element::Element;
use super::frame::Frame;
use super::reference::{Scope, Target, follow, whose};
use super::resource::Resource;
use super::status::by_status;
use crate::events::Op;

/// Reads `ENCOUNTER//{class}//START` and `ENCOUNTER//{class}//END`, each at its side of the
/// period, the end with where the patient went as text.
///
/// An encounter that still runs has no end, whatever its period says; one without a period is
/// not read, because a start without a time starts nothing.
pub(super) fn read<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_status(element)?.op() else { return Ok(()) };
    let Some(person) = whose(resource, "subject", scope)? else { return Ok(()) };
    let class = class_of(element)?.ok_or_else(|| element.wrong("class", "is missing or has no code"))?;
    let (start, end) = sides(element)?;
    let runs = matches!(element.text("status")?.as_deref(), Some("arrived" | "triaged" | "in-progress" | "onleave"));
    let mut frame = Frame { person, encounter: resource.public_id(), time: start, recorded: None, resource, op };
    // A withdrawal need not repeat the times: the ids say what is withdrawn.
    let withdrawn = op == Op::Retract && resource.is_named();
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
    classes(&mut frame, &class, sink)?;
    locations(&mut frame, scope, sink)
}

/// Reads the classes that the encounter had before: `ENCOUNTER//{class}//START` and `END` of each.
/// Of its present class the encounter's own period speaks.
fn classes<'a>(frame: &mut Frame<'_, 'a>, class: &str, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    for (place, stay) in frame.resource.element.elements("classHistory", "Encounter.classHistory")?.iter().enumerate() {
        if stay.holds("modifierExtension")? {
            sink.skip(frame.resource.kind);
        } else if let Some(before) = class_of(stay)?.filter(|before| before != class) {
            edges(frame, "ENCOUNTER", &before, sides(stay)?, &format!("class{place}"), sink);
        }
    }
    Ok(())
}

/// Reads where the patient was: `LOCATION//{name}//START` and `END` of each place. The name is that
/// of the Location in the same record, else what the reference displays, else its id.
///
/// A place that is only planned or reserved is not read, nor one without a period.
fn locations<'a>(frame: &mut Frame<'_, 'a>, scope: Scope<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    for (place, stay) in frame.resource.element.elements("location", "Encounter.location")?.iter().enumerate() {
        if stay.holds("modifierExtension")? {
            sink.skip(frame.resource.kind);
            continue;
        }
        let status = stay.text("status")?;
        let Some(reference) = stay.element("location", "Reference")? else { continue };
        if matches!(status.as_deref(), Some("planned" | "reserved")) {
            continue;
        }
        let display = reference.text("display")?;
        let name = match follow(&reference, scope)? {
            Target::Here(location) => location.element.text("name")?.or(display).or(location.id.clone()),
            Target::Named(_, id) | Target::Identified(_, (_, id)) => display.or(Some(id)),
            Target::Unnamed => display,
        };
        if let Some(name) = name {
            edges(frame, "LOCATION", &name, sides(stay)?, &format!("location{place}"), sink);
        }
    }
    Ok(())
}

/// The start and the end of a stay, each where it is known.
fn edges<'a>(
    frame: &mut Frame<'_, 'a>,
    what: &str,
    name: &str,
    (start, end): (Option<Stamp>, Option<Stamp>),
    part: &str,
    sink: &mut Sink<'_, 'a>,
) {
    for (edge, time) in [("START", start), ("END", end)] {
        if time.is_some() {
            frame.time = time;
            let code = Code::meds(format!("{what}//{name}//{edge}"));
            sink.facts.push(frame.part(&format!("{part}.{edge}"), code, Value::None, None));
        }
    }
}

fn class_of<'a>(element: &Element<'_, 'a>) -> Result<Option<Cow<'a, str>>, Reject> {
    let Some(class) = element.element("class", "Coding")? else { return Ok(None) };
    Ok(class.text("code")?.or(class.text("display")?))
}

/// Start and end of the period.
fn sides(element: &Element<'_, '_>) -> Result<(Option<Stamp>, Option<Stamp>), Reject> {
    let Some(period) = element.element("period", "Period")? else { return Ok((None, None)) };
    Ok((period.time("start")?, period.time("end")?))
}

/// Where the patient went: code or text of the discharge disposition.
fn disposition<'a>(resource: &Resource<'_, 'a>) -> Result<Option<Cow<'a, str>>, Reject> {
    let Some(stay) = resource.element.element("hospitalization", "Encounter.hospitalization")? else {
        return Ok(None);
    };
    Ok(coding::code(&stay, "dischargeDisposition")?.map(|code| code.code))
}
