//! What can go wrong with Kafka.

use std::time::Duration;

/// An error of this room; its text names topics and offsets, never a record's content.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// librdkafka refused the configuration of a client.
    #[error("kafka client '{client}' cannot be made: {cause}; check [kafka] and [kafka.client]")]
    Client {
        /// Which of our clients.
        client: &'static str,
        /// What librdkafka says.
        cause: rdkafka::error::KafkaError,
    },
    /// No broker answered.
    #[error(
        "no kafka broker answers at {brokers} within {deadline:?} ({cause}); check kafka.brokers and that the broker runs"
    )]
    Unreachable {
        /// `kafka.brokers`.
        brokers: String,
        /// How long was waited.
        deadline: Duration,
        /// What librdkafka says.
        cause: rdkafka::error::KafkaError,
    },
    /// A topic could not be made.
    #[error("topic {topic} cannot be made: {cause}; make it by hand or allow this client to")]
    Topic {
        /// Its name.
        topic: String,
        /// What the broker says.
        cause: String,
    },
    /// A topic has another number of partitions than the settings say.
    #[error(
        "topic {topic} has {found} partitions, topics.partitions says {wanted}; a subject's owner partition follows from that number, so set topics.partitions = {found} on a new library, or use a new topic"
    )]
    Partitions {
        /// Its name.
        topic: String,
        /// Partitions that it has.
        found: usize,
        /// Partitions of the settings.
        wanted: u32,
    },
    /// The offset needed next is not in the log any more (or not yet).
    #[error(
        "{topic}-{partition} is needed from offset {needed}, but holds {low} to {high}; nothing is skipped: restore the topic or the library, or reset the group on purpose"
    )]
    Lost {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The offset needed.
        needed: i64,
        /// First offset that is there.
        low: i64,
        /// End of the log.
        high: i64,
    },
    /// What the group committed is gone, though its outputs show that it had committed.
    #[error(
        "the group {group} has no committed offsets, but {writes} holds what it wrote: they have expired or were deleted, or kafka.group was changed; going on would publish twice. Set kafka.group back, or the group's offsets by hand (kafka-consumer-groups.sh --group {group} --reset-offsets), or begin anew with other topics"
    )]
    Forgotten {
        /// The consumer group.
        group: String,
        /// Topic that it writes in the transactions that commit its offsets.
        writes: String,
    },
    /// A newer member of the same instance has this one's place in the group: another process, or this
    /// one, which a broker that was away has let join twice.
    #[error(
        "the group of '{role}' has a newer member with this instance; unless a broker was just away, another process has the same one: give each process that runs the same roles an instance of its own (AUSCULT__INSTANCE)"
    )]
    Fenced {
        /// Role of the group.
        role: &'static str,
    },
    /// The group is at rest and leaves partitions to nobody.
    #[error("the group of '{role}' leaves {count} partitions to nobody; the role joins it again")]
    Orphans {
        /// Role of the group.
        role: &'static str,
        /// How many.
        count: usize,
    },
    /// The group took this process for dead and has no generation for it.
    #[error("the consumer group has no generation for this member; it joins anew")]
    NoGroup,
    /// What the group says of a member cannot be read.
    #[error("the assignment of a member of the consumer group cannot be read; is another program in this group?")]
    Assignment,
    /// The messages of a transaction could not be made.
    #[error("the messages of a transaction cannot be made: {0}")]
    Fill(Box<dyn std::error::Error + Send + Sync>),
    /// Consuming failed for good.
    #[error("reading from kafka failed: {0}")]
    Consume(rdkafka::error::KafkaError),
    /// A request about offsets or metadata failed.
    #[error("asking kafka for {what} failed: {cause}")]
    Ask {
        /// For what.
        what: &'static str,
        /// What librdkafka says.
        cause: rdkafka::error::KafkaError,
    },
    /// A step of a transaction failed, so that it is aborted, by its producer or the next of that name.
    #[error("a transaction failed at its {step}: {cause}")]
    Transaction {
        /// begin, offsets, commit or abort.
        step: &'static str,
        /// What librdkafka says.
        cause: rdkafka::error::KafkaError,
    },
    /// A message was not delivered.
    #[error("a message to {topic} was not delivered: {cause}")]
    Delivery {
        /// Topic.
        topic: String,
        /// What the broker says.
        cause: rdkafka::error::KafkaError,
    },
    /// The broker refuses the time of a message.
    #[error(
        "the broker refuses the time of a message to {topic}: by this machine's clock it is further in the future than message.timestamp.after.max.ms allows; set the clocks of this machine and of the brokers"
    )]
    Clock {
        /// Topic.
        topic: String,
    },
    /// A wait ran out.
    #[error("{what} took longer than {deadline:?}")]
    Deadline {
        /// Name of the wait (invariant 9).
        what: &'static str,
        /// Its deadline.
        deadline: Duration,
    },
    /// A thread of this room could not be started or ended before its time.
    #[error("the kafka thread '{0}' is gone")]
    Thread(&'static str),
}

impl KafkaError {
    /// Why a message to `topic` was not delivered.
    pub(super) fn delivery(topic: &str, cause: rdkafka::error::KafkaError) -> Self {
        use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode as Code};
        let topic = topic.to_owned();
        match cause {
            Cause::MessageProduction(Code::InvalidTimestamp) => KafkaError::Clock { topic },
            cause => KafkaError::Delivery { topic, cause },
        }
    }

    /// Whether a transaction was aborted because its member has joined a newer generation of the group.
    pub(super) fn is_of_older_generation(&self) -> bool {
        use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode as Code};
        match self {
            KafkaError::Transaction { step: "offsets", cause: Cause::Transaction(error) } => {
                error.code() == Code::IllegalGeneration
            }
            _ => false,
        }
    }

    /// Whether the broker does not know what it was asked for.
    pub(super) fn is_unsupported(&self) -> bool {
        use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode as Code};
        matches!(self, KafkaError::Ask { cause: Cause::GroupListFetch(Code::UnsupportedFeature), .. })
    }

    /// Whether a message was not taken because of its length.
    pub fn is_too_long(&self) -> bool {
        use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode as Code};
        matches!(self, KafkaError::Delivery { cause: Cause::MessageProduction(Code::MessageSizeTooLarge), .. })
    }
}
