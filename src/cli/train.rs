//! `train`: one model, judged on subjects it never saw.

use clap::Args;

use super::{CliError, SiteArgs, print, runtime, soon, spinner};
use crate::learn::{self, Registry, SearchSettings};
use crate::library::Library;
use crate::models::Family;
use crate::roles::{announce, wall_now};

/// Arguments of `train`.
#[derive(Args, Debug)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Task of the site
    #[arg(long)]
    task: String,
    /// Family of models [default: that of the task]
    #[arg(long, value_parser = family)]
    family: Option<Family>,
    /// Try so many choices of hyperparameters first [default: as the task's train.search says]
    #[arg(long, value_name = "N")]
    trials: Option<usize>,
    /// Try choices of hyperparameters for so long first
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
}

pub(super) fn family(word: &str) -> Result<Family, String> {
    Family::parse(word).ok_or_else(|| format!("choose from {}", Family::words()))
}

pub(super) fn run(args: TrainArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let mut task = site.task(&args.task).map_err(|problem| CliError::Site(vec![problem]))?.clone();
    if args.trials.is_some() || args.minutes.is_some() {
        let search = task.train.search.unwrap_or_default();
        let search = SearchSettings { trials: args.trials, minutes: args.minutes, ..search };
        search.check().map_err(|what| CliError::Usage(format!("--trials, --minutes: {what}")))?;
        task.train.search = Some(search);
    }
    let (runtime, bar) = (runtime()?, spinner("training"));
    let library = runtime.block_on(Library::open(&site.settings.library))?;
    let registry = Registry::open(&site.settings.registry)?;
    let mut progress = |what: &str| bar.set_message(what.to_owned());
    let report = runtime.block_on(learn::train(
        &site.source(&library),
        &registry,
        &task,
        args.family,
        wall_now(),
        &mut progress,
    ))?;
    bar.finish_and_clear();
    print(&report)?;
    if report.promoted
        && let Err(error) = announce(&soon(&site.settings), &registry, &task.name)
    {
        tracing::warn!(%error, "the model is promoted but was not announced; running daemons take it at their next start");
    }
    Ok(())
}
