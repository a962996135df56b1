//! A topic, or parts of one, read once, to where it ended at the start, without a group.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;

use super::table::{Quiet, assign, open, watermarks};
use super::{KafkaError, client};
use crate::settings::Kafka;

/// A record of a scan.
#[derive(Clone)]
pub struct Found {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Its timestamp in Kafka, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Its value; a tombstone's is empty.
    pub bytes: Vec<u8>,
    /// Its headers; of a value that is no text nothing.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for Found {
    /// Never the bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = format_args!("{}-{}", self.partition, self.offset);
        f.debug_struct("Found").field("place", &place).field("bytes", &self.bytes.len()).finish()
    }
}

/// The records committed in a topic when the scan was opened, partition by partition in order.
pub struct Scan {
    consumer: BaseConsumer<Quiet>,
    /// First offset of each partition.
    lows: HashMap<i32, i64>,
    /// Ends of the partitions not read to them yet.
    ends: HashMap<i32, i64>,
    deadline: Duration,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Scan {
    /// Begins to read the first `partitions` partitions of `topic`.
    ///
    /// # Errors
    /// If no broker answers within `kafka.deadline`.
    pub fn open(kafka: &Kafka, topic: &str, partitions: usize) -> Result<Self, KafkaError> {
        let consumer = open(kafka)?;
        let (mut lows, mut ends) = (HashMap::new(), HashMap::new());
        for number in 0..partitions as i32 {
            let (low, end) = watermarks(&consumer, topic, number, kafka.deadline)?;
            lows.insert(number, low);
            if low < end {
                ends.insert(number, end);
            }
        }
        assign(&consumer, topic, ends.keys().map(|number| (*number, Offset::Beginning)))?;
        Ok(Scan { consumer, lows, ends, deadline: kafka.deadline })
    }

    /// Begins to read parts of a topic: partition, first offset, and end, which is not read any more.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn parts(
        kafka: &Kafka,
        topic: &str,
        parts: impl IntoIterator<Item = (i32, i64, i64)>,
    ) -> Result<Self, KafkaError> {
        let mut config = client::reader(kafka, "table");
        // What retention takes away meanwhile must not be passed over in silence.
        config.set("auto.offset.reset", "error");
        let consumer =
            config.create_with_context(Quiet).map_err(|cause| KafkaError::Client { client: "table", cause })?;
        let (mut lows, mut ends) = (HashMap::new(), HashMap::new());
        for (number, from, end) in parts.into_iter().filter(|(_, from, end)| from < end) {
            lows.insert(number, from);
            ends.insert(number, end);
        }
        assign(&consumer, topic, lows.iter().map(|(number, from)| (*number, Offset::Offset(*from))))?;
        Ok(Scan { consumer, lows, ends, deadline: kafka.deadline })
    }

    /// First offset that a partition held at the start.
    pub fn low(&self, partition: i32) -> Option<i64> {
        self.lows.get(&partition).copied()
    }

    /// Records before the ends, markers of transactions among them: how much there is to read at most.
    pub fn len(&self) -> u64 {
        self.ends.iter().map(|(number, end)| (end - self.lows.get(number).unwrap_or(end)).unsigned_abs()).sum()
    }

    /// Whether there is nothing left to read.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The next record, or `None` at the end of all partitions.
    ///
    /// # Errors
    /// If nothing comes within `kafka.deadline` though the ends are not reached, or the first offset of
    /// a part is no longer in the log.
    pub fn read(&mut self) -> Result<Option<Found>, KafkaError> {
        let started = Instant::now();
        while !self.ends.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    // A partition that ended may have grown since.
                    let Some(&end) = self.ends.get(&record.partition()) else { continue };
                    if record.offset() + 1 >= end {
                        self.ends.remove(&record.partition());
                    }
                    if record.offset() < end {
                        return Ok(Some(found(&record)));
                    }
                }
                // What is left up to the end are markers, or a transaction that is still open.
                Some(Err(Cause::PartitionEOF(number))) => {
                    self.ends.remove(&number);
                }
                Some(Err(cause @ Cause::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    return Err(KafkaError::Consume(cause));
                }
                Some(Err(cause)) => tracing::warn!(%cause, "reading a topic, retrying"),
                None => {}
            }
            if started.elapsed() > self.deadline {
                return Err(KafkaError::Deadline { what: "reading a topic to its end", deadline: self.deadline });
            }
        }
        Ok(None)
    }
}

fn found(record: &BorrowedMessage<'_>) -> Found {
    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap_or_default();
    let headers =
        record.headers().map(|all| all.iter().map(|header| (header.key.to_owned(), text(header.value))).collect());
    Found {
        partition: record.partition(),
        offset: record.offset(),
        timestamp_ms: record.timestamp().to_millis().unwrap_or(0),
        bytes: record.payload().unwrap_or_default().to_vec(),
        headers: headers.unwrap_or_default(),
    }
}
