//! How good a set of predictions is, and how sure that is.
//!
//! Pure. Ties are never broken by order: equal scores are one group everywhere. A figure
//! that does not exist (one class only, no rows) is `None`, never 0 or NaN.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::events::SubjectId;

/// Bins of the calibration error.
const BINS: usize = 10;
/// Most replicates of the bootstrap, and the least that an interval is made of.
const REPLICATES: (usize, usize) = (1_000, 200);
/// Row visits that the bootstrap may cost, as far as the least replicates allow.
const VISITS: usize = 200_000_000;
/// Two-sided level of the intervals.
const LEVEL: f64 = 0.95;

/// One scored row whose outcome is known.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Scored {
    /// Whose.
    pub subject: SubjectId,
    /// Calibrated probability, in 0 to 1.
    pub risk: f64,
    /// What happened.
    pub outcome: bool,
}

/// Figures of a model on labelled rows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Metrics {
    /// Rows.
    pub n: usize,
    /// Rows whose outcome is true.
    pub positives: usize,
    /// Subjects.
    pub subjects: usize,
    /// Area under the receiver operating characteristic.
    pub auroc: Option<f64>,
    /// Average precision: the step-wise area under precision over recall.
    pub auprc: Option<f64>,
    /// Mean squared difference of risk and outcome.
    pub brier: Option<f64>,
    /// Expected calibration error over 10 bins of equal width (Naeini et al. 2015).
    pub ece: Option<f64>,
    /// The smaller of sensitivity and positive predictivity at `threshold`: event 1 of the
    /// PhysioNet/CinC Challenge 2012.
    pub min_se_ppv: Option<f64>,
    /// The same at the best threshold for these very rows: an upper bound, not an estimate.
    pub min_se_ppv_best: Option<f64>,
    /// Sensitivity at `threshold`.
    pub sensitivity: Option<f64>,
    /// Positive predictivity at `threshold`; `None` if nothing reaches it.
    pub ppv: Option<f64>,
    /// Risk from which a row counts as predicted.
    pub threshold: f64,
    /// Bootstrap intervals.
    pub ci: Intervals,
}

/// Percentile intervals of a bootstrap that draws whole subjects (rows of one subject are
/// not independent).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Intervals {
    /// Two-sided level, 0.95.
    pub level: f64,
    /// Replicates drawn; those with one class only count for no figure that needs two.
    pub replicates: usize,
    /// Low and high end.
    pub auroc: Option<[f64; 2]>,
    /// Low and high end.
    pub auprc: Option<[f64; 2]>,
    /// Low and high end.
    pub brier: Option<[f64; 2]>,
    /// Low and high end.
    pub min_se_ppv: Option<[f64; 2]>,
}

/// All figures of `rows` at `threshold`; the same for the same rows in any order and `seed`.
pub fn evaluate(rows: &[Scored], threshold: f64, seed: u64) -> Metrics {
    // From the highest risk down; the rest of the key only makes the order unique.
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| b.risk.total_cmp(&a.risk).then(a.subject.cmp(&b.subject)).then(a.outcome.cmp(&b.outcome)));
    let mut subjects: Vec<SubjectId> = rows.iter().map(|row| row.subject).collect();
    subjects.sort_unstable();
    subjects.dedup();
    let of: Vec<usize> = rows.iter().map(|row| subjects.partition_point(|s| *s < row.subject)).collect();
    let point = Figures::of(&rows, threshold, |_| 1);
    Metrics {
        n: rows.len(),
        positives: rows.iter().filter(|row| row.outcome).count(),
        subjects: subjects.len(),
        auroc: point.auroc,
        auprc: point.auprc,
        brier: point.brier,
        ece: calibration_error(&rows),
        min_se_ppv: point.min_se_ppv,
        min_se_ppv_best: point.min_se_ppv_best,
        sensitivity: point.sensitivity,
        ppv: point.ppv,
        threshold,
        ci: intervals(&rows, &of, subjects.len(), threshold, seed),
    }
}

/// The figures of rows that each count a number of times.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
struct Figures {
    auroc: Option<f64>,
    auprc: Option<f64>,
    brier: Option<f64>,
    min_se_ppv: Option<f64>,
    min_se_ppv_best: Option<f64>,
    sensitivity: Option<f64>,
    ppv: Option<f64>,
}

impl Figures {
    /// Of rows ordered from the highest risk down, row `i` counting `times(i)` times. One pass.
    fn of(rows: &[Scored], threshold: f64, times: impl Fn(usize) -> u32) -> Figures {
        let (mut positives, mut all, mut squares) = (0.0, 0.0, 0.0);
        for (i, row) in rows.iter().enumerate() {
            let times = f64::from(times(i));
            all += times;
            positives += if row.outcome { times } else { 0.0 };
            squares += times * (row.risk - f64::from(u8::from(row.outcome))).powi(2);
        }
        if all == 0.0 {
            return Figures::default();
        }
        let negatives = all - positives;
        let (mut found, mut wrong) = (0.0, 0.0);
        let (mut pairs, mut precision, mut best, mut at) = (0.0, 0.0, 0.0_f64, (0.0, 0.0));
        let mut i = 0;
        while i < rows.len() {
            // A group of equal risks is passed as one.
            let (risk, found_before, wrong_before) = (rows[i].risk, found, wrong);
            while i < rows.len() && rows[i].risk.total_cmp(&risk).is_eq() {
                let times = f64::from(times(i));
                if rows[i].outcome {
                    found += times
                } else {
                    wrong += times
                }
                i += 1;
            }
            // Mann-Whitney: negatives ranked below count whole, those in the group half.
            pairs += (found - found_before) * (negatives - wrong + (wrong - wrong_before) / 2.0);
            if found + wrong > 0.0 {
                let precise = found / (found + wrong);
                precision += (found - found_before) * precise;
                if positives > 0.0 {
                    best = best.max(precise.min(found / positives));
                }
            }
            if risk >= threshold {
                at = (found, wrong);
            }
        }
        let some = |exists: bool, value: f64| exists.then_some(value);
        let sensitivity = some(positives > 0.0, at.0 / positives);
        let ppv = some(at.0 + at.1 > 0.0, at.0 / (at.0 + at.1));
        Figures {
            auroc: some(positives > 0.0 && negatives > 0.0, pairs / (positives * negatives)),
            auprc: some(positives > 0.0, precision / positives),
            brier: Some(squares / all),
            // Nothing predicted: no event is found, so the smaller of the two is 0.
            min_se_ppv: sensitivity.map(|sensitivity| sensitivity.min(ppv.unwrap_or(0.0))),
            min_se_ppv_best: some(positives > 0.0, best),
            sensitivity,
            ppv,
        }
    }
}

/// Mean over bins, weighted by their rows, of |mean risk - share of positives|.
fn calibration_error(rows: &[Scored]) -> Option<f64> {
    let mut bins = [(0.0_f64, 0.0_f64); BINS];
    for row in rows {
        let bin = ((row.risk * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += row.risk;
        bins[bin].1 += f64::from(u8::from(row.outcome));
    }
    let gaps: f64 = bins.iter().map(|(risk, outcome)| (risk - outcome).abs()).sum();
    (!rows.is_empty()).then(|| gaps / rows.len() as f64)
}

/// Percentile bootstrap over subjects; `of` is the subject's number of each row.
fn intervals(rows: &[Scored], of: &[usize], subjects: usize, threshold: f64, seed: u64) -> Intervals {
    if subjects < 2 {
        return Intervals { level: LEVEL, ..Intervals::default() };
    }
    let replicates = (VISITS / rows.len()).clamp(REPLICATES.1, REPLICATES.0);
    let figures: Vec<Figures> = (0..replicates as u64)
        .into_par_iter()
        .map(|replicate| {
            let mut random = StdRng::seed_from_u64(seed ^ replicate.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut times = vec![0_u32; subjects];
            for _ in 0..subjects {
                times[random.random_range(0..subjects)] += 1;
            }
            Figures::of(rows, threshold, |i| times[of[i]])
        })
        .collect();
    let interval = |get: fn(&Figures) -> Option<f64>| {
        let mut values: Vec<f64> = figures.iter().filter_map(get).collect();
        values.sort_by(f64::total_cmp);
        // Where most replicates have no figure, an interval of the others would mislead.
        (values.len() * 2 > replicates)
            .then(|| [quantile(&values, (1.0 - LEVEL) / 2.0), quantile(&values, (1.0 + LEVEL) / 2.0)])
    };
    Intervals {
        level: LEVEL,
        replicates,
        auroc: interval(|f| f.auroc),
        auprc: interval(|f| f.auprc),
        brier: interval(|f| f.brier),
        min_se_ppv: interval(|f| f.min_se_ppv),
    }
}

/// Linear interpolation between order statistics (type 7 of Hyndman and Fan 1996).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(data: &[(f64, bool)]) -> Vec<Scored> {
        let row = |(i, (risk, outcome)): (usize, &(f64, bool))| Scored {
            subject: SubjectId(i as i64),
            risk: *risk,
            outcome: *outcome,
        };
        data.iter().enumerate().map(row).collect()
    }

    fn near(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-12)
    }

    /// By hand, with a tie over both classes at 0.5.
    #[test]
    fn figures_by_hand() {
        let m = evaluate(&rows(&[(0.9, true), (0.5, true), (0.5, false), (0.2, false)]), 0.5, 0);
        assert!(near(m.auroc, 3.5 / 4.0));
        assert!(near(m.auprc, 0.5 * 1.0 + 0.5 * 2.0 / 3.0));
        assert!(near(m.brier, (0.01 + 0.25 + 0.25 + 0.04) / 4.0));
        assert!(near(m.ece, (0.1 + 0.0 + 0.2) / 4.0));
        assert!(near(m.sensitivity, 1.0) && near(m.ppv, 2.0 / 3.0));
        assert!(near(m.min_se_ppv, 2.0 / 3.0) && near(m.min_se_ppv_best, 2.0 / 3.0));
        assert_eq!((m.n, m.positives, m.subjects), (4, 2, 4));
    }

    #[test]
    fn what_does_not_exist_is_none() {
        let none = evaluate(&[], 0.5, 0);
        assert_eq!((none.auroc, none.auprc, none.brier, none.ece, none.min_se_ppv), (None, None, None, None, None));
        let one_class = evaluate(&rows(&[(0.9, false), (0.1, false)]), 0.5, 0);
        assert_eq!((one_class.auroc, one_class.auprc, one_class.min_se_ppv), (None, None, None));
        assert_eq!(one_class.ppv, Some(0.0));
        let none_reached = evaluate(&rows(&[(0.3, true), (0.1, false)]), 0.5, 0);
        assert_eq!((none_reached.ppv, none_reached.min_se_ppv), (None, Some(0.0)));
    }

    #[test]
    fn intervals_hold_the_figure_and_depend_on_the_seed_alone() {
        let data: Vec<(f64, bool)> = (0..300).map(|i| (f64::from(i % 97) / 97.0, (i * 7919) % 97 < i % 97)).collect();
        let mut rows = rows(&data);
        for (i, row) in rows.iter_mut().enumerate() {
            row.subject = SubjectId(i as i64 / 3);
        }
        let m = evaluate(&rows, 0.5, 7);
        let [low, high] = m.ci.auroc.unwrap();
        assert!(low < m.auroc.unwrap() && m.auroc.unwrap() < high && high - low < 0.3);
        rows.reverse();
        assert_eq!(evaluate(&rows, 0.5, 7), m);
        assert_ne!(evaluate(&rows, 0.5, 8).ci, m.ci);
    }

    /// Rows of one subject are drawn together: copies of rows under the same subject leave
    /// the interval as it is, where drawing rows would narrow it.
    #[test]
    fn the_bootstrap_draws_subjects() {
        let data: Vec<(f64, bool)> = (0..60).map(|i| (f64::from(i) / 60.0, (i * 7) % 10 < i / 6)).collect();
        let once = rows(&data);
        let mut many = once.clone();
        for _ in 0..9 {
            many.extend_from_slice(&once);
        }
        let (a, b) = (evaluate(&once, 0.5, 1).ci.auroc.unwrap(), evaluate(&many, 0.5, 1).ci.auroc.unwrap());
        assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9);
    }

    proptest! {
        /// Against the definitions, pair by pair and threshold by threshold.
        #[test]
        fn figures_equal_their_definitions(data in prop::collection::vec((0u8..12, any::<bool>()), 1..40), threshold in 0u8..12) {
            let data: Vec<(f64, bool)> = data.iter().map(|(s, y)| (f64::from(*s) / 11.0, *y)).collect();
            let threshold = f64::from(threshold) / 11.0;
            let m = evaluate(&rows(&data), threshold, 0);
            let (pos, neg): (Vec<&(f64, bool)>, Vec<_>) = data.iter().partition(|row| row.1);
            let mut wins = 0.0;
            for p in &pos {
                for n in &neg {
                    wins += if p.0 > n.0 { 1.0 } else if p.0 == n.0 { 0.5 } else { 0.0 };
                }
            }
            let pairs = (pos.len() * neg.len()) as f64;
            let auroc_right = if pairs > 0.0 { near(m.auroc, wins / pairs) } else { m.auroc.is_none() };
            prop_assert!(auroc_right);
            let at = |t: f64| {
                let tp = data.iter().filter(|r| r.0 >= t && r.1).count() as f64;
                let fp = data.iter().filter(|r| r.0 >= t && !r.1).count() as f64;
                (if pos.is_empty() { 0.0 } else { tp / pos.len() as f64 }, if tp + fp > 0.0 { tp / (tp + fp) } else { 0.0 })
            };
            let mut thresholds: Vec<f64> = data.iter().map(|r| r.0).collect();
            thresholds.sort_by(|a, b| b.total_cmp(a));
            thresholds.dedup();
            let (mut area, mut before, mut best) = (0.0, 0.0, 0.0_f64);
            for t in thresholds {
                let (recall, precision) = at(t);
                area += (recall - before) * precision;
                before = recall;
                best = best.max(recall.min(precision));
            }
            if pos.is_empty() {
                prop_assert!(m.auprc.is_none() && m.min_se_ppv.is_none());
            } else {
                prop_assert!(near(m.auprc, area) && near(m.min_se_ppv_best, best));
                let (se, ppv) = at(threshold);
                prop_assert!(near(m.min_se_ppv, se.min(ppv)));
            }
        }
    }
}
