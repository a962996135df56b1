//! The command line: one file a command.
//!
//! Promises: what a command is asked for goes to stdout, everything else to stderr; exit
//! code 0 is done, 1 is failed, 2 is wrong usage or configuration.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod check_config;
mod crossval;
mod demo;
mod evaluate;
mod export;
mod features;
mod feed;
mod flat;
mod import;
mod inspect;
mod label;
mod mapping;
mod models;
mod query;
mod records;
mod redrive;
mod run;
mod simulate;
mod tabularize;
mod terms;
mod train;
mod verify;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::roles::{RoleError, Site};
use crate::settings::{Problem, Settings};
use crate::telemetry;

/// Listens to a hospital's event stream and says who is at risk, of what, and why.
#[derive(Parser, Debug)]
#[command(name = "auscult", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The daemon: reads, scores, alerts, archives, trains and serves until SIGTERM or SIGINT
    Run(run::RunArgs),
    /// Everything embedded, nothing to install: a simulated ward, live scores, alerts and a retrain
    Demo(demo::DemoArgs),
    /// Send records from files to a Kafka topic
    Feed(feed::FeedArgs),
    /// Print a synthetic hospital's records, the same for the same seed
    Simulate(simulate::SimulateArgs),
    /// Send dead letters back to where they came from, each at most once
    Redrive(redrive::RedriveArgs),
    /// Positions and ages of everything: topics, consumer groups, library, models; changes nothing
    Inspect(SiteArgs),
    /// Walk topics and library and prove on what is there that nothing was lost, doubled or changed
    Verify(SiteArgs),
    /// Read history straight into the case library; no Kafka needed
    Import(import::ImportArgs),
    /// Write the case library as a MEDS dataset
    Export(export::ExportArgs),
    /// The features of every prediction in the library as a Parquet file, or what each feature is
    Features(features::FeaturesArgs),
    /// SQL over the library: events, predictions, alerts and features
    Query(query::QueryArgs),
    /// Write the labels of an ACES task, over the case library or over MEDS data
    Label(label::LabelArgs),
    /// Write what happened before every row of MEDS data, or of the case library, as sparse matrices
    Tabularize(tabularize::TabularizeArgs),
    /// The words of texts that tell most about a task's label, for the [[text]] of features.toml
    Terms(terms::TermsArgs),
    /// Fit a model, evaluate it on subjects it never saw, register it, and promote it if it passes the gate
    Train(train::TrainArgs),
    /// How good each family of models would be on a task: cross-validation over subjects, nothing is registered
    Crossval(crossval::CrossvalArgs),
    /// Score the library's labelled subjects at their prediction times
    Evaluate(evaluate::EvaluateArgs),
    /// The model registry
    Models(models::ModelsArgs),
    /// Name every problem of a site at once
    CheckConfig(SiteArgs),
}

/// Which site a command works on.
#[derive(Args, Clone, Debug)]
struct SiteArgs {
    /// Folder of the site; else $AUSCULT_CONFIG, else ./config/hospital, else the site compiled in
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
}

impl SiteArgs {
    fn load(&self) -> Result<Site, CliError> {
        Site::load(self.config.as_deref()).map_err(CliError::Site)
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The site has problems: exit code 2.
    #[error("the site has {} problem(s)", .0.len())]
    Site(Vec<Problem>),
    /// A task file has problems: exit code 2.
    #[error("the task has {} problem(s)", .0.len())]
    Task(Vec<Problem>),
    /// A mapping of CSV has problems, or does not fit its file: exit code 2.
    #[error("the mapping has {} problem(s)", .0.len())]
    Mapping(Vec<Problem>),
    /// The command was called wrongly: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A role or the library failed: exit code 1.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// Reading or writing a file failed: exit code 1.
    #[error("{path}: {cause}")]
    File {
        /// Which file.
        path: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// A file of records cannot be read: exit code 1.
    #[error(transparent)]
    Records(#[from] records::RecordsError),
    /// Whoever read the output went away, as `head` does: nothing is wrong, exit code 0.
    #[error("nobody reads the output any more")]
    Unread,
    /// Anything else that failed, in words: exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    fn code(&self) -> u8 {
        match self {
            CliError::Site(_) | CliError::Task(_) | CliError::Mapping(_) | CliError::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// Lets `?` turn any room's error into a failed command.
macro_rules! failed {
    ($($error:ty),*) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                CliError::Role(error.into())
            }
        }
    )*};
}
failed!(
    crate::events::EventsError,
    crate::kafka::KafkaError,
    crate::learn::LearnError,
    crate::library::LibraryError,
    crate::models::ModelError,
    crate::normalize::NormalizeError,
    prometheus::Error,
    serde_json::Error,
    std::io::Error
);

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::init_tracing(cli.command.log_level()) {
        eprintln!("auscult: {error}");
        return ExitCode::from(2);
    }
    match cli.command.run() {
        Ok(()) | Err(CliError::Unread) => ExitCode::SUCCESS,
        Err(error) => {
            if let CliError::Site(problems) | CliError::Task(problems) | CliError::Mapping(problems) = &error {
                for problem in problems {
                    eprintln!("{problem}");
                }
            }
            eprintln!("auscult: {error}");
            ExitCode::from(error.code())
        }
    }
}

impl Command {
    /// A daemon tells what it does; a command only what went wrong.
    fn log_level(&self) -> &'static str {
        match self {
            Command::Run(_) => "info",
            // They work without a broker, and say themselves what was not announced.
            Command::Train(_) | Command::Models(_) => "warn,librdkafka=off,rdkafka=off",
            _ => "warn",
        }
    }

    fn run(self) -> Result<(), CliError> {
        match self {
            Command::Run(args) => run::run(args),
            Command::Demo(args) => demo::run(args),
            Command::Feed(args) => feed::run(args),
            Command::Simulate(args) => simulate::run(args),
            Command::Redrive(args) => redrive::run(args),
            Command::Inspect(site) => inspect::run(&site),
            Command::Verify(site) => verify::run(&site),
            Command::Import(args) => import::run(args),
            Command::Export(args) => export::run(args),
            Command::Features(args) => features::run(args),
            Command::Query(args) => query::run(args),
            Command::Label(args) => label::run(args),
            Command::Tabularize(args) => tabularize::run(args),
            Command::Terms(args) => terms::run(args),
            Command::Train(args) => train::run(args),
            Command::Crossval(args) => crossval::run(args),
            Command::Evaluate(args) => evaluate::run(args),
            Command::Models(args) => models::run(args),
            Command::CheckConfig(site) => check_config::run(&site),
        }
    }
}

/// The settings with a short deadline for Kafka: a command that could do without a broker does not
/// wait for one as long as the daemon does.
fn soon(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.kafka.deadline = settings.kafka.deadline.min(std::time::Duration::from_secs(5));
    settings
}

/// The runtime of a command.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Prints a command's result as one line of JSON.
fn print(result: &impl Serialize) -> Result<(), CliError> {
    let line = serde_json::to_string(result)?;
    writeln!(io::stdout().lock(), "{line}").map_err(unread)
}

/// What became of writing to stdout.
fn unread(error: io::Error) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe { CliError::Unread } else { error.into() }
}

/// A spinner on stderr while a command works; hidden when stderr is no terminal.
fn spinner(what: &'static str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}
