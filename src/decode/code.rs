//! A code in its system, as FHIR and HL7 v2 give it.

use std::borrow::Cow;

use super::Value;

/// System of what has no code system: a text, or a code without one. A URN of our own, so
/// that such a code cannot pass for a MEDS code, which has no system.
pub(super) const TEXT: &str = "urn:auscult:text";

/// Systems that are preferred among the codings of one concept: LOINC, SNOMED CT, RxNorm, ICD-10-CM, CVX.
pub(super) const PREFERRED: [&str; 5] = [
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://hl7.org/fhir/sid/cvx",
];

/// A code in its system.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Code<'a> {
    /// URI or name of the system as given; `None`: a MEDS code.
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

    /// It as the value of a fact.
    pub(super) fn into_value(self) -> Value<'a> {
        if self.system.as_deref() == Some(TEXT) { Value::Text(self.code) } else { Value::Code(self.code) }
    }
}
