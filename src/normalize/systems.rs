//! Names of code systems: the URI, OID or HL7 name that a source writes, to the short name of the log.
//!
//! Promises that one system has one name in the log, so that a code from FHIR, from HL7 v2
//! and from a flat record meet. A system that is not known keeps the name its source gave it.
//!
//! URIs are those of HL7's terminology (terminology.hl7.org), OIDs those of the HL7 registry, with or
//! without `urn:oid:`, names those of HL7 table 0396 (`LN`, `SCT`, `I10C`), in whatever case. A table
//! of HL7 v2 is `HL70074` under all three.

use std::borrow::Cow;

/// Separates the system from the code in the log.
pub(super) const SEPARATOR: &str = "//";

/// The OID below which HL7 v2 keeps its tables.
const TABLES: &str = "2.16.840.1.113883.12.";

/// Short name of a code system, or the name itself if it is not known.
pub(super) fn short(system: &str) -> Cow<'_, str> {
    let known = if system.starts_with("http") {
        uri(system.strip_suffix('/').unwrap_or(system))
    } else if let Some(oid) = system.strip_prefix("urn:oid:") {
        of_oid(oid)
    } else if system.starts_with("urn:") {
        urn(system).map(Cow::Borrowed)
    } else if system.starts_with(|first: char| first.is_ascii_digit()) {
        of_oid(system)
    } else {
        name(system)
    };
    known.unwrap_or(Cow::Borrowed(system))
}

fn uri(system: &str) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match system {
        "http://loinc.org" | "https://loinc.org" => "LOINC",
        "http://snomed.info/sct" | "https://snomed.info/sct" => "SNOMED",
        "http://www.nlm.nih.gov/research/umls/rxnorm" => "RXNORM",
        "http://hl7.org/fhir/sid/icd-10-cm" => "ICD10CM",
        "http://hl7.org/fhir/sid/icd-10" => "ICD10",
        "http://www.cms.gov/Medicare/Coding/ICD10" | "http://hl7.org/fhir/sid/icd-10-pcs" => "ICD10PCS",
        "http://hl7.org/fhir/sid/icd-9-cm" | "http://terminology.hl7.org/CodeSystem/icd9cm" => "ICD9CM",
        "http://id.who.int/icd/release/11/mms" => "ICD11",
        "http://hl7.org/fhir/sid/cvx" => "CVX",
        "http://hl7.org/fhir/sid/ndc" => "NDC",
        "http://www.whocc.no/atc" => "ATC",
        "http://fdasis.nlm.nih.gov" => "UNII",
        "http://www.ama-assn.org/go/cpt" => "CPT",
        "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets" => "HCPCS",
        "http://unitsofmeasure.org" => "UCUM",
        "http://dicom.nema.org/resources/ontology/DCM" => "DCM",
        "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl" => "NCIT",
        "http://physionet.org/challenge/2012" => "PHYSIONET2012",
        // An edition or a version of SNOMED CT.
        _ if system.starts_with("http://snomed.info/sct/") => "SNOMED",
        _ => {
            let ends = ["http://terminology.hl7.org/CodeSystem/v2-", "http://hl7.org/fhir/v2/"];
            let table = ends.iter().find_map(|start| system.strip_prefix(start))?;
            return hl7_table(table);
        }
    }))
}

fn urn(system: &str) -> Option<&'static str> {
    Some(match system {
        "urn:iso:std:iso:11073:10101" => "MDC",
        "urn:auscult:text" => "TEXT",
        _ => return None,
    })
}

fn of_oid(oid: &str) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match oid {
        "2.16.840.1.113883.6.1" => "LOINC",
        "2.16.840.1.113883.6.96" => "SNOMED",
        "2.16.840.1.113883.6.88" => "RXNORM",
        "2.16.840.1.113883.6.90" => "ICD10CM",
        "2.16.840.1.113883.6.3" => "ICD10",
        "2.16.840.1.113883.6.4" => "ICD10PCS",
        // Diagnoses and procedures have an OID each.
        "2.16.840.1.113883.6.103" | "2.16.840.1.113883.6.104" => "ICD9CM",
        "2.16.840.1.113883.12.292" => "CVX",
        "2.16.840.1.113883.6.69" => "NDC",
        "2.16.840.1.113883.6.73" => "ATC",
        "2.16.840.1.113883.4.9" => "UNII",
        "2.16.840.1.113883.6.12" => "CPT",
        "2.16.840.1.113883.6.14" | "2.16.840.1.113883.6.285" => "HCPCS",
        "2.16.840.1.113883.6.8" => "UCUM",
        "2.16.840.1.113883.6.24" => "MDC",
        "1.2.840.10008.2.16.4" => "DCM",
        "2.16.840.1.113883.3.26.1.1" => "NCIT",
        "2.16.840.1.113883.6.238" => "CDCREC",
        _ => return hl7_table(oid.strip_prefix(TABLES)?),
    }))
}

/// A name of HL7 table 0396, or one of those that people write in its place. `SNM3`, the SNOMED
/// before SNOMED CT with codes of its own, and `I9`, `I9M` and their like stay what they are.
fn name(system: &str) -> Option<Cow<'static, str>> {
    // Most are of our own making, and need no look into the list.
    if matches!(system, "LOINC" | "SNOMED" | "RXNORM" | "ICD10CM" | "MDC") || system.len() > 16 {
        return None;
    }
    let plain: String =
        system.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).map(|c| c.to_ascii_uppercase()).collect();
    Some(Cow::Borrowed(match plain.as_str() {
        "LN" | "LOINC" => "LOINC",
        "SCT" | "SCT2" | "SNOMED" | "SNOMEDCT" => "SNOMED",
        "SNM3" => "SNM3",
        "RXNORM" => "RXNORM",
        "I10C" | "ICD10CM" => "ICD10CM",
        "I10" | "ICD10" => "ICD10",
        "I10P" | "ICD10PCS" => "ICD10PCS",
        "I9C" | "I9CDX" | "I9CP" | "ICD9CM" => "ICD9CM",
        "I11" | "ICD11" => "ICD11",
        "CVX" => "CVX",
        "NDC" => "NDC",
        "ATC" => "ATC",
        "UNII" => "UNII",
        "C4" | "CPT" | "CPT4" => "CPT",
        "HPC" | "HCPCS" => "HCPCS",
        "UCUM" => "UCUM",
        "MDC" => "MDC",
        "DCM" => "DCM",
        "NCIT" => "NCIT",
        "CDCREC" => "CDCREC",
        _ => return hl7_table(plain.strip_prefix("HL7")?),
    }))
}

/// `HL7` and the four digits of a table: 74, 0074 and 00074 are one.
fn hl7_table(number: &str) -> Option<Cow<'static, str>> {
    let is_short = number.len() <= 5 && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u16 = is_short.then(|| number.parse().ok())??;
    Some(Cow::Owned(format!("HL7{number:04}")))
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
        for (name, all) in [
            (
                "LOINC",
                &["http://loinc.org", "http://loinc.org/", "urn:oid:2.16.840.1.113883.6.1", "LN", "ln", "Loinc"][..],
            ),
            ("LOINC", &["2.16.840.1.113883.6.1", "LOINC"]),
            ("SNOMED", &["http://snomed.info/sct", "http://snomed.info/sct/900000000000207008", "SCT", "SNOMED CT"]),
            ("SNOMED", &["SNOMED-CT", "2.16.840.1.113883.6.96", "sct"]),
            ("RXNORM", &["RXNORM", "RxNorm", "2.16.840.1.113883.6.88"]),
            ("ICD10CM", &["http://hl7.org/fhir/sid/icd-10-cm", "I10C", "i10c", "ICD-10-CM", "2.16.840.1.113883.6.90"]),
            ("ICD10", &["http://hl7.org/fhir/sid/icd-10", "I10", "ICD-10", "2.16.840.1.113883.6.3"]),
            ("ICD9CM", &["I9C", "I9CDX", "ICD9-CM", "2.16.840.1.113883.6.103", "http://hl7.org/fhir/sid/icd-9-cm"]),
            ("NDC", &["NDC", "ndc", "http://hl7.org/fhir/sid/ndc", "2.16.840.1.113883.6.69"]),
            ("CVX", &["CVX", "http://hl7.org/fhir/sid/cvx", "2.16.840.1.113883.12.292"]),
            ("CPT", &["C4", "CPT-4", "http://www.ama-assn.org/go/cpt"]),
            ("UCUM", &["UCUM", "http://unitsofmeasure.org"]),
            ("ATC", &["ATC", "http://www.whocc.no/atc", "2.16.840.1.113883.6.73"]),
            ("HL70074", &["HL70074", "hl70074", "HL7-0074", "http://terminology.hl7.org/CodeSystem/v2-0074"]),
            ("HL70074", &["http://hl7.org/fhir/v2/0074", "2.16.840.1.113883.12.74", "urn:oid:2.16.840.1.113883.12.74"]),
            ("MDC", &["urn:iso:std:iso:11073:10101", "urn:oid:2.16.840.1.113883.6.24", "MDC"]),
        ] {
            for one in all {
                assert_eq!(short(one), name, "{one}");
            }
        }
    }

    #[test]
    fn systems_that_are_not_the_same_have_different_names() {
        let all = ["I9", "I9C", "I10", "I10C", "I10P", "SNM3", "SNM", "SCT", "LN", "L", "C4", "C5", "HL70001"];
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| short(other) != short(one)), "{one}");
        }
    }

    #[test]
    fn an_unknown_system_keeps_its_name() {
        for unknown in
            ["http://acme.org/labs/", "acme", "L", "99zzz", "2.16.840.1.113883.3.9", "1.2.3", "urn:uuid:1", ""]
        {
            assert_eq!(short(unknown), unknown);
        }
        assert_eq!(short("HL7a"), "HL7a");
        assert_eq!(log_code(Some("acme"), "7"), "acme//7");
        assert_eq!(log_code(None, "MEDS_BIRTH"), "MEDS_BIRTH");
    }

    #[test]
    fn a_short_name_is_its_own() {
        for name in
            ["LOINC", "SNOMED", "RXNORM", "ICD10CM", "ICD10", "ICD9CM", "HL70396", "SNM3", "PHYSIONET2012", "TEXT"]
        {
            assert_eq!(short(name), name);
        }
    }
}
