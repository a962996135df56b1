//! The clinical event: what the log of record, the case library and every stage speak.
//!
//! Promises one schema (design section 2, a superset of MEDS 0.4), one codec and one
//! way from an identifier to a pseudonym. Must never hold a patient identifier:
//! whoever needs the name opens a token with [`Pseudonyms`].

mod batch;
mod codec;
mod codes;
mod links;
mod schema;
mod some;
mod split;
mod subject;
mod terms;

pub use batch::{EventRef, EventsBuilder, EventsView};
pub use codec::{SCHEMA_VERSION, decode, encode};
pub use codes::{CodeNumbers, Codes, ColumnTest, Fact};
pub use links::{Linked, Links, Said, Seen, Told};
pub use schema::{column, schema};
pub use some::SomeEvents;
pub use split::{Split, split_of};
pub use subject::{Pseudonyms, bucket};
pub use terms::{
    DAY, EventKey, HOUR, JOIN, LEAVE, MEDS_BIRTH, MEDS_DEATH, Micros, Op, PREDICTION, SECOND, SubjectId, TICK, TOKEN,
};

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
