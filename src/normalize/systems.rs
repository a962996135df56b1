//! Names of code systems: the URI or OID that a source writes, to the short name of the log.
//!
//! Promises that one system has one name in the log, so that a code from FHIR, from HL7 v2
//! and from a flat record meet. A system that is not known keeps the name its source gave it.

use std::borrow::Cow;

/// Separates the system from the code in the log.
pub(super) const SEPARATOR: &str = "//";

/// Short name of a code system, or the name itself if it is not known.
///
/// URIs are those of HL7's terminology (terminology.hl7.org), OIDs those of the HL7 registry.
pub(super) fn short(system: &str) -> &str {
    match system.strip_suffix('/').unwrap_or(system) {
        "http://loinc.org" | "https://loinc.org" | "urn:oid:2.16.840.1.113883.6.1" => "LOINC",
        "http://snomed.info/sct" | "urn:oid:2.16.840.1.113883.6.96" => "SNOMED",
        "http://www.nlm.nih.gov/research/umls/rxnorm" | "urn:oid:2.16.840.1.113883.6.88" => "RXNORM",
        "http://hl7.org/fhir/sid/icd-10-cm" | "urn:oid:2.16.840.1.113883.6.90" => "ICD10CM",
        "http://hl7.org/fhir/sid/icd-10" | "urn:oid:2.16.840.1.113883.6.3" => "ICD10",
        "http://www.cms.gov/Medicare/Coding/ICD10" | "urn:oid:2.16.840.1.113883.6.4" => "ICD10PCS",
        "http://hl7.org/fhir/sid/icd-9-cm"
        | "http://terminology.hl7.org/CodeSystem/icd9cm"
        | "urn:oid:2.16.840.1.113883.6.103"
        | "urn:oid:2.16.840.1.113883.6.104" => "ICD9CM",
        "http://id.who.int/icd/release/11/mms" => "ICD11",
        "http://hl7.org/fhir/sid/cvx" | "urn:oid:2.16.840.1.113883.12.292" => "CVX",
        "http://hl7.org/fhir/sid/ndc" | "urn:oid:2.16.840.1.113883.6.69" => "NDC",
        "http://www.whocc.no/atc" | "urn:oid:2.16.840.1.113883.6.73" => "ATC",
        "http://fdasis.nlm.nih.gov" | "urn:oid:2.16.840.1.113883.4.9" => "UNII",
        "http://www.ama-assn.org/go/cpt" | "urn:oid:2.16.840.1.113883.6.12" => "CPT",
        "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"
        | "urn:oid:2.16.840.1.113883.6.14"
        | "urn:oid:2.16.840.1.113883.6.285" => "HCPCS",
        "http://unitsofmeasure.org" | "urn:oid:2.16.840.1.113883.6.8" => "UCUM",
        "urn:iso:std:iso:11073:10101" | "urn:oid:2.16.840.1.113883.6.24" => "MDC",
        "http://dicom.nema.org/resources/ontology/DCM" | "urn:oid:1.2.840.10008.2.16.4" => "DCM",
        "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl" | "urn:oid:2.16.840.1.113883.3.26.1.1" => "NCIT",
        "urn:oid:2.16.840.1.113883.6.238" => "CDCREC",
        "http://physionet.org/challenge/2012" => "PHYSIONET2012",
        "urn:auscult:text" => "TEXT",
        _ => system,
    }
}

/// The code as the log writes it: `SYSTEM//code`, or a MEDS code as it stands.
pub(super) fn log_code<'a>(system: Option<&str>, code: &'a str) -> Cow<'a, str> {
    match system {
        None => Cow::Borrowed(code),
        Some(system) => Cow::Owned(format!("{}{SEPARATOR}{code}", short(system))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_has_one_name_whoever_names_it() {
        for loinc in ["http://loinc.org", "http://loinc.org/", "urn:oid:2.16.840.1.113883.6.1", "LOINC"] {
            assert_eq!(short(loinc), "LOINC");
        }
        assert_eq!(short("http://hl7.org/fhir/sid/icd-10-cm"), "ICD10CM");
        assert_ne!(short("http://hl7.org/fhir/sid/icd-10"), short("http://hl7.org/fhir/sid/icd-10-cm"));
    }

    #[test]
    fn an_unknown_system_keeps_its_name() {
        assert_eq!(short("http://acme.org/labs/"), "http://acme.org/labs/");
        assert_eq!(log_code(Some("acme"), "7"), "acme//7");
        assert_eq!(log_code(None, "MEDS_BIRTH"), "MEDS_BIRTH");
    }
}
