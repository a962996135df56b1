//! Saying "I do not know": class-conditional conformal prediction, and two tests of the row itself.
//!
//! Promises, for rows drawn as the tuning rows were (all rows, each judged by a model that did not see it,
//! where a fit is [cross-fitted](super::FitSpec::crossfit)), that a row's set of possible outcomes holds
//! its true one in at least `1 - error_rate` of the rows with the outcome, and in as many of those
//! without it (Mondrian inductive conformal prediction: Vovk, Gammerman and Shafer 2005, 4.5). It
//! works on the model's margin, which tuning rows had no part in, so that calibration may be fitted
//! on the same rows. Where subjects have several rows each, the share is over rows.
//!
//! Of the p-values only two thresholds are needed, and these are exact: that of the outcome,
//! `(1 + tuning rows with the outcome whose margin is no higher) / (1 + their number)`, exceeds the
//! error rate exactly where the margin reaches the margin of a certain rank, and likewise down from
//! above without the outcome.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Counts, Matrix};

/// Share of the tuning rows that the limits of presence and range may speak against, at most.
const RARE: f64 = 0.005;

/// Share of the training rows' values beyond a feature's range at either end, at most.
const EXTREME: f64 = 0.0005;

/// What a model abstains on, the table `[abstain]` of a task.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abstain {
    /// Share of the rows of either outcome that may be told wrong, above 0 and below 0.5.
    pub error_rate: f64,
    /// Whether rows with fewer features present than nearly all tuning rows are in doubt.
    #[serde(default = "yes")]
    pub too_little_data: bool,
    /// Whether rows with more features beyond the training rows' range than nearly all tuning rows
    /// are in doubt.
    #[serde(default = "yes")]
    pub novel: bool,
}

fn yes() -> bool {
    true
}

impl Abstain {
    /// Checks the error rate.
    ///
    /// # Errors
    /// What it must be.
    pub fn check(self) -> Result<(), &'static str> {
        let usable = self.error_rate > 0.0 && self.error_rate < 0.5;
        if usable { Ok(()) } else { Err("must be above 0 and below 0.5") }
    }

    /// The range of each feature in the training rows; empty if nothing is made of it.
    pub(super) fn ranges(self, train: &Matrix) -> Vec<Option<[f32; 2]>> {
        if self.novel { ranges(train) } else { Vec::new() }
    }
}

/// Why a risk is not to be relied on.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Doubt {
    /// Both outcomes are possible at the stated error rate.
    Ambiguous,
    /// Neither outcome is, or too many features are out of the training rows' range.
    Novel,
    /// Too few features are present.
    TooLittleData,
}

impl Doubt {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Doubt::Ambiguous => "ambiguous",
            Doubt::Novel => "unlike anything seen",
            Doubt::TooLittleData => "too little data",
        }
    }
}

/// What a doubt rests on, where features tell; says nothing of their values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Grounds<'a> {
    /// Too few features are present.
    Present {
        /// How many are.
        known: usize,
        /// Of how many.
        of: usize,
        /// How many have to be.
        least: usize,
    },
    /// These are out of the training rows' range, or no training row has them; in the order of a row.
    Outside(Vec<&'a str>),
}

/// What a model says of a row.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Assessment {
    /// Calibrated risk, the same bits as [`super::Bundle::score`] gives.
    pub risk: f64,
    /// Whether the row may be without the outcome, and whether with it, at the stated error rate;
    /// both in a bundle that never abstains.
    pub possible: [bool; 2],
    /// Why the risk is not to be relied on; `None`: it is.
    pub doubt: Option<Doubt>,
}

/// What a bundle abstains by; everything comes from the tuning rows but the ranges, which are the
/// training rows'.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conformal {
    /// Stated error rate of either outcome.
    pub error_rate: f64,
    /// Rows that the thresholds come from.
    pub calibrated_on: Counts,
    /// The outcome is possible at this margin and above; `None`: at every margin, for too few rows
    /// have it for the error rate (fewer than `1 / error_rate - 1`).
    pub with_from: Option<f64>,
    /// Its absence is possible at this margin and below; `None`: at every margin, likewise.
    pub without_to: Option<f64>,
    /// Fewest features present; `None`: any number will do.
    pub least_present: Option<f64>,
    /// Most features out of their range; `None`: any number will do.
    pub most_outside: Option<f64>,
    /// Low and high end of each feature, `None` where no training row has it; empty without
    /// `most_outside`.
    pub ranges: Vec<Option<[f32; 2]>>,
}

impl Conformal {
    /// Fits on the tuning rows, how much of them is [outside](outside_of) the ranges of the training rows, and
    /// their margins.
    pub(super) fn fit(
        settings: Abstain,
        mut ranges: Vec<Option<[f32; 2]>>,
        tuning: &Matrix,
        strange: &[u32],
        margins: &[f64],
        labels: &[bool],
    ) -> Conformal {
        let of = |class: bool| margins.iter().zip(labels).filter(move |(_, label)| **label == class);
        let with_from = limit(of(true).map(|(&margin, _)| margin), settings.error_rate);
        let without_to = limit(of(false).map(|(&margin, _)| -margin), settings.error_rate).map(|low| -low);
        let rows = (0..tuning.rows()).map(|row| tuning.row(row));
        let least_present =
            if settings.too_little_data { limit(rows.map(|row| f64::from(present(row))), RARE) } else { None };
        // Of none there is no limit.
        let most_outside = limit(strange.iter().map(|&count| -f64::from(count)), RARE).map(|low| -low);
        if most_outside.is_none() {
            ranges = Vec::new();
        }
        let error_rate = settings.error_rate;
        let calibrated_on = Counts::of(labels);
        Conformal { error_rate, calibrated_on, with_from, without_to, least_present, most_outside, ranges }
    }

    /// What is to be said of a raw row with that margin and risk.
    pub(super) fn assess(&self, row: &[f32], margin: f64, risk: f64) -> Assessment {
        let possible =
            [self.without_to.is_none_or(|to| margin <= to), self.with_from.is_none_or(|from| margin >= from)];
        let doubt = if self.is_short(row) {
            Some(Doubt::TooLittleData)
        } else if self.is_strange(row) {
            Some(Doubt::Novel)
        } else {
            match possible {
                [true, true] => Some(Doubt::Ambiguous),
                [false, false] => Some(Doubt::Novel),
                _ => None,
            }
        };
        Assessment { risk, possible, doubt }
    }

    /// What the doubt about a raw row of these features rests on; `None` where it is not theirs but the
    /// margin's, or there is none.
    pub(super) fn grounds<'a>(&self, row: &[f32], features: &'a [String]) -> Option<Grounds<'a>> {
        if self.is_short(row) {
            let least = self.least_present.map_or(0, |least| least.ceil() as usize);
            return Some(Grounds::Present { known: present(row) as usize, of: features.len(), least });
        }
        let of = row.iter().zip(&self.ranges).zip(features);
        let names = of.filter(|((value, range), _)| is_outside(**value, **range)).map(|(_, name)| name.as_str());
        self.is_strange(row).then(|| Grounds::Outside(names.collect()))
    }

    fn is_short(&self, row: &[f32]) -> bool {
        self.least_present.is_some_and(|least| f64::from(present(row)) < least)
    }

    fn is_strange(&self, row: &[f32]) -> bool {
        self.most_outside.is_some_and(|most| f64::from(outside(row, &self.ranges)) > most)
    }

    /// Checks what a loaded card claims of rows of `features` features.
    ///
    /// # Errors
    /// A reason if a number is not usable.
    pub(super) fn check(&self, features: usize) -> Result<(), &'static str> {
        let settings = Abstain { error_rate: self.error_rate, too_little_data: true, novel: true };
        if settings.check().is_err() {
            return Err("the error rate of its abstention is not above 0 and below 0.5");
        }
        let limits = [self.with_from, self.without_to, self.least_present, self.most_outside];
        if limits.into_iter().flatten().any(|limit| !limit.is_finite()) {
            return Err("a limit of its abstention is not finite");
        }
        let wanted = if self.most_outside.is_some() { features } else { 0 };
        if self.ranges.len() != wanted {
            return Err("the ranges of its abstention are not one a feature");
        }
        let is_range = |range: &[f32; 2]| range[0].is_finite() && range[1].is_finite() && range[0] <= range[1];
        if !self.ranges.iter().flatten().all(is_range) {
            return Err("a range of its abstention does not go from a low end to a high one");
        }
        Ok(())
    }
}

/// A number that a further value drawn as these were is below with a probability of `rate` at
/// most: the value of rank `rate * (n + 1)`, rounded down. `None` if these are too few to tell.
fn limit(values: impl Iterator<Item = f64>, rate: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    // A rate such as 0.29 is a little less than it was written as; 100 times that is 29 all the same.
    let rank = (rate * (sorted.len() as f64 + 1.0) + 1e-9).floor() as usize;
    sorted.get(rank.checked_sub(1)?).copied()
}

/// Features that a row has.
fn present(row: &[f32]) -> u32 {
    row.iter().map(|value| u32::from(!value.is_nan())).sum()
}

/// Features of a row that are out of their range, or that no training row has.
fn outside(row: &[f32], ranges: &[Option<[f32; 2]>]) -> u32 {
    row.iter().zip(ranges).map(|(value, range)| u32::from(is_outside(*value, *range))).sum()
}

/// How many features of each row are out of range; empty without ranges.
pub(super) fn outside_of(rows: &Matrix, ranges: &[Option<[f32; 2]>]) -> Vec<u32> {
    if ranges.is_empty() {
        return Vec::new();
    }
    (0..rows.rows()).map(|row| outside(rows.row(row), ranges)).collect()
}

fn is_outside(value: f32, range: Option<[f32; 2]>) -> bool {
    range.map_or(!value.is_nan(), |[low, high]| value < low || value > high)
}

/// The range of each feature: its extreme values, but for the most extreme of very many.
fn ranges(train: &Matrix) -> Vec<Option<[f32; 2]>> {
    let range = |feature: usize| {
        let values = train.known(feature);
        let cut = (values.len() as f64 * EXTREME).floor() as usize;
        Some([*values.get(cut)?, *values.get(values.len() - 1 - cut)?])
    };
    (0..train.columns()).into_par_iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::measured::set_a;
    use super::super::random::Random;
    use super::super::{Bundle, Family, FitSpec};
    use super::*;

    const ONLY_SETS: Abstain = Abstain { error_rate: 0.1, too_little_data: false, novel: false };

    fn sets(error_rate: f64, margins: &[f64], labels: &[bool]) -> Conformal {
        let none = Matrix::new(1);
        Conformal::fit(Abstain { error_rate, ..ONLY_SETS }, Vec::new(), &none, &[], margins, labels)
    }

    fn possible(conformal: &Conformal, margin: f64) -> [bool; 2] {
        conformal.assess(&[0.0], margin, 0.5).possible
    }

    /// Share of the rows whose true outcome is possible, without and with the outcome.
    fn coverage(conformal: &Conformal, margins: &[f64], labels: &[bool]) -> [f64; 2] {
        [false, true].map(|class| {
            let of: Vec<f64> = margins.iter().zip(labels).filter(|(_, l)| **l == class).map(|(m, _)| *m).collect();
            let held = of.iter().filter(|&&margin| possible(conformal, margin)[usize::from(class)]).count();
            held as f64 / of.len() as f64
        })
    }

    proptest! {
        /// Against the definition by p-values, ties and all.
        #[test]
        fn the_thresholds_are_the_p_values(
            rows in prop::collection::vec((-12i8..12, any::<bool>()), 0..80), margin in -13i8..13, percent in 1u8..50,
        ) {
            let margins: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let (margin, percent) = (f64::from(margin), u64::from(percent));
            let p = |class: bool, is_stranger: &dyn Fn(f64) -> bool| {
                let of = margins.iter().zip(&labels).filter(|(_, label)| **label == class);
                let stranger = of.clone().filter(|(other, _)| is_stranger(**other)).count() as u64;
                // More than the error rate, in whole numbers.
                (stranger + 1) * 100 > percent * (of.count() as u64 + 1)
            };
            let want = [p(false, &|other| other >= margin), p(true, &|other| other <= margin)];
            let conformal = sets(percent as f64 / 100.0, &margins, &labels);
            prop_assert_eq!(possible(&conformal, margin), want);
        }

        #[test]
        fn a_card_gives_the_same_assessments_back(margins in prop::collection::vec(-5.0f64..5.0, 3..60), at in -6.0f64..6.0) {
            let labels: Vec<bool> = margins.iter().map(|margin| *margin > 0.3).collect();
            let conformal = sets(0.2, &margins, &labels);
            let loaded: Conformal = serde_json::from_str(&serde_json::to_string(&conformal).unwrap()).unwrap();
            prop_assert_eq!(&loaded, &conformal);
            prop_assert_eq!(loaded.assess(&[0.0], at, 0.5), conformal.assess(&[0.0], at, 0.5));
        }
    }

    #[test]
    fn the_four_sets_and_what_they_mean() {
        // Of 9 rows each, at 0.1 the least strange of rank 1 counts: margins 0 and 0.
        let row = |i: i32| (f64::from(i), f64::from(-i));
        let (with, without): (Vec<f64>, Vec<f64>) = (0..9).map(row).unzip();
        let margins: Vec<f64> = with.iter().chain(&without).copied().collect();
        let labels: Vec<bool> = (0..18).map(|i| i < 9).collect();
        let conformal = sets(0.1, &margins, &labels);
        assert_eq!((conformal.with_from, conformal.without_to), (Some(0.0), Some(0.0)));
        let doubt = |conformal: &Conformal, margin| conformal.assess(&[0.0], margin, 0.5).doubt;
        assert_eq!([-1.0, 0.0, 1.0].map(|margin| doubt(&conformal, margin)), [None, Some(Doubt::Ambiguous), None]);
        let apart = Conformal { with_from: Some(2.0), without_to: Some(-2.0), ..conformal.clone() };
        assert_eq!(doubt(&apart, 0.0), Some(Doubt::Novel));
        // One row fewer cannot speak for one error in ten.
        let few = sets(0.1, &margins[1..], &labels[1..]);
        assert_eq!((few.with_from, few.without_to), (None, Some(0.0)));
        assert_eq!(possible(&few, -1e9), [true, true]);
        assert_eq!(few.calibrated_on, Counts { rows: 17, positives: 8 });
    }

    #[test]
    fn rows_with_too_little_and_rows_out_of_range_are_in_doubt() {
        let mut random = Random::new(4);
        let mut rows = |count: usize| {
            let mut x = Matrix::new(20);
            for _ in 0..count {
                let row: Vec<f32> =
                    (0..20).map(|_| if random.unit() < 0.3 { f32::NAN } else { random.unit() as f32 }).collect();
                x.push_row(&row).unwrap();
            }
            x
        };
        let (train, tuning, fresh) = (rows(3_000), rows(1_000), rows(4_000));
        let labels: Vec<bool> = (0..1_000).map(|i| i % 4 == 0).collect();
        let margins: Vec<f64> = labels.iter().map(|label| if *label { 1.0 } else { -1.0 }).collect();
        let settings = Abstain { error_rate: 0.1, too_little_data: true, novel: true };
        let fit = |settings: Abstain, tuning: &Matrix| {
            let ranges = settings.ranges(&train);
            let strange = outside_of(tuning, &ranges);
            Conformal::fit(settings, ranges, tuning, &strange, &margins, &labels)
        };
        let conformal = fit(settings, &tuning);
        conformal.check(20).unwrap();
        let doubt = |row: &[f32]| conformal.assess(row, 1.0, 0.5).doubt;
        let doubted = (0..fresh.rows()).filter(|&row| doubt(fresh.row(row)).is_some()).count();
        assert!(doubted <= 100, "{doubted} of 4,000");
        assert_eq!(doubt(&[0.5; 20]), None);
        assert_eq!(doubt(&[f32::NAN; 20]), Some(Doubt::TooLittleData));
        let mut row = [0.5; 20];
        row[..6].fill(1.5);
        assert_eq!(doubt(&row), Some(Doubt::Novel));
        row[..6].fill(f32::NEG_INFINITY);
        assert_eq!(doubt(&row), Some(Doubt::Novel));
        let without = fit(ONLY_SETS, &tuning);
        assert!(without.ranges.is_empty());
        assert_eq!(without.assess(&[f32::NAN; 20], 1.0, 0.5).doubt, None);
        // Fewer than 199 rows cannot speak for one in 200.
        let few = fit(settings, &rows(198));
        assert_eq!((few.least_present, few.most_outside, few.ranges.len()), (None, None, 0));
    }

    #[test]
    fn a_doubt_names_the_features_it_rests_on() {
        let conformal = Conformal {
            error_rate: 0.1,
            calibrated_on: Counts::default(),
            with_from: Some(0.0),
            without_to: Some(0.0),
            least_present: Some(2.0),
            most_outside: Some(1.0),
            ranges: vec![Some([0.0, 1.0]), None, Some([0.0, 1.0])],
        };
        let names = ["a", "b", "c"].map(str::to_owned);
        let grounds = |row: [f32; 3]| conformal.grounds(&row, &names);
        let short = Grounds::Present { known: 1, of: 3, least: 2 };
        assert_eq!(grounds([9.0, f32::NAN, f32::NAN]), Some(short), "what is missing comes first, as in the doubt");
        assert_eq!(grounds([9.0, 0.5, 0.5]), Some(Grounds::Outside(vec!["a", "b"])));
        for row in [[9.0, f32::NAN, 0.5], [0.5, f32::NAN, 0.5]] {
            assert_eq!(conformal.assess(&row, 0.0, 0.5).doubt, Some(Doubt::Ambiguous));
            assert_eq!(grounds(row), None, "one feature out of range makes no doubt");
        }
    }

    #[test]
    fn a_feature_that_no_training_row_has_is_out_of_range() {
        let train = Matrix::from_values(2, vec![1.0, f32::NAN, 3.0, f32::NAN]).unwrap();
        let ranges = ranges(&train);
        assert_eq!(ranges, [Some([1.0, 3.0]), None]);
        let outside = |row: [f32; 2]| super::outside(&row, &ranges);
        assert_eq!([[2.0, f32::NAN], [2.0, 0.0], [0.0, 0.0], [f32::NAN; 2]].map(outside), [0, 1, 2, 0]);
    }

    #[test]
    fn forged_numbers_are_refused() {
        let sound = Conformal {
            error_rate: 0.1,
            calibrated_on: Counts::default(),
            with_from: Some(0.0),
            without_to: None,
            least_present: None,
            most_outside: Some(1.0),
            ranges: vec![None, Some([0.0, 1.0])],
        };
        sound.check(2).unwrap();
        for wrong in [
            Conformal { error_rate: 0.5, ..sound.clone() },
            Conformal { error_rate: f64::NAN, ..sound.clone() },
            Conformal { with_from: Some(f64::INFINITY), ..sound.clone() },
            Conformal { most_outside: None, ..sound.clone() },
            Conformal { ranges: vec![None], ..sound.clone() },
            Conformal { ranges: vec![None, Some([1.0, 0.0])], ..sound.clone() },
            Conformal { ranges: vec![None, Some([0.0, f32::INFINITY])], ..sound.clone() },
        ] {
            assert!(wrong.check(2).is_err(), "{wrong:?}");
        }
    }

    /// The stated coverage, over repeated draws of tuning and fresh rows whose margins overlap, are
    /// skewed and tied.
    #[test]
    fn each_outcome_is_covered_as_often_as_was_asked() {
        let mut random = Random::new(77);
        let mut drawn = |count: usize| -> (Vec<f64>, Vec<bool>) {
            let mut row = || {
                let label = random.unit() < 0.2;
                let noise: f64 = (0..4).map(|_| random.unit()).sum();
                (noise * noise + if label { 2.0 } else { 0.0 }, label)
            };
            (0..count).map(|_| row()).unzip()
        };
        for error_rate in [0.05, 0.1, 0.2] {
            let mut sums = [0.0; 2];
            for _ in 0..200 {
                let ((tuning, tuning_y), (fresh, fresh_y)) = (drawn(2_000), drawn(2_000));
                let conformal = sets(error_rate, &tuning, &tuning_y);
                let covered = coverage(&conformal, &fresh, &fresh_y);
                (sums[0], sums[1]) = (sums[0] + covered[0] / 200.0, sums[1] + covered[1] / 200.0);
            }
            for covered in sums {
                assert!((covered - (1.0 - error_rate)).abs() < 0.01, "{error_rate}: {sums:?}");
            }
        }
    }

    /// A measurement: real features of PhysioNet 2012 set-a, five models, 40 splits each of the rows
    /// that the model was not fitted on.
    #[test]
    fn coverage_on_real_stays() {
        let Some((x, labels, names)) = set_a() else { return };
        let mut order: Vec<usize> = (0..4_000).collect();
        let mut random = Random::new(12);
        let mut results = std::collections::BTreeMap::new();
        let picked = |rows: &[usize]| rows.iter().map(|&row| labels[row]).collect::<Vec<bool>>();
        for seed in 0..5 {
            random.shuffle(&mut order);
            let (fitted, rest) = order.split_at(2_000);
            let (train, rest_x) = (x.pick(fitted), x.pick(rest));
            let spec = FitSpec { seed, ..FitSpec::new(Family::Logistic, "p12", names.clone(), "none") };
            let bundle = Bundle::fit(spec, &train, &picked(fitted), &rest_x, &picked(rest)).unwrap();
            let (margins, outcomes) = (bundle.margins(rest_x.values()).unwrap(), picked(rest));
            for _ in 0..40 {
                let mut rows: Vec<usize> = (0..rest.len()).collect();
                random.shuffle(&mut rows);
                let (tuning, fresh) = rows.split_at(1_000);
                let of = |rows: &[usize]| -> (Vec<f64>, Vec<bool>) {
                    rows.iter().map(|&row| (margins[row], outcomes[row])).unzip()
                };
                let ((tuning_m, tuning_y), (fresh_m, fresh_y)) = (of(tuning), of(fresh));
                for percent in [5, 10, 20] {
                    let settings = Abstain { error_rate: f64::from(percent) / 100.0, ..ONLY_SETS };
                    let settings = Abstain { too_little_data: true, novel: true, ..settings };
                    let tuning = rest_x.pick(tuning);
                    let ranges = settings.ranges(&train);
                    let strange = outside_of(&tuning, &ranges);
                    let conformal = Conformal::fit(settings, ranges, &tuning, &strange, &tuning_m, &tuning_y);
                    let covered = coverage(&conformal, &fresh_m, &fresh_y);
                    let doubts = fresh.iter().zip(&fresh_m);
                    let doubts = doubts.filter_map(|(&row, &m)| conformal.assess(rest_x.row(row), m, 0.0).doubt);
                    let mut counts = [0.0; 3];
                    doubts.for_each(|doubt| counts[doubt as usize] += 1.0 / fresh.len() as f64);
                    let sums = results.entry(percent).or_insert([0.0; 5]);
                    let values = covered.into_iter().chain(counts);
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / 200.0);
                }
            }
        }
        for (percent, [without, with, ambiguous, novel, little]) in &results {
            println!(
                "error rate {percent} %: covered {without:.4} of the survivors, {with:.4} of the dead; \
                 ambiguous {ambiguous:.4}, unlike anything seen {novel:.4}, too little data {little:.4}"
            );
            let want = 1.0 - f64::from(*percent) / 100.0;
            assert!((without - want).abs() < 0.01 && (with - want).abs() < 0.01, "{results:?}");
        }
    }
}
