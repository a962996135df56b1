//! Chance that is the same on every machine and in every release.
//!
//! `rand` promises neither for its standard generator, and a normal deviate by logarithm and
//! cosine differs in its last bits from one mathematics library to the next. So: SplitMix64
//! (Steele, Lea and Flood, OOPSLA 2014), and only the exact operations of IEEE 754.

/// A stream of chance.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The stream `number` of a seed; streams of one seed do not resemble each other.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut dice = Dice(seed);
        let start = dice.next() ^ number.wrapping_mul(0xd134_2543_de82_ef95);
        Dice(Dice(start).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not, 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number between `low` and `high`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with that probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A nearly normal deviate (mean 0, variance 1): twelve uniform ones less six.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// One of `items`, which must not be empty.
    pub(super) fn one<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[(self.unit() * items.len() as f64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        // First outputs of SplitMix64 from seed 1234567, as in Java's and Rosetta Code's reference.
        let mut dice = Dice(1_234_567);
        assert_eq!([dice.next(), dice.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn deviates_have_mean_zero_and_variance_one() {
        let mut dice = Dice::new(1, 2);
        let all: Vec<f64> = (0..100_000).map(|_| dice.normal()).collect();
        let mean = all.iter().sum::<f64>() / 1e5;
        let variance = all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn streams_differ() {
        assert_ne!(Dice::new(1, 0).unit().to_bits(), Dice::new(1, 1).unit().to_bits());
        assert_ne!(Dice::new(1, 0).unit().to_bits(), Dice::new(2, 0).unit().to_bits());
    }
}
