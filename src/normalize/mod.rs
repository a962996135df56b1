//! Raw records into clinical events: decode, pseudonymize, and apply the site's rules.
//!
//! Promises that every record ends as events, as a dead letter or as a counted drop
//! (invariant 1), that events come in the order of their records, and that the same record
//! gives the same events in whatever batch it comes. No identifier leaves this room except
//! sealed in a token (invariant 7).
//!
//! The rules are the site's own: `concepts.csv` says what codes mean, `units.csv` how units are
//! written, `normalize.sql` what becomes of a fact.
//!
//! A text that means a number (`<5`, `1:40`, `5-10`, `++`) keeps its words and gets the number too,
//! so that features see it: [`reading`] says which. A number that is not plausible keeps its
//! concept and is flagged.

mod assemble;
mod codes;
mod concepts;
mod facts;
mod forest;
mod identities;
mod leaf;
mod plan;
mod reading;
mod run;
mod spellings;
mod systems;
mod units;

use std::collections::BTreeMap;
use std::fmt;

use arrow::array::RecordBatch;

pub use concepts::Concepts;
pub use forest::{Change, Decision, Entry, Forest, MOST, Move, Statement, kind_word};
pub use run::Normalizer;
pub use spellings::Spellings;

use crate::decode::Reject;
use crate::events::{EventsError, Micros};
use crate::settings::Format;

/// One raw record and where it came from.
#[derive(Copy, Clone)]
pub struct Record<'a> {
    /// Topic, or for an import the name of what is imported.
    pub topic: &'a str,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// When it reached Kafka: when a fact became known that does not say so itself. `None` for
    /// history: what does not say when it became known was known when it happened.
    pub timestamp: Option<Micros>,
    /// What the bytes are.
    pub format: Format,
    /// Assigner of identifiers that name none.
    pub assigner: &'a str,
    /// The record.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Record<'_> {
    /// Never the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format_args!("{}-{}-{}", self.topic, self.partition, self.offset);
        f.debug_struct("Record").field("place", &place).field("bytes", &self.bytes.len()).finish()
    }
}

/// What became of a batch of records.
pub struct Normalized {
    /// Events in the event schema: tokens of subjects that may be new to the log, then the events
    /// of the records in their order.
    pub events: RecordBatch,
    /// What became of each record, in their order.
    pub outcomes: Vec<Outcome>,
    /// What the records say of who is who, as far as it is not known yet; each once.
    pub statements: Vec<Statement>,
    /// FHIR resources by type and HL7 v2 segments by name that were passed over, as [`crate::decode::Notes`] counts them.
    pub unread: BTreeMap<&'static str, u64>,
    /// What was read although it is irregular, as [`crate::decode::Notes`] counts it.
    pub lenient: BTreeMap<&'static str, u64>,
    /// Events by concept whose number is not plausible; they are flagged.
    pub implausible: BTreeMap<String, u64>,
    /// Events whose code, of some code system, has no concept.
    pub unmapped: u64,
    watermarks: Vec<Watermark>,
}

impl Normalized {
    /// The latest `recorded_at` of what was read of a raw partition in this batch; `None` if nothing
    /// of it became facts.
    pub fn watermark(&self, topic: &str, partition: i32) -> Option<Micros> {
        let found = self.watermarks.iter().find(|mark| mark.partition == partition && mark.topic == topic);
        found.map(|mark| mark.recorded)
    }
}

impl fmt::Debug for Normalized {
    /// Never the events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.events.num_rows();
        f.debug_struct("Normalized").field("events", &events).field("records", &self.outcomes.len()).finish()
    }
}

/// How far a raw partition was read.
struct Watermark {
    topic: String,
    partition: i32,
    recorded: Micros,
}

/// What became of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its facts became events, tokens not counted.
    Accepted {
        /// How many.
        events: u32,
    },
    /// It cannot be read; the reason is fit for a header.
    Dead(Reject),
    /// It is deliberately not kept.
    Dropped(Drop),
}

impl Outcome {
    /// How many events it became, tokens not counted.
    pub fn events(&self) -> usize {
        match self {
            Outcome::Accepted { events } => *events as usize,
            Outcome::Dead(_) | Outcome::Dropped(_) => 0,
        }
    }
}

/// Why a record is deliberately not kept.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Drop {
    /// It holds nothing that is read.
    Nothing,
    /// `normalize.sql` left out all of its facts.
    Rules,
}

impl Drop {
    /// The label of the metric `dropped_total`.
    pub fn as_str(self) -> &'static str {
        match self {
            Drop::Nothing => "nothing",
            Drop::Rules => "rules",
        }
    }
}

/// Why a batch could not be normalized. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum NormalizeError {
    /// The plan of `normalize.sql` failed, and not for the value of a record.
    #[error("normalize.sql could not be executed because of {0}; give the process more memory or simplify the SQL")]
    Plan(&'static str),
    /// The SQL gives a row that is no fact's, or two of one fact.
    #[error(
        "normalize.sql gives two rows of one fact, or one of none; join facts to tables in which its key stands once"
    )]
    Rows,
    /// The SQL gives an event without a code.
    #[error("normalize.sql gives an event without a code; let it select facts.code where it has no other")]
    Code,
    /// The column `problem` holds another word.
    #[error(
        "the column problem of normalize.sql holds a word that is no reason of a dead letter; write 'unit' or 'field'"
    )]
    Problem,
    /// More facts than an index can count.
    #[error("a batch holds more than 2^32 facts; lower limits.batch_bytes")]
    Size,
    /// Events could not be built.
    #[error(transparent)]
    Events(#[from] EventsError),
}

impl From<arrow::error::ArrowError> for NormalizeError {
    fn from(error: arrow::error::ArrowError) -> Self {
        NormalizeError::Events(error.into())
    }
}

#[cfg(test)]
mod tests;
