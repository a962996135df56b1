//! A coded element (CE, CWE, CNE) becomes one code.

use std::borrow::Cow;

pub(super) use super::super::code::Code;
use super::super::code::PREFERRED;
use super::segment::Marks;

/// Where a coded element has its codes: identifier, text and system (chapter 2A, CWE.1 to 3, 4 to 6 and 10 to 12).
const TRIPLETS: [usize; 3] = [1, 4, 10];

/// Components of a coded element that are looked at.
const COMPONENTS: usize = 12;

/// The code of a coded element: the first in a preferred system (LOINC, SNOMED CT, RxNorm, ICD-10-CM, CVX), else
/// the first in another system of table 0396, else the first in any, as `L` and `99zzz` are, else one without a
/// system, else the text.
///
/// `None` if it says nothing.
pub(super) fn pick(element: &str, marks: Marks) -> Option<Code<'_>> {
    pick_or(element, marks, "")
}

/// The same where the system may stand elsewhere (DG1-2).
pub(super) fn pick_or<'a>(element: &'a str, marks: Marks, elsewhere: &'a str) -> Option<Code<'a>> {
    let mut parts = [""; COMPONENTS + 1];
    for (part, text) in parts[1..].iter_mut().zip(element.split(marks.component)) {
        *part = text.trim();
    }
    let mut best: Option<(u8, &str, Option<Cow<'_, str>>)> = None;
    let mut words = "";
    for at in TRIPLETS {
        let (code, text, name) = (parts[at], parts[at + 1], parts[at + 2]);
        if words.is_empty() {
            words = text;
        }
        if code.is_empty() || code == "\"\"" {
            continue;
        }
        let name = if name.is_empty() { elsewhere } else { name };
        let (rank, system) = match standard(name) {
            Some(uri) => (u8::from(!PREFERRED.contains(&uri)), Some(Cow::Borrowed(uri))),
            None if name.is_empty() => (3, None),
            None => (2, marks.text(name)),
        };
        if best.as_ref().is_none_or(|&(before, ..)| rank < before) {
            best = Some((rank, code, system));
        }
    }
    match best {
        Some((_, code, Some(system))) => Some(Code { system: Some(system), code: marks.text(code)? }),
        Some((_, code, None)) => Some(Code::text(marks.text(code)?)),
        None => marks.text(words).map(Code::text),
    }
}

/// A system of HL7's table 0396, as its URI.
fn standard(name: &str) -> Option<&'static str> {
    Some(match name {
        "LN" | "LOINC" | "LNC" => "http://loinc.org",
        "SCT" | "SCT2" | "SNM" | "SNOMED" | "SNOMED-CT" | "sct" => "http://snomed.info/sct",
        "RXNORM" | "RxNorm" | "RXN" => "http://www.nlm.nih.gov/research/umls/rxnorm",
        "I10C" | "I10CM" | "ICD-10-CM" | "ICD10CM" => "http://hl7.org/fhir/sid/icd-10-cm",
        "CVX" => "http://hl7.org/fhir/sid/cvx",
        "I10" | "ICD10" | "ICD-10" => "http://hl7.org/fhir/sid/icd-10",
        "I10P" | "ICD10PCS" => "http://www.cms.gov/Medicare/Coding/ICD10",
        "I9" | "I9C" | "I9CM" | "I9M" | "I9CDX" | "I9CP" | "ICD9" | "ICD9CM" => "http://hl7.org/fhir/sid/icd-9-cm",
        "NDC" => "http://hl7.org/fhir/sid/ndc",
        "C4" | "C5" | "CPT" | "CPT4" | "CPTM" => "http://www.ama-assn.org/go/cpt",
        "HCPCS" | "HPC" => "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets",
        "ATC" => "http://www.whocc.no/atc",
        "UNII" => "http://fdasis.nlm.nih.gov",
        "MDC" => "urn:iso:std:iso:11073:10101",
        "DCM" => "http://dicom.nema.org/resources/ontology/DCM",
        "NCIT" => "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
        "UCUM" => "http://unitsofmeasure.org",
        _ => return None,
    })
}

/// The unit of OBX-6: the code of UCUM if it gives one, else its first code, else its text.
pub(super) fn unit(element: &str, marks: Marks) -> Option<Cow<'_, str>> {
    let [code, text, _, other, _, system] = std::array::from_fn(|at| marks.component(element, at + 1));
    let ucum = system == "UCUM" && !other.is_empty();
    let raw = if ucum {
        other
    } else if code.is_empty() {
        text
    } else {
        code
    };
    marks.text(raw).filter(|unit| unit != "\"\"")
}

#[cfg(test)]
mod tests {
    use super::super::super::code::TEXT;
    use super::*;

    fn picked(element: &str) -> Option<(String, String)> {
        let code = pick(element, Marks::USUAL)?;
        Some((code.system.unwrap_or_default().into_owned(), code.code.into_owned()))
    }

    #[test]
    fn the_best_of_the_alternates() {
        for (element, system, code) in [
            ("8867-4^Heart rate^LN", "http://loinc.org", "8867-4"),
            ("HR^Heart rate^L^8867-4^Heart rate^LN", "http://loinc.org", "8867-4"),
            ("HR^Heart rate^99LAB", "99LAB", "HR"),
            ("HR^x^99LAB^77^y^NDC", "http://hl7.org/fhir/sid/ndc", "77"),
            ("1^a^L^2^b^99X^^^^8867-4^c^LN", "http://loinc.org", "8867-4"),
            ("GLU^Glucose", TEXT, "GLU"),
            ("GLU", TEXT, "GLU"),
            ("^Glucose", TEXT, "Glucose"),
            ("^^LN^^Glucose", TEXT, "Glucose"),
            (r"A\T\B^x^L", "L", "A&B"),
            ("E10.9^x^I10", "http://hl7.org/fhir/sid/icd-10", "E10.9"),
            ("1^x^2.16.840.1.1", "2.16.840.1.1", "1"),
        ] {
            assert_eq!(picked(element), Some((system.to_owned(), code.to_owned())), "{element}");
        }
        for element in ["", "^^LN", "\"\"", "^"] {
            assert_eq!(picked(element), None, "{element}");
        }
        let other = pick_or("250.00", Marks::USUAL, "I9C").unwrap();
        assert_eq!(other.system.as_deref(), Some("http://hl7.org/fhir/sid/icd-9-cm"));
    }

    #[test]
    fn units() {
        for (element, expected) in [
            ("mmol/L", Some("mmol/L")),
            ("%^percent^UCUM", Some("%")),
            ("beats/min^^ISO", Some("beats/min")),
            ("bpm^beats^L^/min^^UCUM", Some("/min")),
            ("^per minute", Some("per minute")),
            (r"10\S\3/uL", Some("10^3/uL")),
            ("", None),
            ("\"\"", None),
        ] {
            assert_eq!(unit(element, Marks::USUAL).as_deref(), expected, "{element}");
        }
    }
}
