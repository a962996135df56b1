//! The daemon as its operator sees it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::peer::Place;

fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

#[test]
fn the_daemon_serves_its_health_and_metrics_and_drains() {
    let Some(broker) = Broker::start() else { return };
    let mut place = Place::new("hospital", &broker.bootstrap);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    place.set("AUSCULT__SERVE__LISTEN", &format!("127.0.0.1:{port}"));
    let daemon = place.daemon("normalize,score,archive,train,serve");
    let started = Instant::now();
    while get(port, "/readyz").is_none_or(|(status, _)| status != 200) {
        assert!(started.elapsed() < Duration::from_secs(60), "not ready after 60 s:\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(get(port, "/livez").unwrap().0, 200);
    let (status, metrics) = get(port, "/metrics").unwrap();
    assert_eq!(status, 200);
    for name in ["auscult_events_total", "auscult_state_subjects"] {
        assert!(metrics.contains(name), "{name} is missing:\n{metrics}");
    }
    assert_eq!(get(port, "/nothing").unwrap().0, 404);
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn without_a_broker_the_start_says_so_and_exits_1() {
    let mut place = Place::new("hospital", "127.0.0.1:1");
    place.set("AUSCULT__KAFKA__DEADLINE", "2s");
    let output = place.run(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("127.0.0.1:1") && said.contains("kafka.brokers"), "{said}");
}
