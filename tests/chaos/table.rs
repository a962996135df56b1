//! How often each bad thing happened to each role, and what came of it.

use std::collections::BTreeMap;
use std::fmt;

use super::bad::Bad;
use super::run::{Outcome, Wrong};

/// The table of README.
#[derive(Default)]
pub struct Tries {
    rows: BTreeMap<(String, &'static str), Tried>,
    total: Tried,
}

#[derive(Copy, Clone, Default)]
struct Tried {
    planned: u64,
    reached: u64,
    lost: u64,
    doubled: u64,
    /// Differs otherwise, or did not settle or end.
    changed: u64,
}

impl Tries {
    /// Counts a run. What went wrong in it is counted with everything that happened in it.
    pub fn count(&mut self, bad: &[Bad], outcome: &Outcome) {
        for (bad, reached) in bad.iter().zip(&outcome.reached) {
            for tried in [self.rows.entry(bad.kind()).or_default(), &mut self.total] {
                tried.planned += 1;
                if !*reached {
                    continue;
                }
                tried.reached += 1;
                match &outcome.wrong {
                    None => {}
                    Some(Wrong::Stuck(_)) => tried.changed += 1,
                    Some(Wrong::Differs(difference)) => {
                        tried.lost += u64::from(difference.is_loss());
                        tried.doubled += u64::from(difference.is_double());
                        tried.changed += u64::from(difference.is_change());
                    }
                }
            }
        }
    }

    /// How many bad things happened in all.
    pub fn reached(&self) -> u64 {
        self.total.reached
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| bad thing | role | tried | lost | doubled | changed |\n|---|---|---|---|---|---|")?;
        let mut row = |what: &str, role: &str, tried: &Tried| {
            let Tried { reached, lost, doubled, changed, .. } = tried;
            writeln!(f, "| {what} | {role} | {reached} | {lost} | {doubled} | {changed} |")
        };
        for ((what, role), tried) in &self.rows {
            row(what, role, tried)?;
        }
        row("all of them", "", &self.total)?;
        writeln!(f, "\n{} were planned; tried is what came to happen.", self.total.planned)
    }
}
