//! A CodeableConcept becomes one code.

use std::borrow::Cow;

use super::super::Reject;
use super::element::Element;

/// System of what has no code system: a text, or a code without one. A URN of our own, so
/// that such a code cannot pass for a MEDS code, which has no system.
pub(super) const TEXT: &str = "urn:auscult:text";

/// System of a medication that is known by its reference only.
pub(super) const REFERENCE: &str = "urn:auscult:reference";

/// Systems that are preferred among the codings of one concept: LOINC, SNOMED CT, RxNorm, ICD-10-CM, CVX.
const PREFERRED: [&str; 5] = [
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://hl7.org/fhir/sid/cvx",
];

/// A code in its system.
#[derive(Clone)]
pub(super) struct Code<'a> {
    /// URI as given; `None`: a MEDS code.
    pub(super) system: Option<Cow<'a, str>>,
    /// Code, or the text where there is none.
    pub(super) code: Cow<'a, str>,
}

impl<'a> Code<'a> {
    /// A MEDS code as it stands.
    pub(super) fn meds(code: impl Into<Cow<'a, str>>) -> Self {
        Code { system: None, code: code.into() }
    }

    /// A text in place of a code.
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Code { system: Some(Cow::Borrowed(TEXT)), code: text.into() }
    }
}

/// The code of a CodeableConcept: its first coding in a preferred system, else its first with
/// a system, else its first code, else its text, else the display of a coding.
///
/// `None` if it says nothing.
pub(super) fn pick<'a>(concept: &Element<'a>) -> Result<Option<Code<'a>>, Reject> {
    let mut best: Option<(u8, Code<'a>)> = None;
    let mut display = None;
    for coding in concept.elements("coding", "Coding")? {
        let system = coding.text("system")?;
        let Some(code) = coding.text("code")? else {
            display = display.or(coding.text("display")?);
            continue;
        };
        let (rank, found) = match system {
            Some(system) if PREFERRED.contains(&&*system) => (0, Code { system: Some(system), code }),
            Some(system) => (1, Code { system: Some(system), code }),
            None => (2, Code::text(code)),
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

/// The code of the CodeableConcept in the field `name`.
pub(super) fn code<'a>(element: &Element<'a>, name: &'static str) -> Result<Option<Code<'a>>, Reject> {
    match element.element(name, "CodeableConcept")? {
        Some(concept) => pick(&concept),
        None => Ok(None),
    }
}

/// The same where R4 requires the field.
///
/// # Errors
/// `field` if it is missing or says nothing.
pub(super) fn required<'a>(element: &Element<'a>, name: &'static str) -> Result<Code<'a>, Reject> {
    code(element, name)?.ok_or_else(|| element.wrong(name, "is missing or holds no code and no text"))
}

/// Whether the CodeableConcept in the field `name` has one of these codes.
pub(super) fn has_code(element: &Element<'_>, name: &'static str, codes: &[&str]) -> Result<bool, Reject> {
    let Some(concept) = element.element(name, "CodeableConcept")? else { return Ok(false) };
    for coding in concept.elements("coding", "Coding")? {
        if coding.text("code")?.is_some_and(|code| codes.contains(&&*code)) {
            return Ok(true);
        }
    }
    Ok(false)
}
