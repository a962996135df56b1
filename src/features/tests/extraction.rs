//! First, last, lowest, highest and median of 4,000 stays against an extraction that nobody here wrote
//! (alistairewj/challenge2012): its cells, and ours under the plausible ranges of `config/physionet2012`.
//!
//! What differs, and why: its author keeps pressures of 1 to 9 mmHg, a mean pressure of 251 to 299 and rates below
//! 10 (we hold them implausible), drops white cells below 1/nL and weights below 35 kg or above 299 kg (we keep
//! them), and mends temperatures that were charted in Fahrenheit and a pH of 735 (we drop them). A weight at 00:00
//! is the descriptor of the stay in it, so those are left out here.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::ward::{START, ward};
use super::*;
use crate::events::HOUR;

const CELLS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/physionet2012/PhysionetChallenge2012-set-a.features.csv.gz");

/// Its words and ours.
const WORDS: [(&str, &str); 5] =
    [("first", "first"), ("last", "last"), ("lowest", "min"), ("highest", "max"), ("median", "median")];

#[test]
fn features_agree_with_an_independent_extraction() {
    let (Some(ward), Ok(file)) = (ward(), std::fs::File::open(CELLS)) else { return };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let names: Vec<String> = table.headers().unwrap().iter().map(str::to_owned).collect();

    let list = ward.concepts.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
    let aggregates = WORDS.map(|(_, ours)| format!("\"{ours}\"")).join(",");
    let toml = format!("[[feature]]\nconcepts = [{list}]\nwindows = [\"ever\"]\naggregates = [{aggregates}]");
    let concepts = ward.concepts.iter().map(|name| (name.clone(), "1".to_owned())).collect();
    let spec = Arc::new(FeatureSpec::parse("features.toml", &toml, &concepts).unwrap());
    let mut fold = Fold::new(Arc::clone(&spec), vec![trigger("on = [\"NOW\"]")]);

    let sources = ["raw.flat-0-1#0".to_owned()];
    let (mut due, mut starts) = (Due::new(), BTreeMap::new());
    for (i, item) in ward.items.iter().enumerate() {
        let event = ward.event(i, &sources);
        if item.code == START {
            starts.insert(item.stay, (event.subject, item.recorded_at));
        }
        let is_descriptor = event.concept == Some("Weight") && item.time == Some(starts[&item.stay].1);
        if !is_descriptor {
            fold.apply(&event, None);
        }
    }
    let mut stays = BTreeMap::new();
    for (stay, (subject, start)) in &starts {
        let now = event("NOW", start + 49 * HOUR, 0);
        fold.apply(&EventRef { subject: *subject, ..now }, Some(&mut due));
        stays.insert(ward.stays[*stay as usize].clone(), due.rows.len() - 1);
    }

    // Of each parameter: cells that either side has, and those that differ.
    let mut tally: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for record in table.records() {
        let record = record.unwrap();
        let row = due.row(stays[&record[0]]);
        for (name, cell) in names.iter().zip(&record) {
            let Some((parameter, word)) = name.rsplit_once('_') else { continue };
            let Some((_, ours)) = WORDS.iter().find(|(theirs, _)| *theirs == word) else { continue };
            let column = spec.names().iter().position(|known| *known == format!("{parameter}.{ours}.ever")).unwrap();
            let (theirs, ours) = (cell.parse::<f32>().unwrap_or(f32::NAN), row[column]);
            if theirs.is_nan() && ours.is_nan() {
                continue;
            }
            let (cells, differ) = tally.entry(parameter).or_default();
            *cells += 1;
            let same = (theirs - ours).abs() <= 1e-5 * theirs.abs().max(1.0);
            *differ += usize::from(!same);
        }
    }
    let (cells, differ) = tally.values().fold((0, 0), |(a, b), (cells, differ)| (a + cells, b + differ));
    println!("{cells} cells, {differ} differ ({:.3} % agree)", 100.0 - 100.0 * differ as f64 / cells as f64);
    for (parameter, (cells, differ)) in tally.iter().filter(|(_, (_, differ))| *differ > 0) {
        println!("{parameter}: {cells} cells, {differ} differ");
    }
    assert!(cells > 300_000 && differ * 100 <= cells, "{cells} cells, {differ} differ");
    assert!(tally.values().all(|(cells, differ)| differ * 50 <= *cells), "{tally:?}");
}
