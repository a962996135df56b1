//! `demo`: the whole road in one process, with nothing to install.
//!
//! A mock Kafka, a simulated hospital whose days pass in seconds, a first model trained on
//! simulated history, then live scores, alerts and a retraining that the running score role
//! takes over. The roles are those of `run`; only the broker and the patients are not real.

mod hospital;
mod screen;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use self::hospital::Live;
use self::screen::{Screen, Subscriber};
use super::{CliError, print, runtime, spinner};
use crate::kafka::Embedded;
use crate::learn::{Registry, TrainReport};
use crate::roles::{self, Context, Role, Site};
use crate::settings::{SiteFiles, parse_span};
use crate::telemetry::{Health, Metrics, Stop};

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// How long patients are fed live
    #[arg(long = "for", value_name = "SPAN", default_value = "60s", value_parser = span)]
    live: Duration,
    /// No screen; one JSON summary on stdout at the end
    #[arg(long)]
    headless: bool,
    /// Patients of the live ward
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=2000))]
    patients: u32,
    /// Seed of the simulated hospital
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn span(text: &str) -> Result<Duration, String> {
    parse_span(text)
        .filter(|span| *span >= Duration::from_secs(5))
        .ok_or_else(|| "a span of at least 5s, such as 60s or 5min".to_owned())
}

#[derive(Serialize, Debug)]
struct Summary {
    raw: u64,
    accepted: u64,
    dead_letters: u64,
    dropped: u64,
    events: u64,
    scores: u64,
    alerts: u64,
    retrains: u64,
    swaps: u64,
    champion: Champion,
    alert_latency_ms: Latency,
}

#[derive(Serialize, Debug)]
struct Champion {
    name: String,
    version: u32,
    auroc: Option<f64>,
}

#[derive(Serialize, Debug)]
struct Latency {
    p50: Option<f64>,
    p99: Option<f64>,
}

/// The task of the site that the demo shows.
const TASK: &str = "deterioration";

pub(super) fn run(args: DemoArgs) -> Result<(), CliError> {
    let folder = Folder::make()?;
    let broker = Embedded::start()?;
    let site = site(&folder, &broker, args.seed)?;
    let pseudonyms = site.pseudonyms().map_err(|problem| CliError::Site(vec![problem]))?;
    broker.make_topics(&site.settings)?;
    let runtime = runtime()?;
    let context = Context {
        site: Arc::new(site),
        pseudonyms,
        metrics: Metrics::new()?,
        health: Health::default(),
        stop: Stop::default(),
        runtime: runtime.handle().clone(),
    };
    let bar = spinner("simulating two weeks of a hospital's history");
    hospital::import_history(&context, args.seed)?;
    bar.set_message("training a first model on it");
    let first = train(&context)?.ok_or_else(|| CliError::Failed("the simulated history trains no model".to_owned()))?;
    if !first.promoted {
        return Err(CliError::Failed(format!("the first model did not pass its gate: {}", first.reason)));
    }
    bar.finish_and_clear();

    let interrupted = context.stop.clone();
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.stop();
        }
    });
    let running = std::thread::Builder::new().name("roles".to_owned()).spawn({
        let context = context.clone();
        move || roles::run(&context, &Role::ALL)
    })?;
    let shown = live(&context, &args, first);
    context.stop.stop();
    let ended = running.join().map_err(|_| CliError::Failed("the roles ended by a panic".to_owned()))?;
    let (sent, retrains) = shown?;
    ended?;
    let summary = summary(&context, sent, retrains)?;
    if args.headless {
        return print(&summary);
    }
    eprintln!(
        "{} records, {} scores, {} alerts, {} retrained; the champion is {} version {} (AUROC {:.3} on subjects never trained on)",
        summary.raw,
        summary.scores,
        summary.alerts,
        summary.retrains,
        summary.champion.name,
        summary.champion.version,
        summary.champion.auroc.unwrap_or(f64::NAN)
    );
    Ok(())
}

/// The built-in site on the embedded broker, with a library and a registry for the day.
///
/// Its identity key follows from the seed: nobody simulated needs hiding, and the subjects' names
/// decide who is trained on, so that a seed shows the same first model each time.
fn site(folder: &Folder, broker: &Embedded, seed: u64) -> Result<Site, CliError> {
    // A port that is free now; the role `serve` takes it in a moment.
    let listen = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())?;
    let settings = [
        ("KAFKA__BROKERS", broker.brokers()),
        ("LIBRARY__URL", folder.0.join("library").display().to_string()),
        ("REGISTRY__URL", folder.0.join("registry").display().to_string()),
        ("IDENTITY__KEY", format!("the demo's identity key {seed:032x}")),
        ("TIME__CLOCK", "log".to_owned()),
        ("TIME__TICK", "5min".to_owned()),
        ("TIME__IDLE", "2s".to_owned()),
        ("ARCHIVE__EVERY", "2s".to_owned()),
        ("SERVE__LISTEN", listen.to_string()),
    ];
    let env = settings.into_iter().map(|(key, value)| (format!("AUSCULT__{key}"), value));
    Site::parse(&SiteFiles::built_in(), env).map_err(CliError::Site)
}

/// Feeds, shows and retrains once; returns the records sent and the retrainings done.
fn live(context: &Context, args: &DemoArgs, first: TrainReport) -> Result<(u64, u64), CliError> {
    let mut feed = Live::start(context, args.seed, args.patients, args.live)?;
    let mut subscriber = Subscriber::open(context)?;
    let mut screen = Screen::open(!args.headless, &first);
    let (started, mut retraining, mut retrains) = (Instant::now(), None, 0);
    while started.elapsed() < args.live && !context.stop.is_stopped() {
        feed.send_due(started.elapsed())?;
        subscriber.follow(screen.ward());
        if retraining.is_none() && started.elapsed() > args.live.mul_f64(0.4) {
            screen.note("training on what has come in since");
            let context = context.clone();
            retraining = Some(std::thread::spawn(move || train(&context)));
        }
        if retraining.as_ref().is_some_and(|thread| thread.is_finished())
            && let Some(report) = retraining.take().and_then(|thread| thread.join().ok())
        {
            retrains += finish(report?, &mut screen);
            // Once is enough to show it: the next one would be due after the end.
            retraining = Some(std::thread::spawn(|| Ok(None)));
        }
        screen.draw(context)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    if retrains == 0
        && let Some(report) = retraining.and_then(|thread| thread.join().ok())
    {
        retrains += finish(report?, &mut screen);
    }
    let sent = feed.finish()?;
    settle(context, &mut subscriber, &mut screen, sent)?;
    Ok((sent, retrains))
}

fn finish(report: Option<TrainReport>, screen: &mut Screen) -> u64 {
    let Some(report) = report else { return 0 };
    screen.trained(&report);
    1
}

fn train(context: &Context) -> Result<Option<TrainReport>, CliError> {
    let task = context.site.task(TASK).map_err(|problem| CliError::Site(vec![problem]))?;
    let beat = context.health.watch("retrain", Duration::from_secs(600));
    beat.ready(true);
    Ok(roles::train_once(context, task, &beat)?)
}

/// Waits until everything sent was read and scored, and the announced model is in use.
fn settle(context: &Context, subscriber: &mut Subscriber, screen: &mut Screen, sent: u64) -> Result<(), CliError> {
    let deadline = Duration::from_secs(30);
    let (started, mut quiet, mut last) = (Instant::now(), Instant::now(), 0);
    while quiet.elapsed() < Duration::from_secs(3) || count(context, "raw_messages_total") < sent {
        if started.elapsed() > deadline {
            return Err(CliError::Failed(format!("the demo did not settle within {deadline:?}")));
        }
        if context.stop.is_stopped() {
            return Ok(());
        }
        subscriber.follow(screen.ward());
        screen.draw(context)?;
        let scores = count(context, "scores_total") + count(context, "raw_messages_total");
        if scores != last {
            (last, quiet) = (scores, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn summary(context: &Context, sent: u64, retrains: u64) -> Result<Summary, CliError> {
    let registry = Registry::open(&context.site.settings.registry)?;
    let model = registry
        .champion(TASK)?
        .ok_or_else(|| CliError::Failed("the registry has no champion after the demo".to_owned()))?;
    let auroc = registry.load(TASK, &model)?.card.metrics.get("auroc").copied();
    let raw = count(context, "raw_messages_total");
    if raw != sent {
        eprintln!("auscult: {sent} records were sent and {raw} were read before the demo was ended");
    }
    let quantile = |q| screen::quantile(&context.metrics.alert_latency, q).map(|seconds| seconds * 1e3);
    Ok(Summary {
        raw,
        accepted: count(context, "accepted_total"),
        dead_letters: count(context, "dead_letters_total"),
        dropped: count(context, "dropped_total"),
        events: count(context, "events_total"),
        scores: count(context, "scores_total"),
        alerts: count(context, "alerts_total"),
        retrains,
        // The first model is the start, not a swap.
        swaps: count(context, "swaps_total").saturating_sub(1),
        champion: Champion { name: model.name, version: model.version, auroc },
        alert_latency_ms: Latency { p50: quantile(0.5), p99: quantile(0.99) },
    })
}

/// Sum of a counter over its labels, as `/metrics` would show it.
fn count(context: &Context, name: &str) -> u64 {
    let text = context.metrics.render().unwrap_or_default();
    let full = format!("auscult_{name}");
    let of_it = |line: &&str| line.strip_prefix(&full).is_some_and(|rest| rest.starts_with([' ', '{']));
    text.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

/// A temporary folder, removed at the end.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Folder, CliError> {
        let path = std::env::temp_dir().join(format!("auscult-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|cause| CliError::File { path: path.display().to_string(), cause })?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("auscult: {} could not be removed: {error}", self.0.display());
        }
    }
}
