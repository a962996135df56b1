//! Which groups of codes a code belongs to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::FixedState;

/// A pattern: a whole code, or with `*` at its end whatever begins so.
pub(super) const WILDCARD: char = '*';

/// Patterns of codes and the series that each feeds. Every code falls into one of a few
/// sets of series, so that a fact remembers a small number.
#[derive(Default, Debug)]
pub(super) struct Codes {
    exact: HashMap<Box<str>, u16, FixedState>,
    prefixes: HashMap<Box<str>, u16, FixedState>,
    /// Lengths of the prefixes, the longest first.
    lengths: Vec<usize>,
    sets: Vec<Vec<u16>>,
}

impl Codes {
    /// Rules from pairs of a pattern and its series; there must be fewer than 65,535.
    pub(super) fn new(patterns: &[(String, u16)]) -> Self {
        let mut exact: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
        let mut prefixes: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
        for (pattern, series) in patterns {
            match pattern.strip_suffix(WILDCARD) {
                Some(prefix) => prefixes.entry(prefix).or_default().insert(*series),
                None => exact.entry(pattern).or_default().insert(*series),
            };
        }
        // A code that one pattern fits also fits every shorter prefix of that pattern.
        let whole = |text: &str, own: &BTreeSet<u16>| -> Vec<u16> {
            let shorter = prefixes.iter().filter(|(prefix, _)| text.starts_with(**prefix));
            own.iter()
                .chain(shorter.flat_map(|(_, series)| series))
                .copied()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        let mut codes = Codes::default();
        for (text, own) in &exact {
            codes.exact.insert((*text).into(), codes.sets.len() as u16);
            codes.sets.push(whole(text, own));
        }
        let mut lengths = BTreeSet::new();
        for (text, own) in &prefixes {
            codes.prefixes.insert((*text).into(), codes.sets.len() as u16);
            codes.sets.push(whole(text, own));
            lengths.insert(text.len());
        }
        codes.lengths = lengths.into_iter().rev().collect();
        codes
    }

    /// The set of a code, if a pattern fits it.
    pub(super) fn set_of(&self, code: &str) -> Option<u16> {
        if self.sets.is_empty() {
            return None;
        }
        self.exact.get(code).copied().or_else(|| {
            let prefixes = self.lengths.iter().filter_map(|length| code.get(..*length));
            prefixes.filter_map(|prefix| self.prefixes.get(prefix)).copied().next()
        })
    }

    /// The series of a set.
    pub(super) fn series(&self, set: u16) -> &[u16] {
        self.sets.get(usize::from(set)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_feeds_every_series_whose_pattern_fits() {
        let patterns =
            [("ICD10CM//E11*", 0), ("ICD10CM//E*", 1), ("ICD10CM//E11.9", 2), ("ICD10CM//E11.9", 0), ("é*", 3)];
        let codes = Codes::new(&patterns.map(|(pattern, series)| (pattern.to_owned(), series)));
        let of = |code| codes.set_of(code).map(|set| codes.series(set).to_vec());
        assert_eq!(of("ICD10CM//E11.9"), Some(vec![0, 1, 2]));
        assert_eq!(of("ICD10CM//E11.65"), Some(vec![0, 1]));
        assert_eq!(of("ICD10CM//E78"), Some(vec![1]));
        assert_eq!(of("ICD10CM//E"), Some(vec![1]));
        assert_eq!(of("éa"), Some(vec![3]));
        assert_eq!((of("ICD10CM//I10"), of("aé"), of("")), (None, None, None));
        assert_eq!(Codes::default().set_of("LOINC//1"), None);
    }
}
