//! A real Apache Kafka 4 (KRaft, one node or a cluster of three) for tests and benchmarks, from its jars.
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

/// A running broker, or a cluster of several; dropped, it is stopped and its data removed.
pub struct Broker {
    nodes: Vec<Node>,
    pub bootstrap: String,
    classpath: String,
    _data: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A process that is broker and controller.
struct Node {
    process: Child,
    properties: PathBuf,
    heap: &'static str,
}

#[allow(dead_code, reason = "the benchmark does not break it, the tests do not measure it")]
impl Broker {
    /// Starts a broker, or says why there is none.
    pub fn start() -> Option<Broker> {
        Broker::start_with(1, "")
    }

    /// Starts so many nodes with further lines in their properties, or says why there are none.
    pub fn start_with(nodes: usize, further: &str) -> Option<Broker> {
        match try_start(nodes, further) {
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

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Kills a node.
    pub fn kill(&mut self, node: usize) {
        let _ = self.nodes[node].process.kill();
        let _ = self.nodes[node].process.wait();
    }

    /// Starts a killed node again on the same data and ports, and waits until it serves.
    pub fn revive(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.process = launch(&self.classpath, &node.properties, node.heap).expect("a broker again");
        wait_until_started(&mut node.process).expect("a broker again");
    }

    /// Sends a node a signal, such as STOP.
    pub fn signal(&self, node: usize, signal: &str) {
        let pid = self.nodes[node].process.id().to_string();
        let _ = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
    }

    /// Process id of the first node, for CPU figures.
    pub fn pid(&self) -> u32 {
        self.nodes[0].process.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Any id will do: a cluster lives as long as a test.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qk";

fn try_start(count: usize, further: &str) -> Result<Broker, String> {
    // A test that failed before has dropped its broker all the same.
    let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let classpath = format!("{}/*", jars()?.display());
    let data = TempDir::new().map_err(|e| e.to_string())?;
    let ports = (0..count).map(|_| Ok((free_port()?, free_port()?))).collect::<Result<Vec<_>, String>>()?;
    let voters: Vec<String> = (1..).zip(&ports).map(|(id, (_, port))| format!("{id}@127.0.0.1:{port}")).collect();
    // Of three replicas two must have a record before it counts.
    let (replicas, in_sync) = if count > 1 { (3.min(count), 2) } else { (1, 1) };
    let heap = if count > 1 { "-Xmx384m" } else { "-Xmx768m" };
    let mut nodes = Vec::new();
    for (id, (port, controller)) in (1..).zip(&ports) {
        let properties = data.path().join(format!("server-{id}.properties"));
        let logs = data.path().join(format!("data-{id}"));
        let text = format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\noffsets.topic.replication.factor={replicas}\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor={replicas}\ntransaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=4\nmin.insync.replicas={in_sync}\n\
             group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n{further}\n",
            voters.join(","),
            logs.display()
        );
        fs::write(&properties, text).map_err(|e| e.to_string())?;
        output(java(&classpath).args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]).arg(&properties))?;
        // All are launched before any is waited for: they elect each other.
        nodes.push(Node { process: launch(&classpath, &properties, heap)?, properties, heap });
    }
    let bootstrap = ports.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let mut broker = Broker { nodes, bootstrap, classpath, _data: data, _turn: turn };
    for node in &mut broker.nodes {
        wait_until_started(&mut node.process)?;
    }
    Ok(broker)
}

fn launch(classpath: &str, properties: &Path, heap: &str) -> Result<Child, String> {
    java(classpath)
        .args([heap, "kafka.Kafka"])
        .arg(properties)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("java: {e}"))
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
