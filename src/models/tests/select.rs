//! Bundles that read some of the columns.

use proptest::prelude::*;

use super::*;

/// The columns of the problem, then a constant, one that is never known, and one that says something of three rows.
const ALL: usize = FEATURES + 3;

/// The columns that the outcome depends on.
const TOLD: [usize; 4] = [0, 1, 2, 4];

fn wide(seed: u64, rows: usize) -> (Matrix, Vec<bool>) {
    let (narrow, labels) = problem(seed, rows, true);
    let mut x = Matrix::new(ALL);
    for row in 0..rows {
        let few = f32::from(u8::from(row % (rows / 3) == 1));
        let values: Vec<f32> = narrow.row(row).iter().copied().chain([7.0, f32::NAN, few]).collect();
        x.push_row(&values).unwrap();
    }
    (x, labels)
}

fn asked(family: Family, rare: Option<usize>, most: Option<usize>) -> FitSpec {
    let mut spec = FitSpec { select: Some(Select { rare, most }), ..spec(family, ALL) };
    (spec.params.boosting.eta, spec.params.boosting.rounds) = (0.1, 100);
    spec.params.hazard = spec.params.boosting.clone();
    (spec.params.mlp.rate, spec.params.mlp.epochs) = (2e-3, 20);
    (spec.params.forest.trees, spec.params.stack.folds) = (20, 2);
    spec
}

fn fit(spec: FitSpec) -> Bundle {
    let ((train, y), (tuning, tuning_y)) = (wide(1, 1_500), wide(2, 500));
    Bundle::fit(spec, &train, &y, &tuning, &tuning_y).unwrap()
}

/// One bundle a family that selects.
static SELECTED: LazyLock<Vec<Bundle>> = LazyLock::new(|| {
    let families = FAMILIES.iter().copied().filter(|family| !matches!(family, Family::Bedside | Family::Text));
    families.map(|family| fit(asked(family, Some(5), Some(4)))).collect()
});

#[test]
fn every_family_keeps_what_tells() {
    let (fresh, y) = wide(3, 1_000);
    for bundle in SELECTED.iter() {
        let Card { family, selected, found, features, usual, .. } = &bundle.card;
        assert_eq!(selected.as_ref().unwrap().kept(), TOLD, "{family}");
        assert_eq!((found["features_kept"], features.len(), usual.len()), (4.0, ALL, ALL));
        assert_eq!((usual[10], usual[11]), (Some(7.0), None), "of those left out, too");
        assert_eq!(bundle.model_features(), TOLD.map(|column| names(ALL)[column].clone()));
        let area = auroc(&score(bundle, fresh.values()), &y);
        assert!(area > bounds(*family)[0] - 0.03, "{family}: {area}");
    }
    let rare = fit(asked(Family::Logistic, Some(5), None));
    assert_eq!(rare.card.selected.unwrap().kept(), (0..FEATURES).collect::<Vec<_>>());
}

/// A selection is nothing but a narrower matrix.
#[test]
fn the_kept_columns_alone_give_the_same_bits() {
    let (tuning, tuning_y) = wide(2, 500);
    let (train, y) = wide(1, 1_500);
    let (narrow, narrow_tuning) = (train.columns_at(&TOLD), tuning.columns_at(&TOLD));
    let (fresh, _) = wide(4, 300);
    let narrow_fresh = fresh.columns_at(&TOLD);
    for bundle in SELECTED.iter() {
        let family = bundle.card.family;
        let features = TOLD.map(|column| names(ALL)[column].clone()).to_vec();
        let spec = FitSpec { select: None, features, ..asked(family, None, None) };
        let alone = Bundle::fit(spec, &narrow, &y, &narrow_tuning, &tuning_y).unwrap();
        let (files, of_alone) = (bundle.to_files().unwrap().0, alone.to_files().unwrap().0);
        for file in ["preprocess.json", "model.json"] {
            assert_eq!(files[file], of_alone[file], "{family}");
        }
        assert_eq!(bits(&score(bundle, fresh.values())), bits(&score(&alone, narrow_fresh.values())), "{family}");
        assert_eq!(bundle.threshold(), alone.threshold());
        for row in 0..20 {
            let (all, few) = (bundle.explain(fresh.row(row)).unwrap(), alone.explain(narrow_fresh.row(row)).unwrap());
            assert_eq!((all.base, all.risk, all.error), (few.base, few.risk, few.error), "{family}");
            let mut want = vec![0.0; ALL];
            TOLD.iter().zip(few.contributions).for_each(|(&column, part)| want[column] = part);
            assert_eq!(all.contributions, want, "{family}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn invariant_10_holds_for_a_selection_and_a_row_has_its_bits_in_every_batch(
        rows in prop::collection::vec((any_row(), any_row()), 1..80),
    ) {
        let rows: Vec<Vec<f32>> =
            rows.into_iter().map(|(row, more)| row.into_iter().chain(more).take(ALL).collect()).collect();
        let flat: Vec<f32> = rows.iter().flatten().copied().collect();
        for bundle in SELECTED.iter() {
            let explanation = bundle.explain(&rows[0]).unwrap();
            let sum = explanation.contributions.iter().fold(explanation.base, |sum, part| sum + part);
            prop_assert!((sum - explanation.risk).abs() < 1e-12, "{}: {sum}", bundle.card.family);
            prop_assert_eq!(explanation.contributions.len(), ALL);
            prop_assert!((0..ALL).all(|i| TOLD.contains(&i) || explanation.contributions[i] == 0.0), "{explanation:?}");
            let alone: Vec<f64> = rows.iter().map(|row| score(bundle, row)[0]).collect();
            prop_assert_eq!(explanation.risk.to_bits(), alone[0].to_bits());
            prop_assert_eq!(bits(&score(bundle, &flat)), bits(&alone));
        }
    }
}

#[test]
fn a_loaded_selection_gives_the_same_bits() {
    let (x, _) = wide(4, 200);
    for bundle in SELECTED.iter() {
        let loaded = Bundle::from_files(&bundle.to_files().unwrap().0).unwrap();
        assert_eq!(loaded.card, bundle.card);
        assert_eq!(bits(&score(&loaded, x.values())), bits(&score(bundle, x.values())), "{}", bundle.card.family);
        assert_eq!(loaded.explain(x.row(0)).unwrap(), bundle.explain(x.row(0)).unwrap());
        assert_eq!(loaded.to_files().unwrap(), bundle.to_files().unwrap());
    }
}

#[test]
fn where_nothing_is_left_out_the_bundle_is_that_without_a_selection() {
    let whole = fit(FitSpec { select: None, ..asked(Family::Logistic, None, None) });
    let all = fit(asked(Family::Logistic, None, Some(1_000)));
    assert_eq!((&all.card.selected, all.card.found["features_kept"]), (&None, ALL as f64));
    let (of_whole, of_all) = (whole.to_files().unwrap().0, all.to_files().unwrap().0);
    assert_eq!(
        (&of_whole["preprocess.json"], &of_whole["model.json"]),
        (&of_all["preprocess.json"], &of_all["model.json"])
    );
    // A card from before there were selections is of this kind.
    assert!(!String::from_utf8(of_whole["card.json"].clone()).unwrap().contains("selected"));
    assert!(!whole.card.found.contains_key("features_kept"));
}

/// Whoever looks for a column by its name has them all.
#[test]
fn a_family_that_needs_all_columns_is_left_whole() {
    let bedside = fit(asked(Family::Bedside, Some(5), Some(1)));
    assert!(bedside.card.selected.is_none() && !bedside.card.found.contains_key("features_kept"));
    let mut spec = asked(Family::Stack, Some(5), Some(1));
    assert!(Family::Stack.selects(&spec.params) && Family::Gru.selects(&spec.params));
    assert!(!Family::Onnx.selects(&spec.params) && !Family::Bedside.selects(&spec.params));
    spec.params.stack.members = vec![Family::Logistic, Family::Bedside];
    spec.params.bedside.feature = "feature_9".to_owned();
    assert!(fit(spec).card.selected.is_none());
}

#[test]
fn rows_of_which_every_column_is_rare_are_refused() {
    let (x, y) = wide(1, 90);
    for family in FAMILIES.iter().copied().filter(|family| !matches!(family, Family::Bedside | Family::Text)) {
        let error = Bundle::fit(asked(family, Some(91), Some(3)), &x, &y, &x, &y).unwrap_err().to_string();
        assert!(error.contains(&format!("the {family} model")) && error.contains("lower train.select.rare"), "{error}");
    }
    // 30 subjects of three rows.
    let groups = Some((0..90).map(|row| row / 3).collect());
    let spec = FitSpec { groups, ..asked(Family::Logistic, Some(31), None) };
    assert!(Bundle::fit(spec, &x, &y, &x, &y).unwrap_err().to_string().contains("fewer than 31 training subjects"));
    let error = Bundle::fit(asked(Family::Logistic, None, None), &x, &y, &x, &y).unwrap_err().to_string();
    assert!(error.contains("parameter select"), "{error}");
}

/// What a row lacks, and what is out of range, is judged by all its features.
#[test]
fn a_model_of_some_columns_abstains_by_all() {
    let abstain = Some(Abstain { error_rate: 0.1, too_little_data: true, novel: true });
    let bundle = fit(FitSpec { abstain, ..asked(Family::Logistic, Some(5), Some(4)) });
    assert_eq!(bundle.card.conformal.as_ref().unwrap().ranges.len(), ALL);
    let doubt = |row: &[f32]| assess(&bundle, row)[0].doubt;
    assert_eq!(doubt(&[f32::NAN; ALL]), Some(Doubt::TooLittleData));
    let mut strange = [1e6; ALL];
    TOLD.iter().for_each(|&column| strange[column] = 0.0);
    assert_eq!(doubt(&strange), Some(Doubt::Novel), "in columns that the model does not read");
}

/// A bundle whose card says that something else was selected, sealed again.
fn resealed(bundle: &Bundle, selected: serde_json::Value) -> Result<Bundle, ModelError> {
    let mut files = bundle.to_files().unwrap().0;
    let mut card: serde_json::Value = serde_json::from_slice(&files["card.json"]).unwrap();
    card["selected"] = selected;
    files.insert("card.json".to_owned(), serde_json::to_vec(&card).unwrap());
    let parts: files::Parts =
        ["card.json", "preprocess.json", "model.json"].into_iter().map(|name| (name, files[name].clone())).collect();
    files.insert("manifest.json".to_owned(), files::seal(&parts).unwrap().0);
    Bundle::from_files(&files)
}

#[test]
fn a_damaged_selection_is_refused_with_its_reason() {
    use serde_json::json;
    for bundle in SELECTED.iter() {
        let (family, width) = (bundle.card.family, ALL);
        assert!(resealed(bundle, json!(TOLD)).is_ok(), "{family}");
        for (selected, reason) in [
            (json!([]), "selects no feature"),
            (json!([0, 1, 2, width]), "a feature that is not there"),
            (json!([0, 1, 2, u64::MAX]), "a feature that is not there"),
            (json!([0, 2, 1, 4]), "do not ascend"),
            (json!([0, 1, 1, 4]), "do not ascend"),
            (json!([0, 1, 2]), "another number of features"),
            (json!([0, 1, 2, 3, 4]), "another number of features"),
            (json!(null), "another number of features"),
            (json!([0, -1]), "card.json"),
            (json!("all"), "card.json"),
        ] {
            let error = resealed(bundle, selected.clone()).unwrap_err();
            assert!(matches!(error, ModelError::Corrupt { .. }), "{family} {selected}: {error}");
            assert!(error.to_string().contains(reason), "{family} {selected}: {error}");
        }
    }
}

#[test]
fn a_selected_boosting_leaves_with_the_names_of_its_columns() {
    let bundle = SELECTED.iter().find(|bundle| bundle.card.family == Family::Boosting).unwrap();
    let (json, features) = (bundle.to_xgboost().unwrap(), bundle.model_features());
    let back = Bundle::import_xgboost(&json, "back", features, "spec", 0.5, 0).unwrap();
    let (x, _) = wide(8, 50);
    let narrow = x.columns_at(&TOLD);
    assert_eq!(back.margins(narrow.values()).unwrap(), bundle.margins(x.values()).unwrap());
}
