//! DiagnosticReport: that a report was made, and its conclusion.

use super::super::{Reject, Value};
use super::Sink;
use super::coding::required;
use super::frame::Frame;
use super::observation::when;
use super::reference::Scope;
use super::resource::Resource;
use super::status::by_status;

/// Reads the code with the conclusion as text. The results are Observations of their own.
pub(super) fn read<'a>(resource: &Resource<'a>, scope: Scope<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_status(element)?.op() else { return Ok(()) };
    let Some(mut frame) = Frame::of(resource, "subject", "encounter", op, scope)? else { return Ok(()) };
    frame.recorded = element.time("issued")?;
    frame.time = when(element)?.or(frame.recorded);
    let code = required(element, "code")?;
    let value = element.text("conclusion")?.map_or(Value::None, Value::Text);
    sink.facts.push(frame.fact(code, value, None));
    Ok(())
}
