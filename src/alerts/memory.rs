//! What an alert policy remembers, and the decision it takes at each prediction.

use serde::{Deserialize, Serialize};

use super::Policy;
use crate::events::Micros;

/// Version of [`Memory`] as JSON in `auscult.alert-state`.
const VERSION: u32 = 1;

/// What an alert says.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The risk is at or above the threshold: for the first time since it last cleared, or still
    /// after the silence.
    Raise,
    /// The risk reached a higher tier; breaks the silence.
    Escalate,
    /// The risk fell below the level at which a raised alert clears.
    Clear,
    /// An alert stands, but no risk can be given now.
    Indeterminate,
}

impl Kind {
    /// The word in the message and in the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Raise => "raise",
            Kind::Escalate => "escalate",
            Kind::Clear => "clear",
            Kind::Indeterminate => "indeterminate",
        }
    }
}

/// What is to be said now.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Decision<'p> {
    /// What kind of alert.
    pub kind: Kind,
    /// Name of the tier: the one that holds now, or that held until now.
    pub tier: &'p str,
    /// The level that decided: where the tier starts or, for [`Kind::Clear`], below what it clears. `NaN`
    /// where neither the policy nor a model gives one.
    pub threshold: f64,
}

/// What is remembered of one (task, subject, encounter).
///
/// A decision changes it; without a decision only the time of the latest prediction moves. So it
/// needs to be stored with each decision only, if a replay tells it of the predictions since by
/// [`observe`](Self::observe).
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Memory {
    /// Time of the latest prediction.
    seen: Option<Micros>,
    raised: Option<Raised>,
}

/// An alert that stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Raised {
    /// By name, so that a policy that gains or loses a tier does not shift it.
    tier: String,
    /// When it was last raised or escalated.
    at: Micros,
    /// Whether it was said, since then, that no risk can be given.
    indeterminate: bool,
}

/// [`Memory`] as JSON.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    seen: Option<Micros>,
    raised: Option<Raised>,
}

impl From<Memory> for Stored {
    fn from(memory: Memory) -> Self {
        Stored { version: VERSION, seen: memory.seen, raised: memory.raised }
    }
}

impl TryFrom<Stored> for Memory {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        match stored.version {
            VERSION => Ok(Memory { seen: stored.seen, raised: stored.raised }),
            other => Err(format!("an alert memory has version {other}, this program reads {VERSION}; upgrade it")),
        }
    }
}

impl Memory {
    /// Takes note of a prediction that was decided in an earlier life of the process.
    pub fn observe(&mut self, at: Micros) {
        self.seen = self.seen.max(Some(at));
    }

    /// Whether an alert stands.
    pub fn is_raised(&self) -> bool {
        self.raised.is_some()
    }

    /// Takes note of `at`; false if a later prediction was seen already.
    fn is_next(&mut self, at: Micros) -> bool {
        let next = self.seen.is_none_or(|seen| seen <= at);
        self.observe(at);
        next
    }
}

/// Decides what is to be said of a risk, and remembers it.
///
/// `threshold` is [`Policy::threshold_or`] the model's (`NaN` where there is no model, and so no risk), `at`
/// the prediction time, `risk` `None` (or not finite) where no risk can be given. A pure function of its arguments:
///
/// - below the threshold with nothing raised: nothing;
/// - at or above it with nothing raised: [`Kind::Raise`] in the highest tier that holds;
/// - a higher tier than the raised one: [`Kind::Escalate`], at once;
/// - still at or above it when `silence` has passed since the last raise or escalation:
///   [`Kind::Raise`] again, in the tier that holds then;
/// - between the clear level and the threshold: nothing, the alert stands;
/// - below the clear level: [`Kind::Clear`];
/// - no risk while an alert stands: [`Kind::Indeterminate`], once after each raise or escalation;
/// - a prediction earlier than the latest seen: nothing, and nothing changes.
pub fn decide<'p>(
    policy: &'p Policy,
    threshold: f64,
    memory: &mut Memory,
    at: Micros,
    risk: Option<f64>,
) -> Option<Decision<'p>> {
    if !memory.is_next(at) {
        return None;
    }
    let said = |kind, tier: usize| {
        let level = policy.level(tier, threshold);
        Some(Decision { kind, tier: &policy.tiers[tier].name, threshold: level })
    };
    let raise = |tier: usize| Raised { tier: policy.tiers[tier].name.clone(), at, indeterminate: false };
    // A tier that the policy no longer has counts as the lowest.
    let index = |name: &str| policy.tiers.iter().position(|tier| tier.name == name).unwrap_or(0);
    let risk = risk.filter(|risk| risk.is_finite());
    match (&mut memory.raised, risk) {
        (None, Some(risk)) if risk >= threshold => {
            let tier = policy.tier_at(risk, threshold);
            memory.raised = Some(raise(tier));
            said(Kind::Raise, tier)
        }
        (None, _) => None,
        (Some(raised), None) => {
            let first = !std::mem::replace(&mut raised.indeterminate, true);
            if first { said(Kind::Indeterminate, index(&raised.tier)) } else { None }
        }
        (Some(raised), Some(risk)) if risk >= threshold => {
            let tier = policy.tier_at(risk, threshold);
            let kind = if tier > index(&raised.tier) {
                Kind::Escalate
            } else if at > raised.at && at.saturating_sub(raised.at) >= policy.silence {
                Kind::Raise
            } else {
                return None;
            };
            *raised = raise(tier);
            said(kind, tier)
        }
        (Some(raised), Some(risk)) => {
            let clear = policy.clear_level(threshold);
            if risk >= clear {
                return None;
            }
            let tier = index(&raised.tier);
            memory.raised = None;
            Some(Decision { kind: Kind::Clear, tier: &policy.tiers[tier].name, threshold: clear })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Clear, Tier};
    use super::*;
    use crate::events::HOUR;

    const THRESHOLD: f64 = 0.5;

    fn policy() -> Policy {
        let tier = |name: &str, threshold| Tier { name: name.to_owned(), threshold };
        Policy {
            threshold: None,
            clear: Clear::Part(0.8),
            silence: 8 * HOUR,
            tiers: vec![tier("watch", None), tier("urgent", Some(0.7)), tier("now", Some(0.9))],
            outcome: None,
            top: 5,
            aim: Default::default(),
            actionable: Vec::new(),
        }
    }

    /// Decides at whole hours; `None` is no risk.
    fn run(policy: &Policy, memory: &mut Memory, steps: &[(i64, Option<f64>)]) -> Vec<(i64, Kind, String)> {
        let mut said = Vec::new();
        for &(hour, risk) in steps {
            if let Some(decision) = decide(policy, THRESHOLD, memory, hour * HOUR, risk) {
                said.push((hour, decision.kind, decision.tier.to_owned()));
            }
        }
        said
    }

    fn kinds(steps: &[(i64, Option<f64>)]) -> Vec<(i64, Kind, String)> {
        run(&policy(), &mut Memory::default(), steps)
    }

    fn said(hour: i64, kind: Kind, tier: &str) -> (i64, Kind, String) {
        (hour, kind, tier.to_owned())
    }

    #[test]
    fn an_alert_is_raised_once_and_again_after_the_silence() {
        let steps: Vec<_> = (0..20).map(|hour| (hour, Some(0.6))).collect();
        let raise = |hour| said(hour, Kind::Raise, "watch");
        assert_eq!(kinds(&steps), [raise(0), raise(8), raise(16)]);
    }

    #[test]
    fn it_clears_below_the_clear_level_only_and_then_rises_at_once() {
        let steps = [(0, Some(0.5)), (1, Some(0.45)), (2, Some(0.5)), (3, Some(0.39)), (4, Some(0.3)), (5, Some(0.5))];
        assert_eq!(
            kinds(&steps),
            [said(0, Kind::Raise, "watch"), said(3, Kind::Clear, "watch"), said(5, Kind::Raise, "watch")]
        );
        let mut memory = Memory::default();
        decide(&policy(), THRESHOLD, &mut memory, 0, Some(0.95));
        let clear = decide(&policy(), THRESHOLD, &mut memory, 1, Some(0.1)).map(|clear| (clear.kind, clear.threshold));
        assert_eq!(clear, Some((Kind::Clear, 0.4)));
        assert!(!memory.is_raised());
    }

    #[test]
    fn a_higher_tier_breaks_the_silence_a_lower_one_waits_for_it() {
        let steps =
            [(0, Some(0.6)), (1, Some(0.95)), (2, Some(0.75)), (3, Some(0.95)), (9, Some(0.75)), (10, Some(0.9))];
        assert_eq!(
            kinds(&steps),
            [
                said(0, Kind::Raise, "watch"),
                said(1, Kind::Escalate, "now"),
                said(9, Kind::Raise, "urgent"),
                said(10, Kind::Escalate, "now")
            ]
        );
    }

    #[test]
    fn not_knowing_is_said_once_after_each_alert_that_stands() {
        assert!(kinds(&[(0, None), (1, Some(f64::NAN))]).is_empty());
        let steps =
            [(0, Some(0.6)), (1, None), (2, Some(f64::NAN)), (3, Some(0.6)), (4, None), (8, Some(0.6)), (9, None)];
        assert_eq!(
            kinds(&steps),
            [
                said(0, Kind::Raise, "watch"),
                said(1, Kind::Indeterminate, "watch"),
                said(8, Kind::Raise, "watch"),
                said(9, Kind::Indeterminate, "watch")
            ]
        );
    }

    #[test]
    fn a_memory_is_versioned_json() {
        let mut memory = Memory::default();
        decide(&policy(), THRESHOLD, &mut memory, 5, Some(0.8));
        let text = serde_json::to_string(&memory).unwrap();
        assert_eq!(text, r#"{"version":1,"seen":5,"raised":{"tier":"urgent","at":5,"indeterminate":false}}"#);
        assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), memory);
        let error = serde_json::from_str::<Memory>(&text.replace(":1,", ":2,")).unwrap_err();
        assert!(error.to_string().contains("version 2"));
    }

    #[test]
    fn a_tier_that_is_gone_counts_as_the_lowest() {
        let mut memory = Memory::default();
        decide(&policy(), THRESHOLD, &mut memory, 0, Some(0.95));
        let mut fewer = policy();
        fewer.tiers.truncate(2);
        assert_eq!(run(&fewer, &mut memory, &[(1, Some(0.95))]), [said(1, Kind::Escalate, "urgent")]);
    }

    /// The policy told from what was said so far, without a memory.
    fn model(policy: &Policy, history: &[(i64, Kind, usize)], hour: i64, risk: Option<f64>) -> Option<(Kind, usize)> {
        let level = |tier: usize| policy.tiers[tier].threshold.unwrap_or(THRESHOLD);
        let holds = |risk: f64| (0..3).filter(|&tier| risk >= level(tier)).max();
        let since_clear = history.rsplit(|said| said.1 == Kind::Clear).next().unwrap_or_default();
        let alert = since_clear.iter().rev().find(|said| said.1 != Kind::Indeterminate);
        let Some(&(raised_at, _, tier)) = alert else {
            return risk.and_then(holds).map(|tier| (Kind::Raise, tier));
        };
        let Some(risk) = risk else {
            let last = since_clear.last().map(|said| said.1);
            return (last != Some(Kind::Indeterminate)).then_some((Kind::Indeterminate, tier));
        };
        match holds(risk) {
            Some(now) if now > tier => Some((Kind::Escalate, now)),
            Some(now) if (hour - raised_at) * HOUR >= policy.silence && hour > raised_at => Some((Kind::Raise, now)),
            None if risk < 0.8 * THRESHOLD => Some((Kind::Clear, tier)),
            _ => None,
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(i64, Option<f64>)>> {
        let risk =
            prop_oneof![4 => (0..=20u8).prop_map(|twentieth| Some(f64::from(twentieth) / 20.0)), 1 => Just(None)];
        prop::collection::vec((-2..6i64, risk), 0..60).prop_map(|steps| {
            let mut hour = 0;
            let walk = |(step, risk): (i64, Option<f64>)| {
                hour += step;
                (hour, risk)
            };
            steps.into_iter().map(walk).collect()
        })
    }

    proptest! {
        #[test]
        fn decisions_follow_from_what_was_said_and_a_restart_changes_nothing(steps in steps()) {
            let policy = policy();
            let (mut memory, mut stored) = (Memory::default(), serde_json::to_string(&Memory::default()).unwrap());
            let mut since: Vec<i64> = Vec::new();
            let mut history: Vec<(i64, Kind, usize)> = Vec::new();
            let mut latest = i64::MIN;
            for (hour, risk) in steps {
                // A restart: what was stored with the last decision, and the predictions since.
                let mut restarted: Memory = serde_json::from_str(&stored).unwrap();
                since.iter().for_each(|&hour| restarted.observe(hour * HOUR));
                prop_assert_eq!(&restarted, &memory);

                let before = memory.clone();
                let decision = decide(&policy, THRESHOLD, &mut memory, hour * HOUR, risk);
                since.push(hour);
                if hour < latest {
                    prop_assert!(decision.is_none());
                    prop_assert_eq!(&before, &memory);
                    continue;
                }
                latest = hour;
                let tier = |name: &str| policy.tiers.iter().position(|tier| tier.name == name).unwrap();
                let got = decision.map(|decision| (decision.kind, tier(decision.tier)));
                prop_assert_eq!(got, model(&policy, &history, hour, risk));
                if let Some((kind, tier)) = got {
                    history.push((hour, kind, tier));
                    stored = serde_json::to_string(&memory).unwrap();
                    since.clear();
                }
            }
        }
    }
}
