//! Samples of one concept of one subject, and what is made of them.

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

/// Puts a sample to its place: by time, and behind those of the same time.
pub(super) fn insert(series: &mut Vec<Sample>, sample: Sample) {
    match series.last() {
        Some(last) if last.time > sample.time => {
            let place = series.partition_point(|other| other.time <= sample.time);
            series.insert(place, sample);
        }
        _ => series.push(sample),
    }
}

/// Takes the sample of a fact away.
pub(super) fn remove(series: &mut Vec<Sample>, fact: u32) {
    // Most corrections are of something recent.
    if let Some(place) = series.iter().rposition(|sample| sample.fact == fact) {
        series.remove(place);
    }
}

/// The samples with a time in `[from, to]`.
pub(super) fn between(series: &[Sample], from: Micros, to: Micros) -> &[Sample] {
    let end = match series.last() {
        Some(last) if last.time > to => series.partition_point(|sample| sample.time <= to),
        _ => series.len(),
    };
    let start = match series.first() {
        Some(first) if first.time < from => series[..end].partition_point(|sample| sample.time < from),
        _ => 0,
    };
    &series[start..end]
}

/// What one pass over samples gives.
#[derive(Copy, Clone, Debug)]
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

/// The spread of samples; `None` of none.
pub(super) fn spread(samples: &[Sample]) -> Option<Spread> {
    let (first, rest) = samples.split_first()?;
    let sum = f64::from(first.value);
    let mut spread = Spread { sum, min: first.value, min_at: first.time, max: first.value, max_at: first.time };
    for sample in rest {
        spread.sum += f64::from(sample.value);
        if sample.value < spread.min {
            (spread.min, spread.min_at) = (sample.value, sample.time);
        }
        if sample.value > spread.max {
            (spread.max, spread.max_at) = (sample.value, sample.time);
        }
    }
    Some(spread)
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

    fn series(samples: &[(Micros, f32)]) -> Vec<Sample> {
        let mut series = Vec::new();
        for (fact, (time, value)) in (0..).zip(samples) {
            insert(&mut series, Sample { time: *time, value: *value, fact });
        }
        series
    }

    fn facts(samples: &[Sample]) -> Vec<u32> {
        samples.iter().map(|sample| sample.fact).collect()
    }

    #[test]
    fn samples_lie_by_time_then_by_arrival() {
        let mut all = series(&[(5, 0.0), (3, 0.0), (5, 0.0), (STATIC, 0.0), (3, 0.0), (9, 0.0)]);
        assert_eq!(facts(&all), [3, 1, 4, 0, 2, 5]);
        remove(&mut all, 0);
        remove(&mut all, 77);
        assert_eq!(facts(&all), [3, 1, 4, 2, 5]);
        assert_eq!(facts(between(&all, 3, 5)), [1, 4, 2]);
        assert_eq!(facts(between(&all, STATIC, 8)), [3, 1, 4, 2]);
        assert_eq!(facts(between(&all, 6, 8)), [0; 0]);
        assert_eq!(facts(between(&all, 8, 6)), [0; 0]);
        assert!(between(&[], 0, 9).is_empty());
    }

    #[test]
    fn a_spread_knows_when_the_extremes_were_first_reached() {
        let spread = spread(&series(&[(1, 2.0), (2, 7.0), (3, 1.0), (4, 7.0), (5, 1.0)])).unwrap();
        assert_eq!((spread.sum, spread.min, spread.min_at, spread.max, spread.max_at), (18.0, 1.0, 3, 7.0, 2));
        assert!(super::spread(&[]).is_none());
    }

    #[test]
    fn deviation_and_slope_agree_with_their_definitions() {
        let all = series(&[(0, 2.0), (HOUR, 4.0), (2 * HOUR, 4.0), (3 * HOUR, 6.0)]);
        assert!((deviation(&all, 16.0).unwrap() - (8.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert!((slope(&all).unwrap() - 1.2).abs() < 1e-15);
        assert_eq!((deviation(&all[..1], 2.0), slope(&all[..1])), (None, None));
        assert_eq!(slope(&series(&[(7, 1.0), (7, 2.0)])), None);
        assert_eq!(slope(&series(&[(STATIC, 9.0), (0, 1.0), (HOUR, 2.0)])), Some(1.0));
    }
}
