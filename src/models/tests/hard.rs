//! Rows that nothing or little can be learned from.

use super::*;

#[test]
fn rows_nothing_can_be_learned_from_are_refused() {
    let (x, y) = problem(1, 60, true);
    for family in FAMILIES.iter().copied() {
        let fit = |train: &Matrix, y: &[bool], tuning: &Matrix, tuning_y: &[bool]| {
            Bundle::fit(spec(family, FEATURES), train, y, tuning, tuning_y).unwrap_err().to_string()
        };
        assert!(fit(&x, &[true; 60], &x, &y).contains("training labels are all true"));
        assert!(fit(&x, &y, &x, &[false; 60]).contains("tuning labels are all false"));
        assert!(fit(&Matrix::new(FEATURES), &[], &x, &y).contains("no rows"));
        assert!(fit(&x, &y[1..], &x, &y).contains("59 labels"));
        assert!(fit(&x, &y, &Matrix::new(3), &[]).contains("whole rows"));
        let mut infinite = x.clone();
        infinite.push_row(&[0.0, f32::INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
        let more: Vec<bool> = y.iter().copied().chain([true]).collect();
        let name = &spec(family, FEATURES).features[1];
        assert!(fit(&infinite, &more, &x, &y).contains(&format!("'{name}' of the training matrix")));
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
    let tiny = |family: Family| {
        let mut spec = spec(family, 3);
        spec.params.bedside.feature = "feature_2".to_owned();
        spec
    };
    for family in FAMILIES.iter().copied() {
        let bundle = Bundle::fit(tiny(family), &x, &y, &x, &y).unwrap();
        let risks = score(&bundle, x.values());
        assert!(risks.iter().all(|risk| (0.0..=1.0).contains(risk)), "{family}: {risks:?}");
        bundle.explain(&[f32::NAN; 3]).unwrap();
    }
}

/// Scores and explains rows that no training row is like; whatever they hold, a risk is a
/// risk, and its explanation is finite and adds up.
fn check_risks(bundle: &Bundle, width: usize) {
    let extremes =
        [f32::NAN, 0.0, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE];
    let mut rows: Vec<Vec<f32>> = extremes.iter().map(|&value| vec![value; width]).collect();
    rows.push((0..width).map(|i| extremes[i % extremes.len()]).collect());
    for row in rows {
        let (risk, explanation) = (score(bundle, &row)[0], bundle.explain(&row).unwrap());
        let sum = explanation.base + explanation.contributions.iter().sum::<f64>();
        let family = bundle.card.family;
        assert!((0.0..=1.0).contains(&risk), "{family}: {risk} of {row:?}");
        assert!((sum - risk).abs() < 1e-9, "{family}: {sum} is not {risk} of {row:?}");
        assert!(explanation.error.is_none_or(|error| error.is_finite() && error >= 0.0), "{family}");
    }
}

#[test]
fn hard_training_rows_give_a_model_that_scores_or_a_reason() {
    let (usual, usual_y) = problem(7, 200, true);
    let pick = |rows: usize| (usual.pick(&(0..rows).collect::<Vec<_>>()), usual_y[..rows].to_vec());
    // Each with a column changed in some rows, which are few or many.
    let changed = |change: &dyn Fn(usize, &mut [f32])| {
        let mut x = Matrix::new(FEATURES);
        for row in 0..usual.rows() {
            let mut values = usual.row(row).to_vec();
            change(row, &mut values);
            x.push_row(&values).unwrap();
        }
        (x, usual_y.clone())
    };
    let hard: Vec<(&str, (Matrix, Vec<bool>))> = vec![
        ("ten rows", pick(10)),
        (
            "rows that lack everything",
            changed(&|row, values| {
                if row % 3 == 0 {
                    values.fill(f32::NAN)
                }
            }),
        ),
        ("nothing but constants", changed(&|_, values| values.fill(3.0))),
        (
            "one 1e30",
            changed(&|row, values| {
                if row == 5 {
                    values[0] = 1e30
                }
            }),
        ),
        ("many of ±1e30", changed(&|row, values| values[0] = if row % 2 == 0 { 1e30 } else { -1e30 })),
        ("the largest numbers", changed(&|row, values| values.fill(if row % 2 == 0 { f32::MAX } else { f32::MIN }))),
        ("the least numbers", changed(&|row, values| values.fill(row as f32 * f32::MIN_POSITIVE))),
        ("one of each outcome but one", (usual.clone(), (0..200).map(|row| row == 9).collect())),
    ];
    for family in FAMILIES.iter().copied() {
        for (what, (x, y)) in &hard {
            match Bundle::fit(spec(family, FEATURES), x, y, x, y) {
                Ok(bundle) => check_risks(&bundle, FEATURES),
                Err(error) => panic!("{family} on {what}: {error}"),
            }
        }
    }
}

#[test]
fn rows_that_lack_everything_teach_the_prevalence_or_nothing() {
    let x = Matrix::from_values(FEATURES, vec![f32::NAN; FEATURES * 40]).unwrap();
    let y: Vec<bool> = (0..40).map(|row| row % 4 == 0).collect();
    for family in FAMILIES.iter().copied() {
        match Bundle::fit(spec(family, FEATURES), &x, &y, &x, &y) {
            Ok(bundle) => {
                check_risks(&bundle, FEATURES);
                let risk = score(&bundle, &[f32::NAN; FEATURES])[0];
                assert!((0.1..0.6).contains(&risk), "{family}: {risk}");
            }
            Err(error) => {
                assert!(family == Family::Bedside && error.to_string().contains("no training row"), "{error}")
            }
        }
    }
}

#[test]
fn the_lasso_is_a_logistic_regression_too() {
    let ((train, y), (tuning, tuning_y)) = (problem(1, 1_000, true), problem(2, 400, true));
    let mut spec = spec(Family::Logistic, FEATURES);
    (spec.params.logistic.alpha, spec.params.logistic.l1_ratio) = (40.0, 1.0);
    let bundle = Bundle::fit(spec, &train, &y, &tuning, &tuning_y).unwrap();
    assert!(auroc(&score(&bundle, tuning.values()), &tuning_y) > 0.85);
    check_risks(&bundle, FEATURES);
    // The columns that say nothing are left out of every explanation.
    let explanation = bundle.explain(tuning.row(0)).unwrap();
    assert!(explanation.contributions[6..].iter().filter(|part| **part == 0.0).count() >= 3, "{explanation:?}");
    assert!(explanation.contributions[0] != 0.0 && explanation.error.is_none());
}

#[test]
fn sampled_explanations_tell_their_error() {
    let (x, _) = problem(12, 20, false);
    for bundle in BUNDLES.iter() {
        let sampled = matches!(bundle.card.family, Family::Svm | Family::Knn);
        for row in 0..x.rows() {
            let explanation = bundle.explain(x.row(row)).unwrap();
            assert_eq!(explanation.error.is_some(), sampled, "{}", bundle.card.family);
            // Small beside what there is to share out: the explanation says something.
            assert!(explanation.error.is_none_or(|error| error > 0.0 && error < 0.1), "{:?}", explanation.error);
        }
    }
}
