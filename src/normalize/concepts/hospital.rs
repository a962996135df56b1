//! The table of `config/hospital` against what is known of its codes: their check digits, and
//! what public data that nobody here wrote call them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::decode::corpus;
use crate::settings::SiteFiles;

/// A row of `concepts.csv` with its description.
struct Row {
    system: String,
    code: String,
    concept: String,
    description: String,
}

fn rows() -> Vec<Row> {
    let file = SiteFiles::built_in().concepts;
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(file.text.as_bytes());
    let rows = reader.records().map(|record| {
        let record = record.unwrap();
        let field = |i: usize| record[i].to_owned();
        Row { system: field(0), code: field(1), concept: field(2), description: field(8) }
    });
    rows.collect()
}

/// LOINC's check digit: that of Luhn (LOINC Users' Guide, appendix C).
fn is_loinc(code: &str) -> bool {
    let Some((number, check)) = code.split_once('-') else { return false };
    let digits = number.bytes().rev().map(|byte| u32::from(byte - b'0'));
    let doubled = digits.enumerate().map(|(i, digit)| if i % 2 == 0 { digit / 5 + digit * 2 % 10 } else { digit });
    check == ((10 - doubled.sum::<u32>() % 10) % 10).to_string()
}

/// SNOMED CT's check digit: that of Verhoeff's dihedral group.
fn is_snomed(code: &str) -> bool {
    const PERMUTED: [usize; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let times = |a: usize, b: usize| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b) % 5,
        (false, true) => 5 + (a - b) % 5,
        (false, false) => (5 + a - b) % 5,
    };
    let mut check = 0;
    for (i, byte) in code.bytes().rev().enumerate() {
        let mut digit = usize::from(byte - b'0');
        for _ in 0..i % 8 {
            digit = PERMUTED[digit];
        }
        check = times(check, digit);
    }
    (6..=18).contains(&code.len()) && check == 0
}

#[test]
fn the_check_digits_are_right() {
    assert!(is_loinc("8867-4") && !is_loinc("8867-5") && is_snomed("38341003") && !is_snomed("38341030"));
    let rows = rows();
    for row in &rows {
        match row.system.as_str() {
            // The code that US Core prints; that of the rule is there too.
            "LOINC" if row.code == "3150-6" => {}
            "LOINC" => assert!(is_loinc(&row.code), "{}", row.code),
            "SNOMED" => assert!(is_snomed(&row.code), "{}", row.code),
            _ => {}
        }
    }
    let of = |system: &str| rows.iter().filter(|row| row.system == system).count();
    assert!(of("LOINC") > 350 && of("SNOMED") > 90 && of("RXNORM") > 150 && of("ATC") > 50, "{}", rows.len());
}

#[test]
fn every_number_has_a_plausible_range() {
    let file = SiteFiles::built_in().concepts;
    let concepts = Concepts::parse(&file.name, &file.text).unwrap();
    for mapping in concepts.mappings() {
        let concept = &concepts.concepts()[mapping.concept];
        let is_bounded = mapping.low > f64::from(f32::MIN) && mapping.high < f64::from(f32::MAX);
        assert_eq!(is_bounded, !concept.unit.is_empty(), "{}", mapping.code);
        if concept.unit == ORDINAL {
            assert_eq!((mapping.low, mapping.high), (0.0, 4.0), "{}", concept.name);
        }
    }
    // What drugs are given for, what patients have and what is written of them, is not counted in any unit.
    let plain = concepts.concepts().iter().filter(|concept| concept.unit.is_empty());
    let others = ["note", "vaccine"];
    assert!(plain.clone().all(|one| one.name.starts_with("d") || others.contains(&one.name.as_str())));
    assert!(plain.count() > 60);
}

/// The content of every record of an archive of `../shared/data`; nothing where it is not there.
pub(in super::super) fn archive(name: &str) -> Vec<Vec<u8>> {
    corpus::archive(name).into_iter().flatten().map(|(_, content)| content).collect()
}

/// What the data call each code, by the log's name of it.
fn displays() -> BTreeMap<String, BTreeSet<String>> {
    let mut displays: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut note = |system: &str, code: &str, display: &str| {
        if !display.trim().is_empty() {
            let code = systems::log_code(Some(system), code).into_owned();
            displays.entry(code).or_default().insert(display.to_lowercase());
        }
    };
    for name in ["fhir/synthea_r4_dev19.tar.gz", "fhir/hl7_r4_examples_clinical.tar.gz"] {
        for file in archive(name) {
            let Ok(json) = serde_json::from_slice::<Value>(&file) else { continue };
            let mut open = vec![&json];
            while let Some(value) = open.pop() {
                if let (Some(system), Some(code)) = (value["system"].as_str(), value["code"].as_str()) {
                    note(system, code, value["display"].as_str().unwrap_or_default());
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
        for field in
            text.split(['\r', '\n']).filter(|line| line.starts_with("OBX|")).filter_map(|l| l.split('|').nth(3))
        {
            let parts: Vec<&str> = field.split('^').collect();
            if let [code, display, "LN", ..] = parts.as_slice() {
                note("LN", code, display);
            }
        }
    }
    displays
}

/// Names of the data for codes that another thing is meant by: two test messages call heart rate otherwise,
/// and the examples' display of 26464-8 is an old name of the leukocytes.
const ELSEWHERE: [&str; 2] = ["bacteria identified", "heartrate"];

/// Words of a name that say what it is of, cut to what declensions share.
fn words(name: &str) -> BTreeSet<String> {
    const OF_ANYTHING: [&str; 12] = [
        "blood",
        "serum",
        "plasma",
        "mass",
        "volume",
        "substance",
        "automated",
        "count",
        "presence",
        "oral",
        "tablet",
        "total",
    ];
    let words = name.to_lowercase();
    let words =
        words.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 1 && !OF_ANYTHING.contains(word));
    words.map(|word| word.chars().take(5).collect()).collect()
}

#[test]
fn the_data_call_the_codes_what_the_table_does() {
    let displays = displays();
    if displays.is_empty() {
        return;
    }
    let (mut confirmed, mut unknown, mut wrong) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    // What 11073 has in the place of a display is a name of its own kind.
    for row in rows().into_iter().filter(|row| row.system != "MDC") {
        let Some(names) = displays.get(&format!("{}//{}", row.system, row.code)) else {
            *unknown.entry(row.system).or_insert(0) += 1;
            continue;
        };
        let ours = words(&format!("{} {}", row.description, row.concept.replace('_', " ")));
        let names: Vec<&String> = names.iter().filter(|name| !ELSEWHERE.contains(&name.as_str())).collect();
        let all_fit = names.iter().all(|name| words(name).intersection(&ours).next().is_some());
        match all_fit && !names.is_empty() {
            true => *confirmed.entry(row.system).or_insert(0) += 1,
            false => wrong.push(format!("{} is {} but {names:?}", row.code, row.description)),
        }
    }
    println!("confirmed by a display: {confirmed:?}; not in the data: {unknown:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(confirmed["LOINC"] > 100 && confirmed["SNOMED"] > 60 && confirmed["RXNORM"] > 40);
}
