//! Boosted trees for the log hazard ratio of an outcome: when it happens, and not only whether it does in time.
//!
//! A label asks whether the outcome happens within a window. Where it does not, it is often known to happen later, as
//! to a patient who dies soon after the discharge; a model of the labels takes such a patient to be as well as any.
//! Cox's partial likelihood (Cox 1972, ties as Breslow 1974) learns from both: whenever the outcome happens to a row,
//! that row's margin should be large among those to which it has not happened yet. Where no onset is known, the label
//! alone tells: whoever has it has it at the first hour, all at once.
//!
//! It knows of nobody who was lost from sight: a row to which the outcome is not known to happen counts as followed
//! beyond the last onset. Where that is wrong of many, as at the end of a history that is still being written, those
//! that are followed least look the safest.
//!
//! The margin is a log hazard ratio, up to a constant, and no log-odds. It goes by [`Link::LogOdds`](super::Link) all
//! the same: for a rare outcome the two differ by a constant, a stack has a weight and a bias for it, and calibration,
//! which is always fitted, makes a risk of it. Without a calibration it means nothing, so none is imported.

use hessboost::metric::EvalMetric;
use hessboost::objective::Objective;

use super::Family;
use super::boosting::Goal;

/// The objective in a model's file.
pub(super) const LOG_HAZARD: [&str; 1] = ["survival:cox"];
/// When the outcome happens where nothing but the label says that it does, in hours.
const FIRST_HOUR: f32 = 1.0;
/// Of a row whose outcome does not happen: a time without it is told by the sign, and none is longer.
const NEVER: f32 = -f32::MAX;

impl<'a> Goal<'a> {
    /// The log hazard ratio of the outcome. `onsets`: of each row, after how many hours it happens, whatever the label;
    /// none: it does not, as far as is known.
    pub(super) fn log_hazard(labels: &'a [bool], onsets: Option<&[Option<f32>]>) -> Goal<'a> {
        let target = |(row, &label): (usize, &bool)| {
            let onset = onsets.and_then(|onsets| onsets.get(row).copied().flatten());
            onset.or(label.then_some(FIRST_HOUR)).unwrap_or(NEVER)
        };
        Goal {
            family: Family::Hazard,
            labels,
            targets: labels.iter().enumerate().map(target).collect(),
            objective: Objective::Cox,
            metric: EvalMetric::CoxNLogLik,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::super::tests::auroc;
    use super::super::{BoostingHyper, Bundle, FitSpec, Matrix};
    use super::*;

    /// Columns of a row; two of them tell how soon the outcome happens, together.
    const COLUMNS: usize = 12;
    /// The label asks for so many hours.
    const WINDOW: f32 = 2.0;
    /// Nothing is known of what happens after so many hours.
    const SEEN: f32 = 100.0;

    /// Rows, whether the outcome happens in time, when it does as far as is seen, and its true log hazard.
    struct Problem {
        x: Matrix,
        labels: Vec<bool>,
        onsets: Vec<Option<f32>>,
        truth: Vec<f64>,
    }

    fn problem(seed: u64, rows: usize) -> Problem {
        let mut random = Random::new(seed);
        let mut all = Problem { x: Matrix::new(COLUMNS), labels: Vec::new(), onsets: Vec::new(), truth: Vec::new() };
        for _ in 0..rows {
            let row: Vec<f32> = (0..COLUMNS).map(|_| random.unit() as f32 * 2.0 - 1.0).collect();
            let log_hazard = 1.5 * f64::from(row[0]) + if row[1] > 0.0 { f64::from(row[0]) } else { 0.0 } - 5.0;
            let hours = (-(1.0 - random.unit()).ln() / log_hazard.exp()) as f32;
            all.x.push_row(&row).unwrap();
            all.labels.push(hours <= WINDOW);
            all.onsets.push((hours <= SEEN).then_some(hours.max(1e-3)));
            all.truth.push(log_hazard);
        }
        all
    }

    fn fit(train: &Problem, tuning: &Problem, onsets: bool) -> Bundle {
        let names = (0..COLUMNS).map(|i| format!("f{i}")).collect();
        let mut spec = FitSpec::new(Family::Hazard, "t", names, "spec");
        spec.params.hazard = BoostingHyper { eta: 0.05, patience: 50, ..BoostingHyper::default() };
        spec.onsets = onsets.then(|| train.onsets.clone());
        Bundle::fit(spec, &train.x, &train.labels, &tuning.x, &tuning.labels).unwrap()
    }

    #[test]
    fn an_onset_counts_before_the_label_and_the_label_alone_without_one() {
        let labels = [true, true, false, false];
        let onsets = [Some(5.0), None, Some(30.0), None];
        assert_eq!(Goal::log_hazard(&labels, Some(&onsets)).targets, [5.0, 1.0, 30.0, f32::MIN]);
        assert_eq!(Goal::log_hazard(&labels, None).targets, [1.0, 1.0, f32::MIN, f32::MIN]);
    }

    /// In time the outcome happens to few; later it happens to many more, and to whom is told by the same columns.
    #[test]
    fn onsets_tell_what_the_label_does_not() {
        let (train, tuning, fresh) = (problem(1, 3_000), problem(2, 3_000), problem(3, 2_000));
        let mut sorted = fresh.truth.clone();
        sorted.sort_by(f64::total_cmp);
        let is_high: Vec<bool> = fresh.truth.iter().map(|truth| *truth > sorted[1_000]).collect();
        let told = |onsets: bool| {
            let bundle = fit(&train, &tuning, onsets);
            let margins = bundle.margins(fresh.x.values()).unwrap();
            let mut risks = Vec::new();
            bundle.score(fresh.x.values(), &mut risks).unwrap();
            let mean = risks.iter().sum::<f64>() / risks.len() as f64;
            (auroc(&margins, &is_high), mean, bundle.card.found["rounds"])
        };
        let (by_labels, by_onsets) = (told(false), told(true));
        let share = |labels: &[bool]| labels.iter().filter(|&&label| label).count() as f64 / labels.len() as f64;
        println!("{:?} {:?} {}", by_labels, by_onsets, share(&train.labels));
        assert!(by_onsets.0 > by_labels.0 + 0.03, "{by_onsets:?} {by_labels:?}");
        // The label is rare; calibration makes its risk of a hazard ratio all the same.
        assert!(share(&train.labels) < 0.04 && (by_onsets.1 - share(&fresh.labels)).abs() < 0.01, "{by_onsets:?}");
    }
}
