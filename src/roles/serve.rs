//! The role `serve`: metrics, health and the description of the API, over HTTP.
//!
//! Promises that it answers from memory alone, so that a slow broker or store never makes a health
//! check hang, and that a stranger cannot exhaust the process: connections are few and each must
//! keep sending. Must never show a patient: what it serves is counts and the names of roles.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::serve::Listener;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, Sleep, interval, sleep, timeout};

use crate::telemetry::{Health, Metrics, Stop};

/// What a stranger may take.
#[derive(Copy, Clone)]
struct Bounds {
    /// Connections at once; the next waits in the system's queue.
    connections: usize,
    /// A connection on which nothing moves for so long is closed.
    quiet: Duration,
    /// No connection lives longer, however slowly it drips.
    lifetime: Duration,
    /// How long requests that have begun may go on after the stop.
    drain: Duration,
}

/// `quiet` is longer than the usual interval of a scrape, so that Prometheus keeps its connection.
const BOUNDS: Bounds = Bounds {
    connections: 128,
    quiet: Duration::from_secs(75),
    lifetime: Duration::from_secs(900),
    drain: Duration::from_secs(5),
};

/// Why the role cannot serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} ({source}); free it or set serve.listen to another")]
    Bind {
        /// `serve.listen`.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The listener broke.
    #[error("serving stopped ({0}); start the role again")]
    Serve(#[from] io::Error),
}

/// How often whoever watches the role hears of it.
const ALIVE: Duration = Duration::from_secs(1);

/// A listener that is bound and not yet answering.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds `listen`; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(listen: SocketAddr) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { address: listen, source };
        let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server { listener, address })
    }

    /// The address that is bound, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, then lets requests that have begun end, for at most five seconds.
    /// Calls `alive` about once a second as long as the runtime lets it answer.
    ///
    /// # Errors
    /// If the listener breaks.
    pub async fn run(
        self,
        metrics: Metrics,
        health: Health,
        stop: Stop,
        alive: impl FnMut(),
    ) -> Result<(), ServeError> {
        tracing::info!(address = %self.address, "serving metrics and health");
        self.run_within(BOUNDS, router(metrics, health), stop, alive).await
    }

    async fn run_within(
        self,
        bounds: Bounds,
        router: Router,
        stop: Stop,
        mut alive: impl FnMut(),
    ) -> Result<(), ServeError> {
        let places = Arc::new(Semaphore::new(bounds.connections));
        let listener = Bounded { listener: TcpListener::from_std(self.listener)?, places, bounds };
        let mut serving = axum::serve(listener, router).with_graceful_shutdown(stop.stopped()).into_future();
        let mut stopped = pin!(stop.stopped());
        let mut pulse = interval(ALIVE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = &mut serving => return ended.map_err(ServeError::from),
                () = &mut stopped => break,
                _ = pulse.tick() => alive(),
            }
        }
        // Whoever is connected still after the drain has had the time; the process must end.
        timeout(bounds.drain, serving).await.unwrap_or(Ok(())).map_err(ServeError::from)
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    health: Health,
}

fn router(metrics: Metrics, health: Health) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(show_live))
        .route("/readyz", get(show_ready))
        .route("/api/v1/openapi.json", get(show_openapi))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(Shared { metrics, health })
}

async fn show_metrics(State(shared): State<Shared>) -> Response {
    match shared.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be rendered; the log says why")
        }
    }
}

async fn show_live(State(shared): State<Shared>) -> Response {
    verdict("late", &shared.health.late()).into_response()
}

/// `?verbose`, as Kubernetes has it: also how far behind the process is. Falling behind makes nobody
/// unready: taking the work away would not help.
async fn show_ready(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let (status, verdict) = verdict("not ready", &shared.health.unready());
    if query.as_deref() != Some("verbose") {
        return (status, verdict).into_response();
    }
    match shared.metrics.progress() {
        Ok(progress) => (status, format!("{verdict}\n{progress}")).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be rendered; the log says why")
        }
    }
}

fn verdict(what: &str, names: &[&str]) -> (StatusCode, String) {
    if names.is_empty() {
        (StatusCode::OK, "ok".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{what}: {}", names.join(", ")))
    }
}

async fn show_openapi() -> Json<Value> {
    Json(openapi())
}

async fn unknown_path() -> Response {
    failure(StatusCode::NOT_FOUND, "no such path; /api/v1/openapi.json lists what there is")
}

async fn unknown_method() -> Response {
    failure(StatusCode::METHOD_NOT_ALLOWED, "no such method here; use GET")
}

fn failure(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// Description of all paths (OpenAPI 3.1).
fn openapi() -> Value {
    let text = json!({ "text/plain": { "schema": { "type": "string" } } });
    let object = json!({ "application/json": { "schema": { "type": "object" } } });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "auscult",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Metrics and health of one process. No answer holds a patient."
        },
        "paths": {
            "/metrics": { "get": {
                "operationId": "metrics",
                "summary": "All metrics, in Prometheus text format 0.0.4",
                "responses": {
                    "200": { "description": "the metrics", "content": text },
                    "500": { "description": "they cannot be rendered", "content": object }
                }
            } },
            "/livez": { "get": {
                "operationId": "livez",
                "summary": "Whether everything makes progress",
                "responses": {
                    "200": { "description": "ok", "content": text },
                    "503": { "description": "the names of what is late", "content": text }
                }
            } },
            "/readyz": { "get": {
                "operationId": "readyz",
                "summary": "Whether everything can do its work; with ?verbose also lags and times to catch up",
                "parameters": [{ "name": "verbose", "in": "query", "allowEmptyValue": true, "schema": { "type": "string" } }],
                "responses": {
                    "200": { "description": "ok", "content": text },
                    "503": { "description": "the names of what is not ready", "content": text }
                }
            } },
            "/api/v1/openapi.json": { "get": {
                "operationId": "openapi",
                "summary": "This description",
                "responses": { "200": { "description": "OpenAPI 3.1", "content": object } }
            } }
        }
    })
}

/// Accepts while there is a place.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    bounds: Bounds,
}

impl Listener for Bounded {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        // It fails only once the semaphore is closed, which nobody does.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let quiet = Box::pin(sleep(self.bounds.quiet));
        let end = Instant::now() + self.bounds.lifetime;
        (Guarded { stream, longest_quiet: self.bounds.quiet, quiet, end, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself when the other side does nothing: axum's server has no timeouts.
struct Guarded {
    stream: TcpStream,
    longest_quiet: Duration,
    quiet: Pin<Box<Sleep>>,
    end: Instant,
    _place: Option<OwnedSemaphorePermit>,
}

impl Guarded {
    /// Lets `outcome` pass if it is something; else waits for it, but not for ever.
    fn guard<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            let next = (Instant::now() + self.longest_quiet).min(self.end);
            self.quiet.as_mut().reset(next);
            return outcome;
        }
        match self.quiet.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.guard(outcome, context)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.guard(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
