//! Documents: the text of a Composition's sections and of a DocumentReference's attachments.

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{self, Code};
use super::element::{Element, LONGEST_WORD};
use super::frame::Frame;
use super::narrative;
use super::reference::Scope;
use super::resource::Resource;

/// Reads a DocumentReference: its type with its description as text, and under the same code the
/// text of each attachment. Time is that of the care that it documents, else of its making.
pub(super) fn reference<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(mut frame) = Frame::by_status(resource, "subject", "encounter", scope)? else { return Ok(()) };
    if let Some(context) = element.element("context", "DocumentReference.context")?
        && let Some(visit) = context.elements("encounter", "Reference")?.first()
    {
        frame.encounter = super::reference::encounter_of(visit, scope)?;
    }
    frame.recorded = element.time("date")?;
    frame.time = element.first_time(&["context.period", "date"])?;
    let code = match coding::code(element, "type")? {
        Some(code) => Some(code),
        None => coding::codes(element, "category", &mut 0)?.into_iter().next(),
    };
    let Some(code) = frame.code_or_withdrawal(code) else { return Ok(()) };
    let value = element.text("description")?.map_or(Value::None, Value::Text);
    sink.facts.push(frame.fact(code.clone(), value, None));
    let mut attachments = Vec::new();
    for content in element.elements("content", "DocumentReference.content")? {
        attachments.extend(content.element("attachment", "Attachment")?);
    }
    texts(&frame, &code, "content", &attachments, sink)
}

/// Reads a Composition: its type with its title as text, and each section's text under the
/// section's code, else its title, numbered in the order in which they are read. What the sections refer to are resources of their own.
pub(super) fn composition<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(mut frame) = Frame::by_status(resource, "subject", "encounter", scope)? else { return Ok(()) };
    frame.time = element.time("date")?;
    frame.recorded = frame.time;
    let code = coding::required(element, "type")?;
    let value = element.text("title")?.map_or(Value::None, Value::Text);
    sink.facts.push(frame.fact(code, value, None));
    // Sections stand in sections: taken from a heap, the last one first.
    let mut open = element.elements("section", "Composition.section")?;
    open.reverse();
    for place in 0.. {
        let Some(section) = open.pop() else { break };
        if section.holds("modifierExtension")? {
            sink.skip(resource.kind);
            continue;
        }
        let code = match coding::code(&section, "code")? {
            Some(code) => Some(code),
            None => section.text("title")?.map(Code::text),
        };
        let text = match section.element("text", "Narrative")? {
            Some(narrative) => narrative.text("div")?.map(|div| narrative::plain(&div)),
            None => None,
        };
        match (code, text.filter(|text| !text.is_empty())) {
            (Some(code), Some(text)) => {
                sink.facts.push(frame.part(&format!("section{place}"), code, Value::Text(text.into()), None));
            }
            // A text under no heading.
            (None, Some(_)) => sink.skip(resource.kind),
            (_, None) => {}
        }
        open.extend(section.elements("section", "Composition.section")?.into_iter().rev());
    }
    Ok(())
}

/// A fact for the text of each attachment; one whose text is not here, or is none, is counted.
pub(super) fn texts<'a>(
    frame: &Frame<'_, 'a>,
    code: &Code<'a>,
    part: &str,
    attachments: &[Element<'_, 'a>],
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    for (place, attachment) in attachments.iter().enumerate() {
        match narrative::attachment(attachment)? {
            Some(text) if code.code.len() <= LONGEST_WORD => {
                let value = Value::Text(text.into());
                sink.facts.push(frame.part(&format!("{part}{place}"), code.clone(), value, None));
            }
            // A code of that length would stand in every fact.
            Some(_) | None => sink.skip(frame.resource.kind),
        }
    }
    Ok(())
}
