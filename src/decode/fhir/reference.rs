//! References: whose fact it is, in which encounter, of which medication.
//!
//! A patient is named by logical id without assigner, so that a Bundle and a later single
//! resource of the same server mean the same subject: `Patient/abc`, an absolute URL with that
//! end, a version of it, and `urn:uuid:abc` all give `abc`, or the id of the resource which
//! stands under that URL in the same Bundle. A patient who is known by an identifier only (a
//! logical reference, a contained Patient) is `system|value`.
//!
//! So in a Bulk Data folder `Patient.ndjson` and the `Patient/123` of `Observation.ndjson` are
//! one subject under the topic's default assigner; what else the Patient is called, the links of
//! `patient.rs` tell, and they bring the MRN of an HL7 v2 feed to the same subject.

use std::borrow::Cow;

use super::super::json::part;
use super::super::{Reason, Reject};
use super::element::Element;
use super::kinds;
use super::resource::{Identifier, Index, Resource};

/// Types whose subject R4 does not require, and which say little without one: they are counted
/// as not read. An Observation or a report of nobody is a result that would be lost: a reject.
const MAY_LACK_SUBJECT: [&str; 7] =
    ["Composition", "Consent", "DetectedIssue", "DocumentReference", "Media", "QuestionnaireResponse", "Specimen"];

/// Where the references of a resource lead.
#[derive(Copy, Clone)]
pub(super) struct Scope<'t, 'a> {
    /// The Bundle around it.
    pub(super) bundle: &'t Index<'t, 'a>,
    /// What it contains, or what its container contains.
    pub(super) contained: &'t Index<'t, 'a>,
}

/// A patient as the source names one.
#[derive(Clone, PartialEq)]
pub(super) struct Person<'a> {
    /// System of the identifier; `None`: `id` is a logical id of the source.
    pub(super) assigner: Option<Cow<'a, str>>,
    /// Logical id, or the identifier's value.
    pub(super) id: Cow<'a, str>,
}

/// What a reference leads to.
pub(super) enum Target<'t, 'a> {
    /// A resource of the same record.
    Here(&'t Resource<'t, 'a>),
    /// A resource elsewhere; the type may be unknown.
    Named(Option<&'static str>, Cow<'a, str>),
    /// Whatever carries the identifier; the type may be unknown.
    Identified(Option<&'static str>, Identifier<'a>),
    /// Something that has no name that can be read.
    Unnamed,
}

/// Whose facts the resource holds: the patient whom the field `name` refers to, or who carries the
/// device that it refers to (`Device.patient`). `None` where it refers to something that is no
/// patient (a group, a device, a place), and where it names nothing and need not.
///
/// # Errors
/// `patient` if the field is missing or names nobody.
pub(super) fn whose<'t, 'a>(
    resource: &Resource<'t, 'a>,
    name: &'static str,
    scope: Scope<'t, 'a>,
) -> Result<Option<Person<'a>>, Reject> {
    let Some(reference) = resource.element.element(name, "Reference")? else {
        return match resource.is_contained() || MAY_LACK_SUBJECT.contains(&resource.kind) {
            true => Ok(None),
            false => Err(nobody(resource.kind, name)),
        };
    };
    match follow(&reference, scope)? {
        Target::Here(device) if device.kind == "Device" => match device.element.element("patient", "Reference")? {
            Some(carrier) => person(follow(&carrier, scope)?, device.kind, "patient"),
            None => Ok(None),
        },
        target => person(target, resource.kind, name),
    }
}

fn nobody(kind: &str, name: &str) -> Reject {
    Reject::new(Reason::Patient, format!("{kind}.{name} names no patient"))
}

/// The patient that the field `name` of a resource of type `kind` leads to; `None` if it is another thing.
///
/// # Errors
/// `patient` if it leads to nothing.
pub(super) fn person<'a>(
    target: Target<'_, 'a>,
    kind: &'static str,
    name: &'static str,
) -> Result<Option<Person<'a>>, Reject> {
    match target {
        Target::Here(patient) if patient.kind == "Patient" => identity(patient).map(Some),
        Target::Named(Some("Patient") | None, id) => Ok(Some(Person { assigner: None, id })),
        Target::Identified(Some("Patient") | None, (system, id)) => Ok(Some(Person { assigner: Some(system), id })),
        Target::Here(_) | Target::Named(Some(_), _) | Target::Identified(Some(_), _) => Ok(None),
        Target::Unnamed => Err(nobody(kind, name)),
    }
}

/// Who a Patient resource is.
///
/// # Errors
/// `patient` if it has neither an id nor an identifier with a system. The id of a contained
/// Patient does not count: another record's `#patient` is somebody else.
pub(super) fn identity<'a>(patient: &Resource<'_, 'a>) -> Result<Person<'a>, Reject> {
    if let Some(id) = patient.public_id() {
        return Ok(Person { assigner: None, id });
    }
    let shared = patient.shared_identifiers()?.into_iter().next();
    match shared.or(patient.identifiers()?.into_iter().next()) {
        Some((system, id)) => Ok(Person { assigner: Some(system), id }),
        None => Err(Reject::new(Reason::Patient, "a Patient has neither an id nor an identifier with a system")),
    }
}

/// The id of the encounter that the field `name` refers to.
pub(super) fn encounter<'a>(
    resource: &Resource<'_, 'a>,
    name: &'static str,
    scope: Scope<'_, 'a>,
) -> Result<Option<Cow<'a, str>>, Reject> {
    match resource.element.element(name, "Reference")? {
        Some(reference) => encounter_of(&reference, scope),
        None => Ok(None),
    }
}

/// The id of the encounter that a reference leads to.
pub(super) fn encounter_of<'a>(
    reference: &Element<'_, 'a>,
    scope: Scope<'_, 'a>,
) -> Result<Option<Cow<'a, str>>, Reject> {
    Ok(match follow(reference, scope)? {
        Target::Here(encounter) if encounter.kind == "Encounter" => encounter.public_id(),
        Target::Named(Some("Encounter") | None, id) => Some(id),
        Target::Identified(Some("Encounter") | None, (_, id)) => Some(id),
        // MedicationAdministration.context may be an EpisodeOfCare.
        Target::Here(_) | Target::Named(..) | Target::Identified(..) | Target::Unnamed => None,
    })
}

/// Where a reference leads (R4, section 2.3.0.4 "Resolving references in Bundles").
pub(super) fn follow<'t, 'a>(reference: &Element<'_, 'a>, scope: Scope<'t, 'a>) -> Result<Target<'t, 'a>, Reject> {
    let declared = reference.text("type")?.map(|name| kinds::kind(&name));
    if let Some(text) = reference.word("reference")? {
        if text.starts_with('#') {
            return Ok(scope.contained.at(&text).map_or(Target::Unnamed, Target::Here));
        }
        if let Some(resource) = scope.bundle.at(&text).or_else(|| scope.bundle.at(unversioned(&text))) {
            return Ok(Target::Here(resource));
        }
        if let (Some(system), Some(value)) = (part(&text, query_system), part(&text, query_value)) {
            return Ok(identified(Some("Patient"), (system, value), scope));
        }
        let Some(id) = part(&text, id_of) else { return Ok(Target::Unnamed) };
        return Ok(match kind_of(&text) {
            None => Target::Named(declared, id),
            // What no R4 type names is no reference to a resource.
            Some(kinds::OTHER) => Target::Unnamed,
            Some(kind) => match scope.bundle.named(kind, &id).filter(|_| !text.contains("://")) {
                Some(resource) => Target::Here(resource),
                None => Target::Named(Some(kind), id),
            },
        });
    }
    let Some(identifier) = reference.element("identifier", "Identifier")? else { return Ok(Target::Unnamed) };
    Ok(match (identifier.word("system")?, identifier.word("value")?) {
        (Some(system), Some(value)) => identified(declared, (system, value), scope),
        (_, _) => Target::Unnamed,
    })
}

/// The Patient in the Bundle who carries the identifier, else the identifier.
fn identified<'t, 'a>(kind: Option<&'static str>, identifier: Identifier<'a>, scope: Scope<'t, 'a>) -> Target<'t, 'a> {
    let here = match kind {
        Some("Patient") | None => scope.bundle.patient(&identifier),
        Some(_) => None,
    };
    here.map_or(Target::Identified(kind, identifier), Target::Here)
}

/// The id that a URL or a relative reference ends in.
pub(super) fn id_of(reference: &str) -> Option<&str> {
    let reference = unversioned(reference);
    let urn = reference.strip_prefix("urn:uuid:").or_else(|| reference.strip_prefix("urn:oid:"));
    let id = urn.or_else(|| reference.rsplit_once('/').map(|(_, id)| id))?;
    (!id.is_empty() && !id.contains(['?', '#'])).then_some(id)
}

/// The resource type before the id; `None` for a URN.
pub(super) fn kind_of(reference: &str) -> Option<&'static str> {
    let (before, _) = unversioned(reference).rsplit_once('/')?;
    let name = before.rsplit_once('/').map_or(before, |(_, name)| name);
    Some(kinds::kind(name))
}

fn unversioned(reference: &str) -> &str {
    reference.split_once("/_history/").map_or(reference, |(resource, _)| resource)
}

/// System and value of `Patient?identifier=system|value` (R4, section 3.1.0.11.2, conditional references).
fn query(reference: &str) -> Option<(&str, &str)> {
    let token = reference.strip_prefix("Patient?identifier=")?;
    // Another parameter or an escape would change what the token means.
    let (system, value) = token.split_once('|').filter(|_| !token.contains(['&', '%']))?;
    (!system.is_empty() && !value.is_empty()).then_some((system, value))
}

fn query_system(reference: &str) -> Option<&str> {
    query(reference).map(|(system, _)| system)
}

fn query_value(reference: &str) -> Option<&str> {
    query(reference).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_patient_by_every_kind_of_reference() {
        for text in [
            "Patient/abc",
            "Patient/abc/_history/3",
            "urn:uuid:abc",
            "http://h.org/fhir/Patient/abc",
            "https://h.org/Patient/abc/_history/2",
        ] {
            assert_eq!(id_of(text), Some("abc"), "{text}");
        }
        assert_eq!(kind_of("http://h.org/fhir/Group/g/_history/1"), Some("Group"));
        assert_eq!(kind_of("Patient/abc"), Some("Patient"));
        assert_eq!(kind_of("urn:uuid:abc"), None);
        assert_eq!(kind_of("http://h.org/abc"), Some(kinds::OTHER));
    }

    #[test]
    fn what_names_nobody() {
        for text in ["", "abc", "Patient/", "urn:uuid:", "Patient?identifier=a|b", "Patient/a?b", "/_history/1"] {
            assert_eq!(id_of(text), None, "{text}");
        }
        assert_eq!(query("Patient?identifier=a|b"), Some(("a", "b")));
        for text in ["Patient?identifier=a", "Patient?identifier=|b", "Patient?identifier=a|", "Patient?name=a|b"] {
            assert_eq!(query(text), None, "{text}");
        }
        assert_eq!(query("Patient?identifier=a%7Cb|c"), None);
        assert_eq!(query("Patient?identifier=a|b&active=true"), None);
    }
}
