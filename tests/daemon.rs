//! The daemon as its operator sees it.

use std::time::Duration;

use crate::broker::Broker;
use crate::peer::{Place, get, wait_until_ready};

#[test]
fn the_daemon_serves_its_health_and_metrics_and_drains() {
    let Some(broker) = Broker::start() else { return };
    let mut place = Place::new("hospital", &broker.bootstrap);
    let port = place.serve();
    let daemon = place.daemon("normalize,score,archive,train,serve");
    wait_until_ready(port, Duration::from_secs(60));
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
