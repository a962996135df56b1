//! The demo's patients: weeks of history for the library, then a live feed faster than life.

use std::iter::Peekable;
use std::time::Duration;

use super::super::CliError;
use super::super::simulate::{Hospital, Line, lines};
use crate::events::{HOUR, Micros};
use crate::kafka::Feeder;
use crate::library::Library;
use crate::normalize::Record;
use crate::roles::Context;
use crate::settings::{Format, RawTopic};

/// 2026-01-01T00:00:00Z.
const START: Micros = 1_767_225_600_000_000;
/// Patients and hours of the history.
const HISTORY: (usize, u32) = (1400, 336);
/// Hours that pass in the live part, however long it lasts.
const LIVE_HOURS: u32 = 96;
/// One flat record in so many is cut off, as a broken interface would.
const BROKEN_EVERY: u64 = 400;

/// Records with their time; an item fails only if JSON cannot be written.
type Lines = Peekable<Box<dyn Iterator<Item = Result<Line, serde_json::Error>>>>;

/// Imports the history of a simulated hospital, as `import` would.
pub(super) fn import_history(context: &Context, seed: u64) -> Result<(), CliError> {
    let site = &context.site;
    let mut normalizer = site.normalizer(context.pseudonyms.clone()).map_err(CliError::Site)?;
    let raw = raw(context, Format::Flat)?;
    let hospital = Hospital::new(seed, HISTORY.0, HISTORY.1, START);
    let records = lines(hospital, Format::Flat)?.collect::<Result<Vec<Line>, _>>()?;
    let mut batches = Vec::new();
    for (i, chunk) in records.chunks(site.settings.limits.batch_records).enumerate() {
        let first = (i * site.settings.limits.batch_records) as i64;
        let batch: Vec<Record<'_>> = chunk
            .iter()
            .zip(first..)
            .map(|(line, offset)| Record {
                topic: "simulated-history",
                partition: 0,
                offset,
                timestamp: None,
                format: Format::Flat,
                assigner: &raw.assigner,
                bytes: &line.bytes,
            })
            .collect();
        batches.push(normalizer.run(&batch)?.events);
    }
    let library = context.runtime.block_on(Library::open(&site.settings.library))?;
    context.runtime.block_on(library.append_history(batches, site.settings.topics.partitions))?;
    Ok(())
}

/// A live feed of flat and FHIR records.
pub(super) struct Live {
    feeder: Feeder,
    feeds: Vec<(RawTopic, Lines)>,
    start: Micros,
    /// Simulated microseconds in one real microsecond.
    speed: f64,
    sent: u64,
    broken: u64,
}

impl Live {
    /// A hospital of `patients`, a quarter of whom send FHIR, whose days pass within `live`.
    pub(super) fn start(context: &Context, seed: u64, patients: u32, live: Duration) -> Result<Self, CliError> {
        let start = START + i64::from(HISTORY.1) * HOUR;
        let mut feeds = Vec::new();
        for (format, seed, patients) in
            [(Format::Flat, seed + 1, patients - patients / 4), (Format::Fhir, seed + 2, patients / 4)]
        {
            if patients > 0 {
                let hospital = Hospital::new(seed, patients as usize, LIVE_HOURS, start);
                let lines: Box<dyn Iterator<Item = _>> = Box::new(lines(hospital, format)?);
                feeds.push((raw(context, format)?.clone(), lines.peekable()));
            }
        }
        let speed = f64::from(LIVE_HOURS) * HOUR as f64 / live.as_micros() as f64;
        Ok(Live { feeder: Feeder::open(&context.site.settings)?, feeds, start, speed, sent: 0, broken: 0 })
    }

    /// Sends what is due after `elapsed` of real time.
    pub(super) fn send_due(&mut self, elapsed: Duration) -> Result<(), CliError> {
        let now = self.start + (elapsed.as_micros() as f64 * self.speed) as Micros;
        for (raw, lines) in &mut self.feeds {
            while let Some(line) = lines.next_if(|line| line.as_ref().map_or(true, |line| line.sent <= now)) {
                let line = line?;
                let key = line.patient.to_string();
                self.feeder.send(&raw.topic, Some(key.as_bytes()), &line.bytes, None)?;
                self.sent += 1;
                if raw.format == Format::Flat && self.sent / BROKEN_EVERY > self.broken {
                    self.broken += 1;
                    self.feeder.send(&raw.topic, None, &line.bytes[..line.bytes.len() / 2], None)?;
                    self.sent += 1;
                }
            }
        }
        Ok(())
    }

    /// Waits until all of it was delivered; returns how many records were sent.
    pub(super) fn finish(self) -> Result<u64, CliError> {
        self.feeder.flush(Duration::from_secs(30))?;
        Ok(self.sent)
    }
}

/// The site's raw topic of a format.
fn raw(context: &Context, format: Format) -> Result<&RawTopic, CliError> {
    let topics = &context.site.settings.topics.raw;
    topics
        .iter()
        .find(|raw| raw.format == format)
        .ok_or_else(|| CliError::Failed(format!("the built-in site has no {} topic", format.as_str())))
}
