use std::io::{Read as _, Write as _};
use std::net::TcpStream as Client;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::{JoinHandle, spawn_blocking};

use super::*;

struct Running {
    address: SocketAddr,
    metrics: Metrics,
    health: Health,
    stop: Stop,
    alive: Arc<AtomicUsize>,
    task: JoinHandle<Result<(), ServeError>>,
}

async fn run(bounds: Bounds) -> Running {
    let (metrics, health, stop) = (Metrics::new().unwrap(), Health::new(), Stop::new());
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(listen).unwrap();
    let address = server.address();
    assert_ne!(address.port(), 0);
    let alive = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&alive);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    let router = router(metrics.clone(), health.clone());
    let task = tokio::spawn(server.run_within(bounds, router, stop.clone(), count));
    Running { address, metrics, health, stop, alive, task }
}

fn connect(address: SocketAddr) -> Client {
    let client = Client::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client
}

/// Sends `request` as it stands and reads until the other side closes.
fn raw(address: SocketAddr, request: &str) -> String {
    let mut client = connect(address);
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Status, head and body of the answer to `method path`.
async fn ask(address: SocketAddr, method: &'static str, path: &'static str) -> (u16, String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = spawn_blocking(move || raw(address, &request)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

async fn ends(running: Running) {
    running.stop.stop();
    tokio::time::timeout(Duration::from_secs(30), running.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_reads_them() {
    let running = run(BOUNDS).await;
    running.metrics.raw_messages.with_label_values(&["raw.flat"]).inc_by(4);
    let (status, head, body) = ask(running.address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("auscult_raw_messages_total{topic=\"raw.flat\"} 4\n"), "{body}");
    let (status, _, body) = ask(running.address, "HEAD", "/metrics").await;
    assert_eq!((status, body.as_str()), (200, ""));
    ends(running).await;
}

#[tokio::test]
async fn health_names_what_is_late_and_what_is_not_ready() {
    let running = run(BOUNDS).await;
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
    assert_eq!(ask(running.address, "GET", "/readyz").await.2, "ok");
    let score = running.health.watch("score", Duration::from_millis(1));
    let _archive = running.health.watch("archive", Duration::from_secs(600));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (status, _, body) = ask(running.address, "GET", "/livez").await;
    assert_eq!((status, body.as_str()), (503, "late: score"));
    let (status, _, body) = ask(running.address, "GET", "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "not ready: archive, score"));
    score.ready(true);
    assert_eq!(ask(running.address, "GET", "/readyz").await.2, "not ready: archive");
    drop(score);
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
    running.metrics.queue_bytes.with_label_values(&["score"]).set(7);
    let (status, _, body) = ask(running.address, "GET", "/readyz?verbose").await;
    assert!(status == 503 && body.starts_with("not ready: archive\n"), "{body}");
    assert!(body.contains("auscult_queue_bytes") && !body.contains("raw_messages"), "{body}");
    ends(running).await;
}

#[tokio::test]
async fn the_description_lists_paths_that_answer() {
    let running = run(BOUNDS).await;
    let (status, head, body) = ask(running.address, "GET", "/api/v1/openapi.json").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    let described: Value = serde_json::from_str(&body).unwrap();
    let mut paths: Vec<&str> = described["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/api/v1/openapi.json", "/livez", "/metrics", "/readyz"]);
    for path in ["/api/v1/openapi.json", "/livez", "/metrics", "/readyz"] {
        let (status, _, _) = ask(running.address, "GET", path).await;
        assert!(described["paths"][path]["get"]["responses"][status.to_string()].is_object(), "{path}");
    }
    ends(running).await;
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let running = run(BOUNDS).await;
    for (method, path, expected) in [("GET", "/no/such", 404), ("GET", "/", 404), ("POST", "/metrics", 405)] {
        let (status, head, body) = ask(running.address, method, path).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let said: Value = serde_json::from_str(&body).unwrap();
        assert!(said["error"].is_string(), "{body}");
    }
    ends(running).await;
}

#[tokio::test]
async fn nonsense_does_not_hurt() {
    let running = run(BOUNDS).await;
    let long = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(2_000_000));
    for nonsense in ["\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), "GET\r\n\r\n".to_owned(), long] {
        let address = running.address;
        let answer = spawn_blocking(move || {
            let mut client = connect(address);
            // The server may hang up before it has read everything.
            let _ = client.write_all(nonsense.as_bytes());
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        });
        let answer = answer.await.unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
    ends(running).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let running = run(Bounds { quiet: Duration::from_millis(50), ..BOUNDS }).await;
    let address = running.address;
    let answer = spawn_blocking(move || raw(address, "GET /metrics HTTP/1.1\r\nHost:")).await.unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");
    ends(running).await;
}

#[tokio::test]
async fn a_connection_that_drips_is_closed_too() {
    let bounds = Bounds { quiet: Duration::from_secs(60), lifetime: Duration::from_millis(200), ..BOUNDS };
    let running = run(bounds).await;
    let address = running.address;
    let closed = spawn_blocking(move || {
        let mut client = connect(address);
        client.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
        let began = std::time::Instant::now();
        // A write to a connection that the other side closed fails at the second try.
        while began.elapsed() < Duration::from_secs(30) {
            if client.write_all(b"y").is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    });
    assert!(closed.await.unwrap());
    ends(running).await;
}

#[tokio::test]
async fn connections_wait_for_a_place() {
    let running = run(Bounds { connections: 1, ..BOUNDS }).await;
    let address = running.address;
    let first = spawn_blocking(move || connect(address)).await.unwrap();
    // The first one must be accepted before the second asks.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = tokio::spawn(ask(address, "GET", "/livez"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "the only place is taken");
    drop(first);
    assert_eq!(second.await.unwrap().0, 200);
    ends(running).await;
}

#[tokio::test]
async fn a_stop_ends_it_though_somebody_stays_connected() {
    let running = run(Bounds { drain: Duration::from_millis(100), ..BOUNDS }).await;
    let address = running.address;
    let half = spawn_blocking(move || {
        let mut client = connect(address);
        client.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        client
    });
    let half = half.await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    ends(running).await;
    assert!(Client::connect(address).is_err(), "nobody listens any more");
    drop(half);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let running = run(BOUNDS).await;
    let error = Server::bind(running.address).unwrap_err();
    assert!(error.to_string().contains(&running.address.to_string()), "{error}");
    ends(running).await;
}

#[tokio::test]
async fn whoever_watches_hears_of_it() {
    let running = run(BOUNDS).await;
    let began = std::time::Instant::now();
    while running.alive.load(Ordering::Relaxed) < 2 && began.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(running.alive.load(Ordering::Relaxed) >= 2);
    ends(running).await;
}

#[tokio::test]
async fn the_whole_role_runs_and_stops() {
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let (address, stop) = (server.address(), Stop::new());
    let task = tokio::spawn(server.run(Metrics::new().unwrap(), Health::new(), stop.clone(), || {}));
    assert_eq!(ask(address, "GET", "/livez").await.2, "ok");
    stop.stop();
    tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap().unwrap();
}
