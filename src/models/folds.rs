//! Subjects dealt into folds, for cross-validation.
//!
//! Promises that all rows of a subject are in one fold, that subjects with and those without
//! a positive row are spread evenly, and that the same subjects and seed give the same folds
//! whatever the order of the rows.

use std::collections::BTreeMap;

use super::random::{mix, strata, subject_of};

/// Sets the folds' random order apart from that of early stopping with the same seed.
const SALT: u64 = 0x666f_6c64;

/// Which fold each row is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folds {
    count: usize,
    of: Vec<usize>,
}

impl Folds {
    /// Deals the subjects of `labels` into `count` folds (at least one); `groups` says whose
    /// each row is, none: each row is its own subject.
    pub fn new(labels: &[bool], groups: Option<&[i64]>, count: usize, seed: u64) -> Folds {
        let count = count.max(1);
        let subjects = strata(labels, groups, mix(seed ^ SALT)).into_iter().flatten();
        let dealt: BTreeMap<i64, usize> = subjects.enumerate().map(|(i, subject)| (subject, i % count)).collect();
        let of = (0..labels.len()).map(|row| dealt.get(&subject_of(groups, row)).copied().unwrap_or(0)).collect();
        Folds { count, of }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The rows of a fold, in order.
    pub fn held(&self, fold: usize) -> Vec<usize> {
        (0..self.of.len()).filter(|&row| self.of[row] == fold).collect()
    }

    /// The rows of all other folds, in order.
    pub fn kept(&self, fold: usize) -> Vec<usize> {
        (0..self.of.len()).filter(|&row| self.of[row] != fold).collect()
    }

    /// Whether there are at least two folds, and each holds at least `least` rows of either
    /// outcome; so do the others together, then.
    pub fn can_judge(&self, labels: &[bool], least: usize) -> bool {
        let mut counts = vec![[0usize; 2]; self.count];
        for (&fold, &label) in self.of.iter().zip(labels) {
            counts[fold][usize::from(label)] += 1;
        }
        self.count >= 2 && counts.iter().flatten().all(|&count| count >= least)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn subjects_stay_whole_and_both_outcomes_are_spread_evenly() {
        let groups: Vec<i64> = (0..1_000).map(|row| row * 7 % 250).collect();
        let labels: Vec<bool> = groups.iter().map(|subject| subject % 5 == 0).collect();
        let folds = Folds::new(&labels, Some(&groups), 4, 3);
        let mut seen = BTreeSet::new();
        for fold in 0..4 {
            let held: BTreeSet<i64> = folds.held(fold).into_iter().map(|row| groups[row]).collect();
            let kept: BTreeSet<i64> = folds.kept(fold).into_iter().map(|row| groups[row]).collect();
            assert!(held.is_disjoint(&kept));
            assert_eq!(folds.held(fold).len() + folds.kept(fold).len(), 1_000);
            // 50 subjects of 250 have the outcome.
            assert!((62..=63).contains(&held.len()), "{}", held.len());
            let positives = held.iter().filter(|subject| **subject % 5 == 0).count();
            assert!((12..=13).contains(&positives), "{positives}");
            seen.extend(held);
        }
        assert_eq!(seen.len(), 250);
        assert!(folds.can_judge(&labels, 48) && !folds.can_judge(&labels, 53));
    }

    #[test]
    fn the_seed_decides_and_the_order_of_the_rows_does_not() {
        let groups: Vec<i64> = (0..300).map(|row| row / 3).collect();
        let labels: Vec<bool> = (0..300).map(|row| row % 10 == 0).collect();
        let of = |labels: &[bool], groups: &[i64], seed| -> BTreeMap<i64, usize> {
            groups.iter().copied().zip(Folds::new(labels, Some(groups), 5, seed).of).collect()
        };
        let first = of(&labels, &groups, 1);
        assert_ne!(first, of(&labels, &groups, 2));
        let turned: (Vec<bool>, Vec<i64>) = (0..300).rev().map(|row| (labels[row], groups[row])).unzip();
        assert_eq!(first, of(&turned.0, &turned.1, 1));
    }

    #[test]
    fn too_few_subjects_cannot_judge() {
        let labels = [true, true, false, false];
        assert!(!Folds::new(&labels, None, 1, 0).can_judge(&labels, 0), "one fold has no others");
        assert!(!Folds::new(&labels, None, 5, 0).can_judge(&labels, 1));
        assert!(Folds::new(&labels, None, 2, 0).can_judge(&labels, 1));
        assert!(!Folds::new(&labels, Some(&[1, 1, 1, 1]), 2, 0).can_judge(&labels, 1));
    }
}
