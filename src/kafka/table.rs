//! Topics read without a group: a partition whole to its present end, or a topic followed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
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
    let consumer = open(kafka)?;
    assign(&consumer, topic, partitions.iter().map(|number| (*number, Offset::Beginning)))?;
    to_end(&consumer, topic, partitions.iter().copied(), deadline, |record| {
        each(record.partition(), record.key().unwrap_or(&[]), record.payload());
    })
}

/// Hands over what lies between the place of an assigned consumer and the present end.
fn to_end(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
    deadline: Duration,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), KafkaError> {
    let started = Instant::now();
    let mut ends = HashMap::new();
    for number in partitions {
        let (low, end) = watermarks(consumer, topic, number, deadline)?;
        if low < end {
            ends.insert(number, end);
        }
    }
    // The end is an event of its own, since markers occupy offsets; but it never comes while others
    // keep writing, so a record at the end seen first is the end too.
    while !ends.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                each(&record);
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

/// Reads what is committed in one partition of a topic from the offset `from` (or else from its
/// beginning) up to and with the offset `last`, which must be there; `each` is given the offset and value of every record.
///
/// # Errors
/// [`KafkaError::Lost`] if the log no longer holds `from`; if no broker answers, or nothing more
/// before `last` for as long as `deadline`.
pub fn read_range(
    kafka: &Kafka,
    topic: &str,
    partition: i32,
    (from, last): (Option<i64>, i64),
    deadline: Duration,
    mut each: impl FnMut(i64, &[u8]),
) -> Result<(), KafkaError> {
    let consumer = open(kafka)?;
    let (low, high) = watermarks(&consumer, topic, partition, deadline)?;
    let mut heard = Instant::now();
    let from = from.unwrap_or(low);
    if from < low {
        return Err(KafkaError::Lost { topic: topic.to_owned(), partition, needed: from, low, high });
    }
    if from > last {
        return Ok(());
    }
    assign(&consumer, topic, [(partition, Offset::Offset(from))].into_iter())?;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) if record.offset() <= last => {
                heard = Instant::now();
                each(record.offset(), record.payload().unwrap_or_default());
                if record.offset() == last {
                    return Ok(());
                }
            }
            Some(Ok(_)) => return Ok(()),
            Some(Err(Cause::PartitionEOF(_))) | None => {}
            Some(Err(cause)) => tracing::warn!(%cause, "reading a part of a topic, retrying"),
        }
        if heard.elapsed() > deadline {
            return Err(KafkaError::Deadline { what: "reading a part of a topic", deadline });
        }
    }
}

/// Follows a topic from its beginning.
pub struct Follower {
    consumer: BaseConsumer<Quiet>,
    topic: String,
    partitions: u32,
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
        let consumer = open(kafka)?;
        assign(&consumer, topic, (0..partitions as i32).map(|number| (number, Offset::Beginning)))?;
        Ok(Follower { consumer, topic: topic.to_owned(), partitions })
    }

    /// The values up to the present end of the topic, waiting for them. To be called first.
    ///
    /// # Errors
    /// If no broker answers, or the end is not reached within `deadline`.
    pub fn catch_up(&self, deadline: Duration) -> Result<Vec<Vec<u8>>, KafkaError> {
        let mut values = Vec::new();
        to_end(&self.consumer, &self.topic, 0..self.partitions as i32, deadline, |record| {
            values.extend(record.payload().map(<[u8]>::to_vec));
        })?;
        Ok(values)
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

/// The numbers of a topic's partitions.
pub(super) fn partitions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    deadline: Duration,
) -> Result<Vec<i32>, KafkaError> {
    let metadata = consumer
        .fetch_metadata(Some(topic), deadline)
        .map_err(|cause| KafkaError::Ask { what: "a topic's partitions", cause })?;
    Ok(metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect())
}

/// First offset and end of a partition.
pub(super) fn watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    deadline: Duration,
) -> Result<(i64, i64), KafkaError> {
    let started = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, deadline) {
            // It is new, or its leader is another by now: soon somebody knows.
            Err(Cause::MetadataFetch(
                RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable,
            )) if started.elapsed() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            answer => return answer.map_err(|cause| KafkaError::Ask { what: "watermarks", cause }),
        }
    }
}

/// Reaching the end of a partition is an event here, and no error to be logged.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: Cause, reason: &str) {
        if !matches!(error, Cause::Global(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "kafka");
        }
    }
}

impl ConsumerContext for Quiet {}

pub(super) fn open(kafka: &Kafka) -> Result<BaseConsumer<Quiet>, KafkaError> {
    client::reader(kafka, "table").create_with_context(Quiet).map_err(made)
}

pub(super) fn assign(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    places: impl Iterator<Item = (i32, Offset)>,
) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for (number, offset) in places {
        list.add_partition_offset(topic, number, offset).map_err(made)?;
    }
    consumer.assign(&list).map_err(made)
}

fn made(cause: Cause) -> KafkaError {
    KafkaError::Client { client: "table", cause }
}
