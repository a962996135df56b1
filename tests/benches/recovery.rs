//! How long a killed `score` takes to be live again: `cargo bench --bench recovery`.
//!
//! A simulated hospital, 10 million archived events, some 10,000 patients in its beds and as many again
//! discharged. `score` is killed and started again; measured are the seconds from the start of the
//! process until it is ready, and until the score of a record that was fed meanwhile can be read.
//! Prints a JSON line a run. `RECOVERY_PATIENTS` and `RECOVERY_RUNS` change the sizes.
//!
//! What bounds it: two cores that read, decompress and fold.
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed expectation is what a test is for"
)]

#[path = "../broker/mod.rs"]
mod broker;
#[path = "../peer.rs"]
mod peer;
mod process;

use std::process::Stdio;
use std::time::{Duration, Instant};

use broker::Broker;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use peer::{Place, metric, wait_until_ready};
use process::{cpu, peak_mib, round};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;

/// A patient stays five days or so: as many beds are taken as patients come in 120 hours.
const HOURS: i64 = 214;
const PATIENTS: u64 = 17_800;

fn main() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let patients = number("RECOVERY_PATIENTS", PATIENTS);
    let Some(broker) = Broker::start() else { return };
    let mut place = Place::new("hospital", &broker.bootstrap);
    place.set("AUSCULT__TIME__CLOCK", "log").set("AUSCULT__TIME__TICK", "5min").set("AUSCULT__TIME__IDLE", "2s");
    let file = std::fs::File::create(place.path("ward.jsonl")).unwrap();
    let (count, hours) = (patients.to_string(), HOURS.to_string());
    let arguments = ["simulate", "--patients", &count, "--hours", &hours, "--seed", "7"];
    assert!(place.command(&arguments).stdout(file).status().unwrap().success());
    let writing = place.serve();
    let rest = place.daemon("normalize,archive,serve");
    let scoring = place.serve();
    let mut score = place.daemon("score,serve");
    wait_until_ready(scoring, Duration::from_secs(300));
    let fed = place.json(&["feed", "--topic", "raw.flat", &place.path("ward.jsonl")]);
    eprintln!("{fed}");
    let events = drained(writing, scoring, fed["sent"].as_f64().unwrap());
    let subjects = ["auscult_state_subjects", "auscult_state_resting_subjects"].map(|name| metric(scoring, name));
    for run in 0..number("RECOVERY_RUNS", 3) {
        let scores = at_end(&broker.bootstrap, "auscult.scores");
        score.kill();
        std::fs::write(place.path("probe.jsonl"), probe(run)).unwrap();
        let started = Instant::now();
        score = place.daemon("score,serve");
        let mut feed = place.command(&["feed", "--topic", "raw.flat", &place.path("probe.jsonl")]);
        let mut feed = feed.stdout(Stdio::null()).spawn().unwrap();
        wait_until_ready(scoring, Duration::from_secs(300));
        let to_ready = started.elapsed().as_secs_f64();
        while !matches!(scores.poll(Duration::from_millis(20)), Some(Ok(_))) {
            assert!(started.elapsed() < Duration::from_secs(300), "no score after 300 s:\n{}", score.log());
        }
        let to_live = started.elapsed().as_secs_f64();
        assert!(feed.wait().unwrap().success());
        println!(
            "{}",
            json!({"kind": "recovery", "events": events, "subjects": subjects[0], "resting": subjects[1],
                "ready_s": round(to_ready), "live_s": round(to_live), "cpu_s": cpu(score.id()), "peak_rss_mib": peak_mib(score.id())})
        );
    }
    assert_eq!((score.terminate(), rest.terminate()), (Some(0), Some(0)));
}

/// Waits until all is normalized, scored and archived; returns the events.
fn drained(writing: u16, scoring: u16, sent: f64) -> f64 {
    let started = Instant::now();
    loop {
        std::thread::sleep(Duration::from_secs(6));
        let [read, events, archived] = ["raw_messages_total", "events_total", "archive_lag"]
            .map(|name| metric(writing, &format!("auscult_{name}")).unwrap());
        let lag = metric(scoring, "auscult_consumer_lag").unwrap();
        eprintln!("{read} read, {events} events; behind: score {lag}, archive {archived} messages");
        // What is left are markers of transactions.
        if read >= sent && lag < 50.0 && archived < 50.0 {
            return events;
        }
        assert!(started.elapsed() < Duration::from_secs(900), "not drained after 900 s");
    }
}

/// A patient who has been in for more than four hours when something is told again: a score falls due.
fn probe(run: u64) -> String {
    let end: DateTime<Utc> = "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(HOURS);
    let line = |time: DateTime<Utc>, code: &str| {
        let time = time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let patient = format!("probe-{run}");
        let record = json!({"patient": patient, "time": time, "recorded": time, "code": code, "encounter": patient});
        format!("{record}\n")
    };
    line(end - TimeDelta::hours(5), "ENCOUNTER//IMP//START") + &line(end + TimeDelta::minutes(1), "PROBE")
}

/// A reader of what is committed to a topic from now on.
fn at_end(bootstrap: &str, topic: &str) -> BaseConsumer {
    let config = [("bootstrap.servers", bootstrap), ("group.id", "recovery"), ("isolation.level", "read_committed")];
    let consumer: BaseConsumer =
        ClientConfig::from_iter(config.map(|(a, b)| (a.to_owned(), b.to_owned()))).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), Duration::from_secs(10)).unwrap();
        list.add_partition_offset(topic, partition.id(), Offset::Offset(end)).unwrap();
    }
    consumer.assign(&list).unwrap();
    consumer
}
