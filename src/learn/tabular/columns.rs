//! Which codes are columns of the matrices, and where.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::error::ArrowError;

use crate::events::{Codes, Fact};

/// How often a code occurs with a time.
#[derive(Copy, Clone, Default, Debug)]
struct Tally {
    events: u64,
    values: u64,
}

/// The events of every code, counted over all subjects.
#[derive(Default, Debug)]
pub(super) struct Tallies(Vec<Tally>);

impl Tallies {
    /// Counts the dated events of one subject.
    pub(super) fn add(&mut self, facts: &[Fact]) {
        for row in facts.iter().filter(|row| row.time.is_some()) {
            let code = row.code as usize;
            if code >= self.0.len() {
                self.0.resize(code + 1, Tally::default());
            }
            self.0[code].events += 1;
            self.0[code].values += u64::from(row.value.is_finite());
        }
    }
}

/// Where the events of a code go.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Place {
    /// Column of the code matrices; none where the code is too rare.
    pub(super) code: Option<u32>,
    /// Column of the value matrices; none where its values are too rare.
    pub(super) value: Option<u32>,
}

/// The columns of all matrices.
///
/// Every code with a dated event has a column of the code matrices, every code with a dated value one of
/// the value matrices, both in the order of the codes' bytes. Columns of codes that are too rare are
/// empty: so the numbers of the columns do not depend on what counts as rare.
#[derive(Debug)]
pub(super) struct Columns {
    /// By the number of a code.
    places: Vec<Place>,
    /// Numbers of the codes that have a column, by column.
    order: Vec<u32>,
    tallies: Vec<Tally>,
    min_count: u64,
    values: u32,
}

impl Columns {
    /// The columns for what was counted. A code needs `min_count` events, its values need as many values.
    pub(super) fn new(tallies: Tallies, codes: &Codes, min_count: u64) -> Self {
        let tallies = tallies.0;
        // A row without a code does not exist, so there are as many numbers as codes: far below 2^31.
        let mut order: Vec<u32> = (0..tallies.len() as u32).filter(|&code| tallies[code as usize].events > 0).collect();
        order.sort_unstable_by_key(|&code| codes.code(code));
        let mut places = vec![Place::default(); tallies.len()];
        let mut values = 0;
        for (column, &code) in (0..).zip(&order) {
            let tally = tallies[code as usize];
            places[code as usize] = Place {
                code: (tally.events >= min_count).then_some(column),
                value: (tally.values > 0 && tally.values >= min_count).then_some(values),
            };
            values += u32::from(tally.values > 0);
        }
        Columns { places, order, tallies, min_count, values }
    }

    /// Columns of the code matrices.
    pub(super) fn codes(&self) -> usize {
        self.order.len()
    }

    /// Columns of the value matrices.
    pub(super) fn values(&self) -> usize {
        self.values as usize
    }

    /// Where the events of a code go; a code that was never counted goes nowhere.
    pub(super) fn place(&self, code: u32) -> Place {
        self.places.get(code as usize).copied().unwrap_or_default()
    }

    /// The columns as a table, one row a code: `column` (of the code matrices), `code`,
    /// `code/n_occurrences`, `kept`, `value_column` (of the value matrices; null: never a value),
    /// `values/n_occurrences`, `values_kept`.
    pub(super) fn table(&self, codes: &Codes) -> Result<RecordBatch, ArrowError> {
        let tallies = || self.order.iter().map(|&code| self.tallies[code as usize]);
        let mut next = 0;
        let value_columns = tallies().map(|tally| {
            let column = next;
            next += i32::from(tally.values > 0);
            (tally.values > 0).then_some(column)
        });
        let kept = |count: u64| Some(count > 0 && count >= self.min_count);
        RecordBatch::try_from_iter_with_nullable([
            ("column", Arc::new(Int32Array::from_iter_values(0..self.order.len() as i32)) as ArrayRef, false),
            ("code", Arc::new(StringArray::from_iter_values(self.order.iter().map(|&code| codes.code(code)))), false),
            (
                "code/n_occurrences",
                Arc::new(Int64Array::from_iter_values(tallies().map(|tally| tally.events as i64))),
                false,
            ),
            ("kept", Arc::new(BooleanArray::from_iter(tallies().map(|tally| kept(tally.events)))), false),
            ("value_column", Arc::new(Int32Array::from_iter(value_columns)), true),
            (
                "values/n_occurrences",
                Arc::new(Int64Array::from_iter_values(tallies().map(|tally| tally.values as i64))),
                false,
            ),
            ("values_kept", Arc::new(BooleanArray::from_iter(tallies().map(|tally| kept(tally.values)))), false),
        ])
    }
}
