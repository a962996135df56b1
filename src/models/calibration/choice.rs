//! Which calibration: the one that subjects it was not fitted on speak for.

use std::collections::BTreeMap;

use super::super::Folds;
use super::isotonic::isotonic;
use super::logistic::{beta, platt};
use super::{Calibration, Labelled, Link};

/// Parts that the subjects are dealt into.
const FOLDS: usize = 5;
/// Fewest rows, and fewest of either outcome, to choose by; below that only Platt's two numbers
/// are fitted.
const FEWEST: (usize, usize) = (200, 30);
/// How near to 0 or 1 a risk counts in a log loss.
const CERTAIN: f64 = 1e-12;

type Method = fn(&[Labelled]) -> Option<Calibration>;

/// The methods, the simplest first: of equally good ones that is taken.
const METHODS: [(&str, Method); 3] = [("platt", platt), ("beta", beta), ("isotonic", isotonic)];

impl Calibration {
    /// Fits on rows that the model was not fitted on, by the method of least log loss in a
    /// cross-validation over subjects (`groups`: whose each row is; none: each its own). The
    /// losses of all methods go into `found`, as `calibration_loss_METHOD`; a method that some
    /// fold gives no rise is not in the running.
    ///
    /// With few rows Platt scaling is taken unasked, and where the margins do not rise with the
    /// outcome at all, [`Calibration::Identity`].
    pub(in super::super) fn fit(
        link: Link,
        margins: &[f64],
        labels: &[bool],
        groups: Option<&[i64]>,
        seed: u64,
        found: &mut BTreeMap<String, f64>,
    ) -> Calibration {
        let rows: Vec<Labelled> =
            margins.iter().zip(labels).map(|(&margin, &label)| (link.log_odds(margin), label)).collect();
        let positives = labels.iter().filter(|&&label| label).count();
        if rows.len() < FEWEST.0 || positives.min(rows.len() - positives) < FEWEST.1 {
            return platt(&rows).unwrap_or(Calibration::Identity);
        }
        let folds = Folds::new(labels, groups, FOLDS, seed);
        let mut ranked: Vec<(f64, Method)> = Vec::new();
        for (name, method) in METHODS {
            if let Some(loss) = held_out_loss(&rows, &folds, method) {
                found.insert(format!("calibration_loss_{name}"), loss);
                ranked.push((loss, method));
            }
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let best = ranked.into_iter().find_map(|(_, method)| method(&rows));
        best.or_else(|| platt(&rows)).unwrap_or(Calibration::Identity)
    }
}

/// The mean log loss of each row under the fit on the folds that it is not in.
fn held_out_loss(rows: &[Labelled], folds: &Folds, method: Method) -> Option<f64> {
    let mut sum = 0.0;
    for fold in 0..FOLDS {
        let pick = |at: Vec<usize>| at.into_iter().map(|row| rows[row]).collect::<Vec<Labelled>>();
        let fitted = method(&pick(folds.kept(fold)))?;
        for (z, label) in pick(folds.held(fold)) {
            let risk = fitted.of(z).clamp(CERTAIN, 1.0 - CERTAIN);
            sum -= if label { risk.ln() } else { (1.0 - risk).ln() };
        }
    }
    Some(sum / rows.len() as f64).filter(|loss| loss.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Random;
    use super::super::sigmoid;
    use super::*;

    /// Margins and labels that a curve made.
    fn made(seed: u64, rows: usize, curve: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<bool>) {
        let mut random = Random::new(seed);
        let mut row = || {
            let z = random.unit() * 8.0 - 4.0;
            (z, random.unit() < curve(z))
        };
        (0..rows).map(|_| row()).unzip()
    }

    fn chosen(margins: &[f64], labels: &[bool]) -> (Calibration, BTreeMap<String, f64>) {
        let mut found = BTreeMap::new();
        (Calibration::fit(Link::LogOdds, margins, labels, None, 3, &mut found), found)
    }

    #[test]
    fn a_curve_brings_forth_the_method_of_its_kind() {
        let beta = Calibration::Beta { a: 0.1, b: 2.0, c: 0.0 };
        let (margins, labels) = made(1, 6_000, |z| beta.of(z));
        let (calibration, found) = chosen(&margins, &labels);
        assert!(matches!(calibration, Calibration::Beta { .. }), "{calibration:?} {found:?}");
        // A floor and a ceiling, which neither formula has both of.
        let (margins, labels) = made(2, 6_000, |z| 0.1 + 0.25 * (z + 1.0).clamp(0.0, 2.0));
        let (calibration, found) = chosen(&margins, &labels);
        assert!(matches!(calibration, Calibration::Isotonic { .. }), "{found:?}");
        let losses: Vec<f64> = METHODS.map(|(name, _)| found[&format!("calibration_loss_{name}")]).to_vec();
        assert!(losses[2] < losses[0] && losses[2] < losses[1], "{losses:?}");
        // A straight line in log-odds: isotonic regression has nothing to add but noise.
        let (margins, labels) = made(3, 6_000, |z| sigmoid(0.7 * z - 0.5));
        assert!(!matches!(chosen(&margins, &labels).0, Calibration::Isotonic { .. }));
    }

    #[test]
    fn few_rows_are_for_platt_alone() {
        for (rows, curve) in [(199, 0.5), (400, 0.03)] {
            let (margins, labels) = made(4, rows, |z| curve * sigmoid(2.0 * z));
            let (calibration, found) = chosen(&margins, &labels);
            assert!(matches!(calibration, Calibration::Platt { .. }) && found.is_empty(), "{calibration:?}");
        }
    }

    #[test]
    fn margins_that_fall_with_the_outcome_stay_uncalibrated() {
        let (margins, labels) = made(5, 1_000, |z| sigmoid(-z));
        let (calibration, found) = chosen(&margins, &labels);
        assert_eq!((calibration, found.len()), (Calibration::Identity, 0));
        assert_eq!(chosen(&[3.0, 2.0, -1.0], &[false, false, true]).0, Calibration::Identity);
    }

    /// Copies of a subject's rows on both sides of a fold would make the curve that follows
    /// every row look good.
    #[test]
    fn folds_are_of_subjects() {
        let (margins, labels) = made(6, 300, |z| sigmoid(0.3 * z - 0.5));
        let repeat = |times: usize| {
            let rows = (0..margins.len() * times).map(|i| i / times);
            let margins = rows.clone().map(|i| margins[i]).collect::<Vec<_>>();
            let of: Vec<i64> = rows.clone().map(|i| i as i64).collect();
            (margins, rows.map(|i| labels[i]).collect::<Vec<_>>(), of)
        };
        let (margins, labels, groups) = repeat(20);
        let loss = |groups: Option<&[i64]>| {
            let mut found = BTreeMap::new();
            Calibration::fit(Link::LogOdds, &margins, &labels, groups, 3, &mut found);
            found["calibration_loss_isotonic"] - found["calibration_loss_platt"]
        };
        let (rows, subjects) = (loss(None), loss(Some(&groups)));
        assert!(subjects > 0.02 && rows < subjects / 10.0, "{rows} {subjects}");
    }
}
