//! `features`: what the daemon computed, or would have, at every prediction; or what each feature is.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, SiteArgs, print, runtime, spinner};
use crate::features::Trigger;
use crate::learn;
use crate::library::Library;
use crate::roles::Site;

/// Arguments of `features`.
#[derive(Args, Debug)]
pub(super) struct FeaturesArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Only the predictions of this task [default: of all]
    #[arg(long)]
    task: Option<String>,
    /// Parquet file: subject_id, prediction_time, task, then a column a feature
    #[arg(long, value_name = "FILE", required_unless_present = "describe")]
    out: Option<PathBuf>,
    /// Print what each feature is instead: a JSON object a line, with its unit, events, formula and source
    #[arg(long, conflicts_with_all = ["out", "task"])]
    describe: bool,
}

pub(super) fn run(args: FeaturesArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let Some(out) = args.out else { return describe(&site) };
    let tasks = tasks(&site, args.task.as_deref())?;
    let (runtime, bar) = (runtime()?, spinner("computing features"));
    let library = runtime.block_on(Library::open(&site.settings.library))?;
    let mut progress = |what: &str| bar.set_message(what.to_owned());
    let report = runtime.block_on(learn::features(&library, &site.features, &tasks, &out, &mut progress))?;
    bar.finish_and_clear();
    print(&report)
}

/// Names and triggers of the tasks that are asked for.
pub(super) fn tasks(site: &Site, only: Option<&str>) -> Result<Vec<(String, Trigger)>, CliError> {
    let tasks = match only {
        Some(name) => vec![site.task(name).map_err(|problem| CliError::Site(vec![problem]))?],
        None => site.tasks.iter().collect(),
    };
    if tasks.is_empty() {
        return Err(CliError::Usage(
            "the site has no task, so nothing is ever predicted; add a tasks/NAME.toml".into(),
        ));
    }
    Ok(tasks.into_iter().map(|task| (task.name.clone(), task.trigger.clone())).collect())
}

fn describe(site: &Site) -> Result<(), CliError> {
    let codes = site.concepts.codes();
    for mut feature in site.features.describe() {
        for concept in &feature.concepts {
            feature.codes.extend(codes.get(concept.as_str()).into_iter().flatten().cloned());
        }
        print(&feature)?;
    }
    Ok(())
}
