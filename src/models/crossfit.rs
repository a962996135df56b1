//! Cross-fitting: calibration, threshold and abstention that keep no subject back from the fit.
//!
//! The training and the tuning rows are dealt into folds by subject. What a model fitted on all other
//! folds says of a fold's rows takes the place of the tuning rows (Platt 1999, section 2; Vovk 2015 for
//! the conformal sets); the model that is kept is fitted on all rows. Promises that no row is judged by
//! a model that saw its subject. The models that judged saw a little less than the one that is kept, so
//! what comes of them errs, if at all, on the side of doubt. It costs a fit a fold, side by side on the
//! cores; a stack has such models anyway.

use std::collections::BTreeMap;

use super::conformal::outside_of;
use super::fit::Unseen;
use super::jobs::{at_once, side_by_side};
use super::preprocess::Preprocess;
use super::stack::Stack;
use super::{Bundle, Family, FitSpec, Folds, Matrix, ModelError};

/// Fits on the rows of both parts (each with its labels), and calibrates in `count` folds.
///
/// # Errors
/// [`ModelError::Parameter`] if a fold would lack an outcome; those of a fit.
pub(super) fn fit(
    spec: &FitSpec,
    count: usize,
    train: (&Matrix, &[bool]),
    tuning: (&Matrix, &[bool]),
) -> Result<Bundle, ModelError> {
    let x = Matrix::from_values(train.0.columns(), [train.0.values(), tuning.0.values()].concat())?;
    let labels = [train.1, tuning.1].concat();
    // Where one part does not say whose its rows are, each row counts as a subject.
    let groups = spec.groups.as_ref().zip(spec.tuning_groups.as_ref()).map(|(a, b)| [&a[..], &b[..]].concat());
    // Where one part does not say when outcomes happen, the labels alone tell.
    let onsets = spec.onsets.as_ref().zip(spec.tuning_onsets.as_ref()).map(|(a, b)| [&a[..], &b[..]].concat());
    let spec = FitSpec { groups, tuning_groups: None, onsets, tuning_onsets: None, crossfit: None, ..spec.clone() };
    let folds = Folds::new(&labels, spec.groups.as_deref(), count, spec.seed);
    if !folds.can_judge(&labels, 1) {
        let reason = "needs subjects of either outcome in every fold: take fewer folds or gather more history";
        return Err(ModelError::Parameter { name: "crossfit", reason });
    }

    // A selection has seen the labels of all rows, so that a stack's own folds would judge too kindly.
    let (mut bundle, own) = if spec.family == Family::Stack && spec.select.is_none() {
        let mut found = BTreeMap::new();
        let (stack, margins) = Stack::fit_judged(&spec, &x, &labels, &mut found)?;
        let parts = (Preprocess::Raw { features: x.columns() }, Box::new(stack) as _);
        let own = margins.map(|margins| (margins, spec.params.stack.folds));
        (Bundle::of_parts(&spec, (&x, &labels), None, parts, found)?, own)
    } else {
        (Bundle::uncalibrated(&spec, &x, &labels, &x)?, None)
    };
    let (margins, judged_in) = match own {
        Some(own) => own,
        None => {
            let tell = |kept: &[usize], held: Matrix| {
                let labels: Vec<bool> = kept.iter().map(|&row| labels[row]).collect();
                Bundle::uncalibrated(&spec.of_rows(kept, x.rows()), &x.pick(kept), &labels, &held)?
                    .margins(held.values())
            };
            (by_fold(&folds, tell, &x)?, folds.count())
        }
    };
    bundle.card.found.insert("crossfit_folds".to_owned(), judged_in as f64);
    let (mut ranges, mut outside) = (Vec::new(), Vec::new());
    if let Some(settings) = spec.abstain.filter(|settings| settings.novel) {
        ranges = settings.ranges(&x);
        outside = by_fold(&folds, |kept, held| Ok(outside_of(&held, &settings.ranges(&x.pick(kept)))), &x)?;
    }
    let groups = spec.groups.as_deref();
    let patient_days = spec.patient_days.map(|[training, tuning]| training + tuning);
    bundle.calibrate(&spec, Unseen { x: &x, labels: &labels, groups, margins, ranges, outside, patient_days })?;
    Ok(bundle)
}

/// What `tell` says of each fold's rows, given the places of the others; in the order of the rows.
fn by_fold<T: Copy + Default + Send>(
    folds: &Folds,
    tell: impl Fn(&[usize], Matrix) -> Result<Vec<T>, ModelError> + Sync,
    x: &Matrix,
) -> Result<Vec<T>, ModelError> {
    let each: Vec<usize> = (0..folds.count()).collect();
    let told =
        side_by_side(at_once(x), &each, |&fold| tell(&folds.kept(fold), x.pick(&folds.held(fold))), &mut |_, _| {});
    let mut all = vec![T::default(); x.rows()];
    for (fold, told) in told.into_iter().enumerate() {
        for (row, one) in folds.held(fold).into_iter().zip(told?) {
            all[row] = one;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::super::{Abstain, Aim};
    use super::*;

    /// Rows of which two columns tell the outcome; the third is the same in both rows of a subject and
    /// in no others, so that a model that saw one knows the other.
    fn problem(subjects: i64, seed: u64) -> (Matrix, Vec<bool>, Vec<i64>) {
        let mut random = Random::new(seed);
        let (mut x, mut labels, mut groups) = (Matrix::new(3), Vec::new(), Vec::new());
        for subject in 0..subjects {
            let label = random.unit() < 0.3;
            for _ in 0..2 {
                let mut value = || (random.unit() * 2.0 - 1.0) as f32 + if label { 0.6 } else { 0.0 };
                x.push_row(&[value(), value(), subject as f32 + seed as f32 * 1e4]).unwrap();
                labels.push(label);
                groups.push(subject + seed as i64 * 10_000);
            }
        }
        (x, labels, groups)
    }

    fn spec(family: Family, crossfit: Option<usize>) -> FitSpec {
        let names = ["a", "b", "subject"].map(str::to_owned).to_vec();
        let mut spec = FitSpec { crossfit, ..FitSpec::new(family, "t", names, "spec") };
        spec.params.boosting.min_child_weight = 0.1;
        spec.params.boosting.depth = 6;
        spec
    }

    fn fitted(mut spec: FitSpec) -> (Bundle, Matrix, Vec<bool>) {
        let ((x, y, groups), (tuning, tuning_y, tuning_groups)) = (problem(500, 1), problem(60, 2));
        (spec.groups, spec.tuning_groups) = (Some(groups), Some(tuning_groups));
        let bundle = Bundle::fit(spec, &x, &y, &tuning, &tuning_y).unwrap();
        let (fresh, labels, _) = problem(2_000, 3);
        let mut values = fresh.values().to_vec();
        // The name of a fresh subject is beyond every range; here it is one that was met.
        values.chunks_exact_mut(3).for_each(|row| row[2] = 10_100.0);
        (bundle, Matrix::from_values(3, values).unwrap(), labels)
    }

    fn risks(bundle: &Bundle, x: &Matrix) -> Vec<f64> {
        let mut risks = Vec::new();
        bundle.score(x.values(), &mut risks).unwrap();
        risks
    }

    /// A calibration by rows whose subjects the model knows would be far too sure. One by models that took another share
    /// of either outcome would miss the mean.
    #[test]
    fn no_row_is_judged_by_a_model_that_saw_its_subject() {
        let families = [Family::Boosting, Family::Hazard, Family::Logistic, Family::Stack, Family::Svm, Family::Knn];
        for family in families {
            let mut spec = spec(family, Some(5));
            (spec.params.svm.landmarks, spec.params.knn.rows) = (700, 700);
            spec.params.stack.members = vec![Family::Boosting, Family::Hazard, Family::Logistic];
            spec.params.hazard = spec.params.boosting.clone();
            let (bundle, fresh, labels) = fitted(spec);
            let risks = risks(&bundle, &fresh);
            let mean = |of: &dyn Fn(f64, bool) -> f64| {
                risks.iter().zip(&labels).map(|(&risk, &label)| of(risk, label)).sum::<f64>() / risks.len() as f64
            };
            let loss = mean(&|risk, label| -(if label { risk } else { 1.0 - risk }).ln());
            let share = mean(&|_, label| f64::from(u8::from(label)));
            assert!(loss < 0.95 * -(share * share.ln() + (1.0 - share) * (1.0 - share).ln()), "{family} {loss}");
            assert!((mean(&|risk, _| risk) - share).abs() < 0.05, "{family}");
            let card = &bundle.card;
            assert_eq!((card.trained_on.rows, card.tuned_on.rows), (1_120, 1_120));
            assert_eq!(card.found["crossfit_folds"], 5.0);
        }
    }

    #[test]
    fn the_model_itself_is_that_of_all_rows() {
        let (bundle, fresh, _) = fitted(spec(Family::Logistic, Some(4)));
        let ((mut x, mut y, _), (tuning, tuning_y, _)) = (problem(500, 1), problem(60, 2));
        for row in 0..tuning.rows() {
            x.push_row(tuning.row(row)).unwrap();
        }
        y.extend(&tuning_y);
        let whole = Bundle::fit(spec(Family::Logistic, None), &x, &y, &tuning, &tuning_y).unwrap();
        assert_eq!(bundle.margins(fresh.values()).unwrap(), whole.margins(fresh.values()).unwrap());
        let (again, ..) = fitted(spec(Family::Logistic, Some(4)));
        assert_eq!(risks(&again, &fresh), risks(&bundle, &fresh));
    }

    /// The stated error rate holds on subjects that nobody saw, and hardly anybody is called strange.
    #[test]
    fn what_is_promised_of_fresh_rows_holds() {
        let abstain = Abstain { error_rate: 0.1, too_little_data: true, novel: true };
        for family in [Family::Logistic, Family::Stack] {
            let mut spec = FitSpec { abstain: Some(abstain), aim: Aim::Sensitivity(0.8), ..spec(family, Some(5)) };
            spec.params.stack.members = vec![Family::Bayes, Family::Logistic];
            let (bundle, fresh, labels) = fitted(spec);
            let mut assessed = Vec::new();
            bundle.assess(fresh.values(), &mut Default::default(), &mut assessed, &mut Vec::new()).unwrap();
            for class in [false, true] {
                let of: Vec<_> = assessed.iter().zip(&labels).filter(|(_, label)| **label == class).collect();
                let held = of.iter().filter(|(one, _)| one.possible[usize::from(class)]).count() as f64;
                assert!(held / of.len() as f64 > 0.87, "{family} {class} {held} of {}", of.len());
            }
            let risks = risks(&bundle, &fresh);
            let caught = risks.iter().zip(&labels).filter(|(risk, label)| **label && **risk >= bundle.threshold());
            let sensitivity = caught.count() as f64 / labels.iter().filter(|&&label| label).count() as f64;
            assert!((0.74..0.87).contains(&sensitivity), "{family} {sensitivity}");
        }
    }

    #[test]
    fn of_some_rows_the_same_share_is_taken() {
        let spec = spec(Family::Svm, None);
        let most = |rows: usize, all: usize| {
            let params = spec.of_rows(&(0..rows).collect::<Vec<_>>(), all).params;
            (params.svm.landmarks, params.knn.rows)
        };
        assert_eq!((spec.params.svm.landmarks, spec.params.knn.rows), (1_500, 2_000));
        assert_eq!(most(2_400, 3_000), (1_200, 1_600));
        assert_eq!(most(1_334, 2_000), (1_001, 2_000));
        assert_eq!(most(800, 1_000), (1_500, 2_000));
    }

    #[test]
    fn onsets_go_with_their_rows() {
        let onsets = (0..6u8).map(|row| (row % 2 == 0).then_some(f32::from(row) + 1.0)).collect();
        let spec = FitSpec { onsets: Some(onsets), ..spec(Family::Hazard, None) };
        assert_eq!(spec.of_rows(&[4, 1, 2], 6).onsets, Some(vec![Some(5.0), None, Some(3.0)]));
    }

    /// Onsets of both parts serve: the same rows give the same bundle wherever the second part begins.
    #[test]
    fn onsets_of_both_parts_are_those_of_all_rows() {
        let (x, y, groups) = problem(300, 1);
        // Of half the rows without the outcome it is known when they have it.
        let hours = |row: usize| 10.0 + 5.0 * x.row(row)[0];
        let onsets: Vec<Option<f32>> = (0..600).map(|row| (y[row] || row % 4 < 2).then(|| hours(row))).collect();
        let fit = |cut: usize, onsets: [Option<&[Option<f32>]>; 2]| {
            let part = |rows: std::ops::Range<usize>| (x.pick(&rows.clone().collect::<Vec<_>>()), y[rows].to_vec());
            let ((train, labels), (tuning, tuning_labels)) = (part(0..cut), part(cut..600));
            let mut spec = spec(Family::Hazard, Some(3));
            (spec.params.hazard.rounds, spec.params.hazard.patience) = (20, 0);
            (spec.groups, spec.tuning_groups) = (Some(groups[..cut].to_vec()), Some(groups[cut..].to_vec()));
            [spec.onsets, spec.tuning_onsets] = onsets.map(|onsets| onsets.map(<[_]>::to_vec));
            Bundle::fit(spec, &train, &labels, &tuning, &tuning_labels).unwrap().to_files().unwrap().0
        };
        let whole = fit(400, [Some(&onsets[..400]), Some(&onsets[400..])]);
        assert!(fit(540, [Some(&onsets[..540]), Some(&onsets[540..])]) == whole);
        let labels_alone = fit(400, [None, None]);
        assert!(labels_alone["model.json"] != whole["model.json"]);
        assert!(fit(400, [Some(&onsets[..400]), None]) == labels_alone);
    }

    #[test]
    fn folds_that_lack_an_outcome_are_refused() {
        let (x, _, _) = problem(20, 1);
        let labels: Vec<bool> = (0..x.rows()).map(|row| row < 2).collect();
        let error = Bundle::fit(spec(Family::Logistic, Some(8)), &x, &labels, &x, &labels).unwrap_err().to_string();
        assert!(error.contains("crossfit") && error.contains("fewer folds"), "{error}");
    }
}
