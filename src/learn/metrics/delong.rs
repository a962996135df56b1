//! The test of DeLong for two areas under the ROC of the same rows.

use serde::Serialize;

use super::normal::{Z95, two_sided};

/// What DeLong, DeLong and Clarke-Pearson 1988 say of the difference of two AUROC, computed as
/// Sun and Xu 2014 do, in `n log n`.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct DeLong {
    /// AUROC of the model less that of the other.
    pub difference: f64,
    /// Its standard error.
    pub se: f64,
    /// `difference / se`; none where the two rank alike, so that `se` is 0.
    pub z: Option<f64>,
    /// Two-sided; none where `se` is 0 and the difference is not.
    pub p: Option<f64>,
    /// 95 % interval of the difference.
    pub ci: [f64; 2],
    /// Whether each subject has one row. The test takes rows to be independent: if they are
    /// not, it is too sure, and the bootstrap over subjects is the one to believe.
    pub independent_rows: bool,
}

/// Of two risks a row and its outcome; `None` with fewer than two rows of either outcome,
/// which leave a variance undefined.
pub(super) fn delong(a: &[f64], b: &[f64], outcomes: &[bool], independent_rows: bool) -> Option<DeLong> {
    let positives = outcomes.iter().filter(|outcome| **outcome).count();
    let negatives = outcomes.len() - positives;
    if positives < 2 || negatives < 2 {
        return None;
    }
    let (of_a, of_b) = (Components::of(a, outcomes), Components::of(b, outcomes));
    let difference = mean(&of_a.positives) - mean(&of_b.positives);
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
    let variance = variance(&apart(&of_a.positives, &of_b.positives)) / positives as f64
        + variance(&apart(&of_a.negatives, &of_b.negatives)) / negatives as f64;
    let se = variance.sqrt();
    // Below it is what rounding leaves of equal components.
    let z = (se > 1e-12).then(|| difference / se);
    let alike = difference.abs() < 1e-12;
    Some(DeLong {
        difference,
        se,
        z,
        p: z.map(two_sided).or(alike.then_some(1.0)),
        ci: [difference - Z95 * se, difference + Z95 * se],
        independent_rows,
    })
}

/// The structural components of an AUROC: of each positive the share of negatives it ranks
/// above, of each negative the share of positives it ranks below, ties half.
#[derive(Debug)]
struct Components {
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

impl Components {
    fn of(risks: &[f64], outcomes: &[bool]) -> Components {
        let pick = |values: &[f64], outcome: bool| -> Vec<f64> {
            values.iter().zip(outcomes).filter(|(_, of)| **of == outcome).map(|(value, _)| *value).collect()
        };
        let among_all = midranks(risks);
        let components = |outcome: bool| -> Vec<f64> {
            let own = midranks(&pick(risks, outcome));
            let others = (risks.len() - own.len()) as f64;
            pick(&among_all, outcome).iter().zip(own).map(|(all, own)| (all - own) / others).collect()
        };
        Components { positives: components(true), negatives: components(false).iter().map(|c| 1.0 - c).collect() }
    }
}

/// Ranks from 1 up; equal values share the mean of theirs.
pub(super) fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq()) {
        let rank = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|i| ranks[*i] = rank);
        before += tied.len();
    }
    ranks
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The unbiased one.
fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn psi(positive: f64, negative: f64) -> f64 {
        if positive > negative {
            1.0
        } else if positive == negative {
            0.5
        } else {
            0.0
        }
    }

    /// The covariance matrix of DeLong 1988, equation by equation.
    fn brute(a: &[f64], b: &[f64], outcomes: &[bool]) -> (f64, f64) {
        let of = |risks: &[f64], outcome: bool| -> Vec<f64> {
            (0..risks.len()).filter(|i| outcomes[*i] == outcome).map(|i| risks[i]).collect()
        };
        let models = [(of(a, true), of(a, false)), (of(b, true), of(b, false))];
        let (m, n) = (models[0].0.len() as f64, models[0].1.len() as f64);
        let v10 = models
            .each_ref()
            .map(|(x, y)| -> Vec<f64> { x.iter().map(|x| y.iter().map(|y| psi(*x, *y)).sum::<f64>() / n).collect() });
        let v01 = models
            .each_ref()
            .map(|(x, y)| -> Vec<f64> { y.iter().map(|y| x.iter().map(|x| psi(*x, *y)).sum::<f64>() / m).collect() });
        let theta = v10.each_ref().map(|v| v.iter().sum::<f64>() / m);
        let s = |v: &[Vec<f64>; 2], r: usize, s: usize, k: f64| -> f64 {
            v[r].iter().zip(&v[s]).map(|(p, q)| (p - theta[r]) * (q - theta[s])).sum::<f64>() / (k - 1.0)
        };
        let cov = |r, t| s(&v10, r, t, m) / m + s(&v01, r, t, n) / n;
        (theta[0] - theta[1], cov(0, 0) + cov(1, 1) - 2.0 * cov(0, 1))
    }

    proptest! {
        #[test]
        fn equals_the_covariance_of_its_definition(
            data in prop::collection::vec((0u8..12, 0u8..12, any::<bool>()), 1..60),
        ) {
            let a: Vec<f64> = data.iter().map(|row| f64::from(row.0) / 12.0).collect();
            let b: Vec<f64> = data.iter().map(|row| f64::from(row.1) / 12.0).collect();
            let outcomes: Vec<bool> = data.iter().map(|row| row.2).collect();
            let positives = outcomes.iter().filter(|outcome| **outcome).count();
            let found = delong(&a, &b, &outcomes, true);
            prop_assert_eq!(found.is_some(), positives >= 2 && outcomes.len() - positives >= 2);
            if let Some(found) = found {
                let (difference, variance) = brute(&a, &b, &outcomes);
                prop_assert!((found.difference - difference).abs() < 1e-12);
                prop_assert!((found.se.powi(2) - variance).abs() < 1e-12, "{} {}", found.se.powi(2), variance);
            }
        }
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let risks: Vec<f64> = (0..50).map(|i| f64::from(i * 37 % 50) / 50.0).collect();
        let outcomes: Vec<bool> = (0..50).map(|i| i % 3 == 0).collect();
        let found = delong(&risks, &risks, &outcomes, true).unwrap();
        assert_eq!((found.difference, found.se, found.z, found.p), (0.0, 0.0, None, Some(1.0)));
        // Perfect against perfectly wrong: no variance, and no doubt that needs a test.
        let right: Vec<f64> = outcomes.iter().map(|outcome| f64::from(u8::from(*outcome))).collect();
        let wrong: Vec<f64> = right.iter().map(|risk| 1.0 - risk).collect();
        let found = delong(&right, &wrong, &outcomes, true).unwrap();
        assert_eq!((found.difference, found.se, found.z, found.p), (1.0, 0.0, None, None));
    }
}
