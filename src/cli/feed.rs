//! `feed`: records from files to a Kafka topic.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::records::records;
use super::{CliError, SiteArgs, print, spinner};
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
}

/// Just enough of a flat record to key it.
#[derive(Deserialize)]
struct Keyed<'a> {
    #[serde(borrow)]
    patient: Option<std::borrow::Cow<'a, str>>,
}

pub(super) fn run(args: FeedArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let feeder = Feeder::open(&site.settings)?;
    let (started, bar) = (Instant::now(), spinner("sending"));
    let (mut sent, mut bytes) = (0u64, 0u64);
    for file in &args.files {
        for record in records(file, args.format.into())? {
            let record = record?;
            if let Some(rate) = args.rate {
                let due = Duration::from_secs_f64(sent as f64 / rate as f64);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
            let keyed = match (args.key, args.format) {
                (Key::Patient, FormatArg::Flat) => serde_json::from_slice::<Keyed<'_>>(&record).ok(),
                _ => None,
            };
            let key = keyed.as_ref().and_then(|keyed| keyed.patient.as_deref()).map(str::as_bytes);
            feeder.send(&args.topic, key, &record, None)?;
            sent += 1;
            bytes += record.len() as u64;
            if sent.is_multiple_of(1000) {
                bar.set_message(format!("sent {sent}"));
            }
        }
    }
    feeder.flush(site.settings.kafka.deadline.max(Duration::from_secs(60)))?;
    bar.finish_and_clear();
    print(&Sent { sent, bytes, seconds: started.elapsed().as_secs_f64() })
}
