//! Public FHIR data against an independent count over the plain JSON. Skipped where the data is absent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use said::{READ, World, line, list, said};
use serde_json::Value as Json;

use super::*;

mod said;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/");

/// The official examples that are rejected: in each a resource names no patient, or only by a name to display.
const REJECTED: [(&str, Reason); 10] = [
    ("Bundle-ghp.json", Reason::Patient),
    ("Bundle-report.json", Reason::Patient),
    ("DiagnosticReport-gingival-mass.json", Reason::Patient),
    ("Observation-decimal.json", Reason::Patient),
    ("Observation-vp-oyster.json", Reason::Patient),
    ("Procedure-education.json", Reason::Patient),
    ("Procedure-ob.json", Reason::Patient),
    ("ServiceRequest-appendectomy-narrative.json", Reason::Patient),
    ("ServiceRequest-education.json", Reason::Patient),
    ("ServiceRequest-ob.json", Reason::Patient),
];

/// Name and content of every record of a tar archive (POSIX ustar), by the name in its header.
pub(crate) fn archive(name: &str) -> Option<Vec<(String, Vec<u8>)>> {
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

/// Facts, and what is counted, by plain reading: lines by resource type, and types that gave none.
fn expected(record: &Json) -> (Vec<String>, BTreeMap<String, u32>) {
    let world = World::of(record);
    let mut lines = Vec::new();
    let mut silent: BTreeMap<String, u32> = BTreeMap::new();
    for (_, resource) in &world.resources {
        let kind = resource["resourceType"].as_str().unwrap();
        let inner = list(&resource["contained"]).iter().filter(|part| READ.contains(&kind) && !is_a_name(part));
        for part in std::iter::once(*resource).chain(inner) {
            let said = said(part, resource, &world);
            if said.is_empty() && !is_linked(part) {
                *silent.entry(part["resourceType"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            lines.extend(said);
        }
    }
    (lines, silent)
}

/// Whether a Patient says who else it is, and so is not silent without a fact.
fn is_linked(part: &Json) -> bool {
    let known = |identifier: &&Json| identifier["system"].is_string() && identifier["value"].is_string();
    let others = list(&part["identifier"]).iter().filter(known).count() + list(&part["link"]).len();
    part["resourceType"] == "Patient" && others > 0
}

/// Whether a contained resource only says whom or what its container means.
fn is_a_name(part: &Json) -> bool {
    matches!(part["resourceType"].as_str(), Some("Patient" | "Medication"))
}

/// Reads the record both ways and compares every fact.
fn agrees(name: &str, bytes: &[u8], total: &mut BTreeMap<String, (usize, usize)>) -> Result<(), Reject> {
    let json: Json = serde_json::from_slice(bytes).unwrap();
    let mut facts = Vec::new();
    let notes = decode(Format::Fhir, &Rules::default(), bytes, &mut facts)?;
    let (mut theirs, silent) = expected(&json);
    let mut ours: Vec<String> = facts.iter().map(line).collect();
    ours.sort();
    theirs.sort();
    let only = |of: &[String], not: &[String]| of.iter().filter(|l| !not.contains(l)).cloned().collect::<Vec<_>>();
    assert!(ours == theirs, "{name}: only we {:#?}, only they {:#?}", only(&ours, &theirs), only(&theirs, &ours));

    // Conservation: what gave no fact is counted, and no fact lacks whose it is or what it is.
    let unread: BTreeMap<&str, u32> = notes.unread.iter().copied().collect();
    for (kind, count) in silent {
        assert!(unread.get(&*kind).is_some_and(|counted| *counted >= count), "{name}: {kind} {unread:?}");
    }
    let mut ids = std::collections::HashSet::new();
    for fact in &facts {
        assert!(!fact.patient.is_empty() && !fact.code.is_empty(), "{name}");
        assert!(fact.id.as_ref().is_none_or(|id| ids.insert((&fact.patient, id))), "{name}: {:?} twice", fact.id);
        let kind = fact.id.as_deref().map_or("?", |id| id.split_once('/').unwrap().0);
        let (count, undated) = total.entry(kind.to_owned()).or_default();
        *count += 1;
        *undated += usize::from(fact.time.is_none());
    }
    Ok(())
}

#[test]
fn synthea_says_what_the_json_says() {
    let Some(files) = archive("fhir/synthea_r4_dev19.tar.gz") else { return };
    assert_eq!(files.len(), 19);
    let mut total = BTreeMap::new();
    for (name, bytes) in &files {
        agrees(name, bytes, &mut total).unwrap_or_else(|reject| panic!("{name}: {reject:?}"));
    }
    eprintln!("facts of the 19 Bundles and how many of them are undated: {total:?}");
    // Only a gender and a goal have no time there.
    assert!(total.iter().all(|(kind, (_, undated))| *undated == 0 || kind == "Patient" || kind == "Goal"));
}

#[test]
fn synthea_resources_alone_say_the_same() {
    let Some(files) = archive("fhir/synthea_r4_dev19.tar.gz") else { return };
    for (name, bytes) in &files {
        let json: Json = serde_json::from_slice(bytes).unwrap();
        let mut facts = Vec::new();
        let notes = decode(Format::Fhir, &Rules::default(), bytes, &mut facts).unwrap();
        let mut next = facts.iter();
        // Bulk Data has a resource a line, which refers to its patient by a relative reference.
        let bulk = String::from_utf8(bytes.clone()).unwrap().replace("\"urn:uuid:", "\"Patient/");
        let bulk: Json = serde_json::from_str(&bulk).unwrap();
        for (entry, of_bulk) in list(&json["entry"]).iter().zip(list(&bulk["entry"])) {
            let alone = entry["resource"].to_string();
            let mut single = Vec::new();
            let own = decode(Format::Fhir, &Rules::default(), alone.as_bytes(), &mut single).unwrap();
            if entry["resource"]["resourceType"] == "Patient" {
                assert_eq!(own.links, notes.links);
            }
            for fact in single {
                assert_eq!(Some(&fact), next.next(), "{name}");
                assert_eq!(fact.patient, list(&json["entry"])[0]["resource"]["id"].as_str().unwrap());
            }
            let line = of_bulk["resource"].to_string();
            let mut of_line = Vec::new();
            decode(Format::Fhir, &Rules::default(), line.as_bytes(), &mut of_line).unwrap();
            assert!(of_line.iter().all(|fact| fact.patient == facts[0].patient && fact.assigner.is_none()));
        }
        assert!(next.next().is_none());
        // Of five identifiers two are the state's, one the patient's number at the state's licence office.
        let systems: Vec<_> = notes.links.iter().map(|link| link.other.assigner.as_deref().unwrap()).collect();
        let own = "https://github.com/synthetichealth/synthea";
        assert_eq!(systems, [own, "http://hospital.smarthealthit.org"], "{name}");
        assert!(notes.links.iter().all(|link| link.kind == LinkKind::Same && link.kept.patient == facts[0].patient));
    }
}

#[test]
fn official_examples_are_read_or_rejected_for_a_known_reason() {
    let Some(files) = archive("fhir/hl7_r4_examples_clinical.tar.gz") else { return };
    assert_eq!(files.len(), 328);
    let mut rejected = Vec::new();
    let mut total = BTreeMap::new();
    for (name, bytes) in &files {
        if let Err(reject) = agrees(name, bytes, &mut total) {
            rejected.push((name.as_str(), reject.reason));
        }
    }
    eprintln!("facts of the 328 examples and how many of them are undated: {total:?}");
    assert_eq!(rejected, REJECTED);
}

#[test]
fn a_cut_bundle_is_a_reject() {
    let Some(files) = archive("fhir/hl7_r4_examples_clinical.tar.gz") else { return };
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

/// `cargo test --release --manifest-path tests/fuzz/Cargo.toml -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement: run it alone, in release mode"]
fn speed_of_synthea_against_serde_json() {
    let Some(files) = archive("fhir/synthea_r4_dev19.tar.gz") else { return };
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let best = |work: &mut dyn FnMut()| {
        let times = (0..15).map(|_| {
            let start = std::time::Instant::now();
            work();
            start.elapsed()
        });
        bytes as f64 / 1e6 / times.min().unwrap().as_secs_f64()
    };
    let mut facts = Vec::new();
    let mut count = 0;
    let ours = best(&mut || {
        count = 0;
        for (_, bytes) in &files {
            facts.clear();
            decode(Format::Fhir, &Rules::default(), bytes, &mut facts).unwrap();
            count += facts.len();
        }
    });
    let theirs = best(&mut || {
        for (_, bytes) in &files {
            std::hint::black_box(serde_json::from_slice::<Json>(bytes).unwrap());
        }
    });
    eprintln!("{bytes} bytes, {count} facts: decode {ours:.0} MB/s, serde_json::Value {theirs:.0} MB/s");
    assert!(ours >= theirs);
}
