//! How often the row that has its event first had the higher risk.

/// A row of a comparison of risks with times.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Timed {
    /// Time to its event or censoring.
    pub(super) time: f64,
    /// Whether it is an event.
    pub(super) event: bool,
    /// The place of its risk among all that differ, ascending.
    pub(super) rank: usize,
    /// The number of its subject.
    pub(super) subject: usize,
}

/// Rows from the last time to the first, censorings of a time before its events, and how many risks differ.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Timeline {
    rows: Vec<Timed>,
    ranks: usize,
}

impl Timeline {
    /// Of each row its time, whether that is of an event, its risk, and the number of its subject.
    pub(super) fn new(rows: &[(f64, bool, f64, usize)]) -> Timeline {
        let mut risks: Vec<f64> = rows.iter().map(|row| row.2).collect();
        risks.sort_by(f64::total_cmp);
        risks.dedup();
        let timed = |(time, event, risk, subject): &(f64, bool, f64, usize)| Timed {
            time: *time,
            event: *event,
            rank: risks.partition_point(|other| other < risk),
            subject: *subject,
        };
        let mut rows: Vec<Timed> = rows.iter().map(timed).collect();
        rows.sort_by(|a, b| b.time.total_cmp(&a.time).then(a.event.cmp(&b.event)).then(a.rank.cmp(&b.rank)));
        Timeline { rows, ranks: risks.len() }
    }

    /// The share of pairs in which the row with the event had the higher risk, equal risks counting half: of pairs of
    /// an event and a row that outlasts it, by being there later or by being censored at the same time. A pair counts
    /// by the `weight` of its event, and as often as both of its rows together do by `times`. `None` without a pair.
    pub(super) fn concordance(&self, weight: impl Fn(&Timed) -> f64, times: impl Fn(&Timed) -> f64) -> Option<f64> {
        let mut later = Counts::new(self.ranks);
        let (mut right, mut all) = (0.0, 0.0);
        for together in self.rows.chunk_by(|a, b| a.time == b.time) {
            let (censored, events) = together.split_at(together.partition_point(|row| !row.event));
            censored.iter().for_each(|row| later.add(row.rank, times(row)));
            for row in events {
                let weight = weight(row) * times(row);
                right += weight * (later.below(row.rank) + later.at(row.rank) / 2.0);
                all += weight * later.all;
            }
            events.iter().for_each(|row| later.add(row.rank, times(row)));
        }
        (all > 0.0).then(|| right / all)
    }

    /// What one concordance visits, in rows of a figure that takes one pass.
    pub(super) fn visits(&self) -> usize {
        self.rows.len() * (usize::BITS - self.ranks.leading_zeros()) as usize
    }
}

/// How many rows there are of each rank, and of all below one in logarithmic time (the tree of Fenwick 1994).
#[derive(Debug)]
struct Counts {
    tree: Vec<f64>,
    single: Vec<f64>,
    all: f64,
}

impl Counts {
    fn new(ranks: usize) -> Counts {
        Counts { tree: vec![0.0; ranks + 1], single: vec![0.0; ranks], all: 0.0 }
    }

    fn add(&mut self, rank: usize, count: f64) {
        self.all += count;
        self.single[rank] += count;
        let mut node = rank + 1;
        while node < self.tree.len() {
            self.tree[node] += count;
            node += node & node.wrapping_neg();
        }
    }

    fn at(&self, rank: usize) -> f64 {
        self.single[rank]
    }

    fn below(&self, rank: usize) -> f64 {
        let (mut node, mut sum) = (rank, 0.0);
        while node > 0 {
            sum += self.tree[node];
            node &= node - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::near;
    use super::*;

    #[test]
    fn pairs_by_hand() {
        // At 2 an event and a censoring: the censored row outlasts the event, the events at 4 do not compare.
        let rows = [
            (2.0, true, 0.9, 0),
            (2.0, false, 0.9, 1),
            (1.0, false, 0.1, 2),
            (4.0, true, 0.5, 3),
            (4.0, true, 0.2, 4),
            (5.0, false, 0.3, 5),
        ];
        let line = Timeline::new(&rows);
        // Of 2: half of the censored one, and the three later; of 4: right for 0.5, wrong for 0.2.
        assert!(near(line.concordance(|_| 1.0, |_| 1.0), (3.5 + 1.0 + 0.0) / 6.0));
        let early = |row: &Timed| f64::from(u8::from(row.time < 4.0));
        assert!(near(line.concordance(early, |_| 1.0), 3.5 / 4.0));
        let without_last = |row: &Timed| f64::from(u8::from(row.subject != 5));
        assert!(near(line.concordance(|_| 1.0, without_last), 2.5 / 3.0));
        assert_eq!(line.concordance(|_| 0.0, |_| 1.0), None);
        assert_eq!(Timeline::new(&[]).concordance(|_| 1.0, |_| 1.0), None);
    }

    proptest! {
        /// Against the definition, pair by pair.
        #[test]
        fn equals_its_definition(data in prop::collection::vec((0u8..9, any::<bool>(), 0u8..7, 0u8..4), 0..40)) {
            let rows: Vec<(f64, bool, f64, usize)> = (0..)
                .zip(&data)
                .map(|(i, (time, event, risk, _))| (f64::from(*time), *event, f64::from(*risk) / 6.0, i))
                .collect();
            let times = |i: usize| f64::from(data[i].3);
            let weight = |time: f64| 1.0 / (1.0 + time);
            let (mut right, mut all) = (0.0, 0.0);
            for a in rows.iter().filter(|row| row.1) {
                for b in rows.iter().filter(|b| b.0 > a.0 || (b.0 == a.0 && !b.1)) {
                    let counts = weight(a.0) * times(a.3) * times(b.3);
                    all += counts;
                    right += counts * if a.2 > b.2 { 1.0 } else if a.2 == b.2 { 0.5 } else { 0.0 };
                }
            }
            let found = Timeline::new(&rows).concordance(|row| weight(row.time), |row| times(row.subject));
            let equal = if all > 0.0 { near(found, right / all) } else { found.is_none() };
            prop_assert!(equal, "{:?} {} {}", found, right, all);
        }
    }
}
