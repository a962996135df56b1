//! Outputs and consumed offsets in one Kafka transaction.
//!
//! There is no step between "prepared" and "committed": an [`Outbox`] is published whole
//! with the offsets it came from, or not at all (invariants 2 and 5). After an error the
//! transaction is aborted and the role starts again from what is committed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};

use super::offset::offset_list;
use super::{KafkaError, NextOffset, Partition, client};
use crate::settings::Settings;
use crate::telemetry::{fault, is_loose};

/// How long a commit sleeps between two looks at the deliveries.
const DELIVERY_STEP: Duration = Duration::from_micros(250);

/// Messages of one transaction, their bytes in one buffer.
#[derive(Default, Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    messages: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    topic: usize,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    key_end: usize,
    start: usize,
    end: usize,
    headers: Vec<(&'static str, String)>,
    /// Whether it deletes its key from a compacted topic.
    tombstone: bool,
}

impl Outbox {
    /// Forgets the messages and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Adds a message to the topic with that index in [`Transactions::open`]'s list.
    pub fn push(&mut self, topic: usize, key: &[u8], value: &[u8]) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let end = self.bytes.len();
        self.messages.push(Entry {
            topic,
            partition: None,
            timestamp_ms: None,
            key_end,
            start,
            end,
            headers: Vec::new(),
            tombstone: false,
        });
        self
    }

    /// Adds the deletion of a key of a compacted topic.
    pub fn push_tombstone(&mut self, topic: usize, key: &[u8]) {
        self.push(topic, key, &[]);
        if let Some(last) = self.messages.last_mut() {
            last.tombstone = true;
        }
    }

    /// Sends the last message to this partition, whatever its key.
    pub fn to_partition(&mut self, partition: i32) -> &mut Self {
        if let Some(last) = self.messages.last_mut() {
            last.partition = Some(partition);
        }
        self
    }

    /// Gives the last message this timestamp.
    pub fn at(&mut self, timestamp_ms: i64) -> &mut Self {
        if let Some(last) = self.messages.last_mut() {
            last.timestamp_ms = Some(timestamp_ms);
        }
        self
    }

    /// Gives the last message these headers.
    pub fn with_headers(&mut self, headers: Vec<(&'static str, String)>) -> &mut Self {
        if let Some(last) = self.messages.last_mut() {
            last.headers = headers;
        }
        self
    }
}

/// The transactional producer of a role.
pub struct Transactions {
    producer: BaseProducer<Deliveries>,
    role: &'static str,
    topics: Vec<String>,
    deadline: Duration,
    /// Steps that were begun or done, for whoever watches.
    steps: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactions").field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl Transactions {
    /// Opens the producer and fences every older one of the same role and instance.
    ///
    /// # Errors
    /// If the client cannot be made or no broker answers within `kafka.deadline`.
    pub fn open(settings: &Settings, role: &'static str, topics: &[&str]) -> Result<Self, KafkaError> {
        let bytes = settings.limits.message_bytes();
        let config = if is_loose() {
            client::producer(&settings.kafka, role, bytes)
        } else {
            client::transactional(&settings.kafka, role, &settings.instance, bytes)
        };
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(Deliveries::default())
            .map_err(|cause| KafkaError::Client { client: role, cause })?;
        let deadline = settings.kafka.deadline;
        if !is_loose() {
            let brokers = settings.kafka.brokers.clone();
            let unreachable = |cause| KafkaError::Unreachable { brokers: brokers.clone(), deadline, cause };
            // Asked for a coordinator while no connection stands yet, librdkafka asks again after half a second.
            // That of the bootstrap list is given up once the brokers are known; the leader of a partition
            // answers over one that lasts.
            if let Some(topic) = topics.first() {
                producer.client().fetch_watermarks(topic, 0, deadline).map_err(unreachable)?;
            }
            producer.init_transactions(deadline).map_err(unreachable)?;
        }
        let topics = topics.iter().map(|&t| t.to_owned()).collect();
        Ok(Transactions { producer, role, topics, deadline, steps: Arc::default() })
    }

    /// The role that publishes.
    pub(super) fn role(&self) -> &'static str {
        self.role
    }

    /// How many steps of transactions were begun or done. None takes longer than two deadlines, if librdkafka keeps
    /// them.
    pub(super) fn steps(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.steps)
    }

    /// How long each step may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Takes what the client has to say of its connections, which would pile up unheard and be logged
    /// much later; to be called now and then while there is nothing to publish.
    pub(super) fn hear(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Publishes `outbox` and commits `offsets` for `group`, all or nothing.
    ///
    /// # Errors
    /// When it was aborted or its outcome is unknown; the role must then start again from the
    /// committed offsets, because its members may own other partitions by now.
    pub(super) fn publish(
        &mut self,
        outbox: &Outbox,
        offsets: &[(Partition, NextOffset)],
        group: &ConsumerGroupMetadata,
    ) -> Result<(), KafkaError> {
        self.transact(outbox, Some((offsets, group)))
    }

    /// Publishes `outbox`, all or nothing, where it comes of no offsets.
    ///
    /// # Errors
    /// When it was aborted or its outcome is unknown.
    pub fn publish_alone(&mut self, outbox: &Outbox) -> Result<(), KafkaError> {
        self.transact(outbox, None)
    }

    /// Publishes `outbox` without a transaction: what a benchmark compares with.
    pub(super) fn publish_loosely(&mut self, outbox: &Outbox) -> Result<(), KafkaError> {
        self.send_all(outbox)?;
        self.deliver()
    }

    fn transact(
        &mut self,
        outbox: &Outbox,
        consumed: Option<(&[(Partition, NextOffset)], &ConsumerGroupMetadata)>,
    ) -> Result<(), KafkaError> {
        let step = |step| move |cause| KafkaError::Transaction { step, cause };
        self.passes("begin")?;
        self.producer.begin_transaction().map_err(step("begin"))?;
        let done = self.fill(outbox, consumed).and_then(|()| self.commit());
        let Err(error) = done else { return Ok(()) };
        if let Err(cause) = self.abort() {
            // The next owner of the transactional id aborts it; nothing of it becomes visible.
            tracing::warn!(%error, "a transaction could not be aborted by its own producer");
            return Err(KafkaError::Transaction { step: "abort", cause });
        }
        Err(error)
    }

    /// Aborts. librdkafka throws away what is still to be delivered and waits until that was heard, which
    /// nobody does while it waits: without a word from here an abort takes its whole deadline.
    fn abort(&self) -> Result<(), Cause> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.hear_all();
        self.producer.abort_transaction(self.deadline)
    }

    /// Polls until nothing is on its way; false if that is not reached within the deadline.
    ///
    /// (2) Saves 100 ms: rdkafka's flush polls in steps of 100 ms. The wait is a sleep of our own: rdkafka
    /// rounds what is left of a poll's time down to milliseconds and spins through the last one.
    fn hear_all(&self) -> bool {
        let started = Instant::now();
        while self.producer.in_flight_count() > 0 {
            if started.elapsed() > self.deadline {
                return false;
            }
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(DELIVERY_STEP);
        }
        true
    }

    fn fill(
        &self,
        outbox: &Outbox,
        consumed: Option<(&[(Partition, NextOffset)], &ConsumerGroupMetadata)>,
    ) -> Result<(), KafkaError> {
        self.send_all(outbox)?;
        self.passes("produced")?;
        let Some((offsets, group)) = consumed else { return Ok(()) };
        let list = offset_list(offsets).map_err(|cause| KafkaError::Transaction { step: "offsets", cause })?;
        self.retried("offsets", || self.producer.send_offsets_to_transaction(&list, group, self.deadline))?;
        self.passes("offsets")
    }

    fn send_all(&self, outbox: &Outbox) -> Result<(), KafkaError> {
        let started = Instant::now();
        outbox.messages.iter().try_for_each(|message| self.send(outbox, message, started))
    }

    fn send(&self, outbox: &Outbox, message: &Entry, started: Instant) -> Result<(), KafkaError> {
        let topic = &self.topics[message.topic];
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        if !message.tombstone {
            record = record.payload(&outbox.bytes[message.key_end..message.end]);
        }
        if !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
            for (key, value) in &message.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            record = record.headers(headers);
        }
        if message.key_end > message.start {
            record = record.key(&outbox.bytes[message.start..message.key_end]);
        }
        record.partition = message.partition;
        record.timestamp = message.timestamp_ms;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((Cause::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if started.elapsed() > self.deadline {
                        return Err(KafkaError::Deadline {
                            what: "room in the producer's queue",
                            deadline: self.deadline,
                        });
                    }
                    self.producer.poll(Duration::from_millis(1));
                    record = back;
                }
                Err((cause, _)) => return Err(KafkaError::Delivery { topic: topic.clone(), cause }),
            }
        }
    }

    fn commit(&self) -> Result<(), KafkaError> {
        self.deliver()?;
        self.passes("delivered")?;
        self.retried("commit", || self.producer.commit_transaction(self.deadline))?;
        self.passes("committed")
    }

    fn deliver(&self) -> Result<(), KafkaError> {
        if !self.hear_all() {
            let what = "delivery of a transaction's messages";
            return Err(KafkaError::Deadline { what, deadline: self.deadline });
        }
        self.producer.context().check()
    }

    /// A step that is done, at which tests break the process or take its answer away.
    fn passes(&self, step: &'static str) -> Result<(), KafkaError> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        if fault(self.role, step) {
            return Err(KafkaError::Deadline { what: "an answer that a test took away", deadline: self.deadline });
        }
        Ok(())
    }

    /// Repeats what librdkafka calls retriable, until the deadline.
    fn retried(&self, step: &'static str, call: impl Fn() -> Result<(), Cause>) -> Result<(), KafkaError> {
        let started = Instant::now();
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(Cause::Transaction(error)) if error.is_retriable() && started.elapsed() < self.deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(cause) => return Err(KafkaError::Transaction { step, cause }),
            }
        }
    }
}

/// Keeps the first failed delivery; librdkafka then fails the transaction, this says why.
#[derive(Default)]
struct Deliveries {
    failed: AtomicUsize,
    first: Mutex<Option<KafkaError>>,
}

impl Deliveries {
    fn check(&self) -> Result<(), KafkaError> {
        if self.failed.swap(0, Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let first = self.first.lock().ok().and_then(|mut first| first.take());
        Err(first.unwrap_or(KafkaError::Thread("deliveries")))
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((cause, message)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            if let Ok(mut first) = self.first.lock() {
                first.get_or_insert(KafkaError::delivery(message.topic(), cause.clone()));
            }
        }
    }
}
