//! FHIR R4 JSON: a Bundle of any type, or a single resource.
//!
//! One file a resource type, but for those that say one thing only (`plain.rs`). Promises that a
//! resource ends as facts, as a reject of the whole record, or in the count of what was not read.
//! Where R4 leaves out what a fact needs, nothing is invented: a fact without a time is undated,
//! an Encounter without a period is not read. What says by a `modifierExtension` something that is
//! not known here "must not be ignored" (R4, section 2.4): it is not read, and counted.
//!
//! Not read are the types that say nothing of a patient's care (who gives it, where, what it
//! costs), and RiskAssessment: a prediction is no event, and our own would come back as input.

mod bundle;
mod coding;
mod document;
mod element;
mod encounter;
mod family;
mod frame;
mod kinds;
mod medication;
mod narrative;
mod observation;
mod patient;
mod plain;
mod questionnaire;
mod reference;
mod report;
mod resource;
mod scan;
mod status;
mod value;

use std::collections::BTreeMap;

use element::Element;
use reference::Scope;
use resource::{Index, Resource};
use scan::Document;

use super::json;
use super::{Fact, Link, Notes, Reject};
use crate::events::Op;

/// Where the facts go, the links, and the count of what gave none.
struct Sink<'f, 'a> {
    facts: &'f mut Vec<Fact<'a>>,
    links: Vec<Link<'a>>,
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
    let document = Document::parse(json::text(bytes)?)?;
    let mut sink = Sink { facts, links: Vec::new(), skipped: BTreeMap::new() };
    let root = Resource::of(Element::root(&document, "resource"), None)?;
    resource(&root, &Index::default(), 0, &mut sink)?;
    Ok(Notes { unread: sink.skipped.into_iter().collect(), links: sink.links, ..Notes::default() })
}

/// Whether resources of that type become facts.
fn is_read(kind: &str) -> bool {
    plain::of(kind).is_some()
        || matches!(
            kind,
            "Composition"
                | "DiagnosticReport"
                | "DocumentReference"
                | "Encounter"
                | "FamilyMemberHistory"
                | "MedicationAdministration"
                | "MedicationDispense"
                | "MedicationRequest"
                | "MedicationStatement"
                | "Observation"
                | "Patient"
                | "QuestionnaireResponse"
        )
}

/// Reads one resource of a Bundle, or the record's only one, with what it contains.
///
/// A contained resource is read like any other (results in a report), but for those that only
/// say whom or what the container means.
fn resource<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    bundle: &'t Index<'t, 'a>,
    depth: usize,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    if resource.kind == "Bundle" {
        return bundle::read(&resource.element, depth + 1, sink);
    }
    if resource.contained.is_empty() {
        return one(resource, Scope { bundle, contained: &Index::default() }, sink);
    }
    let contained = Index::of(&resource.contained)?;
    let scope = Scope { bundle, contained: &contained };
    one(resource, scope, sink)?;
    for part in resource.contained.iter().filter(|part| !matches!(part.kind, "Patient" | "Medication" | "Bundle")) {
        one(part, scope, sink)?;
    }
    Ok(())
}

/// Withdraws what the resource says, because it was deleted.
fn withdraw<'t, 'a>(
    deleted: &'t Resource<'t, 'a>,
    bundle: &'t Index<'t, 'a>,
    depth: usize,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let (before, links) = (sink.facts.len(), sink.links.len());
    resource(deleted, bundle, depth, sink)?;
    sink.facts.iter_mut().skip(before).for_each(|fact| fact.op = Op::Retract);
    sink.links.truncate(links);
    Ok(())
}

/// Reads one resource by its type; one that gives no fact and no link is counted.
fn one<'t, 'a>(resource: &'t Resource<'t, 'a>, scope: Scope<'t, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    if !is_read(resource.kind) || resource.element.holds("modifierExtension")? {
        sink.skip(resource.kind);
        return Ok(());
    }
    let said = |sink: &Sink<'_, 'a>| (sink.facts.len(), sink.links.len(), sink.skipped.get(resource.kind).copied());
    let before = said(sink);
    match resource.kind {
        "Patient" => patient::read(resource, scope, sink)?,
        "Encounter" => encounter::read(resource, scope, sink)?,
        "Observation" => observation::read(resource, scope, sink)?,
        "DiagnosticReport" => report::read(resource, scope, sink)?,
        "MedicationRequest" | "MedicationAdministration" | "MedicationStatement" | "MedicationDispense" => {
            medication::read(resource, scope, sink)?;
        }
        "Composition" => document::composition(resource, scope, sink)?,
        "DocumentReference" => document::reference(resource, scope, sink)?,
        "FamilyMemberHistory" => family::read(resource, scope, sink)?,
        "QuestionnaireResponse" => questionnaire::read(resource, scope, sink)?,
        kind => {
            if let Some(plain) = plain::of(kind) {
                plain::read(plain, resource, scope, sink)?;
            }
        }
    }
    if before == said(sink) {
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

/// Whether it is an order that was not given: a suggestion, an option of a set, an order not to do.
fn is_no_order(element: &Element<'_, '_>) -> Result<bool, Reject> {
    let forbids = element.flag("doNotPerform")? == Some(true);
    Ok(forbids || matches!(element.text("intent")?.as_deref(), Some("proposal" | "option")))
}

#[cfg(test)]
mod clinical_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
