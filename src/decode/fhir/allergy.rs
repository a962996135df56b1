//! AllergyIntolerance: a propensity, or the statement that none is known.

use std::borrow::Cow;

use super::super::{Reject, Value};
use super::Sink;
use super::frame::Frame;
use super::reference::Scope;
use super::resource::Resource;
use super::status::by_verification;

/// The text of an allergy or intolerance that does not say which of the two it is.
const EITHER: &str = "allergy-intolerance";

/// Reads the code at its onset, else at the date of its record.
///
/// The text is the type (`allergy`, `intolerance`): the code may be that of a drug, and must
/// not look as if the drug had been given.
pub(super) fn read<'a>(resource: &Resource<'a>, scope: Scope<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_verification(element)?.op() else { return Ok(()) };
    let Some(mut frame) = Frame::of(resource, "patient", "encounter", op, scope)? else { return Ok(()) };
    frame.recorded = element.time("recordedDate")?;
    frame.time = element.time("onsetDateTime")?.or(element.period("onsetPeriod")?).or(frame.recorded);
    let code = super::optional_code(element, "code", &frame)?;
    let kind = element.text("type")?.unwrap_or(Cow::Borrowed(EITHER));
    sink.facts.extend(code.map(|code| frame.fact(code, Value::Text(kind), None)));
    Ok(())
}
