//! Public data through the rules of the default site: what has a concept, and what has none.

use std::collections::BTreeMap;

use super::super::concepts::hospital::archive;
use super::*;

/// What became of an archive's files.
#[derive(Default)]
struct Told {
    /// Events, and those under a concept.
    events: usize,
    mapped: usize,
    /// Events of a unit of measure, and those under a concept.
    measured: usize,
    measured_mapped: usize,
    flagged: Vec<(String, f32)>,
    /// Codes with a number and no concept.
    unmapped: BTreeMap<String, usize>,
    /// Details of the dead letters for a unit.
    strange: Vec<String>,
}

fn told(files: &[Vec<u8>]) -> Told {
    let (concepts, sql) = HOSPITAL;
    let concepts = Concepts::parse("concepts.csv", concepts).unwrap();
    let mut site = Normalizer::new(&concepts, &Spellings::built_in(), "normalize.sql", sql, key(), usize::MAX).unwrap();
    let mut told = Told::default();
    for (i, file) in files.iter().enumerate() {
        let record = Record { bytes: file, ..record(i, Format::Fhir, "") };
        let normalized = site.run(&[record]).unwrap();
        if let Outcome::Dead(reject) = &normalized.outcomes[0]
            && reject.reason == Reason::Unit
        {
            told.strange.push(reject.detail.clone());
        }
        for row in rows(&normalized) {
            let (is_measured, is_mapped) = (row.unit.is_some() && row.numeric_value.is_some(), row.concept.is_some());
            told.events += 1;
            told.mapped += usize::from(is_mapped);
            told.measured += usize::from(is_measured);
            told.measured_mapped += usize::from(is_measured && is_mapped);
            if is_measured && !is_mapped {
                *told.unmapped.entry(format!("{} in {}", row.code, row.unit.unwrap())).or_default() += 1;
            }
            if row.implausible {
                told.flagged.push((row.code.to_owned(), row.numeric_value.unwrap()));
            }
        }
    }
    println!(
        "{} events, {} under a concept; {} measured, {} under a concept; {} unmapped {:?}; flagged {:?}; strange {:?}",
        told.events,
        told.mapped,
        told.measured,
        told.measured_mapped,
        told.unmapped.len(),
        told.unmapped,
        told.flagged,
        told.strange,
    );
    told
}

#[test]
fn what_synthea_measures_has_its_concepts() {
    let files = archive("fhir/synthea_r4_dev19.tar.gz");
    if files.is_empty() {
        return;
    }
    let told = told(&files);
    assert!(told.strange.is_empty());
    assert!(told.measured_mapped * 100 >= told.measured * 95, "{:?}", told.unmapped);
    assert!(told.flagged.len() * 100 < told.measured, "{:?}", told.flagged);
}

#[test]
fn what_the_examples_of_fhir_measure_has_its_concepts() {
    let files = archive("fhir/hl7_r4_examples_clinical.tar.gz");
    if files.is_empty() {
        return;
    }
    let told = told(&files);
    assert!(told.strange.is_empty(), "{:?}", told.strange);
    assert!(told.measured_mapped * 100 >= told.measured * 80, "{:?}", told.unmapped);
}
