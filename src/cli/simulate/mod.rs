//! `simulate`: a synthetic hospital's records, the same for the same seed.
//!
//! Promises that every record is valid in its format and that the same arguments give the same
//! bytes on every machine; no line resembles a real patient's. Redeliveries, corrections and
//! retractions are among them, because real feeds have them.

mod dice;
mod signals;
mod ward;
mod write;

use std::io::{self, BufWriter, Write};

use clap::Args;

use super::CliError;
use super::feed::FormatArg;
use crate::events::Micros;
use crate::settings::Format;

pub(super) use ward::Hospital;
use write::Names;

/// Start of the simulated time: 2026-01-01T00:00:00Z.
const START: Micros = 1_767_225_600_000_000;

/// Arguments of `simulate`.
#[derive(Args, Debug)]
pub(super) struct SimulateArgs {
    /// How many patients are admitted
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    patients: u32,
    /// How many hours are simulated, from 2026-01-01
    #[arg(long, value_name = "H", default_value_t = 168, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    hours: u32,
    /// What chance starts from
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// What the records are: flat or fhir
    #[arg(long, value_enum, default_value = "flat")]
    format: FormatArg,
}

/// One record on its way out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// When it is sent: when it became known, later only for a redelivery.
    pub(super) sent: Micros,
    /// Number of the patient, from 0.
    pub(super) patient: usize,
    /// The record, without a line end.
    pub(super) bytes: Vec<u8>,
}

/// The records of a hospital in the order they are sent, written as `format`.
///
/// # Errors
/// [`CliError::Usage`] for HL7 v2 and CSV, which this version does not write. An item is an error only if
/// a record cannot be written as JSON, which does not happen.
pub(super) fn lines(
    hospital: Hospital,
    format: Format,
) -> Result<impl Iterator<Item = Result<Line, serde_json::Error>>, CliError> {
    if matches!(format, Format::Hl7v2 | Format::Csv) {
        let text = format!("simulate does not write {} in this version; give --format flat or fhir", format.as_str());
        return Err(CliError::Usage(text));
    }
    let names = Names { seed: hospital.seed() };
    Ok(hospital.filter_map(move |record| {
        let bytes = match format {
            Format::Fhir => write::fhir(names, &record).transpose()?,
            Format::Flat | Format::Hl7v2 | Format::Csv => write::flat(names, &record),
        };
        Some(bytes.map(|bytes| Line { sent: record.sent, patient: record.patient, bytes }))
    }))
}

/// Runs `simulate`.
pub(super) fn run(args: SimulateArgs) -> Result<(), CliError> {
    let hospital = Hospital::new(args.seed, args.patients as usize, args.hours, START);
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for line in lines(hospital, args.format.into())? {
        let mut bytes = line?.bytes;
        bytes.push(b'\n');
        match out.write_all(&bytes) {
            // Whoever reads has enough, as `head` does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        flushed => Ok(flushed?),
    }
}

#[cfg(test)]
mod tests;
