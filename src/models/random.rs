//! Random numbers that stay the same for ever, and the share of subjects held back.
//!
//! The `rand` crate does not promise the same stream across versions; a seed written on a
//! card must. SplitMix64 (Steele, Lea, Flood 2014) is ten lines and enough for shuffling.

use std::collections::{BTreeMap, BTreeSet};

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next number in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Puts `items` in random order (Fisher-Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = ((u128::from(self.bits()) * (last as u128 + 1)) >> 64) as usize;
            items.swap(last, other);
        }
    }
}

/// The finaliser of SplitMix64: a bijection that spreads every bit.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Seeds of `count` fits that are averaged: `seed` itself, then others.
pub(super) fn seeds(seed: u64, count: usize) -> Vec<u64> {
    (0..count as u64).map(|i| if i == 0 { seed } else { mix(seed ^ mix(i)) }).collect()
}

/// Whose a row is; without `groups` each row is its own subject.
pub(super) fn subject_of(groups: Option<&[i64]>, row: usize) -> i64 {
    groups.and_then(|all| all.get(row).copied()).unwrap_or(row as i64)
}

/// The subjects with a positive row and those without, both in the random order of `seed`,
/// which depends neither on the order of the rows nor on who else is there.
pub(super) fn strata(labels: &[bool], groups: Option<&[i64]>, seed: u64) -> [Vec<i64>; 2] {
    let mut positive: BTreeMap<i64, bool> = BTreeMap::new();
    for (row, &label) in labels.iter().enumerate() {
        *positive.entry(subject_of(groups, row)).or_default() |= label;
    }
    [true, false].map(|side| {
        let mut keys: Vec<(u64, i64)> = positive
            .iter()
            .filter(|(_, label)| **label == side)
            .map(|(&id, _)| (mix(seed ^ mix(id as u64)), id))
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, id)| id).collect()
    })
}

/// Rows kept for fitting, and rows held back to judge by.
#[derive(Debug)]
pub(super) struct Parts {
    /// Rows to fit on.
    pub(super) kept: Vec<usize>,
    /// Rows to judge by.
    pub(super) held: Vec<usize>,
}

impl Parts {
    /// Holds back `share` of the subjects, those with and those without a positive row
    /// apart, so that both sides see the outcome. `groups` says whose each row is (none:
    /// each row its own subject); a subject is never on both sides.
    pub(super) fn new(labels: &[bool], groups: Option<&[i64]>, share: f64, seed: u64) -> Parts {
        let mut held_subjects: BTreeSet<i64> = BTreeSet::new();
        for side in strata(labels, groups, seed) {
            let count = (side.len() as f64 * share).round() as usize;
            held_subjects.extend(side.into_iter().take(count));
        }
        let (held, kept) = (0..labels.len()).partition(|&row| held_subjects.contains(&subject_of(groups, row)));
        Parts { kept, held }
    }

    /// Whether the held rows have at least `least` of each outcome, and the kept ones any.
    pub(super) fn can_judge(&self, labels: &[bool], least: usize) -> bool {
        let positives = |rows: &[usize]| rows.iter().filter(|&&row| labels[row]).count();
        let (held, kept) = (positives(&self.held), positives(&self.kept));
        held >= least && self.held.len() - held >= least && kept > 0 && kept < self.kept.len()
    }
}

/// At most `most` rows that stand for all, in their order. Where not all can be taken, the
/// outcome that is rarer gets up to half of the places (it is what there is to learn), and
/// no subject gives a second row of an outcome before all that have it gave one. `groups`
/// as in [`Parts::new`].
pub(super) fn landmarks(labels: &[bool], groups: Option<&[i64]>, most: usize, seed: u64) -> Vec<usize> {
    if labels.len() <= most {
        return (0..labels.len()).collect();
    }
    let positives = labels.iter().filter(|&&label| label).count();
    let negatives = labels.len() - positives;
    let of_positives = positives.min((most / 2).max(most.saturating_sub(negatives)));
    let mut out = Vec::with_capacity(most);
    for (side, places) in [(true, of_positives), (false, most - of_positives)] {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == side).collect();
        Random::new(mix(seed ^ u64::from(side))).shuffle(&mut rows);
        let mut given: BTreeMap<i64, usize> = BTreeMap::new();
        let mut turns: Vec<(usize, usize)> = Vec::with_capacity(rows.len());
        for row in rows {
            let turn = given.entry(subject_of(groups, row)).or_default();
            turns.push((*turn, row));
            *turn += 1;
        }
        turns.sort_by_key(|&(turn, _)| turn);
        out.extend(turns.into_iter().take(places).map(|(_, row)| row));
    }
    out.sort_unstable();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn landmarks_spread_over_subjects_and_favour_the_rarer_outcome() {
        let labels: Vec<bool> = (0..1_000).map(|row| row % 10 == 3).collect();
        let groups: Vec<i64> = (0..1_000).map(|row| row / 20).collect();
        let count = |rows: &[usize]| rows.iter().filter(|&&row| labels[row]).count();
        for (most, positives) in [(100, 50), (300, 100), (950, 100), (3, 1)] {
            let rows = landmarks(&labels, Some(&groups), most, 5);
            assert_eq!((rows.len(), count(&rows)), (most, positives));
            assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
        }
        // 50 subjects with two positive rows each: 50 places are one each.
        let rows = landmarks(&labels, Some(&groups), 100, 5);
        let subjects: std::collections::BTreeSet<i64> =
            rows.iter().filter(|&&row| labels[row]).map(|&row| groups[row]).collect();
        assert_eq!(subjects.len(), 50);
        assert_ne!(landmarks(&labels, None, 100, 5), landmarks(&labels, None, 100, 6));
        assert_eq!(landmarks(&labels, None, 1_000, 5), (0..1_000).collect::<Vec<_>>());
        // Where the outcome is the commoner, the others are not forgotten.
        let most_are: Vec<bool> = labels.iter().map(|label| !label).collect();
        let rows = landmarks(&most_are, None, 300, 5);
        assert_eq!(rows.iter().filter(|&&row| most_are[row]).count(), 200);
    }

    #[test]
    fn the_stream_is_splitmix64() {
        // Reference values of the published algorithm for seed 1234567.
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_subject_stays_on_one_side_and_outcomes_are_on_both() {
        let groups: Vec<i64> = (0..1_000).map(|row| row / 4).collect();
        let labels: Vec<bool> = (0..1_000).map(|row| row % 20 == 3).collect();
        let parts = Parts::new(&labels, Some(&groups), 0.2, 7);
        assert_eq!(parts.kept.len() + parts.held.len(), 1_000);
        assert_eq!(parts.held.len(), 200);
        let held: std::collections::BTreeSet<i64> = parts.held.iter().map(|&row| groups[row]).collect();
        assert!(parts.kept.iter().all(|&row| !held.contains(&groups[row])));
        assert_eq!(parts.held.iter().filter(|&&row| labels[row]).count(), 10);
        assert!(parts.can_judge(&labels, 10) && !parts.can_judge(&labels, 11));
        let other = Parts::new(&labels, Some(&groups), 0.2, 8);
        assert_ne!(parts.held, other.held);
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..100).collect();
        Random::new(1).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
