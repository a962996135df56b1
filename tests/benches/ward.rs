//! The ward job on a real Kafka: `cargo bench --bench ward [-- drain|paced|cost|rolling]`.
//!
//! PhysioNet 2012 set-a as flat JSON on four partitions, through both hops (raw to events,
//! events to scores), exactly once, with an imported XGBoost model of 300 trees on 188
//! features, a score a stay and hour. Prints a JSON line a run: drain rate, CPU seconds,
//! peak memory; then, paced, latency from the produce call of the triggering event to the
//! read_committed read of its score. The scores of 20 patients are checked against an
//! independent reference. `WARD_RUNS`, `WARD_SECONDS` and `WARD_RATE` change the sizes.
//!
//! `cost` runs both by turns exactly once and at least once, without transactions, and prints what one costs more. `rolling` runs paced
//! with four daemons that share the partitions and are stopped and started again one after another.
//!
//! What bounds the drain: two cores shared by broker, daemon and this reader.
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed expectation is what a test is for"
)]

#[path = "../broker/mod.rs"]
mod broker;
#[path = "../own_topics.rs"]
mod own_topics;
mod process;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auscult::events::Pseudonyms;
use auscult::kafka::Feeder;
use auscult::learn::Registry;
use auscult::models::Bundle;
use auscult::roles::Site;
use auscult::settings::SiteFiles;
use broker::Broker;
use own_topics::own_topics;
use process::{cpu, peak_mib, round};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::Deserialize;
use serde_json::json;

const KEY: &str = "the secret of the ward benchmark";
const PARTITIONS: i32 = 4;
/// Where the daemon's metrics are read from at the end of a run.
const METRICS: u16 = 19464;

/// One line of the job's input, and the hours that it makes due.
struct Line {
    bytes: Vec<u8>,
    patient: usize,
    hours: std::ops::Range<u32>,
}

struct Job {
    lines: Vec<Line>,
    patients: Vec<String>,
    /// By (patient, hour).
    expected: HashMap<(usize, u32), f64>,
    starts: Vec<i64>,
}

fn main() {
    let wants = |word: &str| {
        let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
        words.is_empty() || words.iter().any(|w| w == word)
    };
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let Some(job) = job() else {
        eprintln!("SKIPPED, the ward job needs shared/ beside the checkout and python3");
        return;
    };
    let Some(broker) = Broker::start() else { return };
    let triggers: usize = job.lines.iter().map(|l| l.hours.clone().count()).sum();
    eprintln!("{} events, {} stays, {triggers} scores", job.lines.len(), job.patients.len());
    if wants("drain") || wants("cost") {
        let raw = Run::new(&broker, "drain-load", "raw.ward");
        raw.ensure();
        let feeder = Feeder::open(&raw.site().settings).expect("feeder");
        for line in &job.lines {
            feeder.send("raw.ward", Some(job.patients[line.patient].as_bytes()), &line.bytes, None).expect("load");
        }
        feeder.flush(Duration::from_secs(60)).expect("load");
    }
    if wants("drain") {
        for run in 0..number("WARD_RUNS", 3) {
            drain(&broker, &job, triggers, &Run::new(&broker, &format!("drain-{run}"), "raw.ward"));
        }
    }
    let pace = |name: &str, loose: bool, instances: u64| {
        let raw = format!("raw.{name}");
        let mut run = Run::new(&broker, name, &raw);
        run.set_loose(loose);
        let pace = Pace { rate: number("WARD_RATE", 2000), seconds: number("WARD_SECONDS", 60), instances };
        paced(&broker, &job, &run, &raw, pace)
    };
    if wants("paced") {
        (0..number("WARD_PACED_RUNS", 3)).for_each(|run| _ = pace(&format!("paced-{run}"), false, 1));
    }
    if wants("cost") {
        // A broker compiles itself in its first minutes, and a drain has few transactions for it to compile: so the
        // paced runs come first, and the first pair of each kind is not counted. Who comes second finds a warmer
        // broker all the same, so they take turns in that too.
        let turns = |run: u64| if run.is_multiple_of(2) { [false, true] } else { [true, false] };
        let mut medians = [Vec::new(), Vec::new()];
        for run in 0..=number("WARD_PACED_RUNS", 3) {
            for loose in turns(run) {
                medians[usize::from(loose)].push(pace(&format!("cost-paced-{run}-{loose}"), loose, 1));
            }
        }
        let mut drains = [Vec::new(), Vec::new()];
        for run in 0..=number("WARD_RUNS", 3) {
            for loose in turns(run) {
                let mut job_run = Run::new(&broker, &format!("cost-drain-{run}-{loose}"), "raw.ward");
                job_run.set_loose(loose);
                drains[usize::from(loose)].push(drain(&broker, &job, triggers, &job_run));
            }
        }
        let pairs = |of: &[Vec<f64>; 2], figure: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            of[0].iter().zip(&of[1]).skip(1).map(|(exactly, at_least)| round(figure(*exactly, *at_least))).collect()
        };
        let more_time = pairs(&drains, &|exactly, at_least| 100.0 * (exactly / at_least - 1.0));
        let more_ms = pairs(&medians, &|exactly, at_least| exactly - at_least);
        println!(
            "{}",
            json!({"kind": "cost", "what": "exactly once instead of at least once, by pairs",
                "drain_more_time_percent": {"pairs": more_time, "median": median(&more_time)},
                "paced_p50_more_ms": {"pairs": more_ms, "median": median(&more_ms)}})
        );
    }
    if wants("rolling") {
        (0..number("WARD_PACED_RUNS", 3)).for_each(|run| _ = pace(&format!("rolling-{run}"), false, 4));
    }
}

/// Reads the job's input through the converter, and what it must give.
fn job() -> Option<Job> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let data = shared.join("data/physionet2012");
    if !data.exists() {
        return None;
    }
    let mut child = Command::new("python3")
        .arg(shared.join("tools/p12_events.py"))
        .arg(data.join("physionet2012_set-a_long.csv.gz"))
        .arg(data.join("Outcomes-a.txt"))
        .arg("--no-outcome")
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    #[derive(Deserialize)]
    struct Event<'a> {
        patient: &'a str,
        recorded: &'a str,
        code: &'a str,
    }
    let (mut ids, mut patients, mut starts, mut next) = (HashMap::new(), Vec::new(), Vec::new(), Vec::new());
    let mut lines = Vec::with_capacity(1_800_000);
    for line in BufReader::new(child.stdout.take()?).split(b'\n') {
        let bytes = line.ok()?;
        let event: Event<'_> = serde_json::from_slice(&bytes).ok()?;
        let patient = *ids.entry(event.patient.to_owned()).or_insert_with(|| {
            patients.push(event.patient.to_owned());
            starts.push(i64::MIN);
            next.push(1u32);
            patients.len() - 1
        });
        let recorded = chrono::DateTime::parse_from_rfc3339(event.recorded).ok()?.timestamp();
        let hours = if starts[patient] == i64::MIN {
            0..0
        } else {
            let hour = u32::try_from((recorded - starts[patient]) / 3600).ok()?.min(48);
            let due = next[patient]..hour + 1;
            next[patient] = next[patient].max(hour + 1);
            due
        };
        if event.code == "ENCOUNTER//ICU//START" {
            starts[patient] = recorded;
        }
        lines.push(Line { bytes, patient, hours });
    }
    child.wait().ok()?;
    let mut expected = HashMap::new();
    for row in fs::read_to_string(shared.join("peers/expected_20.csv")).ok()?.lines().skip(1) {
        let mut cells = row.split(',');
        let (patient, hour, score) = (cells.next()?, cells.next()?, cells.next()?);
        expected.insert((ids[patient], hour.parse().ok()?), score.parse().ok()?);
    }
    Some(Job { lines, patients, expected, starts })
}

/// A site of its own for one run: own topics, own groups, own registry with the model in it.
struct Run {
    dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
    scores: String,
}

impl Run {
    fn new(broker: &Broker, name: &str, raw: &str) -> Run {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let site = dir.path().join("site");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/benches/ward"), &site);
        let toml = fs::read_to_string(site.join("auscult.toml")).expect("auscult.toml").replace("raw.ward", raw);
        fs::write(site.join("auscult.toml"), toml).expect("auscult.toml");
        let mut env: BTreeMap<String, String> = own_topics(name).collect();
        let mut set = |key: &str, value: String| env.insert(format!("AUSCULT__{key}"), value);
        set("KAFKA__GROUP", name.to_owned());
        set("SERVE__LISTEN", format!("127.0.0.1:{METRICS}"));
        set("KAFKA__BROKERS", broker.bootstrap.clone());
        set("LIBRARY__URL", format!("file://{}/library", dir.path().display()));
        set("REGISTRY__URL", format!("file://{}/registry", dir.path().display()));
        set("IDENTITY__KEY", KEY.to_owned());
        let run = Run { dir, env, scores: format!("{name}.scores") };
        run.register();
        run
    }

    /// Lets the daemon publish without transactions.
    fn set_loose(&mut self, loose: bool) {
        self.env.insert("AUSCULT_AT_LEAST_ONCE".to_owned(), u8::from(loose).to_string());
    }

    fn delivery(&self) -> &'static str {
        let is_loose = self.env.get("AUSCULT_AT_LEAST_ONCE").is_some_and(|value| value == "1");
        if is_loose { "at least once" } else { "exactly once" }
    }

    fn site(&self) -> Site {
        let files = SiteFiles::find(Some(&self.dir.path().join("site")), None).expect("the ward site");
        Site::parse(&files, self.env.clone().into_iter()).expect("the ward site")
    }

    fn ensure(&self) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(auscult::kafka::ensure(&self.site().settings)).expect("topics");
    }

    /// Registers the job's model as the champion.
    fn register(&self) {
        let site = self.site();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/peers/model.json");
        let spec = &site.features;
        let bytes = fs::read(model).expect("model.json");
        let mut bundle =
            Bundle::import_xgboost(&bytes, "ward", spec.names().to_vec(), spec.hash(), 1.0, 0).expect("model.json");
        let registry = Registry::open(&site.settings.registry).expect("registry");
        let none = json!({});
        let model = registry.register("ward", &mut bundle, &none, "imported", 0).expect("register");
        registry.promote(&model, None, &none, "imported", 0).expect("promote");
    }

    /// The daemon of that instance; the first one serves its metrics.
    fn daemon(&self, log: &str, instance: u64) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join(log));
        Command::new(env!("CARGO_BIN_EXE_auscult"))
            .args(["run", "--roles", if instance == 0 { "normalize,score,serve" } else { "normalize,score" }])
            .env("AUSCULT_CONFIG", self.dir.path().join("site"))
            .envs(&self.env)
            .env("AUSCULT__INSTANCE", instance.to_string())
            .stderr(log.expect("log"))
            .stdout(Stdio::null())
            .spawn()
            .expect("the daemon")
    }
}

fn copy(from: &Path, to: &PathBuf) {
    fs::create_dir_all(to).expect("site");
    for entry in fs::read_dir(from).expect("site").filter_map(Result::ok) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(path, target).expect("site");
        }
    }
}

/// What a subscriber makes of one score.
#[derive(Deserialize)]
struct Score<'a> {
    subject: &'a str,
    prediction_time: &'a str,
    risk: f64,
}

/// Scores read so far, by (patient, hour), and what was wrong with them.
#[derive(Default)]
struct Seen {
    at: HashMap<(usize, u32), Instant>,
    duplicates: u64,
    wrong: u64,
    checked: u64,
    worst: f64,
}

impl Seen {
    fn take(&mut self, job: &Job, subjects: &HashMap<i64, usize>, payload: &[u8], now: Instant) {
        let score: Score<'_> = serde_json::from_slice(payload).expect("a score");
        let patient = subjects[&score.subject.parse::<i64>().expect("a pseudonym")];
        let at = chrono::DateTime::parse_from_rfc3339(score.prediction_time).expect("a time").timestamp();
        let hour = ((at - job.starts[patient]) / 3600) as u32;
        if self.at.insert((patient, hour), now).is_some() {
            self.duplicates += 1;
        }
        if let Some(expected) = job.expected.get(&(patient, hour)) {
            let off = (expected - score.risk).abs();
            self.checked += 1;
            self.worst = self.worst.max(off);
            self.wrong += u64::from(off > 1e-4);
        }
    }
}

fn subjects(job: &Job) -> HashMap<i64, usize> {
    let key = Pseudonyms::new(KEY.as_bytes()).expect("key");
    job.patients.iter().enumerate().map(|(i, p)| (key.subject("ward", p).0, i)).collect()
}

fn reader(broker: &Broker, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &broker.bootstrap)
        .set("group.id", "ward-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "5")
        .create()
        .expect("reader");
    let mut list = TopicPartitionList::new();
    for p in 0..PARTITIONS {
        list.add_partition_offset(topic, p, Offset::Beginning).expect("partition");
    }
    consumer.assign(&list).expect("assign");
    consumer
}

/// The middle one; of an even number, the lower of the two.
fn median(of: &[f64]) -> Option<f64> {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// Reads all there is; gives the seconds from the start of the daemon to the last score.
fn drain(broker: &Broker, job: &Job, triggers: usize, run: &Run) -> f64 {
    run.ensure();
    let (subjects, consumer) = (subjects(job), reader(broker, &run.scores));
    consumer.poll(Duration::from_millis(100));
    let (broker_before, reader_before) = (cpu(broker.pid()), cpu(std::process::id()));
    let started = Instant::now();
    let mut daemon = run.daemon("drain.log", 0);
    let (mut seen, mut first, mut last) = (Seen::default(), None, started);
    while seen.at.len() < triggers && started.elapsed() < Duration::from_secs(300) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            last = Instant::now();
            first.get_or_insert(last);
            seen.take(job, &subjects, message.payload().unwrap_or(&[]), last);
        }
        if let Ok(Some(status)) = daemon.try_wait() {
            panic!(
                "the daemon ended with {status}: {}",
                fs::read_to_string(run.dir.path().join("drain.log")).unwrap_or_default()
            );
        }
    }
    let (seconds, used, memory) = (last.duration_since(started).as_secs_f64(), cpu(daemon.id()), peak_mib(daemon.id()));
    let (broker_used, reader_used) = (cpu(broker.pid()) - broker_before, cpu(std::process::id()) - reader_before);
    let stages = stages();
    let settled = Instant::now();
    while settled.elapsed() < Duration::from_secs(1) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            seen.take(job, &subjects, message.payload().unwrap_or(&[]), last);
        }
    }
    end(&mut daemon);
    println!(
        "{}",
        json!({"kind": "drain", "delivery": run.delivery(), "events": job.lines.len(), "scores": seen.at.len(), "expected": triggers,
            "duplicates": seen.duplicates, "checked": seen.checked, "over_1e4": seen.wrong, "max_diff": seen.worst,
            "seconds": round(seconds), "events_per_s": (job.lines.len() as f64 / seconds).round(),
            "first_score_s": round(first.unwrap_or(last).duration_since(started).as_secs_f64()),
            "cpu_s": round(used), "broker_cpu_s": round(broker_used), "reader_cpu_s": round(reader_used),
            "peak_rss_mib": memory, "stages": stages})
    );
    seconds
}

/// How fast records come, and how many daemons share them.
#[derive(Copy, Clone)]
struct Pace {
    rate: u64,
    seconds: u64,
    instances: u64,
}

/// Stops and starts one daemon after another, evenly over the run; returns how long each was away.
fn roll(run: &Run, daemons: &Mutex<Vec<Child>>, pace: Pace) -> Vec<f64> {
    let mut away = Vec::new();
    for instance in 0..pace.instances {
        std::thread::sleep(Duration::from_secs(pace.seconds) / (pace.instances as u32 + 1));
        let stopped = Instant::now();
        let mut daemons = daemons.lock().expect("daemons");
        end(&mut daemons[instance as usize]);
        daemons[instance as usize] = run.daemon("paced.log", instance);
        away.push(round(stopped.elapsed().as_secs_f64()));
    }
    away
}

/// Scores what comes at a pace; gives the median latency in milliseconds.
fn paced(broker: &Broker, job: &Job, run: &Run, raw: &str, pace: Pace) -> f64 {
    let Pace { rate, seconds, instances } = pace;
    run.ensure();
    let daemons = Mutex::new((0..instances).map(|instance| run.daemon("paced.log", instance)).collect::<Vec<_>>());
    let (subjects, consumer) = (subjects(job), reader(broker, &run.scores));
    let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
    let total = ((rate * seconds) as usize).min(job.lines.len());
    let feeder = Feeder::open(&run.site().settings).expect("feeder");
    let mut sent = Vec::with_capacity(total);
    let mut wanted = HashMap::new();
    let median_ms = std::thread::scope(|scope| {
        let (reading, ending) = (Arc::clone(&seen), Arc::clone(&stop));
        let subjects = &subjects;
        scope.spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                    let now = Instant::now();
                    reading.lock().expect("seen").take(job, subjects, message.payload().unwrap_or(&[]), now);
                }
            }
        });
        // The daemon joins its groups while nothing is to be read.
        std::thread::sleep(Duration::from_secs(6));
        let used = || daemons.lock().expect("daemons").iter().map(|daemon| cpu(daemon.id())).sum::<f64>();
        let (before, broker_before) = (used(), cpu(broker.pid()));
        let rolling = (instances > 1).then(|| scope.spawn(|| roll(run, &daemons, pace)));
        let started = Instant::now();
        for (i, line) in job.lines[..total].iter().enumerate() {
            let due = Duration::from_secs_f64(i as f64 / rate as f64);
            while started.elapsed() < due {
                std::thread::sleep(Duration::from_micros(300));
            }
            sent.push(Instant::now());
            for hour in line.hours.clone() {
                wanted.insert((line.patient, hour), i);
            }
            feeder.send(raw, Some(job.patients[line.patient].as_bytes()), &line.bytes, None).expect("send");
        }
        feeder.flush(Duration::from_secs(30)).expect("flush");
        let waiting = Instant::now();
        while seen.lock().expect("seen").at.len() < wanted.len() && waiting.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let away = rolling.map(|thread| thread.join().expect("rolling"));
        let (used, stages) = (used() - before, stages());
        stop.store(true, Ordering::Relaxed);
        let seen = seen.lock().expect("seen");
        let mut latency: Vec<f64> = wanted
            .iter()
            .filter_map(|(key, line)| Some(seen.at.get(key)?.duration_since(sent[*line]).as_secs_f64() * 1e3))
            .collect();
        latency.sort_by(f64::total_cmp);
        let q = |p: f64| {
            latency.get(((latency.len() as f64 * p) as usize).min(latency.len().saturating_sub(1))).map(|v| round(*v))
        };
        println!(
            "{}",
            json!({"kind": "paced", "delivery": run.delivery(), "instances": instances, "stop_s": away, "rate": rate, "seconds": seconds, "scores": latency.len(), "expected": wanted.len(),
                "duplicates": seen.duplicates, "over_1e4": seen.wrong,
                "latency_ms": {"p50": q(0.5), "p90": q(0.9), "p99": q(0.99), "p999": q(0.999), "max": q(1.0)},
                "cpu_s": (instances == 1).then_some(round(used)), "broker_cpu_s": round(cpu(broker.pid()) - broker_before),
                "peak_rss_mib": peak_mib(daemons.lock().expect("daemons")[0].id()), "stages": stages})
        );
        q(0.5).unwrap_or(f64::NAN)
    });
    for mut daemon in daemons.into_inner().expect("daemons") {
        if let Ok(Some(status)) = daemon.try_wait() {
            let log = fs::read_to_string(run.dir.path().join("paced.log")).unwrap_or_default();
            panic!("the daemon ended with {status}: {log}");
        }
        end(&mut daemon);
    }
    median_ms
}

/// Seconds and number of each stage and transaction of the daemon, from its metrics.
fn stages() -> BTreeMap<String, f64> {
    let mut text = String::new();
    if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", METRICS)) {
        let _ = stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: ward\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    let wanted = |line: &&str| {
        ["auscult_stage_seconds_", "auscult_transaction_", "auscult_source_wait"]
            .iter()
            .any(|name| line.starts_with(name))
            && !line.contains("_bucket")
    };
    let read = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.trim_start_matches("auscult_").replace('"', ""), round(value.parse().ok()?)))
    };
    text.lines().filter(wanted).filter_map(read).collect()
}

fn end(daemon: &mut Child) {
    let _ = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status();
    let _ = daemon.wait();
}
