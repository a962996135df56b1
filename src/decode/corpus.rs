//! Public FHIR data against an independent count over the plain JSON. Skipped where the data is absent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use chrono::DateTime;
use serde_json::Value as Json;

use super::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/fhir/");

/// The official examples that are rejected: in each a resource names no patient, or only by a name to display.
const REJECTED: [(&str, Reason); 7] = [
    ("Bundle-ghp.json", Reason::Patient),
    ("Bundle-report.json", Reason::Patient),
    ("DiagnosticReport-gingival-mass.json", Reason::Patient),
    ("Observation-decimal.json", Reason::Patient),
    ("Observation-vp-oyster.json", Reason::Patient),
    ("Procedure-education.json", Reason::Patient),
    ("Procedure-ob.json", Reason::Patient),
];

/// Name and content of every record of a tar archive (POSIX ustar), by the name in its header.
pub(super) fn archive(name: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let Ok(file) = File::open(format!("{FOLDER}{name}")) else {
        eprintln!("skipped: {name} is not there");
        return None;
    };
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut tar).unwrap();
    let mut files = Vec::new();
    let mut rest = &tar[..];
    while rest.len() >= 512 && rest[0] != 0 {
        let text =
            |from: usize, to: usize| std::str::from_utf8(&rest[from..to]).unwrap().trim_matches(['\0', ' ']).to_owned();
        let size = usize::from_str_radix(&text(124, 136), 8).unwrap();
        let (path, kind) = (text(0, 100), rest[156]);
        rest = &rest[512..];
        if (kind == b'0' || kind == 0) && (path.ends_with(".json") || path.ends_with(".hl7")) {
            files.push((path.rsplit('/').next().unwrap().to_owned(), rest[..size].to_vec()));
        }
        rest = &rest[size.next_multiple_of(512).min(rest.len())..];
    }
    files.sort();
    Some(files)
}

fn resources<'j>(json: &'j Json, into: &mut Vec<&'j Json>) {
    match json["resourceType"].as_str() {
        Some("Bundle") => {
            for entry in json["entry"].as_array().into_iter().flatten() {
                if !entry["resource"].is_null() {
                    resources(&entry["resource"], into);
                }
            }
        }
        _ => into.push(json),
    }
}

fn values(element: &Json) -> usize {
    element.as_object().unwrap().keys().filter(|key| key.starts_with("value")).count()
}

/// How many facts a resource is, by the plain JSON.
fn expected(resource: &Json) -> usize {
    let has = |field: &str| usize::from(!resource[field].is_null());
    let status = resource["status"].as_str().unwrap_or_default();
    match resource["resourceType"].as_str().unwrap() {
        "Patient" => has("gender") + has("birthDate") + has("deceasedDateTime"),
        "Encounter" => {
            let period = |side: &str| usize::from(!resource["period"][side].is_null());
            period("start") + if status == "finished" { period("end") } else { 0 }
        }
        "Observation" => {
            let subject = resource["subject"]["reference"].as_str().unwrap_or_default();
            let other = resource["focus"].as_array().into_iter().flatten().any(|focus| focus["reference"] != subject);
            // Nobody's own: a herd, or the mother of the patient.
            if subject.starts_with("Group/") || other {
                return 0;
            }
            let parts = resource["component"].as_array().map_or(&[][..], Vec::as_slice);
            match status {
                "cancelled" | "entered-in-error" => 1 + parts.len(),
                _ => values(resource) + parts.iter().map(values).sum::<usize>(),
            }
        }
        "Condition" | "Procedure" => has("code"),
        "MedicationRequest" | "MedicationAdministration" => {
            let mixed = |part: &&Json| part["code"].is_null() && part["ingredient"].is_array();
            let contained = resource["contained"].as_array().into_iter().flatten().find(mixed);
            contained.map_or(1, |mixture| mixture["ingredient"].as_array().unwrap().len())
        }
        "Immunization" | "AllergyIntolerance" | "DiagnosticReport" => 1,
        _ => 0,
    }
}

/// Facts by resource type, of those whose resource has an id; `?` of the others.
fn by_kind(facts: &[Fact<'_>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for fact in facts {
        let kind = fact.id.as_deref().map_or("?", |id| id.split_once('/').unwrap().0);
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    counts
}

fn expected_by_kind(all: &[&Json]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for resource in all {
        let kind = if resource["id"].is_null() { "?" } else { resource["resourceType"].as_str().unwrap() };
        *counts.entry(kind.to_owned()).or_default() += expected(resource);
    }
    counts.retain(|_, count| *count > 0);
    counts
}

fn micros(json: &Json) -> Option<Micros> {
    json.as_str().map(|text| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
}

#[test]
fn synthea_is_read_whole() {
    let Some(files) = archive("synthea_r4_dev19.tar.gz") else { return };
    assert_eq!(files.len(), 19);
    let mut total = BTreeMap::new();
    for (name, bytes) in &files {
        let json: Json = serde_json::from_slice(bytes).unwrap();
        let mut all = Vec::new();
        resources(&json, &mut all);
        let mut facts = Vec::new();
        let unread = decode(Format::Fhir, &Rules::default(), bytes, &mut facts)
            .unwrap_or_else(|reject| panic!("{name}: {reject:?}"));
        assert_eq!(by_kind(&facts), expected_by_kind(&all), "{name}");

        let mut rest: BTreeMap<&str, u32> = BTreeMap::new();
        for resource in all.iter().filter(|resource| expected(resource) == 0) {
            *rest.entry(resource["resourceType"].as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(unread.unread, rest.into_iter().collect::<Vec<_>>(), "{name}");
        for (kind, count) in by_kind(&facts) {
            *total.entry(kind).or_insert(0) += count;
        }
    }
    eprintln!("facts of the 19 Bundles: {total:?}");
}

#[test]
fn synthea_facts_say_what_the_json_says() {
    let Some(files) = archive("synthea_r4_dev19.tar.gz") else { return };
    let tail = |reference: &Json| {
        reference["reference"].as_str().map(|text| text.strip_prefix("urn:uuid:").unwrap().to_owned())
    };
    for (name, bytes) in &files {
        let json: Json = serde_json::from_slice(bytes).unwrap();
        let mut all = Vec::new();
        resources(&json, &mut all);
        let patient = all.iter().find(|r| r["resourceType"] == "Patient").unwrap()["id"].as_str().unwrap();
        let mut facts = Vec::new();
        decode(Format::Fhir, &Rules::default(), bytes, &mut facts).unwrap();
        assert!(facts.iter().all(|fact| fact.patient == patient && fact.assigner.is_none()), "{name}");

        let mut next = facts.iter();
        for resource in all {
            let kind = resource["resourceType"].as_str().unwrap();
            let of_it: Vec<_> = next.by_ref().take(expected(resource)).collect();
            // A resource alone says the same as in its Bundle, about the same patient.
            let alone = resource.to_string();
            let mut single = Vec::new();
            decode(Format::Fhir, &Rules::default(), alone.as_bytes(), &mut single).unwrap();
            assert!(single.iter().eq(of_it.iter().copied()), "{name} {kind}");

            let code = match kind {
                "Observation" | "Condition" | "Procedure" | "DiagnosticReport" | "AllergyIntolerance" => {
                    &resource["code"]
                }
                "Immunization" => &resource["vaccineCode"],
                "MedicationRequest" => &resource["medicationCodeableConcept"],
                _ => continue,
            };
            let first = ["effectiveDateTime", "onsetDateTime", "occurrenceDateTime", "authoredOn", "recordedDate"];
            let time = first
                .iter()
                .find_map(|field| micros(&resource[field]))
                .or(micros(&resource["performedPeriod"]["start"]));
            let recorded = ["issued", "recordedDate", "authoredOn"].iter().find_map(|field| micros(&resource[field]));
            for (at, fact) in of_it.iter().enumerate() {
                let part = if kind == "Observation" && values(resource) == 0 {
                    Some(&resource["component"][at])
                } else {
                    None
                };
                let coding = &part.map_or(code, |part| &part["code"])["coding"][0];
                assert_eq!(
                    (fact.system.as_deref(), &*fact.code),
                    (coding["system"].as_str(), coding["code"].as_str().unwrap())
                );
                assert_eq!((fact.time, fact.recorded), (time, recorded), "{name} {kind}");
                assert!(time.is_some());
                assert_eq!(fact.encounter.as_deref(), tail(&resource["encounter"]).as_deref());
                let quantity = &part.unwrap_or(resource)["valueQuantity"];
                if quantity.is_object() {
                    assert_eq!(fact.value, Value::Number(quantity["value"].as_f64().unwrap()));
                    assert_eq!(fact.unit.as_deref(), quantity["code"].as_str());
                }
            }
        }
        assert!(next.next().is_none());
    }
}

#[test]
fn official_examples_are_read_or_rejected_for_a_known_reason() {
    let Some(files) = archive("hl7_r4_examples_clinical.tar.gz") else { return };
    assert_eq!(files.len(), 328);
    let mut rejected = Vec::new();
    for (name, bytes) in &files {
        let json: Json = serde_json::from_slice(bytes).unwrap();
        let mut all = Vec::new();
        resources(&json, &mut all);
        let mut facts = Vec::new();
        match decode(Format::Fhir, &Rules::default(), bytes, &mut facts) {
            Ok(unread) => {
                assert_eq!(by_kind(&facts), expected_by_kind(&all), "{name}");
                let silent = all.iter().filter(|resource| expected(resource) == 0).count();
                let counted: u32 = unread.unread.iter().map(|(_, count)| count).sum();
                assert!(counted as usize >= silent, "{name}");
            }
            Err(reject) => {
                eprintln!("{name}: {reject:?}");
                rejected.push((name.as_str(), reject.reason));
            }
        }
    }
    assert_eq!(rejected, REJECTED);
}

#[test]
fn a_cut_bundle_is_a_reject() {
    let Some(files) = archive("hl7_r4_examples_clinical.tar.gz") else { return };
    for (name, bytes) in
        files.iter().filter(|(name, _)| name.starts_with("Bundle-") || name.starts_with("Observation-b"))
    {
        let end = bytes.iter().rposition(|byte| *byte == b'}').unwrap();
        for cut in (1..end).step_by(if bytes.len() > 20_000 { 997 } else { 7 }) {
            let mut facts = Vec::new();
            let read = decode(Format::Fhir, &Rules::default(), &bytes[..cut], &mut facts);
            assert!(read.is_err() && facts.is_empty(), "{name} cut at {cut}");
        }
    }
}
