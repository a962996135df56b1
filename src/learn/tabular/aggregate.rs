//! What a cell says of the events in its window.

use std::str::FromStr;

/// An aggregate, with the names of MEDS-Tab.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Aggregate {
    /// `code/count`: events.
    CodeCount,
    /// `value/count`: events with a value.
    ValueCount,
    /// `value/sum`: sum of the values.
    ValueSum,
    /// `value/sum_sqd`: sum of the values' squares.
    ValueSumSqd,
    /// `value/min`: least value.
    ValueMin,
    /// `value/max`: greatest value.
    ValueMax,
}

impl Aggregate {
    const ALL: [Aggregate; 6] = [
        Aggregate::CodeCount,
        Aggregate::ValueCount,
        Aggregate::ValueSum,
        Aggregate::ValueSumSqd,
        Aggregate::ValueMin,
        Aggregate::ValueMax,
    ];

    /// The name, which is also the path of the matrix in its window's folder, without `.npz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Aggregate::CodeCount => "code/count",
            Aggregate::ValueCount => "value/count",
            Aggregate::ValueSum => "value/sum",
            Aggregate::ValueSumSqd => "value/sum_sqd",
            Aggregate::ValueMin => "value/min",
            Aggregate::ValueMax => "value/max",
        }
    }

    /// Whether it is made of events, not of values.
    pub(super) fn is_of_codes(self) -> bool {
        self == Aggregate::CodeCount
    }
}

impl FromStr for Aggregate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = "an aggregate is code/count, value/count, value/sum, value/sum_sqd, value/min or value/max";
        Aggregate::ALL.into_iter().find(|aggregate| aggregate.as_str() == text).ok_or(refused)
    }
}
