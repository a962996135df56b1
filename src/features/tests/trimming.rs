//! Invariant 6 where subjects let go of what no window reaches, and what memory that leaves.

use proptest::prelude::*;

use super::oracle::{Row, TRIGGERS, log};
use super::recovery::bits;
use super::*;
use crate::events::{DAY, EventsBuilder, EventsView, HOUR, JOIN, LEAVE};
use crate::features::Applied;

pub(super) const FEATURES: &str = r#"
    [[derived]]
    name = "ratio"
    formula = "CASE WHEN lactate > 1 THEN heart_rate / lactate END"
    within = "90min"
    [[derived]]
    name = "load"
    formula = "coalesce(whole, 0) + few * 2 + ratio + coalesce(age, 0) + coalesce(sex, 0.5)"
    within = "40min"
    [derived.inputs]
    whole = { concept = "lactate", aggregate = "sum", within = "1h" }
    few = { concept = "heart_rate", aggregate = "count", within = "30min" }
    [[feature]]
    concepts = ["heart_rate"]
    windows = ["30min", "encounter"]
    aggregates = ["last", "first", "count", "sum", "mean", "std", "slope", "min", "max", "change", "distinct"]
    [[feature]]
    concepts = ["lactate", "load"]
    windows = ["30min", "1h"]
    aggregates = ["last", "first", "count", "sum", "median", "range", "time_since_last"]
    [[feature]]
    concepts = ["rhythm"]
    categories = ["Sinus", "AFib", "*"]
    windows = ["1h"]
    aggregates = ["last", "first", "count", "ever", "time_since_last", "distinct"]
    [[feature]]
    codes = { lab = ["LOINC//2524*"] }
    windows = ["30min"]
    aggregates = ["count", "ever", "time_since_last", "distinct"]
    [[feature]]
    codes = { spo2 = ["LOINC//2708-6"] }
    windows = ["ever", "30min"]
    aggregates = ["count", "time_since_last"]
    [[feature]]
    demographics = ["age", "sex", "hours_in_encounter"]
    [[text]]
    concept = "note"
    windows = ["1h", "encounter"]
    terms = ["chest pain", "pain"]
    [[text]]
    codes = { letter = ["LETTER*"] }
    windows = ["30min"]
    terms = ["pain", "sinus"]
    [grid]
    concepts = ["lactate", "ratio"]
    hours = 1
    aggregate = "mean"
"#;

pub(super) fn empty(features: &str) -> Fold {
    Fold::new(spec(features), TRIGGERS.iter().map(|text| trigger(text)).collect())
}

/// What makes another log of one: rows that come again (which, after which), and those of links.
pub(super) type Changes = (Vec<(usize, usize)>, Vec<(usize, bool)>);

pub(super) fn changes(rows: usize) -> impl Strategy<Value = Changes> {
    let place = move || 0..rows;
    (prop::collection::vec((place(), place()), 0..40), prop::collection::vec((place(), any::<bool>()), 0..3))
}

/// A row, and whether it is told under another identifier than that which its subject has its pseudonym from.
pub(super) type Told<'a> = (EventRef<'a>, bool);

/// The log with these changes; subject 1 is told of under the identifier 9 every third time.
pub(super) fn changed<'a>(rows: &'a [Row], (again, links): &Changes) -> Vec<Told<'a>> {
    let mut log: Vec<Vec<Told<'a>>> = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let event = row.event();
        log.push(vec![(event, event.subject == Some(SubjectId(1)) && place % 3 == 0)]);
    }
    for (which, after) in again.iter().filter(|(which, after)| which < after && *after < rows.len()) {
        let (event, under) = log[*which][0];
        let recorded_at = rows[*after].event().recorded_at;
        // Half of them are the same message, the others tell the same again.
        let recorded_at = if which % 2 == 0 { event.recorded_at } else { recorded_at };
        log[*after].push((EventRef { recorded_at, source: "again", ..event }, under));
    }
    for (number, (place, leaves)) in (1..).zip(links).filter(|(_, (place, _))| *place < rows.len()) {
        let link = event(if *leaves { LEAVE } else { JOIN }, 0, 1_000 + number);
        let recorded_at = rows[*place].event().recorded_at;
        let text_value = ["", "5 1 9", "5 2 1 9", "5 3 9"].get(number as usize).copied();
        log[*place].push((EventRef { time: None, text_value, recorded_at, ..link }, false));
    }
    log.into_iter().flatten().collect()
}

/// Batches of some rows each.
pub(super) fn batches(log: &[Told<'_>], size: usize) -> Vec<arrow::array::RecordBatch> {
    let mut builder = EventsBuilder::new();
    let batch = |rows: &[Told<'_>]| {
        for (event, under) in rows {
            let source = format!("{}{}", event.source, if *under { "@9" } else { "" });
            builder.push(&EventRef { source: &source, ..*event }).unwrap();
        }
        builder.finish().unwrap()
    };
    log.chunks(size).map(batch).collect()
}

/// How often what happened.
#[derive(Default, Debug)]
struct Counts {
    trims: usize,
    wakes: usize,
    /// By what became of it, rows of subjects that were trimmed.
    rows: [usize; 5],
}

/// Folds batches, trimmed with this slack after the batches that `trims` names; who lacks something is woken from
/// the rows so far, and everybody in the end.
fn trimmed(batches: &[arrow::array::RecordBatch], trims: &[usize], slack: Micros) -> (Fold, Due, Counts) {
    let told = |upto: usize, subjects: &[SubjectId]| {
        let mut told = empty(FEATURES);
        for (position, batch) in batches[..upto].iter().enumerate() {
            let view = EventsView::new(batch).unwrap();
            for event in (0..view.len()).map(|row| view.row(row)) {
                if event.subject.is_some_and(|subject| subjects.contains(&subject)) {
                    told.at(position as i64);
                    told.apply(&event, None);
                }
            }
        }
        told
    };
    let (mut fold, mut due, mut counts) = (empty(FEATURES), Due::new(), Counts::default());
    for (position, batch) in batches.iter().enumerate() {
        let view = EventsView::new(batch).unwrap();
        let asleep = fold.asleep(&view);
        if !asleep.is_empty() {
            fold.wake(&asleep, told(position, &asleep)).unwrap();
            counts.wakes += asleep.len();
        }
        fold.at(position as i64);
        for event in (0..view.len()).map(|row| view.row(row)) {
            let is_trimmed = event.subject.and_then(|id| fold.subject(id)).is_some_and(|one| one.is_trimmed());
            let applied = fold.apply(&event, Some(&mut due));
            let kinds =
                [Applied::Asserted, Applied::Corrected, Applied::Retracted, Applied::Redelivered, Applied::Linked];
            if let Some(kind) = kinds.iter().position(|kind| *kind == applied).filter(|_| is_trimmed) {
                counts.rows[kind] += 1;
            }
        }
        if trims.contains(&position) {
            counts.trims += fold.trim(slack);
        }
    }
    let all: Vec<SubjectId> =
        (0..3).map(SubjectId).filter(|id| fold.subject(*id).is_some_and(|one| one.is_trimmed())).collect();
    fold.wake(&all, told(batches.len(), &all)).unwrap();
    (fold, due, counts)
}

fn whole(batches: &[arrow::array::RecordBatch]) -> (Fold, Due) {
    let (mut fold, mut due) = (empty(FEATURES), Due::new());
    for batch in batches {
        let view = EventsView::new(batch).unwrap();
        (0..view.len()).for_each(|row| {
            fold.apply(&view.row(row), Some(&mut due));
        });
    }
    (fold, due)
}

pub(super) const ROWS: usize = 150;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn invariant_06_what_is_let_go_of_leaves_no_trace(
        rows in log(ROWS),
        changes in changes(ROWS),
        size in 1usize..4,
        trims in prop::collection::vec(0usize..ROWS, 0..60),
        slack in 0i64..90,
    ) {
        let log = changed(&rows, &changes);
        let batches = batches(&log, size);
        let (all, expected) = whole(&batches);
        let (woken, due, _) = trimmed(&batches, &trims, slack * MINUTE);
        prop_assert_eq!(bits(&expected), bits(&due));
        prop_assert_eq!(all.fingerprint(), woken.fingerprint());
        prop_assert_eq!(all.bytes(), woken.bytes());
    }
}

/// The property says nothing about what random logs never do.
#[test]
fn random_logs_are_trimmed_and_woken_and_go_on_trimmed() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let trims: Vec<usize> = (0..ROWS).step_by(3).collect();
    let mut all = Counts::default();
    for _ in 0..150 {
        let (rows, changes) = (log(ROWS), changes(ROWS)).new_tree(&mut runner).unwrap().current();
        let log = changed(&rows, &changes);
        let (_, _, counts) = trimmed(&batches(&log, 1), &trims, 30 * MINUTE);
        all.trims += counts.trims;
        all.wakes += counts.wakes;
        all.rows.iter_mut().zip(counts.rows).for_each(|(all, count)| *all += count);
    }
    assert!(all.trims > 500 && all.wakes > 300, "{all:?}");
    assert!(all.rows.iter().all(|count| *count > 5), "{all:?}");
}

/// A subject in an encounter without end, told of every ten minutes, with the clock and the memory trimmed every
/// hour; bytes and samples of the series at the end of each day.
fn days(features: &str, days: i64) -> Vec<(usize, Vec<usize>)> {
    let mut run = Run::new(features, &["every = \"1h\""]);
    run.apply(edge("ENCOUNTER//ICU//START", 0, 1));
    let mut each = Vec::new();
    for step in 1..=days * 144 {
        let at = step * 10 * MINUTE;
        run.apply(heart_rate(60.0 + (step % 50) as f32, at, 1_000 + step as u64));
        run.apply(EventRef { text_value: Some("no pain"), ..event("UNSEEN", at, 1_000_000 + step as u64) });
        run.due.clear();
        if step % 6 == 0 {
            run.apply(tick("raw", Some(at), false, 1));
            run.fold.trim(DAY);
        }
        if step % 144 == 0 {
            let subject = run.fold.subject(SubjectId(1)).unwrap();
            each.push((run.fold.bytes(), subject.series.iter().map(|series| series.samples().len()).collect()));
        }
    }
    each
}

#[test]
fn memory_is_bounded_by_the_windows() {
    let of = |window: &str| {
        format!("[[feature]]\nconcepts = [\"heart_rate\"]\nwindows = [\"{window}\", \"24h\"]\naggregates = [\"mean\"]")
    };
    let bounded = days(&of("8h"), 60);
    let most = bounded.iter().map(|(bytes, _)| *bytes).max().unwrap();
    // Two days of 288 facts of 50 to 100 bytes each, and what is left until the next trim.
    assert!(most < 100_000, "{most} bytes");
    assert!(bounded[59].0 <= bounded[4..10].iter().map(|(bytes, _)| *bytes).max().unwrap() * 11 / 10, "{bounded:?}");

    let with_ever = format!(
        "{}\n[[feature]]\ncodes = {{ unseen = [\"UNSEEN\"] }}\nwindows = [\"ever\"]\naggregates = [\"count\"]",
        of("8h")
    );
    let with_ever = days(&with_ever, 60);
    let (heart_rates, unseen): (Vec<usize>, Vec<usize>) =
        with_ever.iter().map(|(_, samples)| (samples[0], samples[1])).unzip();
    assert!(heart_rates.iter().all(|samples| *samples < 500), "{heart_rates:?}");
    assert_eq!(unseen[59], 60 * 144);
}

/// Whoever is folded anew for every late row, trimmed, and so again, would cost as much as all of its history each time.
#[test]
fn late_rows_one_after_the_other_do_not_fold_a_subject_anew_each_time() {
    let told = |step: i64| {
        let (at, key) = (step * 10 * MINUTE, step as u64);
        let row = if step % 2 == 0 { heart_rate(80.0, at, key) } else { known_at(heart_rate(70.0, step, key), at) };
        (row, false)
    };
    let log: Vec<Told<'_>> = (1..=600).map(told).collect();
    let trims: Vec<usize> = (0..log.len()).collect();
    let (_, _, counts) = trimmed(&batches(&log, 1), &trims, HOUR);
    assert!((5..40).contains(&counts.wakes) && counts.trims > 5, "{counts:?}");
}

#[test]
fn a_row_that_needs_what_has_gone_is_told_of() {
    let features = "[[feature]]\nconcepts = [\"heart_rate\"]\nwindows = [\"2h\", \"encounter\"]\naggregates = [\"mean\"]\n\
        [[feature]]\nconcepts = [\"vasopressor\"]\nwindows = [\"ever\"]\naggregates = [\"count\"]";
    let mut run = Run::new(features, &["encounter = \"ICU\"\nevery = \"1h\""]);
    run.apply(edge("ENCOUNTER//ICU//START", 0, 1));
    run.apply(edge("ENCOUNTER//ICU//END", HOUR, 2));
    run.apply(birth(-DAY, 0, 3));
    let dose = |at, key| EventRef { concept: Some("vasopressor"), ..event("RX", at, key) };
    run.apply(dose(HOUR, 4));
    for hour in 1..=40 {
        run.apply(heart_rate(80.0, hour * HOUR, 100 + hour as u64));
    }
    let (now, whole) = (40 * HOUR, run.fold.bytes());
    assert_eq!(run.fold.trim(4 * HOUR), 1);
    assert_eq!(run.fold.trim(4 * HOUR), 0, "nothing is left to go");
    assert!(run.fold.bytes() < whole);
    let stay = |event: EventRef<'static>| EventRef { encounter_id: Some("f"), recorded_at: now, ..event };
    let late = |event: EventRef<'static>| known_at(event, now);
    for (lacks, what, row) in [
        (false, "a new fact", late(heart_rate(70.0, now, 200))),
        (false, "a late fact", late(heart_rate(70.0, 37 * HOUR, 200))),
        (true, "a fact that may have been told", late(heart_rate(80.0, HOUR, 101))),
        (true, "a fact of then", late(heart_rate(80.0, HOUR, 200))),
        (false, "one that windows without end have", late(dose(HOUR, 200))),
        (false, "the same again", late(dose(HOUR, 4))),
        (false, "who somebody is", birth(-DAY, now, 3)),
        (false, "who somebody is, corrected", birth(-2 * DAY, now, 3)),
        (false, "who somebody is, anew", birth(-2 * DAY, now, 200)),
        (true, "what became known then", heart_rate(70.0, 35 * HOUR, 200)),
        (false, "a correction of what there is", late(heart_rate(70.0, 39 * HOUR, 139))),
        (false, "a retraction of what there is", retract(heart_rate(80.0, 39 * HOUR, 139), now)),
        (true, "a retraction of what has gone", retract(heart_rate(80.0, HOUR, 101), now)),
        (false, "an encounter that begins", stay(edge("ENCOUNTER//ICU//START", now, 200))),
        (true, "one that began then", stay(edge("ENCOUNTER//ICU//START", 30 * HOUR, 200))),
        (true, "one that began then and has not ended", retract(edge("ENCOUNTER//ICU//END", HOUR, 2), now)),
        (false, "its end, again", late(edge("ENCOUNTER//ICU//END", HOUR, 2))),
        (true, "identifiers that go", EventRef { text_value: Some("2 1 1"), ..late(event(LEAVE, now, 200)) }),
    ] {
        assert_eq!(asleep(&run.fold, &[row]), if lacks { vec![SubjectId(1)] } else { Vec::new() }, "{what}");
    }
    let correction = late(heart_rate(70.0, 39 * HOUR, 139));
    let again = known_at(heart_rate(80.0, 39 * HOUR, 139), 35 * HOUR);
    assert_eq!(asleep(&run.fold, &[again]), [], "nothing new");
    assert_eq!(
        asleep(&run.fold, &[correction, again]),
        [SubjectId(1)],
        "the second corrects what the first makes of it"
    );
}

pub(super) fn asleep(fold: &Fold, rows: &[EventRef<'_>]) -> Vec<SubjectId> {
    let mut builder = EventsBuilder::new();
    rows.iter().for_each(|row| builder.push(row).unwrap());
    let batch = builder.finish().unwrap();
    fold.asleep(&EventsView::new(&batch).unwrap())
}
