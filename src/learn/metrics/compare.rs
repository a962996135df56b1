//! Two models on the same rows.

use rayon::prelude::*;
use serde::Serialize;

use super::Scored;
use super::bootstrap::{LEVEL, draw, interval, replicates};
use super::delong::{DeLong, delong};
use super::figures::{Figures, Ranked};

/// By how much a model differs from another: its figure less the other's.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// Two-sided level of the intervals, 0.95.
    pub level: f64,
    /// Replicates drawn; each scores both models on the same subjects.
    pub replicates: usize,
    /// Of `auroc`.
    pub auroc: Paired,
    /// Of `auprc`.
    pub auprc: Paired,
    /// Of `brier`: the lower the better.
    pub brier: Paired,
    /// Of `min_se_ppv`, each at its own threshold.
    pub min_se_ppv: Paired,
    /// The test of DeLong for the difference of AUROC.
    pub delong: Option<DeLong>,
}

/// A difference and how sure it is, by a paired bootstrap over subjects.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct Paired {
    /// None where either model has no such figure.
    pub difference: Option<f64>,
    /// Low and high end.
    pub ci: Option<[f64; 2]>,
    /// Two-sided: twice the smaller share of replicates on either side of 0, each share with
    /// one added to both parts (Davison and Hinkley 1997), so that it is never 0.
    pub p: Option<f64>,
}

/// Compares the risks of `rows` with those that another model gave to the very same rows, in
/// the same order; `thresholds`: of the model and of the other.
pub(crate) fn compare(rows: &[Scored], other: &[f64], thresholds: [f64; 2], seed: u64) -> Comparison {
    let others: Vec<Scored> = rows.iter().zip(other).map(|(row, risk)| Scored { risk: *risk, ..*row }).collect();
    let (a, b) = (Ranked::new(rows), Ranked::new(&others));
    let both = |times: &[u32]| {
        let of = |ranked: &Ranked, threshold| Figures::of(&ranked.rows, threshold, |i| times[ranked.of[i]]);
        (of(&a, thresholds[0]), of(&b, thresholds[1]))
    };
    let point = both(&vec![1; a.subjects]);
    let replicates = if a.subjects < 2 { 0 } else { replicates(2 * rows.len()) };
    let drawn: Vec<(Figures, Figures)> =
        (0..replicates as u64).into_par_iter().map(|replicate| both(&draw(seed, replicate, a.subjects))).collect();
    let paired = |get: fn(&Figures) -> Option<f64>| {
        let apart = |(a, b): &(Figures, Figures)| Some(get(a)? - get(b)?);
        let drawn: Vec<Option<f64>> = drawn.iter().map(apart).collect();
        let ci = interval(&drawn);
        Paired { difference: apart(&point), p: ci.and_then(|_| p(&drawn)), ci }
    };
    let risks: Vec<f64> = rows.iter().map(|row| row.risk).collect();
    let outcomes: Vec<bool> = rows.iter().map(|row| row.outcome).collect();
    Comparison {
        level: LEVEL,
        replicates,
        auroc: paired(|f| f.auroc),
        auprc: paired(|f| f.auprc),
        brier: paired(|f| f.brier),
        min_se_ppv: paired(|f| f.min_se_ppv),
        delong: delong(&risks, other, &outcomes, a.subjects == rows.len()),
    }
}

fn p(drawn: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = drawn.iter().flatten().copied().collect();
    let share = |count: usize| (count + 1) as f64 / (known.len() + 1) as f64;
    let below = known.iter().filter(|value| **value <= 0.0).count();
    let above = known.iter().filter(|value| **value >= 0.0).count();
    (!known.is_empty()).then(|| (2.0 * share(below.min(above))).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::super::evaluate;
    use super::super::tests::{near, rows};
    use super::*;
    use crate::events::SubjectId;

    fn data(subjects: i64, each: i64) -> (Vec<Scored>, Vec<f64>) {
        // A number in 0 to 1 that depends on nothing else.
        let chance = |i: i64, what: i64| {
            let mixed = ((i * 1_000 + what) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut rows = Vec::new();
        let mut other = Vec::new();
        for i in 0..subjects * each {
            let (risk, noise) = (chance(i, 1), chance(i, 2));
            rows.push(Scored { subject: SubjectId(i / each), risk, outcome: chance(i, 3) < risk });
            other.push(0.3 * risk + 0.7 * noise);
        }
        (rows, other)
    }

    #[test]
    fn differences_are_those_of_the_figures() {
        let (rows, other) = data(200, 2);
        let others: Vec<Scored> = rows.iter().zip(&other).map(|(row, risk)| Scored { risk: *risk, ..*row }).collect();
        let (a, b) = (evaluate(&rows, 0.5, 3), evaluate(&others, 0.4, 3));
        let found = compare(&rows, &other, [0.5, 0.4], 3);
        for (paired, a, b) in [
            (found.auroc, a.auroc, b.auroc),
            (found.auprc, a.auprc, b.auprc),
            (found.brier, a.brier, b.brier),
            (found.min_se_ppv, a.min_se_ppv, b.min_se_ppv),
        ] {
            let difference = a.unwrap() - b.unwrap();
            let [low, high] = paired.ci.unwrap();
            assert!(near(paired.difference, difference) && low < difference && difference < high);
        }
        assert!(found.auroc.difference.unwrap() > 0.05 && found.auroc.p.unwrap() < 0.05, "{found:?}");
        assert!(!found.delong.unwrap().independent_rows);
        assert_eq!(compare(&rows, &other, [0.5, 0.4], 3), found);
    }

    /// On independent rows both ways to an interval must come to about the same.
    #[test]
    fn bootstrap_and_delong_agree_on_independent_rows() {
        let (rows, other) = data(600, 1);
        let found = compare(&rows, &other, [0.5; 2], 1);
        let (delong, [low, high]) = (found.delong.unwrap(), found.auroc.ci.unwrap());
        assert!(delong.independent_rows && near(found.auroc.difference, delong.difference));
        let (wide, narrow) = (high - low, delong.ci[1] - delong.ci[0]);
        assert!((wide / narrow - 1.0).abs() < 0.15, "{wide} {narrow}");
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let (rows, _) = data(100, 1);
        let risks: Vec<f64> = rows.iter().map(|row| row.risk).collect();
        let found = compare(&rows, &risks, [0.5; 2], 0);
        for paired in [found.auroc, found.auprc, found.brier, found.min_se_ppv] {
            assert_eq!((paired.difference, paired.ci, paired.p), (Some(0.0), Some([0.0; 2]), Some(1.0)));
        }
    }

    #[test]
    fn what_does_not_exist_is_none() {
        let none = Paired { difference: None, ci: None, p: None };
        let found = compare(&rows(&[(0.3, false), (0.4, false)]), &[0.2, 0.1], [0.5; 2], 0);
        assert_eq!((found.auroc, found.auprc, found.delong), (none, none, None));
        let empty = compare(&[], &[], [0.5; 2], 0);
        assert_eq!((empty.auroc, empty.brier, empty.replicates), (none, none, 0));
    }
}
