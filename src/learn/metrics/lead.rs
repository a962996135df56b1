//! How long before the outcome a model spoke, and for how many outcomes it did.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Scored;
use super::bootstrap::quantile;
use crate::events::{HOUR, Micros, SubjectId};

/// A scored row in time.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) struct Dated {
    /// Risk and outcome.
    pub(crate) scored: Scored,
    /// When it was predicted.
    pub(crate) time: Micros,
    /// When what was predicted happened; `None` if it did not, or nobody knows when.
    pub(crate) onset: Option<Micros>,
}

/// Figures over outcomes instead of rows: an outcome is what one subject has at one time, and
/// its rows are those that were to tell it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LeadTime {
    /// Outcomes whose time is known.
    pub events: usize,
    /// Outcomes with a row at or above the threshold before them.
    pub caught: usize,
    /// `caught / events`.
    pub sensitivity: f64,
    /// Hours from the first such row to the outcome, over those caught.
    pub hours: Option<Quartiles>,
    /// Positive rows whose outcome has no known time; they count for nothing here.
    pub undated_rows: usize,
}

/// Three quarters' borders.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct Quartiles {
    /// Lower quartile.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// Upper quartile.
    pub p75: f64,
}

/// `None` where no outcome has a known time.
pub(super) fn lead_time(rows: &[Dated], threshold: f64) -> Option<LeadTime> {
    let positive = rows.iter().filter(|row| row.scored.outcome);
    let mut events: BTreeMap<(SubjectId, Micros), Option<Micros>> = BTreeMap::new();
    let mut undated_rows = 0;
    for row in positive {
        let Some(onset) = row.onset else {
            undated_rows += 1;
            continue;
        };
        let first = events.entry((row.scored.subject, onset)).or_default();
        // A row after the outcome catches nothing.
        if row.scored.risk >= threshold && row.time <= onset {
            *first = Some(first.map_or(row.time, |first| first.min(row.time)));
        }
    }
    if events.is_empty() {
        return None;
    }
    let lead = |((_, onset), first): (&(SubjectId, Micros), &Option<Micros>)| {
        first.map(|first| onset.saturating_sub(first) as f64 / HOUR as f64)
    };
    let mut leads: Vec<f64> = events.iter().filter_map(lead).collect();
    leads.sort_by(f64::total_cmp);
    let at = |q| quantile(&leads, q);
    Some(LeadTime {
        events: events.len(),
        caught: leads.len(),
        sensitivity: leads.len() as f64 / events.len() as f64,
        hours: (!leads.is_empty()).then(|| Quartiles { p25: at(0.25), p50: at(0.5), p75: at(0.75) }),
        undated_rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: i64, hour: i64, risk: f64, onset: Option<i64>) -> Dated {
        let scored = Scored { subject: SubjectId(subject), risk, outcome: onset.is_some() };
        Dated { scored, time: hour * HOUR, onset: onset.map(|hour| hour * HOUR) }
    }

    #[test]
    fn outcomes_are_counted_once_and_from_their_first_alert() {
        let rows = [
            row(1, 0, 0.9, None),
            row(1, 4, 0.2, Some(20)),
            row(1, 12, 0.6, Some(20)),
            row(1, 8, 0.5, Some(20)),
            row(1, 40, 0.4, Some(50)),
            row(2, 0, 0.7, Some(30)),
            row(3, 9, 0.7, Some(8)),
        ];
        let found = lead_time(&rows, 0.5).unwrap();
        assert_eq!((found.events, found.caught, found.sensitivity), (4, 2, 0.5));
        assert_eq!(found.hours, Some(Quartiles { p25: 16.5, p50: 21.0, p75: 25.5 }));
        let silent = lead_time(&rows, 0.95).unwrap();
        assert_eq!((silent.caught, silent.sensitivity, silent.hours), (0, 0.0, None));
    }

    #[test]
    fn an_outcome_without_a_time_counts_for_nothing() {
        let undated = Dated { onset: None, ..row(1, 0, 0.9, Some(1)) };
        assert_eq!(lead_time(&[undated], 0.5), None);
        let found = lead_time(&[undated, row(2, 0, 0.9, Some(1))], 0.5).unwrap();
        assert_eq!((found.events, found.undated_rows), (1, 1));
    }
}
