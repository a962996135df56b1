//! What every family must keep, tried on whole bundles.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::calibration::sigmoid;
use super::random::Random;
use super::*;

mod damage;
mod hard;
mod select;
mod xgboost;

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

/// A fit of `count` features that every family can do.
fn spec(family: Family, count: usize) -> FitSpec {
    // To that of texts they must be counts of terms.
    let names = match family {
        Family::Text => names(count).into_iter().map(|name| format!("note:{name}.count.24h")).collect(),
        _ => names(count),
    };
    let mut spec = FitSpec::new(family, "test", names, "spec");
    spec.params.svm.landmarks = 300;
    spec.params.mlp.networks = 2;
    spec.params.knn.rows = 300;
    spec.params.bedside.feature = "feature_0".to_owned();
    spec
}

fn fit_on(family: Family, linear: bool) -> Bundle {
    let ((train, y), (tuning, tuning_y)) = (problem(1, 3_000, linear), problem(2, 800, linear));
    let mut spec = spec(family, FEATURES);
    if !linear {
        spec.params.bedside.feature = "feature_3".to_owned();
    }
    (spec.params.boosting.eta, spec.params.hazard.eta) = (0.1, 0.1);
    spec.params.forest.trees = 60;
    spec.params.mlp.rate = 2e-3;
    spec.params.logistic.alpha = 1.0;
    spec.params.stack.folds = 3;
    Bundle::fit(spec, &train, &y, &tuning, &tuning_y).unwrap()
}

/// The families that are fitted on a table; those of sequences, and a user's own, have tests of their own.
pub(super) static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let own = |family: &Family| matches!(family, Family::Gru | Family::Cnn | Family::Onnx);
    Family::ALL.into_iter().filter(|family| !own(family)).collect()
});

/// One bundle a family, fitted once for all tests, on the problem that is not linear.
static BUNDLES: LazyLock<Vec<Bundle>> =
    LazyLock::new(|| FAMILIES.iter().map(|family| fit_on(*family, false)).collect());

/// Area under the ROC curve by counting pairs.
pub(super) fn auroc(risks: &[f64], labels: &[bool]) -> f64 {
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

pub(super) fn score(bundle: &Bundle, rows: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    bundle.score(rows, &mut out).unwrap();
    out
}

pub(super) fn bits(risks: &[f64]) -> Vec<u64> {
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

/// The least AUROC on the problem that is linear, and on the one that is not.
fn bounds(family: Family) -> [f64; 2] {
    match family {
        Family::Logistic => [0.85, 0.60],
        Family::Forest => [0.82, 0.76],
        Family::Boosting | Family::Hazard => [0.83, 0.80],
        Family::Mlp => [0.84, 0.80],
        Family::Svm => [0.78, 0.70],
        Family::Knn => [0.75, 0.65],
        Family::Bayes => [0.83, 0.60],
        Family::Bedside | Family::Text => [0.70, 0.55],
        Family::Stack => [0.85, 0.80],
        Family::Gru | Family::Cnn | Family::Onnx => [1.0, 1.0],
    }
}

#[test]
fn every_family_learns_what_it_can() {
    for linear in [true, false] {
        let (held, y) = problem(3, 2_000, linear);
        for family in FAMILIES.iter().copied() {
            let bound = bounds(family)[usize::from(!linear)];
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

/// Many rows, dealt to four threads, are assessed as each alone.
pub(super) fn assert_alike_dealt_and_alone(bundle: &Bundle, x: &Matrix) {
    assert!(x.rows() >= 1_000, "they are too few to be dealt out");
    let tell = |rows: &[f32]| {
        let (mut assessed, mut outputs) = (Vec::new(), Vec::new());
        bundle.assess(rows, &mut Scratch::default(), &mut assessed, &mut outputs).unwrap();
        let risks: Vec<f64> = assessed.iter().map(|one| one.risk).collect();
        (bits(&risks), bits(&outputs))
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let (risks, outputs) = pool.install(|| tell(x.values()));
    let (alone, outputs_alone): (Vec<_>, Vec<_>) = (0..x.rows()).map(|row| tell(x.row(row))).unzip();
    assert!(risks == alone.concat(), "{}", bundle.card.family);
    assert!(outputs == outputs_alone.concat(), "{}", bundle.card.family);
}

#[test]
fn many_rows_dealt_to_the_cores_have_the_bits_of_each_alone() {
    let (x, _) = problem(9, 3_000, false);
    BUNDLES.iter().for_each(|bundle| assert_alike_dealt_and_alone(bundle, &x));
}

#[test]
fn the_contributions_of_a_margin_add_up_before_rounding_is_shared_out() {
    let (x, _) = problem(9, 200, false);
    for bundle in BUNDLES.iter() {
        for row in 0..x.rows() {
            let margin = bundle.margins(x.row(row)).unwrap()[0];
            let Attribution { base, contributions, .. } = bundle.attribution(x.row(row));
            let sum = base + contributions.iter().sum::<f64>();
            assert!((sum - margin).abs() < 1e-10, "{}: {sum} {margin}", bundle.card.family);
        }
    }
}

/// A bundle that abstains, and rows like those it was fitted on.
fn doubtful(family: Family) -> (Bundle, Matrix, Vec<bool>) {
    let ((train, y), (tuning, tuning_y)) = (problem(1, 3_000, true), problem(2, 2_000, true));
    let mut spec = FitSpec::new(family, "test", names(FEATURES), "spec");
    spec.params.forest.trees = 60;
    spec.tuning_groups = Some((0..2_000).collect());
    spec.abstain = Some(Abstain { error_rate: 0.1, too_little_data: true, novel: true });
    let bundle = Bundle::fit(spec, &train, &y, &tuning, &tuning_y).unwrap();
    let (fresh, fresh_y) = problem(3, 4_000, true);
    (bundle, fresh, fresh_y)
}

fn assess(bundle: &Bundle, rows: &[f32]) -> Vec<Assessment> {
    let mut out = Vec::new();
    bundle.assess(rows, &mut Scratch::default(), &mut out, &mut Vec::new()).unwrap();
    out
}

#[test]
fn a_bundle_abstains_as_often_as_it_states_and_the_same_after_a_load() {
    for family in [Family::Logistic, Family::Forest] {
        let (bundle, x, y) = doubtful(family);
        let found = assess(&bundle, x.values());
        let loaded = Bundle::from_files(&bundle.to_files().unwrap().0).unwrap();
        assert_eq!(assess(&loaded, x.values()), found);
        let risks: Vec<f64> = found.iter().map(|one| one.risk).collect();
        assert_eq!(bits(&risks), bits(&score(&bundle, x.values())));
        let alone: Vec<Assessment> = (0..x.rows()).map(|row| assess(&bundle, x.row(row))[0]).collect();
        assert_eq!(alone, found);
        for class in [false, true] {
            let of: Vec<_> = found.iter().zip(&y).filter(|(_, label)| **label == class).collect();
            let covered = of.iter().filter(|(one, _)| one.possible[usize::from(class)]).count();
            let share = covered as f64 / of.len() as f64;
            assert!((share - 0.9).abs() < 0.03, "{family} {class}: {share}");
        }
        let counted = |doubt: Doubt| found.iter().filter(|one| one.doubt == Some(doubt)).count();
        let counts = [Doubt::Ambiguous, Doubt::Novel, Doubt::TooLittleData].map(counted);
        assert!(counts[0] > 200 && counts[1] < 200 && counts[2] < 100, "{family}: {counts:?}");
        assert_eq!(assess(&bundle, &[f32::NAN; FEATURES])[0].doubt, Some(Doubt::TooLittleData));
        assert_eq!(assess(&bundle, &[1e6; FEATURES])[0].doubt, Some(Doubt::Novel));
    }
}

#[test]
fn a_bundle_without_an_error_rate_never_doubts() {
    for bundle in BUNDLES.iter() {
        for row in [[f32::NAN; FEATURES], [1e6; FEATURES]] {
            let one = assess(bundle, &row)[0];
            assert_eq!((one.doubt, one.possible), (None, [true, true]));
        }
    }
}

#[test]
fn a_spec_that_cannot_be_met_is_refused() {
    let (x, y) = problem(1, 60, true);
    let refused = |change: &dyn Fn(&mut FitSpec)| {
        let mut spec = FitSpec::new(Family::Logistic, "test", names(FEATURES), "spec");
        change(&mut spec);
        Bundle::fit(spec, &x, &y, &x, &y).unwrap_err().to_string()
    };
    assert!(refused(&|spec| spec.tuning_groups = Some(vec![1])).contains("tuning matrix has 60 rows but 1 groups"));
    assert!(refused(&|spec| spec.onsets = Some(vec![None])).contains("training matrix has 60 rows but 1 onsets"));
    assert!(refused(&|spec| spec.tuning_onsets = Some(vec![])).contains("tuning matrix has 60 rows but 0 onsets"));
    for hours in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let onsets: Vec<Option<f32>> = (0..60).map(|row| (row == 59).then_some(hours)).collect();
        assert!(refused(&|spec| spec.onsets = Some(onsets.clone())).contains("onsets must be finite hours"));
        assert!(refused(&|spec| spec.tuning_onsets = Some(onsets.clone())).contains("onsets must be finite hours"));
    }
    assert!(refused(&|spec| spec.aim = Aim::Ppv(2.0)).contains("aim must be above 0"));
    assert!(refused(&|spec| spec.aim = Aim::AlertsPerPatientDay(1.0)).contains("patient-days"));
    let abstain = Abstain { error_rate: 0.5, too_little_data: true, novel: true };
    assert!(refused(&|spec| spec.abstain = Some(abstain)).contains("abstain.error_rate must be"));
}

#[test]
fn the_threshold_serves_the_aim_and_the_card_says_which() {
    let ((train, y), (tuning, tuning_y)) = (problem(1, 1_000, true), problem(2, 800, true));
    let fit = |aim: Aim| {
        let spec = FitSpec {
            aim,
            patient_days: Some([0.0, 400.0]),
            ..FitSpec::new(Family::Logistic, "test", names(FEATURES), "spec")
        };
        Bundle::fit(spec, &train, &y, &tuning, &tuning_y).unwrap()
    };
    let at = |bundle: &Bundle| {
        let alerts: Vec<bool> = score(bundle, tuning.values()).iter().map(|risk| *risk >= bundle.threshold()).collect();
        let caught = alerts.iter().zip(&tuning_y).filter(|(alert, label)| **alert && **label).count() as f64;
        let positives = tuning_y.iter().filter(|label| **label).count() as f64;
        let alerts = alerts.iter().filter(|alert| **alert).count() as f64;
        (caught / positives, caught / alerts, alerts / 400.0)
    };
    let sensitive = fit(Aim::Sensitivity(0.9));
    assert!((0.9..0.91).contains(&at(&sensitive).0));
    assert_eq!((sensitive.card.aim, &sensitive.card.threshold_note), (Some(Aim::Sensitivity(0.9)), &None));
    assert!(at(&fit(Aim::Ppv(0.7))).1 >= 0.7);
    let rate = at(&fit(Aim::AlertsPerPatientDay(0.25))).2;
    assert!(rate <= 0.25 && rate > 0.2, "{rate}");
    let rare = fit(Aim::AlertsPerPatientDay(1e-4));
    assert!(rare.card.threshold_note.unwrap().contains("alerts per patient-day"));
}
