//! The life of the roles in one process: each on a thread of its own, supervised.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::Rng as _;
use tokio::runtime::Handle;

use super::{RoleError, Server, Site, archive, link, normalize, score, train};
use crate::events::Pseudonyms;
use crate::kafka;
use crate::telemetry::{Beat, Health, Metrics, Stop};

/// What the roles of a process share.
#[derive(Clone, Debug)]
pub struct Context {
    /// The site.
    pub site: Arc<Site>,
    /// Its pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Metrics of this process.
    pub metrics: Metrics,
    /// Health of this process.
    pub health: Health,
    /// Ends the process.
    pub stop: Stop,
    /// Where asynchronous work runs.
    pub runtime: Handle,
}

/// A role of the daemon.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Raw records to events.
    Normalize,
    /// Events to scores and alerts.
    Score,
    /// Events, scores and alerts to the case library.
    Archive,
    /// The library to models.
    Train,
    /// HTTP.
    Serve,
    /// Statements about identifiers to the identity table: runs wherever [`Role::Normalize`] does, and
    /// cannot be asked for by itself.
    Link,
}

impl Role {
    /// All five that can be asked for.
    pub const ALL: [Role; 5] = [Role::Normalize, Role::Score, Role::Archive, Role::Train, Role::Serve];

    /// The word of `--roles`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Normalize => "normalize",
            Role::Score => "score",
            Role::Archive => "archive",
            Role::Train => "train",
            Role::Serve => "serve",
            Role::Link => "link",
        }
    }

    /// Reads the word of `--roles`.
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// How long a role may go without a beat before the process counts as dead.
const BEAT: Duration = Duration::from_secs(60);
/// A role that ran this long starts its back-off anew.
const STEADY: Duration = Duration::from_secs(60);

/// Runs roles until [`Context::stop`] and then until each has come to a batch's border.
///
/// # Errors
/// The first error that running again cannot mend; the other roles are stopped then.
pub fn run(context: &Context, roles: &[Role]) -> Result<(), RoleError> {
    let mut threads: Vec<(Role, JoinHandle<Result<(), RoleError>>)> = Vec::new();
    let companion = roles.contains(&Role::Normalize).then_some(Role::Link);
    for role in roles.iter().copied().chain(companion) {
        let context = context.clone();
        let thread = std::thread::Builder::new().name(role.as_str().to_owned()).spawn(move || {
            let done = supervise(&context, role);
            if done.is_err() {
                context.stop.stop();
            }
            done
        })?;
        threads.push((role, thread));
    }
    let mut first = Ok(());
    for (role, thread) in threads {
        let done = thread.join().unwrap_or_else(|_| {
            context.stop.stop();
            Err(RoleError::Panic(role.as_str()))
        });
        if let (Ok(()), Err(error)) = (&first, done) {
            first = Err(error);
        }
    }
    first
}

/// How often in a row a role may be fenced. Once may be its own doing, when a broker that was away let
/// it join twice; two processes with one instance would take the place from each other for ever.
const FENCES: u32 = 3;

/// Runs a role, and again after what may pass, with growing and jittered pauses.
fn supervise(context: &Context, role: Role) -> Result<(), RoleError> {
    let beat = context.health.watch(role.as_str(), BEAT);
    let (mut pause, mut is_again, mut fences) = (Duration::from_millis(250), false, 0);
    while !context.stop.is_stopped() {
        let started = Instant::now();
        beat.beat();
        let done = once(context, role, &beat, is_again);
        is_again = true;
        beat.ready(false);
        match done {
            Ok(()) => return Ok(()),
            Err(error) if error.is_final() || error.is_fence() && fences + 1 >= FENCES => {
                tracing::error!(role = role.as_str(), %error, "a role ends for good");
                return Err(error);
            }
            Err(error) => {
                if started.elapsed() > STEADY {
                    (pause, fences) = (Duration::from_millis(250), 0);
                }
                fences += u32::from(error.is_fence());
                let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.5));
                tracing::warn!(role = role.as_str(), %error, again_in = ?jittered, "a role starts again");
                context.stop.wait(jittered);
                pause = (pause * 2).min(Duration::from_secs(15));
            }
        }
    }
    Ok(())
}

fn once(context: &Context, role: Role, beat: &Beat, is_again: bool) -> Result<(), RoleError> {
    // The process has checked the topics at its start; whatever broke a role may have taken them.
    if is_again && matches!(role, Role::Normalize | Role::Score | Role::Archive | Role::Link) {
        context.runtime.block_on(kafka::ensure(&context.site.settings))?;
    }
    match role {
        Role::Normalize => normalize::run(context, beat),
        Role::Score => score::run(context, beat),
        Role::Archive => archive::run(context, beat),
        Role::Link => link::run(context, beat),
        Role::Train => train::run(context, beat),
        Role::Serve => {
            let server = Server::bind(context.site.settings.listen)?;
            beat.ready(true);
            let alive = beat.clone();
            context.runtime.block_on(server.run(
                context.metrics.clone(),
                context.health.clone(),
                context.stop.clone(),
                move || alive.beat(),
            ))?;
            Ok(())
        }
    }
}
