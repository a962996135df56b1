//! What every family must keep, tried on whole bundles.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::calibration::sigmoid;
use super::random::Random;
use super::*;

const FEATURES: usize = 10;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("feature_{i}")).collect()
}

/// Rows with gaps, and labels that depend on them: a sum of some columns, or a product of
/// two that no linear model sees, and on whether column 4 is there.
fn problem(seed: u64, rows: usize, linear: bool) -> (Matrix, Vec<bool>) {
    let mut random = Random::new(seed);
    let mut x = Matrix::new(FEATURES);
    let mut labels = Vec::new();
    for _ in 0..rows {
        let mut row: Vec<f32> = (0..FEATURES).map(|i| (random.unit() * 2.0 - 1.0) as f32 * (i + 1) as f32).collect();
        let at = |i: usize| f64::from(row[i]) / (i + 1) as f64;
        let gap = random.unit() < 0.3;
        let odds = if linear {
            3.0 * at(0) - 2.0 * at(1) + at(2) - 1.0
        } else {
            6.0 * at(0) * at(1) + 2.0 * f64::from(u8::from(at(3) > 0.2)) - 1.5
        } + if gap { 1.5 } else { 0.0 };
        labels.push(random.unit() < sigmoid(odds));
        if gap {
            row[4] = f32::NAN;
        }
        if random.unit() < 0.1 {
            row[5] = f32::NAN;
        }
        x.push_row(&row).unwrap();
    }
    (x, labels)
}

fn fit_on(family: Family, linear: bool) -> Bundle {
    let ((train, y), (tuning, tuning_y)) = (problem(1, 3_000, linear), problem(2, 800, linear));
    let mut spec = FitSpec::new(family, "test", names(FEATURES), "spec");
    spec.params.boosting.eta = 0.1;
    spec.params.forest.trees = 60;
    spec.params.mlp.rate = 2e-3;
    spec.params.logistic.alpha = 1.0;
    Bundle::fit(spec, &train, &y, &tuning, &tuning_y).unwrap()
}

/// One bundle a family, fitted once for all tests, on the problem that is not linear.
static BUNDLES: LazyLock<Vec<Bundle>> =
    LazyLock::new(|| Family::ALL.into_iter().map(|family| fit_on(family, false)).collect());

/// Area under the ROC curve by counting pairs.
fn auroc(risks: &[f64], labels: &[bool]) -> f64 {
    let (mut won, mut pairs) = (0.0, 0.0);
    for (p, _) in risks.iter().zip(labels).filter(|(_, label)| **label) {
        for (n, _) in risks.iter().zip(labels).filter(|(_, label)| !**label) {
            pairs += 1.0;
            won += if p > n {
                1.0
            } else if p == n {
                0.5
            } else {
                0.0
            };
        }
    }
    won / pairs
}

fn score(bundle: &Bundle, rows: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    bundle.score(rows, &mut out).unwrap();
    out
}

fn bits(risks: &[f64]) -> Vec<u64> {
    risks.iter().map(|risk| risk.to_bits()).collect()
}

/// Any row a daemon might meet: gaps, extremes, infinities.
fn any_row() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        6 => -12.0f32..12.0,
        2 => Just(f32::NAN),
        1 => prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::MAX), Just(f32::MIN), Just(-0.0f32)],
    ];
    prop::collection::vec(value, FEATURES)
}

#[test]
fn every_family_learns_what_it_can() {
    for (linear, bounds) in [(true, [0.85, 0.82, 0.83, 0.84]), (false, [0.60, 0.76, 0.80, 0.80])] {
        let (held, y) = problem(3, 2_000, linear);
        for (family, bound) in Family::ALL.into_iter().zip(bounds) {
            let bundle = fit_on(family, linear);
            let risks = score(&bundle, held.values());
            let (area, mean) = (auroc(&risks, &y), risks.iter().sum::<f64>() / risks.len() as f64);
            let prevalence = y.iter().filter(|&&label| label).count() as f64 / y.len() as f64;
            println!("{family} linear={linear} auroc={area:.4} mean={mean:.3}/{prevalence:.3} {:?}", bundle.card.found);
            assert!(area > bound, "{family} linear={linear}: {area}");
            assert!((mean - prevalence).abs() < 0.05, "{family} is not calibrated");
            assert!((0.05..0.95).contains(&bundle.threshold()));
        }
    }
}

proptest! {
    #[test]
    fn invariant_10_contributions_add_up(row in any_row()) {
        for bundle in BUNDLES.iter() {
            let explanation = bundle.explain(&row).unwrap();
            let sum = explanation.contributions.iter().fold(explanation.base, |sum, part| sum + part);
            prop_assert!((sum - explanation.risk).abs() < 1e-12, "{}: {sum}", bundle.card.family);
            prop_assert_eq!(explanation.risk.to_bits(), score(bundle, &row)[0].to_bits());
            prop_assert_eq!(explanation.contributions.len(), FEATURES);
            prop_assert!((0.0..=1.0).contains(&explanation.risk));
            prop_assert!(explanation.contributions.iter().all(|part| part.is_finite()), "{explanation:?}");
        }
    }

    #[test]
    fn a_row_alone_and_in_a_batch_has_the_same_bits(rows in prop::collection::vec(any_row(), 1..140)) {
        let flat: Vec<f32> = rows.iter().flatten().copied().collect();
        for bundle in BUNDLES.iter() {
            let batch = score(bundle, &flat);
            let alone: Vec<f64> = rows.iter().map(|row| score(bundle, row)[0]).collect();
            prop_assert_eq!(bits(&batch), bits(&alone));
        }
    }
}

#[test]
fn the_contributions_of_a_margin_add_up_before_rounding_is_shared_out() {
    let (x, _) = problem(9, 200, false);
    for bundle in BUNDLES.iter() {
        for row in 0..x.rows() {
            let margin = bundle.margins(x.row(row)).unwrap()[0];
            let Attribution { base, contributions } = bundle.attribution(x.row(row));
            let sum = base + contributions.iter().sum::<f64>();
            assert!((sum - margin).abs() < 1e-10, "{}: {sum} {margin}", bundle.card.family);
        }
    }
}

#[test]
fn a_load_gives_the_same_bits() {
    let (x, _) = problem(4, 500, false);
    for bundle in BUNDLES.iter() {
        let folder = tempfile::tempdir().unwrap();
        let hash = bundle.save(folder.path()).unwrap();
        let loaded = Bundle::load(folder.path()).unwrap();
        assert_eq!(loaded.card, bundle.card);
        assert_eq!(bits(&score(&loaded, x.values())), bits(&score(bundle, x.values())), "{}", bundle.card.family);
        assert_eq!(loaded.explain(x.row(0)).unwrap(), bundle.explain(x.row(0)).unwrap());
        let (files, same) = loaded.to_files().unwrap();
        assert_eq!((hash.len(), hash), (64, same));
        assert_eq!(Bundle::from_files(&files).unwrap().card, bundle.card);
    }
}

#[test]
fn the_same_fit_gives_the_same_bundle() {
    for family in Family::ALL {
        let [a, b] = [(); 2].map(|()| fit_on(family, true).to_files().unwrap().1);
        assert_eq!(a, b, "{family}");
    }
}

fn saved(family: Family) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    BUNDLES.iter().find(|bundle| bundle.card.family == family).unwrap().save(folder.path()).unwrap();
    folder
}

fn edit(folder: &Path, file: &str, change: impl Fn(String) -> String) {
    let path = folder.join(file);
    std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap())).unwrap();
}

#[test]
fn a_changed_or_missing_file_is_refused() {
    for file in ["card.json", "preprocess.json", "model.json"] {
        let folder = saved(Family::Logistic);
        edit(folder.path(), file, |text| text + " ");
        let error = Bundle::load(folder.path()).unwrap_err();
        assert!(matches!(error, ModelError::Hash { file: found } if found == file), "{error}");
        std::fs::remove_file(folder.path().join(file)).unwrap();
        assert!(matches!(Bundle::load(folder.path()), Err(ModelError::Missing { file: found }) if found == file));
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Bundle::load(empty.path()), Err(ModelError::Missing { file: "manifest.json" })));
}

#[test]
fn a_forged_manifest_is_refused() {
    let folder = saved(Family::Mlp);
    let forged = |from: &str, to: &str| {
        let folder = saved(Family::Mlp);
        edit(folder.path(), "manifest.json", |text| text.replace(from, to));
        Bundle::load(folder.path()).unwrap_err()
    };
    assert!(matches!(forged("\"format\": 1", "\"format\": 2"), ModelError::Format { found: 2, supported: 1 }));
    assert!(matches!(forged("model.json", "../../etc/passwd"), ModelError::Corrupt { file: "manifest.json", .. }));
    assert!(matches!(forged("\"files\"", "\"flies\""), ModelError::Corrupt { file: "manifest.json", .. }));
    edit(folder.path(), "manifest.json", |_| " ".repeat(1 << 17));
    assert!(matches!(Bundle::load(folder.path()), Err(ModelError::TooLarge { file: "manifest.json", .. })));
}

/// Re-seals a bundle whose parts were swapped, so that only the contents can betray it.
fn resealed(take: Family, model_of: Family, change: impl Fn(&str, String) -> String) -> Result<Bundle, ModelError> {
    let files =
        |family: Family| BUNDLES.iter().find(|bundle| bundle.card.family == family).unwrap().to_files().unwrap().0;
    let mut parts = files::Parts::new();
    for (name, source) in [("card.json", take), ("preprocess.json", take), ("model.json", model_of)] {
        let text = String::from_utf8(files(source)[name].clone()).unwrap();
        parts.insert(name, change(name, text).into_bytes());
    }
    let (manifest, _) = files::seal(&parts).unwrap();
    let mut all: std::collections::BTreeMap<String, Vec<u8>> =
        parts.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    all.insert("manifest.json".to_owned(), manifest);
    Bundle::from_files(&all)
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    for take in Family::ALL {
        assert!(resealed(take, take, |_, text| text).is_ok());
        for model_of in Family::ALL {
            if take != model_of {
                let error = resealed(take, model_of, |_, text| text).unwrap_err();
                assert!(matches!(error, ModelError::Corrupt { .. }), "{take} with {model_of}: {error}");
            }
        }
    }
    let error = resealed(Family::Logistic, Family::Logistic, |name, text| match name {
        "card.json" => text.replace("\"feature_9\"", "\"feature_8\""),
        _ => text,
    });
    assert!(matches!(error, Err(ModelError::Features { .. })));
    let error = resealed(Family::Logistic, Family::Logistic, |name, text| match name {
        "preprocess.json" => format!("{{\"kind\":\"raw\",\"features\":{FEATURES}}}"),
        _ => text,
    });
    assert!(matches!(error, Err(ModelError::Corrupt { file: "preprocess.json", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_byte_flip_in_a_resealed_model_crashes(at: prop::sample::Index, byte: u8, family in 0usize..4) {
        let family = Family::ALL[family];
        let result = resealed(family, family, |name, text| match name {
            "model.json" => {
                let mut bytes = text.into_bytes();
                let at = at.index(bytes.len());
                bytes[at] = b' ' + byte % 95;
                String::from_utf8(bytes).unwrap()
            }
            _ => text,
        });
        // Either refused, or a model whose risks are still risks.
        if let Ok(bundle) = result {
            let (x, _) = problem(5, 20, false);
            prop_assert!(score(&bundle, x.values()).iter().all(|risk| (0.0..=1.0).contains(risk)));
            bundle.explain(x.row(0)).unwrap();
        }
    }
}

#[test]
fn rows_nothing_can_be_learned_from_are_refused() {
    let (x, y) = problem(1, 60, true);
    for family in Family::ALL {
        let fit = |train: &Matrix, y: &[bool], tuning: &Matrix, tuning_y: &[bool]| {
            let spec = FitSpec::new(family, "test", names(FEATURES), "spec");
            Bundle::fit(spec, train, y, tuning, tuning_y).unwrap_err().to_string()
        };
        assert!(fit(&x, &[true; 60], &x, &y).contains("training labels are all true"));
        assert!(fit(&x, &y, &x, &[false; 60]).contains("tuning labels are all false"));
        assert!(fit(&Matrix::new(FEATURES), &[], &x, &y).contains("no rows"));
        assert!(fit(&x, &y[1..], &x, &y).contains("59 labels"));
        assert!(fit(&x, &y, &Matrix::new(3), &[]).contains("whole rows"));
        let mut infinite = x.clone();
        infinite.push_row(&[0.0, f32::INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
        let more: Vec<bool> = y.iter().copied().chain([true]).collect();
        assert!(fit(&infinite, &more, &x, &y).contains("'feature_1' of the training matrix"));
    }
    let mut spec = FitSpec::new(Family::Forest, "test", names(FEATURES), "spec");
    spec.groups = Some(vec![1, 2]);
    assert!(matches!(Bundle::fit(spec, &x, &y, &x, &y), Err(ModelError::Lengths { what: "groups", .. })));
    let mut twice = names(FEATURES);
    twice[0] = "feature_3".to_owned();
    let spec = FitSpec::new(Family::Forest, "test", twice, "spec");
    assert!(matches!(Bundle::fit(spec, &x, &y, &x, &y), Err(ModelError::Features { .. })));
}

#[test]
fn tiny_and_empty_columns_are_no_trouble() {
    // Four rows, a constant, an always-missing and a useful column.
    let mut x = Matrix::new(3);
    for value in [0.0, 1.0, 2.0, 3.0] {
        x.push_row(&[5.0, f32::NAN, value]).unwrap();
    }
    let y = [false, false, true, true];
    for family in Family::ALL {
        let spec = FitSpec::new(family, "tiny", names(3), "spec");
        let bundle = Bundle::fit(spec, &x, &y, &x, &y).unwrap();
        let risks = score(&bundle, x.values());
        assert!(risks.iter().all(|risk| (0.0..=1.0).contains(risk)), "{family}: {risks:?}");
        bundle.explain(&[f32::NAN; 3]).unwrap();
    }
}

#[test]
fn a_row_of_another_width_is_refused() {
    let bundle = &BUNDLES[0];
    let mut out = vec![0.25];
    assert!(matches!(bundle.score(&[0.0; 9], &mut out), Err(ModelError::Columns { expected: 10, found: 9 })));
    assert!(bundle.explain(&[0.0; 20]).is_err());
    bundle.score(&[], &mut out).unwrap();
    assert!(out.is_empty());
}

#[test]
fn an_xgboost_model_comes_in_and_goes_round() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/peers/model.json");
    let Ok(json) = std::fs::read(path) else {
        println!("skipped: no {path}");
        return;
    };
    let import = |features| Bundle::import_xgboost(&json, "ward", features, "spec", 0.4, 7);
    let bundle = import(names(188)).unwrap();
    assert_eq!((bundle.threshold(), bundle.card.created_at), (0.4, 7));
    assert!(matches!(import(names(3)), Err(ModelError::Import { .. })));
    let mut random = Random::new(6);
    let rows: Vec<f32> =
        (0..188 * 200).map(|_| if random.unit() < 0.3 { f32::NAN } else { (random.unit() * 150.0) as f32 }).collect();
    let loaded = Bundle::from_files(&bundle.to_files().unwrap().0).unwrap();
    assert_eq!(bits(&score(&loaded, &rows)), bits(&score(&bundle, &rows)));
    for row in rows.chunks(188).take(50) {
        let explanation = bundle.explain(row).unwrap();
        let sum = explanation.base + explanation.contributions.iter().sum::<f64>();
        assert!((sum - explanation.risk).abs() < 1e-12);
    }
}

#[test]
fn imported_feature_names_must_be_those_of_the_rows() {
    let json = br#"{"learner":{"feature_names":["a","b"]}}"#;
    let error = Bundle::import_xgboost(json, "m", names(2), "s", 0.5, 0).unwrap_err();
    assert!(error.to_string().contains("feature names"), "{error}");
}

#[test]
fn words_and_families_go_both_ways() {
    for family in Family::ALL {
        assert_eq!(Family::parse(family.as_str()), Some(family));
        assert_eq!(serde_json::to_string(&family).unwrap(), format!("\"{family}\""));
    }
    assert_eq!(Family::parse("boost"), None);
}
