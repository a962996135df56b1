//! The fold: events in log order into the state of each subject, state into features.
//!
//! Promises that state, predictions and vectors are a pure function of a partition's log:
//! the same rows in the same order give the same bits, however they were batched, whether
//! vectors were asked for or not (invariants 3 and 6). Every aggregate is computed from the
//! samples that survive at the prediction, in the order (time, arrival), so that late,
//! corrected and withdrawn facts leave no trace of the way they came.
//!
//! The order of one event: predictions of its subject that fall due at or before its
//! `recorded_at`, with the state as it stood; then the event; then predictions *on* it.
//!
//! What links between identifiers say is taken in as [`Links`](crate::events::Links) reads it: a
//! subject that loses an identifier forgets what was told under it, and what is moved to the other
//! comes there as rows of the log. No prediction is made *on* a moved row.
//!
//! Nobody needs to be in memory of whom nothing is due: such a subject may [rest](Fold::rest), and
//! is folded anew from its own rows when it is told of again. Nor does a fact that no window reaches
//! any more: the others may be [trimmed](Fold::trim), and whoever is told of something that needs
//! what has gone is folded anew too. That leaves no trace either.
//!
//! Must never do I/O, read a clock, or depend on the order of a hash map.

mod aggregate;
mod clock;
mod codes;
mod derived;
mod describe;
mod due;
mod encounter;
mod fold;
mod formula;
mod grid;
mod lever;
mod parse;
mod reach;
mod rest;
mod series;
mod spec;
mod subject;
mod terms;
mod text;
mod trigger;
mod vector;

#[cfg(test)]
pub(crate) mod tests;

pub use describe::Description;
pub use due::{Due, NOT_OBSERVED, Prediction};
pub use fold::{Applied, CATCH_UP, Fold};
pub use lever::{Levels, Vector};
pub use rest::Asleep;
pub use spec::FeatureSpec;
pub use terms::words;
pub use trigger::{RawTrigger, Trigger, TriggerKind};

/// Marks an absent index among the small integers that facts and rules hold.
const NONE: u16 = u16::MAX;
