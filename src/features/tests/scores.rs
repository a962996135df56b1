//! The derived concepts that a site can take up by name, by examples worked out by hand from their sources.

use super::*;
use crate::events::{DAY, HOUR};
use crate::settings::Problem;

const UNITS: [(&str, &str); 24] = [
    ("heart_rate", "/min"),
    ("systolic_bp", "mm[Hg]"),
    ("mean_bp", "mm[Hg]"),
    ("respiratory_rate", "/min"),
    ("spo2", "%"),
    ("temperature", "Cel"),
    ("gcs", "{score}"),
    ("fio2", "1"),
    ("pao2", "mm[Hg]"),
    ("paco2", "mm[Hg]"),
    ("wbc", "10*3/uL"),
    ("platelets", "10*3/uL"),
    ("bilirubin", "mg/dL"),
    ("creatinine", "mg/dL"),
    ("sodium", "mmol/L"),
    ("chloride", "mmol/L"),
    ("bicarbonate", "mmol/L"),
    ("urine_output", "mL"),
    ("peep", "cm[H2O]"),
    ("norepinephrine_rate", "ug/kg/min"),
    ("dopamine_rate", "ug/kg/min"),
    ("drug_vasopressor", ""),
    ("drug_inotrope", ""),
    ("lactate", "mmol/L"),
];

const FEATURES: &str = r#"
    derive = "*"
    [[feature]]
    concepts = [
        "shock_index", "pf_ratio", "anion_gap_calculated", "egfr_2021", "news2", "qsofa", "sirs", "sofa_respiration",
        "sofa_coagulation", "sofa_liver", "sofa_cardiovascular", "sofa_cns", "sofa_renal",
    ]
    windows = ["24h"]
    aggregates = ["last", "max"]
    [[feature]]
    name = "sofa.24h"
    formula = """
    coalesce("sofa_respiration.max.24h", 0) + coalesce("sofa_coagulation.max.24h", 0)
    + coalesce("sofa_liver.max.24h", 0) + coalesce("sofa_cardiovascular.max.24h", 0)
    + coalesce("sofa_cns.max.24h", 0) + coalesce("sofa_renal.max.24h", 0)
    """
"#;

fn parse(toml: &str, units: &[(&str, &str)]) -> Result<FeatureSpec, Vec<Problem>> {
    let units = units.iter().map(|(name, unit)| ((*name).to_owned(), (*unit).to_owned()));
    FeatureSpec::parse("features.toml", toml, &units.collect())
}

/// The features after these values, each at an hour, of a man or woman born so many years before.
fn after(person: Option<(&'static str, i64)>, values: &[(i64, &'static str, f32)]) -> Run {
    let spec = Arc::new(parse(FEATURES, &UNITS).unwrap());
    let fold = Fold::new(Arc::clone(&spec), vec![trigger("on = [\"NOW\"]")]);
    let mut run = Run { spec, fold, due: Due::new() };
    if let Some((sex, years)) = person {
        run.apply(event(sex, 0, 1_000));
        let quarter_days = years * 1461 / 4;
        run.apply(birth(-quarter_days * DAY, 0, 1_001));
    }
    for (key, (hour, concept, value)) in (1..).zip(values) {
        let of = event("X", hour * HOUR, key);
        run.apply(EventRef { numeric_value: Some(*value), concept: Some(concept), ..of });
    }
    let last = values.iter().map(|(hour, ..)| *hour).max().unwrap_or(0);
    run.apply(event("NOW", last * HOUR, 2_000));
    run
}

fn close(value: f32, expected: f64) {
    assert!((f64::from(value) - expected).abs() <= 1e-6 * expected.abs(), "{value} is not {expected}");
}

#[test]
fn early_warning_scores_are_those_of_their_sources() {
    let ill = [
        (0, "respiratory_rate", 22.0),
        (0, "spo2", 94.0),
        (0, "fio2", 0.28),
        (0, "systolic_bp", 105.0),
        (0, "heart_rate", 112.0),
        (0, "gcs", 15.0),
        (0, "temperature", 38.5),
    ];
    let run = after(None, &ill);
    // 2 + 1 + 2 + 1 + 2 + 0 + 1
    assert_eq!(run.value("news2.last.24h"), 9.0);
    close(run.value("shock_index.last.24h"), f64::from(112.0_f32 / 105.0));
    assert_eq!((run.value("qsofa.last.24h"), run.value("sirs.last.24h")), (1.0, 3.0));
    // Each threshold of the chart: value and points.
    for (concept, points) in [
        (
            "respiratory_rate",
            &[(8.0, 3.0), (9.0, 1.0), (11.0, 1.0), (12.0, 0.0), (20.0, 0.0), (21.0, 2.0), (25.0, 3.0)][..],
        ),
        ("spo2", &[(91.0, 3.0), (92.0, 2.0), (93.0, 2.0), (94.0, 1.0), (95.0, 1.0), (96.0, 0.0)]),
        (
            "systolic_bp",
            &[(90.0, 3.0), (91.0, 2.0), (100.0, 2.0), (101.0, 1.0), (110.0, 1.0), (111.0, 0.0), (220.0, 3.0)],
        ),
        ("heart_rate", &[(40.0, 3.0), (41.0, 1.0), (51.0, 0.0), (90.0, 0.0), (91.0, 1.0), (111.0, 2.0), (131.0, 3.0)]),
        ("temperature", &[(35.0, 3.0), (35.1, 1.0), (36.0, 1.0), (36.1, 0.0), (38.0, 0.0), (38.1, 1.0), (39.1, 2.0)]),
    ] {
        for (value, points) in points {
            assert_eq!(after(None, &[(0, concept, *value)]).value("news2.last.24h"), *points, "{concept} {value}");
        }
    }
    let unknown = after(None, &[(0, "gcs", 9.0)]);
    assert!(unknown.value("news2.last.24h").is_nan(), "of nothing there is no score");
    // The worst of the day, while the last is what it is now.
    let better = after(None, &[(0, "heart_rate", 150.0), (5, "heart_rate", 80.0)]);
    assert_eq!((better.value("news2.max.24h"), better.value("news2.last.24h")), (3.0, 0.0));
}

#[test]
fn organ_scores_are_those_of_their_sources() {
    let run = after(
        None,
        &[
            (0, "pao2", 80.0),
            (0, "fio2", 0.5),
            (1, "peep", 5.0),
            (1, "platelets", 90.0),
            (1, "bilirubin", 1.2),
            (2, "mean_bp", 65.0),
            (3, "norepinephrine_rate", 0.1),
            (3, "gcs", 13.0),
            (3, "creatinine", 3.5),
        ],
    );
    let of = |name: &str| run.value(&format!("sofa_{name}.max.24h"));
    assert_eq!(of("respiration"), 3.0, "160 with support");
    assert_eq!((of("coagulation"), of("liver"), of("cardiovascular")), (2.0, 1.0, 3.0));
    assert_eq!((of("cns"), of("renal")), (1.0, 3.0));
    assert_eq!(run.value("sofa.24h"), 13.0);
    close(run.value("pf_ratio.last.24h"), 160.0);
    let drug = after(None, &[(0, "mean_bp", 80.0), (1, "drug_vasopressor", 1.0)]);
    assert_eq!(drug.value("sofa_cardiovascular.last.24h"), 3.0, "a vasopressor of unknown rate");
    // Without a day of urine only creatinine counts; with it, its sum does.
    let dry = |hours: i64| {
        let values: Vec<_> = (0..=hours).map(|hour| (hour, "urine_output", 10.0)).collect();
        after(None, &values).value("sofa_renal.last.24h")
    };
    assert!(dry(23).is_nan());
    assert_eq!(dry(24), 3.0, "240 mL in 24 h");
}

#[test]
fn the_filtration_rate_is_that_of_ckd_epi_2021() {
    let egfr = |sex, years, creatinine| {
        after(Some((sex, years)), &[(0, "creatinine", creatinine)]).value("egfr_2021.last.24h")
    };
    // Computed from the equation of the source with Python.
    close(egfr("GENDER//F", 48, 1.0), EGFR[0]);
    close(egfr("GENDER//M", 60, 1.2), EGFR[1]);
    close(egfr("GENDER//F", 80, 0.5), EGFR[2]);
    assert!(egfr("GENDER//M", 12, 1.0).is_nan(), "not of children");
    assert!(after(None, &[(0, "creatinine", 1.0)]).value("egfr_2021.last.24h").is_nan(), "nor of nobody known");
    let gap = after(None, &[(0, "sodium", 140.0), (0, "chloride", 100.0), (1, "bicarbonate", 14.0)]);
    assert_eq!(gap.value("anion_gap_calculated.last.24h"), 26.0);
}

const EGFR: [f64; 3] = [69.492532772, 69.231124266, 94.755648066];

/// Who is told of later as if it had been known before.
#[test]
fn what_comes_late_changes_what_follows_from_it() {
    let spec = Arc::new(parse(FEATURES, &UNITS).unwrap());
    let mut run = Run { fold: Fold::new(Arc::clone(&spec), vec![trigger("on = [\"NOW\"]")]), spec, due: Due::new() };
    let value = |concept, hour: i64, value, key| {
        let of = event("X", hour * HOUR, key);
        EventRef { numeric_value: Some(value), concept: Some(concept), recorded_at: 20 * HOUR, ..of }
    };
    run.apply(value("creatinine", 1, 1.0, 1));
    run.apply(event("NOW", 20 * HOUR, 50));
    assert!(run.value("egfr_2021.last.24h").is_nan());
    run.apply(event("GENDER//F", 20 * HOUR, 2));
    run.apply(birth(-48 * 1461 / 4 * DAY, 20 * HOUR, 3));
    run.apply(event("NOW", 21 * HOUR, 51));
    close(run.value("egfr_2021.last.24h"), EGFR[0]);
    run.apply(value("systolic_bp", 6, 100.0, 4));
    run.apply(value("heart_rate", 7, 120.0, 5));
    run.apply(event("NOW", 22 * HOUR, 52));
    close(run.value("shock_index.last.24h"), f64::from(1.2_f32));
    run.apply(retract(value("systolic_bp", 6, 100.0, 4), 22 * HOUR));
    run.apply(event("NOW", 23 * HOUR, 53));
    assert!(run.value("shock_index.last.24h").is_nan());
    assert_eq!(run.observed("news2.last.24h"), 7 * HOUR);
}

#[test]
fn a_site_that_has_not_what_a_score_needs_is_told_so() {
    let problems = |units: &[(&str, &str)], toml: &str| -> Vec<String> {
        parse(toml, units).unwrap_err().iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect()
    };
    let found = problems(&[("heart_rate", "/min"), ("systolic_bp", "kPa")], "derive = [\"shock_index\", \"mews\"]");
    assert!(found[0].contains("'shock_index' needs 'systolic_bp' in mm[Hg], not in kPa"), "{found:?}");
    assert!(found[1].starts_with("derive: holds 'mews'"), "{found:?}");
    let toml = r#"
        derive = "*"
        [[derived]]
        name = "news2"
        formula = "1"
        [[derived]]
        name = "heart_rate"
        formula = "1"
        [[derived]]
        name = "later"
        formula = "last * 2"
        [[derived]]
        name = "last"
        formula = "heart_rate +"
        within = "soon"
        [[derived]]
        name = "odd"
        formula = "heart_rate"
        inputs = { pulse = { aggregate = "mode", colour = 1 } }
        [[feature]]
        name = "Up"
        formula = "\"below\" + 1"
        [[feature]]
        concepts = ["news2"]
        windows = ["8h"]
        aggregates = ["last"]
        [[feature]]
        concepts = ["lactate"]
        categories = ["a"]
        windows = ["8h"]
        aggregates = ["mean"]
    "#;
    let found = problems(&UNITS, toml);
    let keys: Vec<&str> = found.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    let expected = [
        "derived[0].name",
        "derived[1].name",
        "derived[2].formula",
        "derived[3].formula",
        "derived[4].inputs.pulse.colour",
        "derived[4].inputs.pulse",
        "derived[4].inputs.pulse.aggregate",
        "feature[0].name",
        "feature[0].formula",
        "feature[2].aggregates",
    ];
    assert_eq!(keys, expected, "{found:#?}");
}

#[test]
fn every_feature_is_described() {
    let spec = parse(FEATURES, &UNITS).unwrap();
    let all = spec.describe();
    assert_eq!(all.len(), spec.len());
    assert!(all.iter().all(|one| !one.meaning.is_empty()));
    let index = all.iter().find(|one| one.feature == "shock_index.max.24h").unwrap();
    assert_eq!(index.concepts, ["heart_rate", "systolic_bp"]);
    assert_eq!(index.meaning, "greatest value of shock_index in the 1 d before the prediction");
    assert_eq!(
        index.formula.as_deref().unwrap(),
        "Shock index = heart_rate / systolic_bp (heart_rate: last within 2 h, systolic_bp: last within 2 h)"
    );
    assert!(index.source.as_deref().unwrap().contains("Allgower"));
    let sofa = all.last().unwrap();
    assert!(sofa.concepts.contains(&"platelets".to_owned()) && sofa.formula.is_some());

    let grid = "[grid]\nconcepts = [\"heart_rate\", \"shock_index\"]\nhours = 6\n";
    let with_grid = parse(&format!("{FEATURES}\n{grid}"), &UNITS).unwrap();
    let (count, all) = (all.len(), with_grid.describe());
    assert_eq!((all.len(), with_grid.len()), (count + 2, count + 12), "one a concept, not one an hour");
    let [heart_rate, index] = &all[count..] else { panic!("two") };
    assert_eq!(heart_rate.feature, "grid.heart_rate.-05h to grid.heart_rate.-00h");
    assert_eq!((heart_rate.unit.as_str(), heart_rate.concepts.len()), ("/min", 1));
    assert!(heart_rate.meaning.starts_with("last value of heart_rate in each of the 6 hours"));
    assert!(index.formula.is_some() && index.concepts == ["heart_rate", "systolic_bp"]);
}
