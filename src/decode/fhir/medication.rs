//! Medications: what was ordered, given, handed over, said to be taken.
//!
//! A medication without a code of its own (an infusion mixed on the ward) is one fact for each
//! of its ingredients, under the resource's id with `#` and the ingredient's place.

use std::borrow::Cow;

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{self, Code, REFERENCE};
use super::element::Element;
use super::frame::Frame;
use super::observation::EFFECTIVE;
use super::reference::{Scope, Target, follow};
use super::resource::Resource;
use super::value::{self, Found};

/// Reads what was ordered (MedicationRequest) at its authoring, given (MedicationAdministration,
/// with its amount, else its rate), said to be taken (MedicationStatement) and handed over
/// (MedicationDispense), of a period when that began.
///
/// The text is the intent of an order (`order`, `plan` ...), the status of a statement (`active`,
/// `stopped` ...), `dispense` of a handing over: none of these must look like a dose.
/// What is no order is not read: a suggestion, an option of a set, an order not to give.
pub(super) fn read<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let visit = if resource.kind == "MedicationRequest" { "encounter" } else { "context" };
    let Some(mut frame) = Frame::by_status(resource, "subject", visit, scope)? else { return Ok(()) };
    if super::is_no_order(element)? {
        return Ok(());
    }
    let (mut value, mut unit) = (Value::None, None);
    match resource.kind {
        "MedicationRequest" => {
            frame.time = element.time("authoredOn")?;
            frame.recorded = frame.time;
            value = element.word("intent")?.map_or(Value::None, Value::Text);
        }
        "MedicationStatement" => {
            frame.recorded = element.time("dateAsserted")?;
            frame.time = element.first_time(&EFFECTIVE)?.or(frame.recorded);
            value = Value::Text(element.word("status")?.unwrap_or(Cow::Borrowed("statement")));
        }
        "MedicationDispense" => {
            frame.time = element.first_time(&["whenHandedOver", "whenPrepared"])?;
            value = Value::Text(Cow::Borrowed("dispense"));
        }
        _ => {
            frame.time = element.first_time(&EFFECTIVE)?;
            if let Some(dose) = dose(resource, sink)? {
                (value, unit) = (dose.value, dose.unit);
            }
        }
    }
    match medication(resource, &frame, scope)? {
        Drug::One(code) => sink.facts.push(frame.fact(code, value, unit)),
        Drug::Mixture(codes) => {
            // A dose is that of the whole mixture.
            let value = if unit.is_some() || matches!(value, Value::Number(_)) { Value::None } else { value };
            let part = |(place, code)| frame.part(&usize::to_string(&place), code, value.clone(), None);
            sink.facts.extend(codes.into_iter().enumerate().map(part));
        }
        Drug::Unknown => {}
    }
    Ok(())
}

/// The amount of a MedicationAdministration, else its rate.
fn dose<'a>(resource: &Resource<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<Option<Found<'a>>, Reject> {
    let Some(dosage) = resource.element.element("dosage", "MedicationAdministration.dosage")? else { return Ok(None) };
    if dosage.holds("modifierExtension")? {
        sink.skip(resource.kind);
        return Ok(None);
    }
    match value::quantity(&dosage, "dose")? {
        None => match value::quantity(&dosage, "rateQuantity")? {
            None => value::ratio(&dosage, "rateRatio"),
            rate => Ok(rate),
        },
        dose => Ok(dose),
    }
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
fn medication<'a>(
    resource: &Resource<'_, 'a>,
    frame: &Frame<'_, 'a>,
    scope: Scope<'_, 'a>,
) -> Result<Drug<'a>, Reject> {
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
    Ok(frame.code_or_withdrawal(code).map_or(Drug::Unknown, Drug::One))
}

/// The codes of a Medication's ingredients.
fn ingredients<'a>(medication: &Element<'_, 'a>) -> Result<Vec<Code<'a>>, Reject> {
    let mut codes = Vec::new();
    for ingredient in medication.elements("ingredient", "Medication.ingredient")? {
        codes.extend(coding::code(&ingredient, "itemCodeableConcept")?);
    }
    Ok(codes)
}
