//! How often each bad thing happened to each role, and what came of it.

use std::collections::BTreeMap;
use std::fmt;

use super::bad::{BROKER, Bad, ROLES, TRAIN};
use super::run::{Outcome, Wrong};

/// The table of README.
#[derive(Default)]
pub struct Tries {
    rows: BTreeMap<String, Tried>,
    total: Tried,
}

#[derive(Clone, Default)]
struct Tried {
    planned: u64,
    /// Times that it came to happen, by role.
    reached: BTreeMap<&'static str, u64>,
    lost: u64,
    doubled: u64,
    /// Differs otherwise, or did not settle or end.
    changed: u64,
}

impl Tries {
    /// Counts a run. What went wrong in it is counted with everything that happened in it.
    pub fn count(&mut self, bad: &[Bad], outcome: &Outcome) {
        for (bad, reached) in bad.iter().zip(&outcome.reached) {
            let (what, role) = bad.kind();
            for tried in [self.rows.entry(what).or_default(), &mut self.total] {
                tried.planned += 1;
                if !*reached {
                    continue;
                }
                *tried.reached.entry(role).or_default() += 1;
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
        self.total.reached.values().sum()
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| bad thing | normalize | score | archive | train | broker | lost | doubled | changed |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        let total = ("all of them".to_owned(), self.total.clone());
        for (what, tried) in self.rows.iter().chain([(&total.0, &total.1)]) {
            write!(f, "| {what} |")?;
            for role in ROLES.into_iter().chain([TRAIN, BROKER]) {
                match tried.reached.get(role) {
                    Some(times) => write!(f, " {times} |")?,
                    None => f.write_str(" |")?,
                }
            }
            writeln!(f, " {} | {} | {} |", tried.lost, tried.doubled, tried.changed)?;
        }
        writeln!(f, "\n{} happened of {} that were planned.", self.reached(), self.total.planned)
    }
}
