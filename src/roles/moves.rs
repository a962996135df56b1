//! What a link takes from one subject, written to the other: the part of role `score` in it.
//!
//! The owner of a partition alone sees all rows of a subject that leaves it, in their order, and
//! commits what it writes together with how far it has read. So it writes the facts that the
//! subject held, and later every straggler, into the partition of the subject that holds them
//! now: once, and none is missed.
//!
//! A link of something that has a history is rare, and so this is simple and slow: it reads that
//! history anew.

use std::collections::{HashMap, HashSet};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use super::past;
use super::route::{self, by_owner};
use super::{Context, RoleError};
use crate::events::{
    EventKey, EventRef, EventsBuilder, EventsError, EventsView, LEAVE, Linked, Links, Micros, Said, Seen, SubjectId,
    Told,
};
use crate::kafka::Outbox;
use crate::library::Library;

/// What has to move, in the order in which it was read.
#[derive(Default, Debug)]
pub(super) struct Moves {
    items: Vec<Item>,
    stragglers: EventsBuilder,
}

#[derive(Debug)]
enum Item {
    Stragglers(RecordBatch),
    Departure(i32, Departure),
}

/// A subject that loses what it held under some identifiers.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Departure {
    /// Where its row stands: position and row.
    at: (i64, i32),
    subject: SubjectId,
    linked: Linked,
    /// When that became known.
    recorded: Micros,
}

impl Moves {
    /// A live row, at this place, of a subject whose facts under its identifier are another's; it was
    /// said under the link of this number.
    ///
    /// # Errors
    /// If Arrow refuses the row.
    pub(super) fn straggler(
        &mut self,
        event: &EventRef<'_>,
        to: SubjectId,
        number: u64,
        (offset, row): (i64, usize),
    ) -> Result<(), EventsError> {
        let said = Said { number, offset, row: i32::try_from(row).unwrap_or(i32::MAX) };
        push(&mut self.stragglers, event, to, event.recorded_at, said)
    }

    /// A live row, at this place, by which a subject loses something that it held.
    ///
    /// # Errors
    /// If Arrow refuses the rows before it.
    pub(super) fn departure(
        &mut self,
        partition: i32,
        (offset, row): (i64, usize),
        event: &EventRef<'_>,
    ) -> Result<(), EventsError> {
        if let Some((subject, linked)) = event.subject.zip(Linked::of(event)) {
            self.cut()?;
            let row = i32::try_from(row).unwrap_or(i32::MAX);
            let departure = Departure { at: (offset, row), subject, linked, recorded: event.recorded_at };
            self.items.push(Item::Departure(partition, departure));
        }
        Ok(())
    }

    /// Puts all of it into the outbox, whose topic `events` is the log of record.
    ///
    /// # Errors
    /// If the history of a subject that leaves cannot be read whole.
    pub(super) fn write(
        &mut self,
        context: &Context,
        library: &Library,
        outbox: &mut Outbox,
        events: usize,
    ) -> Result<(), RoleError> {
        let settings = &context.site.settings;
        for rows in self.rows(|partition, departures| history(context, library, partition, departures))? {
            for (partition, rows) in by_owner(&rows, settings.topics.partitions)?.iter().enumerate() {
                route::push(outbox, events, partition, rows, settings.limits.batch_bytes, None)?;
            }
        }
        Ok(())
    }

    /// All of it as rows of the subjects that hold them now, in their order. `history` gives what
    /// the subjects of departures from a partition held, by the place of each.
    fn rows(
        &mut self,
        mut history: impl FnMut(i32, Vec<Departure>) -> Result<HashMap<(i64, i32), RecordBatch>, RoleError>,
    ) -> Result<Vec<RecordBatch>, RoleError> {
        self.cut()?;
        let items = std::mem::take(&mut self.items);
        let mut by_partition: HashMap<i32, Vec<Departure>> = HashMap::new();
        for item in &items {
            if let Item::Departure(partition, departure) = item {
                by_partition.entry(*partition).or_default().push(departure.clone());
            }
        }
        let mut held = HashMap::new();
        for (partition, departures) in by_partition {
            let found = history(partition, departures)?;
            held.extend(found.into_iter().map(|(at, rows)| ((partition, at), rows)));
        }
        let rows = items.into_iter().filter_map(|item| match item {
            Item::Stragglers(rows) => Some(rows),
            Item::Departure(partition, departure) => held.remove(&(partition, departure.at)),
        });
        Ok(rows.collect())
    }

    /// What comes from here on is written after what came before.
    fn cut(&mut self) -> Result<(), EventsError> {
        if !self.stragglers.is_empty() {
            self.items.push(Item::Stragglers(self.stragglers.finish()?));
        }
        Ok(())
    }
}

/// Adds a row as one that is moved to a subject; `said` is where it was said, if it was not moved
/// before.
fn push(
    builder: &mut EventsBuilder,
    event: &EventRef<'_>,
    to: SubjectId,
    recorded: Micros,
    said: Said,
) -> Result<(), EventsError> {
    let told = Told::of(event.source);
    let under = told.under.or(event.subject).filter(|under| *under != to);
    let source = Told { place: told.place, under, moved: told.moved.or(Some(said)) }.to_string();
    builder.push(&EventRef { subject: Some(to), recorded_at: recorded, source: &source, ..*event })
}

/// What the subjects of some departures from a partition held, as rows of those that hold it now,
/// by the place of the departure.
fn history(
    context: &Context,
    library: &Library,
    partition: i32,
    departures: Vec<Departure>,
) -> Result<HashMap<(i64, i32), RecordBatch>, RoleError> {
    let last = departures.iter().map(|departure| departure.at.0).max().unwrap_or(0);
    let archived = past::archived(context, library, partition)?;
    let mut collector = Collector::new(departures);
    let subjects = collector.subjects();
    past::read(context, library, partition, subjects, (archived, last), |batch, places| collector.take(batch, places))?;
    Ok(collector.found)
}

/// The last word on a fact.
#[derive(Copy, Clone, Debug)]
struct Word {
    under: SubjectId,
    said: Said,
    /// Batch and row.
    place: (usize, usize),
}

/// Goes through the rows of a partition and keeps what some subjects hold.
struct Collector {
    departures: Vec<Departure>,
    wanted: HashSet<SubjectId>,
    links: Links,
    batches: Vec<RecordBatch>,
    /// The last word on every fact, even if it withdrew it: an older one may still be on its way.
    held: HashMap<SubjectId, HashMap<EventKey, Word>>,
    found: HashMap<(i64, i32), RecordBatch>,
}

impl Collector {
    fn new(departures: Vec<Departure>) -> Self {
        Collector {
            wanted: departures.iter().map(|departure| departure.subject).collect(),
            departures,
            links: Links::default(),
            batches: Vec::new(),
            held: HashMap::new(),
            found: HashMap::new(),
        }
    }

    fn subjects(&self) -> Vec<SubjectId> {
        self.wanted.iter().copied().collect()
    }

    /// Takes the next rows, with the place of each.
    fn take(&mut self, batch: &RecordBatch, places: &[(i64, i32)]) -> Result<(), EventsError> {
        let view = EventsView::new(batch)?;
        let is_wanted = |row: &usize| view.row(*row).subject.is_some_and(|subject| self.wanted.contains(&subject));
        let rows: Vec<usize> = (0..view.len()).filter(is_wanted).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let index: UInt32Array = rows.iter().map(|row| *row as u32).collect::<Vec<_>>().into();
        let batch = take_record_batch(batch, &index)?;
        let number = self.batches.len();
        self.batches.push(batch.clone());
        let view = EventsView::new(&batch)?;
        for (i, row) in rows.into_iter().enumerate() {
            let event = view.row(i);
            let Some(subject) = event.subject else { continue };
            let departure = self.departures.iter().find(|one| event.code == LEAVE && places.get(row) == Some(&one.at));
            if let Some(departure) = departure.cloned() {
                let rows = self.depart(&departure)?;
                self.found.insert(departure.at, rows);
            }
            let held = self.held.entry(subject).or_default();
            match self.links.see(&event) {
                Seen::Row(told) => {
                    let under = told.under.unwrap_or(subject);
                    let (offset, row) = places.get(row).copied().unwrap_or_default();
                    let said = Said { number: self.links.number(subject, under), offset, row };
                    held.insert(event.event_key, Word { under, said, place: (number, i) });
                }
                Seen::LeftAll => held.clear(),
                Seen::Left(keys) => held.retain(|key, _| !keys.contains(key)),
                Seen::Outdated | Seen::Elsewhere(..) | Seen::Joined => {}
            }
        }
        Ok(())
    }

    /// What goes, in the order in which it came.
    fn depart(&self, departure: &Departure) -> Result<RecordBatch, EventsError> {
        let held = self.held.get(&departure.subject).into_iter().flat_map(HashMap::values);
        let mut words: Vec<&Word> = held.filter(|word| departure.linked.under.contains(&word.under)).collect();
        words.sort_unstable_by_key(|word| word.place);
        let views = self.batches.iter().map(EventsView::new).collect::<Result<Vec<_>, _>>()?;
        let mut builder = EventsBuilder::new();
        for word in words {
            let event = views[word.place.0].row(word.place.1);
            push(&mut builder, &event, departure.linked.other, event.recorded_at.max(departure.recorded), word.said)?;
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests;
