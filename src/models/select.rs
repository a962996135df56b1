//! Which columns a model reads: those that are not rare, and of these the most useful.
//!
//! Chosen on the training rows alone, before a family's own preprocessing, and kept in the card. Only columns of the
//! table are chosen from: the hourly grid behind it is read whole or not at all.
//!
//! A column is rare that is the same, a value or a gap, in all rows of all but a few subjects: a category that hardly
//! anybody is in, a test that hardly anybody had. From a few subjects nothing is learned but who they were.
//!
//! How useful a column is, is counted over all pairs of rows, one with the outcome and one without: those that it puts
//! in one order less those that it puts in the other, which is twice the distance of its AUROC from a half. Missing
//! values stand below all others or above them, whichever tells more, as a mask or a split would use them. This asks
//! no model, and neither scale nor outliers matter to it, so that it serves every family; that a value is there counts
//! like what it is; and a column that is known in a few rows does not come out on top by chance, for of most pairs it
//! says next to nothing. It underrates what tells only together with something else, or by being neither low nor high,
//! and it knows nothing of columns that say the same: `most` should leave room.
//!
//! The choice has seen the labels of all training rows, those too that early stopping and the folds of a stack then
//! judge on. These weigh fits against each other that share the choice, so at worst a fit is a little too bold, which
//! calibration mends. What a model is known by (calibration, threshold, abstention and every figure) is of other
//! subjects, and search and cross-validation choose anew in each fold.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::random::subject_of;
use super::sequence::tabular;
use super::{FitSpec, Matrix, ModelError};

/// Which columns are left out, the table `[train.select]` of a task.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Select {
    /// Leaves out a column that is the same, a value or a gap, for all but fewer than so many training subjects (rows
    /// where nobody says whose they are); none: whatever it is.
    pub rare: Option<usize>,
    /// Keeps so many of the others at most, the most useful; none: all.
    pub most: Option<usize>,
}

impl Select {
    /// Checks that something is asked for, and that something can be left.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(self) -> Result<(), &'static str> {
        match (self.rare, self.most) {
            (None, None) => Err("leaves nothing out: say rare, most, or both"),
            (Some(0), _) | (_, Some(0)) => Err("must be whole numbers from 1 up"),
            _ => Ok(()),
        }
    }
}

/// The columns that a model reads of a row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Selection {
    kept: Vec<usize>,
}

impl Selection {
    /// Chooses on the training rows as `spec.select` says; `None`: all are read. How many of the table are kept goes
    /// into `found` as `features_kept`.
    ///
    /// # Errors
    /// [`ModelError::Fit`] if all are rare.
    pub(super) fn fit(
        spec: &FitSpec,
        x: &Matrix,
        labels: &[bool],
        found: &mut BTreeMap<String, f64>,
    ) -> Result<Option<Selection>, ModelError> {
        let Some(select) = spec.select.filter(|_| spec.family.selects(&spec.params)) else { return Ok(None) };
        let (table, subjects) = (tabular(&spec.features), Subjects::new(spec.groups.as_deref(), x.rows()));
        // What a column of the table tells; nothing of a rare one.
        let look = |column: usize| {
            let column: Vec<f32> = x.column(column).collect();
            let is_rare = select.rare.is_some_and(|rare| subjects.with_another(&column) < rare);
            (!is_rare).then(|| usefulness(&column, labels))
        };
        let told: Vec<Option<u64>> = (0..table).into_par_iter().map(look).collect();
        let mut kept: Vec<usize> = (0..table).filter(|&column| told[column].is_some()).collect();
        if table > 0 && kept.is_empty() {
            let reason = format!(
                "each of its {table} columns is the same, or missing, for all but fewer than {} training subjects; \
                 lower train.select.rare or gather more history",
                select.rare.unwrap_or_default()
            );
            return Err(ModelError::fit(spec.family, reason));
        }
        if let Some(most) = select.most {
            // Sorting keeps the order of those that are alike.
            kept.sort_by_key(|&column| Reverse(told[column]));
            kept.truncate(most);
            kept.sort_unstable();
        }
        found.insert("features_kept".to_owned(), kept.len() as f64);
        if kept.len() == table {
            return Ok(None);
        }
        if spec.family.reads_grid() {
            kept.extend(table..x.columns());
        }
        Ok(Some(Selection { kept }))
    }

    /// The columns, ascending.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// Their names, of those of all columns.
    pub(super) fn names(&self, features: &[String]) -> Vec<String> {
        self.kept.iter().map(|&column| features[column].clone()).collect()
    }

    /// What they are in a row; `out` is memory to work in.
    pub(super) fn cut<'a>(&self, row: &[f32], out: &'a mut Vec<f32>) -> &'a [f32] {
        out.clear();
        out.extend(self.kept.iter().map(|&column| row[column]));
        out
    }

    /// Contributions of these columns as contributions of all `features`: the others have none.
    pub(super) fn spread(&self, contributions: &[f64], features: usize) -> Vec<f64> {
        let mut all = vec![0.0; features];
        for (&column, &contribution) in self.kept.iter().zip(contributions) {
            all[column] = contribution;
        }
        all
    }

    /// Checks a loaded selection of so many features.
    ///
    /// # Errors
    /// A reason if it is none.
    pub(super) fn check(&self, features: usize) -> Result<(), &'static str> {
        match self.kept.last() {
            None => Err("it selects no feature"),
            Some(&last) if last >= features => Err("it selects a feature that is not there"),
            _ if !self.kept.is_sorted_by(|a, b| a < b) => Err("the features that it selects do not ascend"),
            _ => Ok(()),
        }
    }
}

/// Whose each row is.
struct Subjects {
    count: usize,
    /// Numbers from 0 up, one a row.
    of: Vec<usize>,
}

impl Subjects {
    fn new(groups: Option<&[i64]>, rows: usize) -> Subjects {
        let mut numbers = BTreeMap::new();
        let number = |row: usize| {
            let next = numbers.len();
            *numbers.entry(subject_of(groups, row)).or_insert(next)
        };
        let of = (0..rows).map(number).collect();
        Subjects { count: numbers.len(), of }
    }

    /// How many have anything but what is commonest in a column: the value, or the gap, that the most of them have in
    /// all their rows.
    fn with_another(&self, column: &[f32]) -> usize {
        let mut first: Vec<Option<u32>> = vec![None; self.count];
        let mut is_mixed = vec![false; self.count];
        for (&value, &subject) in column.iter().zip(&self.of) {
            // The two zeros are one value, and all gaps are alike.
            let value = if value.is_nan() { f32::NAN } else { value + 0.0 };
            is_mixed[subject] |= *first[subject].get_or_insert(value.to_bits()) != value.to_bits();
        }
        let mut same: Vec<u32> =
            first.into_iter().zip(is_mixed).filter(|(_, is_mixed)| !is_mixed).filter_map(|(first, _)| first).collect();
        same.sort_unstable();
        self.count - same.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap_or(0)
    }
}

/// Of all pairs of rows, one with the outcome and one without, how many more a column puts in one order than in the
/// other, its gaps below all values or above them, whichever gives more.
fn usefulness(column: &[f32], labels: &[bool]) -> u64 {
    let mut known: Vec<(f32, bool)> =
        column.iter().copied().zip(labels.iter().copied()).filter(|(value, _)| !value.is_nan()).collect();
    known.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Rows so far without the outcome and with it; pairs in which the row with it is the higher, less the others.
    let (mut without, mut with, mut of_values) = (0_i64, 0_i64, 0_i64);
    for tied in known.chunk_by(|a, b| a.0 == b.0) {
        let positives = tied.iter().filter(|(_, label)| *label).count() as i64;
        let negatives = tied.len() as i64 - positives;
        of_values += positives * without - negatives * with;
        without += negatives;
        with += positives;
    }
    let positives = labels.iter().filter(|&&label| label).count() as i64;
    let (gaps_without, gaps_with) = (labels.len() as i64 - positives - without, positives - with);
    // The pairs of a value and a gap, were gaps below.
    let of_gaps = with * gaps_without - without * gaps_with;
    of_values.unsigned_abs() + of_gaps.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Family;
    use super::*;

    const GAP: f32 = f32::NAN;

    #[test]
    fn usefulness_by_hand() {
        let labels = [false, false, true, true];
        for (column, want) in [
            ([1.0, 2.0, 3.0, 4.0], 4),
            ([4.0, 3.0, 2.0, 1.0], 4),
            ([1.0, 3.0, 2.0, 4.0], 2),
            ([7.0; 4], 0),
            ([GAP; 4], 0),
            ([0.0, -0.0, -0.0, 0.0], 0),
            ([0.0, 1.0, 1.0, 1.0], 2),
            // One pair is known and in order; of the two of a value and a gap one is in order, the other not.
            ([1.0, GAP, GAP, 4.0], 1),
            ([GAP, GAP, 5.0, 5.0], 4),
            ([5.0, 5.0, GAP, GAP], 4),
            ([GAP, 1.0, 2.0, 2.0], 4),
            // Neither a low gap nor a high one tells more than the one pair.
            ([GAP, 1.0, 2.0, GAP], 1),
        ] {
            assert_eq!(usefulness(&column, &labels), want, "{column:?}");
        }
    }

    proptest! {
        /// Against the definition: every pair looked at, the gaps at one end and then at the other.
        #[test]
        fn usefulness_is_a_count_of_pairs(rows in prop::collection::vec((-3i8..4, any::<bool>()), 0..60)) {
            let column: Vec<f32> = rows.iter().map(|row| if row.0 == 3 { GAP } else { f32::from(row.0) }).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let at = |end: f32| {
                let value = |row: usize| if column[row].is_nan() { end } else { column[row] };
                let mut sum = 0_i64;
                for with in (0..rows.len()).filter(|&row| labels[row]) {
                    for without in (0..rows.len()).filter(|&row| !labels[row]) {
                        sum += i64::from(value(with) > value(without)) - i64::from(value(with) < value(without));
                    }
                }
                sum.unsigned_abs()
            };
            prop_assert_eq!(usefulness(&column, &labels), at(-9.0).max(at(9.0)));
        }
    }

    #[test]
    fn what_is_rare_is_counted_in_subjects() {
        let column = [0.0, -0.0, 0.0, 1.0, GAP];
        assert_eq!(Subjects::new(None, 5).with_another(&column), 2);
        // The second has both values, the third nothing.
        assert_eq!(Subjects::new(Some(&[8, 8, -2, -2, 5]), 5).with_another(&column), 2);
        assert_eq!(Subjects::new(Some(&[8, 8, 8, 8, 5]), 5).with_another(&column), 1, "the gap is what is commonest");
        assert_eq!(Subjects::new(Some(&[3; 5]), 5).with_another(&column), 1, "of one subject, it has both");
        assert_eq!(Subjects::new(None, 5).with_another(&[GAP; 5]), 0);
        assert_eq!(Subjects::new(None, 5).with_another(&[GAP, -GAP, 2.0, 2.0, 2.0]), 2);
    }

    /// One column that tells all, its copy, one that is rare, one that tells little, one that is constant.
    fn fit(select: Select, groups: Option<Vec<i64>>) -> Result<(Option<Selection>, f64), ModelError> {
        let mut x = Matrix::new(5);
        for i in 0..8_u8 {
            let (all, rare) = (f32::from(i), f32::from(u8::from(i >= 6)));
            x.push_row(&[all, -all, rare, f32::from(i % 2), 7.0]).unwrap();
        }
        let labels: Vec<bool> = (0..8).map(|i| i >= 4).collect();
        let features = (0..5).map(|i| format!("f{i}")).collect();
        let spec = FitSpec { select: Some(select), groups, ..FitSpec::new(Family::Logistic, "t", features, "spec") };
        let mut found = BTreeMap::new();
        let selection = Selection::fit(&spec, &x, &labels, &mut found)?;
        Ok((selection, found["features_kept"]))
    }

    #[test]
    fn rare_columns_go_first_and_of_the_others_the_most_useful_stay() {
        let kept = |rare, most| {
            let (selection, count) = fit(Select { rare, most }, None).unwrap();
            let kept = selection.map_or((0..5).collect(), |selection| selection.kept);
            assert_eq!(kept.len() as f64, count);
            kept
        };
        assert_eq!(kept(Some(1), None), [0, 1, 2, 3]);
        assert_eq!(kept(Some(3), None), [0, 1, 3]);
        // 16 pairs, 16, 8 and none; of two that are alike, the first.
        assert_eq!(kept(None, Some(3)), [0, 1, 2]);
        assert_eq!(kept(None, Some(1)), [0]);
        assert_eq!(kept(Some(3), Some(3)), [0, 1, 3]);
        // Of columns that tell nothing, the first.
        assert_eq!(kept(None, Some(4)), [0, 1, 2, 3]);
        assert_eq!(kept(None, Some(99)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn where_all_is_read_nothing_is_selected_and_where_nothing_is_left_it_is_refused() {
        assert_eq!(fit(Select { rare: None, most: Some(5) }, None).unwrap(), (None, 5.0));
        let rare = |rare| fit(Select { rare: Some(rare), most: None }, Some(vec![1, 1, 2, 2, 3, 3, 4, 4]));
        // Of four subjects one has the flag; all have odd and even ones.
        assert_eq!(rare(2).unwrap().0.unwrap().kept, [0, 1, 3]);
        let error = rare(5).unwrap_err().to_string();
        assert!(error.contains("each of its 5 columns") && error.contains("fewer than 5 training subjects"), "{error}");
        assert!(error.contains("lower train.select.rare"), "{error}");
    }

    #[test]
    fn settings_that_select_nothing_are_refused() {
        let check = |rare, most| Select { rare, most }.check();
        assert!(check(None, None).unwrap_err().contains("say rare, most, or both"));
        assert!(check(Some(0), Some(3)).is_err() && check(None, Some(0)).is_err());
        assert!(check(Some(1), None).is_ok() && check(None, Some(1)).is_ok());
    }

    #[test]
    fn a_row_is_cut_and_contributions_are_spread() {
        let selection = Selection { kept: vec![1, 3] };
        let mut memory = vec![9.0];
        assert_eq!(selection.cut(&[0.0, 1.0, 2.0, 3.0], &mut memory), [1.0, 3.0]);
        assert_eq!(selection.spread(&[0.5, -0.5], 4), [0.0, 0.5, 0.0, -0.5]);
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(selection.names(&names), ["b", "d"]);
    }

    #[test]
    fn a_damaged_selection_is_refused() {
        let check = |kept: &[usize]| Selection { kept: kept.to_vec() }.check(4);
        assert!(check(&[0, 2, 3]).is_ok());
        assert!(check(&[]).unwrap_err().contains("no feature"));
        assert!(check(&[1, 4]).unwrap_err().contains("not there"));
        for wrong in [&[1, 1][..], &[2, 1, 3], &[9, 3]] {
            assert!(check(wrong).unwrap_err().contains("do not ascend"), "{wrong:?}");
        }
    }
}
