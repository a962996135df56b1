//! `redrive`: dead letters back to the raw topics they came from, each at most once.
//!
//! A letter is sent in the transaction that marks it in the compacted topic
//! `auscult.redriven`, so neither is there without the other, whenever this process ends.
//! The marks are read only when the transactional id is this process's own: another
//! `redrive` that still runs is fenced and can commit nothing more.

use std::collections::{HashMap, HashSet};

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::{CliError, SiteArgs, print, runtime};
use crate::decode::Reason;
use crate::kafka::{Found, KafkaError, Outbox, Scan, Transactions, ensure, partitions, read_partitions};
use crate::roles::{Letter, wall_now};
use crate::settings::Settings;

/// Most letters of one transaction.
const LETTERS: usize = 200;
/// Most bytes of one transaction, but for a letter that is longer by itself.
const BYTES: usize = 4 << 20;
/// Longest record that is sent; what its topic takes is for the broker to say.
const LONGEST: usize = 256 << 20;

/// Arguments of `redrive`.
#[derive(Args, Debug)]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Only dead letters of this reason
    #[arg(long, value_name = "REASON", value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::as_str)))]
    reason: Option<String>,
}

#[derive(Serialize, Default, Debug)]
struct Summary {
    sent: u64,
    /// Letters that could not be sent; they may be, another time.
    left: u64,
}

/// A message of the dead-letter topic, over the lives of that topic: partition, offset, timestamp.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct Mark {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
}

impl Mark {
    fn of(found: &Found) -> Self {
        Mark { partition: found.partition, offset: found.offset, timestamp_ms: found.timestamp_ms }
    }

    fn key(&self) -> String {
        format!("{}/{}/{}", self.partition, self.offset, self.timestamp_ms)
    }

    fn read(key: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(key).ok()?.split('/');
        let mark = Mark {
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
            timestamp_ms: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(mark)
    }
}

/// A record to be sent back, or as much of it as was read.
#[derive(Debug)]
struct Whole {
    letter: Letter,
    /// The messages it stood in.
    marks: Vec<Mark>,
    bytes: Vec<u8>,
}

pub(super) fn run(args: RedriveArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let settings = &site.settings;
    runtime()?.block_on(ensure(settings))?;
    let mut redrive = Redrive::open(settings)?;
    let known = partitions(settings)?;
    let letters = known.get(&settings.topics.dead_letter).copied().unwrap_or(0);
    let mut scan = Scan::open(&settings.kafka, &settings.topics.dead_letter, letters)?;
    redrive.forget(&scan)?;
    let bar = indicatif::ProgressBar::new(scan.len()).with_message("redriving");
    let mut parts: HashMap<(String, i32, i64), Whole> = HashMap::new();
    while let Some(found) = scan.read()? {
        bar.inc(1);
        let mark = Mark::of(&found);
        let Some(letter) = Letter::read(&found.headers) else {
            // Whoever wrote it did not say where it belongs.
            redrive.summary.left += 1;
            continue;
        };
        let wanted = args.reason.as_ref().is_none_or(|reason| *reason == letter.reason);
        if !wanted || redrive.marks.contains(&mark) {
            continue;
        }
        let (number, of) = letter.part;
        let origin = (letter.topic.clone(), letter.partition, letter.offset);
        let mut whole = match parts.remove(&origin) {
            Some(begun) if begun.letter.part == (number - 1, of) => begun,
            begun => {
                redrive.summary.left += u64::from(begun.is_some());
                if number > 1 {
                    // The log no longer holds its first part.
                    redrive.summary.left += u64::from(number == of);
                    continue;
                }
                Whole { letter: letter.clone(), marks: Vec::new(), bytes: Vec::new() }
            }
        };
        whole.marks.push(mark);
        whole.bytes.extend_from_slice(&found.bytes);
        whole.letter = letter;
        if number < of {
            parts.insert(origin, whole);
        } else {
            redrive.add(whole, &known)?;
        }
    }
    redrive.send()?;
    redrive.summary.left += parts.len() as u64;
    bar.finish_and_clear();
    if redrive.summary.left > 0 {
        let left = redrive.summary.left;
        eprintln!(
            "left where they are: {left}; their topic is not among the site's raw topics, takes no record of \
             their length, or they are not whole"
        );
    }
    print(&redrive.summary)
}

struct Redrive<'s> {
    settings: &'s Settings,
    transactions: Transactions,
    /// Every letter that was sent back.
    marks: HashSet<Mark>,
    batch: Vec<(Whole, Option<i32>)>,
    bytes: usize,
    outbox: Outbox,
    summary: Summary,
}

impl<'s> Redrive<'s> {
    fn open(settings: &'s Settings) -> Result<Self, CliError> {
        let mut own = settings.clone();
        // There is one redrive in a site, whatever instance runs it; a second one fences the first.
        own.instance = "one".to_owned();
        own.limits.record_bytes = LONGEST;
        let mut topics: Vec<&str> = settings.topics.raw.iter().map(|raw| raw.topic.as_str()).collect();
        topics.push(&settings.topics.redriven);
        let transactions = Transactions::open(&own, "redrive", &topics)?;
        let mut marks = HashSet::new();
        let mut strange = 0u64;
        let topic = &settings.topics.redriven;
        read_partitions(&settings.kafka, topic, &[0], settings.kafka.deadline, |_, key, value| {
            match Mark::read(key) {
                Some(mark) if value.is_some() => {
                    marks.insert(mark);
                }
                Some(mark) => {
                    marks.remove(&mark);
                }
                None => strange += 1,
            }
        })?;
        if strange > 0 {
            return Err(CliError::Failed(format!(
                "topic {topic} holds {strange} records that redrive did not write; give topics.redriven a topic of its own"
            )));
        }
        let outbox = Outbox::default();
        let summary = Summary::default();
        Ok(Redrive { settings, transactions, marks, batch: Vec::new(), bytes: 0, outbox, summary })
    }

    /// Deletes the marks of letters that the log no longer holds.
    fn forget(&mut self, scan: &Scan) -> Result<(), CliError> {
        let is_gone = |mark: &&Mark| scan.low(mark.partition).is_some_and(|low| mark.offset < low);
        let gone: Vec<Mark> = self.marks.iter().filter(is_gone).copied().collect();
        let topic = self.settings.topics.raw.len();
        for marks in gone.chunks(10_000) {
            self.outbox.clear();
            marks.iter().for_each(|mark| self.outbox.push_tombstone(topic, mark.key().as_bytes()));
            self.transactions.publish_alone(&self.outbox)?;
        }
        Ok(())
    }

    /// Puts a letter into the batch, which is sent when it is full.
    fn add(&mut self, whole: Whole, known: &HashMap<String, usize>) -> Result<(), CliError> {
        if !self.settings.topics.raw.iter().any(|raw| raw.topic == whole.letter.topic) {
            self.summary.left += 1;
            return Ok(());
        }
        // Back to its partition, where the other records of the patient may be; one that is no more has no order to keep.
        let partitions = known.get(&whole.letter.topic).map_or(0, |partitions| *partitions as i32);
        let partition = Some(whole.letter.partition).filter(|number| (0..partitions).contains(number));
        self.bytes += whole.bytes.len();
        self.batch.push((whole, partition));
        if self.batch.len() >= LETTERS || self.bytes >= BYTES { self.send() } else { Ok(()) }
    }

    /// Sends the batch. Where the topic refuses a record for its length, all others are sent without it.
    fn send(&mut self) -> Result<(), CliError> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        match self.publish(&batch) {
            Err(error) if error.is_too_long() => {
                for one in batch.chunks(1) {
                    match self.publish(one) {
                        Err(error) if error.is_too_long() => self.summary.left += 1,
                        done => done?,
                    }
                }
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// Sends letters and their marks in one transaction.
    fn publish(&mut self, letters: &[(Whole, Option<i32>)]) -> Result<(), KafkaError> {
        if letters.is_empty() {
            return Ok(());
        }
        let raw = &self.settings.topics.raw;
        let at = wall_now().to_string();
        self.outbox.clear();
        for (whole, partition) in letters {
            let Some(topic) = raw.iter().position(|raw| raw.topic == whole.letter.topic) else { continue };
            self.outbox.push(topic, &[], &whole.bytes);
            if let Some(partition) = partition {
                self.outbox.to_partition(*partition);
            }
            if let Some(first) = whole.marks.first() {
                let from = format!("{}-{}-{}", self.settings.topics.dead_letter, first.partition, first.offset);
                self.outbox.with_headers(vec![("redriven-from", from)]);
            }
            for mark in &whole.marks {
                self.outbox.push(raw.len(), mark.key().as_bytes(), at.as_bytes());
            }
        }
        self.transactions.publish_alone(&self.outbox)?;
        self.summary.sent += letters.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_as_it_was_written() {
        let mark = Mark { partition: 3, offset: 1 << 40, timestamp_ms: 1_767_225_600_000 };
        assert_eq!(Mark::read(mark.key().as_bytes()), Some(mark));
        for key in ["", "1/2", "1/2/3/4", "a/2/3", "1//3"] {
            assert_eq!(Mark::read(key.as_bytes()), None, "{key}");
        }
    }
}
