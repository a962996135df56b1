//! FamilyMemberHistory: what a relative had.

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{self, Code};
use super::element::LONGEST_WORD;
use super::frame::Frame;
use super::reference::Scope;
use super::resource::Resource;

/// Reads `FAMILY_HISTORY//{relationship}` for each condition of the relative, whose code is the
/// text, so that it cannot pass for the patient's own; without conditions the relative alone.
///
/// Time is that of the statement: R4 tells the relative's age at the onset, not when that was.
pub(super) fn read<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(mut frame) = Frame::by_status(resource, "patient", "encounter", scope)? else { return Ok(()) };
    frame.time = element.time("date")?;
    frame.recorded = frame.time;
    let relationship = coding::required(element, "relationship")?;
    if relationship.code.len() > LONGEST_WORD {
        return Err(element.wrong("relationship", "is longer than 1024 bytes"));
    }
    let code = Code::meds(format!("FAMILY_HISTORY//{}", relationship.code));
    let conditions = element.elements("condition", "FamilyMemberHistory.condition")?;
    if conditions.is_empty() {
        sink.facts.push(frame.fact(code.clone(), Value::None, None));
    }
    for (place, condition) in conditions.iter().enumerate() {
        if condition.holds("modifierExtension")? {
            sink.skip(resource.kind);
            continue;
        }
        let what = coding::required(condition, "code")?;
        sink.facts.push(frame.part(&place.to_string(), code.clone(), Value::Text(what.code), None));
    }
    Ok(())
}
