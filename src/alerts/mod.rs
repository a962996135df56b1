//! From a score to a decision, from a decision to a message.
//!
//! Pure: no I/O, no Kafka, no clock; the time is always an argument. Promises that the same
//! policy, memory and scores give the same alerts with the same ids (so that a replay can be
//! told from news), and that every message is JSON of the shape in `specs/interfaces.md`
//! section 3, without a number that is not finite.
//!
//! The patient's identifier may stand in an alert's `subject` and in its RiskAssessment's
//! `subject`, nowhere else: never in a score, a header, a key, an explanation or an error.

mod event;
mod explain;
mod fhir;
mod memory;
mod policy;
mod reason;
mod score;
mod stamp;
mod text;

#[cfg(test)]
mod tests;

pub use event::{Alert, CloudEvent, Identifier, ModelName, alert_id, cloud_event};
pub use explain::{Contribution, Explained, Instead, Otherwise};
pub use memory::{Decision, Kind, Memory, decide};
pub use policy::{Clear, Outcome, Policy, RawPolicy, RawTier, Tier};
pub use reason::Reason;
pub use score::{Score, Status, score_json};

/// Why an alert or a score cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// The base or a contribution is not a finite number.
    #[error("an explanation holds a number that is not finite; the model that made it is broken")]
    NotFinite,
    /// Invariant 10 does not hold.
    #[error("base and contributions of an explanation do not add up to the risk; the model that made it is broken")]
    NotAdditive,
    /// JSON could not be written.
    #[error("a score or alert cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}
