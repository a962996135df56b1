//! Topics read without a group: a partition whole to its present end, or a topic followed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{KafkaError, client};
use crate::settings::Kafka;

/// Reads what is committed in some partitions of a topic from their beginning to their present
/// end; `each` is given the partition, key and value of every record, in order by partition.
///
/// # Errors
/// If no broker answers, or the ends are not reached within `deadline`.
pub fn read_partitions(
    kafka: &Kafka,
    topic: &str,
    partitions: &[i32],
    deadline: Duration,
    mut each: impl FnMut(i32, &[u8], Option<&[u8]>),
) -> Result<(), KafkaError> {
    let started = Instant::now();
    let consumer = assign(kafka, topic, partitions.iter().copied())?;
    let mut ends = HashMap::new();
    for &number in partitions {
        let (low, end) = consumer
            .fetch_watermarks(topic, number, deadline)
            .map_err(|cause| KafkaError::Ask { what: "watermarks", cause })?;
        if low < end {
            ends.insert(number, end);
        }
    }
    // The end is an event of its own, since markers occupy offsets; but it never comes while others
    // keep writing, so a record at the end seen first is the end too.
    while !ends.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                each(record.partition(), record.key().unwrap_or(&[]), record.payload());
                if ends.get(&record.partition()).is_some_and(|end| record.offset() + 1 >= *end) {
                    ends.remove(&record.partition());
                }
            }
            Some(Err(Cause::PartitionEOF(number))) => {
                ends.remove(&number);
            }
            Some(Err(cause)) => tracing::warn!(%cause, "reading a compacted topic, retrying"),
            None => {}
        }
        if started.elapsed() > deadline {
            return Err(KafkaError::Deadline { what: "reading a compacted topic to its end", deadline });
        }
    }
    Ok(())
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

fn assign(
    kafka: &Kafka,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
) -> Result<BaseConsumer<Quiet>, KafkaError> {
    let made = |cause| KafkaError::Client { client: "table", cause };
    let consumer: BaseConsumer<Quiet> = client::reader(kafka, "table").create_with_context(Quiet).map_err(made)?;
    let mut list = TopicPartitionList::new();
    for number in partitions {
        list.add_partition_offset(topic, number, Offset::Beginning).map_err(made)?;
    }
    consumer.assign(&list).map_err(made)?;
    Ok(consumer)
}
