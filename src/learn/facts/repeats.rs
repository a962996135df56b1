//! Which keys may occur more than once.

/// Places for each key: the more, the fewer keys meet by chance.
const PLACES: usize = 8;
/// Places of a word of two bits each.
const OF_WORD: usize = u64::BITS as usize / 2;

/// A sieve for keys of which most occur once: so only few must be compared with each other.
#[derive(Debug)]
pub(super) struct Repeats {
    /// How often a key fell on each place: never, once, more often.
    words: Vec<u64>,
    shift: u32,
}

impl Repeats {
    /// Of so many keys.
    pub(super) fn of<'k>(count: usize, keys: impl Iterator<Item = &'k u128>) -> Self {
        let places = (count * PLACES).next_power_of_two().max(OF_WORD);
        let mut repeats = Repeats { words: vec![0; places / OF_WORD], shift: u64::BITS - places.trailing_zeros() };
        for key in keys {
            let (word, bit) = repeats.place(*key);
            if let Some(word) = repeats.words.get_mut(word)
                && *word >> bit & 3 < 2
            {
                *word += 1 << bit;
            }
        }
        repeats
    }

    /// True of every key that occurs more than once, and of few others.
    pub(super) fn may_have(&self, key: u128) -> bool {
        let (word, bit) = self.place(key);
        self.words.get(word).is_some_and(|word| *word >> bit & 3 > 1)
    }

    /// Word and bit.
    fn place(&self, key: u128) -> (usize, usize) {
        // The multiplier of Fibonacci hashing: 2^64 divided by the golden ratio.
        let mixed = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let place = (mixed >> self.shift) as usize;
        (place / OF_WORD, 2 * (place % OF_WORD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_repeats_is_found_and_few_others() {
        let key = |i: u64| u128::from_ne_bytes(blake3::hash(&i.to_le_bytes()).as_bytes()[..16].try_into().unwrap());
        let mut keys: Vec<u128> = (0..20_000).map(key).collect();
        keys.extend((0..100).map(|i| key(i * 7)));
        keys.extend((0..100).map(|i| key(i * 7)));
        let repeats = Repeats::of(keys.len(), keys.iter());
        assert!((0..100).all(|i| repeats.may_have(key(i * 7))));
        let found = (0..20_000).filter(|i| repeats.may_have(key(*i))).count();
        assert!((100..20_000 / PLACES).contains(&found), "{found}");
        let alike = Repeats::of(2, [u128::MAX, 0].iter());
        assert!(alike.may_have(0), "keys that fall on one place are both candidates");
        assert!(!Repeats::of(0, [].iter()).may_have(7));
    }
}
