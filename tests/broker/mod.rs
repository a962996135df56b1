//! A real Apache Kafka 4 (KRaft, one node) for tests and benchmarks, from its jars.
//!
//! Maven fetches the jars once (see pom.xml); the broker listens on free loopback ports,
//! keeps its data in a temporary folder and is stopped by its own process id. Without
//! Java or Maven the tests that need it are skipped with a line that says so; with
//! `AUSCULT_REQUIRE_KAFKA=1` that is a failure.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

/// One broker at a time: several JVMs beside several daemons would only measure each other.
static ONE: Mutex<()> = Mutex::new(());

/// A running broker; dropped, it is stopped and its data removed.
pub struct Broker {
    process: Child,
    pub bootstrap: String,
    classpath: String,
    data: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Broker {
    /// Starts a broker, or says why there is none.
    pub fn start() -> Option<Broker> {
        match try_start() {
            Ok(broker) => Some(broker),
            Err(why) if std::env::var("AUSCULT_REQUIRE_KAFKA").is_ok_and(|v| v == "1") => {
                panic!("AUSCULT_REQUIRE_KAFKA=1, but no Kafka could be started: {why}")
            }
            Err(why) => {
                eprintln!("SKIPPED, no Kafka could be started: {why}");
                None
            }
        }
    }

    /// Kills the broker and starts it again on the same data and ports.
    #[allow(dead_code, reason = "the benchmark does not break it")]
    pub fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = launch(&self.classpath, &self.data.path().join("server.properties")).expect("the broker again");
    }

    /// Process id, for CPU figures.
    #[allow(dead_code, reason = "the benchmark asks, the tests do not")]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn try_start() -> Result<Broker, String> {
    // A test that failed before has dropped its broker all the same.
    let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let classpath = format!("{}/*", jars()?.display());
    let data = TempDir::new().map_err(|e| e.to_string())?;
    let (port, controller) = (free_port()?, free_port()?);
    let properties = data.path().join("server.properties");
    let logs = data.path().join("data");
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\n\
             auto.create.topics.enable=false\n",
            logs.display()
        ),
    )
    .map_err(|e| e.to_string())?;
    let uuid = output(java(&classpath).args(["kafka.tools.StorageTool", "random-uuid"]))?;
    let id = uuid.lines().last().unwrap_or_default().trim().to_owned();
    output(java(&classpath).args(["kafka.tools.StorageTool", "format", "-t", &id, "-c"]).arg(&properties))?;
    let process = launch(&classpath, &properties)?;
    Ok(Broker { process, bootstrap: format!("127.0.0.1:{port}"), classpath, data, _turn: turn })
}

fn launch(classpath: &str, properties: &Path) -> Result<Child, String> {
    let mut process = java(classpath)
        .args(["-Xmx768m", "kafka.Kafka"])
        .arg(properties)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("java: {e}"))?;
    wait_until_started(&mut process)?;
    Ok(process)
}

/// Reads the broker's output until it has started, and on for ever so that it never blocks.
fn wait_until_started(process: &mut Child) -> Result<(), String> {
    let (sender, lines) = channel();
    let streams: [Option<Box<dyn std::io::Read + Send>>; 2] =
        [process.stdout.take().map(|s| Box::new(s) as _), process.stderr.take().map(|s| Box::new(s) as _)];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    drop(sender);
    let mut last = String::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) if line.contains("Kafka Server started") => break,
            Ok(line) => last = line,
            Err(_) => {
                let _ = process.kill();
                return Err(format!("the broker did not start within 60 s; its last line: {last}"));
            }
        }
    }
    std::thread::spawn(move || lines.iter().for_each(drop));
    Ok(())
}

fn jars() -> Result<PathBuf, String> {
    let cache = std::env::var_os("AUSCULT_BROKER_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(std::env::temp_dir);
        home.join(".cache/auscult-broker")
    });
    let lib = cache.join("lib");
    let kafka = |lib: &Path| {
        fs::read_dir(lib).is_ok_and(|files| {
            files.filter_map(Result::ok).any(|f| f.file_name().to_string_lossy().starts_with("kafka_2.13-"))
        })
    };
    if !kafka(&lib) {
        let pom = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/pom.xml");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime"]);
        output(maven.arg(format!("-DoutputDirectory={}", lib.display())))?;
    }
    if kafka(&lib) { Ok(lib) } else { Err(format!("no Kafka jars in {}", lib.display())) }
}

fn java(classpath: &str) -> Command {
    let mut java = Command::new("java");
    java.args(["-cp", classpath, "-Dorg.slf4j.simpleLogger.logFile=System.out"]);
    java
}

fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.port())
}
