//! From a margin to a probability, and from probabilities to a threshold.

use serde::{Deserialize, Serialize};

/// What a model's margin is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Log-odds: logistic regression, boosting, perceptron.
    LogOdds,
    /// A probability: a forest's mean leaf. SHAP values of a forest add up in this space,
    /// not in log-odds, so this is its margin; calibration works on the logit of it, cut
    /// off at 0.001 from either end (finer than one leaf's share of some hundred trees).
    Probability,
}

/// How a margin becomes a risk.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
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
}

/// How near a forest's probability may come to 0 or 1 before its logit is taken.
const CLIP: f64 = 1e-3;

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
}

impl Calibration {
    /// The risk of a margin, in [0, 1]; never falls as the margin rises.
    pub fn risk(self, link: Link, margin: f64) -> f64 {
        match (self, link) {
            (Calibration::Identity, Link::LogOdds) => sigmoid(margin),
            (Calibration::Identity, Link::Probability) => margin.clamp(0.0, 1.0),
            (Calibration::Platt { slope, intercept }, _) => sigmoid(slope * link.log_odds(margin) + intercept),
        }
    }

    /// The derivative of [`Calibration::risk`] at a margin.
    pub(super) fn slope_at(self, link: Link, margin: f64) -> f64 {
        let risk = self.risk(link, margin);
        let odds_slope = match link {
            Link::LogOdds => 1.0,
            Link::Probability if margin <= CLIP || margin >= 1.0 - CLIP => 0.0,
            Link::Probability => 1.0 / (margin * (1.0 - margin)),
        };
        match (self, link) {
            (Calibration::Identity, Link::LogOdds) => risk * (1.0 - risk),
            (Calibration::Identity, Link::Probability) => 1.0,
            (Calibration::Platt { slope, .. }, _) => risk * (1.0 - risk) * slope * odds_slope,
        }
    }

    /// Whether the numbers are usable.
    pub(super) fn is_sound(self) -> bool {
        match self {
            Calibration::Identity => true,
            Calibration::Platt { slope, intercept } => slope.is_finite() && slope > 0.0 && intercept.is_finite(),
        }
    }

    /// Fits Platt's two numbers on rows the model was not fitted on.
    ///
    /// Newton's method with backtracking on the smoothed targets of Platt, as Lin, Lin and
    /// Weng (2007) give it. Where the margins do not rise with the outcome (a model no
    /// better than chance on few rows), it stays [`Calibration::Identity`]: a negative
    /// slope would turn the model's order round.
    pub(super) fn platt(link: Link, margins: &[f64], labels: &[bool]) -> Calibration {
        let positives = labels.iter().filter(|&&label| label).count() as f64;
        let negatives = labels.len() as f64 - positives;
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        let points: Vec<(f64, f64)> = margins
            .iter()
            .zip(labels)
            .map(|(&margin, &label)| (link.log_odds(margin), if label { high } else { low }))
            .collect();
        let loss = |a: f64, b: f64| points.iter().map(|&(z, t)| softplus(a * z + b) - t * (a * z + b)).sum::<f64>();

        let (mut a, mut b) = (0.0, ((positives + 1.0) / (negatives + 1.0)).ln());
        let mut current = loss(a, b);
        for _ in 0..100 {
            // The tiny ridge keeps the Hessian invertible where all margins are equal.
            let (mut haa, mut hab, mut hbb, mut ga, mut gb) = (1e-12, 0.0, 1e-12, 0.0, 0.0);
            for &(z, t) in &points {
                let p = sigmoid(a * z + b);
                let (d, w) = (p - t, p * (1.0 - p));
                haa += z * z * w;
                hab += z * w;
                hbb += w;
                ga += z * d;
                gb += d;
            }
            if ga.abs() < 1e-9 && gb.abs() < 1e-9 {
                break;
            }
            let determinant = haa * hbb - hab * hab;
            let (da, db) = (-(hbb * ga - hab * gb) / determinant, -(haa * gb - hab * ga) / determinant);
            let descent = ga * da + gb * db;
            let mut step = 1.0;
            let better = loop {
                let next = loss(a + step * da, b + step * db);
                if next < current + 1e-4 * step * descent {
                    break Some(next);
                }
                step /= 2.0;
                if step < 1e-10 {
                    break None;
                }
            };
            let Some(next) = better else { break };
            (a, b, current) = (a + step * da, b + step * db, next);
        }
        let fitted = Calibration::Platt { slope: a, intercept: b };
        if fitted.is_sound() { fitted } else { Calibration::Identity }
    }
}

/// The threshold (alert at `risk >= threshold`) with the best min(sensitivity, positive
/// predictive value), the figure of the PhysioNet 2012 challenge; it lies between two
/// risks that occur. Of equal ones the highest is taken: fewer alerts for the same.
pub(super) fn best_threshold(risks: &[f64], labels: &[bool]) -> f64 {
    let mut ranked: Vec<(f64, bool)> = risks.iter().copied().zip(labels.iter().copied()).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    let (mut caught, mut best, mut threshold) = (0.0, f64::NEG_INFINITY, 1.0);
    for (i, &(risk, label)) in ranked.iter().enumerate() {
        caught += f64::from(u8::from(label));
        let next = ranked.get(i + 1).map(|&(next, _)| next);
        if next == Some(risk) {
            continue;
        }
        let score = (caught / positives).min(caught / (i as f64 + 1.0));
        if score > best {
            best = score;
            // Halfway down to the next risk; the midpoint of two floats may round to the
            // lower one, which would alert on it too.
            let middle = next.map_or(risk, |next| next + (risk - next) / 2.0);
            threshold = if next.is_some_and(|next| middle <= next) { risk } else { middle };
        }
    }
    threshold
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::random::Random;
    use super::*;

    #[test]
    fn platt_finds_the_line_that_made_the_labels() {
        let mut random = Random::new(5);
        let margins: Vec<f64> = (0..20_000).map(|_| random.unit() * 8.0 - 4.0).collect();
        let labels: Vec<bool> = margins.iter().map(|z| random.unit() < sigmoid(0.5 * z - 1.0)).collect();
        let Calibration::Platt { slope, intercept } = Calibration::platt(Link::LogOdds, &margins, &labels) else {
            panic!("identity")
        };
        assert!((slope - 0.5).abs() < 0.03 && (intercept + 1.0).abs() < 0.05, "{slope} {intercept}");
    }

    #[test]
    fn margins_that_fall_with_the_outcome_stay_uncalibrated() {
        let margins = [3.0, 2.0, 1.0, -1.0, -2.0];
        let labels = [false, false, false, true, true];
        assert_eq!(Calibration::platt(Link::LogOdds, &margins, &labels), Calibration::Identity);
    }

    #[test]
    fn equal_margins_give_no_nan() {
        let calibration = Calibration::platt(Link::Probability, &[0.2; 6], &[true, false, false, true, false, false]);
        assert!(calibration.risk(Link::Probability, 0.2).is_finite());
    }

    #[test]
    fn the_threshold_maximises_the_smaller_of_sensitivity_and_precision() {
        let risks = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4];
        let labels = [true, false, true, true, false, false];
        // Of 4 alerts 3 are right and 3 of 3 caught: 0.75.
        assert!((best_threshold(&risks, &labels) - 0.55).abs() < 1e-12);
        assert_eq!(best_threshold(&[0.3, 0.3], &[true, false]), 0.3);
    }

    proptest! {
        #[test]
        fn the_threshold_beats_every_other(rows in prop::collection::vec((0u8..20, any::<bool>()), 2..60)) {
            let risks: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 20.0).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            prop_assume!(labels.contains(&true));
            let score = |threshold: f64| {
                let alerts = risks.iter().filter(|&&risk| risk >= threshold).count() as f64;
                let caught = risks.iter().zip(&labels).filter(|&(&risk, &label)| label && risk >= threshold).count();
                let positives = labels.iter().filter(|&&label| label).count();
                if alerts == 0.0 { 0.0 } else { (caught as f64 / positives as f64).min(caught as f64 / alerts) }
            };
            let best = score(best_threshold(&risks, &labels));
            for &risk in &risks {
                prop_assert!(score(risk) <= best);
            }
        }

        #[test]
        fn a_higher_margin_never_has_a_lower_risk(a in -0.5f64..1.5, b in -0.5f64..1.5) {
            let (low, high) = (a.min(b), a.max(b));
            for calibration in [Calibration::Identity, Calibration::Platt { slope: 0.7, intercept: -1.0 }] {
                for link in [Link::LogOdds, Link::Probability] {
                    let (p, q) = (calibration.risk(link, low), calibration.risk(link, high));
                    prop_assert!((0.0..=1.0).contains(&p) && p <= q);
                }
            }
        }
    }
}
