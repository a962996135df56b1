//! `feed`: records from files to a Kafka topic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::flat::flat;
use super::mapping::{mapping_for, table};
use super::records::records;
use super::{CliError, SiteArgs, print, spinner};
use crate::decode::csv::Mapping;
use crate::kafka::Feeder;
use crate::settings::Format;

/// Arguments of `feed`.
#[derive(Args, Debug)]
pub(super) struct FeedArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Topic to send to
    #[arg(long)]
    topic: String,
    /// What the records are
    #[arg(long, value_enum, default_value = "flat")]
    format: FormatArg,
    /// The files are CSV: send a flat record for every fact that this mapping (TOML) finds in a row
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// At most so many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Key of the records
    #[arg(long, value_enum, default_value = "patient")]
    key: Key,
    /// Files, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// `--format` of the commands that read records.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub(super) enum FormatArg {
    /// Flat JSON, one event a line
    Flat,
    /// FHIR R4 JSON, a Bundle or a resource
    Fhir,
    /// HL7 v2
    Hl7v2,
}

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Format {
        match arg {
            FormatArg::Flat => Format::Flat,
            FormatArg::Fhir => Format::Fhir,
            FormatArg::Hl7v2 => Format::Hl7v2,
        }
    }
}

#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
enum Key {
    /// The patient of a flat record; records of other formats have none
    Patient,
    /// None: records go round the partitions
    None,
}

#[derive(Serialize, Debug)]
struct Sent {
    sent: u64,
    bytes: u64,
    seconds: f64,
    /// Rows of CSV that could not be read, and so were not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters: Option<u64>,
}

/// Just enough of a flat record to key it.
#[derive(Deserialize)]
struct Keyed<'a> {
    #[serde(borrow)]
    patient: Option<std::borrow::Cow<'a, str>>,
}

pub(super) fn run(args: FeedArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let mapping = match &args.mapping {
        Some(_) if args.format != FormatArg::Flat => {
            return Err(CliError::Usage("with --mapping what is sent is --format flat".to_owned()));
        }
        Some(path) => Some(mapping_for(path, &args.files)?),
        None => None,
    };
    let feeder = Feeder::open(&site.settings)?;
    let mut feed = Feed { args: &args, feeder, started: Instant::now(), sent: 0, bytes: 0, bar: spinner("sending") };
    let mut dead: BTreeMap<String, u64> = BTreeMap::new();
    for file in &args.files {
        match &mapping {
            Some(mapping) => feed.rows(file, mapping, &mut dead)?,
            None => {
                for record in records(file, args.format.into())? {
                    feed.send(&record?)?;
                }
            }
        }
    }
    feed.feeder.flush(site.settings.kafka.deadline.max(Duration::from_secs(60)))?;
    feed.bar.finish_and_clear();
    for (reason, count) in &dead {
        eprintln!("rows not sent: {count} for {reason}");
    }
    let dead_letters = mapping.map(|_| dead.values().sum::<u64>());
    print(&Sent { sent: feed.sent, bytes: feed.bytes, seconds: feed.started.elapsed().as_secs_f64(), dead_letters })
}

struct Feed<'a> {
    args: &'a FeedArgs,
    feeder: Feeder,
    started: Instant,
    sent: u64,
    bytes: u64,
    bar: indicatif::ProgressBar,
}

impl Feed<'_> {
    fn send(&mut self, record: &[u8]) -> Result<(), CliError> {
        if let Some(rate) = self.args.rate {
            let due = Duration::from_secs_f64(self.sent as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
        let keyed = match (self.args.key, self.args.format) {
            (Key::Patient, FormatArg::Flat) => serde_json::from_slice::<Keyed<'_>>(record).ok(),
            _ => None,
        };
        let key = keyed.as_ref().and_then(|keyed| keyed.patient.as_deref()).map(str::as_bytes);
        self.feeder.send(&self.args.topic, key, record, None)?;
        self.sent += 1;
        self.bytes += record.len() as u64;
        if self.sent.is_multiple_of(1000) {
            self.bar.set_message(format!("sent {}", self.sent));
        }
        Ok(())
    }

    /// Sends what the rows of a table say. A row that cannot be read is counted in `dead` by its reason.
    fn rows(&mut self, file: &Path, mapping: &Arc<Mapping>, dead: &mut BTreeMap<String, u64>) -> Result<(), CliError> {
        let (table, rows) = table(file, mapping)?;
        for (row, number) in rows.zip(1..) {
            let (row, mut facts) = (row?, Vec::new());
            match table.decode(number, &row, &mut facts) {
                Ok(()) => {
                    for fact in &facts {
                        self.send(&flat(fact)?)?;
                    }
                }
                Err(reject) => {
                    *dead.entry(format!("{} ({})", reject.reason.as_str(), reject.detail)).or_default() += 1;
                }
            }
        }
        Ok(())
    }
}
