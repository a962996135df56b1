//! Goes through the log of record, the scores, the alerts, the dead letters and what is left of the raw
//! topics, each once, and shows them to the checks. The only part of `verify` that reads.

use std::collections::BTreeMap;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use tokio::runtime::Handle;

use super::archive::{self, Shelf};
use super::positions::{Part, Positions, Topic};
use super::raw::{Raw, Row};
use super::report::{Findings, Invariant};
use super::rows::{Rows, Shelved};
use super::scores::{Message, Said, Scores};
use super::state;
use crate::cli::CliError;
use crate::events::{self, EventsView, Pseudonyms, SubjectId, bucket};
use crate::features::{Due, Fold};
use crate::kafka::{Found, Scan};
use crate::library::{
    Library, LibraryError, Snapshot, Table, alerts_batch, positions, predictions_batch, with_position,
};
use crate::normalize::{Normalizer, Record};
use crate::roles::{Letter, RoleError, Site};

/// Most records that are normalized at once.
const RECORDS: usize = 1_000;
/// About how many bytes of them.
const BYTES: usize = 8 << 20;

/// The tables of the library that there are.
pub(super) type Tables = BTreeMap<Table, Snapshot>;

/// The tables of a library as they are now.
pub(super) async fn tables(library: &Library) -> Result<Tables, LibraryError> {
    let mut tables = Tables::new();
    for table in Table::ALL {
        tables.extend(library.snapshot(table).await?.map(|snapshot| (table, snapshot)));
    }
    Ok(tables)
}

/// All that is read, and what is found.
pub(super) struct Walk<'s> {
    pub(super) site: &'s Site,
    pub(super) runtime: Handle,
    positions: &'s Positions,
    /// The tables of the library, as they were before the topics were asked for their ends.
    pub(super) tables: Tables,
    raw: Raw,
    scores: Scores,
    state: Findings,
    archive: Findings,
    bar: indicatif::ProgressBar,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("positions", self.positions).finish_non_exhaustive()
    }
}

impl<'s> Walk<'s> {
    pub(super) fn new(
        site: &'s Site,
        tables: Tables,
        positions: &'s Positions,
        runtime: Handle,
        bar: indicatif::ProgressBar,
    ) -> Self {
        let is_cut = |topic: &Topic| topic.parts.iter().any(|part| part.low > 0);
        let mut raw = Raw::new(&positions.raw, site.settings.topics.partitions, is_cut(&positions.letters));
        let mut scores = Scores::new(&positions.events.name, is_cut(&positions.scores));
        for (topic, why) in &positions.stuck {
            scores.note(why);
            if *topic == positions.events.name || *topic == positions.letters.name {
                raw.blind(why);
            }
        }
        let (state, archive) = (Findings::default(), Findings::default());
        Walk { site, runtime, positions, tables, raw, scores, state, archive, bar }
    }

    /// Goes through all of it.
    pub(super) fn run(mut self) -> Result<Vec<Invariant>, CliError> {
        let positions = self.positions;
        self.events()?;
        self.outputs(Table::Predictions, &positions.scores)?;
        self.outputs(Table::Alerts, &positions.alerts)?;
        self.letters()?;
        self.left()?;
        Ok(vec![
            self.raw.finish().into_invariant(
                1,
                "every raw message ends as events, as a dead letter, or as a counted deliberate drop",
            ),
            self.scores.finish().into_invariant(
                2,
                "an alert is visible to a read_committed consumer if and only if its input offset is committed",
            ),
            self.state.into_invariant(3, "state after a restart equals state without one, bit by bit"),
            self.archive.into_invariant(
                4,
                "a Delta commit for a partition holds exactly the rows of (previous position, position]",
            ),
        ])
    }

    /// How far a table is archived, by partition; the commits that led there are looked at.
    fn archived(&mut self, table: Table, topic: &Topic) -> Result<BTreeMap<u32, i64>, CliError> {
        let Some(snapshot) = self.tables.get(&table) else { return Ok(BTreeMap::new()) };
        archive::commits(&topic.name, &self.runtime.block_on(snapshot.commits())?, &mut self.archive);
        Ok(self.runtime.block_on(snapshot.positions())?)
    }

    /// A partition of a table, to be compared with that of its topic.
    fn shelf(
        &self,
        table: Table,
        topic: &'s Topic,
        part: &Part,
        archived: Option<i64>,
    ) -> Result<Option<Shelf<'s>>, CliError> {
        let Some(snapshot) = self.tables.get(&table) else { return Ok(None) };
        let shelved = Shelved::new(self.runtime.clone(), snapshot.history(part.number as u32)?, Rows::of(table)?);
        let positions = (part.low, archived.unwrap_or(-1));
        Ok(Some(Shelf::new(&topic.name, part.number, positions, Box::new(shelved))))
    }

    /// The log of record, partition by partition.
    fn events(&mut self) -> Result<(), CliError> {
        let topic = &self.positions.events;
        if !self.tables.contains_key(&Table::Events) {
            self.archive.undecided("nothing was archived yet");
            self.state.undecided("nothing was archived yet");
        }
        let archived = self.archived(Table::Events, topic)?;
        if topic.parts.iter().all(|part| part.before == part.low) {
            self.scores.nothing_is_scored();
        }
        for part in &topic.parts {
            self.bar.set_message(format!("reading {}-{}", topic.name, part.number));
            self.partition(part, archived.get(&(part.number as u32)).copied())?;
        }
        Ok(())
    }

    /// A partition of the log of record: shown to the accounts of the raw topics, beside the library, and
    /// folded.
    fn partition(&mut self, part: &Part, archived: Option<i64>) -> Result<(), CliError> {
        let (topic, number) = (&self.positions.events.name, part.number);
        let mut fold = self.site.fold();
        let is_whole = self.before_the_log(part, archived, &mut fold)?;
        let rows = Rows::of(Table::Events)?;
        let mut shelf = self.shelf(Table::Events, &self.positions.events, part, archived)?;
        let mut due = Due::new();
        let mut without = None;
        log(self.site, number, (part.low, part.end), |offset, batch| {
            if let Some(shelf) = shelf.as_mut().filter(|shelf| shelf.wants(offset)) {
                let message = rows.message(offset, &with_position(batch, number as u32, offset)?)?;
                shelf.compare(&message, &mut self.archive)?;
            }
            if offset >= part.before && without.is_none() {
                without = Some(fold.fingerprint());
            }
            self.rows(batch, (number, offset), part, &mut fold, is_whole.then_some(&mut due))
        })?;
        if let Some(shelf) = shelf {
            shelf.finish(&mut self.archive)?;
        }
        let without = without.unwrap_or_else(|| fold.fingerprint());
        drop(fold);
        match archived {
            _ if part.low > 0 => {
                let why = "no longer holds its beginning, so there is no state of the log alone to compare with";
                self.state.undecided(format!("{topic}-{number} {why}"));
            }
            Some(archived) => {
                let after = state::restarted(self, number, archived, part.before)?;
                state::compare(&mut self.state, topic, (number, part.before), without, after);
                self.state.count("offsets", part.before.unsigned_abs());
                self.state.count("offsets_from_the_library", (archived + 1).min(part.before).unsigned_abs());
            }
            None if self.tables.contains_key(&Table::Events) => {
                self.state.undecided(format!("nothing of {topic}-{number} was archived yet"));
            }
            None => {}
        }
        Ok(())
    }

    /// Shows what was imported, and what Kafka no longer holds of a partition, from the library. False if the
    /// library does not reach to where the log begins.
    fn before_the_log(&mut self, part: &Part, archived: Option<i64>, fold: &mut Fold) -> Result<bool, CliError> {
        let topic = &self.positions.events.name;
        let is_whole = part.low == 0 || archived.is_some_and(|archived| archived + 1 >= part.low);
        if !is_whole {
            let why = format!("{topic}-{} before {} is neither in Kafka nor in the library", part.number, part.low);
            self.raw.blind(&why);
            self.scores.partition_is_unknown(part.number, &why);
        }
        let Some(snapshot) = self.tables.get(&Table::Events) else { return Ok(is_whole) };
        let mut history = snapshot.history(part.number as u32)?;
        let mut due = Due::new();
        let mut imported = 0;
        loop {
            let batch = match self.runtime.block_on(history.next()) {
                Ok(Some(batch)) => batch,
                // The comparison with the log tells of it.
                Ok(None) | Err(LibraryError::Double { .. }) => break,
                Err(error) => return Err(error.into()),
            };
            let view = EventsView::new(&batch)?;
            let all = positions(&batch)?;
            let before = all.partition_point(|position| *position < part.low);
            for (row, &position) in all[..before].iter().enumerate() {
                let event = view.row(row);
                if position < 0 {
                    imported += 1;
                    fold.apply(&event, None);
                    continue;
                }
                self.raw.row(Row { topic, partition: part.number, offset: position }, &event);
                fold.apply(&event, is_whole.then_some(&mut due));
                tell(&mut self.scores, self.site, (part.number, position), true, &mut due);
            }
            if before < all.len() {
                break;
            }
        }
        if imported > 0 {
            self.scores
                .note("history was imported; scores made before it was known differ from those that fall due with it");
        }
        Ok(is_whole)
    }

    /// The rows of one message of the log of record.
    fn rows(
        &mut self,
        batch: &RecordBatch,
        (number, offset): (i32, i64),
        part: &Part,
        fold: &mut Fold,
        mut due: Option<&mut Due>,
    ) -> Result<(), CliError> {
        let topic = &self.positions.events.name;
        let view = EventsView::new(batch)?;
        for row in 0..view.len() {
            let event = view.row(row);
            self.raw.row(Row { topic, partition: number, offset }, &event);
            if offset < part.after {
                fold.apply(&event, due.as_deref_mut());
            }
        }
        if let Some(due) = due {
            tell(&mut self.scores, self.site, (number, offset), offset < part.before, due);
        }
        Ok(())
    }

    /// The scores or the alerts, beside their table.
    fn outputs(&mut self, table: Table, topic: &'s Topic) -> Result<(), CliError> {
        self.bar.set_message(format!("reading {}", topic.name));
        let rows = Rows::of(table)?;
        let archived = self.archived(table, topic)?;
        for part in &topic.parts {
            let mut shelf = self.shelf(table, topic, part, archived.get(&(part.number as u32)).copied())?;
            let kafka = &self.site.settings.kafka;
            let mut scan = Scan::parts(kafka, &topic.name, [(part.number, part.low, part.end)])?;
            while let Some(Found { offset, bytes, .. }) = scan.read()? {
                let place = (part.number as u32, offset, bytes.as_slice());
                let batch = match table {
                    Table::Alerts => alerts_batch(&[place]),
                    _ => predictions_batch(&[place]),
                };
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(LibraryError::Message { .. }) => {
                        let what = "a message is no score or alert, and cannot be archived";
                        self.archive.violation(what, &topic.name, part.number, offset);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                if let Some(shelf) = shelf.as_mut().filter(|shelf| shelf.wants(offset)) {
                    shelf.compare(&rows.message(offset, &batch)?, &mut self.archive)?;
                }
                self.output(table, topic, part.number, offset, &batch);
            }
            if let Some(shelf) = shelf {
                shelf.finish(&mut self.archive)?;
            }
        }
        Ok(())
    }

    /// A score or an alert as a row of its table.
    fn output(&mut self, table: Table, topic: &Topic, partition: i32, offset: i64, batch: &RecordBatch) {
        let text = |name: &str| {
            let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
            column.iter().next().flatten()
        };
        let subject = batch.column_by_name("subject").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let time = batch.column_by_name("prediction_time");
        let time = time.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let (Some(subject), Some(time)) = (subject, time) else { return };
        let subject = SubjectId(subject.value(0));
        let said =
            Said { task: text("task").unwrap_or_default(), subject, encounter: text("encounter"), time: time.value(0) };
        let is_consumed = text("source").is_none_or(|source| self.raw.is_consumed(source));
        let message = Message { topic: &topic.name, partition, offset, is_consumed, said };
        let owner = bucket(subject, self.site.settings.topics.partitions) as i32;
        match table {
            Table::Alerts => self.scores.alert(message, text("alert_id").unwrap_or_default(), owner),
            _ => self.scores.score(message, owner),
        }
    }

    fn letters(&mut self) -> Result<(), CliError> {
        let topic = &self.positions.letters;
        self.bar.set_message(format!("reading {}", topic.name));
        let parts = topic.parts.iter().map(|part| (part.number, part.low, part.end));
        let mut scan = Scan::parts(&self.site.settings.kafka, &topic.name, parts)?;
        while let Some(found) = scan.read()? {
            let at = Row { topic: &topic.name, partition: found.partition, offset: found.offset };
            self.raw.letter(at, Letter::read(&found.headers).as_ref());
        }
        Ok(())
    }

    /// Normalizes again what has neither events nor a dead letter.
    fn left(&mut self) -> Result<(), CliError> {
        // How records end does not depend on the key, so the site's secret is not asked for.
        let key = Pseudonyms::new(b"only to see how records end")?;
        let mut normalizer = self.site.normalizer(key).map_err(CliError::Site)?;
        for account in 0..self.raw.accounts() {
            let Some((topic, number, from, end)) = self.raw.left(account) else { continue };
            let topic = topic.to_owned();
            self.bar.set_message(format!("reading {topic}-{number}"));
            let mut scan = Scan::parts(&self.site.settings.kafka, &topic, [(number, from, end)])?;
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(found) = scan.read()? {
                if !self.raw.is_left(account, found.offset) {
                    continue;
                }
                bytes += found.bytes.len();
                batch.push(found);
                if batch.len() >= RECORDS || bytes >= BYTES {
                    self.end(&mut normalizer, account, &topic, &batch)?;
                    (batch, bytes) = (Vec::new(), 0);
                }
            }
            self.end(&mut normalizer, account, &topic, &batch)?;
        }
        Ok(())
    }

    fn end(
        &mut self,
        normalizer: &mut Normalizer,
        account: usize,
        topic: &str,
        batch: &[Found],
    ) -> Result<(), CliError> {
        let Some(raw) = self.site.settings.topics.raw.iter().find(|raw| raw.topic == topic) else { return Ok(()) };
        let records: Vec<Record<'_>> = batch
            .iter()
            .map(|found| Record {
                topic,
                partition: found.partition,
                offset: found.offset,
                timestamp: Some(found.timestamp_ms.saturating_mul(1000)),
                format: raw.format,
                assigner: &raw.assigner,
                bytes: &found.bytes,
            })
            .collect();
        let normalized = normalizer.run(&records)?;
        for (record, outcome) in records.iter().zip(&normalized.outcomes) {
            self.raw.ended(account, record.offset, outcome);
        }
        Ok(())
    }
}

/// Shows what lies in a range of a partition of the log of record: offset and rows of every message.
pub(super) fn log(
    site: &Site,
    number: i32,
    (from, end): (i64, i64),
    mut each: impl FnMut(i64, &RecordBatch) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let topic = &site.settings.topics.events;
    let mut scan = Scan::parts(&site.settings.kafka, topic, [(number, from, end)])?;
    while let Some(Found { offset, bytes, .. }) = scan.read()? {
        let batch = events::decode(&bytes).map_err(|cause| {
            CliError::Role(RoleError::Log { topic: topic.clone(), partition: number, offset, cause })
        })?;
        each(offset, &batch)?;
    }
    Ok(())
}

/// Hands over what fell due with a message.
fn tell(scores: &mut Scores, site: &Site, place: (i32, i64), is_certain: bool, due: &mut Due) {
    for one in &due.rows {
        let Some(task) = site.tasks.get(one.trigger) else { continue };
        let said = Said { task: &task.name, subject: one.subject, encounter: one.encounter.as_deref(), time: one.time };
        scores.due(place, is_certain, &said);
    }
    due.clear();
}
