//! What a search of hyperparameters draws from, one table a family.
//!
//! Random search (Bergstra and Bengio 2012) over ranges that are wide for clinical tables.
//! What bounds a fit (rounds, epochs, patience, trees, bins, models averaged) is never drawn: it stays the task's.

use super::random::{Random, mix};
use super::{BoostingHyper, Family, Hyper};

impl Hyper {
    /// These hyperparameters with those that `family` reads drawn at random: the same for the
    /// same `seed` and `trial`. `columns`: features of a row.
    pub fn drawn(&self, family: Family, columns: usize, seed: u64, trial: u64) -> Hyper {
        let mut hyper = self.clone();
        draw(&mut hyper, family, columns, &mut Random::new(mix(seed ^ mix(trial.wrapping_add(1)))));
        hyper
    }
}

fn draw(hyper: &mut Hyper, family: Family, columns: usize, random: &mut Random) {
    match family {
        Family::Logistic => hyper.logistic.alpha = by_factors(random, 1.0, 3_000.0),
        Family::Forest => {
            let h = &mut hyper.forest;
            h.depth = pick(random, &[6, 8, 12, 16, 24]);
            h.min_leaf = by_factors(random, 2.0, 50.0).round() as usize;
            // From half the usual square root up to a third of the columns.
            let (root, most) = ((columns as f64).sqrt(), columns as f64 / 3.0);
            h.tried = Some(by_factors(random, (root / 2.0).max(1.0), most.max(root)).round().max(1.0) as usize);
            // Of an eighth of the columns in each of its eight parts, a forest still sees all.
            h.colsample = by_factors(random, 0.125, 1.0);
        }
        Family::Boosting => draw_boosting(&mut hyper.boosting, random),
        Family::Hazard => draw_boosting(&mut hyper.hazard, random),
        Family::Mlp => {
            let h = &mut hyper.mlp;
            h.hidden = pick(random, &[&[32][..], &[64], &[128], &[32, 16], &[64, 32], &[128, 64], &[256, 64]]).to_vec();
            h.batch = pick(random, &[16, 32, 64, 128]);
            h.rate = by_factors(random, 1e-4, 3e-3);
            h.decay = by_factors(random, 1e-4, 0.1);
        }
        Family::Svm => {
            let h = &mut hyper.svm;
            h.c = by_factors(random, 0.05, 20.0);
            // From a tenth to ten times 1 over the columns, which scaling makes the usual one.
            let usual = 1.0 / columns.max(1) as f64;
            h.gamma = Some(by_factors(random, usual / 10.0, usual * 10.0));
        }
        Family::Knn => {
            let h = &mut hyper.knn;
            h.neighbours = Some(by_factors(random, 5.0, 300.0).round() as usize);
            h.weighted = pick(random, &[false, true]);
        }
        Family::Text => hyper.text.alpha = by_factors(random, 1.0, 3_000.0),
        Family::Bayes => hyper.bayes.smoothing = by_factors(random, 1e-4, 10.0),
        Family::Gru => {
            let h = &mut hyper.gru;
            h.hidden = pick(random, &[16, 24, 32, 48, 64]);
            h.drop = evenly(random, 0.2, 0.6);
            h.rate = by_factors(random, 1e-3, 1e-2);
            h.decay = by_factors(random, 1e-4, 1e-2);
        }
        Family::Cnn => {
            let h = &mut hyper.cnn;
            h.channels = pick(random, &[&[32][..], &[64], &[16, 16], &[32, 32], &[64, 32]]).to_vec();
            h.kernel = pick(random, &[3, 5, 7]);
            h.drop = evenly(random, 0.2, 0.6);
            h.rate = by_factors(random, 5e-4, 5e-3);
            h.decay = by_factors(random, 1e-4, 1e-2);
        }
        // They are as they are.
        Family::Bedside | Family::Onnx => {}
        Family::Stack => {
            // Its members, each from its own table; a stack that names itself is refused elsewhere.
            for member in hyper.stack.members.clone() {
                if member != Family::Stack {
                    draw(hyper, member, columns, random);
                }
            }
        }
    }
}

fn draw_boosting(h: &mut BoostingHyper, random: &mut Random) {
    h.depth = pick(random, &[2, 3, 4, 5, 6, 7]);
    h.eta = by_factors(random, 0.01, 0.1);
    h.subsample = evenly(random, 0.5, 1.0);
    h.colsample = by_factors(random, 0.05, 1.0);
    h.min_child_weight = by_factors(random, 1.0, 50.0);
    h.lambda = by_factors(random, 0.1, 100.0);
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[((random.unit() * of.len() as f64) as usize).min(of.len() - 1)]
}

fn evenly(random: &mut Random, low: f64, high: f64) -> f64 {
    short(low + random.unit() * (high - low)).clamp(low, high)
}

/// Uniform in the logarithm.
fn by_factors(random: &mut Random, low: f64, high: f64) -> f64 {
    short((low.ln() + random.unit() * (high / low).ln()).exp()).clamp(low, high)
}

/// Three digits: what a person can read, copy and say.
fn short(x: f64) -> f64 {
    let scale = 10f64.powf(2.0 - x.log10().floor());
    (x * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_allowed_follows_from_seed_and_trial_and_differs() {
        // Nothing is drawn of a score at the bedside or of a user's own model.
        let drawn = |family: &Family| !matches!(family, Family::Bedside | Family::Onnx);
        for family in Family::ALL.into_iter().filter(drawn) {
            for columns in [1, 2, 114, 5_000] {
                let all: Vec<Hyper> = (0..300).map(|trial| Hyper::default().drawn(family, columns, 7, trial)).collect();
                for (trial, hyper) in (0u64..).zip(&all) {
                    hyper.check(family).unwrap();
                    assert_eq!(*hyper, Hyper::default().drawn(family, columns, 7, trial));
                    if family != Family::Stack {
                        let others = Family::ALL.into_iter().filter(|other| *other != family);
                        others.for_each(|other| assert!(same_table(hyper, &Hyper::default(), other)));
                    }
                }
                assert!(all.windows(2).filter(|pair| pair[0] != pair[1]).count() > 200);
                assert_ne!(all[0], Hyper::default().drawn(family, columns, 8, 0));
            }
        }
    }

    fn same_table(a: &Hyper, b: &Hyper, family: Family) -> bool {
        let [a, b] = [a, b].map(|hyper| serde_json::to_value(hyper).unwrap()[family.as_str()].clone());
        a == b
    }

    #[test]
    fn the_whole_range_is_drawn_from_evenly_in_the_logarithm() {
        let mut alphas: Vec<f64> =
            (0..1_000).map(|trial| Hyper::default().drawn(Family::Logistic, 9, 0, trial).logistic.alpha).collect();
        alphas.sort_by(f64::total_cmp);
        assert!(alphas[0] < 1.2 && alphas[999] > 2_600.0);
        assert!((alphas[500] / 3_000f64.sqrt()).ln().abs() < 0.5, "{}", alphas[500]);
        assert_eq!([0.027_384, 1_234.0, 7.0].map(short), [0.027_4, 1_230.0, 7.0]);
    }
}
