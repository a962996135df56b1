//! Condition: a diagnosis or a problem.

use super::super::{Reject, Value};
use super::Sink;
use super::coding::Code;
use super::frame::Frame;
use super::reference::Scope;
use super::resource::Resource;
use super::status::by_verification;

/// Reads the code at its onset, else at the date of its record. An onset as an age, a range or
/// a text gives no time.
pub(super) fn read<'a>(resource: &Resource<'a>, scope: Scope<'_, 'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = by_verification(element)?.op() else { return Ok(()) };
    let Some(mut frame) = Frame::of(resource, "subject", "encounter", op, scope)? else { return Ok(()) };
    frame.recorded = element.time("recordedDate")?;
    frame.time = element.time("onsetDateTime")?.or(element.period("onsetPeriod")?).or(frame.recorded);
    let code = super::optional_code(element, "code", &frame)?;
    sink.facts.extend(code.map(|code: Code<'a>| frame.fact(code, Value::None, None)));
    Ok(())
}
