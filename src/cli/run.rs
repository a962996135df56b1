//! `run`: the daemon.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, SiteArgs, runtime};
use crate::roles::{self, Context, Role, RoleError};
use crate::telemetry::{Health, Metrics, Stop};

/// Arguments of `run`.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Roles of this process, separated by commas: normalize, score, archive, train, serve [default: all]
    #[arg(long, value_delimiter = ',', value_parser = role)]
    roles: Vec<Role>,
}

fn role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| "choose from normalize, score, archive, train, serve".to_owned())
}

pub(super) fn run(args: RunArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let pseudonyms = site.pseudonyms().map_err(|problem| CliError::Site(vec![problem]))?;
    let runtime = runtime()?;
    let deadline = site.settings.shutdown_deadline;
    let context = Context {
        site: Arc::new(site),
        pseudonyms,
        metrics: Metrics::new()?,
        health: Health::default(),
        stop: Stop::default(),
        runtime: runtime.handle().clone(),
    };
    runtime.block_on(crate::kafka::ensure(&context.site.settings))?;
    let roles = if args.roles.is_empty() { Role::ALL.to_vec() } else { args.roles };
    let words: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    tracing::info!(roles = words.join(","), "auscult starts");
    watch_signals(&runtime, context.stop.clone(), deadline)?;
    roles::run(&context, &roles)?;
    tracing::info!("auscult has drained");
    Ok(())
}

/// SIGTERM and SIGINT drain the roles; when that takes longer than the deadline, the process
/// ends anyway, which loses nothing that is committed.
fn watch_signals(runtime: &tokio::runtime::Runtime, stop: Stop, deadline: Duration) -> Result<(), RoleError> {
    let _guard = runtime.enter();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    runtime.spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!(?deadline, "draining");
        stop.stop();
        tokio::time::sleep(deadline).await;
        tracing::error!(
            ?deadline,
            "the drain took longer than shutdown.deadline; what was not committed is read again"
        );
        std::process::exit(1);
    });
    Ok(())
}
