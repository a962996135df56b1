//! Breaking the daemon on purpose and comparing with a run that nobody disturbed.
//!
//! One feed of a simulated ward, with corrections, redeliveries, retractions and broken records, is
//! read again and again by daemons of their own groups and topics. A seed says what happens to them;
//! afterwards a read_committed subscriber and the library must see what they see in the calm run:
//! the same scores, alerts, dead letters and events, bit by bit, and those of a subject in the same order.
//! Left out are ticks, which depend on where batches end, and tokens given again.
//!
//! `AUSCULT_CHAOS=500 cargo test --release --test auscult chaos -- --nocapture` tries 500 seeds and prints
//! the table of README; `AUSCULT_CHAOS_FROM=17 AUSCULT_CHAOS=1` replays seed 17.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

use auscult::events::{EventsView, TICK, TOKEN};
use auscult::library::{Library, Table};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::broker::Broker;
use crate::peer::{Daemon, Place, Read, read_settled, read_topic};

const ROLES: [&str; 3] = ["normalize", "score", "archive"];
const PARTITIONS: u32 = 4;

/// The named points of failure, each with how often a run passes it at least.
const POINTS: [(&str, u64); 23] = [
    ("normalize.assigned", 1),
    ("normalize.polled", 8),
    ("normalize.made", 8),
    ("normalize.begin", 8),
    ("normalize.produced", 8),
    ("normalize.offsets", 8),
    ("normalize.delivered", 8),
    ("normalize.committed", 8),
    ("score.assigned", 1),
    ("score.recovered", 1),
    ("score.folded", 4),
    ("score.scored", 4),
    ("score.begin", 4),
    ("score.produced", 4),
    ("score.offsets", 4),
    ("score.delivered", 4),
    ("score.committed", 4),
    ("archive.assigned", 1),
    ("archive.gathered", 3),
    ("archive.appended", 3),
    ("library.written", 3),
    ("normalize.revoked", 1),
    ("score.revoked", 1),
];

/// Something bad.
#[derive(Clone, Debug)]
enum Bad {
    /// The process ends at a point as by kill -9, or the answer of what it did there is lost.
    Fault { point: &'static str, at: u64, what: &'static str },
    /// A signal after so long: KILL, TERM, or STOP followed by CONT.
    Signal { role: &'static str, after: u64, signal: &'static str },
    /// A second process of the role comes after so long, and goes by a signal after so long.
    Joins { role: &'static str, after: u64, stays: u64, signal: &'static str },
    /// The process stands still for longer than its session lasts, another takes its place, and it goes on.
    Zombie { role: &'static str, after: u64 },
    /// The broker is killed after so long and started again.
    Broker { after: u64 },
}

impl Bad {
    fn any(dice: &mut StdRng) -> Bad {
        let role = *ROLES.choose(dice).unwrap();
        let after = dice.random_range(300..2500);
        match dice.random_range(0..20) {
            0..11 => {
                let (point, most) = *POINTS.choose(dice).unwrap();
                let what = if dice.random_bool(0.3) && may_lose(point) { "lost" } else { "abort" };
                Bad::Fault { point, at: dice.random_range(1..=most), what }
            }
            11..16 => Bad::Signal { role, after, signal: ["KILL", "TERM", "STOP"].choose(dice).unwrap() },
            16 => Bad::Zombie { role, after },
            17..19 => {
                let stays = dice.random_range(300..2500);
                Bad::Joins { role, after, stays, signal: ["KILL", "TERM"].choose(dice).unwrap() }
            }
            _ => Bad::Broker { after },
        }
    }

    /// Bad thing and role, for the table.
    fn kind(&self) -> (String, &'static str) {
        match self {
            Bad::Fault { point, what, .. } => {
                let (role, step) = point.split_once('.').unwrap();
                let role = if role == "library" { "archive" } else { role };
                let what = if *what == "lost" { "answer lost" } else { "process ends" };
                (format!("{what} at {step}"), ROLES.into_iter().find(|r| *r == role).unwrap())
            }
            Bad::Signal { role, signal, .. } => (format!("SIG{signal}"), role),
            Bad::Joins { role, signal, .. } => (format!("second process joins, leaves by SIG{signal}"), role),
            Bad::Zombie { role, .. } => ("SIGSTOP for longer than the session, another takes over".to_owned(), role),
            Bad::Broker { .. } => ("broker killed and restarted".to_owned(), "all"),
        }
    }
}

/// Whether an answer can get lost there: elsewhere the caller asks nobody.
fn may_lose(point: &str) -> bool {
    ["begin", "produced", "offsets", "delivered", "committed", "appended"].iter().any(|step| point.ends_with(step))
}

/// What is to be seen in the end.
#[derive(PartialEq, Default)]
struct Seen {
    scores: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    alerts: BTreeMap<Vec<u8>, Vec<String>>,
    letters: Vec<(Vec<u8>, Vec<String>)>,
    /// Archived events by subject, in order.
    events: BTreeMap<i64, Vec<String>>,
    archived: [u64; 2],
}

impl Seen {
    fn of(place: &Place, bootstrap: &str, name: &str) -> Seen {
        let topic = |what: &str| read_topic(bootstrap, &format!("{name}.{what}"));
        let mut seen = Seen::default();
        for Read { key, value, .. } in topic("scores") {
            seen.scores.entry(key).or_default().push(value);
        }
        for message in topic("alerts") {
            let mut alert = message.json();
            assert!(alert.as_object_mut().unwrap().remove("published_at").is_some());
            seen.alerts.entry(message.key).or_default().push(alert.to_string());
        }
        for letter in topic("dead-letter") {
            let named = ["reason", "detail", "topic", "partition", "offset"].map(|name| letter.headers[name].clone());
            seen.letters.push((letter.value, named.to_vec()));
        }
        seen.letters.sort();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let library = Library::open(&place.path_url("library")).await.unwrap();
            for partition in 0..PARTITIONS {
                let mut history = library.history(partition).await.unwrap();
                while let Some(batch) = history.next().await.unwrap() {
                    let view = EventsView::new(&batch).unwrap();
                    for row in (0..view.len()).map(|row| view.row(row)).filter(|row| row.code != TICK) {
                        let events = seen.events.entry(row.subject.unwrap().0).or_default();
                        // A normalize that starts again gives every subject its token again: a redelivery.
                        if row.code != TOKEN || events.is_empty() {
                            events.push(format!("{row:?}"));
                        }
                    }
                }
            }
            seen.archived =
                [library.rows(Table::Predictions).await.unwrap(), library.rows(Table::Alerts).await.unwrap()];
        });
        seen
    }

    /// Scores, alerts, dead letters, archived events, predictions and alerts.
    fn counts(&self) -> [u64; 6] {
        let number = |all: usize| all as u64;
        [
            number(self.scores.values().map(Vec::len).sum()),
            number(self.alerts.values().map(Vec::len).sum()),
            number(self.letters.len()),
            number(self.events.values().map(Vec::len).sum()),
            self.archived[0],
            self.archived[1],
        ]
    }

    /// The first difference, without a value of anybody.
    fn differs(&self, calm: &Seen) -> Option<String> {
        let (ours, theirs) = (self.counts(), calm.counts());
        if ours != theirs {
            return Some(format!("scores, alerts, letters, events, archived: {ours:?} instead of {theirs:?}"));
        }
        let checks = [
            ("scores", self.scores == calm.scores),
            ("alerts", self.alerts == calm.alerts),
            ("dead letters", self.letters == calm.letters),
            ("archived events", self.events == calm.events),
        ];
        checks.into_iter().find(|(_, same)| !same).map(|(what, _)| format!("{what} differ in content or order"))
    }
}

/// Where the runs read from: a broker, a feed and a model.
struct Scene {
    broker: Broker,
    first: Place,
}

impl Scene {
    fn set(broker: Broker) -> Scene {
        let first = Place::new("hospital", &broker.bootstrap);
        let history = first.run(&["simulate", "--patients", "700", "--hours", "336", "--seed", "1"]);
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(first.path(name), bytes).unwrap();
            first.path(name)
        };
        first.json(&["import", &file("history.jsonl", &history.stdout)]);
        let trained = first.json(&["train", "--task", "deterioration"]);
        assert_eq!(trained["promoted"], true, "{trained}");
        let ward = first.run(&["simulate", "--patients", "60", "--hours", "120", "--seed", "2"]);
        let mut feed = Vec::new();
        for (i, line) in ward.stdout.split_inclusive(|byte| *byte == b'\n').enumerate() {
            feed.write_all(line).unwrap();
            if i % 150 == 0 {
                feed.extend([&line[..line.len() / 2], b"\n"].concat());
            }
        }
        file("ward.jsonl", &feed);
        Scene { broker, first }
    }

    /// A place of its own that reads the same feed.
    fn place(&self, name: &str) -> Place {
        let mut place = Place::new("hospital", &self.broker.bootstrap);
        for topic in ["events", "scores", "alerts", "alert_state", "models", "dead_letter", "redriven", "feedback"]
            .into_iter()
            .chain(["links", "identity"])
        {
            let named = format!("{name}.{}", topic.replace('_', "-"));
            place.set(&format!("AUSCULT__TOPICS__{}", topic.to_uppercase()), &named);
        }
        place
            .set("AUSCULT__KAFKA__GROUP", name)
            .set("AUSCULT__REGISTRY__URL", &format!("file://{}", self.first.path("registry")))
            .set("AUSCULT__TIME__CLOCK", "log")
            .set("AUSCULT__TIME__TICK", "5min")
            .set("AUSCULT__TIME__IDLE", "2s")
            .set("AUSCULT__ARCHIVE__EVERY", "500ms")
            .set("AUSCULT__LIMITS__BATCH_RECORDS", "250");
        place
    }

    fn calm(&self) -> Seen {
        let place = self.place("calm");
        let daemons: Vec<Daemon> = ROLES.iter().map(|role| place.daemon(role)).collect();
        let bootstrap = &self.broker.bootstrap;
        read_settled(bootstrap, "raw.flat", Duration::from_millis(300), Duration::from_secs(60));
        self.first.json(&["feed", "--topic", "raw.flat", "--key", "patient", &self.first.path("ward.jsonl")]);
        let scores = read_settled(bootstrap, "calm.scores", Duration::from_secs(8), Duration::from_secs(120));
        assert!(scores.len() > 500, "only {} scores", scores.len());
        for daemon in daemons {
            assert_eq!(daemon.terminate(), Some(0));
        }
        Seen::of(&place, bootstrap, "calm")
    }

    /// One run under bad things; returns what is wrong in the end.
    fn run(&mut self, name: &str, bad: &[Bad], calm: &Seen) -> Option<String> {
        let place = self.place(name);
        let faults = |role: &str| {
            let of_role = |point: &str| point.starts_with(role) || role == "archive" && point.starts_with("library");
            let planned = bad.iter().filter_map(|one| match one {
                Bad::Fault { point, at, what } if of_role(point) => Some(format!("{point}={at}:{what}")),
                _ => None,
            });
            planned.collect::<Vec<_>>().join(",")
        };
        let mut daemons: Vec<(&str, Daemon)> =
            ROLES.iter().map(|role| (*role, place.daemon_with(role, &[("AUSCULT_FAULTS", &faults(role))]))).collect();
        let second = |role: &str| place.daemon_with(role, &[("AUSCULT__INSTANCE", "1")]);
        // Signal and time of its leave.
        let mut seconds: Vec<(&str, u64, Daemon)> = Vec::new();
        let mut acts: Vec<(u64, &Bad)> = bad
            .iter()
            .filter_map(|one| match one {
                Bad::Fault { .. } => None,
                Bad::Signal { after, .. }
                | Bad::Joins { after, .. }
                | Bad::Zombie { after, .. }
                | Bad::Broker { after } => Some((*after, one)),
            })
            .collect();
        let mut stopped: Vec<(u64, u32)> = Vec::new();
        let (started, mut looked, mut last) = (Instant::now(), Instant::now(), None);
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = started.elapsed().as_millis() as u64;
            for (_, one) in acts.extract_if(.., |(after, _)| *after <= now) {
                match one {
                    Bad::Signal { role, signal, .. } => {
                        let at = daemons.iter().position(|(name, _)| name == role).unwrap();
                        daemons[at].1.signal(signal);
                        if *signal == "STOP" {
                            stopped.push((now + 1500, daemons[at].1.id()));
                        }
                    }
                    Bad::Joins { role, stays, signal, .. } => seconds.push((signal, now + stays, second(role))),
                    Bad::Zombie { role, .. } => {
                        let at = daemons.iter().position(|(name, _)| name == role).unwrap();
                        daemons[at].1.signal("STOP");
                        stopped.push((now + 18_000, daemons[at].1.id()));
                        seconds.push(("TERM", now + 21_000, second(role)));
                    }
                    Bad::Broker { .. } => self.broker.restart(),
                    Bad::Fault { .. } => {}
                }
            }
            for (_, pid) in stopped.extract_if(.., |(until, _)| *until <= now) {
                let _ = std::process::Command::new("kill").args(["-CONT", &pid.to_string()]).status();
            }
            for (signal, _, mut second) in seconds.extract_if(.., |(_, until, _)| *until <= now) {
                second.signal(signal);
                if !second.ends_within(Duration::from_secs(40)) {
                    return Some("a second process did not leave".to_owned());
                }
            }
            // What an orchestrator does: whoever ended is started again, and is broken once only.
            for (role, daemon) in &mut daemons {
                if !daemon.is_alive() {
                    *daemon = place.daemon(role);
                }
            }
            let is_calm_again = acts.is_empty() && stopped.is_empty() && seconds.is_empty();
            if !is_calm_again || looked.elapsed() < Duration::from_millis(1500) || now < 4000 {
                continue;
            }
            looked = Instant::now();
            let seen = Seen::of(&place, &self.broker.bootstrap, name);
            // What is doubled may come late, so equality must last.
            let wrong = seen.differs(calm);
            if wrong.is_none() && last == Some(None) {
                break;
            }
            if now > 120_000 {
                return wrong.or(Some("equal only in passing".to_owned()));
            }
            last = Some(wrong);
        }
        for (role, daemon) in daemons {
            if daemon.terminate() != Some(0) {
                return Some(format!("{role} did not drain"));
            }
        }
        Seen::of(&place, &self.broker.bootstrap, name).differs(calm)
    }
}

/// How often a bad thing was tried on a role, and how often something was lost, doubled or changed.
#[derive(Default)]
struct Tried {
    times: u64,
    wrong: u64,
}

struct Tries(BTreeMap<(String, &'static str), Tried>);

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| bad thing | role | tried | runs that differed |\n|---|---|---|---|")?;
        for ((what, role), tried) in &self.0 {
            writeln!(f, "| {what} | {role} | {} | {} |", tried.times, tried.wrong)?;
        }
        Ok(())
    }
}

#[test]
fn disturbed_runs_give_what_a_calm_one_gives_invariants_01_02_03_04_and_05() {
    let number = |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let (from, count) = (number("AUSCULT_CHAOS_FROM", 0), number("AUSCULT_CHAOS", 6));
    let Some(broker) = Broker::start() else { return };
    let mut scene = Scene::set(broker);
    let calm = scene.calm();
    println!("calm: scores, alerts, letters, events, archived predictions and alerts: {:?}", calm.counts());
    assert!(calm.counts().iter().all(|count| *count > 0), "the calm run has some of everything");
    let (mut tries, mut failed) = (Tries(BTreeMap::new()), Vec::new());
    for seed in from..from + count {
        let mut dice = StdRng::seed_from_u64(seed);
        let bad: Vec<Bad> = (0..dice.random_range(1..=3)).map(|_| Bad::any(&mut dice)).collect();
        let started = Instant::now();
        let wrong = scene.run(&format!("chaos-{seed}"), &bad, &calm);
        println!("seed {seed}, {} s: {bad:?}: {}", started.elapsed().as_secs(), wrong.as_deref().unwrap_or("the same"));
        for one in &bad {
            let tried = tries.0.entry(one.kind()).or_default();
            tried.times += 1;
            tried.wrong += u64::from(wrong.is_some());
        }
        failed.extend(wrong.map(|wrong| (seed, wrong)));
    }
    println!("{tries}");
    assert!(failed.is_empty(), "replay with AUSCULT_CHAOS_FROM=SEED AUSCULT_CHAOS=1: {failed:?}");
}
