//! Procedure: something that was done.

use super::super::{Reject, Value};
use super::Sink;
use super::frame::Frame;
use super::reference::Scope;
use super::resource::Resource;
use super::status::by_status;

/// Reads the code when it was performed, of a period when it began.
pub(super) fn read<'a>(resource: &Resource<'a>, scope: Scope<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_status(element)?.op() else { return Ok(()) };
    let Some(mut frame) = Frame::of(resource, "subject", "encounter", op, scope)? else { return Ok(()) };
    frame.time = element.time("performedDateTime")?.or(element.period("performedPeriod")?);
    let code = super::optional_code(element, "code", &frame)?;
    sink.facts.extend(code.map(|code| frame.fact(code, Value::None, None)));
    Ok(())
}
