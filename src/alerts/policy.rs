//! The `[alert]` table of a task file: when a risk becomes an alert.
//!
//! The algorithm is circEWS's (`specs/clinical.md` 2.1) with hysteresis and tiers added: see
//! [`decide`](super::decide).

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use crate::events::{HOUR, Micros};
use crate::models::Aim;
use crate::settings::{Problem, parse_span};

/// Most tiers, and most contributions in an alert's text.
const MOST: usize = 20;

/// The `[alert]` table as it is written. An absent table is `RawPolicy::default()`.
#[derive(Clone, PartialEq, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPolicy {
    /// Risk at which an alert is raised; absent: the threshold in the model's bundle.
    pub threshold: Option<f64>,
    /// What a model's own threshold is chosen for when it is trained, such as `{sensitivity = 0.8}`,
    /// `{ppv = 0.3}` or `{alerts_per_patient_day = 0.5}`; absent: the best min(sensitivity,
    /// positive predictive value).
    pub aim: Option<Aim>,
    /// Below it a raised alert clears: `"80%"` is a part of the threshold (the default), a
    /// number is a risk.
    pub clear_below: Option<Clear>,
    /// How long an alert that stays true is not raised again; default `"8h"`.
    pub silence: Option<String>,
    /// Tiers from the lowest; default one, `watch`, at the threshold.
    pub tiers: Option<Vec<RawTier>>,
    /// What is predicted, as a code for `RiskAssessment.prediction.outcome`.
    pub outcome: Option<Outcome>,
    /// Contributions named in an alert's text; default 5.
    pub top: Option<usize>,
    /// Concepts of which an alert says what they would have to be for no alert; default none.
    pub actionable: Option<Vec<String>>,
}

/// One tier as it is written.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTier {
    /// Name, such as `watch`.
    pub name: String,
    /// Risk from which it holds; the first tier may leave it out: the threshold.
    pub threshold: Option<f64>,
}

/// Below what a raised alert clears.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Clear {
    /// A part, 0 to 1, of the threshold.
    Part(f64),
    /// A risk.
    Level(f64),
}

impl<'de> Deserialize<'de> for Clear {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Clear;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a risk such as 0.4, or a part of the threshold such as \"80%\"")
            }

            fn visit_f64<E>(self, level: f64) -> Result<Clear, E> {
                Ok(Clear::Level(level))
            }

            fn visit_i64<E>(self, level: i64) -> Result<Clear, E> {
                Ok(Clear::Level(level as f64))
            }

            fn visit_u64<E>(self, level: u64) -> Result<Clear, E> {
                Ok(Clear::Level(level as f64))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Clear, E> {
                let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                percent
                    .map(|percent| Clear::Part(percent / 100.0))
                    .ok_or_else(|| E::custom("a part is written like \"80%\""))
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// A code for what is predicted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Code system as a URI, such as `http://snomed.info/sct`.
    pub system: String,
    /// Code within it.
    pub code: String,
    /// What it means, in words.
    pub display: String,
}

/// When a risk becomes an alert.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// Risk at which an alert is raised; `None`: the threshold in the model's bundle.
    pub threshold: Option<f64>,
    /// Below what it clears.
    pub clear: Clear,
    /// How long an alert that stays true is not raised again.
    pub silence: Micros,
    /// From the lowest, at least one, thresholds strictly ascending.
    pub tiers: Vec<Tier>,
    /// What is predicted, as a code.
    pub outcome: Option<Outcome>,
    /// Contributions named in an alert's text.
    pub top: usize,
    /// Concepts of which an alert says what they would have to be for no alert.
    pub actionable: Vec<String>,
    /// What a model's own threshold is chosen for.
    pub aim: Aim,
}

/// One tier of alerts.
#[derive(Clone, PartialEq, Debug)]
pub struct Tier {
    /// Name: small letters, digits, `_` and `-`.
    pub name: String,
    /// Risk from which it holds, if that is above the task's threshold; `None`: that threshold.
    pub threshold: Option<f64>,
}

impl RawPolicy {
    /// Checks the table, which is `key` of `file`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn validate(self, file: &str, key: &str) -> Result<Policy, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut problem = |name: &str, what: &str, remedy: &str| {
            problems.push(Problem::new(file, format!("{key}.{name}"), what, remedy));
        };
        let mut threshold = self.threshold;
        if threshold.is_some_and(|risk| !is_risk(risk)) {
            problem("threshold", "is no risk", "give a number above 0, at most 1, or leave it out for the model's own");
            threshold = None;
        }
        let silence = self.silence.as_deref().map_or(Some(8 * HOUR), micros);
        if silence.is_none() {
            problem("silence", "is no span of time", "write a whole number and a unit, such as \"8h\" or \"30min\"");
        }
        let tiers = tiers(self.tiers, threshold, &mut problem);
        // Where the tiers bring the threshold it holds for the whole task.
        let threshold = threshold.or_else(|| tiers.first().and_then(|tier| tier.threshold));
        if let Some(aim) = self.aim {
            if let Err(reason) = aim.check() {
                problem("aim", "is no figure to reach", &format!("it {reason}"));
            }
            if threshold.is_some() {
                problem("aim", "has no effect beside a threshold", "give one of the two");
            }
        }
        let clear = self.clear_below.unwrap_or(Clear::Part(0.8));
        match clear {
            Clear::Part(part) if !is_risk(part) => {
                problem("clear_below", "is no part of the threshold", "give \"1%\" to \"100%\"");
            }
            Clear::Level(level) if !is_risk(level) || threshold.is_some_and(|threshold| level > threshold) => {
                problem(
                    "clear_below",
                    "is no risk below the threshold",
                    "give a number above 0, at most the threshold",
                );
            }
            Clear::Part(_) | Clear::Level(_) => {}
        }
        if let Some(outcome) = &self.outcome {
            if url::Url::parse(&outcome.system).is_err() {
                problem(
                    "outcome.system",
                    "is no URI",
                    "give the URI of the code system, such as http://snomed.info/sct",
                );
            }
            if outcome.code.trim() != outcome.code || outcome.code.is_empty() || outcome.display.trim().is_empty() {
                problem("outcome", "has no code or display", "give the code and what it means in words");
            }
        }
        let top = self.top.unwrap_or(5);
        if !(1..=MOST).contains(&top) {
            problem("top", "is out of range", &format!("give 1 to {MOST}"));
        }
        match silence {
            Some(silence) if problems.is_empty() => {
                let aim = self.aim.unwrap_or_default();
                let actionable = self.actionable.unwrap_or_default();
                Ok(Policy { threshold, clear, silence, tiers, outcome: self.outcome, top, aim, actionable })
            }
            _ => Err(problems),
        }
    }
}

fn tiers(raw: Option<Vec<RawTier>>, threshold: Option<f64>, problem: &mut dyn FnMut(&str, &str, &str)) -> Vec<Tier> {
    let Some(raw) = raw else { return vec![Tier { name: "watch".to_owned(), threshold }] };
    if raw.is_empty() || raw.len() > MOST {
        problem("tiers", "has none or too many", &format!("give 1 to {MOST} tiers from the lowest, or leave it out"));
    }
    let mut tiers: Vec<Tier> = Vec::with_capacity(raw.len());
    for (i, tier) in raw.into_iter().enumerate() {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !(1..=32).contains(&tier.name.len()) || !tier.name.bytes().all(letter) {
            problem(&format!("tiers[{i}].name"), "is no name", "use 1 to 32 small letters, digits, '_' and '-'");
        } else if tiers.iter().any(|other| other.name == tier.name) {
            problem(&format!("tiers[{i}].name"), "is taken by a tier below", "give each tier a name of its own");
        }
        let (name, own) =
            (format!("tiers[{i}].threshold"), if i == 0 { tier.threshold.or(threshold) } else { tier.threshold });
        let below = tiers.last().and_then(|tier| tier.threshold).or(threshold);
        match own {
            Some(risk) if !is_risk(risk) => problem(&name, "is no risk", "give a number above 0, at most 1"),
            Some(risk) if i == 0 && threshold.is_some_and(|threshold| threshold != risk) => {
                problem(&name, "differs from the task's threshold", "give one of the two");
            }
            Some(risk) if i > 0 && below.is_some_and(|below| risk <= below) => {
                problem(
                    &name,
                    "is not above the tier below",
                    "order the tiers from the lowest threshold to the highest",
                );
            }
            None if i > 0 => problem(&name, "is missing", "only the lowest tier may take the task's threshold"),
            _ => {}
        }
        tiers.push(Tier { name: tier.name, threshold: own });
    }
    tiers
}

impl Policy {
    /// The threshold in force: the site's, else that of the model's bundle.
    pub fn threshold_or(&self, model: f64) -> f64 {
        self.threshold.unwrap_or(model)
    }

    /// The level below which a raised alert clears, never above `threshold`.
    pub(super) fn clear_level(&self, threshold: f64) -> f64 {
        match self.clear {
            Clear::Part(part) => part * threshold,
            Clear::Level(level) => level.min(threshold),
        }
    }

    /// Risk from which tier `tier` holds. A tier never starts below the task's threshold, so a
    /// model with a high threshold of its own skips the tiers below it.
    pub(super) fn level(&self, tier: usize, threshold: f64) -> f64 {
        self.tiers[tier].threshold.map_or(threshold, |own| own.max(threshold))
    }

    /// Highest tier that holds at `risk`, which is at or above `threshold`.
    pub(super) fn tier_at(&self, risk: f64, threshold: f64) -> usize {
        (1..self.tiers.len()).rev().find(|&tier| risk >= self.level(tier, threshold)).unwrap_or(0)
    }
}

fn is_risk(number: f64) -> bool {
    number > 0.0 && number <= 1.0
}

fn micros(text: &str) -> Option<Micros> {
    parse_span(text).and_then(|span| Micros::try_from(span.as_micros()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RawPolicy {
        toml::from_str(text).unwrap()
    }

    fn problems(text: &str) -> Vec<String> {
        parse(text).validate("tasks/t.toml", "alert").unwrap_err().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn an_empty_table_is_one_tier_at_the_models_threshold() {
        let policy = RawPolicy::default().validate("tasks/t.toml", "alert").unwrap();
        assert_eq!(policy.tiers, [Tier { name: "watch".to_owned(), threshold: None }]);
        assert_eq!((policy.threshold_or(0.3), policy.silence, policy.top), (0.3, 8 * HOUR, 5));
        assert!((policy.clear_level(0.5) - 0.4).abs() < 1e-12);
        assert_eq!(parse(""), RawPolicy::default());
    }

    #[test]
    fn a_full_table_is_read() {
        let policy = parse(
            r#"
            clear_below = 0.25
            silence = "30min"
            tiers = [{ name = "watch", threshold = 0.3 }, { name = "urgent", threshold = 0.6 }]
            outcome = { system = "http://snomed.info/sct", code = "419099009", display = "Dead" }
            top = 3
            "#,
        )
        .validate("tasks/t.toml", "alert")
        .unwrap();
        assert_eq!(
            (policy.threshold, policy.clear, policy.silence, policy.top),
            (Some(0.3), Clear::Level(0.25), HOUR / 2, 3)
        );
        assert_eq!((policy.tier_at(0.59, 0.3), policy.tier_at(0.6, 0.3)), (0, 1));
        assert_eq!((policy.level(1, 0.7), policy.tier_at(0.7, 0.7)), (0.7, 1));
    }

    #[test]
    fn every_problem_is_found_at_once_with_its_key() {
        let text = r#"
            threshold = 1.5
            clear_below = "0%"
            silence = "a while"
            tiers = [{ name = "Watch!" }, { name = "b", threshold = 0.4 }, { name = "b", threshold = 0.4 }, { name = "c" }]
            outcome = { system = "snomed", code = "", display = "x" }
            top = 0
        "#;
        let expected = [
            "alert.threshold",
            "alert.silence",
            "alert.tiers[0].name",
            "alert.tiers[2].name",
            "alert.tiers[2].threshold",
            "alert.tiers[3].threshold",
            "alert.clear_below",
            "alert.outcome.system",
            "alert.outcome",
            "alert.top",
        ];
        assert_eq!(problems(text), expected);
        assert_eq!(problems("threshold = 0.5\nclear_below = 0.6"), ["alert.clear_below"]);
        assert_eq!(
            problems("threshold = 0.5\ntiers = [{ name = \"a\", threshold = 0.4 }]"),
            ["alert.tiers[0].threshold"]
        );
        assert_eq!(problems("tiers = []"), ["alert.tiers"]);
        assert_eq!(problems("threshold = nan"), ["alert.threshold"]);
    }

    #[test]
    fn an_aim_is_read_and_checked() {
        let aim = |text: &str| parse(text).validate("tasks/t.toml", "alert").unwrap().aim;
        assert_eq!(aim(""), Aim::MinSePpv);
        assert_eq!(aim("aim = {sensitivity = 0.8}"), Aim::Sensitivity(0.8));
        assert_eq!(aim("aim = {ppv = 0.3}"), Aim::Ppv(0.3));
        assert_eq!(aim("aim = {alerts_per_patient_day = 2}"), Aim::AlertsPerPatientDay(2.0));
        assert_eq!(problems("aim = {ppv = 1.3}"), ["alert.aim"]);
        assert_eq!(problems("aim = {ppv = 0.3}\nthreshold = 0.5"), ["alert.aim"]);
        for wrong in ["aim = {specificity = 0.9}", "aim = 0.9", "aim = {ppv = 0.3, sensitivity = 0.8}"] {
            assert!(toml::from_str::<RawPolicy>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_errors_that_say_what_is_wanted() {
        assert!(toml::from_str::<RawPolicy>("silense = \"8h\"").is_err());
        for wrong in ["clear_below = \"some\"", "clear_below = true"] {
            assert!(toml::from_str::<RawPolicy>(wrong).unwrap_err().to_string().contains("80%"));
        }
    }
}
