//! How far each raw partition of this process has been read: the hands of the clock.
//!
//! Pure: it is told of records, of the time and of the log's ends, and says which ticks
//! are due. A tick promises that everything of its raw partition recorded up to its time
//! was written before it.

use std::collections::BTreeMap;
use std::time::Instant;

use arrow::array::RecordBatch;

use crate::events::{EventKey, EventRef, EventsBuilder, EventsError, Micros, Op, TICK};
use crate::kafka::{NextOffset, Partition};
use crate::settings::{Clock, Time};

/// The raw partitions that this process owns.
#[derive(Debug)]
pub(super) struct Ticks {
    time: Time,
    raw_partitions: usize,
    owned: BTreeMap<Partition, Hand>,
    /// When the quiet partitions were looked at last: all at once, so that they share a transaction.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Hand {
    next: NextOffset,
    quiet_since: Instant,
    now: State,
    /// What the log holds of it; `None`: nothing yet from this owner.
    told: Option<State>,
}

#[derive(Copy, Clone, PartialEq, Default, Debug)]
struct State {
    watermark: Option<Micros>,
    idle: bool,
}

impl Ticks {
    /// No partition owned and none counted.
    pub(super) fn new(time: Time) -> Self {
        Ticks { time, raw_partitions: 0, owned: BTreeMap::new(), looked: None }
    }

    /// How many raw partitions the site has in all.
    pub(super) fn count(&mut self, raw_partitions: usize) {
        self.raw_partitions = raw_partitions;
    }

    /// A partition was given to this process, read from `next` on.
    pub(super) fn own(&mut self, partition: Partition, next: NextOffset, now: Instant) {
        self.owned.insert(partition, Hand { next, quiet_since: now, now: State::default(), told: None });
    }

    /// A partition was taken away.
    pub(super) fn disown(&mut self, partition: &Partition) {
        self.owned.remove(partition);
    }

    /// Where reading of an owned partition goes on; `None` if it is not owned.
    pub(super) fn next(&self, partition: &Partition) -> Option<NextOffset> {
        self.owned.get(partition).map(|hand| hand.next)
    }

    /// Records of an owned partition were read up to `next`, the latest recorded at `recorded`.
    pub(super) fn read(&mut self, partition: &Partition, next: NextOffset, recorded: Option<Micros>, now: Instant) {
        if let Some(hand) = self.owned.get_mut(partition) {
            hand.next = next;
            hand.quiet_since = now;
            hand.now = State { watermark: hand.now.watermark.max(recorded), idle: false };
        }
    }

    /// Where reading of every owned partition goes on.
    pub(super) fn owned(&self) -> impl Iterator<Item = (Partition, NextOffset)> {
        self.owned.iter().map(|(partition, hand)| (partition.clone(), hand.next))
    }

    /// Watermark of every owned partition that has one, for the metrics.
    pub(super) fn watermarks(&self) -> impl Iterator<Item = (&Partition, Micros)> {
        self.owned.iter().filter_map(|(partition, hand)| Some((partition, hand.now.watermark?)))
    }

    /// The partitions quiet for so long that the end of their log is to be looked up.
    pub(super) fn quiet(&mut self, now: Instant) -> Vec<Partition> {
        let (pace, wait) = match self.time.clock {
            Clock::Events => return Vec::new(),
            Clock::Wall => (self.time.tick, self.time.tick / 2),
            Clock::Log => (self.time.idle / 4, self.time.idle),
        };
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < pace) {
            return Vec::new();
        }
        self.looked = Some(now);
        let quiet = |hand: &Hand| !hand.now.idle && now.duration_since(hand.quiet_since) >= wait;
        self.owned.iter().filter(|(_, hand)| quiet(hand)).map(|(partition, _)| partition.clone()).collect()
    }

    /// The end of a quiet partition's log: if it is reached, the wall clock moves its hand, or it
    /// counts as idle.
    pub(super) fn end(&mut self, partition: &Partition, end: i64, wall: Micros, now: Instant) {
        let Some(hand) = self.owned.get_mut(partition) else { return };
        hand.quiet_since = now;
        // A transaction of whoever feeds the topic leaves a marker, which is never delivered.
        if hand.next.0 + 1 < end {
            return;
        }
        match self.time.clock {
            Clock::Wall => hand.now.watermark = hand.now.watermark.max(Some(wall)),
            Clock::Log => hand.now.idle = true,
            Clock::Events => {}
        }
    }

    /// The ticks that are due, as event rows; once they are committed, call [`told`](Self::told).
    ///
    /// # Errors
    /// If Arrow refuses the rows.
    pub(super) fn due(&self) -> Result<Option<RecordBatch>, EventsError> {
        let mut builder = EventsBuilder::new();
        for (partition, hand) in self.owned.iter().filter(|(_, hand)| self.is_due(hand)) {
            let source = format!("{}-{}", partition.topic, partition.number);
            builder.push(&EventRef {
                subject: None,
                time: hand.now.watermark,
                code: TICK,
                numeric_value: Some(self.raw_partitions as f32),
                text_value: hand.now.idle.then_some("idle"),
                unit: None,
                concept: None,
                implausible: false,
                recorded_at: hand.now.watermark.unwrap_or(0),
                op: Op::Assert,
                event_key: EventKey([0; 16]),
                encounter_id: None,
                source: &source,
            })?;
        }
        if builder.is_empty() { Ok(None) } else { Ok(Some(builder.finish()?)) }
    }

    /// What was due is in the log now.
    pub(super) fn told(&mut self) {
        let time = self.time;
        for hand in self.owned.values_mut().filter(|hand| is_due(time, hand)) {
            hand.told = Some(hand.now);
        }
    }

    fn is_due(&self, hand: &Hand) -> bool {
        is_due(self.time, hand)
    }
}

fn is_due(time: Time, hand: &Hand) -> bool {
    if time.clock == Clock::Events {
        return false;
    }
    let Some(told) = hand.told else { return true };
    let advanced = match (told.watermark, hand.now.watermark) {
        (Some(before), Some(now)) => now - before >= time.tick.as_micros() as i64,
        (before, now) => before != now,
    };
    // A partition that goes idle tells its last watermark too, however small the step.
    told.idle != hand.now.idle || advanced
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::events::{EventsView, SECOND};

    fn ticks(clock: Clock) -> (Ticks, Partition, Instant) {
        let (tick, idle) = (Duration::from_secs(10), Duration::from_secs(5));
        let time = Time { clock, tick, idle, zone: chrono_tz::UTC };
        let partition = Partition { topic: "raw".into(), number: 3 };
        let (mut ticks, now) = (Ticks::new(time), Instant::now());
        ticks.count(12);
        ticks.own(partition.clone(), NextOffset(0), now);
        (ticks, partition, now)
    }

    fn told(ticks: &mut Ticks) -> Option<(Option<Micros>, bool)> {
        let batch = ticks.due().unwrap()?;
        ticks.told();
        let view = EventsView::new(&batch).unwrap();
        assert_eq!((view.len(), view.row(0).source, view.row(0).numeric_value), (1, "raw-3", Some(12.0)));
        Some((view.row(0).time, view.row(0).text_value == Some("idle")))
    }

    #[test]
    fn a_new_owner_says_first_that_it_knows_nothing() {
        let (mut ticks, partition, now) = ticks(Clock::Log);
        assert_eq!(told(&mut ticks), Some((None, false)));
        assert_eq!(told(&mut ticks), None);
        ticks.read(&partition, NextOffset(5), Some(100 * SECOND), now);
        assert_eq!(told(&mut ticks), Some((Some(100 * SECOND), false)));
        ticks.read(&partition, NextOffset(6), Some(109 * SECOND), now);
        assert_eq!(told(&mut ticks), None, "less than a tick");
        ticks.read(&partition, NextOffset(7), Some(90 * SECOND), now);
        ticks.read(&partition, NextOffset(8), Some(110 * SECOND), now);
        assert_eq!(told(&mut ticks), Some((Some(110 * SECOND), false)));
    }

    #[test]
    fn the_log_clock_goes_idle_only_when_quiet_and_caught_up() {
        let (mut ticks, partition, now) = ticks(Clock::Log);
        ticks.read(&partition, NextOffset(8), Some(SECOND), now);
        told(&mut ticks);
        assert!(ticks.quiet(now + Duration::from_secs(4)).is_empty());
        let later = now + Duration::from_secs(6);
        assert_eq!(ticks.quiet(later), std::slice::from_ref(&partition));
        ticks.end(&partition, 20, 0, later);
        assert_eq!(told(&mut ticks), None, "twelve records are still unread");
        ticks.end(&partition, 8, 0, later);
        assert_eq!(told(&mut ticks), Some((Some(SECOND), true)));
        assert!(ticks.quiet(later + Duration::from_secs(60)).is_empty(), "idle already");
        ticks.read(&partition, NextOffset(9), Some(2 * SECOND), later);
        assert_eq!(told(&mut ticks), Some((Some(2 * SECOND), false)));
    }

    #[test]
    fn the_wall_clock_moves_a_hand_that_is_caught_up() {
        let (mut ticks, partition, now) = ticks(Clock::Wall);
        told(&mut ticks);
        let later = now + Duration::from_secs(11);
        assert_eq!(ticks.quiet(later), std::slice::from_ref(&partition));
        ticks.end(&partition, 0, 500 * SECOND, later);
        assert_eq!(told(&mut ticks), Some((Some(500 * SECOND), false)));
    }

    #[test]
    fn without_a_clock_there_are_no_ticks() {
        let (mut ticks, partition, now) = ticks(Clock::Events);
        ticks.read(&partition, NextOffset(5), Some(100 * SECOND), now);
        assert_eq!(told(&mut ticks), None);
    }
}
