//! The share that is still without an event, or still watched, after a time (Kaplan and Meier 1958).

/// A step function from 1 down. At one time events come before censorings: a row that is censored when another has its
/// event was at risk of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct KaplanMeier {
    /// Each time at which it falls, ascending, and what is left then.
    steps: Vec<(f64, f64)>,
}

impl KaplanMeier {
    /// Without an event: of times from the first to the last, each with whether it is that of an event.
    pub(super) fn of_events(rows: &[(f64, bool)]) -> KaplanMeier {
        KaplanMeier::of(rows, |events, _, watched| (events, watched))
    }

    /// Not censored, for the weights of rows that were not.
    pub(super) fn of_censorings(rows: &[(f64, bool)]) -> KaplanMeier {
        KaplanMeier::of(rows, |events, censorings, watched| (censorings, watched - events))
    }

    /// `fall`: how many of how many go at a time, of its events, its censorings, and the rows watched until then.
    fn of(rows: &[(f64, bool)], fall: fn(usize, usize, usize) -> (usize, usize)) -> KaplanMeier {
        let (mut watched, mut left, mut steps) = (rows.len(), 1.0, Vec::new());
        for together in rows.chunk_by(|a, b| a.0 == b.0) {
            let events = together.iter().filter(|row| row.1).count();
            let (gone, of) = fall(events, together.len() - events, watched);
            if gone > 0 {
                left *= 1.0 - gone as f64 / of as f64;
                steps.push((together[0].0, left));
            }
            watched -= together.len();
        }
        KaplanMeier { steps }
    }

    /// What is left after what happens at `time`.
    pub(super) fn after(&self, time: f64) -> f64 {
        self.left(self.steps.partition_point(|step| step.0 <= time))
    }

    /// What is left before what happens at `time`.
    pub(super) fn before(&self, time: f64) -> f64 {
        self.left(self.steps.partition_point(|step| step.0 < time))
    }

    fn left(&self, steps: usize) -> f64 {
        steps.checked_sub(1).map_or(1.0, |last| self.steps[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::near;
    use super::*;

    /// The remissions under 6-MP of Freireich et al. 1963, in weeks, and the shares that textbooks give.
    #[test]
    fn remissions_are_those_of_the_textbooks() {
        let events = [6, 6, 6, 7, 10, 13, 16, 22, 23].map(|week| (f64::from(week), true));
        let censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35].map(|week| (f64::from(week), false));
        let mut rows: Vec<(f64, bool)> = events.into_iter().chain(censored).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let found = KaplanMeier::of_events(&rows);
        for (week, left) in [(6, 0.857), (7, 0.807), (10, 0.753), (13, 0.690), (16, 0.627), (22, 0.538), (23, 0.448)] {
            assert!((found.after(f64::from(week)) - left).abs() < 5e-4, "{week}: {found:?}");
        }
        assert_eq!((found.before(6.0), found.after(5.9), found.after(22.9)), (1.0, 1.0, found.after(22.0)));
        assert_eq!(found.before(23.0), found.after(22.0));
    }

    #[test]
    fn events_come_before_censorings() {
        let rows = [(1.0, false), (2.0, true), (2.0, false), (3.0, true), (4.0, false)];
        let (events, censorings) = (KaplanMeier::of_events(&rows), KaplanMeier::of_censorings(&rows));
        assert!(near(Some(events.after(2.0)), 0.75) && near(Some(events.after(3.0)), 0.75 * 0.5));
        assert!(near(Some(censorings.before(2.0)), 0.8) && near(Some(censorings.after(2.0)), 0.8 * 2.0 / 3.0));
        assert_eq!(censorings.after(4.0), 0.0);
        let none = KaplanMeier::of_events(&[]);
        assert_eq!((none.before(1.0), none.after(1.0)), (1.0, 1.0));
    }
}
