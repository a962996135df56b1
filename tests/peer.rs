//! What a site's operator and a subscriber do: run the binary, feed it, read its topics.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use tempfile::TempDir;

/// A site with library and registry of its own, against one broker.
pub struct Place {
    pub dir: TempDir,
    pub site: PathBuf,
    env: BTreeMap<String, String>,
}

impl Place {
    /// A place for the site of that name in `config/`.
    pub fn new(site: &str, bootstrap: &str) -> Place {
        Place::of(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(site), bootstrap)
    }

    /// A place for the site in that folder.
    pub fn of(site: PathBuf, bootstrap: &str) -> Place {
        let dir = TempDir::new().unwrap();
        let url = |name: &str| format!("file://{}/{name}", dir.path().display());
        let env = [
            ("AUSCULT__KAFKA__BROKERS", bootstrap.to_owned()),
            ("AUSCULT__LIBRARY__URL", url("library")),
            ("AUSCULT__REGISTRY__URL", url("registry")),
            ("AUSCULT__IDENTITY__KEY", "a secret for tests only".to_owned()),
            ("AUSCULT__SERVE__LISTEN", "127.0.0.1:0".to_owned()),
        ];
        Place { site, env: env.map(|(k, v)| (k.to_owned(), v)).into(), dir }
    }

    /// Sets one setting by its environment name.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Place {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Lets the daemon listen on a free port, and says which.
    pub fn serve(&mut self) -> u16 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.set("AUSCULT__SERVE__LISTEN", &format!("127.0.0.1:{port}"));
        port
    }

    /// The command with this place's settings.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
        command.args(args).envs(&self.env).env("AUSCULT_CONFIG", &self.site).current_dir(self.dir.path());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command to its end and reads its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// Runs a command to its end and gives what it prints.
    pub fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command to its end and reads its JSON, an object a line.
    pub fn lines(&self, args: &[&str]) -> Vec<Value> {
        self.text(args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts the daemon with these roles.
    pub fn daemon(&self, roles: &str) -> Daemon {
        self.daemon_with(roles, &[])
    }

    /// The same in an environment that says more.
    pub fn daemon_with(&self, roles: &str, env: &[(&str, &str)]) -> Daemon {
        let log = self.dir.path().join(format!("{}.log", roles.replace(',', "-")));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = self
            .command(&["run", "--roles", roles])
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Daemon { child, log }
    }

    /// A path in this place's folder, as a URL.
    pub fn path_url(&self, name: &str) -> url::Url {
        url::Url::from_directory_path(self.dir.path().join(name)).unwrap()
    }

    /// Writes a file into this place's folder; gives its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Records of a simulated ward, and after some of them the same cut off.
    pub fn broken_ward(&self, patients: u32, hours: u32) -> Vec<u8> {
        let (patients, hours) = (patients.to_string(), hours.to_string());
        let ward = self.run(&["simulate", "--patients", &patients, "--hours", &hours, "--seed", "2"]);
        let mut feed = Vec::new();
        for (i, line) in ward.stdout.split_inclusive(|byte| *byte == b'\n').enumerate() {
            feed.extend(line);
            if i % 150 == 0 {
                feed.extend([&line[..line.len() / 2], b"\n"].concat());
            }
        }
        feed
    }

    /// A path in this place's folder, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// SIGTERM, and the exit code after the drain.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the daemon did not end within 60 s of SIGTERM:\n{}", self.log());
    }

    /// Sends a signal, such as STOP.
    pub fn signal(&self, signal: &str) {
        Command::new("kill").args([&format!("-{signal}"), &self.id().to_string()]).status().unwrap();
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it ends within `long`.
    pub fn ends_within(&mut self, long: Duration) -> bool {
        let started = Instant::now();
        while self.is_alive() {
            if started.elapsed() > long {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The exit code, once it has ended.
    pub fn code(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().and_then(|status| status.code())
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// What a daemon's HTTP side answers: status and body.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

/// Waits until the daemon at `port` says that it is ready.
pub fn wait_until_ready(port: u16, longest: Duration) {
    let started = Instant::now();
    while get(port, "/readyz").is_none_or(|(status, _)| status != 200) {
        assert!(started.elapsed() < longest, "not ready after {longest:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sum of the series of a metric, as the daemon at `port` shows them.
pub fn metric(port: u16, name: &str) -> Option<f64> {
    let (_, text) = get(port, "/metrics")?;
    let series = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    Some(series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

/// A message as a subscriber sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Read {
    pub partition: i32,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Read {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap()
    }
}

/// Asks again for a while: a topic that is just being made is not yet known everywhere.
fn patiently<T>(ask: impl Fn() -> Result<T, KafkaError>, good: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) if good(&answer) => return answer,
            other => assert!(started.elapsed() < Duration::from_secs(30), "kafka: {:?}", other.err()),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Everything committed in a topic, partition by partition.
pub fn read_topic(bootstrap: &str, topic: &str) -> Vec<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let metadata = patiently(
        || consumer.fetch_metadata(Some(topic), Duration::from_secs(10)),
        |m| m.topics().first().is_some_and(|t| t.error().is_none() && !t.partitions().is_empty()),
    );
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    // Where others keep writing the end-of-partition event may never come; then the end seen here counts.
    let mut ends = vec![0; partitions];
    for (p, end) in ends.iter_mut().enumerate() {
        *end = patiently(|| consumer.fetch_watermarks(topic, p as i32, Duration::from_secs(10)), |_| true).1;
        list.add_partition_offset(topic, p as i32, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut messages, mut ended, started) = (Vec::new(), vec![false; partitions], Instant::now());
    let mut last = None;
    while ended.contains(&false) {
        // A transaction of a process that was killed and never comes back ends when the broker has had
        // enough of it, after a minute; until then nothing behind it can be read.
        assert!(started.elapsed() < Duration::from_secs(180), "reading {topic} took over 180 s, last error: {last:?}");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(m)) => {
                let p = m.partition() as usize;
                ended[p] |= m.offset() + 1 >= ends[p];
                messages.push(Read {
                    partition: m.partition(),
                    key: m.key().unwrap_or(&[]).to_vec(),
                    value: m.payload().unwrap_or(&[]).to_vec(),
                    headers: m
                        .headers()
                        .map(|all| {
                            all.iter()
                                .map(|h| {
                                    (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or(&[])).into_owned())
                                })
                                .collect()
                        })
                        .unwrap_or_default(),
                });
            }
            Some(Err(KafkaError::PartitionEOF(p))) => ended[p as usize] = true,
            // A broker that is away for a while; the client goes on by itself.
            Some(Err(error)) => last = Some(error),
            None => {}
        }
    }
    messages
}

/// Reads a topic until `enough` says so, or panics after `deadline`.
pub fn read_until(bootstrap: &str, topic: &str, deadline: Duration, enough: impl Fn(&[Read]) -> bool) -> Vec<Read> {
    let started = Instant::now();
    loop {
        let messages = read_topic(bootstrap, topic);
        if enough(&messages) {
            return messages;
        }
        assert!(started.elapsed() < deadline, "{topic} holds only {} messages after {deadline:?}", messages.len());
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Reads a topic until it has not grown for `quiet`.
pub fn read_settled(bootstrap: &str, topic: &str, quiet: Duration, deadline: Duration) -> Vec<Read> {
    let (started, mut since, mut last) = (Instant::now(), Instant::now(), usize::MAX);
    loop {
        let messages = read_topic(bootstrap, topic);
        if messages.len() != last {
            (last, since) = (messages.len(), Instant::now());
        } else if since.elapsed() >= quiet {
            return messages;
        }
        assert!(started.elapsed() < deadline, "{topic} still grows after {deadline:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// A file of the data folder beside the checkout; says so when it is absent.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED, {} is not beside this checkout", Path::new("shared").join(name).display());
    None
}
