//! `label`: the labels of an ACES task.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{CliError, SiteArgs, print, runtime, spinner};
use crate::learn::{self, AcesConfig};
use crate::library::Library;
use crate::settings::TextFile;

/// Arguments of `label`.
#[derive(Args, Debug)]
pub(super) struct LabelArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// ACES task file: who is labelled, when, and with what
    #[arg(long, value_name = "FILE")]
    aces: PathBuf,
    /// Parquet file to write (columns of the MEDS LabelSchema; without boolean_value if no window has a label)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Label this MEDS data instead of the case library: a Parquet file or the root of a dataset
    #[arg(long, value_name = "PATH")]
    meds: Option<PathBuf>,
}

pub(super) fn run(args: LabelArgs) -> Result<(), CliError> {
    let file = read(&args.aces)?;
    let config = AcesConfig::parse(&file).map_err(CliError::Task)?;
    let bar = spinner("labelling");
    let report = match &args.meds {
        Some(path) => learn::label_meds(path, &config, &args.out)?,
        None => {
            let problems = config.problems_in_library(&file.name);
            if !problems.is_empty() {
                return Err(CliError::Task(problems));
            }
            let site = args.site.load()?;
            let runtime = runtime()?;
            let library = runtime.block_on(Library::open(&site.settings.library))?;
            runtime.block_on(learn::label(&library, &config, &args.out))?
        }
    };
    bar.finish_and_clear();
    if report.refused > 0 {
        eprintln!("left out: {} rows without subject_id or code", report.refused);
    }
    if let Some(warning) = report.warning() {
        eprintln!("auscult: {warning}");
    }
    print(&report)
}

fn read(path: &Path) -> Result<TextFile, CliError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|cause| CliError::File { path: name.clone(), cause })?;
    Ok(TextFile { name, text: text.trim_start_matches('\u{feff}').to_owned() })
}
