//! One run: processes under load, what is done to them at its time, and the wait until all is settled.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::bad::{Bad, Deed, ROLES, TRAIN, planned};
use super::scene::{Calm, Scene, TASK};
use super::seen::Difference;
use crate::peer::{Daemon, Place};

/// How long what is to be seen may differ after the last bad thing.
const PATIENCE: u64 = 120_000;
/// How long a process may take to end after a SIGTERM.
const LEAVE: Duration = Duration::from_secs(40);
/// What `telemetry::fault` logs.
const BROKEN: &str = "broken here, as a test planned";

/// What came of a run.
pub struct Outcome {
    /// Which of the bad things really happened.
    pub reached: Vec<bool>,
    pub wrong: Option<Wrong>,
}

/// Why a run is not what it should be.
pub enum Wrong {
    /// Subscriber and library see something else.
    Differs(Difference),
    /// A process does not do what it should.
    Stuck(String),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::Differs(difference) => difference.fmt(f),
            Wrong::Stuck(why) => f.write_str(why),
        }
    }
}

/// A process of a role.
struct Process {
    role: &'static str,
    instance: u64,
    daemon: Daemon,
}

struct Run<'s> {
    scene: &'s mut Scene,
    name: &'s str,
    place: Place,
    bad: &'s [Bad],
    processes: Vec<Process>,
    /// What is still to be done, with its time and the index of the bad thing that it belongs to.
    deeds: Vec<(u64, usize, Deed)>,
    reached: Vec<bool>,
    started: Instant,
}

/// One run under bad things, compared with the calm one.
pub fn run(scene: &mut Scene, name: &str, bad: &[Bad], calm: &Calm) -> Outcome {
    let place = scene.place(name);
    let mut run = Run {
        scene,
        name,
        place,
        bad,
        processes: Vec::new(),
        deeds: Vec::new(),
        reached: vec![false; bad.len()],
        started: Instant::now(),
    };
    run.start();
    let wrong = run.live(calm).or_else(|| run.end(calm));
    run.count_faults();
    if wrong.is_some() {
        run.keep_logs();
    }
    Outcome { reached: run.reached, wrong }
}

impl Run<'_> {
    fn start(&mut self) {
        for role in ROLES {
            let processes = self.bad.iter().map(|bad| bad.processes(role)).max().unwrap_or(1);
            (0..processes).for_each(|instance| self.join(role, instance));
        }
        if self.bad.iter().any(Bad::trains) {
            self.join(TRAIN, 0);
        }
        for (which, bad) in self.bad.iter().enumerate() {
            self.deeds.extend(bad.deeds(which as u64).into_iter().map(|(at, deed)| (at, which, deed)));
        }
        // In the order of time; of one moment in the order in which they were drawn.
        self.deeds.sort_by_key(|(at, ..)| *at);
    }

    fn join(&mut self, role: &'static str, instance: u64) {
        let daemon = self.daemon(role, instance);
        self.processes.push(Process { role, instance, daemon });
    }

    /// A process of a role. What is planned and was not reached yet is planned again for the first of them.
    fn daemon(&self, role: &'static str, instance: u64) -> Daemon {
        let mut env = vec![
            ("AUSCULT__INSTANCE", instance.to_string()),
            ("AUSCULT_COMPACT_EVERY", "10".to_owned()),
            ("AUSCULT_FAULTS", if instance == 0 { self.faults(role) } else { String::new() }),
        ];
        if role == TRAIN {
            // What is learned from is the history of the model in use.
            env.push(("AUSCULT__LIBRARY__URL", format!("file://{}", self.scene.first.path("library"))));
        }
        let env: Vec<(&str, &str)> = env.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.place.daemon_with(role, &env)
    }

    fn faults(&self, of: &'static str) -> String {
        let broken = self.broken(of);
        let mut plan = Vec::new();
        for bad in self.bad {
            if let Bad::Fault { role, point, at, what } = bad
                && *role == of
                && !broken.contains(*point)
            {
                plan.push(planned(point, *at, *what));
            }
        }
        plan.join(",")
    }

    /// The points of a role that were broken so far, as its log says.
    fn broken(&self, role: &str) -> BTreeSet<String> {
        let log = std::fs::read_to_string(self.place.path(&format!("{role}.log"))).unwrap_or_default();
        let broken = log.lines().filter(|line| line.contains(BROKEN));
        broken.map(|line| point_of(line).unwrap_or_else(|| panic!("no point in {line}"))).collect()
    }

    fn count_faults(&mut self) {
        for role in ROLES.into_iter().chain([TRAIN]) {
            let broken = self.broken(role);
            for (bad, reached) in self.bad.iter().zip(&mut self.reached) {
                if let Bad::Fault { role: of, point, .. } = bad
                    && *of == role
                {
                    *reached = broken.contains(*point);
                }
            }
        }
    }

    /// Puts the logs where they outlive the run, for whoever wants to know why it went wrong.
    fn keep_logs(&self) {
        let kept = std::env::temp_dir().join(format!("auscult-{}-logs", self.name));
        std::fs::create_dir_all(&kept).unwrap();
        for role in ROLES.into_iter().chain([TRAIN]) {
            let name = format!("{role}.log");
            let _ = std::fs::copy(self.place.path(&name), kept.join(name));
        }
        println!("the logs of {} are kept in {}", self.name, kept.display());
    }

    /// Does what is to be done at its time, starts again whoever ended, and looks now and then, until
    /// what is to be seen is what the calm run shows, and stays so.
    fn live(&mut self, calm: &Calm) -> Option<Wrong> {
        let (mut looked, mut was_equal, mut quiet) = (Instant::now(), false, 0);
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.started.elapsed().as_millis() as u64;
            for (_, which, deed) in self.deeds.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>() {
                match self.act(deed) {
                    Ok(done) => self.reached[which] |= done,
                    Err(why) => return Some(Wrong::Stuck(why)),
                }
                quiet = self.started.elapsed().as_millis() as u64;
            }
            self.restart_the_dead();
            if !self.deeds.is_empty() || now < 4000 || looked.elapsed() < Duration::from_millis(1500) {
                continue;
            }
            let wrong = self.difference(calm);
            // What is doubled may come late, so equality must last.
            if wrong.is_none() && was_equal && (self.has_trained() || now > quiet + PATIENCE / 2) {
                return None;
            }
            if now > quiet + PATIENCE {
                return Some(wrong.unwrap_or_else(|| Wrong::Stuck("equal only in passing".to_owned())));
            }
            (was_equal, looked) = (wrong.is_none(), Instant::now());
        }
    }

    /// Does one deed; says whether it happened to something alive.
    fn act(&mut self, deed: Deed) -> Result<bool, String> {
        match deed {
            Deed::Signal { role, instance, signal } => {
                let process = self.process(role, instance).ok_or("a process is missing")?;
                let is_alive = process.daemon.is_alive();
                if is_alive {
                    process.daemon.signal(signal);
                }
                return Ok(is_alive);
            }
            Deed::Join { role, instance } => self.join(role, instance),
            Deed::Leave { role, instance, signal } => {
                let process = self.process(role, instance).ok_or("a process is missing")?;
                process.daemon.signal(signal);
                if !process.daemon.ends_within(LEAVE) {
                    return Err(format!("a second process of {role} did not leave within {LEAVE:?}"));
                }
                self.processes.retain(|process| (process.role, process.instance) != (role, instance));
            }
            Deed::Promote { version, breaks } => {
                let faults = if breaks { "registry.noted=1:abort" } else { "" };
                let version = version.to_string();
                let args = ["models", "promote", "--task", TASK, "--model", &version, "--reason", "chaos"];
                let mut command = self.place.command(&args);
                let status = command.env("AUSCULT_FAULTS", faults).stdout(Stdio::null()).stderr(Stdio::null()).status();
                return Ok(status.unwrap().success() != breaks);
            }
            Deed::Kill { node } => self.scene.broker.kill(node),
            Deed::Revive { node } => self.scene.broker.revive(node),
            Deed::Halt { node, signal } => self.scene.broker.signal(node, signal),
        }
        Ok(true)
    }

    fn process(&mut self, role: &str, instance: u64) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| (process.role, process.instance) == (role, instance))
    }

    /// What an orchestrator does.
    fn restart_the_dead(&mut self) {
        for i in 0..self.processes.len() {
            if !self.processes[i].daemon.is_alive() {
                let (role, instance) = (self.processes[i].role, self.processes[i].instance);
                self.processes[i].daemon = self.daemon(role, instance);
            }
        }
    }

    fn swaps(&self) -> bool {
        self.bad.iter().any(Bad::swaps)
    }

    fn difference(&self, calm: &Calm) -> Option<Wrong> {
        let seen = self.scene.seen(&self.place, self.name, self.swaps());
        seen.differs(calm.seen(self.swaps())).map(Wrong::Differs)
    }

    /// Whether what was planned for role `train` has happened, and a model was made all the same.
    fn has_trained(&self) -> bool {
        if !self.bad.iter().any(Bad::trains) {
            return true;
        }
        self.faults(TRAIN).is_empty() && self.champion() > 2
    }

    /// Version of the champion in the registry of this run.
    fn champion(&self) -> u64 {
        self.place.json(&["models", "show", "--task", TASK])["version"].as_u64().unwrap()
    }

    /// What `auscult verify` finds on what the run has left.
    fn violation(&self) -> Option<Wrong> {
        let verified = self.place.run(&["verify"]);
        let said = || String::from_utf8_lossy(&verified.stdout).into_owned();
        (!verified.status.success()).then(|| Wrong::Stuck(format!("verify: {}", said())))
    }

    /// Lets every process drain, and looks for the last time.
    fn end(&mut self, calm: &Calm) -> Option<Wrong> {
        // First whoever trains: then the champion stays who it is, and must be the one in use.
        self.processes.sort_by_key(|process| process.role != TRAIN);
        for Process { role, instance, daemon } in self.processes.drain(..).collect::<Vec<_>>() {
            let planned = self.faults(role);
            if role == "score" && self.swaps() && !self.uses_champion() {
                return Some(Wrong::Stuck("the champion of the registry is not in use".to_owned()));
            }
            // A planned end may come as late as this: then who is back drains.
            let drains = |daemon: Daemon| daemon.terminate() == Some(0);
            if !drains(daemon) && (self.faults(role) == planned || !drains(self.daemon(role, instance))) {
                return Some(Wrong::Stuck(format!("{role} did not drain")));
            }
        }
        self.difference(calm).or_else(|| self.violation())
    }

    /// Whether the model that role `score` took into use last is the registry's champion, or becomes so soon.
    fn uses_champion(&self) -> bool {
        let champion = self.champion();
        for _ in 0..50 {
            let log = std::fs::read_to_string(self.place.path("score.log")).unwrap_or_default();
            let last = log.lines().rfind(|line| line.contains("a model is in use"));
            let line: serde_json::Value = serde_json::from_str(last.unwrap_or("{}")).unwrap();
            if line["version"].as_u64() == Some(champion) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        false
    }
}

/// The point that a line of the log names.
fn point_of(line: &str) -> Option<String> {
    Some(serde_json::from_str::<serde_json::Value>(line).ok()?["point"].as_str()?.to_owned())
}
