//! A checked ACES task: predicates in the order they are evaluated, windows parents first.

use crate::events::{ColumnTest, Micros};
use crate::settings::{Problem, TextFile};

/// An ACES task file, read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Predicates that something refers to; the inputs of a derived one stand before it.
    pub(super) predicates: Vec<Predicate>,
    /// Static predicates: a subject without each of them is not labelled.
    pub(super) statics: Vec<usize>,
    /// What starts a sample.
    pub(super) trigger: Mark,
    /// Windows, each after the one it is anchored to.
    pub(super) windows: Vec<Window>,
    /// Window and predicate whose count is the label.
    pub(super) label: Option<(usize, usize)>,
    /// Window and side whose time is the prediction time.
    pub(super) index: Option<(usize, Side)>,
    /// What `other_cols` of the predicates ask for; a predicate names them by their place here.
    pub(super) tests: Vec<ColumnTest>,
}

impl Config {
    /// Reads an ACES file.
    ///
    /// # Errors
    /// Every problem at once, each with its path (`windows.gap.start`) and a remedy.
    pub fn parse(file: &TextFile) -> Result<Config, Vec<Problem>> {
        super::parse::parse(file)
    }

    /// Whether a window is labelled; without one a realization has no value.
    pub fn has_label(&self) -> bool {
        self.label.is_some()
    }

    /// Whether a window gives the prediction time.
    pub fn has_index(&self) -> bool {
        self.index.is_some()
    }

    /// What the task asks of columns other than time, code and value (`other_cols`).
    pub fn tests(&self) -> &[ColumnTest] {
        &self.tests
    }

    /// Whether an event of this code, which passes these tests (a bit each), may count for a predicate; its value
    /// decides. Of one that does not only the time matters.
    pub(in crate::learn) fn may_count(&self, code: &str, passed: u64) -> bool {
        self.predicates.iter().any(|predicate| predicate.may_count(code, passed))
    }

    /// What keeps the task from being evaluated over the case library: columns that its events
    /// do not have. `file`: name of the task's file.
    pub fn problems_in_library(&self, file: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for predicate in &self.predicates {
            let Kind::Plain { passed, .. } = predicate.kind else { continue };
            for (bit, test) in (0..).zip(&self.tests) {
                if passed >> bit & 1 == 1 && !ColumnTest::COLUMNS.contains(&test.column.as_str()) {
                    problems.push(Problem::new(
                        file,
                        format!("predicates.{}.other_cols.{}", predicate.name, test.column),
                        "is neither a key of a predicate nor a column of the library's events",
                        format!("use one of {}", ColumnTest::COLUMNS.join(", ")),
                    ));
                }
            }
        }
        problems
    }

    /// Names of the predicates that have not [`occurred`](super::Evaluator::occurred).
    pub(in crate::learn) fn absent(&self, occurred: &[bool]) -> Vec<String> {
        let has = |p: usize| occurred.get(p).copied().unwrap_or(false);
        let predicates = self.predicates.iter().enumerate();
        predicates.filter(|(p, _)| !has(*p)).map(|(_, predicate)| predicate.name.clone()).collect()
    }
}

/// A named condition that is counted per row.
#[derive(Clone, Debug)]
pub(super) struct Predicate {
    /// Its name in the file.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Holds of the subject, on rows without time.
    pub(super) is_static: bool,
}

impl Predicate {
    /// Whether it counts events, and those of this code which pass these tests (a bit each) may be among them.
    pub(super) fn may_count(&self, code: &str, passed: u64) -> bool {
        match &self.kind {
            Kind::Plain { code: wanted, passed: asked, .. } => asked & !passed == 0 && wanted.matches(code),
            Kind::And(_) | Kind::Or(_) => false,
        }
    }
}

/// What a predicate looks at.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Events by code and value, and by the tests that they must pass (a bit each); the count is
    /// the number of events.
    Plain { code: Code, low: Option<Bound>, high: Option<Bound>, passed: u64 },
    /// 1 where all the others count above zero.
    And(Vec<usize>),
    /// 1 where one of the others counts above zero.
    Or(Vec<usize>),
}

/// Which codes a plain predicate means.
#[derive(Clone, Debug)]
pub(super) enum Code {
    /// Whatever it is: the value or another column decides. Upstream has no such predicate.
    All,
    /// This one.
    Exact(String),
    /// One of these.
    Any(Vec<String>),
    /// Those the expression is found in (not anchored).
    Regex(regex::Regex),
}

impl Code {
    pub(super) fn matches(&self, code: &str) -> bool {
        match self {
            Code::All => true,
            Code::Exact(one) => one == code,
            Code::Any(many) => many.iter().any(|one| one == code),
            Code::Regex(regex) => regex.is_match(code),
        }
    }
}

/// One limit of a value, in single precision like the value itself.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Bound {
    pub(super) value: f32,
    pub(super) inclusive: bool,
}

/// What marks a row as trigger or as boundary of a window, or is counted by `has`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    /// A row on which this predicate counts above zero.
    Predicate(usize),
    /// Any row.
    Any,
    /// The record's first row.
    First,
    /// The record's last row.
    Last,
}

/// An end of a window.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Start,
    End,
}

/// Where a window hangs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Anchor {
    Trigger,
    Window(usize, Side),
}

/// How one point in time follows from another.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The same point.
    Same,
    /// So much later, or earlier if negative; never zero.
    Shift(Micros),
    /// The first row so marked from there on.
    Next(Mark),
    /// The last row so marked up to there.
    Previous(Mark),
}

/// A stretch of the record.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// The end that follows from another window or the trigger; the other follows from it.
    pub(super) root: Side,
    pub(super) anchor: Anchor,
    /// From the anchor to the root end.
    pub(super) to_root: Step,
    /// From the root end to the other.
    pub(super) to_other: Step,
    pub(super) start_inclusive: bool,
    pub(super) end_inclusive: bool,
    /// Inclusive limits of counts.
    pub(super) has: Vec<Has>,
}

/// How many of something a window must hold.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Has {
    pub(super) mark: Mark,
    pub(super) least: Option<i64>,
    pub(super) most: Option<i64>,
}
