//! Topics read without a group: a partition whole to its present end, or a topic followed.

use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{KafkaError, Partition, client};
use crate::settings::Kafka;

/// Reads what is committed in a partition from its beginning to its present end, in order.
///
/// # Errors
/// If no broker answers, or the end is not reached within `deadline`.
pub fn read_partition(
    kafka: &Kafka,
    partition: &Partition,
    deadline: Duration,
    mut each: impl FnMut(&[u8], Option<&[u8]>),
) -> Result<(), KafkaError> {
    let consumer = assign(kafka, &partition.topic, partition.number..partition.number + 1)?;
    let started = Instant::now();
    let (_, end) = consumer
        .fetch_watermarks(&partition.topic, partition.number, deadline)
        .map_err(|cause| KafkaError::Ask { what: "watermarks", cause })?;
    // The end is an event of its own, since markers occupy offsets; but it never comes while others
    // keep writing, so a record at the end seen first is the end too.
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                each(record.key().unwrap_or(&[]), record.payload());
                if record.offset() + 1 >= end {
                    return Ok(());
                }
            }
            Some(Err(Cause::PartitionEOF(_))) => return Ok(()),
            Some(Err(cause)) => tracing::warn!(%cause, "reading a compacted topic, retrying"),
            None => {}
        }
        if started.elapsed() > deadline {
            return Err(KafkaError::Deadline { what: "reading a compacted topic to its end", deadline });
        }
    }
}

/// Follows a topic from its beginning.
pub struct Follower {
    consumer: BaseConsumer<Quiet>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Follower")
    }
}

impl Follower {
    /// Starts to follow the first `partitions` partitions of `topic`.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn open(kafka: &Kafka, topic: &str, partitions: u32) -> Result<Self, KafkaError> {
        Ok(Follower { consumer: assign(kafka, topic, 0..partitions as i32)? })
    }

    /// The values that have arrived since, without waiting.
    pub fn drain(&self) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        while let Some(next) = self.consumer.poll(Duration::ZERO) {
            match next {
                Ok(record) => values.extend(record.payload().map(<[u8]>::to_vec)),
                Err(Cause::PartitionEOF(_)) => {}
                Err(cause) => {
                    tracing::warn!(%cause, "following a topic, retrying");
                    break;
                }
            }
        }
        values
    }
}

/// Reaching the end of a partition is an event here, and no error to be logged.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: Cause, reason: &str) {
        if !matches!(error, Cause::Global(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "kafka");
        }
    }
}

impl ConsumerContext for Quiet {}

fn assign(kafka: &Kafka, topic: &str, partitions: std::ops::Range<i32>) -> Result<BaseConsumer<Quiet>, KafkaError> {
    let made = |cause| KafkaError::Client { client: "table", cause };
    let consumer: BaseConsumer<Quiet> = client::reader(kafka, "table").create_with_context(Quiet).map_err(made)?;
    let mut list = TopicPartitionList::new();
    for number in partitions {
        list.add_partition_offset(topic, number, Offset::Beginning).map_err(made)?;
    }
    consumer.assign(&list).map_err(made)?;
    Ok(consumer)
}
