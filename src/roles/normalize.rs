//! Role `normalize`: raw records to the log of record.
//!
//! Consume, decode, plan, route to the owner partition, produce, commit: one Kafka
//! transaction a batch holds the events, the dead letters, the ticks and the offsets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::lag::Lag;
use super::letter;
use super::link::IdentityTable;
use super::route::{self, by_owner, followed_by};
use super::ticks::Ticks;
use super::{Context, RoleError, wall_now};
use crate::events::{EventsBuilder, EventsError};
use crate::kafka::{
    Block, Fill, KafkaError, NextOffset, Outbox, Parcel, Partition, Publisher, Source, SourceEvent, SourceSettings,
    Transactions, raw_partitions,
};
use crate::normalize::{Normalized, Normalizer, Outcome, Record};
use crate::settings::{Clock, RawTopic};
use crate::telemetry::{Beat, Metrics, fault};

/// Indices into the topics of the role's producer.
const EVENTS: usize = 0;
const DEAD_LETTER: usize = 1;
const LINKS: usize = 2;

/// Runs the role until the process stops.
pub(super) fn run(context: &Context, beat: &Beat) -> Result<(), RoleError> {
    let mut role = Normalize::open(context)?;
    let waits = context.metrics.source_wait_seconds.with_label_values(&["normalize"]);
    let mut asked = Instant::now();
    while !context.stop.is_stopped() {
        beat.beat();
        role.look_at_lag()?;
        match role.source.next(Duration::from_millis(100))? {
            Some(SourceEvent::Block(block)) => {
                waits.observe(asked.elapsed().as_secs_f64());
                role.batch(&block)?;
                asked = Instant::now();
            }
            Some(SourceEvent::Assigned(assigned, reply)) => {
                fault("normalize", "assigned");
                // A raw topic may have grown since: the clock waits for each of its partitions.
                role.ticks.count(raw_partitions(&context.site.settings)?);
                let now = Instant::now();
                let mut starts = Vec::with_capacity(assigned.len());
                for one in assigned {
                    let start = one.resume()?;
                    role.ticks.own(one.partition, start, now);
                    starts.push(start);
                }
                // A polling thread that gave up waiting has said so itself.
                let _ = reply.send(starts);
                beat.ready(true);
            }
            Some(SourceEvent::Revoked(partitions, reply)) => {
                fault("normalize", "revoked");
                for partition in &partitions {
                    role.ticks.disown(partition);
                    context.metrics.forget_partition("normalize", &partition.topic, partition.number);
                }
                role.publisher.settle()?;
                let _ = reply.send(());
            }
            Some(SourceEvent::Failed(error)) => return Err(error.into()),
            None => role.quiet()?,
        }
    }
    Ok(role.publisher.settle()?)
}

struct Normalize<'c> {
    context: &'c Context,
    normalizer: Normalizer,
    // Before the source: what is under way is committed while the member is still in its group.
    publisher: Publisher,
    identity: IdentityTable,
    source: Source,
    ticks: Ticks,
    lag: Lag,
    room: letter::Room,
}

impl<'c> Normalize<'c> {
    fn open(context: &'c Context) -> Result<Self, RoleError> {
        let settings = &context.site.settings;
        // The group takes a second or so to let a member in; the rest is opened meanwhile.
        let source = Source::open(SourceSettings {
            kafka: settings.kafka.clone(),
            limits: settings.limits,
            role: "normalize",
            instance: settings.instance.clone(),
            topics: settings.topics.raw.iter().map(|raw| raw.topic.clone()).collect(),
            writes: Some(settings.topics.events.clone()),
        })?;
        let first = |problems: Vec<_>| problems.into_iter().next().map_or(KafkaError::NoGroup.into(), RoleError::Site);
        let mut normalizer = context.site.normalizer(context.pseudonyms.clone()).map_err(first)?;
        let topics = &settings.topics;
        let transactions =
            Transactions::open(settings, "normalize", &[&topics.events, &topics.dead_letter, &topics.links])?;
        let identity = IdentityTable::open(settings, normalizer.forest())?;
        Ok(Normalize {
            context,
            normalizer,
            publisher: Publisher::start(transactions, source.member(), context.metrics.clone())?,
            identity,
            source,
            ticks: Ticks::new(settings.time),
            lag: Lag::new("normalize"),
            room: letter::Room::default(),
        })
    }

    /// One block of records into one transaction.
    fn batch(&mut self, block: &Block) -> Result<(), RoleError> {
        let metrics = &self.context.metrics;
        let raw: Vec<Option<&RawTopic>> = block.partitions().iter().map(|p| raw_topic(self.context, p)).collect();
        let starts: Vec<Option<NextOffset>> = block.partitions().iter().map(|p| self.ticks.next(p)).collect();
        let mut ends: Vec<Option<NextOffset>> = vec![None; starts.len()];
        let mut records = Vec::with_capacity(block.len());
        let mut counts = vec![0; starts.len()];
        let mut earliest = i64::MAX;
        for record in block.iter() {
            // Records of a partition that was taken away meanwhile belong to its new owner.
            let (Some(raw), Some(start)) = (raw[record.index], starts[record.index]) else { continue };
            if record.offset < ends[record.index].unwrap_or(start).0 {
                continue;
            }
            ends[record.index] = Some(NextOffset(record.offset + 1));
            earliest = earliest.min(record.timestamp_ms);
            counts[record.index] += 1;
            records.push(Record {
                topic: &record.partition.topic,
                partition: record.partition.number,
                offset: record.offset,
                timestamp: Some(record.timestamp_ms.saturating_mul(1000)),
                format: raw.format,
                assigner: &raw.assigner,
                bytes: record.bytes,
            });
        }
        if records.is_empty() {
            return Ok(());
        }
        fault("normalize", "polled");
        self.identity.follow(self.normalizer.forest());
        let timer = metrics.stage_seconds.with_label_values(&["normalize"]).start_timer();
        let normalized = self.normalizer.run(&records)?;
        timer.observe_duration();
        fault("normalize", "made");

        let now = Instant::now();
        let read = || block.partitions().iter().zip(&ends).filter_map(|(partition, end)| Some((partition, (*end)?)));
        for (partition, next) in read() {
            let recorded = normalized.watermark(&partition.topic, partition.number);
            // A record that claims to be known only in the future must not carry the clock there.
            let recorded = match self.context.site.settings.time.clock {
                Clock::Wall => recorded.map(|recorded| recorded.min(wall_now())),
                Clock::Log | Clock::Events => recorded,
            };
            self.ticks.read(partition, next, recorded, now);
        }
        let mut outbox = self.publisher.outbox();
        let mut tally = Tally::default();
        for (partition, count) in block.partitions().iter().zip(counts) {
            *tally.raw.entry(partition.topic.clone()).or_default() += count;
        }
        for (outcome, record) in normalized.outcomes.iter().zip(&records) {
            if let Outcome::Dead(reject) = outcome {
                let longest = self.room.of(record.bytes.len(), self.context)?;
                letter::push(&mut outbox, DEAD_LETTER, record, reject, longest);
            }
        }
        for statement in &normalized.statements {
            outbox.push(LINKS, &[], &serde_json::to_vec(statement)?);
        }
        let offsets: Vec<(Partition, NextOffset)> = read().map(|(partition, next)| (partition.clone(), next)).collect();
        let events = normalized.events.clone();
        tally.add(normalized);
        self.publish(outbox, Some(events), tally, earliest, offsets)?;
        self.show();
        Ok(())
    }

    /// Nothing came for a while: the clock goes on by itself where it may.
    fn quiet(&mut self) -> Result<(), RoleError> {
        self.publisher.look()?;
        self.context.metrics.queue_bytes.with_label_values(&["normalize"]).set(self.source.queued_bytes() as i64);
        if self.context.site.settings.time.clock == Clock::Events {
            return Ok(());
        }
        let deadline = self.context.site.settings.kafka.deadline;
        for partition in self.ticks.quiet(Instant::now()) {
            // Read before the log's end: what lies beyond that end was recorded later.
            let wall = wall_now();
            let (_, end) = self.source.watermarks(&partition, deadline)?;
            self.ticks.end(&partition, end, wall, Instant::now());
        }
        if self.ticks.due()?.is_some() {
            let outbox = self.publisher.outbox();
            // With the offsets, so that there are some as soon as anything is in the log: a group that
            // has none although there is has lost them.
            let offsets = self.ticks.owned().collect();
            self.publish(outbox, None, Tally::default(), wall_now() / 1000, offsets)?;
        }
        Ok(())
    }

    /// Events and ticks into the outbox, then all of it with the offsets into one transaction.
    fn publish(
        &mut self,
        outbox: Outbox,
        events: Option<RecordBatch>,
        tally: Tally,
        timestamp_ms: i64,
        offsets: Vec<(Partition, NextOffset)>,
    ) -> Result<(), RoleError> {
        let ticks = self.ticks.due()?;
        let route = Route {
            partitions: self.context.site.settings.topics.partitions,
            message_bytes: self.context.site.settings.limits.batch_bytes,
            timestamp_ms,
        };
        let fill: Fill = Box::new(move |outbox| Ok(route.fill(events.as_ref(), ticks.as_ref(), outbox)?));
        let metrics = self.context.metrics.clone();
        let committed = Box::new(move || tally.count(&metrics));
        self.publisher.publish(Parcel { outbox, fill, offsets, committed })?;
        self.ticks.told();
        Ok(())
    }

    fn look_at_lag(&mut self) -> Result<(), RoleError> {
        let (metrics, deadline) = (&self.context.metrics, self.context.site.settings.kafka.deadline);
        self.lag.measure(&self.source, metrics, &metrics.consumer_lag, deadline, self.ticks.owned())
    }

    /// Sets the gauges.
    fn show(&self) {
        let metrics = &self.context.metrics;
        for (partition, watermark) in self.ticks.watermarks() {
            metrics
                .watermark_seconds
                .with_label_values(&[&*partition.topic, &partition.number.to_string()])
                .set(watermark as f64 / 1e6);
        }
        metrics.queue_bytes.with_label_values(&["normalize"]).set(self.source.queued_bytes() as i64);
    }
}

/// How events become messages of the log.
#[derive(Copy, Clone, Debug)]
struct Route {
    partitions: u32,
    message_bytes: usize,
    timestamp_ms: i64,
}

impl Route {
    /// Events to the partitions of their subjects, ticks behind them to every partition.
    fn fill(
        self,
        events: Option<&RecordBatch>,
        ticks: Option<&RecordBatch>,
        outbox: &mut Outbox,
    ) -> Result<(), EventsError> {
        let rows = match events {
            Some(events) => by_owner(events, self.partitions)?,
            None => vec![EventsBuilder::new().finish()?; self.partitions as usize],
        };
        for (partition, rows) in rows.into_iter().enumerate() {
            let rows = followed_by(rows, ticks)?;
            route::push(outbox, EVENTS, partition, &rows, self.message_bytes, Some(self.timestamp_ms))?;
        }
        Ok(())
    }
}

/// What a batch held; counted once it is committed (invariant 1 can be read off these).
#[derive(Default, Debug)]
struct Tally {
    raw: BTreeMap<Arc<str>, u64>,
    events: u64,
    accepted: u64,
    dead: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<&'static str, u64>,
    unread: BTreeMap<&'static str, u64>,
    lenient: BTreeMap<&'static str, u64>,
    implausible: BTreeMap<String, u64>,
    unmapped: u64,
}

impl Tally {
    fn add(&mut self, normalized: Normalized) {
        self.events += normalized.events.num_rows() as u64;
        for outcome in &normalized.outcomes {
            match outcome {
                Outcome::Accepted { .. } => self.accepted += 1,
                Outcome::Dead(reject) => *self.dead.entry(reject.reason.as_str()).or_default() += 1,
                Outcome::Dropped(reason) => *self.dropped.entry(reason.as_str()).or_default() += 1,
            }
        }
        self.unread = normalized.unread;
        self.lenient = normalized.lenient;
        self.implausible = normalized.implausible;
        self.unmapped += normalized.unmapped;
    }

    fn count(&self, metrics: &Metrics) {
        for (topic, count) in &self.raw {
            metrics.raw_messages.with_label_values(&[&**topic]).inc_by(*count);
        }
        metrics.events.inc_by(self.events);
        metrics.accepted.inc_by(self.accepted);
        for (reason, count) in &self.dead {
            metrics.dead_letters.with_label_values(&[reason]).inc_by(*count);
        }
        for (reason, count) in &self.dropped {
            metrics.dropped.with_label_values(&[reason]).inc_by(*count);
        }
        for (kind, count) in &self.unread {
            metrics.unread_resources.with_label_values(&[kind]).inc_by(*count);
        }
        for (kind, count) in &self.lenient {
            metrics.lenient.with_label_values(&[kind]).inc_by(*count);
        }
        for (concept, count) in &self.implausible {
            metrics.implausible.with_label_values(&[concept]).inc_by(*count);
        }
        metrics.unmapped_events.inc_by(self.unmapped);
    }
}

fn raw_topic<'c>(context: &'c Context, partition: &Partition) -> Option<&'c RawTopic> {
    context.site.settings.topics.raw.iter().find(|raw| *raw.topic == *partition.topic)
}
