//! A plain idempotent producer: what `feed`, the demo and announcements send with.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{KafkaError, client};
use crate::settings::Settings;

/// Sends records in order, each exactly once in its partition.
pub struct Feeder {
    producer: BaseProducer,
    deadline: Duration,
}

impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Feeder")
    }
}

impl Feeder {
    /// Opens the producer; the broker is first spoken to by [`send`](Self::send).
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn open(settings: &Settings) -> Result<Self, KafkaError> {
        let mut config = client::producer(&settings.kafka, "feed", settings.limits.message_bytes());
        config.set("linger.ms", "2");
        let producer = config.create().map_err(|cause| KafkaError::Client { client: "feed", cause })?;
        Ok(Feeder { producer, deadline: settings.kafka.deadline })
    }

    /// Queues one record; waits for room when the queue is full.
    ///
    /// # Errors
    /// If the record is too large or there is no room within the deadline.
    pub fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: &[u8],
        header: Option<(&str, &str)>,
    ) -> Result<(), KafkaError> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).payload(value);
        record.key = key;
        record.headers =
            header.map(|(key, value)| OwnedHeaders::new_with_capacity(1).insert(Header { key, value: Some(value) }));
        let started = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((Cause::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if started.elapsed() > self.deadline {
                        return Err(KafkaError::Deadline { what: "room in the feed's queue", deadline: self.deadline });
                    }
                    self.producer.poll(Duration::from_millis(5));
                    record = back;
                }
                Err((cause, _)) => return Err(KafkaError::Delivery { topic: topic.to_owned(), cause }),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until everything queued was delivered.
    ///
    /// # Errors
    /// If that takes longer than `deadline`.
    pub fn flush(&self, deadline: Duration) -> Result<(), KafkaError> {
        self.producer
            .flush(deadline)
            .map_err(|_| KafkaError::Deadline { what: "delivery of a feed's records", deadline })
    }
}
