//! `models`: the registry and its ledger.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::{CliError, SiteArgs, print, soon};
use crate::learn::{LearnError, ModelRef, Registry};
use crate::models::{Bundle, Calibration, Card};
use crate::roles::{Site, announce, wall_now};

/// Arguments of `models`.
#[derive(Args, Debug)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Subcommand, Debug)]
enum ModelsCommand {
    /// Every registered model, and which is the champion
    List(SiteArgs),
    /// The card of one model
    Show(OneArgs),
    /// What happened to a task's models, in order
    History(TaskArgs),
    /// Make a registered model the champion by hand, whatever the gate said
    Promote(PromoteArgs),
    /// Give the place back to the champion before the present one
    Rollback(TaskArgs),
    /// Register a gradient boosting model that XGBoost saved as JSON, fitted on this site's features
    Import(ImportArgs),
    /// Write a gradient boosting model as JSON that XGBoost loads
    Export(ExportArgs),
}

#[derive(Args, Debug)]
struct TaskArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Task
    #[arg(long)]
    task: String,
}

#[derive(Args, Debug)]
struct OneArgs {
    #[command(flatten)]
    of: TaskArgs,
    /// Version [default: the champion]
    #[arg(long, value_name = "V")]
    model: Option<u32>,
}

#[derive(Args, Debug)]
struct PromoteArgs {
    #[command(flatten)]
    of: TaskArgs,
    /// Version
    #[arg(long, value_name = "V")]
    model: u32,
    /// Why; stands in the ledger
    #[arg(long)]
    reason: String,
}

#[derive(Args, Debug)]
struct ImportArgs {
    #[command(flatten)]
    of: TaskArgs,
    /// Risk from which an alert is raised
    #[arg(long, default_value_t = 0.5)]
    threshold: f64,
    /// The JSON file
    file: PathBuf,
}

#[derive(Args, Debug)]
struct ExportArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The JSON file, which must not be there yet
    file: PathBuf,
}

/// What `models export` prints: XGBoost gives the probability before calibration, which is this, or of a hazard model
/// the hazard ratio, whose logarithm it takes for log-odds.
#[derive(Serialize, Debug)]
struct Exported<'a> {
    #[serde(flatten)]
    model: &'a ModelRef,
    file: String,
    /// Of its columns, in their order.
    features: Vec<String>,
    calibration: &'a Calibration,
    threshold: f64,
}

pub(super) fn run(args: ModelsArgs) -> Result<(), CliError> {
    match &args.command {
        ModelsCommand::List(site) => print(&open(site)?.1.list()?),
        ModelsCommand::Show(one) => print(&open(&one.of.site)?.1.show(&one.of.task, one.model)?),
        ModelsCommand::History(of) => print(&open(&of.site)?.1.history(&of.task)?),
        ModelsCommand::Promote(promote) => {
            let (site, registry) = open(&promote.of.site)?;
            let task = &promote.of.task;
            let model = registry.version(task, promote.model)?;
            let champion = registry.champion(task)?.map(|champion| champion.version);
            registry.promote(&model, champion, &json!({}), &promote.reason, wall_now())?;
            crowned(&site, &registry, &model)
        }
        ModelsCommand::Rollback(of) => {
            let (site, registry) = open(&of.site)?;
            let model = registry.roll_back(&of.task, "rolled back by hand", wall_now())?;
            crowned(&site, &registry, &model)
        }
        ModelsCommand::Import(import) => {
            let (site, registry) = open(&import.of.site)?;
            let task = site.task(&import.of.task).map_err(|problem| CliError::Site(vec![problem]))?;
            let bytes = std::fs::read(&import.file)
                .map_err(|cause| CliError::File { path: import.file.display().to_string(), cause })?;
            let (spec, now) = (&site.features, wall_now());
            let names = spec.names().to_vec();
            let mut bundle = Bundle::import_xgboost(&bytes, &task.name, names, spec.hash(), import.threshold, now)?;
            print(&registry.register(&task.name, &mut bundle, &json!({}), "imported from XGBoost JSON", now)?)
        }
        ModelsCommand::Export(export) => {
            let (_, registry) = open(&export.one.of.site)?;
            let task = &export.one.of.task;
            let model = match export.one.model {
                Some(version) => registry.version(task, version)?,
                None => registry.champion(task)?.ok_or_else(|| LearnError::NoChampion { task: task.clone() })?,
            };
            let bundle = registry.load(task, &model)?;
            let json = bundle.to_xgboost()?;
            let file = export.file.display().to_string();
            let written = File::create_new(&export.file).and_then(|mut file| file.write_all(&json));
            written.map_err(|cause| CliError::File { path: file.clone(), cause })?;
            let Card { calibration, threshold, .. } = &bundle.card;
            let (features, threshold) = (bundle.model_features(), *threshold);
            print(&Exported { model: &model, file, features, calibration, threshold })
        }
    }
}

fn open(site: &SiteArgs) -> Result<(Site, Registry), CliError> {
    let site = site.load()?;
    let registry = Registry::open(&site.settings.registry)?;
    Ok((site, registry))
}

/// Prints the new champion and tells running daemons of it.
fn crowned(site: &Site, registry: &Registry, model: &ModelRef) -> Result<(), CliError> {
    print(model)?;
    if let Err(error) = announce(&soon(&site.settings), registry, &model.name) {
        tracing::warn!(%error, "not announced; running daemons take the model at their next start");
    }
    Ok(())
}
