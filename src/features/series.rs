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
    /// From the first sample on, as far as a long window has asked for them. Like the tally no part
    /// of the state.
    blocks: Vec<Block>,
}

/// Windows of fewer samples are passed over one by one.
const LONG: usize = 256;
/// The samples of a long window are summed by these stretches of time, counted from the epoch on.
const STRETCH: Micros = HOUR;

/// The samples of one stretch of time, all of them: a later stretch has begun.
#[derive(Copy, Clone)]
struct Block {
    /// Past the last.
    end: usize,
    spread: Spread,
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

    /// Heap bytes of the samples; where a long window is asked for, blocks add 40 bytes an hour that has any.
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

    /// Takes the sample of a fact away; gives its time.
    pub(super) fn remove(&mut self, fact: u32) -> Option<Micros> {
        // Most corrections are of something recent.
        let place = self.samples.iter().rposition(|sample| sample.fact == fact)?;
        self.changed(place);
        let removed = self.samples.remove(place);
        self.last = self.samples.last().copied();
        Some(removed.time)
    }

    /// Takes all samples from a time on away.
    pub(super) fn cut(&mut self, from: Micros) {
        let place = self.samples.partition_point(|sample| sample.time < from);
        self.changed(place);
        self.samples.truncate(place);
        self.last = self.samples.last().copied();
    }

    /// Where the samples that have a time, and one before `floor`, lie.
    pub(super) fn before(&self, floor: Micros) -> Range<usize> {
        let dated = self.samples.partition_point(|sample| sample.time == STATIC);
        dated..self.samples.partition_point(|sample| sample.time < floor).max(dated)
    }

    /// Takes these away, and what is much too large for the others.
    pub(super) fn trim(&mut self, floor: Micros) {
        let gone = self.before(floor);
        if gone.is_empty() {
            return;
        }
        self.changed(gone.start);
        self.samples.drain(gone);
        self.samples.shrink_to(2 * self.samples.len());
        self.last = self.samples.last().copied();
    }

    fn changed(&mut self, place: usize) {
        if place < self.tally.end as usize {
            self.tally.end = 0;
        }
        // What comes behind the last sample of a block may belong to it.
        self.blocks.truncate(self.blocks.partition_point(|block| block.end < place));
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

    /// The spread of the samples in `range`: of a long one by stretches of time, so that how its sum is
    /// rounded follows from its samples alone, not from what lies around them or how the passes over them went.
    pub(super) fn spread(&mut self, range: Range<usize>) -> Spread {
        if range.len() < LONG {
            return Spread::of(self.samples.get(range).unwrap_or(&[]));
        }
        self.extend_blocks(range.end);
        let mut spread = Spread::default();
        let mut next = range.start;
        let first = self.blocks.partition_point(|block| block.end <= range.start);
        let mut start = first.checked_sub(1).and_then(|before| self.blocks.get(before)).map_or(0, |block| block.end);
        for block in self.blocks.get(first..).unwrap_or(&[]).iter().take_while(|block| block.end <= range.end) {
            // The first may have begun before the window.
            let of_part = || Spread::of(self.samples.get(range.start..block.end).unwrap_or(&[]));
            spread.append(&if start < range.start { of_part() } else { block.spread });
            (start, next) = (block.end, block.end);
        }
        for samples in self.samples.get(next..range.end).unwrap_or(&[]).chunk_by(in_one_stretch) {
            spread.append(&Spread::of(samples));
        }
        spread
    }

    /// Adds the blocks that are complete before `end`.
    fn extend_blocks(&mut self, end: usize) {
        let mut start = self.blocks.last().map_or(0, |block| block.end);
        for samples in self.samples.get(start..end).unwrap_or(&[]).chunk_by(in_one_stretch) {
            start += samples.len();
            if start < end {
                self.blocks.push(Block { end: start, spread: Spread::of(samples) });
            }
        }
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

/// Whether two samples lie in one stretch of time.
fn in_one_stretch(a: &Sample, b: &Sample) -> bool {
    a.time.div_euclid(STRETCH) == b.time.div_euclid(STRETCH)
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

    /// Adds the spread of later samples.
    fn append(&mut self, later: &Spread) {
        self.sum += later.sum;
        if later.min < self.min {
            (self.min, self.min_at) = (later.min, later.min_at);
        }
        if later.max > self.max {
            (self.max, self.max_at) = (later.max, later.max_at);
        }
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

/// The middle value, or the mean of the two in the middle; NaN of none.
pub(super) fn median(samples: &[Sample]) -> f64 {
    let mut values: Vec<f32> = samples.iter().map(|sample| sample.value).collect();
    if values.is_empty() {
        return f64::NAN;
    }
    let middle = values.len() / 2;
    let is_even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    let upper = f64::from(*upper);
    if !is_even {
        return upper;
    }
    let lower = below.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (f64::from(lower) + upper) / 2.0
}

/// How many different values there are.
pub(super) fn distinct(samples: &[Sample]) -> usize {
    // Zero is zero, whatever its sign.
    let mut values: Vec<u32> = samples.iter().map(|sample| (sample.value + 0.0).to_bits()).collect();
    values.sort_unstable();
    values.dedup();
    values.len()
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
    fn what_is_cut_off_is_as_if_it_had_never_been() {
        let mut all = series(&[(1, 0.1), (2, 0.7), (3, 0.2), (3, 0.4)]);
        let whole = all.between(0, 9);
        all.running_spread(0, whole);
        all.cut(3);
        let rest = all.between(0, 9);
        assert_eq!((rest.clone(), all.last_of(&rest).unwrap().time), (0..2, 2));
        assert_eq!(all.running_spread(0, rest.clone()), Spread::of(&all.samples[rest]));
        assert_eq!((all.remove(1), all.remove(3)), (Some(2), None));
        all.cut(STATIC);
        assert_eq!(all.between(0, 9), 0..0);
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
    fn what_is_trimmed_has_a_time_before_the_floor() {
        let mut all = series(&[(STATIC, 9.0), (1, 0.1), (2, 0.7), (3, 0.2), (3, 0.4)]);
        assert_eq!((all.before(STATIC), all.before(3), all.before(9)), (1..1, 1..3, 1..5));
        let whole = all.between(2, 9);
        all.running_spread(2, whole);
        all.trim(3);
        assert_eq!(facts(&all, STATIC, 9), [0, 3, 4]);
        let rest = all.between(2, 9);
        assert_eq!(all.running_spread(2, rest.clone()), Spread::of(&all.samples[rest]));
        all.trim(9);
        assert_eq!((facts(&all, STATIC, 9), all.last_of(&(0..1)).unwrap().time), (vec![0], STATIC));
        let mut many = series(&(0..1000).map(|i| (i, 1.0)).collect::<Vec<_>>());
        many.trim(990);
        assert!(many.bytes() <= 20 * size_of::<Sample>(), "{} bytes for ten samples", many.bytes());
    }

    /// Seven samples an hour.
    fn long_series(of: impl Iterator<Item = i64>) -> Series {
        let value = |i: i64| ((i * 7919) % 1000) as f32 / 7.0;
        series(&of.map(|i| (i * HOUR / 7, value(i))).collect::<Vec<_>>())
    }

    #[test]
    fn the_spread_of_a_long_window_follows_from_its_samples_alone() {
        for start in [0, 1, 6, 7, 8, 350] {
            for end in [700, 701, 706, 707, 1000] {
                let mut all = long_series(0..1000);
                let mut alone = long_series(start..end);
                let mut trimmed = long_series(0..1000);
                trimmed.spread(0..1000);
                trimmed.trim(start * HOUR / 7);
                let (from, to) = (start as usize, end as usize);
                assert_eq!(all.spread(from..to), alone.spread(0..to - from), "{start} to {end}");
                assert_eq!(all.spread(from..to), trimmed.spread(0..to - from), "{start} to {end}, trimmed");
                let plain = Spread::of(alone.samples());
                assert!((all.spread(from..to).sum - plain.sum).abs() < 1e-9 * plain.sum);
            }
        }
    }

    #[test]
    fn a_long_window_has_the_same_spread_however_it_was_asked_for() {
        let spreads = |all: &mut Series| -> Vec<Spread> {
            [0..1000, 3..1000, 64..960, 100..400, 999..1000, 700..956, 700..955].map(|range| all.spread(range)).to_vec()
        };
        let mut at_once = long_series(0..1000);
        let mut late = long_series((0..1000).filter(|i| i % 2 == 0));
        for sample in at_once.samples().iter().skip(1).step_by(2) {
            late.spread(0..late.samples.len());
            late.insert(*sample);
        }
        let expected = spreads(&mut at_once);
        assert_eq!(spreads(&mut late), expected);
        assert_eq!(spreads(&mut late), expected, "and again");
        let plain = Spread::of(at_once.samples());
        let all = &expected[0];
        assert_eq!((all.min, all.max, all.min_at, all.max_at), (plain.min, plain.max, plain.min_at, plain.max_at));
        assert!((all.sum - plain.sum).abs() < 1e-9 * plain.sum);
        let cut = at_once.samples()[500].time;
        late.cut(cut);
        assert_eq!(late.spread(0..500), at_once.spread(0..500));
        let removed = at_once.samples()[499].fact;
        at_once.spread(0..1000);
        at_once.remove(removed);
        let mut never = Series::default();
        at_once.samples().iter().for_each(|sample| never.insert(*sample));
        assert_eq!(at_once.spread(0..999), never.spread(0..999));
    }

    #[test]
    fn deviation_and_slope_agree_with_their_definitions() {
        let all = series(&[(0, 2.0), (HOUR, 4.0), (2 * HOUR, 4.0), (3 * HOUR, 6.0)]);
        let all = all.samples();
        assert!((deviation(all, 16.0).unwrap() - (8.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert!((slope(all).unwrap() - 1.2).abs() < 1e-15);
        assert_eq!((deviation(&all[..1], 2.0), slope(&all[..1])), (None, None));
        assert_eq!((median(all), median(&all[..3]), median(&all[1..]), distinct(all)), (4.0, 4.0, 4.0, 3));
        assert_eq!((median(&all[..2]), distinct(&[])), (3.0, 0));
        assert!(median(&[]).is_nan());
        assert_eq!(slope(series(&[(7, 1.0), (7, 2.0)]).samples()), None);
        assert_eq!(slope(series(&[(STATIC, 9.0), (0, 1.0), (HOUR, 2.0)]).samples()), Some(1.0));
    }
}
