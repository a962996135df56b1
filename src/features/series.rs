//! Samples of one concept of one subject, and what is made of them.

use std::ops::Range;

use crate::events::{HOUR, Micros};

/// Time of a sample without one: a static fact. It comes before all others, lies only in
/// the window `ever`, and takes no part in what needs times.
pub(super) const STATIC: Micros = Micros::MIN;

/// One value at one time.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Sample {
    /// When it happened.
    pub(super) time: Micros,
    /// Finite.
    pub(super) value: f32,
    /// Which fact of the subject it is.
    pub(super) fact: u32,
}

/// The samples of one concept, or group of codes, of one subject, by time and then by arrival.
#[derive(Default)]
pub(super) struct Series {
    samples: Vec<Sample>,
    /// The last of `samples`, at hand: theirs is seldom in the processor's cache.
    last: Option<Sample>,
    tally: Tally,
}

/// The spread of a stretch of samples, kept from the last prediction so that the next goes on
/// where it ended. It is what a pass from the beginning would give, bit by bit, and no part of
/// the state.
#[derive(Copy, Clone, Default)]
struct Tally {
    /// Since when.
    from: Micros,
    start: u32,
    /// Past the last sample; 0: nothing kept.
    end: u32,
    spread: Spread,
}

impl Series {
    /// All samples.
    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Heap bytes.
    pub(super) fn bytes(&self) -> usize {
        self.samples.capacity() * size_of::<Sample>()
    }

    /// The last sample of those in a range that is not empty.
    pub(super) fn last_of(&self, range: &Range<usize>) -> Option<Sample> {
        if range.end == self.samples.len() { self.last } else { self.samples.get(range.clone())?.last().copied() }
    }

    /// Puts a sample to its place: by time, and behind those of the same time.
    pub(super) fn insert(&mut self, sample: Sample) {
        match self.last {
            Some(last) if last.time > sample.time => {
                let place = self.samples.partition_point(|other| other.time <= sample.time);
                self.changed(place);
                self.samples.insert(place, sample);
            }
            _ => {
                self.samples.push(sample);
                self.last = Some(sample);
            }
        }
    }

    /// Takes the sample of a fact away.
    pub(super) fn remove(&mut self, fact: u32) {
        // Most corrections are of something recent.
        if let Some(place) = self.samples.iter().rposition(|sample| sample.fact == fact) {
            self.changed(place);
            self.samples.remove(place);
            self.last = self.samples.last().copied();
        }
    }

    fn changed(&mut self, place: usize) {
        if place < self.tally.end as usize {
            self.tally.end = 0;
        }
    }

    /// Where the samples with a time in `[from, to]` lie.
    pub(super) fn between(&self, from: Micros, to: Micros) -> Range<usize> {
        let all = self.samples.as_slice();
        let end = match self.last {
            Some(last) if last.time > to => all.partition_point(|sample| sample.time <= to),
            _ => all.len(),
        };
        let start = if self.tally.end > 0 && self.tally.from == from {
            self.tally.start as usize
        } else {
            all.partition_point(|sample| sample.time < from)
        };
        start.min(end)..end
    }

    /// The spread of the samples from a time on, which lie in `range`; goes on from the last call
    /// with the same `from` if it can.
    pub(super) fn running_spread(&mut self, from: Micros, range: Range<usize>) -> Spread {
        let known = self.tally;
        let goes_on = known.end > 0 && known.from == from && known.end as usize <= range.end;
        let (mut spread, next) =
            if goes_on { (known.spread, known.end as usize) } else { (Spread::default(), range.start) };
        for sample in self.samples.get(next..range.end).unwrap_or(&[]) {
            spread.add(sample);
        }
        // Of more than 4 billion samples nothing is kept: they are passed over each time.
        if let (Ok(start), Ok(end), false) = (u32::try_from(range.start), u32::try_from(range.end), range.is_empty()) {
            self.tally = Tally { from, start, end, spread };
        }
        spread
    }
}

/// What one pass over samples gives; of none, what any value replaces.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Spread {
    /// Sum in f64, in order of the samples.
    pub(super) sum: f64,
    /// The least value.
    pub(super) min: f32,
    /// When it was first reached.
    pub(super) min_at: Micros,
    /// The greatest value.
    pub(super) max: f32,
    /// When it was first reached.
    pub(super) max_at: Micros,
}

impl Default for Spread {
    fn default() -> Self {
        Spread { sum: 0.0, min: f32::INFINITY, min_at: STATIC, max: f32::NEG_INFINITY, max_at: STATIC }
    }
}

impl Spread {
    /// The spread of samples.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let mut spread = Spread::default();
        for sample in samples {
            spread.add(sample);
        }
        spread
    }

    fn add(&mut self, sample: &Sample) {
        self.sum += f64::from(sample.value);
        if sample.value < self.min {
            (self.min, self.min_at) = (sample.value, sample.time);
        }
        if sample.value > self.max {
            (self.max, self.max_at) = (sample.value, sample.time);
        }
    }
}

/// Sample standard deviation around the mean of `sum` (two passes); `None` of fewer than two.
pub(super) fn deviation(samples: &[Sample], sum: f64) -> Option<f64> {
    if samples.len() < 2 {
        return None;
    }
    let mean = sum / samples.len() as f64;
    let squares: f64 = samples.iter().map(|sample| (f64::from(sample.value) - mean).powi(2)).sum();
    Some((squares / (samples.len() - 1) as f64).sqrt())
}

/// Slope per hour of the line of least squares; `None` of fewer than two different times.
pub(super) fn slope(samples: &[Sample]) -> Option<f64> {
    let samples = &samples[samples.partition_point(|sample| sample.time == STATIC)..];
    let (first, last) = (samples.first()?, samples.last()?);
    if first.time == last.time {
        return None;
    }
    let n = samples.len() as f64;
    let x = |sample: &Sample| hours(first.time, sample.time);
    // Around the means: sums of raw squares would cancel.
    let (sum_x, sum_y) = samples.iter().fold((0.0, 0.0), |(a, b), sample| (a + x(sample), b + f64::from(sample.value)));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (mut across, mut along) = (0.0, 0.0);
    for sample in samples {
        let dx = x(sample) - mean_x;
        across += dx * (f64::from(sample.value) - mean_y);
        along += dx * dx;
    }
    (along > 0.0).then_some(across / along)
}

/// Hours from one time to another.
pub(super) fn hours(from: Micros, to: Micros) -> f64 {
    to.saturating_sub(from) as f64 / HOUR as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(samples: &[(Micros, f32)]) -> Series {
        let mut series = Series::default();
        for (fact, (time, value)) in (0..).zip(samples) {
            series.insert(Sample { time: *time, value: *value, fact });
        }
        series
    }

    fn facts(series: &Series, from: Micros, to: Micros) -> Vec<u32> {
        series.samples[series.between(from, to)].iter().map(|sample| sample.fact).collect()
    }

    #[test]
    fn samples_lie_by_time_then_by_arrival() {
        let mut all = series(&[(5, 0.0), (3, 0.0), (5, 0.0), (STATIC, 0.0), (3, 0.0), (9, 0.0)]);
        assert_eq!(facts(&all, STATIC, 9), [3, 1, 4, 0, 2, 5]);
        all.remove(0);
        all.remove(77);
        assert_eq!(facts(&all, STATIC, 9), [3, 1, 4, 2, 5]);
        assert_eq!(facts(&all, 3, 5), [1, 4, 2]);
        assert_eq!(facts(&all, STATIC, 8), [3, 1, 4, 2]);
        assert_eq!(facts(&all, 6, 8), [0; 0]);
        assert_eq!(facts(&all, 8, 6), [0; 0]);
        assert_eq!(facts(&Series::default(), 0, 9), [0; 0]);
    }

    #[test]
    fn a_spread_knows_when_the_extremes_were_first_reached() {
        let spread = Spread::of(series(&[(1, 2.0), (2, 7.0), (3, 1.0), (4, 7.0), (5, 1.0)]).samples());
        assert_eq!((spread.sum, spread.min, spread.min_at, spread.max, spread.max_at), (18.0, 1.0, 3, 7.0, 2));
    }

    #[test]
    fn a_running_spread_is_that_of_a_pass_from_the_beginning() {
        let mut all = series(&[(1, 0.1), (2, 0.7), (3, 0.2)]);
        let mut fact = 3;
        let mut step = |all: &mut Series, from: Micros, to: Micros, then: Option<Sample>| {
            let range = all.between(from, to);
            let expected = Spread::of(&all.samples[range.clone()]);
            let running = all.running_spread(from, range);
            assert_eq!((running.sum, running.min_at, running.max_at), (expected.sum, expected.min_at, expected.max_at));
            if let Some(sample) = then {
                fact += 1;
                all.insert(Sample { fact, ..sample });
            }
        };
        let late = |time, value| Some(Sample { time, value, fact: 0 });
        step(&mut all, 2, 3, late(4, 0.3));
        step(&mut all, 2, 9, late(4, 1e9));
        step(&mut all, 2, 9, late(1, 5.0));
        step(&mut all, 2, 9, late(2, -5.0));
        step(&mut all, 2, 3, late(9, 7.0));
        step(&mut all, 2, 9, late(3, 0.3));
        all.remove(5);
        step(&mut all, 2, 9, late(8, 0.3));
        step(&mut all, 1, 9, None);
        step(&mut all, 2, 2, None);
        step(&mut all, 20, 30, None);
        step(&mut all, 20, 10, late(25, 0.3));
        step(&mut all, 20, 30, None);
    }

    #[test]
    fn deviation_and_slope_agree_with_their_definitions() {
        let all = series(&[(0, 2.0), (HOUR, 4.0), (2 * HOUR, 4.0), (3 * HOUR, 6.0)]);
        let all = all.samples();
        assert!((deviation(all, 16.0).unwrap() - (8.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert!((slope(all).unwrap() - 1.2).abs() < 1e-15);
        assert_eq!((deviation(&all[..1], 2.0), slope(&all[..1])), (None, None));
        assert_eq!(slope(series(&[(7, 1.0), (7, 2.0)]).samples()), None);
        assert_eq!(slope(series(&[(STATIC, 9.0), (0, 1.0), (HOUR, 2.0)]).samples()), Some(1.0));
    }
}
