//! The words of `features.toml`: windows, aggregates, demographics.

use crate::events::{DAY, HOUR, Micros, SECOND};

/// Span of samples that a feature looks at, back from the prediction.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Window {
    /// Those with a time in `(prediction - span, prediction]`.
    Back(Micros),
    /// From the start of the prediction's encounter, inclusive; none without an encounter.
    Encounter,
    /// All up to the prediction, and those without a time.
    Ever,
}

/// What is made of the samples of a window.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Aggregate {
    Last,
    First,
    Count,
    Min,
    Max,
    /// Last less first; of one sample there is none.
    Change,
    /// Greatest less least.
    Range,
    Sum,
    Mean,
    /// The middle value, or the mean of the two in the middle.
    Median,
    /// Sample standard deviation; of one sample there is none.
    Std,
    /// Of the line of least squares, per hour.
    Slope,
    /// Hours from the last sample to the prediction.
    TimeSinceLast,
    /// 1 if there is a sample, else 0: the mask of presence.
    Ever,
    /// How many different values, codes or categories.
    Distinct,
}

impl Aggregate {
    /// Every aggregate, in the order of the documentation.
    pub(super) const ALL: [Aggregate; 15] = [
        Aggregate::Last,
        Aggregate::First,
        Aggregate::Count,
        Aggregate::Min,
        Aggregate::Max,
        Aggregate::Change,
        Aggregate::Range,
        Aggregate::Sum,
        Aggregate::Mean,
        Aggregate::Median,
        Aggregate::Std,
        Aggregate::Slope,
        Aggregate::TimeSinceLast,
        Aggregate::Ever,
        Aggregate::Distinct,
    ];

    /// The word in `features.toml` and in a feature's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Aggregate::Last => "last",
            Aggregate::First => "first",
            Aggregate::Count => "count",
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::Change => "change",
            Aggregate::Range => "range",
            Aggregate::Sum => "sum",
            Aggregate::Mean => "mean",
            Aggregate::Median => "median",
            Aggregate::Std => "std",
            Aggregate::Slope => "slope",
            Aggregate::TimeSinceLast => "time_since_last",
            Aggregate::Ever => "ever",
            Aggregate::Distinct => "distinct",
        }
    }

    /// Whether it needs no values: the presence of a code will do.
    pub(super) fn of_presence(self) -> bool {
        matches!(self, Aggregate::Count | Aggregate::TimeSinceLast | Aggregate::Ever | Aggregate::Distinct)
    }

    /// Whether it can be had of texts: whether the last is of a category, how many are.
    pub(super) fn of_texts(self) -> bool {
        self.of_presence() || matches!(self, Aggregate::Last | Aggregate::First)
    }

    /// Whether it needs the sum or an extreme of the samples.
    pub(super) fn of_spread(self) -> bool {
        use Aggregate::{Max, Mean, Min, Range, Std, Sum};
        matches!(self, Min | Max | Range | Sum | Mean | Std)
    }

    /// Whether nothing is a number to it: no event is a count of 0.
    pub(super) fn of_none(self) -> bool {
        matches!(self, Aggregate::Count | Aggregate::Ever | Aggregate::Distinct)
    }

    /// UCUM unit of the aggregate of values in `unit`; empty for a number without one.
    pub(super) fn unit(self, unit: &str) -> String {
        match self {
            Aggregate::Count | Aggregate::Ever | Aggregate::Distinct => String::new(),
            Aggregate::TimeSinceLast => "h".to_owned(),
            Aggregate::Slope => format!("{unit}/h"),
            _ => unit.to_owned(),
        }
    }
}

/// A feature of the subject and the moment, not of samples.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Demographic {
    /// Years from birth to the start of the encounter, or to the prediction without one.
    Age,
    /// 1 male, 0 female.
    Sex,
    /// Hours from the start of the encounter to the prediction.
    HoursInEncounter,
    /// Hour of the prediction's day, UTC, with its fraction.
    HourOfDay,
}

impl Demographic {
    /// Every one, in the order of the documentation.
    pub(super) const ALL: [Demographic; 4] =
        [Demographic::Age, Demographic::Sex, Demographic::HoursInEncounter, Demographic::HourOfDay];

    /// The word in `features.toml`, which is the feature's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Demographic::Age => "age",
            Demographic::Sex => "sex",
            Demographic::HoursInEncounter => "hours_in_encounter",
            Demographic::HourOfDay => "hour_of_day",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Demographic::Age => "a",
            Demographic::Sex => "",
            Demographic::HoursInEncounter | Demographic::HourOfDay => "h",
        }
    }
}

/// A window in words: `in the 8 h before the prediction`.
pub(super) fn window_words(window: Window) -> String {
    match window {
        Window::Back(span) => format!("in the {} before the prediction", span_words(span)),
        Window::Encounter => "since the encounter began".to_owned(),
        Window::Ever => "ever".to_owned(),
    }
}

/// A span in words: `8 h`, `30 min`.
pub(super) fn span_words(span: Micros) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (60 * SECOND, "min"), (SECOND, "s")];
    match units.into_iter().find(|(unit, _)| span % unit == 0) {
        Some((unit, name)) => format!("{} {name}", span / unit),
        None => format!("{span} us"),
    }
}
