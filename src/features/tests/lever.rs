//! Other levels against the fold: the row is what the same events with other values would have made.

use super::super::Vector;
use super::*;
use crate::events::{DAY, HOUR};
use proptest::prelude::*;

/// Derived concepts over last values, over one that is derived itself, and over more than that.
const FEATURES: &str = r#"
    [[derived]]
    name = "ratio"
    formula = "CASE WHEN lactate > 1 THEN heart_rate / lactate END"
    within = "3h"
    [[derived]]
    name = "load"
    formula = "coalesce(ratio, 0) + coalesce(lactate, 0) * 2 + coalesce(sex, 0.5)"
    within = "ever"
    inputs.lactate = { within = "90min" }
    [[derived]]
    name = "total"
    formula = "ratio + dose"
    inputs.dose = { concept = "lactate", aggregate = "sum" }
    [[feature]]
    concepts = ["heart_rate", "lactate", "ratio", "load", "total"]
    windows = [WINDOWS]
    aggregates = ["last", "max", "count"]
    [[feature]]
    demographics = ["sex"]
    [[feature]]
    name = "twice"
    formula = "\"load.last.2h\" * 2"
"#;

/// A minute, whether it is a heart rate (else a lactate), and its value.
type Told = (i64, bool, u8);

/// The features at minute 400 after what was told.
fn after(windows: &str, told: &[Told]) -> Run {
    let mut run = Run::new(&FEATURES.replace("WINDOWS", windows), &["on = [\"NOW\"]"]);
    run.apply(event("GENDER//M", 0, 1_000));
    for (key, (minute, is_rate, value)) in (1..).zip(told) {
        let rate = heart_rate(f32::from(*value), minute * MINUTE, key);
        let lactate = EventRef { code: "LOINC//2524-7", unit: Some("mmol/L"), concept: Some("lactate"), ..rate };
        run.apply(if *is_rate { rate } else { lactate });
    }
    run.apply(event("NOW", 400 * MINUTE, 2_000));
    run
}

/// The last vector of a run.
fn vector(run: &Run) -> Vector<'_> {
    let last = run.due.rows.len() - 1;
    Vector { values: run.due.row(last), observed: run.due.observed_row(last), at: run.due.rows[last].time }
}

proptest! {
    #[test]
    fn last_values_are_what_the_fold_makes_of_events_with_other_values(
        told in prop::collection::vec((0i64..400, any::<bool>(), 0u8..9), 1..14),
        is_rate: bool,
        to in 0u8..9,
        windows in prop::sample::select(vec![r#""2h""#, r#""2h", "5h""#, r#""2h", "ever""#]),
    ) {
        let last = (0..told.len()).filter(|&i| told[i].1 == is_rate).max_by_key(|&i| (told[i].0, i));
        prop_assume!(last.is_some());
        let now = after(windows, &told);
        let levels = now.spec.levels(if is_rate { "heart_rate" } else { "lactate" }).unwrap();
        let (vector, mut row) = (vector(&now), Vec::new());
        // What is not known has no level to move from.
        prop_assume!(!levels.columns.iter().all(|&column| vector.values[column as usize].is_nan()));
        let unchanged = now.spec.with_levels(&vector, &[(&levels, f32::from(to))], &mut row);

        let mut other = told.clone();
        other[last.unwrap()].2 = to;
        let then = after(windows, &other);
        for (column, name) in now.spec.names().iter().enumerate() {
            let (of, rest) = name.split_once('.').unwrap_or(("load", ".last"));
            if rest.contains("last") && !unchanged.contains(&of) {
                let (got, want) = (row[column], then.due.row(0)[column]);
                prop_assert!(got == want || got.is_nan() && want.is_nan(), "{name}: {got} is not {want}");
            }
        }
        let is_other = |name: &str| now.value(name).to_bits() != then.value(name).to_bits();
        prop_assert!(!is_other("total.last.2h") || unchanged.contains(&"total"), "its sum is in no column");
    }
}

/// The features of a man of 60 after these values at the hours given, and `wait` hours later.
fn patient(values: &[(i64, &'static str, f32)], wait: i64) -> Run {
    let toml = r#"
        derive = ["shock_index", "news2", "egfr_2021", "pf_ratio"]
        [[derived]]
        name = "volume"
        formula = "systolic_bp + urine"
        inputs.urine = { concept = "urine_output", aggregate = "sum" }
        [[feature]]
        concepts = ["heart_rate", "systolic_bp", "respiratory_rate", "spo2", "temperature", "creatinine", "pao2"]
        windows = ["24h"]
        aggregates = ["last"]
        [[feature]]
        concepts = ["shock_index", "news2", "egfr_2021", "pf_ratio", "volume"]
        windows = ["24h"]
        aggregates = ["last", "max", "slope"]
        [[feature]]
        demographics = ["age", "sex"]
        [[feature]]
        name = "news2.doubled"
        formula = "\"news2.last.24h\" * 2"
    "#;
    let units = [
        ("heart_rate", "/min"),
        ("systolic_bp", "mm[Hg]"),
        ("respiratory_rate", "/min"),
        ("spo2", "%"),
        ("temperature", "Cel"),
        ("creatinine", "mg/dL"),
        ("pao2", "mm[Hg]"),
        ("fio2", "1"),
        ("urine_output", "mL"),
    ];
    let units = units.map(|(name, unit)| (name.to_owned(), unit.to_owned()));
    let spec = Arc::new(FeatureSpec::parse("features.toml", toml, &units.into()).unwrap());
    let fold = Fold::new(Arc::clone(&spec), vec![trigger("on = [\"NOW\"]")]);
    let mut run = Run { spec, fold, due: Due::new() };
    run.apply(event("GENDER//M", 0, 1_000));
    run.apply(birth(-60 * 365 * DAY, 0, 1_001));
    for (key, (hour, concept, value)) in (1..).zip(values) {
        let of = event("X", hour * HOUR, key);
        run.apply(EventRef { numeric_value: Some(*value), concept: Some(concept), ..of });
    }
    let last = values.iter().map(|(hour, ..)| *hour).max().unwrap_or(0);
    run.apply(event("NOW", (last + wait) * HOUR, 2_000));
    run
}

#[test]
fn scores_follow_the_vital_signs_they_are_made_of() {
    let values = [
        (0, "heart_rate", 95.0),
        (1, "systolic_bp", 105.0),
        (2, "heart_rate", 120.0),
        (2, "systolic_bp", 90.0),
        (2, "creatinine", 2.0),
    ];
    // No column tells of oxygen, nor later of a temperature of the day before: the score itself tells of none.
    for wait in [0, 5] {
        let run = patient(&values, wait);
        let (vector, mut row) = (vector(&run), Vec::new());
        let (rate, creatinine) = (run.spec.levels("heart_rate").unwrap(), run.spec.levels("creatinine").unwrap());
        assert_eq!((run.value("news2.last.24h"), run.value("news2.max.24h")), (5.0, 5.0));
        let levels = [(&rate, 81.0), (&creatinine, 1.0)];
        assert!(run.spec.with_levels(&vector, &levels, &mut row).is_empty());
        let other = |name: &str| row[run.spec.names().iter().position(|known| known == name).unwrap()];
        // 2 points of the heart rate are gone, 3 of the blood pressure stay.
        assert_eq!([other("news2.last.24h"), other("news2.max.24h"), other("news2.doubled")], [3.0, 3.0, 6.0]);
        assert_eq!((other("shock_index.last.24h"), other("shock_index.slope.24h")), (81.0 / 90.0, 0.0));
        let lower = patient(&[(0, "creatinine", 1.0)], 0);
        let (got, want) = (other("egfr_2021.last.24h"), lower.value("egfr_2021.last.24h"));
        assert!((got - want).abs() < 1e-3 * want, "{got} is not {want}");
        assert!(run.value("egfr_2021.last.24h") < 0.6 * want);
    }
}

#[test]
fn what_cannot_be_told_of_stays_and_is_named() {
    let values = [(1, "systolic_bp", 90.0), (1, "urine_output", 100.0), (1, "fio2", 0.5), (1, "pao2", 80.0)];
    let run = patient(&values, 0);
    let (vector, mut row) = (vector(&run), Vec::new());
    let column = |name: &str| run.spec.names().iter().position(|known| known == name).unwrap();
    let mut other = |concept: &str, derived: &str| {
        let levels = run.spec.levels(concept).unwrap();
        let unchanged = run.spec.with_levels(&vector, &[(&levels, 120.0)], &mut row);
        (unchanged, row[column(derived)])
    };
    // The fraction of oxygen is in no column, the sum of urine no last value, and there may be a shock index of before.
    let unchanged = vec!["shock_index", "news2", "volume"];
    assert_eq!(other("systolic_bp", "news2.last.24h"), (unchanged.clone(), 5.0));
    assert_eq!(other("systolic_bp", "volume.last.24h"), (unchanged, 190.0));
    assert_eq!(other("pao2", "pf_ratio.last.24h"), (vec!["pf_ratio"], 160.0));
}
