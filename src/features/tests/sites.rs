//! The features of the sites in `config/`.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Concepts of a `concepts.csv` with their units, read plainly: no field before the unit is quoted, and
/// what follows a `#` is a comment.
fn concepts(table: &str) -> BTreeMap<String, String> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut lines = lines.map(|line| line.split(',').collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap()[2..4], ["concept", "unit"]);
    lines.map(|fields| (fields[2].to_owned(), fields[3].to_owned())).collect()
}

fn site(features: &str, table: &str) -> FeatureSpec {
    FeatureSpec::parse("features.toml", features, &concepts(table)).unwrap()
}

#[test]
fn the_features_of_the_hospital_are_of_its_concepts() {
    let spec = site(
        include_str!("../../../config/hospital/features.toml"),
        include_str!("../../../config/hospital/concepts.csv"),
    );
    assert!((130..=200).contains(&spec.len()), "{}", spec.len());
    let of: BTreeSet<&str> = (0..spec.len()).filter_map(|i| spec.concept(i)).collect();
    assert_eq!(of.len(), 33, "ten of them derived");
    for name in ["heart_rate.max.8h", "lactate.time_since_last.encounter", "diabetes.ever.ever", "age", "sofa.24h"] {
        assert!(spec.names().iter().any(|known| known == name), "{name}");
    }
}

#[test]
fn the_features_of_the_challenge_use_every_concept() {
    let table = include_str!("../../../config/physionet2012/concepts.csv");
    let spec = site(include_str!("../../../config/physionet2012/features.toml"), table);
    let of: BTreeSet<&str> = (0..spec.len()).filter_map(|i| spec.concept(i)).collect();
    let all = concepts(table);
    assert!(all.keys().all(|name| of.contains(name.as_str())), "{of:?}");
    assert_eq!(of.len(), all.len() + 9, "nine of them derived");
    assert_eq!(spec.len(), 384 + 34 * 48);
}
