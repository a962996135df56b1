//! What one event does, and when predictions fall due.

use super::*;
use crate::events::{DAY, HOUR, TOKEN};
use crate::features::{Applied, CATCH_UP, NOT_OBSERVED};

const START: &str = "ENCOUNTER//ICU//START";
const END: &str = "ENCOUNTER//ICU//END";
const FEATURES: &str = r#"
    [[feature]]
    concepts = ["heart_rate"]
    windows = ["2h", "encounter", "ever"]
    aggregates = ["last", "first", "count", "min", "max", "mean", "std", "slope", "time_since_last", "ever"]
    [[feature]]
    concepts = ["vasopressor"]
    windows = ["2h", "ever"]
    aggregates = ["count", "ever", "time_since_last"]
    [[feature]]
    codes = { sepsis = ["ICD10CM//A41*"] }
    windows = ["ever"]
    aggregates = ["count", "ever"]
    [[feature]]
    demographics = ["age", "sex", "hours_in_encounter", "hour_of_day"]
"#;
const HOURLY: &str = "encounter = \"ICU\"\nevery = \"1h\"\nuntil = \"48h\"";

/// A moment from which tests count.
const T0: Micros = 20_000 * DAY;

fn run(triggers: &[&str]) -> Run {
    Run::new(FEATURES, triggers)
}

/// Hours after [`T0`].
fn hours(times: &[Micros]) -> Vec<f64> {
    times.iter().map(|time| (time - T0) as f64 / HOUR as f64).collect()
}

#[test]
fn a_gap_fires_every_hour_with_the_state_before_the_event() {
    let mut run = run(&[HOURLY]);
    run.apply(edge(START, T0, 1));
    run.apply(heart_rate(80.0, T0 + 30 * MINUTE, 2));
    run.apply(heart_rate(90.0, T0 + 59 * MINUTE, 3));
    assert!(run.due.rows.is_empty());
    run.apply(heart_rate(200.0, T0 + 3 * HOUR, 4));
    assert_eq!(run.value("heart_rate.max.encounter"), 90.0, "not the event that let it fall due");
    assert!(run.value("heart_rate.max.2h").is_nan(), "both lie further back than 2 hours from the third");
    assert_eq!(run.due.row(1)[4], 90.0, "but not from the second");
    assert_eq!(hours(&run.times()), [1.0, 2.0, 3.0]);
    run.apply(heart_rate(70.0, T0 + 200 * HOUR, 5));
    assert_eq!(run.due.rows.len(), 45, "until 48 hours, inclusive");
    assert_eq!(hours(&run.times()).last(), Some(&48.0));
    run.apply(heart_rate(70.0, T0 + 300 * HOUR, 6));
    assert!(run.due.rows.is_empty());
}

#[test]
fn a_prediction_names_its_encounter_trigger_and_source() {
    let mut run = run(&["on = [\"nothing\"]", "at = [\"1h\"]"]);
    run.apply(EventRef { source: "raw.flat-1-7#0", ..edge(START, T0, 1) });
    run.apply(EventRef { source: "raw.flat-1-8#0", ..heart_rate(80.0, T0 + HOUR, 2) });
    let row = &run.due.rows[0];
    assert_eq!((row.trigger, row.subject, row.encounter.as_deref()), (1, SubjectId(1), Some("e")));
    assert_eq!((row.time, row.source.as_str()), (T0 + HOUR, "raw.flat-1-7#0"));
}

#[test]
fn windows_are_open_before_and_closed_at_the_prediction() {
    let mut run = run(&["at = [\"4h\"]"]);
    run.apply(heart_rate(1.0, T0 - MINUTE, 1));
    run.apply(edge(START, T0, 2));
    run.apply(heart_rate(2.0, T0, 3));
    run.apply(heart_rate(3.0, T0 + 2 * HOUR, 4));
    run.apply(heart_rate(4.0, T0 + 2 * HOUR + 1, 5));
    run.apply(known_at(heart_rate(5.0, T0 + 4 * HOUR, 6), T0 + 3 * HOUR));
    run.apply(known_at(heart_rate(6.0, T0 + 4 * HOUR + 1, 7), T0 + 3 * HOUR));
    run.apply(event("OTHER", T0 + 5 * HOUR, 8));
    assert_eq!(run.due.rows.len(), 1);
    for (window, first, count) in [("2h", 4.0, 2.0), ("encounter", 2.0, 4.0), ("ever", 1.0, 5.0)] {
        assert_eq!(run.value(&format!("heart_rate.first.{window}")), first, "{window}");
        assert_eq!(run.value(&format!("heart_rate.last.{window}")), 5.0, "{window}: 6 lies after the prediction");
        assert_eq!(run.value(&format!("heart_rate.count.{window}")), count, "{window}");
    }
    assert_eq!(run.value("heart_rate.mean.encounter"), 3.5);
    assert_eq!(run.value("heart_rate.std.2h"), 0.5f32.sqrt());
    assert_eq!(run.observed("heart_rate.min.encounter"), T0);
    assert_eq!(run.observed("heart_rate.max.encounter"), T0 + 4 * HOUR);
    assert_eq!(run.observed("heart_rate.first.2h"), T0 + 2 * HOUR + 1);
    assert_eq!((run.observed("age"), run.observed("sepsis.count.ever")), (NOT_OBSERVED, NOT_OBSERVED));
    assert_eq!((run.value("heart_rate.time_since_last.2h"), run.value("hours_in_encounter")), (0.0, 4.0));
    assert_eq!(run.value("hour_of_day"), 4.0);
}

#[test]
fn nothing_is_a_count_of_zero_or_missing() {
    for (head, count) in [("", 0.0f32), ("count_of_none = \"missing\"\n", f32::NAN)] {
        let mut run = Run::new(&format!("{head}{FEATURES}"), &["at = [\"1h\"]"]);
        run.apply(edge(START, T0, 1));
        run.apply(event("OTHER", T0 + HOUR, 2));
        for name in ["heart_rate.count.ever", "heart_rate.ever.2h", "sepsis.ever.ever"] {
            assert_eq!(run.value(name).to_bits(), count.to_bits(), "{name}");
        }
        assert!(run.value("heart_rate.last.ever").is_nan() && run.value("sex").is_nan() && run.value("age").is_nan());
    }
}

#[test]
fn a_concept_without_a_unit_needs_no_number() {
    let mut run = run(&["on = [\"NOW\"]"]);
    let given = |at: Micros, key: u64| EventRef { concept: Some("vasopressor"), ..event("RXNORM//7512", at, key) };
    run.apply(given(T0, 1));
    run.apply(EventRef { numeric_value: Some(0.1), unit: Some("ug/kg/min"), ..given(T0 + HOUR, 2) });
    run.apply(EventRef { numeric_value: None, ..heart_rate(0.0, T0 + HOUR, 3) });
    run.apply(event("NOW", T0 + 150 * MINUTE, 4));
    assert_eq!((run.value("vasopressor.count.ever"), run.value("vasopressor.count.2h")), (2.0, 1.0));
    assert_eq!((run.value("vasopressor.ever.ever"), run.value("vasopressor.time_since_last.ever")), (1.0, 1.5));
    assert_eq!(run.value("heart_rate.count.ever"), 0.0, "one with a unit does");
    run.apply(retract(given(T0, 1), T0 + 3 * HOUR));
    run.apply(event("NOW", T0 + 3 * HOUR, 5));
    assert_eq!(run.value("vasopressor.count.ever"), 1.0);
}

#[test]
fn redeliveries_corrections_and_retractions() {
    let mut run = run(&["on = [\"NOW\"]"]);
    let at = T0 + HOUR;
    let look = |run: &mut Run, minute: i64| {
        run.apply(event("NOW", T0 + 2 * HOUR + minute * MINUTE, 1000 + minute as u64));
        (run.value("heart_rate.count.ever"), run.value("heart_rate.last.ever"))
    };
    assert_eq!(run.apply(heart_rate(80.0, at, 1)), Applied::Asserted);
    let again = EventRef { source: "raw.flat-0-99#3", recorded_at: at + MINUTE, ..heart_rate(80.0, at, 1) };
    assert_eq!(run.apply(again), Applied::Redelivered);
    assert_eq!(look(&mut run, 1), (1.0, 80.0));
    assert_eq!(run.apply(heart_rate(85.0, at, 1)), Applied::Corrected);
    assert_eq!(look(&mut run, 2), (1.0, 85.0));
    let implausible = EventRef { implausible: true, ..heart_rate(8500.0, at, 1) };
    assert_eq!(run.apply(implausible), Applied::Corrected);
    assert_eq!(look(&mut run, 3).0, 0.0, "corrected to what no feature counts");
    assert_eq!(run.apply(heart_rate(85.0, at - HOUR, 1)), Applied::Corrected);
    assert_eq!(look(&mut run, 4), (1.0, 85.0));
    assert_eq!(run.observed("heart_rate.last.ever"), at - HOUR, "a corrected time moves it");
    assert_eq!(run.apply(retract(heart_rate(0.0, at, 1), at)), Applied::Retracted);
    assert_eq!(run.apply(retract(heart_rate(0.0, at, 1), at)), Applied::RetractedUnknown);
    assert_eq!(look(&mut run, 5).0, 0.0);
    assert_eq!(run.apply(heart_rate(80.0, at, 1)), Applied::Asserted, "it holds again");
    assert_eq!(look(&mut run, 6), (1.0, 80.0));
    let not_a_number = heart_rate(f32::NAN, at, 7);
    assert_eq!(run.apply(not_a_number), Applied::Asserted);
    assert_eq!(run.apply(not_a_number), Applied::Redelivered);
    assert_eq!(look(&mut run, 7).0, 1.0);
    assert_eq!(run.apply(EventRef { subject: None, ..heart_rate(80.0, at, 9) }), Applied::Ignored);
}

#[test]
fn codes_count_as_facts_with_or_without_time() {
    let mut run = run(&["on = [\"NOW\"]"]);
    run.apply(event("ICD10CM//A41.9", T0, 1));
    run.apply(EventRef { time: None, ..event("ICD10CM//A41.5", T0, 2) });
    run.apply(event("ICD10CM//A40.0", T0, 3));
    run.apply(event("NOW", T0 + HOUR, 4));
    assert_eq!((run.value("sepsis.count.ever"), run.value("sepsis.ever.ever")), (2.0, 1.0));
    run.apply(event("ICD10CM//J18.9", T0, 1));
    run.apply(retract(event("ICD10CM//A41.5", T0, 2), T0));
    run.apply(event("NOW", T0 + 2 * HOUR, 5));
    assert_eq!((run.value("sepsis.count.ever"), run.value("sepsis.ever.ever")), (0.0, 0.0));
}

#[test]
fn a_value_without_time_is_known_for_ever_and_has_no_age() {
    let mut run = run(&["on = [\"NOW\"]"]);
    run.apply(EventRef { time: None, ..heart_rate(60.0, T0, 1) });
    run.apply(event("NOW", T0, 2));
    assert_eq!((run.value("heart_rate.last.ever"), run.value("heart_rate.count.2h")), (60.0, 0.0));
    assert!(run.value("heart_rate.time_since_last.ever").is_nan());
    assert_eq!(run.observed("heart_rate.last.ever"), NOT_OBSERVED);
}

#[test]
fn demographics_follow_their_corrections() {
    let year = (365.25 * DAY as f64) as Micros;
    let mut run = run(&["every = \"1h\""]);
    run.apply(birth(T0 - 50 * year, T0, 1));
    run.apply(event("GENDER//F", T0, 2));
    run.apply(EventRef { text_value: Some("sealed"), time: None, ..event(TOKEN, T0, 3) });
    run.apply(edge(START, T0, 4));
    run.apply(event("OTHER", T0 + HOUR, 5));
    assert_eq!((run.value("age"), run.value("sex")), (50.0, 0.0));
    assert_eq!(run.fold.token(SubjectId(1)), Some("sealed"));
    assert_eq!(run.fold.token(SubjectId(2)), None);
    run.apply(birth(T0 - 60 * year, T0 + HOUR, 1));
    run.apply(EventRef { recorded_at: T0 + HOUR, ..event("GENDER//M", T0, 2) });
    run.apply(EventRef { text_value: Some("again"), time: None, ..event(TOKEN, T0, 3) });
    run.apply(event("OTHER", T0 + 2 * HOUR, 6));
    assert_eq!((run.value("age"), run.value("sex")), (60.0, 1.0), "age is that at the start");
    assert_eq!(run.fold.token(SubjectId(1)), Some("again"));
    run.apply(retract(birth(T0, T0, 1), T0 + 2 * HOUR));
    run.apply(retract(event("GENDER//M", T0, 2), T0 + 2 * HOUR));
    run.apply(event("OTHER", T0 + 3 * HOUR, 7));
    assert!(run.value("age").is_nan() && run.value("sex").is_nan());
}

#[test]
fn the_end_of_an_encounter_ends_its_predictions() {
    let mut run = run(&[HOURLY]);
    run.apply(edge(START, T0, 1));
    run.apply(edge(END, T0 + 2 * HOUR, 2));
    assert_eq!(hours(&run.times()), [1.0, 2.0], "those up to the end's own record still fire");
    run.apply(event("OTHER", T0 + 5 * HOUR, 3));
    assert!(run.times().is_empty());
    run.apply(retract(edge(END, T0 + 2 * HOUR, 2), T0 + 5 * HOUR + MINUTE));
    run.apply(event("OTHER", T0 + 7 * HOUR, 4));
    assert_eq!(hours(&run.times()), [6.0, 7.0], "the end was entered in error: from now on again");
    run.apply(known_at(edge(END, T0 + 3 * HOUR, 2), T0 + 8 * HOUR));
    run.apply(event("OTHER", T0 + 10 * HOUR, 5));
    assert_eq!(hours(&run.times()), [8.0], "known late");
}

#[test]
fn an_encounter_known_late_has_no_predictions_in_its_past() {
    let mut run = run(&[HOURLY, "at = [\"2h\", \"4h\"]"]);
    run.apply(known_at(edge(START, T0, 1), T0 + 3 * HOUR + MINUTE));
    run.apply(event("OTHER", T0 + 5 * HOUR, 2));
    assert_eq!(run.due.rows.iter().map(|row| row.trigger).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(hours(&run.times()), [4.0, 4.0, 5.0]);
}

#[test]
fn a_corrected_start_moves_what_is_to_come() {
    let mut run = run(&["every = \"1h\"", "at = [\"3h\"]"]);
    run.apply(edge(START, T0, 1));
    run.apply(event("OTHER", T0 + HOUR, 2));
    assert_eq!(hours(&run.times()), [1.0]);
    let moved = known_at(edge(START, T0 + 30 * MINUTE, 1), T0 + 2 * HOUR);
    assert_eq!(run.apply(moved), Applied::Corrected);
    assert_eq!(hours(&run.times()), [2.0], "before the correction is taken in");
    run.apply(event("OTHER", T0 + 4 * HOUR, 3));
    assert_eq!(run.value("hours_in_encounter"), 3.0);
    assert_eq!(hours(&run.times()), [2.5, 3.5, 3.5]);
    // A correction that leaves the start as it is leaves the due times too.
    let same = EventRef { text_value: Some("ward 3"), ..known_at(edge(START, T0 + 30 * MINUTE, 1), T0 + 4 * HOUR) };
    assert_eq!(run.apply(same), Applied::Corrected);
    run.apply(event("OTHER", T0 + 5 * HOUR, 4));
    assert_eq!(hours(&run.times()), [4.5]);
    // To another class, with the same key: one encounter ends to be, another begins.
    run.apply(known_at(edge("ENCOUNTER//IMP//START", T0 + 30 * MINUTE, 1), T0 + 5 * HOUR));
    run.apply(event("OTHER", T0 + 6 * HOUR, 5));
    assert_eq!(hours(&run.times()), [5.5]);
    run.apply(retract(edge(START, T0, 1), T0 + 6 * HOUR));
    run.apply(event("OTHER", T0 + 9 * HOUR, 6));
    assert!(run.times().is_empty());
}

#[test]
fn no_prediction_is_made_twice_whatever_is_corrected() {
    let mut run = run(&["every = \"1h\""]);
    run.apply(edge(START, T0, 1));
    run.apply(event("OTHER", T0 + 3 * HOUR, 2));
    assert_eq!(hours(&run.times()), [1.0, 2.0, 3.0]);
    run.apply(known_at(edge(START, T0 + HOUR, 1), T0 + 3 * HOUR));
    run.apply(event("OTHER", T0 + 4 * HOUR, 3));
    assert_eq!(hours(&run.times()), [4.0], "3 is on the new grid too and has fired");
    run.apply(known_at(edge(START, T0, 1), T0 + 2 * HOUR));
    run.apply(event("OTHER", T0 + 5 * HOUR, 4));
    assert_eq!(hours(&run.times()), [5.0], "even if the correction seems older");
}

#[test]
fn encounters_are_predicted_one_by_one() {
    let second = |event: EventRef<'static>| EventRef { encounter_id: Some("f"), ..event };
    let mut run = run(&["encounter = \"ICU\"\nevery = \"1h\"", "at = [\"1h\"]"]);
    run.apply(edge("ENCOUNTER//IMP//START", T0, 1));
    run.apply(second(edge(START, T0 + 30 * MINUTE, 2)));
    run.apply(EventRef { encounter_id: None, ..edge(START, T0 + 45 * MINUTE, 3) });
    run.apply(event("OTHER", T0 + 2 * HOUR, 4));
    let rows: Vec<_> = run.due.rows.iter().map(|row| (row.trigger, row.encounter.as_deref())).collect();
    assert_eq!(rows, [(1, Some("e")), (0, Some("f")), (1, Some("f")), (0, None), (1, None)]);
    assert_eq!(hours(&run.times()), [1.0, 1.5, 1.5, 1.75, 1.75]);
    run.apply(second(edge(END, T0 + 2 * HOUR, 5)));
    run.apply(event("OTHER", T0 + 3 * HOUR, 6));
    assert_eq!(hours(&run.times()), [2.75]);
}

#[test]
fn an_event_fires_after_it_is_taken_in() {
    let mut run = run(&["encounter = \"ICU\"\non = [\"heart_rate\", \"PING\"]\nmin_gap = \"1h\"", "on = [\"PING\"]"]);
    run.apply(heart_rate(60.0, T0, 1));
    assert!(run.times().is_empty(), "no encounter of the class is open");
    run.apply(edge(START, T0, 2));
    run.apply(known_at(heart_rate(61.0, T0 - HOUR, 3), T0 + MINUTE));
    assert_eq!((run.value("heart_rate.count.ever"), run.due.rows[0].encounter.as_deref()), (2.0, Some("e")));
    assert_eq!(run.times(), [T0 + MINUTE], "predicted from when it became known");
    run.apply(heart_rate(62.0, T0 + 30 * MINUTE, 4));
    run.apply(heart_rate(62.0, T0 + 61 * MINUTE - 1, 5));
    assert!(run.times().is_empty(), "too soon");
    run.apply(heart_rate(62.0, T0 + 61 * MINUTE, 6));
    run.apply(heart_rate(62.0, T0 + 61 * MINUTE, 6));
    assert_eq!(run.times(), [T0 + 61 * MINUTE]);
    run.apply(event("PING", T0 + 62 * MINUTE, 7));
    run.apply(event("PING", T0 + 62 * MINUTE, 8));
    run.apply(event("PING", T0 + 61 * MINUTE, 9));
    assert_eq!(
        run.due.rows.iter().map(|row| row.trigger).collect::<Vec<_>>(),
        [1],
        "never twice at one time, nor back"
    );
    run.times();
    run.apply(retract(event("PING", T0, 7), T0 + 10 * HOUR));
    assert!(run.times().is_empty());
    run.apply(edge(END, T0 + 10 * HOUR, 10));
    run.apply(event("PING", T0 + 11 * HOUR, 11));
    assert_eq!(run.due.rows[0].encounter, None);
    assert!(run.value("hours_in_encounter").is_nan() && run.value("heart_rate.last.encounter").is_nan());
    assert_eq!(run.value("heart_rate.count.encounter"), 0.0);
}

#[test]
fn the_clock_fires_for_the_silent_in_order_of_time_and_subject() {
    let of = |subject, event: EventRef<'static>| EventRef { subject: Some(SubjectId(subject)), ..event };
    let mut run = run(&["every = \"1h\""]);
    run.apply(of(7, edge(START, T0, 1)));
    run.apply(of(-7, edge(START, T0, 1)));
    run.apply(of(3, edge(START, T0 + 30 * MINUTE, 1)));
    let fired = |run: &mut Run, tick| {
        run.apply(tick);
        let rows = run.due.rows.iter().map(|row| ((row.time - T0) / MINUTE, row.subject.0)).collect::<Vec<_>>();
        run.due.clear();
        rows
    };
    assert_eq!(fired(&mut run, tick("a", Some(T0 + 5 * HOUR), false, 2)), [], "the clock waits for b");
    assert_eq!(fired(&mut run, tick("b", None, false, 2)), []);
    let order = [(60, -7), (60, 7), (90, 3), (120, -7), (120, 7)];
    assert_eq!(fired(&mut run, tick("b", Some(T0 + 2 * HOUR), false, 2)), order);
    assert_eq!(fired(&mut run, tick("b", Some(T0 + 2 * HOUR), true, 2)).len(), 9, "an idle feed does not hold it back");
    run.apply(of(3, event("OTHER", T0 + 5 * HOUR, 9)));
    assert_eq!(run.times(), [0; 0], "the clock was here before");
    // A stay that becomes known after the clock has passed fires with the next tick.
    run.apply(of(9, edge(START, T0, 1)));
    assert_eq!(run.fold.clock(), Some(T0 + 5 * HOUR));
    let late: Vec<_> = (1..=5).map(|hour| (60 * hour, 9)).collect();
    assert_eq!(fired(&mut run, tick("a", Some(T0 + 5 * HOUR), false, 2)), late);
}

#[test]
fn a_time_in_the_far_future_does_not_fire_without_end() {
    let mut run = run(&["every = \"1s\"", "every = \"1h\"\nuntil = \"3h\""]);
    run.apply(edge(START, T0, 1));
    run.apply(event("OTHER", T0 + 1_000 * DAY, 2));
    assert_eq!(run.due.rows.len(), CATCH_UP + 3);
    assert_eq!(run.fold.skipped(), 86_400_000 - CATCH_UP as u64);
    assert_eq!(run.times().last(), Some(&(T0 + 1_000 * DAY)));
    run.apply(tick("a", Some(Micros::MAX), false, 1));
    assert_eq!(run.due.rows.len(), CATCH_UP);
    run.times();
    for at in [Micros::MAX, Micros::MIN, 0] {
        run.apply(edge(START, at, 3));
        run.apply(edge(END, at, 4));
        run.apply(heart_rate(1.0, at, 5));
        run.apply(birth(at, at, 6));
    }
    assert!(run.due.rows.len() <= 8 * CATCH_UP);
}

#[test]
fn invariant_07_nothing_of_a_patient_is_in_a_debug_text() {
    let mut run = run(&["on = [\"heart_rate\"]"]);
    run.apply(EventRef { text_value: Some("sealed"), ..heart_rate(77.25, T0, 1) });
    let text = format!("{:?} {:?}", run.fold, run.due);
    assert!(!text.contains("77") && !text.contains("sealed"), "{text}");
}

#[test]
fn who_is_not_of_the_cohort_is_passed_over() {
    let features = r#"
        [[feature]]
        concepts = ["heart_rate"]
        windows = ["ever"]
        aggregates = ["last"]
        [[feature]]
        demographics = ["age"]
    "#;
    let cohort = "on = [\"heart_rate\"]\ncohort = 'age >= 18 and \"heart_rate.last.ever\" > 100'";
    let mut run = Run::new(features, &[cohort, "on = [\"heart_rate\"]"]);
    let made = |run: &mut Run, key: u64, value| -> Vec<(usize, f32)> {
        run.apply(heart_rate(value, key as i64 * HOUR, key));
        let made = (0..run.due.rows.len()).map(|i| (run.due.rows[i].trigger, run.due.row(i)[0])).collect();
        run.due.clear();
        made
    };
    assert_eq!(made(&mut run, 1, 120.0), [(1, 120.0)], "of unknown age");
    run.apply(birth(-20 * 366 * DAY, 2 * HOUR, 50));
    assert_eq!(made(&mut run, 3, 90.0), [(1, 90.0)]);
    assert_eq!(made(&mut run, 4, 120.0), [(0, 120.0), (1, 120.0)]);
}

#[test]
fn the_grid_has_the_hours_before_the_prediction() {
    let grid = "[grid]\nconcepts = [\"heart_rate\", \"vasopressor\"]\nhours = 3\n";
    for (aggregate, expected) in [("last", 5.0), ("mean", 4.5)] {
        let mut run = Run::new(&format!("{FEATURES}\n{grid}aggregate = \"{aggregate}\""), &["on = [\"NOW\"]"]);
        let at = T0 + 10 * HOUR;
        let look = |run: &mut Run, key: u64| {
            run.apply(known_at(event("NOW", at, key), at));
            ["-02h", "-01h", "-00h"].map(|hour| run.value(&format!("grid.heart_rate.{hour}")))
        };
        assert!(look(&mut run, 100).iter().all(|value| value.is_nan()), "nothing has been told of");
        run.due.clear();
        let mut run = Run::new(&format!("{FEATURES}\n{grid}aggregate = \"{aggregate}\""), &["on = [\"NOW\"]"]);
        run.apply(EventRef { time: None, ..heart_rate(1.0, T0, 1) });
        run.apply(heart_rate(2.0, at - 3 * HOUR, 2));
        run.apply(heart_rate(3.0, at - HOUR, 3));
        run.apply(heart_rate(4.0, at - HOUR + 1, 4));
        run.apply(heart_rate(5.0, at, 5));
        run.apply(known_at(heart_rate(6.0, at + 1, 6), at));
        let [oldest, middle, newest] = look(&mut run, 101);
        assert!(oldest.is_nan(), "static, or a whole span old, or later than the prediction");
        assert_eq!((middle, newest), (3.0, expected));
        assert_eq!(run.observed("grid.heart_rate.-00h"), at, "that of the newest event of the hour");
        assert_eq!(run.observed("grid.heart_rate.-01h"), at - HOUR);
        assert_eq!(run.observed("grid.heart_rate.-02h"), NOT_OBSERVED);
        assert!(run.value("grid.vasopressor.-00h").is_nan());
    }
}

#[test]
fn what_comes_late_is_corrected_or_withdrawn_changes_its_hour() {
    let grid = "[grid]\nconcepts = [\"heart_rate\"]\nhours = 2";
    let mut run = Run::new(&format!("{FEATURES}\n{grid}"), &["on = [\"NOW\"]"]);
    let at = T0 + 10 * HOUR;
    let look = |run: &mut Run, minute: i64| {
        run.apply(event("NOW", at + minute, 1000 + minute as u64));
        let bits = |value: f32| if value.is_nan() { None } else { Some(value) };
        [run.value("grid.heart_rate.-01h"), run.value("grid.heart_rate.-00h")].map(bits)
    };
    run.apply(heart_rate(80.0, at - 10 * MINUTE, 1));
    assert_eq!(look(&mut run, 1), [None, Some(80.0)]);
    run.apply(known_at(heart_rate(70.0, at - 70 * MINUTE, 2), at));
    assert_eq!(look(&mut run, 2), [Some(70.0), Some(80.0)]);
    run.apply(known_at(heart_rate(60.0, at - 70 * MINUTE, 1), at));
    assert_eq!(look(&mut run, 3), [Some(60.0), None], "a corrected time moves it to another hour");
    run.apply(retract(heart_rate(60.0, at, 1), at));
    assert_eq!(look(&mut run, 4), [Some(70.0), None]);
}

/// A note of subject 1.
fn note(text: &'static str, at: Micros, key: u64) -> EventRef<'static> {
    EventRef { text_value: Some(text), concept: Some("note"), ..event("LOINC//11506-3", at, key) }
}

const TERMS: &str = r#"
    [[text]]
    concept = "note"
    windows = ["2h", "ever"]
    terms = ["chest pain", "pain"]
"#;

#[test]
fn terms_are_counted_in_the_texts_of_a_window() {
    let mut run = Run::new(TERMS, &["on = [\"NOW\"]"]);
    run.apply(event("NOW", T0, 1));
    assert!(run.value("note:pain.count.ever").is_nan(), "there is no text");
    run.apply(note("Chest pain, pain!", T0, 2));
    run.apply(note("well", T0 + 2 * HOUR, 3));
    run.apply(EventRef { text_value: None, ..note("", T0 + 2 * HOUR, 4) });
    run.apply(event("NOW", T0 + 3 * HOUR, 5));
    assert_eq!((run.value("note:pain.count.ever"), run.value("note:chest pain.count.ever")), (2.0, 1.0));
    assert_eq!((run.value("note:pain.count.2h"), run.observed("note:pain.count.2h")), (0.0, T0 + 2 * HOUR));
    assert_eq!(run.observed("note:pain.count.ever"), T0, "the last text with the term");
    run.apply(EventRef { time: None, ..note("pain", T0, 6) });
    run.apply(note("pain", T0 + 9 * HOUR, 7));
    run.apply(event("NOW", T0 + 8 * HOUR, 8));
    assert_eq!(run.value("note:pain.count.ever"), 3.0, "with the static one, without that of later");
    assert!(run.value("note:pain.count.2h").is_nan(), "no text in the window");
}

#[test]
fn a_corrected_or_withdrawn_text_leaves_no_trace() {
    let mut run = Run::new(TERMS, &["on = [\"NOW\"]"]);
    let look = |run: &mut Run, minute: i64| {
        run.apply(event("NOW", T0 + HOUR + minute * MINUTE, 1000 + minute as u64));
        run.value("note:pain.count.ever")
    };
    run.apply(note("well", T0, 2));
    assert_eq!(look(&mut run, 1), 0.0);
    assert_eq!(run.apply(note("pain and pain", T0, 3)), Applied::Asserted);
    assert_eq!(run.apply(note("pain and pain", T0, 3)), Applied::Redelivered);
    assert_eq!(look(&mut run, 2), 2.0);
    assert_eq!(run.apply(note("pain", T0, 3)), Applied::Corrected);
    assert_eq!(look(&mut run, 3), 1.0);
    assert_eq!(run.apply(EventRef { concept: None, ..note("pain", T0, 3) }), Applied::Corrected);
    assert_eq!(look(&mut run, 4), 0.0, "it is no note any more");
    run.apply(note("pain", T0, 3));
    run.apply(retract(note("", T0, 3), T0));
    assert_eq!(look(&mut run, 5), 0.0);
}

#[test]
fn of_a_text_only_its_terms_are_kept_and_only_for_as_long_as_it_holds() {
    let bytes = |text: &'static str| {
        let mut run = Run::new(TERMS, &["on = [\"NOW\"]"]);
        run.apply(note(text, T0, 1));
        let held = run.fold.bytes();
        run.apply(retract(note("", T0, 1), T0));
        (held, run.fold.bytes())
    };
    let (none, long, two) = (bytes("well"), bytes("a text of many words, of which nothing stays"), bytes("chest pain"));
    assert_eq!(none, long);
    assert_eq!((two.0, two.1), (none.0 + 8, none.1));
    assert!(none.0 > none.1);
}

#[test]
fn what_a_text_holds_is_state() {
    let print = |text: &'static str| {
        let mut run = Run::new(TERMS, &["on = [\"NOW\"]"]);
        run.apply(note(text, T0, 1));
        run.fold.fingerprint()
    };
    assert_eq!(print("pain"), print("pain"));
    assert_ne!(print("pain"), print("pain pain"));
}
