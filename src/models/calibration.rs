//! From a margin to a probability.
//!
//! Three methods, of which [`Calibration::fit`] takes the one that subjects it was not fitted
//! on speak for: Platt's, beta calibration and isotonic regression. Whatever the method, a
//! higher margin never has a lower risk, and the risk moves without a jump, so that an
//! explanation can follow it.

mod choice;
mod isotonic;
mod logistic;

use serde::{Deserialize, Serialize};

/// What a model's margin is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Log-odds: logistic regression, boosting, perceptron, naive Bayes; or any number
    /// that rises with them (a kernel machine's distance, a bedside score's points, a log hazard
    /// ratio), which calibration turns into log-odds.
    LogOdds,
    /// A probability: a forest's mean leaf, a share of neighbours. SHAP values of a forest add up in this space,
    /// not in log-odds, so this is its margin; calibration works on the logit of it, cut
    /// off at 0.001 from either end (finer than one leaf's share of some hundred trees).
    Probability,
}

/// How a margin becomes a risk.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Calibration {
    /// The margin's own probability.
    Identity,
    /// `sigmoid(slope * log-odds + intercept)`, with a positive slope (Platt 1999).
    Platt {
        /// Factor on the log-odds; positive, so that the order of rows stays.
        slope: f64,
        /// Added to them.
        intercept: f64,
    },
    /// `sigmoid(a ln p - b ln(1 - p) + c)` where `p` is the probability of the log-odds (Kull,
    /// Silva Filho and Flach 2017); `a` and `b` are not negative and not both 0.
    Beta {
        /// Factor near risk 0.
        a: f64,
        /// Factor near risk 1.
        b: f64,
        /// Added to both.
        c: f64,
    },
    /// Straight lines from point to point, level beyond the first and the last: isotonic
    /// regression (Zadrozny and Elkan 2002) joined from block to block.
    Isotonic {
        /// Log-odds of the points, strictly rising.
        log_odds: Vec<f64>,
        /// Their risks, never falling.
        risks: Vec<f64>,
    },
}

/// How near a forest's probability may come to 0 or 1 before its logit is taken.
const CLIP: f64 = 1e-3;

/// Most points of an isotonic calibration.
const MOST_POINTS: usize = 10_000;

/// The logistic function.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `log(1 + exp(x))` without overflow.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

impl Link {
    /// A margin as log-odds.
    pub(super) fn log_odds(self, margin: f64) -> f64 {
        match self {
            Link::LogOdds => margin,
            Link::Probability => {
                let p = margin.clamp(CLIP, 1.0 - CLIP);
                (p / (1.0 - p)).ln()
            }
        }
    }

    /// The derivative of [`Link::log_odds`] at a margin.
    pub(super) fn log_odds_slope(self, margin: f64) -> f64 {
        match self {
            Link::LogOdds => 1.0,
            Link::Probability if margin <= CLIP || margin >= 1.0 - CLIP => 0.0,
            Link::Probability => 1.0 / (margin * (1.0 - margin)),
        }
    }
}

impl Calibration {
    /// The risk of a margin, in [0, 1]; never falls as the margin rises.
    pub fn risk(&self, link: Link, margin: f64) -> f64 {
        match (self, link) {
            (Calibration::Identity, Link::Probability) => margin.clamp(0.0, 1.0),
            _ => self.of(link.log_odds(margin)),
        }
    }

    /// The derivative of [`Calibration::risk`] at a margin; at a corner that of its left side.
    pub(super) fn slope_at(&self, link: Link, margin: f64) -> f64 {
        if let (Calibration::Identity, Link::Probability) = (self, link) {
            return 1.0;
        }
        let z = link.log_odds(margin);
        let risk = self.of(z);
        let slope = match self {
            Calibration::Identity => risk * (1.0 - risk),
            Calibration::Platt { slope, .. } => risk * (1.0 - risk) * slope,
            Calibration::Beta { a, b, .. } => risk * (1.0 - risk) * (a * sigmoid(-z) + b * sigmoid(z)),
            Calibration::Isotonic { log_odds, risks } => isotonic::slope(log_odds, risks, z),
        };
        slope * link.log_odds_slope(margin)
    }

    /// The risk of log-odds.
    fn of(&self, z: f64) -> f64 {
        match self {
            Calibration::Identity => sigmoid(z),
            Calibration::Platt { slope, intercept } => sigmoid(slope * z + intercept),
            Calibration::Beta { a, b, c } => {
                let [at_low, at_high] = logistic::beta_columns(z);
                sigmoid(a * at_low + b * at_high + c)
            }
            Calibration::Isotonic { log_odds, risks } => isotonic::risk(log_odds, risks, z),
        }
    }

    /// Whether the numbers are usable.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Calibration::Identity => true,
            Calibration::Platt { slope, intercept } => slope.is_finite() && *slope > 0.0 && intercept.is_finite(),
            Calibration::Beta { a, b, c } => {
                [a, b, c].iter().all(|x| x.is_finite()) && *a >= 0.0 && *b >= 0.0 && a + b > 0.0
            }
            Calibration::Isotonic { log_odds, risks } => {
                let span = log_odds.last().copied().unwrap_or(0.0) - log_odds.first().copied().unwrap_or(0.0);
                log_odds.len() == risks.len()
                    && (2..=MOST_POINTS).contains(&risks.len())
                    && log_odds.iter().all(|x| x.is_finite())
                    && span.is_finite()
                    && log_odds.windows(2).all(|pair| pair[0] < pair[1])
                    && risks.iter().all(|risk| (0.0..=1.0).contains(risk))
                    && risks.windows(2).all(|pair| pair[0] <= pair[1])
            }
        }
    }
}

/// Log-odds of a row, and whether it has the outcome.
type Labelled = (f64, bool);

/// The targets that Platt (1999) puts in the labels' place: a little away from 0 and 1, so that
/// no risk is ever certain and rows that a margin parts perfectly give finite numbers.
fn smoothed(rows: &[Labelled]) -> Vec<(f64, f64)> {
    let positives = rows.iter().filter(|row| row.1).count() as f64;
    let negatives = rows.len() as f64 - positives;
    let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
    rows.iter().map(|&(z, label)| (z, if label { high } else { low })).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of each method.
    fn all() -> [Calibration; 5] {
        [
            Calibration::Identity,
            Calibration::Platt { slope: 0.7, intercept: -1.0 },
            Calibration::Beta { a: 0.4, b: 1.7, c: 0.3 },
            Calibration::Beta { a: 1.2, b: 0.0, c: -0.3 },
            Calibration::Isotonic { log_odds: vec![-1.5, -1.0, 0.25, 3.0], risks: vec![0.01, 0.2, 0.2, 0.9] },
        ]
    }

    proptest! {
        #[test]
        fn a_higher_margin_never_has_a_lower_risk(a in -9.0f64..9.0, b in -9.0f64..9.0, small in any::<bool>()) {
            let scale = if small { 0.1 } else { 1.0 };
            let (low, high) = (a.min(b) * scale, a.max(b) * scale);
            for calibration in all() {
                for link in [Link::LogOdds, Link::Probability] {
                    let (p, q) = (calibration.risk(link, low), calibration.risk(link, high));
                    prop_assert!((0.0..=1.0).contains(&p) && p <= q && q <= 1.0, "{calibration:?}");
                }
            }
        }

        #[test]
        fn the_slope_is_the_derivative(margin in 0.02f64..0.98) {
            // Away from the corners of the isotonic one: log-odds -1.5, -1, 0.25 and 3.
            prop_assume!([-1.5, -1.0, 0.25, 3.0].iter().all(|z| {
                (Link::Probability.log_odds(margin) - z).abs() > 1e-3 && (margin - z).abs() > 1e-3
            }));
            for calibration in all() {
                for link in [Link::LogOdds, Link::Probability] {
                    let step = 1e-6;
                    let rise = calibration.risk(link, margin + step) - calibration.risk(link, margin - step);
                    let (found, want) = (calibration.slope_at(link, margin), rise / (2.0 * step));
                    prop_assert!((found - want).abs() < 1e-5 * (1.0 + want), "{calibration:?} {found} {want}");
                }
            }
        }

        #[test]
        fn a_card_gives_the_same_bits_back(margin in -9.0f64..9.0) {
            for calibration in all() {
                let text = serde_json::to_string(&calibration).unwrap();
                let loaded: Calibration = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(&loaded, &calibration);
                let bits = |c: &Calibration| c.risk(Link::LogOdds, margin).to_bits();
                prop_assert_eq!(bits(&loaded), bits(&calibration));
            }
        }
    }

    #[test]
    fn infinite_margins_have_the_risks_at_the_ends_and_no_number_has_none() {
        for calibration in all() {
            assert!(calibration.is_sound());
            let [low, high] = [f64::NEG_INFINITY, f64::INFINITY].map(|z| calibration.risk(Link::LogOdds, z));
            let [near_low, near_high] = [-800.0, 800.0].map(|z| calibration.risk(Link::LogOdds, z));
            assert!((low - near_low).abs() < 1e-12 && (high - near_high).abs() < 1e-12, "{calibration:?}");
            assert!(calibration.risk(Link::LogOdds, f64::NAN).is_nan());
        }
    }

    #[test]
    fn unusable_numbers_are_not_sound() {
        let isotonic = |log_odds: &[f64], risks: &[f64]| Calibration::Isotonic {
            log_odds: log_odds.to_vec(),
            risks: risks.to_vec(),
        };
        for wrong in [
            Calibration::Platt { slope: 0.0, intercept: 0.0 },
            Calibration::Platt { slope: 1.0, intercept: f64::NAN },
            Calibration::Beta { a: -0.1, b: 1.0, c: 0.0 },
            Calibration::Beta { a: 0.0, b: 0.0, c: 0.0 },
            Calibration::Beta { a: 1.0, b: f64::INFINITY, c: 0.0 },
            Calibration::Beta { a: 1.0, b: 1.0, c: f64::NAN },
            isotonic(&[], &[]),
            isotonic(&[0.0], &[0.5]),
            isotonic(&[0.0, 1.0], &[0.5]),
            isotonic(&[0.0, 0.0], &[0.1, 0.5]),
            isotonic(&[0.0, 1.0], &[0.5, 0.1]),
            isotonic(&[0.0, 1.0], &[0.5, 1.1]),
            isotonic(&[0.0, f64::NAN], &[0.1, 0.5]),
            isotonic(&[f64::MIN, f64::MAX], &[0.1, 0.5]),
        ] {
            assert!(!wrong.is_sound(), "{wrong:?}");
        }
    }
}
