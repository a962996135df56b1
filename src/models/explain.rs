//! Why a row has its risk.

use serde::Serialize;

use super::calibration::{Calibration, Link};

/// Contributions in margin space, one a preprocessed column: `base + Σ = margin`.
#[derive(Clone, PartialEq, Debug)]
pub struct Attribution {
    /// The margin of the average training row.
    pub base: f64,
    /// What each column adds.
    pub contributions: Vec<f64>,
    /// By how much a contribution may be off where they are estimates (of samples, the largest
    /// standard error); none: they are exact.
    pub error: Option<f64>,
}

impl Attribution {
    /// An attribution that is no estimate.
    pub(super) fn exact(base: f64, contributions: Vec<f64>) -> Attribution {
        Attribution { base, contributions, error: None }
    }
}

/// Contributions in probability space, one a feature: `base + Σ = risk` (invariant 10).
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Explanation {
    /// The risk of the average training row.
    pub base: f64,
    /// The risk of this row, the same bits as [`super::Bundle::score`] gives.
    pub risk: f64,
    /// What each feature adds to or takes from the base, in the order of the card's features.
    pub contributions: Vec<f64>,
    /// By how much a contribution may be off where they are estimates (of samples, a bound on the
    /// standard errors); none: they are exact. Their sum is exact either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

/// Below this difference of margins the calibration is taken as straight.
const SAME_MARGIN: f64 = 1e-9;

/// The most that rounding leaves over in a margin (deep trees, thousands of them); it is about
/// 1e-15 as a rule.
const ROUNDING: f64 = 1e-9;

impl Explanation {
    /// Carries margin contributions (already one a feature) over into probability space.
    ///
    /// The rescale rule of DeepLIFT (Shrikumar et al. 2017): the calibration is one more
    /// layer with one input, so each contribution is multiplied by the change of the risk
    /// over the change of the margin; where there is no change, by the local derivative.
    /// What rounding leaves over goes to the largest contribution, which it changes least;
    /// the base stays the same for every row. More than rounding is never covered up, which
    /// can be told before the calibration stretches it: it would be a fault of the attribution,
    /// and breaks the sum for all to see.
    pub(super) fn rescale(attribution: Attribution, margin: f64, calibration: &Calibration, link: Link) -> Explanation {
        let Attribution { base: base_margin, mut contributions, error } = attribution;
        let told = contributions.iter().fold(base_margin, |sum, contribution| sum + contribution);
        let is_rounding = (margin - told).abs() <= ROUNDING;
        let base = calibration.risk(link, base_margin);
        let risk = calibration.risk(link, margin);
        let factor = if (margin - base_margin).abs() > SAME_MARGIN {
            (risk - base) / (margin - base_margin)
        } else {
            calibration.slope_at(link, margin)
        };
        for contribution in &mut contributions {
            *contribution *= factor;
        }
        // Adding the rest changes the rounding of the sum itself; twice settles it.
        for _ in 0..2 {
            let rest = risk - contributions.iter().fold(base, |sum, contribution| sum + contribution);
            let largest = contributions.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs()));
            if let Some(largest) = largest.filter(|_| is_rounding) {
                *largest += rest;
            }
        }
        Explanation { base, risk, contributions, error: error.map(|error| error * factor.abs()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn adds_up_in_probability_space(
            base in -6.0f64..6.0,
            parts in prop::collection::vec(-2.0f64..2.0, 1..40),
            slope in 0.1f64..3.0,
            intercept in -3.0f64..3.0,
        ) {
            let margin = parts.iter().fold(base, |sum, part| sum + part);
            let attribution = Attribution { base, contributions: parts.clone(), error: None };
            for calibration in [
                Calibration::Platt { slope, intercept },
                Calibration::Beta { a: slope, b: 0.0, c: intercept },
                Calibration::Isotonic { log_odds: vec![intercept, intercept + 1e-3, 9.0], risks: vec![0.01, 0.4, 0.9] },
            ] {
                let attribution = attribution.clone();
                let explanation = Explanation::rescale(attribution, margin, &calibration, Link::LogOdds);
                let sum = explanation.base + explanation.contributions.iter().sum::<f64>();
                prop_assert!((sum - explanation.risk).abs() < 1e-12);
                for (part, contribution) in parts.iter().zip(&explanation.contributions) {
                    prop_assert!(part * contribution >= -1e-12, "a contribution turned its sign");
                }
            }
        }
    }

    #[test]
    fn parts_that_cancel_out_are_still_told() {
        let attribution = Attribution { base: 0.0, contributions: vec![1.0, -1.0], error: None };
        let explanation = Explanation::rescale(attribution, 0.0, &Calibration::Identity, Link::LogOdds);
        assert_eq!(explanation.contributions, vec![0.25, -0.25]);
        assert_eq!(explanation.base, explanation.risk);
    }

    /// At a corner of the calibration the slopes of its two sides differ; the sum holds all the same.
    #[test]
    fn margins_that_hardly_differ_add_up_at_a_corner() {
        let calibration = Calibration::Isotonic { log_odds: vec![0.0, 1e-3, 2e-3], risks: vec![0.1, 0.1, 0.9] };
        for margin in [1e-3 - 5e-10, 1e-3, 1e-3 + 5e-10] {
            let attribution = Attribution { base: 1e-3, contributions: vec![1.0, margin - 1e-3, -1.0], error: None };
            let explanation = Explanation::rescale(attribution, margin, &calibration, Link::LogOdds);
            let sum = explanation.base + explanation.contributions.iter().sum::<f64>();
            assert!((sum - explanation.risk).abs() < 1e-12, "{explanation:?}");
        }
    }

    #[test]
    fn an_error_is_carried_over_by_the_same_factor() {
        let attribution = Attribution { base: 0.0, contributions: vec![3.0, -1.0], error: Some(0.5) };
        let explanation = Explanation::rescale(attribution, 2.0, &Calibration::Identity, Link::LogOdds);
        let factor = explanation.contributions[0] / 3.0;
        assert!((explanation.error.unwrap() - 0.5 * factor).abs() < 1e-12);
        assert_eq!(
            Explanation::rescale(Attribution::exact(0.0, vec![1.0]), 1.0, &Calibration::Identity, Link::LogOdds).error,
            None
        );
    }

    #[test]
    fn rounding_is_shared_out_and_a_lost_contribution_is_not_covered_up() {
        let off_by = |error: f64| {
            let attribution = Attribution { base: -1.0, contributions: vec![0.5, 2.0 + error, -0.25], error: None };
            let explanation = Explanation::rescale(attribution, 1.25, &Calibration::Identity, Link::LogOdds);
            (explanation.base + explanation.contributions.iter().sum::<f64>() - explanation.risk).abs()
        };
        assert!(off_by(1e-10) < 1e-15);
        assert!(off_by(1e-3) > 1e-4);
    }
}
