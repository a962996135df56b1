//! QuestionnaireResponse: an answer is a fact.

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{Code, TEXT};
use super::frame::Frame;
use super::reference::Scope;
use super::resource::Resource;
use super::value;

/// Code system of LOINC.
const LOINC: &str = "http://loinc.org";

/// Reads each answer under the code of its item, under the response's id with `#` and the item's
/// `linkId`, a second answer to it with `.1` and so on.
///
/// The code is the LOINC code in which the `linkId` ends (`/34565-2/8310-5`, as LOINC's own forms
/// write it), else the `linkId` in the questionnaire's URL as system. A response that is still
/// being filled in is not read yet. A group's heading, an item without answer, a file or a
/// reference as answer are no facts.
pub(super) fn read<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    if element.text("status")?.as_deref() == Some("in-progress") {
        return Ok(());
    }
    let Some(mut frame) = Frame::by_status(resource, "subject", "encounter", scope)? else { return Ok(()) };
    frame.time = element.time("authored")?;
    frame.recorded = frame.time;
    let system = element.word("questionnaire")?.and_then(|url| super::json::part(&url, without_version));
    let system = system.unwrap_or(Cow::Borrowed(TEXT));

    let before = sink.facts.len();
    let mut given: HashMap<Cow<'a, str>, u32> = HashMap::new();
    // Items stand in items and in answers: taken from a heap, the last one first.
    let mut open = element.elements("item", "QuestionnaireResponse.item")?;
    open.reverse();
    while let Some(item) = open.pop() {
        if item.holds("modifierExtension")? {
            sink.skip(resource.kind);
            continue;
        }
        let Some(link) = item.word("linkId")? else { return Err(item.wrong("linkId", "is missing")) };
        let mut inner = Vec::new();
        for answer in item.elements("answer", "QuestionnaireResponse.item.answer")? {
            if answer.holds("modifierExtension")? {
                sink.skip(resource.kind);
                continue;
            }
            if let Some(found) = value::answer(&answer)? {
                let count = given.entry(link.clone()).or_default();
                let part = if *count == 0 { link.to_string() } else { format!("{link}.{count}") };
                *count += 1;
                sink.facts.push(frame.part(&part, code(&link, &system), found.value, found.unit));
            }
            inner.extend(answer.elements("item", "QuestionnaireResponse.item")?);
        }
        inner.extend(item.elements("item", "QuestionnaireResponse.item")?);
        open.extend(inner.into_iter().rev());
    }
    if sink.facts.len() == before {
        sink.facts.extend(frame.code_or_withdrawal(None).map(|code| frame.fact(code, Value::None, None)));
    }
    Ok(())
}

fn code<'a>(link: &Cow<'a, str>, system: &Cow<'a, str>) -> Code<'a> {
    match super::json::part(link, loinc) {
        Some(code) => Code { system: Some(Cow::Borrowed(LOINC)), code },
        None => Code { system: Some(system.clone()), code: link.clone() },
    }
}

/// The URL of a canonical reference, without `|version`.
fn without_version(url: &str) -> Option<&str> {
    url.split('|').next().filter(|url| !url.is_empty())
}

/// The LOINC code in which a path of a form ends.
fn loinc(link: &str) -> Option<&str> {
    let (_, last) = link.strip_prefix('/').map(|rest| rest.rsplit_once('/').unwrap_or(("", rest)))?;
    let (number, check) = last.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && number.len() <= 7 && digits(check) && check.len() == 1).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_loincs_own_forms() {
        assert_eq!(loinc("/34565-2/8310-5"), Some("8310-5"));
        assert_eq!(loinc("/93025-5"), Some("93025-5"));
        for other in ["8310-5", "/a", "/8310-55", "/8310", "/8310-5/", "1.2", "/12345678-9"] {
            assert_eq!(loinc(other), None, "{other}");
        }
    }
}
