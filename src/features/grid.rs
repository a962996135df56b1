//! The hourly grid: the values of concepts hour by hour before the prediction, for models of sequences.
//!
//! Its columns come after all other features, so that a model of a table can leave them out: for each
//! concept in the order of `[grid]`, the oldest hour first, `grid.heart_rate.-47h` to `grid.heart_rate.-00h`.
//! Hour `k` is what happened in `(t - (k + 1) h, t - k h]` of a prediction at `t`. A value is missing where
//! nothing was observed in that hour: what had been before, and how long ago, follows from the row itself.
//! The last part of these names is that of no other feature: no window begins with a `-`.

use super::series::Series;
use crate::events::{HOUR, Micros};

/// Most hours of a grid: a week.
pub(super) const MOST_HOURS: u16 = 168;

/// What is made of the values of an hour.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum HourlyValue {
    Last,
    Mean,
}

impl HourlyValue {
    /// The word in `features.toml`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            HourlyValue::Last => "last",
            HourlyValue::Mean => "mean",
        }
    }
}

/// The grid of a site.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// How many hours, at least one.
    pub(super) hours: u16,
    pub(super) value: HourlyValue,
    /// The series of each concept and the column of its oldest hour.
    pub(super) concepts: Vec<(u16, u32)>,
}

/// Name of a concept's column of hour `hour` before the prediction.
pub(super) fn grid_name(concept: &str, hour: u16) -> String {
    format!("grid.{concept}.-{hour:02}h")
}

impl Grid {
    /// Fills the columns of a blank row from the series of a subject, in one pass over the samples within
    /// the grid. A value is observed when the newest event of its hour happened.
    pub(super) fn fill(&self, series: &[Series], at: Micros, values: &mut [f32], observed: &mut [Micros]) {
        let hours = usize::from(self.hours);
        let from = at.saturating_sub(i64::from(self.hours) * HOUR).saturating_add(1);
        for (of, first) in &self.concepts {
            let Some(series) = series.get(usize::from(*of)) else { continue };
            let columns = *first as usize..*first as usize + hours;
            let (Some(values), Some(observed)) = (values.get_mut(columns.clone()), observed.get_mut(columns)) else {
                continue;
            };
            let samples = series.samples().get(series.between(from, at)).unwrap_or(&[]);
            let hour_of = |time: Micros| (at.saturating_sub(time) / HOUR) as usize;
            for of_hour in samples.chunk_by(|a, b| hour_of(a.time) == hour_of(b.time)) {
                let Some(newest) = of_hour.last() else { continue };
                let place = hours - 1 - hour_of(newest.time).min(hours - 1);
                values[place] = match self.value {
                    HourlyValue::Last => newest.value,
                    HourlyValue::Mean => {
                        let sum = of_hour.iter().fold(0.0, |sum, sample| sum + f64::from(sample.value));
                        (sum / of_hour.len() as f64) as f32
                    }
                };
                observed[place] = newest.time;
            }
        }
    }
}
