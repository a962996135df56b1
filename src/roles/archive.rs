//! Role `archive`: the log of record, the scores and the alerts into the case library.
//!
//! Consume, gather, commit: rows and positions go into one Delta commit a table, so that a
//! commit holds exactly the rows after the last position (invariant 4). Reading starts at
//! the library's positions; what Kafka remembers of this group is for lag displays only.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::lag::Lag;
use super::{Context, RoleError};
use crate::events;
use crate::kafka::{Assigned, Block, KafkaError, NextOffset, Partition, Position, Source, SourceEvent, SourceSettings};
use crate::library::{Library, LibraryError, Table, alerts_batch, predictions_batch, with_position};
use crate::telemetry::{Beat, compact_every, fault};

/// Commits after which the small files they left are put together.
const COMPACT_EVERY: u32 = 100;

/// Runs the role until the process stops; what was gathered by then is still committed.
pub(super) fn run(context: &Context, beat: &Beat) -> Result<(), RoleError> {
    let mut role = Archive::open(context)?;
    loop {
        beat.beat();
        role.look_at_lag()?;
        match role.source.next(Duration::from_millis(100))? {
            Some(SourceEvent::Block(block)) => role.gather(&block)?,
            Some(SourceEvent::Assigned(assigned, reply)) => {
                fault("archive", "assigned");
                // A polling thread that gave up waiting has said so itself.
                let _ = reply.send(role.own(&assigned)?);
                beat.ready(true);
            }
            Some(SourceEvent::Revoked(partitions, reply)) => {
                fault("archive", "revoked");
                role.flush()?;
                for partition in &partitions {
                    role.next.remove(partition);
                    context.metrics.forget_partition("archive", &partition.topic, partition.number);
                }
                let _ = reply.send(());
            }
            Some(SourceEvent::Failed(error)) => return Err(error.into()),
            None => {}
        }
        let settings = &context.site.settings.archive;
        let stopping = context.stop.is_stopped();
        if stopping || role.rows >= settings.rows || (role.rows > 0 && role.since.elapsed() >= settings.every) {
            role.flush()?;
        }
        if stopping {
            return Ok(());
        }
    }
}

struct Archive<'c> {
    context: &'c Context,
    library: Library,
    source: Source,
    next: BTreeMap<Partition, NextOffset>,
    lag: Lag,
    tables: [Gathered; 3],
    rows: usize,
    since: Instant,
    commits: u32,
}

/// Partition, offset and bytes of a JSON message.
type Message<'a> = (u32, i64, &'a [u8]);

/// What waits for one table.
#[derive(Debug)]
struct Gathered {
    table: Table,
    topic: String,
    batches: Vec<RecordBatch>,
    up_to: BTreeMap<u32, i64>,
}

impl<'c> Archive<'c> {
    fn open(context: &'c Context) -> Result<Self, RoleError> {
        let settings = &context.site.settings;
        let topics = &settings.topics;
        let table = |table, topic: &str| Gathered {
            table,
            topic: topic.to_owned(),
            batches: Vec::new(),
            up_to: BTreeMap::new(),
        };
        Ok(Archive {
            context,
            library: context.runtime.block_on(Library::open(&settings.library))?,
            source: Source::open(SourceSettings {
                kafka: settings.kafka.clone(),
                limits: settings.limits,
                role: "archive",
                instance: settings.instance.clone(),
                topics: vec![topics.events.clone(), topics.scores.clone(), topics.alerts.clone()],
                writes: None,
            })?,
            next: BTreeMap::new(),
            lag: Lag::new("archive"),
            tables: [
                table(Table::Events, &topics.events),
                table(Table::Predictions, &topics.scores),
                table(Table::Alerts, &topics.alerts),
            ],
            rows: 0,
            since: Instant::now(),
            commits: 0,
        })
    }

    /// Takes partitions over at the library's positions.
    fn own(&mut self, assigned: &[Assigned]) -> Result<Vec<NextOffset>, RoleError> {
        let mut starts = Vec::with_capacity(assigned.len());
        for one in assigned {
            let Some(gathered) = self.tables.iter().find(|t| *t.topic == *one.partition.topic) else {
                return Err(KafkaError::Thread("archive").into());
            };
            let positions = self.context.runtime.block_on(self.library.positions(gathered.table))?;
            let start = match positions.get(&(one.partition.number as u32)) {
                Some(&position) => one.check(Position(position).next())?,
                None => NextOffset(one.low),
            };
            self.next.insert(one.partition.clone(), start);
            starts.push(start);
        }
        Ok(starts)
    }

    fn gather(&mut self, block: &Block) -> Result<(), RoleError> {
        if self.rows == 0 {
            self.since = Instant::now();
        }
        let mut messages: BTreeMap<usize, Vec<Message<'_>>> = BTreeMap::new();
        for record in block.iter() {
            let Some(next) = self.next.get_mut(record.partition) else { continue };
            let Some(table) = self.tables.iter().position(|t| *t.topic == *record.partition.topic) else { continue };
            if record.offset < next.0 {
                continue;
            }
            *next = NextOffset(record.offset + 1);
            let partition = record.partition.number as u32;
            self.tables[table].up_to.insert(partition, record.offset);
            if self.tables[table].table == Table::Events {
                let batch = events::decode(record.bytes).map_err(|cause| RoleError::Log {
                    topic: record.partition.topic.to_string(),
                    partition: record.partition.number,
                    offset: record.offset,
                    cause,
                })?;
                self.rows += batch.num_rows();
                self.tables[table].batches.push(with_position(&batch, partition, record.offset)?);
            } else {
                messages.entry(table).or_default().push((partition, record.offset, record.bytes));
            }
        }
        for (table, messages) in messages {
            self.rows += messages.len();
            let batch = match self.tables[table].table {
                Table::Alerts => alerts_batch(&messages)?,
                _ => predictions_batch(&messages)?,
            };
            self.tables[table].batches.push(batch);
        }
        Ok(())
    }

    fn look_at_lag(&mut self) -> Result<(), RoleError> {
        let (metrics, deadline) = (&self.context.metrics, self.context.site.settings.kafka.deadline);
        let owned = self.next.iter().map(|(partition, next)| (partition.clone(), *next));
        self.lag.measure(&self.source, metrics, &metrics.archive_lag, deadline, owned)
    }

    /// One Delta commit a table for what was gathered.
    fn flush(&mut self) -> Result<(), RoleError> {
        let metrics = &self.context.metrics;
        for gathered in &mut self.tables {
            if gathered.up_to.is_empty() {
                continue;
            }
            let timer = metrics.stage_seconds.with_label_values(&["archive"]).start_timer();
            let batches = std::mem::take(&mut gathered.batches);
            let up_to = std::mem::take(&mut gathered.up_to);
            fault("archive", "gathered");
            let rows = self.context.runtime.block_on(self.library.append(gathered.table, batches, &up_to))?;
            if fault("archive", "appended") {
                return Err(LibraryError::Conflict { table: gathered.table }.into());
            }
            timer.observe_duration();
            metrics.archived_rows.with_label_values(&[gathered.table.name()]).inc_by(rows);
            if gathered.table == Table::Events {
                for (partition, position) in up_to {
                    metrics.archive_position.with_label_values(&[&partition.to_string()]).set(position);
                }
            }
        }
        self.rows = 0;
        self.commits += 1;
        if self.commits.is_multiple_of(compact_every(COMPACT_EVERY)) {
            self.tidy();
        }
        Ok(())
    }

    /// Puts small files together and removes those that were replaced long ago. Nothing depends on
    /// it but speed, so a failure is told and tried again later.
    fn tidy(&self) {
        for gathered in &self.tables {
            let table = gathered.table;
            let done = self.context.runtime.block_on(async {
                self.library.compact(table).await?;
                self.library.vacuum(table).await
            });
            if let Err(error) = done {
                tracing::warn!(table = table.name(), %error, "the library was not tidied this time");
            }
        }
    }
}
