//! Where everything stood when the check began, so that it can be made beside a running daemon.
//!
//! Of every role the committed offsets are asked for, then the ends of what it writes, then the offsets
//! again. What was consumed by the first answer must have its effect in what is read; what was not by the
//! last must have none. And the log of record ends behind what role `score` had consumed of it.

use crate::kafka::{Ends, KafkaError, NextOffset, Survey};
use crate::settings::Settings;

/// A partition that a role reads, or that is written.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) number: i32,
    /// First offset that is there.
    pub(super) low: i64,
    /// Where its readers came to (exclusive); what follows is not looked at.
    pub(super) end: i64,
    /// Consumed for certain when the ends were taken.
    pub(super) before: i64,
    /// Consumed when all had been taken: what is beyond cannot have had an effect.
    pub(super) after: i64,
}

/// A topic and its partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) parts: Vec<Part>,
}

/// Everything that is looked at.
#[derive(Debug)]
pub(super) struct Positions {
    /// In the order of the settings.
    pub(super) raw: Vec<Topic>,
    pub(super) events: Topic,
    pub(super) scores: Topic,
    pub(super) alerts: Topic,
    pub(super) letters: Topic,
    /// Topics part of which nobody sees because a transaction does not end, each with that in words.
    pub(super) stuck: Vec<(String, String)>,
}

impl Positions {
    /// Asks for all of it.
    pub(super) fn ask(survey: &Survey, settings: &Settings) -> Result<Positions, KafkaError> {
        let topics = &settings.topics;
        let normalized = || -> Result<Vec<Vec<Option<NextOffset>>>, KafkaError> {
            topics.raw.iter().map(|raw| survey.committed_settled("normalize", &raw.topic)).collect()
        };
        let scored = || survey.committed_settled("score", &topics.events);
        let mut stuck = Vec::new();
        let mut ends = |name: &str| -> Result<Topic, KafkaError> {
            let mut parts = Vec::new();
            for number in 0..survey.partitions(name) {
                let ends = survey.settled(name, number)?;
                if ends.stable < ends.end {
                    let open = ends.end - ends.stable;
                    let why = format!("{name}-{number} hides {open} offsets behind a transaction that does not end");
                    stuck.push((name.to_owned(), why));
                }
                parts.push(Part { number, low: ends.low, end: ends.stable, before: ends.low, after: ends.low });
            }
            Ok(Topic { name: name.to_owned(), parts })
        };
        let (mut before, last) = (normalized()?, scored()?);
        before.push(last);
        // In this order: an alert that is seen has its score in what is seen.
        let alerts = ends(&topics.alerts)?;
        let scores = ends(&topics.scores)?;
        let last = scored()?;
        let (events, letters) = (ends(&topics.events)?, ends(&topics.dead_letter)?);
        let mut after = normalized()?;
        after.push(last);
        let mut raw = Vec::new();
        for topic in &topics.raw {
            let mut parts = Vec::new();
            for number in 0..survey.partitions(&topic.topic) {
                let Ends { low, stable, .. } = survey.ends(&topic.topic, number)?;
                parts.push(Part { number, low, end: stable, before: low, after: low });
            }
            raw.push(Topic { name: topic.topic.clone(), parts });
        }
        let mut positions = Positions { raw, events, scores, alerts, letters, stuck };
        let read = positions.raw.iter_mut().chain([&mut positions.events]);
        for (topic, (before, after)) in read.zip(before.iter().zip(&after)) {
            for (part, (before, after)) in topic.parts.iter_mut().zip(before.iter().zip(after)) {
                part.before = before.map_or(part.low, |next| next.0.max(part.low));
                part.after = after.map_or(part.low, |next| next.0.max(part.low));
            }
        }
        Ok(positions)
    }
}
