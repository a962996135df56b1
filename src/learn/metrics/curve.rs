//! What happens at every threshold at once.

use serde::Serialize;

use super::Scored;
use super::bootstrap::quantile;
use super::figures::Confusion;

/// Most points of a curve.
const POINTS: usize = 200;

/// Curves for plots.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Curves {
    /// Receiver operating characteristic, from (0, 0) to (1, 1); empty with one outcome only.
    pub roc: Vec<RocPoint>,
    /// Precision over recall, from the highest risk down; empty without positives.
    pub pr: Vec<PrPoint>,
    /// Decision curve at thresholds 0.01 to 0.99; empty without rows.
    pub decision: Vec<NetBenefit>,
}

/// A point of the receiver operating characteristic.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct RocPoint {
    /// Least risk that counts as predicted; none where nothing does.
    pub threshold: Option<f64>,
    /// 1 - specificity.
    pub fpr: f64,
    /// Sensitivity.
    pub tpr: f64,
}

/// A point of precision over recall.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct PrPoint {
    /// Least risk that counts as predicted.
    pub threshold: f64,
    /// Sensitivity.
    pub recall: f64,
    /// Positive predictivity.
    pub precision: f64,
}

/// Net benefit per row: true positives less false positives times the odds of the threshold
/// (Vickers and Elkin 2006). Treating nobody has 0.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct NetBenefit {
    /// Risk from which one would act.
    pub threshold: f64,
    /// Acting on the model.
    pub model: f64,
    /// Acting on everybody.
    pub all: f64,
}

/// What acting from one threshold on means.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct OperatingPoint {
    /// The quantile of the risks that the threshold is; none: it is the model's own.
    pub quantile: Option<f64>,
    /// Least risk that counts as predicted.
    pub threshold: f64,
    /// Share of rows at or above it.
    pub alert_share: f64,
    /// Share of positives that are at or above it.
    pub sensitivity: Option<f64>,
    /// Share of negatives that are below it.
    pub specificity: Option<f64>,
    /// Share of positives at or above it.
    pub ppv: Option<f64>,
    /// Share of negatives below it.
    pub npv: Option<f64>,
}

/// How many rows of each outcome lie at or above each risk that occurs, from the highest down.
#[derive(Debug)]
pub(super) struct Steps {
    steps: Vec<(f64, Confusion)>,
    positives: f64,
    negatives: f64,
}

impl Steps {
    /// Of rows from the highest risk down.
    pub(super) fn of(rows: &[Scored]) -> Steps {
        let positives = rows.iter().filter(|row| row.outcome).count() as f64;
        let negatives = rows.len() as f64 - positives;
        let mut so_far = Confusion { positives, negatives, ..Confusion::default() };
        let steps = rows.chunk_by(|a, b| a.risk.total_cmp(&b.risk).is_eq()).map(|tied| {
            let found = tied.iter().filter(|row| row.outcome).count();
            so_far.found += found as f64;
            so_far.wrong += (tied.len() - found) as f64;
            (tied[0].risk, so_far)
        });
        Steps { steps: steps.collect(), positives, negatives }
    }

    fn at(&self, threshold: f64) -> Confusion {
        let none = Confusion { positives: self.positives, negatives: self.negatives, ..Confusion::default() };
        let above = self.steps.partition_point(|(risk, _)| *risk >= threshold);
        above.checked_sub(1).map_or(none, |last| self.steps[last].1)
    }

    /// The curves.
    pub(super) fn curves(&self) -> Curves {
        let (positives, negatives, n) = (self.positives, self.negatives, self.positives + self.negatives);
        let mut roc = Vec::new();
        if positives > 0.0 && negatives > 0.0 {
            roc.push(RocPoint { threshold: None, fpr: 0.0, tpr: 0.0 });
            roc.extend(self.steps.iter().map(|(risk, at)| RocPoint {
                threshold: Some(*risk),
                fpr: at.wrong / negatives,
                tpr: at.found / positives,
            }));
        }
        let mut pr = Vec::new();
        if positives > 0.0 {
            pr.extend(self.steps.iter().map(|(risk, at)| PrPoint {
                threshold: *risk,
                recall: at.found / positives,
                precision: at.found / (at.found + at.wrong),
            }));
        }
        let net = |percent: i32| {
            let threshold = f64::from(percent) / 100.0;
            let (at, odds) = (self.at(threshold), threshold / (1.0 - threshold));
            NetBenefit { threshold, model: (at.found - at.wrong * odds) / n, all: (positives - negatives * odds) / n }
        };
        Curves {
            roc: thin(roc, |point| (point.fpr, point.tpr)),
            pr: thin(pr, |point| (point.recall, point.precision)),
            decision: if n > 0.0 { (1..100).map(net).collect() } else { Vec::new() },
        }
    }

    /// At the nine deciles of the risks of `rows` (from the highest down) that differ, and at `threshold`.
    pub(super) fn operating_points(&self, rows: &[Scored], threshold: f64) -> Vec<OperatingPoint> {
        if rows.is_empty() {
            return Vec::new();
        }
        let risks: Vec<f64> = rows.iter().rev().map(|row| row.risk).collect();
        let deciles = (1..10).map(|decile| f64::from(decile) / 10.0);
        let mut at: Vec<(Option<f64>, f64)> = deciles.map(|q| (Some(q), quantile(&risks, q))).collect();
        at.dedup_by(|a, b| a.1 == b.1);
        at.push((None, threshold));
        let point = |(quantile, threshold)| {
            let at = self.at(threshold);
            OperatingPoint {
                quantile,
                threshold,
                alert_share: (at.found + at.wrong) / rows.len() as f64,
                sensitivity: at.sensitivity(),
                specificity: at.specificity(),
                ppv: at.ppv(),
                npv: at.npv(),
            }
        };
        at.into_iter().map(point).collect()
    }
}

/// At most [`POINTS`] points of a curve, its ends among them: what is left out lies within a
/// 199th of the curve's length (in sums of steps along both axes) from a point that is kept.
fn thin<P>(points: Vec<P>, place: fn(&P) -> (f64, f64)) -> Vec<P> {
    if points.len() <= POINTS {
        return points;
    }
    let step = |pair: &[P]| {
        let ((x, y), (next_x, next_y)) = (place(&pair[0]), place(&pair[1]));
        (next_x - x).abs() + (next_y - y).abs()
    };
    let gap = points.windows(2).map(step).sum::<f64>() / (POINTS - 1) as f64;
    let mut way = 0.0;
    // Which 199th of the way each point ends in; the last is kept whatever rounding makes of it.
    let mut stretches: Vec<usize> = vec![0];
    for pair in points.windows(2) {
        way += step(pair);
        stretches.push((way / gap) as usize);
    }
    let last = points.len() - 1;
    let keep = |i: usize| i == 0 || i == last || (stretches[i] != stretches[i - 1] && stretches[i] < POINTS - 1);
    let kept = points.into_iter().enumerate().filter(|(i, _)| keep(*i));
    kept.map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::figures::Ranked;
    use super::super::tests::{near, rows};
    use super::*;

    fn steps(data: &[(f64, bool)]) -> (Steps, Vec<Scored>) {
        let rows = Ranked::new(&rows(data)).rows;
        (Steps::of(&rows), rows)
    }

    #[test]
    fn curves_by_hand() {
        let (steps, _) = steps(&[(0.9, true), (0.5, true), (0.5, false), (0.2, false)]);
        let curves = steps.curves();
        let roc: Vec<_> = curves.roc.iter().map(|p| (p.threshold, p.fpr, p.tpr)).collect();
        assert_eq!(roc, [(None, 0.0, 0.0), (Some(0.9), 0.0, 0.5), (Some(0.5), 0.5, 1.0), (Some(0.2), 1.0, 1.0)]);
        let pr: Vec<_> = curves.pr.iter().map(|p| (p.recall, p.precision)).collect();
        assert_eq!(pr, [(0.5, 1.0), (1.0, 2.0 / 3.0), (1.0, 0.5)]);
        assert_eq!(curves.decision.len(), 99);
        // At 0.2 everybody is treated; at 0.5 two positives and one negative; at 0.6 one positive.
        let at = |percent: usize| curves.decision[percent - 1];
        assert!(near(Some(at(20).model), (2.0 - 2.0 * 0.25) / 4.0) && near(Some(at(20).all), at(20).model));
        assert!(near(Some(at(50).model), (2.0 - 1.0) / 4.0) && near(Some(at(50).all), 0.0));
        assert!(near(Some(at(60).model), 0.25) && near(Some(at(60).all), (2.0 - 2.0 * 1.5) / 4.0));
        assert!(near(Some(at(95).model), 0.0));
    }

    #[test]
    fn one_outcome_or_none_has_no_curve() {
        let (one, _) = steps(&[(0.9, false), (0.1, false)]);
        assert!(one.curves().roc.is_empty() && one.curves().pr.is_empty() && one.curves().decision.len() == 99);
        let (none, rows) = steps(&[]);
        assert_eq!(none.curves(), Curves::default());
        assert_eq!(none.operating_points(&rows, 0.5), []);
    }

    #[test]
    fn operating_points_by_hand() {
        let data: Vec<(f64, bool)> = (0..11).map(|i| (f64::from(i) / 10.0, i >= 8 || i == 2)).collect();
        let (steps, rows) = steps(&data);
        let points = steps.operating_points(&rows, 0.75);
        assert_eq!(points.len(), 10);
        let (median, own) = (points[4], points[9]);
        assert_eq!((median.quantile, own.quantile, own.threshold), (Some(0.5), None, 0.75));
        assert!(near(Some(median.threshold), 0.5) && near(Some(median.alert_share), 6.0 / 11.0));
        assert!(near(own.sensitivity, 0.75) && near(own.specificity, 1.0) && near(own.ppv, 1.0));
        assert!(near(own.npv, 7.0 / 8.0) && near(Some(own.alert_share), 3.0 / 11.0));
        let (tied, rows) = super::tests::steps(&[(0.5, true), (0.5, false), (0.5, false)]);
        assert_eq!(tied.operating_points(&rows, 0.6).len(), 2, "deciles that are alike are one");
    }

    proptest! {
        #[test]
        fn thinning_keeps_the_ends_and_the_shape(data in prop::collection::vec((0u16..900, any::<bool>()), 2..2000)) {
            let data: Vec<(f64, bool)> = data.iter().map(|(s, y)| (f64::from(*s) / 900.0, *y)).collect();
            let (steps, _) = steps(&data);
            let curves = steps.curves();
            prop_assert!(curves.roc.len() <= POINTS && curves.pr.len() <= POINTS);
            if let (Some(first), Some(last)) = (curves.roc.first(), curves.roc.last()) {
                prop_assert_eq!((first.fpr, first.tpr, last.fpr, last.tpr), (0.0, 0.0, 1.0, 1.0));
                // The way over both axes is 2, so that no point is farther off than a 199th of it.
                for (_, at) in &steps.steps {
                    let (fpr, tpr) = (at.wrong / at.negatives, at.found / at.positives);
                    let nearest = curves.roc.iter().map(|p| (p.fpr - fpr).abs() + (p.tpr - tpr).abs());
                    prop_assert!(nearest.fold(f64::INFINITY, f64::min) <= 2.0 / 199.0 + 1e-9);
                }
            }
        }
    }
}
