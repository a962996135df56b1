//! Codes as numbers, and events reduced to what a count needs.
//!
//! Whoever counts or labels millions of events asks once of every code what it means, not once
//! of every event. Where more than the code decides (the unit, the site ...), the events of one
//! code are told apart by what these other columns hold, and each kind has a number of its own.

use std::collections::HashMap;

use arrow::array::{Array as _, AsArray as _, DictionaryArray, StringArray};
use arrow::datatypes::Int32Type;
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

/// What the keys of a dictionary of codes are in a [`Codes`].
#[derive(Default, Debug)]
pub struct CodeNumbers {
    /// The codes of the dictionary that was looked up last. Held, so that no other can lie at its place.
    texts: Option<StringArray>,
    numbers: Vec<u32>,
}

impl CodeNumbers {
    /// Looks the codes of a batch up, unless its dictionary is that of the batch before. One that does not hold
    /// texts has no codes.
    pub fn learn(&mut self, column: &DictionaryArray<Int32Type>, codes: &mut Codes) {
        let Some(texts) = column.values().as_string_opt::<i32>() else { return *self = CodeNumbers::default() };
        let same = |known: &StringArray| {
            known.len() == texts.len() && std::ptr::eq(known.value_offsets(), texts.value_offsets())
        };
        if !self.texts.as_ref().is_some_and(same) {
            self.numbers.clear();
            self.numbers.extend((0..texts.len()).map(|key| codes.number(texts.value(key), 0)));
            self.texts = Some(texts.clone());
        }
    }

    /// The number of a code that passed no [`ColumnTest`], by its key.
    pub fn number(&self, key: usize) -> u32 {
        self.numbers[key]
    }

    /// The code of a key.
    pub fn text(&self, key: usize) -> &str {
        self.texts.as_ref().map_or("", |texts| texts.value(key))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int32Array;

    use super::*;

    #[test]
    fn the_codes_of_a_dictionary_are_looked_up_anew_when_it_is_another() {
        let column = |texts: [&str; 2]| {
            let texts = Arc::new(StringArray::from_iter_values(texts));
            DictionaryArray::new(Int32Array::from(vec![1, 0, 1]), texts)
        };
        let (mut codes, mut numbers) = (Codes::default(), CodeNumbers::default());
        let (one, other) = (column(["A", "B"]), column(["C", "A"]));
        for (column, expected) in [(&one, [0, 1]), (&one, [0, 1]), (&other, [2, 0]), (&one, [0, 1])] {
            numbers.learn(column, &mut codes);
            assert_eq!([numbers.number(0), numbers.number(1)], expected);
        }
        assert_eq!((numbers.text(1), codes.len()), ("B", 3));
    }

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
