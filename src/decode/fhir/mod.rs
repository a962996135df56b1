//! FHIR R4 JSON: a Bundle of any type, or a single resource.
//!
//! One file a resource type. Promises that a resource ends as facts, as a reject of the whole
//! record, or in the count of what was not read. Where R4 leaves out what a fact needs, nothing
//! is invented: a fact without a time is undated, an Encounter without a period is not read.

mod allergy;
mod bundle;
mod coding;
mod condition;
mod element;
mod encounter;
mod frame;
mod immunization;
mod kinds;
mod medication;
mod observation;
mod patient;
mod procedure;
mod reference;
mod report;
mod resource;
mod status;
mod value;

use std::collections::BTreeMap;

use coding::Code;
use element::Element;
use frame::Frame;
use reference::Scope;
use resource::{Index, Resource};

use super::json;
use super::time::Stamp;
use super::{Fact, Notes, Reject};
use crate::events::Op;

/// Where the facts go, and the count of what gave none.
struct Sink<'f, 'a> {
    facts: &'f mut Vec<Fact<'a>>,
    skipped: BTreeMap<&'static str, u32>,
}

impl Sink<'_, '_> {
    /// Counts a resource that was not read, or not wholly.
    fn skip(&mut self, kind: &'static str) {
        *self.skipped.entry(kind).or_default() += 1;
    }
}

/// Decodes one record.
///
/// # Errors
/// `syntax` or `shape` if it is no resource; `field`, `time` or `patient` by what a resource lacks.
pub(super) fn decode<'a>(bytes: &'a [u8], facts: &mut Vec<Fact<'a>>) -> Result<Notes<'a>, Reject> {
    let element = Element::parse(json::text(bytes)?, "resource")?;
    let mut sink = Sink { facts, skipped: BTreeMap::new() };
    let root = Resource::of(element, None)?;
    resource(&root, &Index::default(), 0, &mut sink)?;
    Ok(Notes { unread: sink.skipped.into_iter().collect(), ..Notes::default() })
}

/// Whether resources of that type become facts.
fn is_read(kind: &str) -> bool {
    matches!(
        kind,
        "Patient"
            | "Encounter"
            | "Observation"
            | "Condition"
            | "Procedure"
            | "MedicationRequest"
            | "MedicationAdministration"
            | "Immunization"
            | "AllergyIntolerance"
            | "DiagnosticReport"
    )
}

/// Reads one resource of a Bundle, or the record's only one, with what it contains.
///
/// A contained resource is read like any other (results in a report), but for those that only
/// say whom or what the container means.
fn resource<'a>(
    resource: &Resource<'a>,
    bundle: &Index<'_, 'a>,
    depth: usize,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    if resource.kind == "Bundle" {
        return bundle::read(&resource.element, depth + 1, sink);
    }
    let contained = Index::of(&resource.contained)?;
    let scope = Scope { bundle, contained: &contained };
    one(resource, scope, sink)?;
    for part in resource.contained.iter().filter(|part| !matches!(part.kind, "Patient" | "Medication" | "Bundle")) {
        one(part, scope, sink)?;
    }
    Ok(())
}

/// Reads one resource by its type; one that gives no fact is counted.
fn one<'a>(resource: &Resource<'a>, scope: Scope<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let before = (sink.facts.len(), sink.skipped.get(resource.kind).copied());
    match resource.kind {
        "Patient" => patient::read(resource, sink)?,
        "Encounter" => encounter::read(resource, scope, sink)?,
        "Observation" => observation::read(resource, scope, sink)?,
        "Condition" => condition::read(resource, scope, sink)?,
        "Procedure" => procedure::read(resource, scope, sink)?,
        "MedicationRequest" => medication::request(resource, scope, sink)?,
        "MedicationAdministration" => medication::administration(resource, scope, sink)?,
        "Immunization" => immunization::read(resource, scope, sink)?,
        "AllergyIntolerance" => allergy::read(resource, scope, sink)?,
        "DiagnosticReport" => report::read(resource, scope, sink)?,
        _ => {}
    }
    if before == (sink.facts.len(), sink.skipped.get(resource.kind).copied()) {
        sink.skip(resource.kind);
    }
    // A resource that does not say when it was issued or recorded was known when it last changed.
    if let Some(meta) = resource.element.element("meta", "Meta")?
        && let Some(updated) = meta.time("lastUpdated")?
    {
        for fact in sink.facts.iter_mut().skip(before.0).filter(|fact| fact.recorded.is_none()) {
            fact.recorded = Some(updated.at);
        }
    }
    Ok(())
}

/// The code in a field that R4 does not require; without one there is no fact, unless what was
/// said before is withdrawn.
fn optional_code<'a>(element: &Element<'a>, name: &'static str, frame: &Frame<'a>) -> Result<Option<Code<'a>>, Reject> {
    Ok(coding::code(element, name)?.or_else(|| unknown(frame.name.is_some(), frame.op)))
}

/// The code of a withdrawal that does not say of what; the id does.
fn unknown<'a>(named: bool, op: Op) -> Option<Code<'a>> {
    (named && op == Op::Retract).then(|| Code::text("unknown"))
}

#[cfg(test)]
mod tests;
