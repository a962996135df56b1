//! Invariants 3 and 6 over random logs.

use proptest::prelude::*;

use super::oracle::{Row, TRIGGERS, FEATURES, log};
use super::*;
use crate::events::{EventsBuilder, EventsView};

/// Folds a log cut into batches of `size` rows; the first `silent` rows unheard.
fn pass(rows: &[Row], size: usize, silent: usize) -> (Fold, Due) {
    let mut fold = Fold::new(spec(FEATURES), TRIGGERS.iter().map(|text| trigger(text)).collect());
    let (mut all, mut due, mut seen) = (Due::new(), Due::new(), 0);
    for batch in rows.chunks(size) {
        let mut builder = EventsBuilder::new();
        for row in batch {
            builder.push(&row.event()).unwrap();
        }
        let batch = builder.finish().unwrap();
        let view = EventsView::new(&batch).unwrap();
        for i in 0..view.len() {
            fold.apply(&view.row(i), (seen >= silent).then_some(&mut due));
            seen += 1;
        }
        all.rows.append(&mut due.rows);
        all.values.append(&mut due.values);
        all.observed.append(&mut due.observed);
        due.clear();
    }
    (fold, all)
}

fn bits(due: &Due) -> (Vec<super::super::Prediction>, Vec<u32>, Vec<Micros>) {
    (due.rows.clone(), due.values.iter().map(|value| value.to_bits()).collect(), due.observed.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn invariant_06_batches_and_passes_do_not_show(rows in log(120), size in 1usize..40) {
        let (one, first) = pass(&rows, rows.len().max(1), 0);
        let (other, second) = pass(&rows, size, 0);
        prop_assert_eq!(bits(&first), bits(&second));
        prop_assert_eq!(one.fingerprint(), other.fingerprint());
        prop_assert_eq!(one.bytes(), other.bytes());
    }

    #[test]
    fn invariant_03_a_silent_replay_leaves_the_state_of_a_live_pass(rows in log(120), cut in 0usize..120) {
        let (live, all) = pass(&rows, 50, 0);
        let (restarted, rest) = pass(&rows, 33, cut);
        prop_assert_eq!(live.fingerprint(), restarted.fingerprint());
        let (_, before) = pass(&rows[..cut.min(rows.len())], 50, 0);
        let mut whole = before;
        whole.rows.extend(rest.rows);
        whole.values.extend(rest.values);
        whole.observed.extend(rest.observed);
        prop_assert_eq!(bits(&all), bits(&whole));
    }

    #[test]
    fn invariant_03_the_fingerprint_is_of_the_state_alone(rows in log(60)) {
        // Subjects arrive in another order; each one's own order and the ticks stay.
        let ticks = rows.iter().filter(|row| row.subject.is_none()).count();
        prop_assume!(ticks == 0 || rows.len() < 10);
        let mut other = rows.clone();
        other.sort_by_key(|row| std::cmp::Reverse(row.subject));
        if ticks == 0 {
            prop_assert_eq!(pass(&rows, 50, 0).0.fingerprint(), pass(&other, 50, 0).0.fingerprint());
        }
        let mut changed = rows.clone();
        if let Some(row) = changed.iter_mut().rev().find(|row| row.subject.is_some()) {
            row.source.push('x');
            let same = pass(&rows, 50, 0).0.fingerprint() == pass(&changed, 50, 0).0.fingerprint();
            // The last event of its subject shows unless it changed nothing.
            let last = row.clone();
            let mut fold = pass(&rows[..rows.iter().rposition(|r| r.subject.is_some()).unwrap()], 50, 0).0;
            let unchanged = matches!(
                fold.apply(&last.event(), None),
                super::super::Applied::Redelivered | super::super::Applied::RetractedUnknown
            );
            prop_assert_eq!(same, unchanged);
        }
    }
}
