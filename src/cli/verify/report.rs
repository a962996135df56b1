//! What was found of an invariant. Places are topics, partitions and offsets: nothing of a patient.

use std::collections::BTreeMap;

use serde::Serialize;

/// Most violations of one invariant that are listed; the others are counted.
const LISTED: usize = 100;

/// A place where an invariant does not hold.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(super) struct Violation {
    pub(super) what: &'static str,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What was found of one invariant.
#[derive(Serialize, Debug)]
pub(super) struct Invariant {
    number: u8,
    name: &'static str,
    /// Null: it cannot be decided on what is there; the note says why.
    holds: Option<bool>,
    checked: BTreeMap<&'static str, u64>,
    violations: Vec<Violation>,
    /// Violations beyond those listed.
    #[serde(skip_serializing_if = "is_zero")]
    unlisted: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Invariant {
    pub(super) fn number(&self) -> u8 {
        self.number
    }

    pub(super) fn holds(&self) -> Option<bool> {
        self.holds
    }
}

/// Gathers what is found of one invariant.
#[derive(Default, Debug)]
pub(super) struct Findings {
    checked: BTreeMap<&'static str, u64>,
    violations: Vec<Violation>,
    unlisted: u64,
    notes: Vec<String>,
    undecided: bool,
}

impl Findings {
    /// Adds to what was checked.
    pub(super) fn count(&mut self, what: &'static str, number: u64) {
        *self.checked.entry(what).or_default() += number;
    }

    /// The invariant does not hold here.
    pub(super) fn violation(&mut self, what: &'static str, topic: &str, partition: i32, offset: i64) {
        if self.violations.len() < LISTED {
            self.violations.push(Violation { what, topic: topic.to_owned(), partition, offset });
        } else {
            self.unlisted += 1;
        }
    }

    /// Something that whoever reads the report should know; once.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Why a part of it cannot be decided.
    pub(super) fn undecided(&mut self, why: impl Into<String>) {
        self.undecided = true;
        self.note(why);
    }

    /// What was found, as the report has it.
    pub(super) fn into_invariant(self, number: u8, name: &'static str) -> Invariant {
        let holds = match (self.violations.is_empty(), self.undecided) {
            (false, _) => Some(false),
            (true, true) => None,
            (true, false) => Some(true),
        };
        let note = Some(self.notes.join("; ")).filter(|note| !note.is_empty());
        let Findings { checked, violations, unlisted, .. } = self;
        Invariant { number, name, holds, checked, violations, unlisted, note }
    }

    /// What and where, for tests.
    #[cfg(test)]
    pub(super) fn found(&self) -> Vec<(&'static str, i32, i64)> {
        self.violations.iter().map(|one| (one.what, one.partition, one.offset)).collect()
    }

    /// A count, for tests.
    #[cfg(test)]
    pub(super) fn counted(&self, what: &str) -> u64 {
        self.checked.get(what).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_outweighs_what_is_undecided_and_only_so_many_are_listed() {
        let holds = |findings: Findings| findings.into_invariant(1, "one").holds;
        assert_eq!(holds(Findings::default()), Some(true));
        let mut findings = Findings::default();
        findings.undecided("why");
        findings.undecided("why");
        assert_eq!(findings.notes, ["why"]);
        assert_eq!(holds(findings), None);
        let mut findings = Findings::default();
        findings.undecided("why");
        for offset in 0..250 {
            findings.violation("lost", "raw", 0, offset);
        }
        let one = findings.into_invariant(1, "one");
        assert_eq!((one.holds, one.violations.len(), one.unlisted), (Some(false), 100, 150));
    }
}
