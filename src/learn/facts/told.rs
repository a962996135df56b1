//! What was told of one subject's facts, and what of it holds.

use std::collections::HashSet;

use foldhash::fast::FixedState;

use super::blocks::Blocks;
use super::repeats::Repeats;
use crate::events::{EventKey, Fact, Micros};

/// In place of a code: the fact does not hold any more.
const WITHDRAWN: u32 = u32::MAX;
/// In place of a time: none.
const STATIC: Micros = Micros::MIN;

/// The words on one subject's facts, in the order in which they were said.
#[derive(Clone, Default, Debug)]
pub(super) struct Told {
    /// Which fact each word is on.
    keys: Blocks<u128>,
    /// Times, and how many words there were when each was last told.
    times: Blocks<(Micros, usize)>,
    /// What the words say that may be counted, or that withdraw.
    sayings: Blocks<Saying>,
}

/// What a word says of its fact.
#[derive(Copy, Clone, Debug)]
struct Saying {
    /// Place of the word in the keys.
    word: usize,
    code: u32,
    value: f32,
}

impl Told {
    /// Adds a word on a fact.
    pub(super) fn word(&mut self, key: EventKey, time: Option<Micros>) {
        self.add(key, time.unwrap_or(STATIC));
    }

    /// Says something of the fact that the next word is on.
    pub(super) fn say(&mut self, code: u32, value: f32) {
        self.sayings.push(Saying { word: self.keys.len(), code, value });
    }

    /// Adds that a fact does not hold any more.
    pub(super) fn withdraw(&mut self, key: EventKey) {
        self.say(WITHDRAWN, f32::NAN);
        self.add(key, self.times.last().map_or(STATIC, |(time, _)| *time));
    }

    fn add(&mut self, key: EventKey, time: Micros) {
        self.keys.push(u128::from_ne_bytes(key.0));
        match self.times.last_mut() {
            Some((last, words)) if *last == time => *words = self.keys.len(),
            _ => self.times.push((time, self.keys.len())),
        }
    }

    /// What holds of all that was told; `uncounted` is the code of what no predicate counts.
    pub(super) fn facts(self, uncounted: u32) -> Vec<Fact> {
        let repeats = Repeats::of(self.keys.len(), self.keys.iter());
        let mut seen: HashSet<u128, FixedState> = HashSet::default();
        let mut facts = Vec::new();
        let mut keys = self.keys.iter().rev();
        let mut sayings = self.sayings.iter().rev().peekable();
        let mut times = self.times.iter().rev().peekable();
        while let Some((time, end)) = times.next() {
            let start = times.peek().map_or(0, |(_, words)| *words);
            let time = (*time != STATIC).then_some(*time);
            let mut is_row = false;
            for (word, key) in (start..*end).rev().zip(keys.by_ref()) {
                let saying = sayings.next_if(|saying| saying.word == word);
                if repeats.may_have(*key) && !seen.insert(*key) {
                    continue;
                }
                match saying {
                    Some(Saying { code: WITHDRAWN, .. }) => {}
                    Some(Saying { code, value, .. }) => facts.push(Fact { time, code: *code, value: *value }),
                    None => is_row = time.is_some(),
                }
            }
            if is_row {
                facts.push(Fact { time, code: uncounted, value: f32::NAN });
            }
        }
        facts.reverse();
        facts
    }
}
