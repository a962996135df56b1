//! `evaluate`: a registered model on the library's labelled subjects.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CliError, SiteArgs, print, runtime, spinner};
use crate::learn::{self, EvaluateOptions, Part, Registry};
use crate::library::Library;

/// Arguments of `evaluate`.
#[derive(Args, Debug)]
pub(super) struct EvaluateArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Task of the site
    #[arg(long)]
    task: String,
    /// Version of the model [default: the champion]
    #[arg(long, value_name = "V")]
    model: Option<u32>,
    /// Version of another model to compare it with on the same rows
    #[arg(long, value_name = "W")]
    against: Option<u32>,
    /// Which subjects
    #[arg(long, value_enum, default_value = "held_out")]
    split: SplitArg,
    /// Write the predictions to this Parquet file (columns of meds-evaluation)
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Write plots (SVG), report.json and importance.json into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Copy, Clone, ValueEnum, Debug)]
enum SplitArg {
    /// Subjects that nothing was fitted on
    #[value(name = "held_out")]
    HeldOut,
    /// All subjects; honest only for a model fitted elsewhere
    All,
}

pub(super) fn run(args: EvaluateArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let task = site.task(&args.task).map_err(|problem| CliError::Site(vec![problem]))?;
    let (runtime, bar) = (runtime()?, spinner("evaluating"));
    let library = runtime.block_on(Library::open(&site.settings.library))?;
    let registry = Registry::open(&site.settings.registry)?;
    let options = EvaluateOptions {
        version: args.model,
        against: args.against,
        part: match args.split {
            SplitArg::HeldOut => Part::HeldOut,
            SplitArg::All => Part::All,
        },
        predictions: args.predictions.as_deref(),
        plots: args.plots.as_deref(),
    };
    let source = site.source(&library);
    let evaluate = learn::evaluate(&source, &registry, task, options);
    let evaluation = runtime.block_on(evaluate)?;
    bar.finish_and_clear();
    print(&evaluation)
}
