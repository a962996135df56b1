//! Observation: its value and the values of its components.

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{Code, required};
use super::element::Element;
use super::frame::Frame;
use super::reference::{Person, Scope, Target, follow, identity};
use super::resource::Resource;
use super::value::{self, Found};
use crate::events::Op;

/// The fields that `effective[x]` stands for.
pub(super) const EFFECTIVE: [&str; 4] = ["effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming"];

/// Reads one fact for the value and one for each component's value, the latter under the
/// resource's id with `#` and the component's place, counted from 0.
///
/// Where nothing was measured (a panel, an absent value) there is no fact; but in a withdrawn
/// Observation, and in an amended or corrected one, that withdraws what an earlier version may
/// have said under the same id.
pub(super) fn read<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(mut frame) = Frame::by_status(resource, "subject", "encounter", scope)? else { return Ok(()) };
    if is_about_another(element, &frame.person, scope)? {
        return Ok(());
    }
    frame.recorded = element.time("issued")?;
    frame.time = element.first_time(&EFFECTIVE)?.or(frame.recorded);
    let code = required(element, "code")?;
    let found = value::read(element)?;
    let mut parts = Vec::new();
    for part in element.elements("component", "Observation.component")? {
        if part.holds("modifierExtension")? {
            sink.skip(resource.kind);
            parts.push(None);
            continue;
        }
        parts.push(Some((required(&part, "code")?, value::read(&part)?)));
    }

    let corrected = matches!(element.text("status")?.as_deref(), Some("amended" | "corrected"));
    let replaces = resource.is_named() && (corrected || frame.op == Op::Retract);
    // A spare withdrawal changes nothing; a value left standing would.
    if found.is_some() || replaces {
        push(&mut frame, "", code, found, sink);
    }
    for (place, part) in parts.into_iter().enumerate() {
        if let Some((code, found)) = part
            && (found.is_some() || replaces)
        {
            push(&mut frame, &place.to_string(), code, found, sink);
        }
    }
    Ok(())
}

/// One fact, or the withdrawal of what it said before.
fn push<'a>(frame: &mut Frame<'_, 'a>, part: &str, code: Code<'a>, found: Option<Found<'a>>, sink: &mut Sink<'_, 'a>) {
    let op = frame.op;
    if found.is_none() {
        frame.op = Op::Retract;
    }
    let (value, unit) = found.map_or((Value::None, None), |found| (found.value, found.unit));
    sink.facts.push(frame.part(part, code, value, unit));
    frame.op = op;
}

/// Whether `focus` says that another person than the subject was observed (a mother, a donor, a fetus).
fn is_about_another<'a>(element: &Element<'_, 'a>, person: &Person<'a>, scope: Scope<'_, 'a>) -> Result<bool, Reject> {
    for focus in element.elements("focus", "Reference")? {
        let other = match follow(&focus, scope)? {
            Target::Here(other) if other.kind == "Patient" => identity(other)?.id != person.id,
            Target::Here(other) => other.kind == "RelatedPerson",
            Target::Named(Some("Patient"), id) => id != person.id,
            Target::Named(kind, _) | Target::Identified(kind, _) => kind == Some("RelatedPerson"),
            Target::Unnamed => false,
        };
        if other {
            return Ok(true);
        }
    }
    Ok(false)
}
