//! Role `normalize`: raw records to the log of record.
//!
//! Consume, decode, plan, route to the owner partition, produce, commit: one Kafka
//! transaction a batch holds the events, the dead letters, the ticks and the offsets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};

use super::lag::Lag;
use super::link::IdentityTable;
use super::route::{by_owner, encode_bounded, followed_by};
use super::ticks::Ticks;
use super::{Context, RoleError, wall_now};
use crate::events::{self, Micros};
use crate::kafka::{
    Block, NextOffset, Outbox, Partition, Source, SourceEvent, SourceSettings, Transactions, raw_partitions,
};
use crate::normalize::{Normalized, Normalizer, Outcome, Record};
use crate::settings::{Clock, RawTopic};
use crate::telemetry::Beat;

/// Indices into the topics of the role's producer.
const EVENTS: usize = 0;
const DEAD_LETTER: usize = 1;
const LINKS: usize = 2;

/// Runs the role until the process stops.
pub(super) fn run(context: &Context, beat: &Beat) -> Result<(), RoleError> {
    let mut role = Normalize::open(context)?;
    beat.ready(true);
    while !context.stop.is_stopped() {
        beat.beat();
        role.lag.measure(&role.source, &context.metrics, context.site.settings.kafka.deadline, role.ticks.owned())?;
        match role.source.next(Duration::from_millis(100))? {
            Some(SourceEvent::Block(block)) => role.batch(&block)?,
            Some(SourceEvent::Assigned(assigned, reply)) => {
                let now = Instant::now();
                let mut starts = Vec::with_capacity(assigned.len());
                for one in assigned {
                    let start = one.resume()?;
                    role.ticks.own(one.partition, start, now);
                    starts.push(start);
                }
                // A polling thread that gave up waiting has said so itself.
                let _ = reply.send(starts);
            }
            Some(SourceEvent::Revoked(partitions, reply)) => {
                for partition in &partitions {
                    role.ticks.disown(partition);
                    context.metrics.forget_partition(&partition.topic, partition.number);
                }
                let _ = reply.send(());
            }
            Some(SourceEvent::Failed(error)) => return Err(error.into()),
            None => role.quiet()?,
        }
    }
    Ok(())
}

struct Normalize<'c> {
    context: &'c Context,
    normalizer: Normalizer,
    identity: IdentityTable,
    source: Source,
    transactions: Transactions,
    ticks: Ticks,
    lag: Lag,
    outbox: Outbox,
    encoded: Vec<Vec<u8>>,
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
        })?;
        let first = |problems: Vec<_>| problems.into_iter().next().map_or(RoleError::NoGroup, RoleError::Site);
        let mut normalizer = context.site.normalizer(context.pseudonyms.clone()).map_err(first)?;
        let topics = &settings.topics;
        let transactions =
            Transactions::open(settings, "normalize", &[&topics.events, &topics.dead_letter, &topics.links])?;
        let identity = IdentityTable::open(settings, normalizer.forest())?;
        Ok(Normalize {
            context,
            normalizer,
            identity,
            source,
            transactions,
            ticks: Ticks::new(settings.time, raw_partitions(settings)?),
            lag: Lag::default(),
            outbox: Outbox::default(),
            encoded: Vec::new(),
        })
    }

    /// One block of records into one transaction.
    fn batch(&mut self, block: &Block) -> Result<(), RoleError> {
        let metrics = &self.context.metrics;
        let raw: Vec<Option<&RawTopic>> = block.partitions().iter().map(|p| raw_topic(self.context, p)).collect();
        let mut records = Vec::with_capacity(block.len());
        let mut places = Vec::with_capacity(block.len());
        let mut next: BTreeMap<usize, NextOffset> = BTreeMap::new();
        let mut earliest = i64::MAX;
        for record in block.iter() {
            // Records of a partition that was taken away meanwhile belong to its new owner.
            let (Some(raw), Some(from)) = (raw[record.index], self.ticks.next(record.partition)) else { continue };
            if record.offset < from.0.max(next.get(&record.index).map_or(0, |n| n.0)) {
                continue;
            }
            next.insert(record.index, NextOffset(record.offset + 1));
            earliest = earliest.min(record.timestamp_ms);
            places.push(record.index);
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
        self.identity.follow(self.normalizer.forest());
        let timer = metrics.stage_seconds.with_label_values(&["normalize"]).start_timer();
        let normalized = self.normalizer.run(&records)?;
        timer.observe_duration();

        let now = Instant::now();
        for (&index, &next) in &next {
            let partition = &block.partitions()[index];
            let recorded = normalized.watermark(&partition.topic, partition.number);
            // A record that claims to be known only in the future must not carry the clock there.
            let recorded = match self.context.site.settings.time.clock {
                Clock::Wall => recorded.map(|recorded| recorded.min(wall_now())),
                Clock::Log | Clock::Events => recorded,
            };
            self.ticks.read(partition, next, recorded, now);
        }
        self.outbox.clear();
        let mut topics: BTreeMap<usize, u64> = BTreeMap::new();
        for ((outcome, record), &place) in normalized.outcomes.iter().zip(&records).zip(&places) {
            *topics.entry(place).or_default() += 1;
            if let Outcome::Dead(reject) = outcome {
                let raw_format = record.format.as_str();
                self.outbox.push(DEAD_LETTER, &[], record.bytes).with_headers(vec![
                    ("reason", reject.reason.as_str().to_owned()),
                    ("detail", reject.detail.clone()),
                    ("topic", record.topic.to_owned()),
                    ("partition", record.partition.to_string()),
                    ("offset", record.offset.to_string()),
                    ("format", raw_format.to_owned()),
                    ("at", rfc3339(wall_now())),
                ]);
            }
        }
        for statement in &normalized.statements {
            self.outbox.push(LINKS, &[], &serde_json::to_vec(statement)?);
        }
        let offsets: Vec<(Partition, NextOffset)> =
            next.iter().map(|(&index, &next)| (block.partitions()[index].clone(), next)).collect();
        self.publish(Some(&normalized), earliest, &offsets)?;
        for (place, count) in topics {
            metrics.raw_messages.with_label_values(&[&block.partitions()[place].topic]).inc_by(count);
        }
        self.count(&normalized);
        Ok(())
    }

    /// Nothing came for a while: the clock goes on by itself where it may.
    fn quiet(&mut self) -> Result<(), RoleError> {
        self.context.metrics.queue_bytes.set(self.source.queued_bytes() as i64);
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
            self.outbox.clear();
            self.publish(None, wall_now() / 1000, &[])?;
        }
        Ok(())
    }

    /// Events and ticks into the outbox, then all of it with the offsets into one transaction.
    fn publish(
        &mut self,
        normalized: Option<&Normalized>,
        timestamp_ms: i64,
        offsets: &[(Partition, NextOffset)],
    ) -> Result<(), RoleError> {
        let settings = &self.context.site.settings;
        let metrics = &self.context.metrics;
        let timer = metrics.transaction_seconds.with_label_values(&["normalize"]).start_timer();
        let ticks = self.ticks.due()?;
        let partitions = settings.topics.partitions;
        let rows = match normalized {
            Some(normalized) => by_owner(&normalized.events, partitions)?,
            None => vec![events::EventsBuilder::new().finish()?; partitions as usize],
        };
        for (partition, rows) in rows.into_iter().enumerate() {
            self.encoded.clear();
            let rows = followed_by(rows, ticks.as_ref())?;
            encode_bounded(&rows, settings.limits.batch_bytes, &mut self.encoded)?;
            for message in &self.encoded {
                self.outbox
                    .push(EVENTS, &[], message)
                    .to_partition(partition as i32)
                    .at(timestamp_ms)
                    .with_headers(vec![("auscult-schema", events::SCHEMA_VERSION.to_owned())]);
            }
        }
        let group = self.source.group().ok_or(RoleError::NoGroup)?;
        self.transactions.publish(&self.outbox, offsets, &group)?;
        self.ticks.told();
        timer.observe_duration();
        metrics.transactions.with_label_values(&["normalize", "committed"]).inc();
        Ok(())
    }

    /// Counts what a committed batch held (invariant 1 can be read off these).
    fn count(&self, normalized: &Normalized) {
        let metrics = &self.context.metrics;
        metrics.events.inc_by(normalized.events.num_rows() as u64);
        for outcome in &normalized.outcomes {
            match outcome {
                Outcome::Accepted { .. } => metrics.accepted.inc(),
                Outcome::Dead(reject) => metrics.dead_letters.with_label_values(&[reject.reason.as_str()]).inc(),
                Outcome::Dropped(reason) => metrics.dropped.with_label_values(&[reason.as_str()]).inc(),
            }
        }
        for (kind, count) in &normalized.unread {
            metrics.unread_resources.with_label_values(&[kind]).inc_by(*count);
        }
        for (concept, count) in &normalized.implausible {
            metrics.implausible.with_label_values(&[concept]).inc_by(*count);
        }
        metrics.unmapped_events.inc_by(normalized.unmapped);
        for (partition, watermark) in self.ticks.watermarks() {
            metrics
                .watermark_seconds
                .with_label_values(&[&*partition.topic, &partition.number.to_string()])
                .set(watermark as f64 / 1e6);
        }
        metrics.queue_bytes.set(self.source.queued_bytes() as i64);
    }
}

fn raw_topic<'c>(context: &'c Context, partition: &Partition) -> Option<&'c RawTopic> {
    context.site.settings.topics.raw.iter().find(|raw| *raw.topic == *partition.topic)
}

/// A time as RFC 3339 with milliseconds.
fn rfc3339(at: Micros) -> String {
    DateTime::from_timestamp_micros(at).map_or_else(String::new, |t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
}
