//! A consumer group member: one thread that polls, and what it tells its role.
//!
//! The thread alone touches the consumer. It gathers records into blocks, and when more
//! bytes wait than allowed it rests, then pauses the partitions and keeps polling, so that the group
//! never takes a slow role for a dead one. A block is sent when it is full, or after the
//! linger when the role is idle: batches grow with the load and latency does not.
//!
//! A rebalance happens inside `poll`. The thread then tells the role and waits (with a
//! deadline) until the role has said where an assigned partition starts, or has finished
//! what it holds of a revoked one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::block::Queued;
use super::offset::offset_list;
use super::orphans::{Watch, orphans};
use super::table::{partitions, watermarks};
use super::{Block, KafkaError, NextOffset, Partition, Scan, client};
use crate::settings::{Kafka, Limits};
use crate::telemetry::Stop;

/// How a role reads.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Connection.
    pub kafka: Kafka,
    /// Bounds of blocks and of the queue.
    pub limits: Limits,
    /// Role, part of the group's name.
    pub role: &'static str,
    /// Instance of the daemon, part of the member's name.
    pub instance: String,
    /// Topics of the subscription.
    pub topics: Vec<String>,
    /// A topic that holds nothing before the group has committed something: where it does, offsets that
    /// are not committed are lost ones.
    pub writes: Option<String>,
}

/// What the polling thread tells its role, in order.
#[derive(Debug)]
pub enum SourceEvent {
    /// Records.
    Block(Block),
    /// Partitions were given to this member; answer with the offset each one starts at.
    Assigned(Vec<Assigned>, SyncSender<Vec<NextOffset>>),
    /// Partitions are taken away; what was sent before is still to be committed, then answer.
    /// Records of these that come later must be ignored.
    Revoked(Vec<Partition>, SyncSender<()>),
    /// Reading failed for good.
    Failed(KafkaError),
}

/// A partition given to this member, and what the broker knows of it.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// Which.
    pub partition: Partition,
    /// What the group committed, if anything.
    pub committed: Option<NextOffset>,
    /// First offset that is there.
    pub low: i64,
    /// End of the log.
    pub high: i64,
}

impl Assigned {
    /// Where the group goes on: the committed offset, or the beginning of a partition never read.
    ///
    /// # Errors
    /// [`KafkaError::Lost`] if the log no longer holds it.
    pub fn resume(&self) -> Result<NextOffset, KafkaError> {
        self.check(self.committed.unwrap_or(NextOffset(self.low)))
    }

    /// `needed`, if the log holds it or ends just there.
    ///
    /// # Errors
    /// [`KafkaError::Lost`] if not.
    pub fn check(&self, needed: NextOffset) -> Result<NextOffset, KafkaError> {
        if (self.low..=self.high).contains(&needed.0) {
            return Ok(needed);
        }
        Err(KafkaError::Lost {
            topic: self.partition.topic.to_string(),
            partition: self.partition.number,
            needed: needed.0,
            low: self.low,
            high: self.high,
        })
    }
}

/// A role's end of the polling thread.
pub struct Source {
    consumer: Arc<BaseConsumer<Rebalances>>,
    /// Asks for the ends of logs over a connection of its own: on the consumer's, a question waits
    /// behind the fetches under way, for a second and more when there is a backlog.
    asker: BaseConsumer,
    watch: Watch,
    events: Option<Receiver<SourceEvent>>,
    thread: Option<JoinHandle<()>>,
    stop: Stop,
    queued: Queued,
    is_late: Arc<AtomicBool>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("queued", &self.queued).finish_non_exhaustive()
    }
}

impl Source {
    /// Subscribes and starts the polling thread; it ends when the source is dropped.
    ///
    /// # Errors
    /// If the client cannot be made or the thread not be started.
    pub fn open(settings: SourceSettings) -> Result<Self, KafkaError> {
        let (sender, events) = sync_channel(1024);
        let is_late = Arc::new(AtomicBool::new(false));
        let context = Rebalances {
            sender: sender.clone(),
            is_new: AtomicBool::new(true),
            is_late: Arc::clone(&is_late),
            kafka: settings.kafka.clone(),
            role: settings.role,
            topics: settings.topics.clone(),
            writes: settings.writes,
        };
        let config = client::consumer(&settings.kafka, settings.role, &settings.instance, settings.limits.queue_bytes);
        let made = |cause| KafkaError::Client { client: settings.role, cause };
        let consumer: Arc<BaseConsumer<Rebalances>> = Arc::new(config.create_with_context(context).map_err(made)?);
        let asker = client::reader(&settings.kafka, settings.role).create().map_err(made)?;
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(made)?;
        let watch = Watch::new(settings.role, client::group(&settings.kafka, settings.role), settings.topics);
        let stop = Stop::default();
        let queued = Queued::default();
        let poll = Poll {
            consumer: Arc::clone(&consumer),
            role: settings.role,
            limits: settings.limits,
            sender,
            stop: stop.clone(),
            queued: queued.clone(),
            paused: false,
        };
        let thread = std::thread::Builder::new()
            .name(format!("{}-poll", settings.role))
            .spawn(move || poll.run())
            .map_err(|_| KafkaError::Thread(settings.role))?;
        Ok(Source { consumer, asker, watch, events: Some(events), thread: Some(thread), stop, queued, is_late })
    }

    /// The next event, or `None` after `wait`.
    ///
    /// # Errors
    /// If the polling thread is gone, or the group leaves partitions to nobody.
    pub fn next(&mut self, wait: Duration) -> Result<Option<SourceEvent>, KafkaError> {
        self.watch.look(&self.asker)?;
        let Some(events) = &self.events else { return Err(KafkaError::Thread("poll")) };
        match events.recv_timeout(wait) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(KafkaError::Thread("poll")),
        }
    }

    /// Whether nothing waits.
    pub fn is_drained(&self) -> bool {
        self.queued.blocks() == 0
    }

    /// Bytes that wait for the role, for the gauge.
    pub fn queued_bytes(&self) -> usize {
        self.queued.bytes()
    }

    /// This member of the group, for the thread that commits.
    pub fn member(&self) -> Member {
        Member { consumer: Arc::downgrade(&self.consumer), is_late: Arc::clone(&self.is_late) }
    }

    /// First offset and end of a partition.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub fn watermarks(&self, partition: &Partition, deadline: Duration) -> Result<(i64, i64), KafkaError> {
        // What the client has to say of its connections would pile up unheard.
        while self.asker.poll(Duration::ZERO).is_some() {}
        watermarks(&self.asker, &partition.topic, partition.number, deadline)
    }
}

/// A member of a consumer group, as the transactions that commit its offsets know it: it does not outlive its
/// [`Source`].
#[derive(Clone)]
pub struct Member {
    consumer: Weak<BaseConsumer<Rebalances>>,
    is_late: Arc<AtomicBool>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").finish_non_exhaustive()
    }
}

impl Member {
    /// The group's generation at this moment, which fences a transaction's offsets. `None` before the first,
    /// and for good once partitions were given away before the role had finished them: what it still
    /// holds of these is another's, and the next generation would not fence it.
    pub fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        // In this order: who is not late by now has not joined a generation without these partitions.
        let metadata = self.consumer.upgrade()?.group_metadata();
        metadata.filter(|_| !self.is_late.load(Ordering::SeqCst))
    }

    /// Commits offsets outside of a transaction: what a benchmark compares with.
    pub(super) fn commit(&self, offsets: &[(Partition, NextOffset)]) -> Result<(), KafkaError> {
        let list = offset_list(offsets).map_err(KafkaError::Consume)?;
        let consumer = self.consumer.upgrade().ok_or(KafkaError::NoGroup)?;
        consumer.commit(&list, CommitMode::Async).map_err(KafkaError::Consume)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.stop();
        // Without the receiver no rebalance waits for an answer any more.
        self.events = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long the thread does not poll while too many bytes wait: a rebalance waits as long.
const REST: Duration = Duration::from_secs(1);

/// The polling thread.
struct Poll {
    consumer: Arc<BaseConsumer<Rebalances>>,
    role: &'static str,
    limits: Limits,
    sender: SyncSender<SourceEvent>,
    stop: Stop,
    queued: Queued,
    paused: bool,
}

impl Poll {
    fn run(mut self) {
        let mut block = Block::new();
        let mut since = Instant::now();
        while !self.stop.is_stopped() {
            self.hold_back();
            // What librdkafka holds is taken without looking at the clock; a wait shorter than its
            // millisecond would only spin.
            let wait = if block.is_empty() { Duration::from_millis(50) } else { Duration::from_millis(1) };
            let mut next = self.consumer.poll(wait);
            if block.is_empty() {
                since = Instant::now();
            }
            while let Some(polled) = next {
                match polled {
                    Ok(record) => {
                        let timestamp = record.timestamp().to_millis().unwrap_or(0);
                        let value = record.payload().unwrap_or(&[]);
                        block.push(record.topic(), record.partition(), record.offset(), timestamp, value);
                    }
                    Err(cause) if is_passing(&cause) => {
                        tracing::warn!(%cause, "kafka is away, waiting for it");
                    }
                    Err(cause) => {
                        // The role may have gone already; then nobody needs to know.
                        let _ = self.sender.try_send(SourceEvent::Failed(self.failed(cause)));
                        return;
                    }
                }
                next = if self.is_full(&block) { None } else { self.consumer.poll(Duration::ZERO) };
            }
            let due = self.queued.blocks() == 0 && since.elapsed() >= self.limits.linger;
            if (due || self.is_full(&block)) && !block.is_empty() {
                block.enqueue(&self.queued);
                let next = block.like();
                match self.sender.try_send(SourceEvent::Block(block)) {
                    Ok(()) => block = next,
                    // The channel holds far more blocks than the byte bound lets through.
                    Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return,
                }
            }
        }
    }

    /// Why reading ended. What a client cannot go on after it tells apart from the error itself.
    fn failed(&self, cause: Cause) -> KafkaError {
        match self.consumer.client().fatal_error() {
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => KafkaError::Fenced { role: self.role },
            _ => KafkaError::Consume(cause),
        }
    }

    fn is_full(&self, block: &Block) -> bool {
        block.len() >= self.limits.batch_records || block.weight() >= self.limits.queue_bytes / 8
    }

    /// Rests while too many bytes wait; if that lasts, pauses, and resumes when half of them are gone.
    /// A pause makes librdkafka throw away what it has fetched and fetch it anew later, so a role
    /// that only has a backlog to work through must not cause one.
    fn hold_back(&mut self) {
        let bound = self.limits.queue_bytes / 2;
        if !self.paused {
            let rested = Instant::now();
            while self.queued.bytes() > bound && rested.elapsed() < REST && !self.stop.is_stopped() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let waiting = self.queued.bytes();
        if !self.paused && waiting > bound {
            self.paused = self.consumer.assignment().is_ok_and(|all| self.consumer.pause(&all).is_ok());
        } else if self.paused && waiting < bound / 2 {
            self.paused = !self.consumer.assignment().is_ok_and(|all| self.consumer.resume(&all).is_ok());
        }
    }
}

/// Whether librdkafka goes on by itself after this error.
fn is_passing(cause: &Cause) -> bool {
    let Cause::MessageConsumption(code) = cause else { return false };
    !matches!(
        code,
        RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::Fatal
    )
}

/// The context that answers rebalances from inside `poll`.
struct Rebalances {
    /// Whether nothing was assigned yet.
    is_new: AtomicBool,
    /// Whether partitions were given away before the role had finished them.
    is_late: Arc<AtomicBool>,
    sender: SyncSender<SourceEvent>,
    kafka: Kafka,
    role: &'static str,
    topics: Vec<String>,
    writes: Option<String>,
}

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, list)
        } else {
            self.revoke(list);
            consumer.incremental_unassign(list).map_err(KafkaError::Consume)
        };
        if let Err(error) = done {
            let _ = self.sender.try_send(SourceEvent::Failed(error));
        }
    }
}

impl Rebalances {
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), KafkaError> {
        if self.is_new.swap(false, Ordering::SeqCst) {
            self.adopt(consumer)?;
        }
        let assigned = self.ask(consumer, list)?;
        tracing::info!(role = self.role, partitions = assigned.len(), "partitions are assigned");
        let (reply, answer) = sync_channel(1);
        let partitions: Vec<Partition> = assigned.iter().map(|a| a.partition.clone()).collect();
        if self.sender.try_send(SourceEvent::Assigned(assigned, reply)).is_err() {
            // The role is going; take the partitions so that they can be given back.
            return consumer.incremental_assign(list).map_err(KafkaError::Consume);
        }
        // The role recovers its state before it answers, which max.poll.interval.ms bounds. If it
        // fails or goes meanwhile, it drops the reply.
        let Ok(starts) = answer.recv_timeout(Duration::from_secs(1500)) else {
            return consumer.incremental_assign(list).map_err(KafkaError::Consume);
        };
        let mut starting = TopicPartitionList::with_capacity(partitions.len());
        for (partition, start) in partitions.iter().zip(starts) {
            starting
                .add_partition_offset(&partition.topic, partition.number, Offset::Offset(start.0))
                .map_err(KafkaError::Consume)?;
        }
        consumer.incremental_assign(&starting).map_err(KafkaError::Consume)
    }

    /// Asks for another rebalance if this one leaves partitions to nobody, or if that cannot be told.
    fn adopt(&self, consumer: &BaseConsumer<Self>) -> Result<(), KafkaError> {
        match orphans(consumer, &client::group(&self.kafka, self.role), &self.topics, self.kafka.deadline) {
            Ok(0) => return Ok(()),
            Ok(count) => tracing::info!(role = self.role, count, "partitions are nobody's, joining the group again"),
            // librdkafka's mock cluster, that of the demo, lists no groups.
            Err(error) if error.is_unsupported() => {
                tracing::debug!(role = self.role, %error, "joining the group again, lest partitions be nobody's")
            }
            Err(error) => {
                tracing::warn!(role = self.role, %error, "joining the group again, lest partitions be nobody's")
            }
        }
        // A subscription that comes within a rebalance has librdkafka join again after it.
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(KafkaError::Consume)
    }

    fn revoke(&self, list: &TopicPartitionList) {
        let partitions =
            list.elements().iter().map(|e| Partition { topic: Arc::from(e.topic()), number: e.partition() }).collect();
        tracing::info!(role = self.role, partitions = list.count(), "partitions are taken away");
        let (reply, answer) = sync_channel(1);
        if self.sender.try_send(SourceEvent::Revoked(partitions, reply)).is_ok()
            && answer.recv_timeout(self.kafka.deadline) == Err(RecvTimeoutError::Timeout)
        {
            self.is_late.store(true, Ordering::SeqCst);
            tracing::warn!(deadline = ?self.kafka.deadline, "a role did not finish its revoked partitions in time; it starts again");
        }
    }

    /// What the broker knows of the partitions in `list`.
    fn ask(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<Vec<Assigned>, KafkaError> {
        // A member that others leave nothing to is told so.
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let committed = consumer
            .committed_offsets(list.clone(), self.kafka.deadline)
            .map_err(|cause| KafkaError::Ask { what: "committed offsets", cause })?;
        let mut assigned = Vec::with_capacity(list.count());
        for element in committed.elements() {
            let (low, high) = watermarks(consumer, element.topic(), element.partition(), self.kafka.deadline)?;
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(NextOffset(offset)),
                _ => None,
            };
            let partition = Partition { topic: Arc::from(element.topic()), number: element.partition() };
            assigned.push(Assigned { partition, committed, low, high });
        }
        if !assigned.is_empty() && assigned.iter().all(|one| one.committed.is_none()) {
            self.remember(consumer)?;
        }
        Ok(assigned)
    }

    /// Stops a group that has lost its offsets. Partitions that nobody has read yet are no sign of that
    /// while the group has committed another, and neither is an output that is still empty.
    fn remember(&self, consumer: &BaseConsumer<Self>) -> Result<(), KafkaError> {
        let Some(writes) = &self.writes else { return Ok(()) };
        // In this order: who sees what a transaction wrote sees the offsets that it committed. Offsets of the
        // log prove nothing, since an aborted transaction takes some too.
        let numbers = partitions(consumer, writes, self.kafka.deadline)?;
        let mut scan = Scan::open(&self.kafka, writes, numbers.len())?;
        let is_forgotten = numbers.iter().any(|number| scan.low(*number) > Some(0));
        if !is_forgotten && scan.read()?.is_none() {
            return Ok(());
        }
        let mut all = TopicPartitionList::new();
        for topic in &self.topics {
            for number in partitions(consumer, topic, self.kafka.deadline)? {
                all.add_partition(topic, number);
            }
        }
        let committed = consumer
            .committed_offsets(all, self.kafka.deadline)
            .map_err(|cause| KafkaError::Ask { what: "committed offsets", cause })?;
        if committed.elements().iter().any(|element| matches!(element.offset(), Offset::Offset(_))) {
            return Ok(());
        }
        Err(KafkaError::Forgotten { group: client::group(&self.kafka, self.role), writes: writes.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(committed: Option<i64>) -> Assigned {
        let partition = Partition { topic: "t".into(), number: 3 };
        Assigned { partition, committed: committed.map(NextOffset), low: 10, high: 20 }
    }

    #[test]
    fn reading_resumes_where_the_log_still_is_and_never_skips() {
        assert_eq!(assigned(None).resume().unwrap(), NextOffset(10));
        assert_eq!(assigned(Some(20)).resume().unwrap(), NextOffset(20));
        for lost in [9, 21] {
            let text = assigned(Some(lost)).resume().unwrap_err().to_string();
            assert!(text.contains("t-3") && text.contains(&lost.to_string()), "{text}");
        }
    }
}
