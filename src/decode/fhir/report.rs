//! DiagnosticReport: that a report was made, its conclusions and its text.

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{self, required};
use super::document::texts;
use super::frame::Frame;
use super::observation::EFFECTIVE;
use super::reference::Scope;
use super::resource::Resource;

/// Reads the code with the conclusion as text, a fact for each code of the conclusion, and the
/// text of the presented form under the report's code. The results are Observations of their own.
pub(super) fn read<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(mut frame) = Frame::by_status(resource, "subject", "encounter", scope)? else { return Ok(()) };
    frame.recorded = element.time("issued")?;
    frame.time = element.first_time(&EFFECTIVE)?.or(frame.recorded);
    let code = required(element, "code")?;
    let value = element.text("conclusion")?.map_or(Value::None, Value::Text);
    sink.facts.push(frame.fact(code.clone(), value, None));
    for (place, concept) in element.elements("conclusionCode", "CodeableConcept")?.iter().enumerate() {
        if let Some(conclusion) = coding::pick(concept)? {
            sink.facts.push(frame.part(&format!("conclusion{place}"), conclusion, Value::None, None));
        }
    }
    let forms = element.elements("presentedForm", "Attachment")?;
    texts(&frame, &code, "form", &forms, sink)
}
