//! Every unit that occurs in public data that nobody here wrote, against the default table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::super::concepts::hospital::archive;
use super::*;

/// What is not understood, and why it shall not be.
const NOT_UNDERSTOOD: &[(&str, &str)] = &[
    ("258718000", "a code of SNOMED CT: the decoder takes the unit's word where the system is not UCUM"),
    ("258813002", "a code of SNOMED CT"),
    ("258814008", "a code of SNOMED CT"),
    ("265201", "a code of SNOMED CT"),
    ("385055001", "a code of SNOMED CT for a tablet"),
    ("% (sample/positive control)", "a percentage of a control's signal, no share of anything"),
    ("+/-", "says how a result is written, not in what"),
    ("UNK", "unknown"),
    ("log10 IU/mL", "a logarithm: no factor converts it"),
    ("log10 cop/mL", "a logarithm"),
    ("log10 copies/mL", "a logarithm"),
    ("OPDROP", "a form of a drug: an eye drop"),
    ("RECSUPP", "a form of a drug"),
    ("VAGTAB", "a form of a drug"),
];

/// Units of Quantities (code and unit) and of OBX-6 (code and text).
fn of_messages() -> BTreeSet<String> {
    let mut units = BTreeSet::new();
    for name in ["fhir/synthea_r4_dev19.tar.gz", "fhir/hl7_r4_examples_clinical.tar.gz"] {
        for json in archive(name).iter().filter_map(|file| serde_json::from_slice::<Value>(file).ok()) {
            let mut open = vec![&json];
            while let Some(value) = open.pop() {
                if value["value"].is_number() {
                    units.extend(["unit", "code"].iter().filter_map(|name| value[name].as_str()).map(str::to_owned));
                }
                match value {
                    Value::Array(values) => open.extend(values),
                    Value::Object(values) => open.extend(values.values()),
                    _ => {}
                }
            }
        }
    }
    for file in archive("hl7v2/hl7v2_ms_fhir_converter_input_expected.tar.gz") {
        let text = String::from_utf8_lossy(&file);
        for line in text.split(['\r', '\n']).filter(|line| line.starts_with("OBX|")) {
            units.extend(
                line.split('|').nth(6).into_iter().flat_map(|field| field.split('^').take(2)).map(str::to_owned),
            );
        }
    }
    units
}

/// Units of the laboratory, the bedside and the doses of MIMIC-IV's demo: the last part of a code.
fn of_mimic() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/meds/mimic_iv_demo_meds_events.parquet");
    let Ok(file) = File::open(path) else {
        println!("skipped: MIMIC-IV's demo is not there");
        return BTreeSet::new();
    };
    let mut units = BTreeSet::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let codes = arrow::compute::cast(batch.unwrap().column_by_name("code").unwrap(), &DataType::Utf8).unwrap();
        let codes = codes.as_string::<i32>();
        for code in (0..codes.len()).map(|i| codes.value(i)) {
            let parts: Vec<&str> = code.split("//").collect();
            match parts.as_slice() {
                ["LAB" | "SUBJECT_FLUID_OUTPUT", _, unit] => units.insert((*unit).to_owned()),
                ["SUBJECT_WEIGHT_AT_INFUSION", unit] => units.insert((*unit).to_owned()),
                _ => false,
            };
        }
    }
    units
}

#[test]
fn the_units_that_hospitals_send_are_understood_or_known_not_to_be() {
    let mut units = of_messages();
    units.extend(of_mimic());
    let spellings = Spellings::built_in();
    let is_understood = |unit: &str| spellings.readings(unit).iter().any(|ucum| read(ucum).is_some());
    let known: BTreeMap<&str, &str> = NOT_UNDERSTOOD.iter().copied().collect();
    let strange: Vec<&String> = units.iter().filter(|unit| !unit.trim().is_empty() && !is_understood(unit)).collect();
    println!("{} units, {} not understood: {strange:?}", units.len(), strange.len());
    let new: Vec<_> = strange.iter().filter(|unit| !known.contains_key(unit.as_str())).collect();
    assert!(new.is_empty(), "{new:?}");
    for (unit, reason) in known {
        assert!(!is_understood(unit), "{unit}: {reason}");
    }
}
