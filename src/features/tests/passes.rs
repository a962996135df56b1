//! Invariant 3 where a log is folded in several passes, each over other subjects.

use arrow::array::RecordBatch;
use proptest::prelude::*;

use super::oracle::log;
use super::recovery::bits;
use super::trimming::{FEATURES, ROWS, asleep, batches, changed, changes, empty};
use super::*;
use crate::events::{EventsView, HOUR, JOIN, LEAVE};
use crate::features::Applied;

/// Applies those rows of batches, which stand at `from` and after, whose subject is wanted.
fn feed(
    fold: &mut Fold,
    (batches, from): (&[RecordBatch], usize),
    mut due: Option<&mut Due>,
    is_wanted: impl Fn(Option<SubjectId>) -> bool,
) {
    for (position, batch) in (from..).zip(batches) {
        let view = EventsView::new(batch).unwrap();
        fold.at(position as i64);
        for row in (0..view.len()).filter(|row| is_wanted(view.subject(*row))) {
            fold.apply(&view.row(row), due.as_deref_mut());
        }
    }
}

/// Folds batches in so many passes; `of` says in which each of the three subjects is folded. Who is inactive for so
/// long rests after it.
fn in_passes(batches: &[RecordBatch], passes: usize, of: [usize; 3], inactive: Option<Micros>) -> Fold {
    let pass = |number| {
        let mut fold = empty(FEATURES);
        let is_wanted = |id: Option<SubjectId>| id.is_none_or(|id| of[id.0 as usize] % passes == number);
        feed(&mut fold, (batches, 0), None, is_wanted);
        if let Some(inactive) = inactive {
            fold.rest(fold.inactive_since(inactive), batches.len() as i64);
        }
        fold
    };
    let mut whole = pass(0);
    (1..passes).for_each(|number| whole.absorb(pass(number)));
    whole
}

/// All that a fold says of itself.
fn said(fold: &Fold) -> ([u8; 32], [usize; 3], u64, Micros, Option<Micros>) {
    let counts = [fold.subjects(), fold.resting(), fold.bytes()];
    (fold.fingerprint(), counts, fold.skipped(), fold.known(), fold.clock())
}

/// Goes on with batches, as [`feed`] does, and wakes who rests before it is told of again, and everybody in the end.
fn go_on(fold: &mut Fold, batches: &[RecordBatch], from: usize) -> Due {
    let told = |upto: usize, subjects: &[SubjectId]| {
        let mut told = empty(FEATURES);
        let is_wanted = |id: Option<SubjectId>| id.is_some_and(|id| subjects.contains(&id));
        feed(&mut told, (&batches[..upto], 0), None, is_wanted);
        told
    };
    let mut due = Due::new();
    for (position, batch) in batches.iter().enumerate().skip(from) {
        let asleep = fold.asleep(&EventsView::new(batch).unwrap());
        fold.wake(&asleep, told(position, &asleep)).unwrap();
        feed(fold, (std::slice::from_ref(batch), position), Some(&mut due), |_| true);
    }
    let all: Vec<SubjectId> = (0..3).map(SubjectId).filter(|subject| fold.rests(*subject)).collect();
    fold.wake(&all, told(batches.len(), &all)).unwrap();
    due
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn invariant_03_passes_over_other_subjects_leave_no_trace(
        rows in log(ROWS),
        changes in changes(ROWS),
        size in 1usize..4,
        cut in 0usize..ROWS,
        passes in 1usize..5,
        of in prop::array::uniform3(0usize..12),
        inactive in prop_oneof![Just(Micros::MIN), (0i64..60).prop_map(|minutes| minutes * MINUTE)],
    ) {
        let batches = batches(&changed(&rows, &changes), size);
        let cut = cut.min(batches.len());
        let mut one = in_passes(&batches[..cut], 1, of, None);
        let mut many = in_passes(&batches[..cut], passes, of, None);
        prop_assert_eq!(said(&one), said(&many));
        let mut rested = in_passes(&batches[..cut], passes, of, Some(inactive));
        prop_assert_eq!(rested.subjects() + rested.resting(), one.subjects());
        let rest = |fold: &Fold| (fold.skipped(), fold.known(), fold.clock());
        prop_assert_eq!(rest(&one), rest(&rested));

        let expected = go_on(&mut one, &batches, cut);
        for fold in [&mut many, &mut rested] {
            let due = go_on(fold, &batches, cut);
            prop_assert_eq!(bits(&expected), bits(&due));
            prop_assert_eq!(said(&one), said(fold));
        }
    }
}

/// The property says nothing about what random logs never do.
#[test]
fn random_logs_rest_in_passes_and_fall_due_afterwards() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let [mut resting, mut awake, mut due] = [0; 3];
    for _ in 0..100 {
        let (rows, changes) = (log(ROWS), changes(ROWS)).new_tree(&mut runner).unwrap().current();
        let batches = batches(&changed(&rows, &changes), 1);
        let cut = batches.len() / 4;
        let mut fold = in_passes(&batches[..cut], 3, [0, 1, 2], Some(Micros::MIN));
        resting += fold.resting();
        awake += fold.subjects();
        due += go_on(&mut fold, &batches, cut).rows.len();
    }
    assert!(resting > 10 && awake > 100 && due > 100, "{resting} {awake} {due}");
}

fn of(subject: i64, event: EventRef<'static>) -> EventRef<'static> {
    EventRef { subject: Some(SubjectId(subject)), ..event }
}

fn told(source: &'static str, event: EventRef<'static>) -> EventRef<'static> {
    EventRef { source, ..event }
}

#[test]
fn what_links_say_of_two_subjects_is_known_after_passes_over_each() {
    let link = |code, text, at| EventRef { text_value: Some(text), ..event(code, at, 100 + at as u64) };
    let rate = |at: i64, key| heart_rate(80.0, at, key);
    let before = [
        of(1, link(JOIN, "7 3 9", 1)),
        of(1, told("a@9", rate(2, 1))),
        of(2, link(JOIN, "7 4 8", 3)),
        of(2, told("b@8", rate(4, 2))),
        of(2, told("c", rate(5, 3))),
        of(2, link(LEAVE, "1 5 8", 6)),
        of(1, link(JOIN, "2 5 8", 7)),
        of(1, told("b@8~4.3.0", rate(8, 2))),
    ];
    let after = [
        (of(1, told("old@9~0.1.0", rate(9, 1))), Applied::Outdated),
        (of(2, told("late@8", rate(10, 4))), Applied::Elsewhere(SubjectId(1), 4)),
        (of(1, link(LEAVE, "2 6 8", 11)), Applied::Left),
        (of(2, link(JOIN, "1 6 8", 12)), Applied::Linked),
        (of(2, told("b@8~4.3.0", rate(13, 2))), Applied::Asserted),
        (of(2, told("b@8~3.9.0", rate(14, 2))), Applied::Outdated),
        (of(1, link(LEAVE, "7 7 9", 15)), Applied::Left),
        (of(1, link(LEAVE, "7 8 1", 16)), Applied::Left),
        (of(1, told("late", rate(17, 5))), Applied::Elsewhere(SubjectId(7), 0)),
    ];
    let pass = |subjects: &[i64]| {
        let mut fold = empty(FEATURES);
        for row in before.iter().filter(|row| row.subject.is_some_and(|id| subjects.contains(&id.0))) {
            fold.apply(row, None);
        }
        fold
    };
    let mut one = pass(&[1, 2]);
    let mut both = [[1, 2], [2, 1]].map(|[first, second]| {
        let mut fold = pass(&[first]);
        fold.absorb(pass(&[second]));
        fold
    });
    for fold in &both {
        assert_eq!(said(fold), said(&one));
    }
    for (row, expected) in &after {
        for fold in both.iter_mut().chain([&mut one]) {
            assert_eq!(fold.apply(row, None), *expected, "{row:?}");
        }
    }
    for fold in &both {
        assert_eq!(said(fold), said(&one));
    }
}

#[test]
fn what_was_skipped_and_trimmed_in_a_pass_is_known_afterwards() {
    let features = "[[feature]]\nconcepts = [\"heart_rate\"]\nwindows = [\"2h\"]\naggregates = [\"mean\"]";
    let late = known_at(retract(heart_rate(80.0, HOUR, 101), 0), 40 * HOUR);
    let pass = |subject, last: i64| {
        let mut run = Run::new(features, &["encounter = \"ICU\"\nevery = \"1min\""]);
        run.apply(of(subject, edge("ENCOUNTER//ICU//START", 0, 1)));
        for hour in 1..=40 {
            run.apply(of(subject, heart_rate(80.0, hour * HOUR, 100 + hour as u64)));
        }
        run.fold.apply(&tick("raw", Some(last), false, 1), None);
        run.fold
    };
    let (mut whole, mut other) = (pass(1, 60 * HOUR), pass(2, 60 * HOUR));
    let skipped = whole.skipped() + other.skipped();
    assert_eq!(other.trim(HOUR), 1);
    assert!(whole.skipped() > 0 && other.skipped() > 0);
    whole.absorb(other);
    assert_eq!((whole.skipped(), whole.subjects()), (skipped, 2));
    assert_eq!(asleep(&whole, &[of(1, late)]), []);
    assert_eq!(asleep(&whole, &[of(2, late)]), [SubjectId(2)]);
}
