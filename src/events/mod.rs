//! The clinical event: what the log of record, the case library and every stage speak.
//!
//! Promises one schema (design section 2, a superset of MEDS 0.4), one codec and one
//! way from an identifier to a pseudonym. Must never hold a patient identifier:
//! whoever needs the name opens a token with [`Pseudonyms`].

mod batch;
mod codec;
mod schema;
mod split;
mod subject;

pub use batch::{EventRef, EventsBuilder, EventsView};
pub use codec::{SCHEMA_VERSION, decode, encode};
pub use schema::{column, schema};
pub use split::{Split, split_of};
pub use subject::{Pseudonyms, bucket};

/// Microseconds since the Unix epoch, UTC.
pub type Micros = i64;

/// One second in [`Micros`].
pub const SECOND: Micros = 1_000_000;
/// One hour in [`Micros`].
pub const HOUR: Micros = 3_600 * SECOND;
/// One day in [`Micros`].
pub const DAY: Micros = 24 * HOUR;

/// MEDS code of a birth; its time is the date of birth.
pub const MEDS_BIRTH: &str = "MEDS_BIRTH";
/// MEDS code of a death.
pub const MEDS_DEATH: &str = "MEDS_DEATH";
/// Code of a tick: a row without subject that says how far a raw partition has been read.
pub const TICK: &str = "TICK";
/// Code of the static event whose text is the sealed identifier of the subject.
pub const TOKEN: &str = "PATIENT//TOKEN";
/// Code that labelling inserts at every prediction time, so that an ACES task can start there.
pub const PREDICTION: &str = "AUSCULT//PREDICTION";

/// Pseudonym of a patient: a keyed hash of (assigner, identifier).
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SubjectId(pub i64);

/// Identity of the source fact: a redelivery has the same key, a correction too.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct EventKey(pub [u8; 16]);

/// What an event does to the fact it names.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// The fact holds; under a known key with other content it replaces.
    Assert,
    /// The fact was entered in error, cancelled or withdrawn.
    Retract,
}

impl Op {
    /// The word written in the `op` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Assert => "assert",
            Op::Retract => "retract",
        }
    }

    /// Reads the word of the `op` column or of a flat record's `op` field.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "assert" => Some(Op::Assert),
            "retract" => Some(Op::Retract),
            _ => None,
        }
    }
}

/// Why bytes or a batch are not events.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The batch lacks a column of the event schema, or has it with another type.
    #[error("column '{0}' of an event batch is missing or has another type; write it with the event schema")]
    Column(&'static str),
    /// A cell holds what its column cannot mean.
    #[error("column '{0}' of an event batch holds a value outside its closed list")]
    Cell(&'static str),
    /// Arrow could not build, encode or decode a batch.
    #[error("arrow could not build or read an event batch: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The message holds no batch.
    #[error("an event message holds no record batch; it was not written by auscult or is truncated")]
    Empty,
    /// A token that this site did not seal, or cannot seal.
    #[error("a patient token cannot be sealed or opened; it was made under another identity.key")]
    Token,
    /// The key of the pseudonyms is too short to be a secret.
    #[error("the key of the pseudonyms has {0} bytes; give at least 16 random bytes")]
    ShortKey(usize),
}
