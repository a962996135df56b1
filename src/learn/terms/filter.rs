//! In how many texts each term stands, roughly and never too few.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU16, Ordering};

use foldhash::fast::FixedState;

use super::terms_of;

/// Counters; a power of two. 64 MiB of them keep apart what some ten million texts have.
const COUNTERS: usize = 1 << 25;
/// The same on every machine.
const HASH: FixedState = FixedState::with_seed(0x7465_726d_7301);

/// A counter of texts for every term; terms whose hash is the same share one.
pub(super) struct Filter {
    counters: Vec<AtomicU16>,
}

impl Filter {
    /// No text yet.
    pub(super) fn new() -> Self {
        Filter { counters: (0..COUNTERS).map(|_| AtomicU16::new(0)).collect() }
    }

    /// Counts a text for each of its terms, once.
    pub(super) fn add(&self, text: &str) {
        let mut places = Vec::new();
        terms_of(text, &mut |term| places.push(place(term)));
        places.sort_unstable();
        places.dedup();
        for counter in places.into_iter().filter_map(|place| self.counters.get(place)) {
            // The sums do not depend on who adds first, and one that is full stays so.
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_add(1));
        }
    }

    /// Whether a term may stand in at least so many texts.
    pub(super) fn may_have(&self, term: &str, texts: u16) -> bool {
        self.counters.get(place(term)).is_some_and(|counter| counter.load(Ordering::Relaxed) >= texts)
    }
}

fn place(term: &str) -> usize {
    HASH.hash_one(term) as usize % COUNTERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_counts_once_a_text() {
        let filter = Filter::new();
        filter.add("pain, pain and pain");
        filter.add("No PAIN");
        for (term, texts) in [("pain", 2), ("no pain", 1), ("pain pain", 1), ("and", 1), ("fever", 0)] {
            assert!(filter.may_have(term, texts) && !filter.may_have(term, texts + 1), "{term}");
        }
    }
}
