//! Codes as numbers, and events reduced to what a count needs.
//!
//! Whoever counts or labels millions of events asks once of every code what it means, not once
//! of every event. Where more than the code decides (the unit, the site ...), the events of one
//! code are told apart by what these other columns hold, and each kind has a number of its own.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::{EventRef, Micros};

/// What is left of an event when only its code, time and number count.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Fact {
    /// When it happened; `None` is static.
    pub time: Option<Micros>,
    /// Number of its code in a [`Codes`].
    pub code: u32,
    /// Its number; NaN is none.
    pub value: f32,
}

/// A column that holds a certain text: a condition that the code alone does not decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnTest {
    /// Name of the column.
    pub column: String,
    /// What it must hold; numbers and booleans as they are printed.
    pub value: String,
}

impl ColumnTest {
    /// Columns of the event schema that may be asked for.
    pub const COLUMNS: [&'static str; 4] = ["unit", "concept", "text_value", "encounter_id"];
    /// Most tests at once: one bit each.
    pub const MOST: usize = u64::BITS as usize;

    /// Which of the tests an event passes, a bit each.
    pub fn passed(tests: &[ColumnTest], event: &EventRef<'_>) -> u64 {
        let holds = |test: &ColumnTest| {
            let cell = match test.column.as_str() {
                "unit" => event.unit,
                "concept" => event.concept,
                "text_value" => event.text_value,
                "encounter_id" => event.encounter_id,
                _ => None,
            };
            cell == Some(test.value.as_str())
        };
        (0..).zip(tests).map(|(bit, test)| u64::from(holds(test)) << bit).sum()
    }
}

/// Every code met so far, by number, from 0 on without gaps.
#[derive(Clone, Default, Debug)]
pub struct Codes {
    names: Vec<(String, u64)>,
    /// Numbers of a code: one for each set of tests that its events passed.
    numbers: HashMap<String, Vec<u32>, FixedState>,
}

impl Codes {
    /// The number of a code whose event passed these [`ColumnTest`]s (0: none, or none asked for).
    pub fn number(&mut self, code: &str, passed: u64) -> u32 {
        let known = self.numbers.get(code).into_iter().flatten();
        if let Some(number) = known.copied().find(|number| self.names[*number as usize].1 == passed) {
            return number;
        }
        // Data with four billion different codes do not exist.
        let number = self.names.len() as u32;
        self.names.push((code.to_owned(), passed));
        match self.numbers.get_mut(code) {
            Some(numbers) => numbers.push(number),
            None => drop(self.numbers.insert(code.to_owned(), vec![number])),
        }
        number
    }

    /// The code of a number that [`number`](Self::number) gave.
    pub fn code(&self, number: u32) -> &str {
        &self.names[number as usize].0
    }

    /// The tests that events of this number passed.
    pub fn passed(&self, number: u32) -> u64 {
        self.names[number as usize].1
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no code was met yet.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_code_are_told_apart_by_the_tests_they_pass() {
        let mut codes = Codes::default();
        assert_eq!(
            [codes.number("A", 0), codes.number("B", 0), codes.number("A", 2), codes.number("A", 0)],
            [0, 1, 2, 0]
        );
        assert_eq!((codes.len(), codes.code(2), codes.passed(2)), (3, "A", 2));
    }
}
