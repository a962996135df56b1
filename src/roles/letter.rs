//! Dead letters: how `normalize` writes them and `redrive` reads them.
//!
//! Promises that the bytes of a record are kept whole however long they are: what is longer
//! than the topic takes stands in several messages, one behind the other in one partition.

use chrono::{DateTime, SecondsFormat};

use super::{Context, RoleError, wall_now};
use crate::decode::Reject;
use crate::kafka::{self, Outbox};
use crate::normalize::Record;

/// Room for headers and framing within a message.
const HEADERS: usize = 8 << 10;

/// A body that every topic takes: brokers limit messages to 1 MiB where nobody says otherwise.
const USUAL: usize = 900_000;

/// Partition of the letters that stand in parts: the one that every topic has.
const PARTS: i32 = 0;

/// What the headers of a dead letter say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Word of the reason.
    pub reason: String,
    /// Topic of the record.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Which of how many parts of the record this is, from 1.
    pub part: (usize, usize),
}

impl Letter {
    /// Reads the headers; `None` if they are not those of a dead letter.
    pub fn read(headers: &[(String, String)]) -> Option<Letter> {
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let part = match header("part") {
            None => (1, 1),
            Some(part) => {
                let (number, of) = part.split_once('/')?;
                (number.parse().ok()?, of.parse().ok()?)
            }
        };
        Some(Letter {
            reason: header("reason")?.to_owned(),
            topic: header("topic")?.to_owned(),
            partition: header("partition")?.parse().ok()?,
            offset: header("offset")?.parse().ok()?,
            part,
        })
        .filter(|letter| (1..=letter.part.1).contains(&letter.part.0))
    }
}

/// How long a body one message of the dead-letter topic takes.
#[derive(Default, Debug)]
pub(super) struct Room {
    /// What the broker said when it first mattered.
    asked: Option<usize>,
}

impl Room {
    /// Longest body of one message, for a record of that length.
    ///
    /// # Errors
    /// If the client that asks cannot be made.
    pub(super) fn of(&mut self, length: usize, context: &Context) -> Result<usize, RoleError> {
        let settings = &context.site.settings;
        let ours = settings.limits.message_bytes().saturating_sub(HEADERS);
        let known = self.asked.unwrap_or(USUAL.min(ours));
        if length <= known || self.asked.is_some() {
            return Ok(known);
        }
        // The limits may have been raised since the topic was made.
        let topic = &settings.topics.dead_letter;
        let longest = context.runtime.block_on(kafka::longest_message(settings, topic))?;
        let room = longest.map_or(known, |longest| longest.saturating_sub(HEADERS).max(HEADERS).min(ours));
        self.asked = Some(room);
        Ok(room)
    }
}

/// Adds the dead letter of a record to `outbox`, in parts of at most `longest` bytes.
pub(super) fn push(outbox: &mut Outbox, topic: usize, record: &Record<'_>, reject: &Reject, longest: usize) {
    let headers = [
        ("reason", reject.reason.as_str().to_owned()),
        ("detail", reject.detail.clone()),
        ("topic", record.topic.to_owned()),
        ("partition", record.partition.to_string()),
        ("offset", record.offset.to_string()),
        ("format", record.format.as_str().to_owned()),
        ("at", rfc3339(wall_now())),
    ];
    if record.bytes.len() <= longest {
        outbox.push(topic, &[], record.bytes).with_headers(headers.to_vec());
        return;
    }
    let parts = record.bytes.len().div_ceil(longest);
    for (i, part) in record.bytes.chunks(longest).enumerate() {
        let mut headers = headers.to_vec();
        headers.push(("part", format!("{}/{parts}", i + 1)));
        outbox.push(topic, &[], part).to_partition(PARTS).with_headers(headers);
    }
}

/// A time as RFC 3339 with milliseconds.
fn rfc3339(at: crate::events::Micros) -> String {
    DateTime::from_timestamp_micros(at).map_or_else(String::new, |t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(part: Option<&str>) -> Vec<(String, String)> {
        let all = [("reason", "unit"), ("topic", "raw.flat"), ("partition", "3"), ("offset", "18")];
        let all = all.into_iter().chain(part.map(|part| ("part", part)));
        all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn headers_read_as_they_were_written() {
        let letter = Letter::read(&headers(None)).unwrap();
        assert_eq!((&*letter.topic, letter.partition, letter.offset, letter.part), ("raw.flat", 3, 18, (1, 1)));
        assert_eq!(Letter::read(&headers(Some("2/3"))).unwrap().part, (2, 3));
        for part in ["", "2", "0/3", "4/3", "a/b", "1/"] {
            assert_eq!(Letter::read(&headers(Some(part))), None, "{part}");
        }
        assert_eq!(Letter::read(&headers(None)[1..]), None);
    }
}
