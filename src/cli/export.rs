//! `export`: the library as a MEDS dataset.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{CliError, SiteArgs, print, runtime, spinner};
use crate::library::{Library, export_meds};

/// Arguments of `export`.
#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// What to write
    #[arg(long, value_enum)]
    format: ExportFormat,
    /// Folder of the dataset
    dir: PathBuf,
}

#[derive(Copy, Clone, ValueEnum, Debug)]
enum ExportFormat {
    /// MEDS 0.4
    Meds,
}

#[derive(Serialize, Debug)]
struct Summary {
    subjects: u64,
    events: u64,
    seconds: f64,
}

pub(super) fn run(args: ExportArgs) -> Result<(), CliError> {
    let ExportFormat::Meds = args.format;
    let site = args.site.load()?;
    let (started, runtime, bar) = (Instant::now(), runtime()?, spinner("exporting"));
    let library = runtime.block_on(Library::open(&site.settings.library))?;
    let mut progress = |events: u64| bar.set_message(format!("exported {events} events"));
    let exported = runtime.block_on(export_meds(&library, &args.dir, &mut progress))?;
    bar.finish_and_clear();
    print(&Summary { subjects: exported.subjects, events: exported.events, seconds: started.elapsed().as_secs_f64() })
}
