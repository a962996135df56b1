//! Figures of a task whose outcome is a number: a count, a length of stay, a laboratory value.

use serde::Serialize;

use super::Scored;
use super::bootstrap::{Interval, bootstrap, numbered};
use super::delong::midranks;
use super::figures::{Figures, Ranked};
use super::normal::Z95;
use super::sums::{mean, trapezoid};
use crate::events::SubjectId;

/// Most groups of the comparison of expected and observed, and fewest rows of one, so that none tells of a patient.
const GROUPS: (usize, usize) = (10, 10);
/// Share of rows that a central interval is to hold.
const CENTRAL: f64 = 0.8;

/// What was expected of rows and what came of them; the slices are of the same rows in the same order.
#[derive(Copy, Clone, Debug)]
pub struct Amounts<'a> {
    /// Whose each row is.
    pub subjects: &'a [SubjectId],
    /// What came.
    pub truth: &'a [f64],
    /// What was expected.
    pub expected: &'a [f64],
    /// Mean of what came in the rows of training.
    pub training_mean: f64,
    /// Cuts, ascending; may be none.
    pub cuts: &'a [f64],
    /// Probabilities to reach each cut, row after row.
    pub reaching: &'a [f64],
    /// Quantiles at 10 % and 90 % of each row, where the model gives them.
    pub central: Option<&'a [[f64; 2]]>,
}

/// Figures of a model that says how much.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct AmountFigures {
    /// Rows.
    pub n: usize,
    /// Subjects.
    pub subjects: usize,
    /// Of the model.
    #[serde(flatten)]
    pub errors: AmountErrors,
    /// Interval of its mean absolute error.
    pub mae_interval: Interval,
    /// Of always saying the mean of the rows of training.
    pub baseline: AmountErrors,
    /// Of the central intervals, where there are some.
    pub central: Option<Central>,
    /// Continuous ranked probability score between the first and the last cut (Gneiting and Raftery 2007, equation 20,
    /// with the integral over these alone): the integral over x of the mean of `(P(Y >= x) - [y >= x])²`, which is the
    /// Brier score of reaching x, by the trapezoid rule over the cuts. In units of the amount, the lower the better,
    /// and lowest for the true probabilities; what is beyond the cuts counts for nothing. `None` without two cuts.
    pub crps: Option<f64>,
    /// Of reaching each cut.
    pub cuts: Vec<AtCut>,
    /// Up to ten groups of rows by what was expected, ascending, of ten rows and a tenth of all at least; rows of which
    /// the same was expected are never parted.
    pub groups: Vec<AmountGroup>,
    /// Why it has no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_none: Option<&'static str>,
}

/// How far what was said lies from what came.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize)]
pub struct AmountErrors {
    /// Mean absolute error.
    pub mae: Option<f64>,
    /// Root of the mean squared error.
    pub rmse: Option<f64>,
    /// Share of the variance of these rows that is explained: 1 is perfect, 0 is to say the mean of these rows; `None`
    /// where the same came of all.
    pub r2: Option<f64>,
    /// Spearman's correlation of ranks, ties sharing theirs; `None` where all of either are alike.
    pub spearman: Option<f64>,
    /// Mean of what was said less what came: above 0, too much is said.
    pub bias: Option<f64>,
}

/// How well central intervals hold what comes.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct Central {
    /// Share that they are to hold, 0.8.
    pub level: f64,
    /// Share of rows within theirs, its ends included.
    pub coverage: f64,
    /// Mean width.
    pub mean_width: Option<f64>,
}

/// Figures of the probability to reach a cut.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct AtCut {
    /// The cut.
    pub cut: f64,
    /// Rows that reach it.
    pub reached: usize,
    /// Area under the receiver operating characteristic.
    pub auroc: Option<f64>,
    /// Mean squared difference of the probability and whether it was so.
    pub brier: Option<f64>,
    /// Expected calibration error over 10 bins of equal width.
    pub ece: Option<f64>,
}

/// Rows of which about the same was expected.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct AmountGroup {
    /// Rows.
    pub n: usize,
    /// Mean of what was expected.
    pub mean_expected: f64,
    /// Mean of what came.
    pub mean_observed: f64,
    /// Its 95 % interval by the normal distribution, as if rows were independent.
    pub observed_ci: [f64; 2],
}

impl AmountFigures {
    /// Of rows in any order; the same for the same rows in any order and `seed`.
    pub fn of(rows: Amounts<'_>, seed: u64) -> AmountFigures {
        let n = rows.truth.len();
        if let Some(why) = unfit(rows) {
            return AmountFigures { n, why_none: Some(why), ..AmountFigures::default() };
        }
        let cuts = at_cuts(rows);
        let briers: Vec<(f64, f64)> = cuts.iter().filter_map(|at| Some((at.cut, at.brier?))).collect();
        let (subjects, mae_interval) = mae_interval(rows, seed);
        AmountFigures {
            n,
            subjects,
            errors: errors(rows.truth, rows.expected),
            mae_interval,
            baseline: errors(rows.truth, &vec![rows.training_mean; n]),
            central: rows.central.map(|central| coverage(rows.truth, central)),
            crps: trapezoid(&briers),
            cuts,
            groups: groups(rows),
            why_none: None,
        }
    }
}

/// Why there are no figures of these rows, if so.
fn unfit(rows: Amounts<'_>) -> Option<&'static str> {
    let n = rows.truth.len();
    let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
    let same = rows.expected.len() == n
        && rows.subjects.len() == n
        && n.checked_mul(rows.cuts.len()) == Some(rows.reaching.len())
        && rows.central.is_none_or(|central| central.len() == n);
    if n == 0 {
        Some("no rows")
    } else if !same {
        Some("what was expected, what came and subjects are not of the same rows")
    } else if !(finite(rows.truth) && finite(rows.expected) && finite(&[rows.training_mean]) && finite(rows.cuts)) {
        Some("an amount is not a finite number")
    } else if !rows.cuts.is_sorted_by(|a, b| a < b) {
        Some("the cuts do not ascend")
    } else if rows.reaching.iter().any(|p| !(0.0..=1.0).contains(p)) {
        Some("a probability is not in 0 to 1")
    } else if rows.central.is_some_and(|central| central.iter().any(|ends| !(finite(ends) && ends[0] <= ends[1]))) {
        Some("a central interval is none")
    } else {
        None
    }
}

fn errors(truth: &[f64], said: &[f64]) -> AmountErrors {
    let of =
        |error: fn(f64, f64) -> f64| mean(said.iter().zip(truth).map(|(said, truth)| error(*said, *truth)).collect());
    let squared = of(|said, truth| (said - truth).powi(2));
    let alike = truth.iter().all(|value| *value == truth[0]);
    let variance = mean(truth.to_vec())
        .filter(|_| !alike)
        .and_then(|middle| mean(truth.iter().map(|value| (value - middle).powi(2)).collect()));
    AmountErrors {
        mae: of(|said, truth| (said - truth).abs()),
        rmse: squared.map(f64::sqrt),
        r2: squared.zip(variance).map(|(squared, variance)| 1.0 - squared / variance).filter(|r2| r2.is_finite()),
        spearman: spearman(truth, said),
        bias: of(|said, truth| said - truth),
    }
}

/// The correlation of the ranks.
fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    // Of -0 and 0 the ranks are to be the same.
    let ranks = |values: &[f64]| midranks(&values.iter().map(|value| value + 0.0).collect::<Vec<f64>>());
    let middle = (a.len() as f64 + 1.0) / 2.0;
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in ranks(a).iter().zip(ranks(b)) {
        let (a, b) = (a - middle, b - middle);
        both += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    (of_a > 0.0 && of_b > 0.0).then(|| both / (of_a * of_b).sqrt())
}

/// How many subjects there are, and the interval of the mean absolute error.
fn mae_interval(rows: Amounts<'_>, seed: u64) -> (usize, Interval) {
    let (of, subjects) = numbered(rows.subjects);
    let errors = rows.truth.iter().zip(rows.expected).map(|(truth, expected)| (truth - expected).abs());
    let mut errors: Vec<(usize, f64)> = of.into_iter().zip(errors).collect();
    errors.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    // Of each subject its rows and the sum of their errors, so that a replicate visits subjects alone.
    let mut sums = vec![(0.0, 0.0); subjects];
    for (subject, error) in errors {
        let sum = &mut sums[subject];
        *sum = (sum.0 + 1.0, sum.1 + error);
    }
    let interval = bootstrap(subjects, subjects, seed, |times| {
        let add = |so_far: (f64, f64), (times, of): (&u32, &(f64, f64))| {
            (so_far.0 + f64::from(*times) * of.0, so_far.1 + f64::from(*times) * of.1)
        };
        let (n, sum) = times.iter().zip(&sums).fold((0.0, 0.0), add);
        Some(sum / n).filter(|mae| mae.is_finite())
    });
    (subjects, interval)
}

fn coverage(truth: &[f64], central: &[[f64; 2]]) -> Central {
    let within = truth.iter().zip(central).filter(|(truth, [low, high])| low <= *truth && *truth <= high).count();
    Central {
        level: CENTRAL,
        coverage: within as f64 / truth.len() as f64,
        mean_width: mean(central.iter().map(|[low, high]| high - low).collect()),
    }
}

fn at_cuts(rows: Amounts<'_>) -> Vec<AtCut> {
    let at = |(place, cut): (usize, &f64)| {
        let row = |(i, truth): (usize, &f64)| Scored {
            subject: rows.subjects[i],
            risk: rows.reaching[i * rows.cuts.len() + place],
            outcome: truth >= cut,
        };
        let scored: Vec<Scored> = rows.truth.iter().enumerate().map(row).collect();
        let figures = Figures::of(&Ranked::new(&scored).rows, 0.5, |_| 1);
        AtCut {
            cut: *cut,
            reached: scored.iter().filter(|row| row.outcome).count(),
            auroc: figures.auroc,
            brier: figures.brier,
            ece: figures.ece,
        }
    };
    rows.cuts.iter().enumerate().map(at).collect()
}

fn groups(rows: Amounts<'_>) -> Vec<AmountGroup> {
    let mut pairs: Vec<(f64, f64)> = rows.expected.iter().copied().zip(rows.truth.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let least = (pairs.len() / GROUPS.0).max(GROUPS.1);
    let (mut ends, mut from, mut at) = (Vec::new(), 0, 0);
    for tied in pairs.chunk_by(|a, b| a.0 == b.0) {
        at += tied.len();
        if at - from >= least {
            ends.push(at);
            from = at;
        }
    }
    // What is left over is too little for a group of its own.
    if let Some(last) = ends.last_mut() {
        *last = pairs.len();
    }
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(&ends).filter_map(|(start, end)| group(&pairs[start..*end])).collect()
}

/// Of pairs of expected and observed, of which there are several.
fn group(pairs: &[(f64, f64)]) -> Option<AmountGroup> {
    let mean_expected = mean(pairs.iter().map(|pair| pair.0).collect())?;
    let mean_observed = mean(pairs.iter().map(|pair| pair.1).collect())?;
    let n = pairs.len() as f64;
    let variance = mean(pairs.iter().map(|pair| (pair.1 - mean_observed).powi(2)).collect())? * n / (n - 1.0);
    let half = Z95 * (variance / n).sqrt();
    let observed_ci = [mean_observed - half, mean_observed + half];
    Some(AmountGroup { n: pairs.len(), mean_expected, mean_observed, observed_ci })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::near;
    use super::*;

    fn each_its_own(n: usize) -> Vec<SubjectId> {
        (0..n).map(|i| SubjectId(i as i64)).collect()
    }

    /// Without cuts and intervals.
    fn plain<'a>(subjects: &'a [SubjectId], truth: &'a [f64], expected: &'a [f64]) -> Amounts<'a> {
        Amounts { subjects, truth, expected, training_mean: 2.0, cuts: &[], reaching: &[], central: None }
    }

    #[test]
    fn figures_by_hand() {
        let (subjects, truth) = (each_its_own(4), [0.0, 1.0, 3.0, 8.0]);
        let rows = Amounts {
            cuts: &[0.5, 2.0, 6.0],
            reaching: &[0.5, 0.0, 0.0, 0.9, 0.4, 0.1, 0.9, 0.8, 0.2, 1.0, 0.8, 0.2],
            central: Some(&[[0.0, 1.0], [2.0, 4.0], [1.0, 9.0], [2.0, 8.0]]),
            ..plain(&subjects, &truth, &[1.0, 3.0, 2.0, 4.0])
        };
        let found = AmountFigures::of(rows, 0);
        assert!(
            near(found.errors.mae, 2.0) && near(found.errors.rmse, 5.5_f64.sqrt()) && near(found.errors.bias, -0.5)
        );
        // Around their mean, 3, the squares are 9, 4, 0 and 25; the ranks differ by 0, 1, 1 and 0.
        assert!(near(found.errors.r2, 1.0 - 22.0 / 38.0) && near(found.errors.spearman, 0.8));
        let baseline = found.baseline;
        assert!(near(baseline.mae, 2.5) && near(baseline.bias, -1.0) && near(baseline.r2, 1.0 - 42.0 / 38.0));
        assert_eq!(baseline.spearman, None);
        let central = found.central.unwrap();
        assert!(near(Some(central.coverage), 0.75) && near(central.mean_width, 17.0 / 4.0), "{central:?}");
        let briers = [(0.25 + 0.01 + 0.01) / 4.0, (0.16 + 0.04 + 0.04) / 4.0, (0.01 + 0.04 + 0.64) / 4.0];
        for (at, (brier, above)) in found.cuts.iter().zip(briers.into_iter().zip([3, 2, 1])) {
            assert!(near(at.brier, brier) && at.reached == above, "{at:?}");
        }
        assert!(near(found.cuts[2].auroc, 2.5 / 3.0) && near(found.cuts[0].auroc, 1.0));
        let crps = 1.5 * (briers[0] + briers[1]) / 2.0 + 4.0 * (briers[1] + briers[2]) / 2.0;
        assert!(near(found.crps, crps), "{found:?}");
        assert_eq!((found.n, found.subjects, found.groups.len()), (4, 4, 0));
    }

    #[test]
    fn groups_hold_ten_rows_at_least_and_part_no_tie() {
        // Of 45 rows with the same expectation, 5 with another, and 24 that are all different.
        let expected: Vec<f64> = (0..74)
            .map(|i| {
                if i < 45 {
                    1.0
                } else if i < 50 {
                    2.0
                } else {
                    f64::from(i)
                }
            })
            .collect();
        let truth: Vec<f64> = (0..74).map(|i| f64::from(i % 2)).collect();
        let found = AmountFigures::of(plain(&each_its_own(74), &truth, &expected), 0).groups;
        assert_eq!(found.iter().map(|group| group.n).collect::<Vec<_>>(), [45, 10, 19]);
        assert!(near(Some(found[1].mean_expected), (5.0 * 2.0 + 52.0 * 5.0) / 10.0) && found[1].mean_observed == 0.5);
        // Ten of two values: the variance is 2.5 / 9.
        let half = Z95 * (2.5_f64 / 9.0 / 10.0).sqrt();
        assert!(near(Some(found[1].observed_ci[0]), 0.5 - half) && near(Some(found[1].observed_ci[1]), 0.5 + half));
        let few = AmountFigures::of(plain(&each_its_own(9), &truth[..9], &expected[..9]), 0);
        assert!(few.groups.is_empty());
        let many: Vec<f64> = (0..1_999).map(f64::from).collect();
        let found = AmountFigures::of(plain(&each_its_own(1_999), &many, &many), 0).groups;
        assert_eq!((found.len(), found[0].n, found[9].n), (10, 199, 208));
    }

    #[test]
    fn what_does_not_exist_is_none() {
        let (one, truth) = (each_its_own(1), [1.0]);
        let why = |rows: Amounts<'_>| {
            let found = AmountFigures::of(rows, 0);
            assert_eq!((found.errors, found.baseline, found.crps), Default::default());
            found.why_none
        };
        let row = plain(&one, &truth, &[2.0]);
        assert_eq!(why(plain(&[], &[], &[])), Some("no rows"));
        let other = Some("what was expected, what came and subjects are not of the same rows");
        assert_eq!((why(plain(&one, &truth, &[])), why(Amounts { cuts: &[1.0], ..row })), (other, other));
        assert_eq!(why(Amounts { central: Some(&[]), ..row }), other);
        for broken in [f64::NAN, f64::INFINITY] {
            let infinite = Some("an amount is not a finite number");
            assert_eq!(why(plain(&one, &truth, &[broken])), infinite);
            assert_eq!(why(Amounts { training_mean: broken, ..row }), infinite);
            let reaching = Amounts { cuts: &[1.0], reaching: &[broken], ..row };
            assert_eq!(why(reaching), Some("a probability is not in 0 to 1"));
            let ends = [[0.0, broken]];
            assert_eq!(why(Amounts { central: Some(&ends), ..row }), Some("a central interval is none"));
        }
        let cuts = Amounts { cuts: &[1.0, 1.0], reaching: &[0.5; 2], ..row };
        assert_eq!(why(cuts), Some("the cuts do not ascend"));
        let found = AmountFigures::of(Amounts { cuts: &[0.5], reaching: &[0.5], ..row }, 0);
        assert_eq!((found.errors.mae, found.errors.r2, found.errors.spearman), (Some(1.0), None, None));
        assert_eq!((found.crps, found.mae_interval.ends, found.cuts[0].auroc), (None, None, None));
        let huge = AmountFigures::of(plain(&each_its_own(2), &[1e300, -1e300], &[0.0, 1.0]), 0);
        assert_eq!((huge.errors.rmse, huge.errors.r2, huge.errors.mae), (None, None, Some(1e300)));
        let alike = AmountFigures::of(plain(&each_its_own(3), &[0.1; 3], &[0.1, 0.2, 0.3]), 0);
        assert_eq!((alike.errors.r2, alike.errors.spearman), (None, None));
    }

    /// Copies of rows under the same subject leave the interval as it is.
    #[test]
    fn the_interval_draws_subjects() {
        let truth: Vec<f64> = (0..50).map(|i| f64::from(i * 13 % 50)).collect();
        let expected: Vec<f64> = (0..50).map(f64::from).collect();
        let subjects = each_its_own(50);
        let once = AmountFigures::of(plain(&subjects, &truth, &expected), 4);
        let (many_s, many_t, many_e) = (subjects.repeat(7), truth.repeat(7), expected.repeat(7));
        let many = AmountFigures::of(plain(&many_s, &many_t, &many_e), 4);
        let (a, b) = (once.mae_interval.ends.unwrap(), many.mae_interval.ends.unwrap());
        let mae = once.errors.mae.unwrap();
        assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9 && a[0] < mae && mae < a[1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn order_and_scale_do_not_matter(
            data in prop::collection::vec((0u8..9, -20i32..20, 0u8..5, 0u8..5, 0i64..9), 2..50),
            power in -3i32..4,
        ) {
            let mut rows = data;
            let figures = |rows: &[(u8, i32, u8, u8, i64)], scale: f64, bent: fn(f64) -> f64| {
                let subjects: Vec<SubjectId> = rows.iter().map(|row| SubjectId(row.4)).collect();
                let truth: Vec<f64> = rows.iter().map(|row| f64::from(row.0) * scale).collect();
                let expected: Vec<f64> = rows.iter().map(|row| bent(f64::from(row.1) / 4.0 * scale)).collect();
                let both = |row: &(u8, i32, u8, u8, i64)| [row.2, row.3].map(|p| f64::from(p) / 4.0);
                let reaching: Vec<f64> = rows.iter().flat_map(both).collect();
                let cuts = [2.0 * scale, 5.0 * scale];
                let rows = Amounts { cuts: &cuts, reaching: &reaching, ..plain(&subjects, &truth, &expected) };
                AmountFigures::of(rows, 3)
            };
            let found = figures(&rows, 1.0, |said| said);
            // Powers of two lose nothing.
            let scale = 2.0_f64.powi(power);
            let scaled = figures(&rows, scale, |said| said);
            prop_assert_eq!(scaled.errors.mae.unwrap(), found.errors.mae.unwrap() * scale);
            prop_assert_eq!(scaled.crps.unwrap(), found.crps.unwrap() * scale);
            prop_assert_eq!((scaled.errors.r2, scaled.errors.spearman), (found.errors.r2, found.errors.spearman));
            // A monotone transform of what is expected keeps its ranks.
            prop_assert_eq!(figures(&rows, 1.0, |said| said.exp()).errors.spearman, found.errors.spearman);
            rows.reverse();
            prop_assert_eq!(figures(&rows, 1.0, |said| said), found);
        }
    }
}
