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

/// The same, one row at a time, with everybody at rest who may after the rows that `rests` names;
/// who is told of again is woken from the rows so far, and everybody in the end.
fn with_rests(rows: &[Row], rests: &[usize]) -> (Fold, Due, usize) {
    let empty = || Fold::new(spec(FEATURES), TRIGGERS.iter().map(|text| trigger(text)).collect());
    let told = |upto: usize, subjects: &[SubjectId]| {
        let mut told = empty();
        for (position, row) in rows[..upto].iter().enumerate() {
            if row.event().subject.is_some_and(|subject| subjects.contains(&subject)) {
                told.at(position as i64);
                told.apply(&row.event(), None);
            }
        }
        told
    };
    let (mut fold, mut due, mut rested) = (empty(), Due::new(), 0);
    for (position, row) in rows.iter().enumerate() {
        let mut builder = EventsBuilder::new();
        builder.push(&row.event()).unwrap();
        let batch = builder.finish().unwrap();
        let view = EventsView::new(&batch).unwrap();
        let asleep = fold.asleep(&view);
        fold.wake(&asleep, told(position, &asleep)).unwrap();
        fold.at(position as i64);
        fold.apply(&view.row(0), Some(&mut due));
        if rests.contains(&position) {
            rested += fold.rest(Micros::MAX, position as i64);
        }
    }
    let all: Vec<SubjectId> = (0..3).map(SubjectId).filter(|subject| fold.rests(*subject)).collect();
    fold.wake(&all, told(rows.len(), &all)).unwrap();
    (fold, due, rested)
}

pub(super) fn bits(due: &Due) -> (Vec<Prediction>, Vec<u32>, Vec<Micros>) {
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
    fn invariant_03_a_rest_leaves_no_trace(rows in log(120), rests in prop::collection::vec(0usize..120, 0..40)) {
        let (busy, expected) = pass(&rows, 50, 0);
        let (woken, due, _) = with_rests(&rows, &rests);
        prop_assert_eq!(bits(&expected), bits(&due));
        prop_assert_eq!(busy.fingerprint(), woken.fingerprint());
        prop_assert_eq!(busy.bytes(), woken.bytes());
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
fn a_subject_rests_once_nothing_is_due_of_it_and_all_of_it_is_archived() {
    let mut run = Run::new(FEATURES, &TRIGGERS);
    let log = [
        edge("ENCOUNTER//ICU//START", 0, 1),
        heart_rate(80.0, 6 * MINUTE, 2),
        edge("ENCOUNTER//ICU//END", 9 * MINUTE, 3),
    ];
    for (position, event) in (0..).zip(log) {
        assert_eq!(run.fold.rest(Micros::MAX, 9), 0, "an encounter is open");
        run.fold.at(position);
        run.apply(event);
    }
    let (awake, print) = (run.fold.bytes(), run.fold.fingerprint());
    assert_eq!(run.fold.rest(9 * MINUTE, 2), 0, "it has just been told of");
    assert_eq!(run.fold.rest(Micros::MAX, 1), 0, "its last row is not archived");
    assert_eq!((run.fold.restful(Micros::MAX), run.fold.rest(Micros::MAX, 2)), (1, 1));
    assert_eq!((run.fold.subjects(), run.fold.resting()), (0, 1));
    assert!(run.fold.bytes() < awake / 2, "{} of {awake} bytes", run.fold.bytes());
    let told = |rows: &[EventRef<'static>]| {
        let mut told = Run::new(FEATURES, &TRIGGERS);
        for (position, event) in (0..).zip(rows) {
            told.fold.at(position);
            told.fold.apply(event, None);
        }
        told.fold
    };
    let subject = [SubjectId(1)];
    assert!(run.fold.wake(&subject, told(&[])).is_err(), "nobody told of it");
    run.fold.wake(&subject, told(&log)).unwrap();
    assert_eq!((run.fold.fingerprint(), run.fold.resting()), (print, 0));
    assert_eq!(run.fold.rest(Micros::MAX, 2), 1, "its position came back with it");
    assert!(run.fold.wake(&subject, told(&log[..2])).is_err(), "its encounter is open in what was told");
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
