//! What bounds the daemon: bytes that wait, and waits.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::layering::rust_files;
use crate::peer::{Place, get, metric, read_until, wait_until_ready};
use crate::process::peak_mib;

const MIB: u64 = 1 << 20;
/// `limits.queue_bytes` here, the least that lets the longest record pass.
const BOUND: u64 = 8 * MIB;

fn wait_for(what: &str, longest: Duration, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < longest, "{what}: not within {longest:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn invariant_08_a_slow_stage_slows_the_poll_and_does_not_grow_the_heap() {
    let Some(broker) = Broker::start() else { return };
    let mut place = Place::new("hospital", &broker.bootstrap);
    place
        .set("AUSCULT__LIMITS__QUEUE_BYTES", &BOUND.to_string())
        .set("AUSCULT__LIMITS__RECORD_BYTES", &MIB.to_string());
    let port = place.serve();
    // It stands still for as long as it takes to fetch the whole backlog, were there no bound.
    let slow = [("AUSCULT_FAULTS", "normalize.polled=3:sleep 4000,normalize.made=9:sleep 4000")];
    let daemon = place.daemon_with("normalize,serve", &slow);
    wait_until_ready(port, Duration::from_secs(60));
    let before = peak_mib(daemon.id());
    let ward = place.run(&["simulate", "--patients", "2000", "--hours", "336", "--seed", "3"]).stdout;
    fs::write(place.path("ward.jsonl"), &ward).unwrap();
    let sent = place.json(&["feed", "--topic", "raw.flat", &place.path("ward.jsonl")])["sent"].as_f64().unwrap();
    let (mut most, mut is_behind) = (0, false);
    wait_for("all of the backlog normalized", Duration::from_secs(120), || {
        most = most.max(metric(port, "auscult_queue_bytes").unwrap_or(0.0) as u64);
        let (status, ready) = get(port, "/readyz?verbose").unwrap();
        assert_eq!(status, 200, "falling behind makes nobody unready: {ready}");
        let lag = |line: &&str| line.starts_with("auscult_consumer_lag{") && !line.ends_with(" 0");
        is_behind |= ready.lines().any(|line| lag(&line));
        metric(port, "auscult_raw_messages_total") == Some(sent)
    });
    let grown = (peak_mib(daemon.id()) - before) * MIB;
    let backlog = ward.len() as u64;
    println!("a backlog of {backlog} bytes: at most {most} waited, memory grew by {grown}");
    assert!(backlog > 12 * BOUND, "a backlog of {backlog} bytes proves nothing");
    assert!(is_behind, "nobody said how far behind it was");
    assert!(most > BOUND / 4 && most <= BOUND, "{most} bytes waited");
    assert!(grown < backlog / 2, "memory grew by {grown} bytes for a backlog of {backlog}");
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn invariant_09_nobody_waits_for_a_silent_broker_for_ever() {
    let Some(broker) = Broker::start() else { return };
    let signal = |signal: &str| Command::new("kill").args([signal, &broker.pid().to_string()]).status().unwrap();
    let mut place = Place::new("hospital", &broker.bootstrap);
    place.set("AUSCULT__KAFKA__DEADLINE", "2s").set("AUSCULT__SHUTDOWN__DEADLINE", "10s");
    let port = place.serve();
    let daemon = place.daemon("normalize,score,archive,train,serve");
    wait_until_ready(port, Duration::from_secs(60));
    signal("-STOP");
    // Each role asks how far it is behind, and waits no longer than it may.
    for role in ["normalize", "score", "archive"] {
        let line = |log: &str| log.lines().any(|line| line.contains("a role starts again") && line.contains(role));
        wait_for(role, Duration::from_secs(30), || line(&daemon.log()));
        assert_eq!(get(port, "/livez").unwrap().0, 200, "waiting is no reason to be killed");
    }
    assert_eq!(get(port, "/readyz").unwrap().0, 503);
    signal("-CONT");
    wait_until_ready(port, Duration::from_secs(60));
    let record = r#"{"patient":"1","time":"2026-01-01T00:00:00Z","code":"8867-4","system":"http://loinc.org","value":73,"unit":"/min"}"#;
    fs::write(place.path("one.jsonl"), record).unwrap();
    place.json(&["feed", "--topic", "raw.flat", &place.path("one.jsonl")]);
    read_until(&broker.bootstrap, "auscult.events", Duration::from_secs(30), |events| !events.is_empty());
    // A drain does not wait for it for ever either.
    signal("-STOP");
    let started = Instant::now();
    daemon.signal("TERM");
    let mut daemon = daemon;
    assert!(daemon.ends_within(Duration::from_secs(15)), "still there {:?} after SIGTERM", started.elapsed());
    signal("-CONT");
}

/// Waits that end by another's: (file, what is called, how often, what bounds it).
const ENDED_BY_OTHERS: [(&str, &str, usize, &str); 10] = [
    ("cli/run.rs", ".recv()", 2, "a signal is what it is there for"),
    ("cli/demo/mod.rs", ".join()", 3, "the waits of the thread"),
    ("kafka/source.rs", ".join()", 1, "the thread looks at the stop between polls"),
    ("kafka/publisher.rs", ".join()", 1, "each step of a transaction has its deadline"),
    ("learn/features.rs", ".recv()", 1, "the replay that sends ends with the history, and its sender with it"),
    ("learn/tabular/shard.rs", ".recv()", 1, "who sends is gone when the data end"),
    ("learn/tabular/shard.rs", ".join()", 1, "a worker ends when nothing more is sent"),
    ("roles/runtime.rs", ".join()", 1, "a role ends by the stop, the process by shutdown.deadline"),
    ("roles/recover.rs", ".join()", 1, "the thread reads files; health watches the role"),
    ("telemetry/stop.rs", ".wait_for(", 1, "the stop is what it waits for"),
];

#[test]
fn invariant_09_every_wait_of_a_thread_has_a_deadline() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let endless = [".recv()", ".join()", ".wait()", ".wait_for(", "park()", ".blocking_recv()"];
    let mut found = Vec::new();
    for file in rust_files(&src) {
        let name = file.strip_prefix(&src).unwrap().display().to_string();
        if name.contains("tests") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for call in endless {
            let times = code.matches(call).count();
            if times > 0 {
                found.push((name.clone(), call, times));
            }
        }
    }
    found.sort();
    let mut known: Vec<_> = ENDED_BY_OTHERS.map(|(file, call, times, _)| (file.to_owned(), call, times)).into();
    known.sort();
    assert_eq!(found, known, "a wait without a deadline: give it one, or say here what ends it");
}
