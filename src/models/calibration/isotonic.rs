//! Isotonic regression: the never-falling curve nearest to the outcomes, without a formula.

use super::{Calibration, Labelled, smoothed};

/// Least distance of two points, as a share of all log-odds' range: the curve's rise stays
/// bounded, and a card small, however many rows there are.
const LEAST_STEP: f64 = 1e-3;

/// Neighbouring rows of one risk.
#[derive(Copy, Clone)]
struct Block {
    rows: f64,
    /// Sum of their log-odds.
    log_odds: f64,
    /// Sum of their targets.
    targets: f64,
}

impl Block {
    fn centre(&self) -> f64 {
        self.log_odds / self.rows
    }

    fn risk(&self) -> f64 {
        self.targets / self.rows
    }

    fn join(&mut self, other: Block) {
        self.rows += other.rows;
        self.log_odds += other.log_odds;
        self.targets += other.targets;
    }
}

/// Fits by pooling adjacent violators (Ayer et al. 1955), then joins the centres of the blocks
/// by straight lines. `None` if that leaves no rise.
pub(super) fn isotonic(rows: &[Labelled]) -> Option<Calibration> {
    let mut ranked = smoothed(rows);
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let least = (ranked.last()?.0 - ranked.first()?.0) * LEAST_STEP;
    let mut blocks: Vec<Block> = Vec::new();
    // Rows of the same log-odds have one risk whatever their labels.
    for group in ranked.chunk_by(|a, b| a.0 == b.0) {
        let mut block = Block { rows: 0.0, log_odds: 0.0, targets: 0.0 };
        group.iter().for_each(|&(log_odds, targets)| block.join(Block { rows: 1.0, log_odds, targets }));
        while let Some(before) = blocks.pop_if(|before| before.risk() >= block.risk()) {
            block.join(before);
        }
        blocks.push(block);
    }
    // Blocks too near to each other become one; the order of their risks stays.
    let mut apart: Vec<Block> = Vec::new();
    for block in blocks {
        match apart.last_mut() {
            Some(last) if block.centre() - last.centre() < least => last.join(block),
            _ => apart.push(block),
        }
    }
    let (log_odds, risks) = apart.iter().map(|block| (block.centre(), block.risk())).unzip();
    Some(Calibration::Isotonic { log_odds, risks }).filter(Calibration::is_sound)
}

/// The risk at `z` on the lines through the points; `NaN` for `NaN`.
pub(super) fn risk(log_odds: &[f64], risks: &[f64], z: f64) -> f64 {
    let after = log_odds.partition_point(|point| *point <= z);
    if z.is_nan() || after == 0 || after == log_odds.len() {
        return if z.is_nan() { z } else { risks[after.saturating_sub(1)] };
    }
    let (low, high) = (log_odds[after - 1], log_odds[after]);
    let (from, to) = (risks[after - 1], risks[after]);
    // Rounding must not lift it above the next point.
    (from + (to - from) * ((z - low) / (high - low))).min(to)
}

/// The slope of the line that `z` lies on or at the end of; 0 beyond the points.
pub(super) fn slope(log_odds: &[f64], risks: &[f64], z: f64) -> f64 {
    let after = log_odds.partition_point(|point| *point < z);
    if after == 0 || after == log_odds.len() {
        return 0.0;
    }
    (risks[after] - risks[after - 1]) / (log_odds[after] - log_odds[after - 1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::random::Random;
    use super::super::{Link, sigmoid};
    use super::*;

    #[test]
    fn the_curve_that_made_the_labels_is_found_whatever_its_shape() {
        let mut random = Random::new(8);
        // Two straight lines with a bend: no sigmoid.
        let curve = |z: f64| if z < -1.0 { 0.1 * (z + 4.0) / 3.0 } else { 0.1 + 0.16 * (z + 1.0) };
        let mut row = || {
            let z = random.unit() * 8.0 - 4.0;
            (z, random.unit() < curve(z))
        };
        let rows: Vec<Labelled> = (0..40_000).map(|_| row()).collect();
        let fitted = isotonic(&rows).unwrap();
        for z in [-3.5, -3.0, -2.5, -2.0, -1.5, -0.5, 0.0, 0.5, 1.5, 2.0, 2.5, 3.0, 3.5] {
            let (found, want) = (fitted.risk(Link::LogOdds, z), curve(z));
            assert!((found - want).abs() < 0.05, "{z}: {found} {want}");
        }
    }

    #[test]
    fn violators_are_pooled_and_the_centres_joined() {
        let rows = [(0.0, false), (1.0, true), (2.0, false), (3.0, true), (3.0, true)];
        let Some(Calibration::Isotonic { log_odds, risks }) = isotonic(&rows) else { panic!("none") };
        // Targets are 0.25 and 0.8: two blocks of one row at either end, the middle is one of two.
        assert_eq!(log_odds, [0.0, 1.5, 3.0]);
        for (found, want) in risks.iter().zip([0.25, 0.525, 0.8]) {
            assert!((found - want).abs() < 1e-12, "{risks:?}");
        }
        assert!((risk(&log_odds, &risks, 0.75) - 0.3875).abs() < 1e-12);
        assert_eq!((risk(&log_odds, &risks, -9.0), risk(&log_odds, &risks, 9.0)), (risks[0], risks[2]));
    }

    #[test]
    fn rows_without_a_rise_give_nothing() {
        assert_eq!(isotonic(&[]), None);
        assert_eq!(isotonic(&[(0.5, true), (0.5, false), (0.5, true)]), None);
        assert_eq!(isotonic(&[(0.0, true), (1.0, false)]), None);
    }

    #[test]
    fn a_million_steps_make_a_small_card() {
        let mut random = Random::new(9);
        let mut row = || {
            let z = random.unit() * 12.0 - 6.0;
            (z, random.unit() < sigmoid(z))
        };
        let rows: Vec<Labelled> = (0..100_000).map(|_| row()).collect();
        let Some(Calibration::Isotonic { log_odds, risks }) = isotonic(&rows) else { panic!("none") };
        assert!((20..=1_001).contains(&log_odds.len()), "{}", log_odds.len());
        assert!(log_odds.windows(2).all(|pair| pair[1] - pair[0] > 0.0119));
        assert!(risks[0] > 0.0 && risks[risks.len() - 1] < 1.0, "nothing is certain");
    }

    proptest! {
        #[test]
        fn the_curve_never_falls_and_never_leaves_the_targets(
            rows in prop::collection::vec((-20i8..20, any::<bool>()), 2..80), a in -25.0f64..25.0, b in -25.0f64..25.0,
        ) {
            let rows: Vec<Labelled> = rows.iter().map(|&(z, label)| (f64::from(z), label)).collect();
            let Some(fitted) = isotonic(&rows) else { return Ok(()) };
            let [p, q] = [a.min(b), a.max(b)].map(|z| fitted.risk(Link::LogOdds, z));
            prop_assert!(0.0 < p && p <= q && q < 1.0);
        }

        /// Against the max-min formula of isotonic regression (Robertson, Wright and Dykstra 1988).
        #[test]
        fn pooling_is_least_squares(rows in prop::collection::vec((-9i8..9, any::<bool>()), 2..40)) {
            let rows: Vec<Labelled> = rows.iter().map(|&(z, label)| (f64::from(z), label)).collect();
            let mut ranked = smoothed(&rows);
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
            let Some(Calibration::Isotonic { mut risks, .. }) = isotonic(&rows) else { return Ok(()) };
            // The greatest over starts of the least over ends of a run's mean.
            let values: Vec<f64> = ranked.iter().map(|row| row.0).collect();
            let want = |z: f64| {
                let mean = |low: f64, high: f64| {
                    let run: Vec<f64> =
                        ranked.iter().filter(|row| (low..=high).contains(&row.0)).map(|row| row.1).collect();
                    run.iter().sum::<f64>() / run.len() as f64
                };
                let starts = values.iter().filter(|&&low| low <= z);
                let least = |low: f64| {
                    values.iter().filter(|&&high| high >= z).map(|&high| mean(low, high)).fold(f64::MAX, f64::min)
                };
                starts.map(|&low| least(low)).fold(f64::MIN, f64::max)
            };
            let mut steps: Vec<f64> = values.iter().map(|&z| want(z)).collect();
            for curve in [&mut steps, &mut risks] {
                curve.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
            }
            prop_assert_eq!(steps.len(), risks.len());
            for (found, want) in risks.iter().zip(&steps) {
                prop_assert!((found - want).abs() < 1e-9, "{risks:?} {steps:?}");
            }
        }
    }
}
