//! When predictions are made: at times after an encounter's start, or on events.

use std::time::Duration;

use serde::Deserialize;

use super::formula::Formula;
use super::spec::FeatureSpec;
use crate::events::{Micros, SECOND};
use crate::settings::{Problem, parse_span};

/// Shortest step of an `every`.
const SHORTEST: Micros = SECOND;

/// What makes the predictions of a task, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trigger {
    /// Only encounters of this class (`ICU` is that of `ENCOUNTER//ICU//START`); `None`: of any.
    pub encounter: Option<String>,
    /// When.
    pub kind: TriggerKind,
    /// Of whom: a condition on the features of the moment; `None`: of everybody.
    pub(super) cohort: Option<Formula>,
}

/// When a trigger fires.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TriggerKind {
    /// At these times after the start of an encounter; ascending, without repetition.
    At(Vec<Micros>),
    /// At every whole multiple of a step after the start of an encounter.
    Every {
        /// The step.
        every: Micros,
        /// The last multiple, inclusive; `None`: for as long as the encounter is open.
        until: Option<Micros>,
    },
    /// When an event with one of these codes or concepts is asserted or corrected.
    On {
        /// Codes (`LOINC//2524-7`) and concepts (`lactate`).
        what: Vec<String>,
        /// Least time between two predictions of a subject. Even without one, a subject's
        /// prediction times ascend strictly, so that no two predictions are the same.
        min_gap: Micros,
    },
}

/// A trigger as a task file has it: `at = ["48h"]`, `every = "1h"` with `until = "48h"`, or
/// `on = ["lactate"]` with `min_gap = "1h"`; each with `encounter = "ICU"` or for every class, and
/// with `cohort = "age >= 18"` or for everybody.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTrigger {
    /// Class of the encounters.
    pub encounter: Option<String>,
    /// Times after the start.
    pub at: Option<Vec<String>>,
    /// Step after the start.
    pub every: Option<String>,
    /// Last step.
    pub until: Option<String>,
    /// Codes and concepts.
    pub on: Option<Vec<String>>,
    /// Least time between two predictions.
    pub min_gap: Option<String>,
    /// Condition on features of `features.toml`, as an SQL expression.
    pub cohort: Option<String>,
}

impl RawTrigger {
    /// Checks a trigger that stands at `key` of `file`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn validate(&self, file: &str, key: &str) -> Result<Trigger, Vec<Problem>> {
        let mut check = Check { file, key, problems: Vec::new() };
        if let Some(class) = &self.encounter
            && (class.is_empty() || !class.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))
        {
            check.problem(
                "encounter",
                "is no class of encounters",
                "write it as in the code: \"ICU\" of ENCOUNTER//ICU//START",
            );
        }
        let kind = match (&self.at, &self.every, &self.on) {
            (Some(at), None, None) => check.at(at),
            (None, Some(every), None) => check.every(every, self.until.as_deref()),
            (None, None, Some(on)) => check.on(on, self.min_gap.as_deref()),
            _ => {
                check.problem("", "needs exactly one of at, every and on", "write for example at = [\"48h\"]");
                None
            }
        };
        if self.until.is_some() && self.every.is_none() {
            check.problem("until", "goes only with every", "remove it");
        }
        if self.min_gap.is_some() && self.on.is_none() {
            check.problem("min_gap", "goes only with on", "remove it");
        }
        let cohort = self.cohort.as_deref().and_then(|text| match Formula::parse(text) {
            Ok(formula) => Some(formula),
            Err(why) => {
                check.problem("cohort", &why, "write a condition on features, such as age >= 18");
                None
            }
        });
        match kind {
            Some(kind) if check.problems.is_empty() => Ok(Trigger { encounter: self.encounter.clone(), kind, cohort }),
            _ => Err(check.problems),
        }
    }
}

struct Check<'a> {
    file: &'a str,
    key: &'a str,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, below: &str, what: &str, remedy: &str) {
        let key = if below.is_empty() { self.key.to_owned() } else { format!("{}.{below}", self.key) };
        self.problems.push(Problem::new(self.file, key, what, remedy));
    }

    fn span(&mut self, below: &str, text: &str) -> Option<Micros> {
        let span = parse_span(text).map(micros);
        if span.is_none() {
            self.problem(below, "is no span of time", "write a whole number and a unit, such as \"48h\" or \"30min\"");
        }
        span
    }

    fn at(&mut self, at: &[String]) -> Option<TriggerKind> {
        if at.is_empty() {
            self.problem("at", "is empty", "name a time after the encounter's start, such as \"48h\"");
            return None;
        }
        let times: Vec<Option<Micros>> = at.iter().map(|text| self.span("at", text)).collect();
        let mut times = times.into_iter().collect::<Option<Vec<Micros>>>()?;
        times.sort_unstable();
        times.dedup();
        Some(TriggerKind::At(times))
    }

    fn every(&mut self, every: &str, until: Option<&str>) -> Option<TriggerKind> {
        let every = self.span("every", every);
        let until = until.map(|text| self.span("until", text));
        let every = every?;
        if every < SHORTEST {
            self.problem("every", "is too short", "let a second or more pass between predictions");
        }
        let until = match until {
            None => None,
            Some(until) => Some(until?),
        };
        if until.is_some_and(|until| until < every) {
            self.problem("until", "ends before the first prediction", "make it as long as every, or longer");
        }
        Some(TriggerKind::Every { every, until })
    }

    fn on(&mut self, on: &[String], min_gap: Option<&str>) -> Option<TriggerKind> {
        if on.is_empty() || on.iter().any(|what| what.trim().is_empty()) {
            self.problem("on", "names nothing", "name codes such as \"LOINC//2524-7\" or concepts such as \"lactate\"");
        }
        let min_gap = match min_gap {
            None => 0,
            Some(text) => self.span("min_gap", text)?,
        };
        Some(TriggerKind::On { what: on.to_vec(), min_gap })
    }
}

/// A span in microseconds; those of [`parse_span`] all fit.
pub(super) fn micros(span: Duration) -> Micros {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl Trigger {
    /// A name in the condition of the cohort that is none of the features.
    pub fn unknown_feature(&self, spec: &FeatureSpec) -> Option<&str> {
        let inputs = self.cohort.as_ref().map_or(&[][..], Formula::inputs);
        inputs.iter().find(|input| !spec.names().contains(input)).map(String::as_str)
    }

    /// Columns of the features that its cohort depends on; one that there is not is past the last.
    pub(super) fn columns(&self, spec: &FeatureSpec) -> Vec<usize> {
        let place = |input: &String| spec.names().iter().position(|name| name == input).unwrap_or(spec.len());
        self.cohort.as_ref().map_or(&[][..], Formula::inputs).iter().map(place).collect()
    }

    /// Whether a row of features is of its cohort: the condition holds, and is not missing.
    pub(super) fn is_of_cohort(&self, row: &[f32], columns: &[usize]) -> bool {
        let value = |place: usize| {
            let value = columns.get(place).and_then(|column| row.get(*column));
            value.map_or(f64::NAN, |value| f64::from(*value))
        };
        self.cohort.as_ref().is_none_or(|cohort| cohort.value(&value) == 1.0)
    }

    /// Whether it concerns encounters of a class.
    pub(super) fn concerns(&self, class: &str) -> bool {
        self.encounter.as_deref().is_none_or(|wanted| wanted == class)
    }

    /// Whether it fires at due times, not on events.
    pub(super) fn has_times(&self) -> bool {
        !matches!(self.kind, TriggerKind::On { .. })
    }

    /// The first time at or after `low` at which it falls due for an encounter from `start` on.
    /// `None` if there is none, and always for `on`.
    pub(super) fn next_due(&self, start: Micros, low: Micros) -> Option<Micros> {
        match &self.kind {
            TriggerKind::At(times) => {
                times.iter().filter_map(|after| start.checked_add(*after)).find(|due| *due >= low)
            }
            TriggerKind::Every { every, until } => {
                let (every, gap) = (i128::from((*every).max(1)), i128::from(low) - i128::from(start));
                // Division rounds towards zero: up where the gap is negative, which the maximum hides.
                let steps = ((gap + every - 1) / every).max(1);
                let after = steps * every;
                let within = until.is_none_or(|until| after <= i128::from(until));
                within.then(|| Micros::try_from(i128::from(start) + after).ok()).flatten()
            }
            TriggerKind::On { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::HOUR;

    fn parse(text: &str) -> Result<Trigger, Vec<Problem>> {
        let raw: RawTrigger = toml::from_str(text).unwrap();
        raw.validate("tasks/x.toml", "trigger")
    }

    fn keys(text: &str) -> Vec<String> {
        parse(text).unwrap_err().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn triggers_read_as_they_are_written() {
        let kind = |text| parse(text).unwrap().kind;
        assert_eq!(kind("at = [\"48h\", \"24h\", \"1d\"]"), TriggerKind::At(vec![24 * HOUR, 48 * HOUR]));
        assert_eq!(kind("every = \"1h\"\nuntil = \"48h\""), TriggerKind::Every { every: HOUR, until: Some(48 * HOUR) });
        assert_eq!(kind("on = [\"lactate\"]"), TriggerKind::On { what: vec!["lactate".to_owned()], min_gap: 0 });
        let icu = parse("encounter = \"ICU\"\nevery = \"1h\"").unwrap();
        assert!(icu.concerns("ICU") && !icu.concerns("IMP") && parse("every = \"1h\"").unwrap().concerns("IMP"));
    }

    #[test]
    fn every_problem_of_a_trigger_is_found_at_once() {
        assert_eq!(keys(""), ["trigger"]);
        assert_eq!(keys("at = [\"1h\"]\nevery = \"1h\""), ["trigger"]);
        assert_eq!(
            keys("at = []\nencounter = \"I/U\"\nuntil = \"1h\""),
            ["trigger.encounter", "trigger.at", "trigger.until"]
        );
        assert_eq!(keys("at = [\"x\", \"y\"]\nmin_gap = \"1h\""), ["trigger.at", "trigger.at", "trigger.min_gap"]);
        assert_eq!(keys("every = \"1ms\""), ["trigger.every"]);
        assert_eq!(keys("every = \"2h\"\nuntil = \"1h\""), ["trigger.until"]);
        assert_eq!(keys("every = \"1h\"\ncohort = \"age >=\""), ["trigger.cohort"]);
        assert_eq!(keys("every = \"often\"\nuntil = \"late\""), ["trigger.every", "trigger.until"]);
        assert_eq!(keys("on = []\nmin_gap = \"soon\""), ["trigger.on", "trigger.min_gap"]);
        assert!(toml::from_str::<RawTrigger>("evry = \"1h\"").is_err());
    }

    #[test]
    fn due_times_are_the_first_at_or_after_a_moment() {
        let hourly = parse("every = \"1h\"\nuntil = \"3h\"").unwrap();
        let due = |low| hourly.next_due(10, low);
        assert_eq!((due(i64::MIN), due(10), due(HOUR + 10)), (Some(HOUR + 10), Some(HOUR + 10), Some(HOUR + 10)));
        assert_eq!(
            (due(HOUR + 11), due(3 * HOUR + 10), due(3 * HOUR + 11)),
            (Some(2 * HOUR + 10), Some(3 * HOUR + 10), None)
        );
        assert_eq!(hourly.next_due(i64::MAX - 5, 0), None, "beyond the end of time");
        assert_eq!(hourly.next_due(i64::MIN, i64::MAX), None);
        let at = parse("at = [\"0s\", \"2h\"]").unwrap();
        assert_eq!(
            (at.next_due(10, 10), at.next_due(10, 11), at.next_due(10, 3 * HOUR)),
            (Some(10), Some(2 * HOUR + 10), None)
        );
    }
}
