//! A model from outside: what XGBoost and shap say of a classifier that XGBoost fitted and saved, and what a bundle
//! says that imported it. `tests/benches/models_reference.py fixture` wrote model, rows and values; the rows have gaps
//! of every kind, and values on and just below the thresholds.

use super::*;

const MODEL: &[u8] = include_bytes!("../../../tests/fixtures/xgboost/model.json");
const ROWS: &str = include_str!("../../../tests/fixtures/xgboost/rows.csv");
const XGBOOST: &str = include_str!("../../../tests/fixtures/xgboost/xgboost.csv");
const SHAP: &str = include_str!("../../../tests/fixtures/xgboost/shap.csv");

/// Header and rows of a fixture; no cell holds a comma.
fn cells(text: &'static str) -> (Vec<String>, Vec<Vec<&'static str>>) {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap().into_iter().map(str::to_owned).collect();
    (header, lines.collect())
}

fn imported() -> (Bundle, Vec<Vec<f32>>) {
    let (names, rows) = cells(ROWS);
    let number = |cell: &str| if cell.is_empty() { f32::NAN } else { cell.parse().unwrap() };
    let rows = rows.into_iter().map(|row| row.into_iter().map(number).collect()).collect();
    (Bundle::import_xgboost(MODEL, "theirs", names, "spec", 0.5, 0).unwrap(), rows)
}

/// What is said of a row, in margin space.
struct Said {
    margin: f64,
    contributions: Vec<f64>,
    base: f64,
}

fn said(text: &'static str, names: &[String]) -> Vec<Said> {
    let (header, rows) = cells(text);
    assert_eq!(
        (header[0].as_str(), &header[1..=names.len()], header[names.len() + 1].as_str()),
        ("margin", names, "base")
    );
    let number = |cell: &&str| cell.parse::<f64>().unwrap();
    let of = |row: Vec<&str>| Said {
        margin: number(&row[0]),
        contributions: row[1..=names.len()].iter().map(number).collect(),
        base: number(&row[names.len() + 1]),
    };
    rows.into_iter().map(of).collect()
}

/// shap computes in double precision: its margins are the sums of the leaves, its SHAP values within 2.4e-8 of
/// Shapley's formula (it takes a child's hessians over its parent's, a rounded sum, where we take both children's).
#[test]
fn an_imported_model_says_what_shap_says() {
    let (bundle, rows) = imported();
    let theirs = said(SHAP, &bundle.card.features);
    assert_eq!((rows.len(), theirs.len()), (60, 60));
    for (row, want) in rows.iter().zip(theirs) {
        let margin = bundle.margins(row).unwrap()[0];
        assert!((margin - want.margin).abs() < 1e-6, "{margin} {}", want.margin);
        let Attribution { base, contributions, error } = bundle.attribution(row);
        assert_eq!(error, None);
        assert!((base - want.base).abs() < 1e-6, "{base} {}", want.base);
        for (found, want) in contributions.iter().zip(&want.contributions) {
            assert!((found - want).abs() < 1e-6, "{found} {want}");
        }
        // The same in probability space, where a model that came without calibration has the sigmoid.
        let explanation = bundle.explain(row).unwrap();
        let (risk, expected) = (sigmoid(want.margin), sigmoid(want.base));
        assert!((explanation.risk - risk).abs() < 1e-6 && (explanation.base - expected).abs() < 1e-6);
        let factor = (risk - expected) / (want.margin - want.base);
        for (found, want) in explanation.contributions.iter().zip(want.contributions) {
            assert!((found - want * factor).abs() < 1e-6, "{found} {}", want * factor);
        }
    }
}

/// XGBoost adds up in single precision. Its SHAP values are within 3.5e-7 of Shapley's formula, but the margin of one
/// row of the 60, about -5, misses the sum of its own leaves by 1.3e-6; its risk does not.
#[test]
fn an_imported_model_says_what_xgboost_says() {
    let (bundle, rows) = imported();
    let theirs = said(XGBOOST, &bundle.card.features);
    assert_eq!(theirs.len(), rows.len());
    for (row, want) in rows.iter().zip(theirs) {
        let margin = bundle.margins(row).unwrap()[0];
        assert!((margin - want.margin).abs() < 2e-6, "{margin} {}", want.margin);
        assert!((score(&bundle, row)[0] - sigmoid(want.margin)).abs() < 1e-6);
        let Attribution { base, contributions, .. } = bundle.attribution(row);
        assert!((base - want.base).abs() < 1e-6, "{base} {}", want.base);
        for (found, want) in contributions.iter().zip(want.contributions) {
            assert!((found - want).abs() < 1e-6, "{found} {want}");
        }
    }
}
