//! The bootstrap that draws whole subjects: rows of one subject are not independent.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use serde::Serialize;

use crate::events::SubjectId;

/// Most replicates, and the least that an interval is made of.
const REPLICATES: (usize, usize) = (1_000, 200);
/// Row visits that the bootstrap may cost, as far as the least replicates allow.
const VISITS: usize = 200_000_000;
/// Two-sided level of the intervals.
pub(super) const LEVEL: f64 = 0.95;

/// The percentile interval of one figure, by a bootstrap that draws whole subjects.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize)]
pub struct Interval {
    /// Two-sided level, 0.95.
    pub level: f64,
    /// Replicates drawn; none of fewer than two subjects.
    pub replicates: usize,
    /// Low and high end; `None` where most replicates have no such figure.
    pub ends: Option<[f64; 2]>,
}

/// The number of each row's subject among all, ascending, and how many subjects there are.
pub(super) fn numbered(subjects: &[SubjectId]) -> (Vec<usize>, usize) {
    let mut all = subjects.to_vec();
    all.sort_unstable();
    all.dedup();
    (subjects.iter().map(|subject| all.partition_point(|other| other < subject)).collect(), all.len())
}

/// The interval of `figure`, which visits so many rows and is told how often each subject counts.
pub(super) fn bootstrap(
    visits: usize,
    subjects: usize,
    seed: u64,
    figure: impl Fn(&[u32]) -> Option<f64> + Sync,
) -> Interval {
    let replicates = if subjects < 2 { 0 } else { replicates(visits) };
    let drawn = (0..replicates as u64).into_par_iter().map(|replicate| figure(&draw(seed, replicate, subjects)));
    Interval { level: LEVEL, replicates, ends: interval(&drawn.collect::<Vec<_>>()) }
}

/// How many replicates so many rows get.
pub(super) fn replicates(rows: usize) -> usize {
    VISITS.checked_div(rows).map_or(REPLICATES.0, |most| most.clamp(REPLICATES.1, REPLICATES.0))
}

/// How often each subject is in a replicate; the same for the same arguments.
pub(super) fn draw(seed: u64, replicate: u64, subjects: usize) -> Vec<u32> {
    let mut random = StdRng::seed_from_u64(seed ^ replicate.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut times = vec![0_u32; subjects];
    for _ in 0..subjects {
        times[random.random_range(0..subjects)] += 1;
    }
    times
}

/// Percentile interval of a figure over the replicates that have it; `None` where most have
/// none, since an interval of the others would mislead.
pub(super) fn interval(values: &[Option<f64>]) -> Option<[f64; 2]> {
    let mut known: Vec<f64> = values.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    (known.len() * 2 > values.len())
        .then(|| [quantile(&known, (1.0 - LEVEL) / 2.0), quantile(&known, (1.0 + LEVEL) / 2.0)])
}

/// Linear interpolation between order statistics (type 7 of Hyndman and Fan 1996) of values
/// that are sorted and of which there is one at least.
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor())
}
