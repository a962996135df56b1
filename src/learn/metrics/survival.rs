//! Figures of a task whose outcome is the time to an event.

use serde::Serialize;

use super::bootstrap::{Interval, bootstrap, numbered};
use super::concordance::{Timed, Timeline};
use super::kaplan_meier::KaplanMeier;
use super::sums::{mean, trapezoid};
use crate::events::SubjectId;

/// What was predicted of rows and what came of them; the slices are of the same rows in the same order.
#[derive(Copy, Clone, Debug)]
pub struct Incidences<'a> {
    /// Whose each row is.
    pub subjects: &'a [SubjectId],
    /// Hours to its event or, without one, to the last that is known of it; from 0 up.
    pub hours: &'a [f64],
    /// Whether it had its event.
    pub events: &'a [bool],
    /// Hours by which an event is predicted, ascending.
    pub times: &'a [f64],
    /// Probabilities of the event by each of these, row after row.
    pub incidence: &'a [f64],
}

/// Figures of a model that says by when an event is how likely.
///
/// At the same time events come before censorings: a row that is censored when another has its event, or at one of the
/// times themselves, is known to have had none by then. Rows that were censored too early are made up for by weights of
/// the others: one over the chance not to be censored before one's event, or before the time in question. They are
/// estimated on these very rows and take censoring to be independent of risk.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct SurvivalFigures {
    /// Rows.
    pub n: usize,
    /// Subjects.
    pub subjects: usize,
    /// Rows with an event.
    pub events: usize,
    /// Rows without.
    pub censored: usize,
    /// Harrell's concordance of the incidence by the last time: of pairs of an event and a row that outlasts it, the
    /// share in which the former had the higher one; equal ones count half (Harrell et al. 1982).
    pub harrell: Option<f64>,
    /// Its interval.
    pub harrell_interval: Interval,
    /// The same of events before the last time, weighted so that it does not depend on the censoring (Uno et al. 2011).
    pub uno: Option<f64>,
    /// At each time.
    pub times: Vec<AtTime>,
    /// Mean of the Brier score from the first to the last time, by the trapezoid rule (Graf et al. 1999); `None` of
    /// fewer than two times, or where one has none.
    pub integrated_brier: Option<f64>,
    /// Why it has no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_none: Option<&'static str>,
}

/// Figures of the incidence by one time. Where all rows are censored before it, nothing is known of it, and there is
/// neither an AUROC nor a Brier score nor an observed incidence.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct AtTime {
    /// The time.
    pub hours: f64,
    /// Rows whose event came by then.
    pub events: usize,
    /// Rows that are known to have had none by then.
    pub at_risk: usize,
    /// Area under the receiver operating characteristic of the former against the latter, weighted (cumulative and
    /// dynamic; Uno et al. 2007, Hung and Chiang 2010).
    pub auroc: Option<f64>,
    /// Mean squared difference of incidence and event by then, weighted (Graf et al. 1999).
    pub brier: Option<f64>,
    /// What came: Kaplan and Meier's estimate of the share with an event by then.
    pub kaplan_meier: Option<f64>,
    /// What was predicted: the mean incidence; the nearer to what came, the better calibrated on the whole.
    pub mean_incidence: Option<f64>,
}

impl SurvivalFigures {
    /// Of rows in any order; the same for the same rows in any order and `seed`.
    pub fn of(rows: Incidences<'_>, seed: u64) -> SurvivalFigures {
        let n = rows.hours.len();
        if let Some(why) = unfit(rows) {
            return SurvivalFigures { n, why_none: Some(why), ..SurvivalFigures::default() };
        }
        let events = rows.events.iter().filter(|event| **event).count();
        let mut ends: Vec<(f64, bool)> = rows.hours.iter().copied().zip(rows.events.iter().copied()).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let event_free = KaplanMeier::of_events(&ends);
        let watched = KaplanMeier::of_censorings(&ends);
        let (of, subjects) = numbered(rows.subjects);
        let line = timeline(rows, &of);
        let until = rows.times.last().copied().unwrap_or_default();
        let uno = |row: &Timed| if row.time < until { watched.before(row.time).powi(-2) } else { 0.0 };
        let times: Vec<AtTime> =
            (0..rows.times.len()).map(|place| at_time(rows, place, &event_free, &watched)).collect();
        SurvivalFigures {
            n,
            subjects,
            events,
            censored: n - events,
            harrell: line.concordance(|_| 1.0, |_| 1.0),
            harrell_interval: bootstrap(line.visits(), subjects, seed, |times| {
                line.concordance(|_| 1.0, |row| f64::from(times[row.subject]))
            }),
            uno: line.concordance(uno, |_| 1.0),
            integrated_brier: integrated(&times),
            times,
            why_none: None,
        }
    }
}

/// Why there are no figures of these rows, if so.
fn unfit(rows: Incidences<'_>) -> Option<&'static str> {
    let n = rows.hours.len();
    let same = rows.events.len() == n
        && rows.subjects.len() == n
        && n.checked_mul(rows.times.len()) == Some(rows.incidence.len());
    let hours = |hours: &[f64]| hours.iter().all(|hours| hours.is_finite() && *hours >= 0.0);
    if n == 0 {
        Some("no rows")
    } else if rows.times.is_empty() {
        Some("no times")
    } else if !same {
        Some("incidences, events and subjects are not of the same rows")
    } else if !(hours(rows.hours) && hours(rows.times)) {
        Some("a time is not a number of hours from 0 up")
    } else if !rows.times.is_sorted_by(|a, b| a < b) {
        Some("the times do not ascend")
    } else if rows.incidence.iter().any(|p| !(0.0..=1.0).contains(p)) {
        Some("an incidence is not in 0 to 1")
    } else {
        None
    }
}

/// Rows with their incidence by the last time.
fn timeline(rows: Incidences<'_>, subjects: &[usize]) -> Timeline {
    let of_row = rows.incidence.chunks_exact(rows.times.len()).map(|of| of.last().copied().unwrap_or_default());
    let timed = rows.hours.iter().zip(rows.events).zip(of_row).zip(subjects);
    let timed = timed.map(|(((hours, event), risk), subject)| (*hours, *event, risk, *subject));
    Timeline::new(&timed.collect::<Vec<_>>())
}

/// A row at one time.
#[derive(Copy, Clone, Debug)]
struct Known {
    incidence: f64,
    /// How much it counts among rows whose event came by then, 0 for others.
    came: f64,
    /// Whether it is known to have had none by then.
    free: bool,
}

fn at_time(rows: Incidences<'_>, place: usize, event_free: &KaplanMeier, watched: &KaplanMeier) -> AtTime {
    let hours = rows.times[place];
    let known = |i: usize| {
        let (end, event) = (rows.hours[i], rows.events[i]);
        Known {
            incidence: rows.incidence[i * rows.times.len() + place],
            // A row that has its event is watched until then, so that nothing is divided by 0.
            came: if event && end <= hours { 1.0 / watched.before(end) } else { 0.0 },
            free: end > hours || (end == hours && !event),
        }
    };
    let known: Vec<Known> = (0..rows.hours.len()).map(known).collect();
    let still_watched = watched.before(hours);
    let followed = still_watched > 0.0;
    AtTime {
        hours,
        events: known.iter().filter(|row| row.came > 0.0).count(),
        at_risk: known.iter().filter(|row| row.free).count(),
        auroc: auroc(&known),
        brier: mean(known.iter().map(|row| squared(row, still_watched)).collect()).filter(|_| followed),
        kaplan_meier: followed.then(|| 1.0 - event_free.after(hours)),
        mean_incidence: mean(known.iter().map(|row| row.incidence).collect()),
    }
}

/// Of events and rows that are free, the former weighted; those who are free have one weight, which cancels out.
fn auroc(known: &[Known]) -> Option<f64> {
    let mut order: Vec<&Known> = known.iter().filter(|row| row.free || row.came > 0.0).collect();
    order.sort_by(|a, b| a.incidence.total_cmp(&b.incidence).then(a.came.total_cmp(&b.came)));
    let (mut below, mut came, mut pairs) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|a, b| a.incidence == b.incidence) {
        let free = tied.iter().filter(|row| row.free).count() as f64;
        let events: f64 = tied.iter().map(|row| row.came).sum();
        pairs += events * (below + free / 2.0);
        below += free;
        came += events;
    }
    (below > 0.0 && came > 0.0).then(|| pairs / (below * came))
}

/// What a row adds to the Brier score; those of which nothing is known add nothing.
fn squared(row: &Known, still_watched: f64) -> f64 {
    if row.free { row.incidence.powi(2) / still_watched } else { row.came * (1.0 - row.incidence).powi(2) }
}

fn integrated(times: &[AtTime]) -> Option<f64> {
    let points: Option<Vec<(f64, f64)>> = times.iter().map(|at| Some((at.hours, at.brier?))).collect();
    let points = points?;
    Some(trapezoid(&points)? / (points.last()?.0 - points.first()?.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::evaluate;
    use super::super::tests::near;
    use super::*;

    fn each_its_own(n: usize) -> Vec<SubjectId> {
        (0..n).map(|i| SubjectId(i as i64)).collect()
    }

    #[test]
    fn figures_by_hand() {
        // At 2 an event and a censoring; at 4, the last time, the end of watching.
        let subjects = each_its_own(6);
        let rows = Incidences {
            subjects: &subjects,
            hours: &[1.0, 2.0, 2.0, 3.0, 4.0, 4.0],
            events: &[false, true, false, true, false, false],
            times: &[2.0, 4.0],
            incidence: &[0.1, 0.2, 0.4, 0.6, 0.5, 0.6, 0.1, 0.5, 0.2, 0.5, 0.0, 0.1],
        };
        let found = SurvivalFigures::of(rows, 0);
        assert_eq!((found.n, found.events, found.censored), (6, 2, 4));
        // Watched: 5/6 after 1, and of the four that are left after the event at 2 one is censored.
        let (g2, g4) = (5.0 / 6.0, 5.0 / 6.0 * 3.0 / 4.0);
        let [two, four] = found.times[..] else { panic!("{found:?}") };
        assert_eq!((two.events, two.at_risk, four.events, four.at_risk), (1, 4, 2, 2));
        assert!(near(two.kaplan_meier, 0.2) && near(four.kaplan_meier, 1.0 - 0.8 * 2.0 / 3.0));
        assert!(near(two.mean_incidence, 1.3 / 6.0) && near(four.mean_incidence, 2.5 / 6.0));
        // 0.4 against 0.5, 0.1, 0.2 and 0; then 0.6 and 0.5 against 0.5 and 0.1, with their weights.
        assert!(near(two.auroc, 0.75));
        assert!(near(four.auroc, (2.0 / g2 + 1.5 / g4) / (2.0 * (1.0 / g2 + 1.0 / g4))), "{four:?}");
        let brier = (0.36 / g2 + (0.25 + 0.01 + 0.04 + 0.0) / g2) / 6.0;
        assert!(near(two.brier, brier), "{two:?}");
        let last = (0.16 / g2 + 0.25 / g4 + (0.25 + 0.01) / g4) / 6.0;
        assert!(near(four.brier, last) && near(found.integrated_brier, (brier + last) / 2.0));
        // The event at 2 against the censored one (a tie) and three later, that at 3 against two (one a tie).
        assert!(near(found.harrell, (3.5 + 1.5) / 6.0));
        let (w2, w3) = (1.0 / (g2 * g2), 1.0 / (g4 * g4));
        assert!(near(found.uno, (3.5 * w2 + 1.5 * w3) / (4.0 * w2 + 2.0 * w3)), "{found:?}");
    }

    #[test]
    fn what_does_not_exist_is_none() {
        let subjects = each_its_own(2);
        let rows = Incidences {
            subjects: &subjects,
            hours: &[1.0, 2.0],
            events: &[true, false],
            times: &[3.0],
            incidence: &[0.5, 0.5],
        };
        let why = |rows: Incidences<'_>| {
            let found = SurvivalFigures::of(rows, 0);
            assert_eq!((found.harrell, found.uno, found.integrated_brier, found.times), Default::default());
            found.why_none
        };
        let none = Incidences { subjects: &[], hours: &[], events: &[], incidence: &[], ..rows };
        assert_eq!((why(none), why(Incidences { times: &[], ..rows })), (Some("no rows"), Some("no times")));
        let other = Some("incidences, events and subjects are not of the same rows");
        assert_eq!(
            (why(Incidences { events: &[true], ..rows }), why(Incidences { incidence: &[], ..rows })),
            (other, other)
        );
        for broken in [f64::NAN, f64::INFINITY, -1.0] {
            let (hours, times, incidence) = ([1.0, broken], [broken], [0.5, broken]);
            assert_eq!(why(Incidences { hours: &hours, ..rows }), Some("a time is not a number of hours from 0 up"));
            assert_eq!(why(Incidences { times: &times, ..rows }), Some("a time is not a number of hours from 0 up"));
            assert_eq!(why(Incidences { incidence: &incidence, ..rows }), Some("an incidence is not in 0 to 1"));
        }
        let twice = Incidences { times: &[1.0, 1.0], incidence: &[0.5; 4], ..rows };
        assert_eq!(why(twice), Some("the times do not ascend"));
        // Nobody is watched at 3.
        let late = SurvivalFigures::of(rows, 0);
        let at = late.times[0];
        assert_eq!((at.auroc, at.brier, at.kaplan_meier, at.mean_incidence), (None, None, None, Some(0.5)));
        assert_eq!((late.harrell, late.uno, late.integrated_brier, late.why_none), (Some(0.5), Some(0.5), None, None));
        // All have their event: then everything is known of 3, but nobody is left to compare with.
        let all = SurvivalFigures::of(Incidences { events: &[true, true], ..rows }, 0).times[0];
        assert_eq!((all.auroc, all.brier, all.kaplan_meier), (None, Some(0.25), Some(1.0)));
        let nobody = SurvivalFigures::of(Incidences { events: &[false, false], times: &[1.5], ..rows }, 0);
        assert_eq!((nobody.harrell, nobody.uno, nobody.times[0].auroc), (None, None, None));
        assert_eq!((nobody.times[0].kaplan_meier, nobody.times[0].at_risk), (Some(0.0), 1));
    }

    /// Copies of rows under the same subject leave the interval as it is.
    #[test]
    fn the_interval_draws_subjects() {
        let (subjects, times) = (each_its_own(60), [24.0]);
        let hours: Vec<f64> = (0..60).map(|i| f64::from(i * 17 % 40) + f64::from(i) / 60.0).collect();
        let events: Vec<bool> = (0..60).map(|i| i % 3 != 0).collect();
        let incidence: Vec<f64> =
            (0..60).map(|i| f64::from(i * 29 % 50) / 50.0 * (1.0 - hours[i as usize] / 80.0)).collect();
        let once =
            Incidences { subjects: &subjects, hours: &hours, events: &events, times: &times, incidence: &incidence };
        let once = SurvivalFigures::of(once, 9);
        let (s, h, e, p) = (subjects.repeat(4), hours.repeat(4), events.repeat(4), incidence.repeat(4));
        let many = Incidences { subjects: &s, hours: &h, events: &e, times: &times, incidence: &p };
        let many = SurvivalFigures::of(many, 9);
        let (a, b) = (once.harrell_interval.ends.unwrap(), many.harrell_interval.ends.unwrap());
        let harrell = once.harrell.unwrap();
        assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9 && a[0] < harrell && harrell < a[1]);
    }

    /// Hours, whether of an event, the incidences by two times, and the subject.
    type Drawn = (u8, bool, u8, u8, i64);

    fn figures(rows: &[Drawn], times: &[f64; 2], bent: fn(f64) -> f64) -> SurvivalFigures {
        let subjects: Vec<SubjectId> = rows.iter().map(|row| SubjectId(row.4)).collect();
        let hours: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
        let events: Vec<bool> = rows.iter().map(|row| row.1).collect();
        let incidence: Vec<f64> =
            rows.iter().flat_map(|row| [row.2, row.3].map(|p| bent(f64::from(p) / 8.0))).collect();
        let rows = Incidences { subjects: &subjects, hours: &hours, events: &events, times, incidence: &incidence };
        SurvivalFigures::of(rows, 3)
    }

    fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
        prop::collection::vec((0u8..9, any::<bool>(), 0u8..9, 0u8..9, 0i64..9), 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn order_and_monotone_transforms_do_not_matter(data in drawn()) {
            let times = [3.0, 6.0];
            let found = figures(&data, &times, |p| p);
            let mut rows = data;
            rows.reverse();
            prop_assert_eq!(&figures(&rows, &times, |p| p), &found);
            let bent = figures(&rows, &times, |p| p.powi(3) / 2.0);
            prop_assert_eq!((bent.harrell, bent.uno), (found.harrell, found.uno));
            prop_assert_eq!(bent.harrell_interval, found.harrell_interval);
            for (bent, found) in bent.times.iter().zip(&found.times) {
                prop_assert_eq!((bent.auroc, bent.kaplan_meier), (found.auroc, found.kaplan_meier));
            }
        }

        /// With everybody watched to the end, the figures by a time are those of the binary task.
        #[test]
        fn without_censoring_a_time_is_a_binary_task(data in drawn()) {
            let to_the_end = |row: &Drawn| if row.1 { *row } else { (9, false, row.2, row.3, row.4) };
            let watched: Vec<Drawn> = data.iter().map(to_the_end).collect();
            let found = figures(&watched, &[3.0, 9.0], |p| p).times;
            for (at, by) in found.iter().zip([3, 9]) {
                let p = |row: &Drawn| f64::from(if by == 3 { row.2 } else { row.3 }) / 8.0;
                let scored: Vec<(f64, bool)> = watched.iter().map(|row| (p(row), row.1 && row.0 <= by)).collect();
                let binary = evaluate(&super::super::tests::rows(&scored), 0.5, 0);
                prop_assert!(binary.auroc.map_or(at.auroc.is_none(), |area| near(at.auroc, area)));
                prop_assert!(near(at.brier, binary.brier.unwrap()));
                prop_assert!(near(at.kaplan_meier, binary.positives as f64 / binary.n as f64));
                prop_assert_eq!((at.events, at.at_risk), (binary.positives, binary.n - binary.positives));
            }
        }
    }
}
