//! MedicationRequest and MedicationAdministration: what was ordered and what was given.
//!
//! A medication without a code of its own (an infusion mixed on the ward) is one fact for each
//! of its ingredients, under the resource's id with `#` and the ingredient's place.

use std::borrow::Cow;

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{self, Code, REFERENCE};
use super::element::Element;
use super::frame::Frame;
use super::observation::when;
use super::reference::{Scope, Target, follow};
use super::resource::Resource;
use super::status::by_status;
use super::value;
use crate::events::Op;

/// Reads an order at its authoring, when it also became known.
///
/// The text is the intent (`order`, `plan` ...), so that an order does not look like a dose.
/// What is no order is not read: a suggestion, an option of a set, an order not to give.
pub(super) fn request<'a>(
    resource: &Resource<'a>,
    scope: Scope<'_, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_status(element)?.op() else { return Ok(()) };
    let Some(mut frame) = Frame::of(resource, "subject", "encounter", op, scope)? else { return Ok(()) };
    let intent = element.text("intent")?;
    let forbids = element.flag("doNotPerform")? == Some(true);
    if forbids || matches!(intent.as_deref(), Some("proposal" | "option")) {
        return Ok(());
    }
    frame.time = element.time("authoredOn")?;
    frame.recorded = frame.time;
    let value = intent.map_or(Value::None, Value::Text);
    match medication(resource, op, scope)? {
        Drug::One(code) => sink.facts.push(frame.fact(code, value, None)),
        Drug::Mixture(codes) => {
            let part = |(place, code)| frame.part(&usize::to_string(&place), code, value.clone(), None);
            sink.facts.extend(codes.into_iter().enumerate().map(part));
        }
        Drug::Unknown => {}
    }
    Ok(())
}

/// Reads a dose when it was given, of a period when that began, with its amount and unit.
pub(super) fn administration<'a>(
    resource: &Resource<'a>,
    scope: Scope<'_, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_status(element)?.op() else { return Ok(()) };
    let Some(mut frame) = Frame::of(resource, "subject", "context", op, scope)? else { return Ok(()) };
    frame.time = when(element)?;
    let dose = match element.element("dosage", "MedicationAdministration.dosage")? {
        Some(dosage) => value::quantity(&dosage, "dose")?,
        None => None,
    };
    let (value, unit) = dose.map_or((Value::None, None), |dose| (dose.value, dose.unit));
    match medication(resource, op, scope)? {
        Drug::One(code) => sink.facts.push(frame.fact(code, value, unit)),
        // The dose is that of the whole mixture.
        Drug::Mixture(codes) => {
            let part = |(place, code)| frame.part(&usize::to_string(&place), code, Value::None, None);
            sink.facts.extend(codes.into_iter().enumerate().map(part));
        }
        Drug::Unknown => {}
    }
    Ok(())
}

/// What `medication[x]` names.
enum Drug<'a> {
    /// A medication with a code.
    One(Code<'a>),
    /// A medication without one, by the codes of its ingredients.
    Mixture(Vec<Code<'a>>),
    /// Nothing that has a meaning elsewhere.
    Unknown,
}

/// Reads `medication[x]`: a concept, or a reference to a Medication that is contained, in the
/// same Bundle or elsewhere. One that is elsewhere, or says nothing, is kept under its
/// reference (`Medication/id`), which a site can map.
fn medication<'a>(resource: &Resource<'a>, op: Op, scope: Scope<'_, 'a>) -> Result<Drug<'a>, Reject> {
    let element = &resource.element;
    if element.has("medicationCodeableConcept")? {
        return coding::required(element, "medicationCodeableConcept").map(Drug::One);
    }
    let Some(reference) = element.element("medicationReference", "Reference")? else {
        return Err(element.wrong("medication[x]", "is missing"));
    };
    let display = reference.text("display")?.map(Code::text);
    let named = |kind: &str, id: &str| Code {
        system: Some(Cow::Borrowed(REFERENCE)),
        code: Cow::Owned(format!("{kind}/{id}")),
    };
    let code = match follow(&reference, scope)? {
        Target::Here(medication) => {
            if let Some(code) = coding::code(&medication.element, "code")? {
                return Ok(Drug::One(code));
            }
            let ingredients = ingredients(&medication.element)?;
            if !ingredients.is_empty() {
                return Ok(Drug::Mixture(ingredients));
            }
            let id = medication.id.as_ref().filter(|_| !medication.is_contained());
            display.or(id.map(|id| named(medication.kind, id)))
        }
        Target::Named(Some(kind), id) => Some(named(kind, &id)),
        Target::Identified(_, (system, value)) => Some(Code { system: Some(system), code: value }),
        // A UUID is new in every Bundle.
        Target::Named(None, _) | Target::Unnamed => display,
    };
    Ok(code.or_else(|| super::unknown(resource.name.is_some(), op)).map_or(Drug::Unknown, Drug::One))
}

/// The codes of a Medication's ingredients.
fn ingredients<'a>(medication: &Element<'a>) -> Result<Vec<Code<'a>>, Reject> {
    let mut codes = Vec::new();
    for ingredient in medication.elements("ingredient", "Medication.ingredient")? {
        codes.extend(coding::code(&ingredient, "itemCodeableConcept")?);
    }
    Ok(codes)
}
