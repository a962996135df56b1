//! One subject's rows, and where each predicate counts on them.

use super::config::{Kind, Mark, Predicate};
use crate::events::Micros;

/// One subject's record. Kept from subject to subject for its room.
#[derive(Debug)]
pub(super) struct Record {
    /// Distinct times, ascending.
    times: Vec<Micros>,
    /// Of each predicate, the rows on which it counts. Empty for a plain static one.
    series: Vec<Series>,
    /// Of each predicate, its count over the events without time.
    pub(super) fixed: Vec<i64>,
    /// Times of the events that are measured, ascending, and their values.
    pub(super) measured: (Vec<Micros>, Vec<f32>),
}

/// The rows on which a predicate counts above zero.
#[derive(Clone, Debug)]
struct Series {
    /// Their times, ascending.
    times: Vec<Micros>,
    /// The sum of the counts before each row, and of all at the end.
    sums: Vec<i64>,
}

impl Series {
    fn clear(&mut self) {
        self.times.clear();
        self.sums.clear();
        self.sums.push(0);
    }

    /// Counts one more at a time that is not before the last.
    fn add(&mut self, time: Micros) {
        if self.times.last() != Some(&time) {
            self.times.push(time);
            self.sums.extend(self.sums.last().copied());
        }
        if let Some(sum) = self.sums.last_mut() {
            *sum += 1;
        }
    }

    fn contains(&self, time: Micros) -> bool {
        self.times.binary_search(&time).is_ok()
    }
}

impl Record {
    /// An empty record for so many predicates.
    pub(super) fn new(predicates: usize) -> Self {
        let empty = Series { times: Vec::new(), sums: vec![0] };
        Record {
            times: Vec::new(),
            series: vec![empty; predicates],
            fixed: vec![0; predicates],
            measured: Default::default(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.series.iter_mut().for_each(Series::clear);
        self.fixed.fill(0);
        self.measured.0.clear();
        self.measured.1.clear();
    }

    /// Notes that there is a row at a time that is not before the last.
    pub(super) fn row(&mut self, time: Micros) {
        if self.times.last() != Some(&time) {
            self.times.push(time);
        }
    }

    /// Counts one event for plain predicate `p`; times as in [`row`](Self::row).
    pub(super) fn add(&mut self, p: usize, predicate: &Predicate, time: Option<Micros>) {
        match time {
            None => self.fixed[p] += 1,
            // Of a static predicate only what has no time is looked at.
            Some(_) if predicate.is_static => {}
            Some(time) => self.series[p].add(time),
        }
    }

    /// Finds the rows of the derived predicates, once all events are counted.
    pub(super) fn derive(&mut self, predicates: &[Predicate]) {
        for (p, predicate) in predicates.iter().enumerate() {
            let (inputs, and) = match &predicate.kind {
                Kind::Plain { .. } => continue,
                Kind::And(inputs) => (inputs, true),
                Kind::Or(inputs) => (inputs, false),
            };
            let fixed = |input: &usize| self.fixed[*input] > 0;
            self.fixed[p] = i64::from(if and { inputs.iter().all(fixed) } else { inputs.iter().any(fixed) });
            // A plain static input holds on every row of the subject or on none.
            let everywhere =
                |input: &usize| predicates[*input].is_static && matches!(predicates[*input].kind, Kind::Plain { .. });
            let (fixed, dated): (Vec<usize>, Vec<usize>) = inputs.iter().copied().partition(everywhere);
            let mut fixed = fixed.iter().map(|input| self.fixed[*input] > 0);
            let times = if and {
                match dated.split_first() {
                    _ if !fixed.all(|held| held) => Vec::new(),
                    None => self.times.clone(),
                    Some((first, others)) => {
                        let held = |time: &&Micros| others.iter().all(|input| self.series[*input].contains(**time));
                        self.series[*first].times.iter().filter(held).copied().collect()
                    }
                }
            } else if fixed.any(|held| held) {
                self.times.clone()
            } else {
                let mut times: Vec<Micros> =
                    dated.iter().flat_map(|input| &self.series[*input].times).copied().collect();
                times.sort_unstable();
                times.dedup();
                times
            };
            times.into_iter().for_each(|time| self.series[p].add(time));
        }
    }

    /// Whether predicate `p` counts anywhere.
    pub(super) fn has(&self, p: usize) -> bool {
        self.fixed[p] > 0 || !self.series[p].times.is_empty()
    }

    /// Times of the rows that are so marked, ascending.
    pub(super) fn points(&self, mark: Mark) -> &[Micros] {
        match mark {
            Mark::Any => &self.times,
            Mark::First => &self.times[..self.times.len().min(1)],
            Mark::Last => &self.times[self.times.len().saturating_sub(1)..],
            Mark::Predicate(p) => &self.series[p].times,
        }
    }

    /// How often `mark` counts on its points `from..to`.
    pub(super) fn sum(&self, mark: Mark, from: usize, to: usize) -> i64 {
        match mark {
            Mark::Any | Mark::First | Mark::Last => (to - from) as i64,
            Mark::Predicate(p) => self.series[p].sums[to] - self.series[p].sums[from],
        }
    }
}
