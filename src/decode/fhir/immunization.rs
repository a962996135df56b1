//! Immunization: a vaccine that was given.

use super::super::{Reject, Value};
use super::Sink;
use super::coding::required;
use super::frame::Frame;
use super::reference::Scope;
use super::resource::Resource;
use super::status::by_status;

/// Reads the vaccine's code at its occurrence. An occurrence as text gives no time.
pub(super) fn read<'a>(resource: &Resource<'a>, scope: Scope<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_status(element)?.op() else { return Ok(()) };
    let Some(mut frame) = Frame::of(resource, "patient", "encounter", op, scope)? else { return Ok(()) };
    frame.time = element.time("occurrenceDateTime")?;
    frame.recorded = element.time("recorded")?;
    let code = required(element, "vaccineCode")?;
    sink.facts.push(frame.fact(code, Value::None, None));
    Ok(())
}
