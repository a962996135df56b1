//! The companion of role `normalize`: from what records say of who is who to the identity table.
//!
//! Consume, decide, produce, commit. All statements of a site go through one partition, so one
//! process decides about them in one order, whatever two feeds say at the same moment, and a
//! decision is taken once: a transaction holds the entry for `auscult.identity`, the rows that tell
//! the partitions of both subjects, and the statement's offset.
//!
//! Until a `normalize` has read the entry it writes rows as before; role `score` moves these.

use std::time::Duration;

use super::route::{self, by_owner};
use super::{Context, RoleError};
use crate::events::{self, EventRef, EventsBuilder, EventsError, JOIN, LEAVE, Linked, Micros, Op, SubjectId};
use crate::kafka::{
    Block, Follower, NextOffset, Parcel, Partition, Publisher, Source, SourceEvent, SourceSettings, Transactions,
};
use crate::normalize::{Decision, Entry, Forest, Move, Statement, kind_word};
use crate::settings::Settings;
use crate::telemetry::Beat;

/// Indices into the topics of the producer.
const EVENTS: usize = 0;
const IDENTITY: usize = 1;

/// `auscult.identity` as one process knows it.
#[derive(Debug)]
pub(super) struct IdentityTable {
    topic: Follower,
}

impl IdentityTable {
    /// Reads the table whole into `forest`.
    ///
    /// # Errors
    /// If the broker does not give it within `kafka.deadline`.
    pub(super) fn open(settings: &Settings, forest: &mut Forest) -> Result<Self, RoleError> {
        let table = IdentityTable { topic: Follower::open(&settings.kafka, &settings.topics.identity, 1)? };
        let values = table.topic.catch_up(settings.kafka.deadline)?;
        apply(&values, forest);
        tracing::info!(identifiers = forest.len(), "the identity table is read");
        Ok(table)
    }

    /// Takes over what came since, without waiting. To be called between batches only.
    pub(super) fn follow(&self, forest: &mut Forest) {
        apply(&self.topic.drain(), forest);
    }
}

fn apply(values: &[Vec<u8>], forest: &mut Forest) {
    for value in values {
        match serde_json::from_slice::<Entry>(value) {
            Ok(entry) => forest.apply(entry),
            // The text of the error could quote the entry.
            Err(_) => tracing::error!("an entry of the identity table cannot be read; its link is not followed"),
        }
    }
}

/// Runs until the process stops.
pub(super) fn run(context: &Context, beat: &Beat) -> Result<(), RoleError> {
    let mut role = Link::open(context)?;
    beat.ready(true);
    while !context.stop.is_stopped() {
        beat.beat();
        match role.source.next(Duration::from_millis(100))? {
            Some(SourceEvent::Block(block)) => role.batch(&block)?,
            Some(SourceEvent::Assigned(assigned, reply)) => {
                // Not before: whoever owned the partition may have written until now.
                role.forest = Forest::default();
                IdentityTable::open(&context.site.settings, &mut role.forest)?;
                let mut starts = Vec::with_capacity(assigned.len());
                for one in assigned {
                    let start = one.resume()?;
                    role.owned = Some((one.partition, start));
                    starts.push(start);
                }
                // A polling thread that gave up waiting has said so itself.
                let _ = reply.send(starts);
            }
            Some(SourceEvent::Revoked(_, reply)) => {
                role.owned = None;
                let _ = reply.send(());
            }
            Some(SourceEvent::Failed(error)) => return Err(error.into()),
            None => role.publisher.look()?,
        }
    }
    Ok(())
}

struct Link<'c> {
    context: &'c Context,
    // Before the source: what is under way is committed while the member is still in its group.
    publisher: Publisher,
    source: Source,
    forest: Forest,
    /// The partition, if it is this process's, and where reading of it goes on.
    owned: Option<(Partition, NextOffset)>,
}

impl<'c> Link<'c> {
    fn open(context: &'c Context) -> Result<Self, RoleError> {
        let settings = &context.site.settings;
        let topics = &settings.topics;
        let source = Source::open(SourceSettings {
            kafka: settings.kafka.clone(),
            limits: settings.limits,
            role: "link",
            instance: settings.instance.clone(),
            topics: vec![topics.links.clone()],
            // A statement that is read again changes nothing.
            writes: None,
        })?;
        let transactions = Transactions::open(settings, "link", &[&topics.events, &topics.identity])?;
        let publisher = Publisher::start(transactions, source.member(), context.metrics.clone())?;
        Ok(Link { context, publisher, source, forest: Forest::default(), owned: None })
    }

    /// One block of statements into one transaction.
    fn batch(&mut self, block: &Block) -> Result<(), RoleError> {
        let Some((partition, next)) = &mut self.owned else { return Ok(()) };
        let settings = &self.context.site.settings;
        let mut outbox = self.publisher.outbox();
        let mut rows = EventsBuilder::new();
        let mut counts: Vec<(&'static str, &'static str)> = Vec::new();
        let first = next.0;
        for record in block.iter().filter(|record| record.offset >= first) {
            next.0 = record.offset + 1;
            let Ok(statement) = serde_json::from_slice::<Statement>(record.bytes) else {
                tracing::error!(
                    offset = record.offset,
                    "a statement about identifiers cannot be read; it has no effect"
                );
                counts.push(("unknown", "unreadable"));
                continue;
            };
            let decision = self.forest.decide(&statement);
            counts.push((kind_word(statement.kind), decision.as_str()));
            let Decision::Change(change) = decision else { continue };
            self.forest.apply(change.entry);
            let key = change.entry.identifier.0.to_string();
            outbox.push(IDENTITY, key.as_bytes(), &serde_json::to_vec(&change.entry)?);
            if let Some(moves) = &change.moves {
                let source = format!("{}-{}-{}#0", partition.topic, partition.number, record.offset);
                tell(&mut rows, moves, change.entry.number, statement.at, &source, |subject, text| {
                    self.context.pseudonyms.event_key(subject, &[b"link", text.as_bytes(), source.as_bytes()])
                })?;
            }
        }
        if next.0 == first {
            return Ok(());
        }
        for (number, rows) in by_owner(&rows.finish()?, settings.topics.partitions)?.iter().enumerate() {
            route::push(&mut outbox, EVENTS, number, rows, settings.limits.batch_bytes, None)?;
        }
        let (offsets, metrics) = (vec![(partition.clone(), *next)], self.context.metrics.clone());
        let committed = Box::new(move || {
            for (kind, outcome) in counts {
                metrics.identity_links.with_label_values(&[kind, outcome]).inc();
            }
        });
        self.publisher.publish(Parcel { outbox, fill: Box::new(|_| Ok(())), offsets, committed })?;
        // Decisions are rare, and who is told of one should not wait for the next.
        Ok(self.publisher.settle()?)
    }
}

/// The rows that tell the partitions of both subjects of a move.
///
/// # Errors
/// If Arrow refuses a row.
pub(super) fn tell(
    rows: &mut EventsBuilder,
    moves: &Move,
    number: u64,
    at: Micros,
    source: &str,
    key: impl Fn(SubjectId, &str) -> events::EventKey,
) -> Result<(), EventsError> {
    for (code, subject, other) in [(JOIN, moves.to, moves.from), (LEAVE, moves.from, moves.to)] {
        let text = Linked { other, number, under: moves.under.clone() }.to_string();
        rows.push(&EventRef {
            subject: Some(subject),
            time: None,
            code,
            numeric_value: None,
            text_value: Some(&text),
            unit: None,
            concept: None,
            recorded_at: at,
            op: Op::Assert,
            event_key: key(subject, &text),
            encounter_id: None,
            source,
            implausible: false,
        })?;
    }
    Ok(())
}
