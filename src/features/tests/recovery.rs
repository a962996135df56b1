//! Invariants 3 and 6 over random logs.

use proptest::prelude::*;

use super::oracle::{FEATURES, Row, TRIGGERS, log};
use super::*;
use crate::events::{EventsBuilder, EventsView};
use crate::features::Prediction;

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

fn bits(due: &Due) -> (Vec<Prediction>, Vec<u32>, Vec<Micros>) {
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
}

#[test]
fn invariant_03_the_fingerprint_is_of_the_whole_state_and_of_no_order_of_subjects() {
    let of = |subject, event: EventRef<'static>| EventRef { subject: Some(SubjectId(subject)), ..event };
    let log = [
        of(1, edge("ENCOUNTER//ICU//START", 0, 1)),
        of(2, edge("ENCOUNTER//ICU//START", 5, 1)),
        of(2, heart_rate(80.0, 6, 2)),
        of(1, heart_rate(80.0, 7, 2)),
    ];
    let print = |order: &[usize], change: &dyn Fn(usize, EventRef<'static>) -> EventRef<'static>| {
        let mut run = Run::new(FEATURES, &TRIGGERS);
        for i in order {
            run.apply(change(*i, log[*i]));
        }
        run.fold.fingerprint()
    };
    let same = |_, event| event;
    let whole = print(&[0, 1, 2, 3], &same);
    assert_eq!(whole, print(&[1, 2, 0, 3], &same));
    assert_eq!(whole, print(&[0, 1, 2, 3, 3, 2], &same), "redeliveries change nothing");
    assert_ne!(whole, print(&[0, 1, 2], &same));
    assert_ne!(whole, print(&[0, 3, 1, 2], &|i, event| EventRef { source: if i == 3 { "b" } else { "a" }, ..event }));
    let value =
        |i, event: EventRef<'static>| if i == 3 { EventRef { numeric_value: Some(80.5), ..event } } else { event };
    let start = |i, event| if i == 0 { EventRef { time: Some(1), ..event } } else { event };
    assert!(whole != print(&[0, 1, 2, 3], &value) && whole != print(&[0, 1, 2, 3], &start));
}
