//! A site: the folder of what a hospital edits, read, layered and validated whole.
//!
//! Promises that every problem is found at once, each with file, key and remedy, and that
//! no secret is printed. This room knows `auscult.toml`; the other files of a site travel
//! through it as text, and the stages that understand them validate them.

mod files;
mod format;
mod problem;
mod raw;
mod secret;
mod span;
mod valid;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use files::{SiteFiles, TextFile};
pub use format::Format;
pub use problem::Problem;
pub use secret::Secret;
pub use span::parse_span;
use url::Url;

/// Everything of `auscult.toml`, validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this daemon's instance, unique among the processes of a site's role: part of the transactional ids.
    pub instance: String,
    /// How to reach Kafka.
    pub kafka: Kafka,
    /// Raw topics and own topics.
    pub topics: Topics,
    /// Case library: Delta tables below this URL. It ends in `/`, so that [`Url::join`] goes below it.
    pub library: Url,
    /// Model registry; it too ends in `/`.
    pub registry: Url,
    /// Secret of the pseudonyms.
    pub identity: Identity,
    /// Clock of the predictions.
    pub time: Time,
    /// Bounds.
    pub limits: Limits,
    /// When the archive commits.
    pub archive: Archive,
    /// How long a training may go on without saying that it got further (`train.deadline`).
    pub train_deadline: Duration,
    /// Whether alerts name the patient (`alerts.identify`).
    pub identify: bool,
    /// Address of the role `serve`.
    pub listen: SocketAddr,
    /// How long a drain may take (`shutdown.deadline`).
    pub shutdown_deadline: Duration,
}

/// How to reach Kafka.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// Prefix of the consumer groups and transactional ids: `auscult` gives `auscult-normalize`, `auscult-score` ...
    pub group: String,
    /// Any other client property of librdkafka (TLS, SASL); values may be secrets.
    pub client: BTreeMap<String, Secret>,
    /// Deadline of one broker request, of a transaction's parts and of the start's checks.
    pub deadline: Duration,
    /// How long a process may be silent before its group gives its partitions to the others.
    pub session: Duration,
}

/// Raw topics and own topics.
#[derive(Clone, Debug)]
pub struct Topics {
    /// What is listened to.
    pub raw: Vec<RawTopic>,
    /// Log of record, default `auscult.events`.
    pub events: String,
    /// Default `auscult.scores`.
    pub scores: String,
    /// Default `auscult.alerts`.
    pub alerts: String,
    /// Compacted, default `auscult.alert-state`.
    pub alert_state: String,
    /// Compacted, default `auscult.models`.
    pub models: String,
    /// Default `auscult.dead-letter`.
    pub dead_letter: String,
    /// Compacted, default `auscult.redriven`: which dead letters were sent back.
    pub redriven: String,
    /// Default `auscult.feedback`.
    pub feedback: String,
    /// Links between identifiers that records state, default `auscult.links`.
    pub links: String,
    /// Compacted: to which subject an identifier leads, default `auscult.identity`.
    pub identity: String,
    /// Partitions of a topic made at start.
    pub partitions: u32,
    /// Replicas of a topic made at start.
    pub replication: u32,
    /// Retention of a topic made at start that is not compacted.
    pub retention: Duration,
}

/// One raw topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawTopic {
    /// Name in Kafka.
    pub topic: String,
    /// What its records are.
    pub format: Format,
    /// Assigner of identifiers that name none.
    pub assigner: String,
}

/// Where the secret of the pseudonyms comes from.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Given: in the environment, or the content of the file that `identity.key` names.
    Given(Secret),
    /// None given: made once in this file beside the library, mode 0600.
    Made(PathBuf),
}

/// The clock of the predictions that fall due.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Time {
    /// What makes it go.
    pub clock: Clock,
    /// Least advance of a raw partition's watermark between two ticks.
    pub tick: Duration,
    /// How long a caught-up raw partition must be quiet to count as idle.
    pub idle: Duration,
    /// Zone of times that name no offset (HL7 v2).
    pub zone: chrono_tz::Tz,
}

/// What makes the clock go.
#[derive(Copy, Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The data, and the wall clock once caught up.
    Wall,
    /// Never beyond the data: replays, tests, demos faster than life.
    Log,
    /// No ticks: a prediction waits for the subject's own next event.
    Events,
}

/// Bounds that keep memory and messages small.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Limits {
    /// Longest raw record that is read; a longer one is a dead letter.
    pub record_bytes: usize,
    /// Most records in one batch.
    pub batch_records: usize,
    /// Most bytes in one batch, and about the size of one message of `auscult.events`.
    pub batch_bytes: usize,
    /// Most bytes between the polling thread and a role (invariant 8).
    pub queue_bytes: usize,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// A subject without an open encounter of whom nothing became known for so long leaves memory, and
    /// is read back from the library when it is told of again. Of the others memory holds what windows
    /// reach from predictions so long before their last record on.
    pub inactive: Duration,
    /// Most bytes of feature values in memory during a training or an evaluation; a fit has to do with
    /// as many.
    pub train_bytes: usize,
}

/// When the archive commits.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Archive {
    /// At least this often when there is something.
    pub every: Duration,
    /// Or when so many rows wait.
    pub rows: usize,
    /// How often the role `train` looks which predictions' labels have settled.
    pub settle: Duration,
}

impl Limits {
    /// Longest message that may be written: a dead letter is a whole raw record with its headers,
    /// an event holds at most the text of one.
    pub fn message_bytes(&self) -> usize {
        self.record_bytes + self.batch_bytes + (64 << 10)
    }
}
