//! The clock of a partition of the log, made of ticks alone.

use std::collections::BTreeMap;

use crate::events::{EventRef, Micros};

/// Text of a tick whose raw partition is read to its end and quiet.
const IDLE: &str = "idle";

/// Most raw partitions that a tick can claim.
const MOST: f32 = 1e6;

/// How far the raw partitions have been read, and what time that makes.
#[derive(Default)]
pub(super) struct Clock {
    hands: BTreeMap<Box<str>, Hand>,
    /// Raw partitions in all, as the last tick says.
    expected: usize,
    now: Option<Micros>,
}

/// The last word of one raw partition.
#[derive(Copy, Clone, Default)]
struct Hand {
    watermark: Option<Micros>,
    idle: bool,
}

impl Clock {
    /// The time, `None` while a raw partition has not told its own.
    pub(super) fn now(&self) -> Option<Micros> {
        self.now
    }

    /// Takes in a tick.
    ///
    /// The time is the least watermark of the raw partitions that are not idle, or the
    /// greatest of all if every one is. It may go back when an idle one wakes; what was due
    /// has fired by then and does not fire again.
    pub(super) fn tick(&mut self, tick: &EventRef<'_>) {
        if let Some(expected) = tick.numeric_value.filter(|n| (1.0..=MOST).contains(n)) {
            self.expected = expected as usize;
        }
        if !self.hands.contains_key(tick.source) {
            self.hands.insert(tick.source.into(), Hand::default());
        }
        if let Some(hand) = self.hands.get_mut(tick.source) {
            hand.watermark = hand.watermark.max(tick.time);
            hand.idle = tick.text_value == Some(IDLE);
        }
        self.now = self.read();
    }

    fn read(&self) -> Option<Micros> {
        if self.expected == 0 || self.hands.len() < self.expected {
            return None;
        }
        let mut busy = self.hands.values().filter(|hand| !hand.idle).peekable();
        if busy.peek().is_none() {
            return self.hands.values().filter_map(|hand| hand.watermark).max();
        }
        // None is the least: a partition that has read nothing yet holds the clock back.
        busy.map(|hand| hand.watermark).min().flatten()
    }

    /// Feeds everything the clock holds to `hasher`.
    pub(super) fn digest(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&(self.expected as u64).to_le_bytes());
        for (source, hand) in &self.hands {
            hasher.update(&(source.len() as u64).to_le_bytes());
            hasher.update(source.as_bytes());
            hasher.update(&[u8::from(hand.idle), u8::from(hand.watermark.is_some())]);
            hasher.update(&hand.watermark.unwrap_or(0).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tick;
    use super::*;

    fn time(ticks: &[EventRef<'_>]) -> Option<Micros> {
        let mut clock = Clock::default();
        for one in ticks {
            clock.tick(one);
        }
        clock.now()
    }

    #[test]
    fn the_clock_waits_for_every_raw_partition() {
        assert_eq!(time(&[]), None);
        assert_eq!(time(&[tick("a", Some(5), false, 2)]), None);
        assert_eq!(time(&[tick("a", Some(5), false, 2), tick("a", Some(9), false, 2)]), None);
        assert_eq!(time(&[tick("a", Some(5), false, 2), tick("b", Some(3), false, 2)]), Some(3));
        assert_eq!(time(&[tick("a", Some(5), false, 1)]), Some(5));
        let without = EventRef { numeric_value: None, ..tick("a", Some(5), false, 1) };
        assert_eq!(time(&[without]), None, "nobody said how many there are");
        let absurd = EventRef { numeric_value: Some(f32::NAN), ..tick("a", Some(5), false, 1) };
        assert_eq!(time(&[absurd]), None);
    }

    #[test]
    fn idle_partitions_do_not_hold_it_back_and_unread_ones_do() {
        let a = tick("a", Some(50), false, 3);
        let (b, c) = (tick("b", Some(3), true, 3), tick("c", None, true, 3));
        assert_eq!(time(&[a, b, c]), Some(50));
        assert_eq!(time(&[a, b, tick("c", None, false, 3)]), None, "c has read nothing and is not idle");
        assert_eq!(time(&[tick("a", Some(50), true, 3), b, c]), Some(50), "all idle: the furthest");
        assert_eq!(time(&[tick("c", None, true, 1)]), None);
        assert_eq!(time(&[a, b, c, tick("b", Some(7), false, 3)]), Some(7), "it goes back when one wakes");
    }

    #[test]
    fn a_watermark_never_goes_back() {
        assert_eq!(time(&[tick("a", Some(9), false, 1), tick("a", Some(4), false, 1)]), Some(9));
        assert_eq!(time(&[tick("a", Some(9), false, 1), tick("a", None, false, 1)]), Some(9));
    }
}
