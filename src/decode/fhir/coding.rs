//! A CodeableConcept becomes one code.

use super::super::Reject;
use super::super::code::PREFERRED;
pub(super) use super::super::code::{Code, TEXT};
use super::element::Element;

/// System of a medication that is known by its reference only.
pub(super) const REFERENCE: &str = "urn:auscult:reference";

/// The code of a CodeableConcept: its first coding in a preferred system, else its first with
/// a system, else its first code, else its text, else the display of a coding.
///
/// `None` if it says nothing.
pub(super) fn pick<'a>(concept: &Element<'_, 'a>) -> Result<Option<Code<'a>>, Reject> {
    let mut best: Option<(u8, Code<'a>)> = None;
    let mut display = None;
    for coding in concept.elements("coding", "Coding")? {
        let Some(found) = of_coding(&coding)? else {
            display = display.or(coding.text("display")?);
            continue;
        };
        let rank = match found.system.as_deref() {
            Some(TEXT) | None => 2,
            Some(system) if PREFERRED.contains(&system) => 0,
            Some(_) => 1,
        };
        if best.as_ref().is_none_or(|&(before, _)| rank < before) {
            best = Some((rank, found));
        }
    }
    match best {
        Some((_, code)) => Ok(Some(code)),
        None => Ok(concept.text("text")?.or(display).map(Code::text)),
    }
}

/// The code of a Coding; `None` if it has none, whatever it displays.
fn of_coding<'a>(coding: &Element<'_, 'a>) -> Result<Option<Code<'a>>, Reject> {
    let Some(code) = coding.text("code")? else { return Ok(None) };
    Ok(Some(match coding.text("system")? {
        Some(system) => Code { system: Some(system), code },
        None => Code::text(code),
    }))
}

/// The codes at the path `outer.inner` or `name`, whose fields may be lists or single, of
/// CodeableConcepts or Codings. On the way what is not to be done is left out,
/// and what has a modifier that is not known is counted in `unread`.
pub(super) fn codes<'a>(
    element: &Element<'_, 'a>,
    path: &'static str,
    unread: &mut u32,
) -> Result<Vec<Code<'a>>, Reject> {
    let (mut holders, mut path) = (vec![*element], path);
    while let Some((outer, inner)) = path.split_once('.') {
        let mut held = Vec::new();
        for holder in holders {
            for inner in holder.all(outer, outer)? {
                if inner.holds("modifierExtension")? {
                    *unread += 1;
                } else if inner.flag("doNotPerform")? != Some(true) {
                    held.push(inner);
                }
            }
        }
        (holders, path) = (held, inner);
    }
    let mut codes: Vec<Code<'a>> = Vec::new();
    for holder in holders {
        for concept in holder.all(path, "CodeableConcept")? {
            let code = match concept.has("code")? {
                true => of_coding(&concept.of_kind("Coding"))?,
                false => pick(&concept)?,
            };
            codes.extend(code);
        }
    }
    Ok(codes)
}

/// The code of the CodeableConcept in the field `name`.
pub(super) fn code<'a>(element: &Element<'_, 'a>, name: &'static str) -> Result<Option<Code<'a>>, Reject> {
    match element.element(name, "CodeableConcept")? {
        Some(concept) => pick(&concept),
        None => Ok(None),
    }
}

/// The same where R4 requires the field.
///
/// # Errors
/// `field` if it is missing or says nothing.
pub(super) fn required<'a>(element: &Element<'_, 'a>, name: &'static str) -> Result<Code<'a>, Reject> {
    code(element, name)?.ok_or_else(|| element.wrong(name, "is missing or holds no code and no text"))
}

/// Whether the CodeableConcept in the field `name` has one of these codes.
pub(super) fn has_code(element: &Element<'_, '_>, name: &'static str, codes: &[&str]) -> Result<bool, Reject> {
    let Some(concept) = element.element(name, "CodeableConcept")? else { return Ok(false) };
    for coding in concept.elements("coding", "Coding")? {
        if coding.text("code")?.is_some_and(|code| codes.contains(&&*code)) {
            return Ok(true);
        }
    }
    Ok(false)
}
