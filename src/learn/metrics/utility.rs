//! The utility of the PhysioNet/CinC Challenge 2019 (Reyna et al. 2020).

use serde::Serialize;

use super::lead::Dated;
use crate::events::{HOUR, Micros};

/// Utility of hourly predictions: early is worth most, late a little, missed and false cost.
///
/// In the challenge a label turns true six hours before the onset; here the onset itself is
/// known, from the record, and may lie between two full hours.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Utility {
    /// `(observed - inaction) / (best - inaction)`: 1 is best, 0 is never to predict.
    pub normalised: f64,
    /// Utility of the model at its threshold.
    pub observed: f64,
    /// Utility of never predicting.
    pub inaction: f64,
    /// Most that is possible.
    pub best: f64,
    /// Runs of predictions one hour apart: what the challenge calls patients.
    pub sequences: usize,
    /// Those with an outcome.
    pub events: usize,
}

/// Of rows in any order.
///
/// # Errors
/// Why these rows have no such utility.
pub(super) fn utility(rows: &[Dated], threshold: f64) -> Result<Utility, &'static str> {
    if rows.iter().any(|row| row.scored.outcome && row.onset.is_none()) {
        return Err("of some outcomes the time is not known");
    }
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (row.scored.subject, row.time));
    let hourly = |a: &Dated, b: &Dated| a.scored.subject == b.scored.subject && b.time - a.time == HOUR;
    let pairs = || rows.windows(2).filter(|pair| pair[0].scored.subject == pair[1].scored.subject);
    let apart_an_hour = pairs().filter(|pair| hourly(&pair[0], &pair[1])).count();
    if 2 * apart_an_hour <= pairs().count() || apart_an_hour == 0 {
        return Err("the predictions are not hourly");
    }
    let (mut observed, mut inaction, mut best) = (0.0, 0.0, 0.0);
    let (mut sequences, mut events) = (0, 0);
    for sequence in rows.chunk_by(hourly) {
        let onset = sequence.iter().filter(|row| row.scored.outcome).filter_map(|row| row.onset).min();
        sequences += 1;
        events += usize::from(onset.is_some());
        for row in sequence {
            let of = |alert| of_hour(row.time, onset, alert);
            observed += of(row.scored.risk >= threshold);
            inaction += of(false);
            best += of(true).max(of(false));
        }
    }
    if best <= inaction {
        return Err("no row has the outcome");
    }
    Ok(Utility { normalised: (observed - inaction) / (best - inaction), observed, inaction, best, sequences, events })
}

/// Utility of one prediction, by the challenge's constants: most at six hours before the
/// onset, from twelve hours before until three after it.
fn of_hour(time: Micros, onset: Option<Micros>, alert: bool) -> f64 {
    const FALSE_ALERT: f64 = -0.05;
    let Some(onset) = onset else { return if alert { FALSE_ALERT } else { 0.0 } };
    let since = (time - onset) as f64 / HOUR as f64;
    if since > 3.0 {
        0.0
    } else if since > -6.0 {
        if alert { 1.0 / 3.0 - since / 9.0 } else { -(2.0 / 9.0) * since - 4.0 / 3.0 }
    } else if alert {
        (since / 6.0 + 2.0).max(FALSE_ALERT)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Scored;
    use super::*;
    use crate::events::SubjectId;

    /// Rows of a patient of the challenge: its labels turn true six hours before the onset.
    fn patient(subject: i64, labels: &[u8], alerts: &[u8]) -> Vec<Dated> {
        let onset = labels.iter().position(|label| *label == 1).map(|first| (first as i64 + 6) * HOUR);
        let row = |(hour, (label, alert)): (usize, (&u8, &u8))| {
            let scored = Scored { subject: SubjectId(subject), risk: f64::from(*alert), outcome: *label == 1 };
            Dated { scored, time: hour as i64 * HOUR, onset: onset.filter(|_| *label == 1) }
        };
        labels.iter().zip(alerts).enumerate().map(row).collect()
    }

    /// The example that the challenge's own evaluation gives.
    #[test]
    fn a_patient_of_the_challenge_has_its_utility() {
        let rows = patient(1, &[0, 0, 0, 0, 1, 1], &[0, 0, 1, 1, 1, 1]);
        let found = utility(&rows, 0.5).unwrap();
        assert!((found.observed - 3.388_888_888_888_889).abs() < 1e-12);
        assert_eq!((found.sequences, found.events, found.inaction), (1, 1, -2.0 / 9.0 * -5.0 - 4.0 / 3.0));
    }

    #[test]
    fn where_there_is_none_it_says_why() {
        let rows = patient(1, &[0, 0, 1], &[0, 0, 1]);
        let apart: Vec<Dated> = rows.iter().map(|row| Dated { time: row.time * 4, ..*row }).collect();
        assert_eq!(utility(&apart, 0.5), Err("the predictions are not hourly"));
        let undated: Vec<Dated> = rows.iter().map(|row| Dated { onset: None, ..*row }).collect();
        assert_eq!(utility(&undated, 0.5), Err("of some outcomes the time is not known"));
        assert_eq!(utility(&patient(1, &[0, 0], &[0, 1]), 0.5), Err("no row has the outcome"));
        assert_eq!(utility(&rows[..1], 0.5), Err("the predictions are not hourly"));
        assert_eq!(utility(&[], 0.5), Err("the predictions are not hourly"));
    }

    /// The best predictions as the challenge states them.
    fn best(labels: &[u8]) -> Vec<u8> {
        let mut best = vec![0; labels.len()];
        if let Some(first) = labels.iter().position(|label| *label == 1) {
            let onset = first + 6;
            let last = (onset + 3).min(labels.len() - 1);
            best[onset.saturating_sub(12)..=last].fill(1);
        }
        best
    }

    proptest! {
        #[test]
        fn best_and_inaction_are_those_of_the_challenge(
            patients in prop::collection::vec((2_usize..40, prop::option::of(0_usize..40), any::<u64>()), 1..6),
        ) {
            let labels = |(hours, first, _): &(usize, Option<usize>, u64)| -> Vec<u8> {
                (0..*hours).map(|hour| u8::from(first.is_some_and(|first| hour >= first))).collect()
            };
            let of = |alerts: &dyn Fn(&[u8], u64) -> Vec<u8>| -> Vec<Dated> {
                (0..).zip(&patients).flat_map(|(i, p)| patient(i, &labels(p), &alerts(&labels(p), p.2))).collect()
            };
            let some = |labels: &[u8], bits: u64| -> Vec<u8> {
                (0..labels.len()).map(|i| (bits >> (i % 64) & 1) as u8).collect()
            };
            if let Ok(found) = utility(&of(&some), 0.5) {
                let perfect = utility(&of(&|labels, _| best(labels)), 0.5).unwrap();
                let silent = utility(&of(&|labels, _| vec![0; labels.len()]), 0.5).unwrap();
                prop_assert!((perfect.normalised - 1.0).abs() < 1e-9 && silent.normalised.abs() < 1e-9);
                prop_assert!((perfect.observed - found.best).abs() < 1e-9);
                prop_assert!((silent.observed - found.inaction).abs() < 1e-9);
                prop_assert!(found.normalised <= 1.0 + 1e-9);
            }
        }
    }
}
