//! What can happen to a daemon, how it is drawn from a seed, and what has to be done when.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// The roles that a run has; `train` only where something happens to it.
pub const ROLES: [&str; 3] = ["normalize", "score", "archive"];
pub const TRAIN: &str = "train";
/// The broker, in the place of a role.
pub const BROKER: &str = "broker";

/// How long a group waits for a silent member, in milliseconds: the least that a broker allows.
pub const SESSION: u64 = 6_000;

/// How long a clock is off after a jump, in milliseconds. While it is more than an hour ahead, the broker
/// refuses what this machine writes with a time of its own.
const CLOCK_IS_OFF: u64 = 5_000;

/// A named point of failure.
struct Point {
    role: &'static str,
    name: &'static str,
    /// How often a run passes it, at least.
    most: u64,
    /// Whether an answer can get lost there: elsewhere the caller asks nobody.
    loses: bool,
}

const fn point(role: &'static str, name: &'static str, most: u64, loses: bool) -> Point {
    Point { role, name, most, loses }
}

const POINTS: [Point; 36] = [
    point("normalize", "normalize.assigned", 1, false),
    point("normalize", "normalize.polled", 20, false),
    point("normalize", "normalize.made", 20, false),
    point("normalize", "normalize.begin", 20, true),
    point("normalize", "normalize.produced", 20, true),
    point("normalize", "normalize.offsets", 20, true),
    point("normalize", "normalize.delivered", 20, true),
    point("normalize", "normalize.committed", 20, true),
    point("normalize", "normalize.revoked", 1, false),
    point("score", "score.assigned", 1, false),
    point("score", "score.recovered", 1, false),
    point("score", "score.folded", 4, false),
    point("score", "score.scored", 4, false),
    point("score", "score.begin", 4, true),
    point("score", "score.produced", 4, true),
    point("score", "score.offsets", 4, true),
    point("score", "score.delivered", 4, true),
    point("score", "score.committed", 4, true),
    point("score", "score.swapped", 2, false),
    point("score", "score.revoked", 1, false),
    point("score", "library.opened", 4, true),
    point("archive", "archive.assigned", 1, false),
    point("archive", "archive.gathered", 6, false),
    point("archive", "archive.appended", 6, true),
    point("archive", "archive.revoked", 1, false),
    point("archive", "library.opened", 12, true),
    point("archive", "library.written", 6, true),
    point("archive", "library.committed", 6, true),
    point("archive", "library.rewritten", 1, true),
    point("archive", "library.compacted", 1, true),
    point(TRAIN, "train.fitted", 1, false),
    point(TRAIN, "train.registered", 1, false),
    point(TRAIN, "train.promoted", 1, false),
    point(TRAIN, "registry.staged", 1, false),
    point(TRAIN, "registry.noted", 2, false),
    point(TRAIN, "library.opened", 2, true),
];

/// What happens at a point.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum What {
    /// The process ends as by kill -9.
    Abort,
    /// The answer to what it did there is lost.
    Lost,
    /// The same so many times in a row, as where a store throttles.
    Refused(u64),
    /// It stands still for so many milliseconds, as where a disk or a store is slow.
    Sleep(u64),
    /// The wall clock jumps by so many milliseconds, and is set right after a while.
    Jump(i64),
}

/// Something bad. All times are in milliseconds from the start of the run.
#[derive(Clone, Debug)]
pub enum Bad {
    /// At the named point of a role, at that passage.
    Fault { role: &'static str, point: &'static str, at: u64, what: What },
    /// A signal: KILL, TERM, or STOP and, within the session, CONT.
    Signal { role: &'static str, after: u64, signal: &'static str },
    /// A second process of the role comes and goes by a signal.
    Joins { role: &'static str, after: u64, stays: u64, signal: &'static str },
    /// The process stands still for longer than its session, another takes its place, and it goes on.
    Zombie { role: &'static str, after: u64 },
    /// The role has so many processes from the start, and each is ended and started again in turn.
    Rolling { role: &'static str, processes: u64, after: u64, signal: &'static str },
    /// The champion is changed by hand, there and back, while the daemon runs.
    Promotes { after: u64, breaks: bool },
    /// A node of the broker is killed, and started again after so long.
    Killed { node: usize, after: u64, down: u64 },
    /// A node of the broker stands still for so long.
    Stalls { node: usize, after: u64, long: u64 },
    /// Every node in turn.
    RollingBroker { nodes: usize, after: u64 },
}

/// Something to be done at a time.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Deed {
    Signal { role: &'static str, instance: u64, signal: &'static str },
    Join { role: &'static str, instance: u64 },
    Leave { role: &'static str, instance: u64, signal: &'static str },
    Promote { version: u32, breaks: bool },
    Kill { node: usize },
    Revive { node: usize },
    Halt { node: usize, signal: &'static str },
}

impl Bad {
    /// What may happen in one run of a seed: three to five things, now and then two at the same moment.
    pub fn several(dice: &mut StdRng, nodes: usize) -> Vec<Bad> {
        let mut all: Vec<Bad> = (0..dice.random_range(3..=5)).map(|_| Bad::any(dice, nodes)).collect();
        // A partition is taken away only where somebody else comes.
        let revoked = all.iter().find_map(|bad| match bad {
            Bad::Fault { role, point, .. } if point.ends_with("revoked") => Some(*role),
            _ => None,
        });
        if let Some(role) = revoked {
            all.push(Bad::Joins { role, after: dice.random_range(1500..3000), stays: 2500, signal: "TERM" });
        }
        // One process group a role, one broker at a time: otherwise nobody could say what was reached.
        let mut had: Vec<(&'static str, &'static str)> = Vec::new();
        all.retain(|bad| {
            let is_new = bad.excludes().is_none_or(|one| !had.contains(&one));
            had.extend(bad.excludes());
            is_new
        });
        all
    }

    fn any(dice: &mut StdRng, nodes: usize) -> Bad {
        let role = *ROLES.choose(dice).unwrap();
        // Round figures, so that two things happen at the same moment now and then.
        let after = dice.random_range(2..14) * 300;
        let signal = *["KILL", "TERM"].choose(dice).unwrap();
        if nodes > 1 && dice.random_bool(0.5) {
            return Bad::of_cluster(dice, nodes, after);
        }
        match dice.random_range(0..100) {
            0..56 => Bad::fault(dice),
            56..72 => Bad::Signal { role, after, signal: ["KILL", "TERM", "STOP"].choose(dice).unwrap() },
            72..76 => Bad::Zombie { role, after },
            76..84 => Bad::Joins { role, after, stays: dice.random_range(300..2500), signal },
            84..88 => Bad::Rolling { role, processes: *[2, 4].choose(dice).unwrap(), after, signal },
            88..92 => Bad::Promotes { after, breaks: dice.random_bool(0.5) },
            92..96 => {
                let days: i64 = *[-1, 1].choose(dice).unwrap();
                let role = *["normalize", "score", TRAIN].choose(dice).unwrap();
                Bad::Fault { role, point: "clock", at: after, what: What::Jump(days * 86_400_000) }
            }
            96..98 => Bad::Killed { node: 0, after, down: 0 },
            _ => Bad::Stalls { node: 0, after, long: *[2_000, 12_000].choose(dice).unwrap() },
        }
    }

    fn fault(dice: &mut StdRng) -> Bad {
        let point = POINTS.choose(dice).unwrap();
        let is_store = point.name == "library.opened";
        let what = match dice.random_range(0..10) {
            0..4 if point.loses => What::Lost,
            4 if is_store => What::Refused(dice.random_range(2..6)),
            0..2 | 5..7 => What::Sleep(*[300, 2_000, SESSION + 2_000].choose(dice).unwrap()),
            _ => What::Abort,
        };
        Bad::Fault { role: point.role, point: point.name, at: dice.random_range(1..=point.most), what }
    }

    fn of_cluster(dice: &mut StdRng, nodes: usize, after: u64) -> Bad {
        let node = dice.random_range(0..nodes);
        match dice.random_range(0..6) {
            0..3 => Bad::Killed { node, after, down: dice.random_range(0..8) * 1000 },
            3..5 => Bad::Stalls { node, after, long: *[2_000, 12_000, 60_000].choose(dice).unwrap() },
            _ => Bad::RollingBroker { nodes, after },
        }
    }

    /// Of things with the same of this a run has one.
    fn excludes(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Bad::Fault { role, point, .. } => Some((role, point)),
            Bad::Rolling { role, .. } | Bad::Zombie { role, .. } => Some((role, "processes")),
            Bad::Killed { .. } | Bad::Stalls { .. } | Bad::RollingBroker { .. } => Some((BROKER, "")),
            Bad::Promotes { .. } => Some((TRAIN, "promotes")),
            Bad::Signal { .. } | Bad::Joins { .. } => None,
        }
    }

    /// Whether it needs role `train` to run.
    pub fn trains(&self) -> bool {
        matches!(self, Bad::Fault { role: TRAIN, .. })
    }

    /// Whether another version of the model may be in use because of it.
    pub fn swaps(&self) -> bool {
        self.trains() || matches!(self, Bad::Promotes { .. })
    }

    /// Processes that the role has from the start.
    pub fn processes(&self, of: &str) -> u64 {
        match self {
            Bad::Rolling { role, processes, .. } if *role == of => *processes,
            _ => 1,
        }
    }

    /// What is to be done for it, and when; `number` makes the processes that it brings its own.
    pub fn deeds(&self, number: u64) -> Vec<(u64, Deed)> {
        let other = 10 + number;
        let signal = |role, signal| Deed::Signal { role, instance: 0, signal };
        match *self {
            Bad::Fault { .. } => Vec::new(),
            Bad::Signal { role, after, signal: "STOP" } => {
                vec![(after, signal(role, "STOP")), (after + 1500, signal(role, "CONT"))]
            }
            Bad::Signal { role, after, signal: name } => vec![(after, signal(role, name))],
            Bad::Joins { role, after, stays, signal } => vec![
                (after, Deed::Join { role, instance: other }),
                (after + stays, Deed::Leave { role, instance: other, signal }),
            ],
            Bad::Zombie { role, after } => vec![
                (after, signal(role, "STOP")),
                (after, Deed::Join { role, instance: other }),
                (after + SESSION + 4_000, signal(role, "CONT")),
                (after + SESSION + 6_000, Deed::Leave { role, instance: other, signal: "TERM" }),
            ],
            Bad::Rolling { role, processes, after, signal } => {
                let one = |instance| (after + instance * 900, Deed::Signal { role, instance, signal });
                (0..processes).map(one).collect()
            }
            Bad::Promotes { after, breaks } => vec![
                (after, Deed::Promote { version: 1, breaks }),
                (after + 900, Deed::Promote { version: 2, breaks: false }),
            ],
            Bad::Killed { node, after, down } => {
                vec![(after, Deed::Kill { node }), (after + down, Deed::Revive { node })]
            }
            Bad::Stalls { node, after, long } => {
                vec![(after, Deed::Halt { node, signal: "STOP" }), (after + long, Deed::Halt { node, signal: "CONT" })]
            }
            Bad::RollingBroker { nodes, after } => (0..nodes)
                .flat_map(|node| {
                    let at = after + node as u64 * 8_000;
                    [(at, Deed::Kill { node }), (at + 500, Deed::Revive { node })]
                })
                .collect(),
        }
    }

    /// Bad thing and role, for the table.
    pub fn kind(&self) -> (String, &'static str) {
        match self {
            Bad::Fault { role, what: What::Jump(_), .. } => ("the wall clock jumps by a day".to_owned(), role),
            Bad::Fault { role, point, what, .. } => (format!("{what} {}", phase(point)), role),
            Bad::Signal { role, signal, .. } => (format!("SIG{signal}"), role),
            Bad::Joins { role, signal, .. } => (format!("second process joins, leaves by SIG{signal}"), role),
            Bad::Zombie { role, .. } => ("SIGSTOP for longer than the session, another takes over".to_owned(), role),
            Bad::Rolling { role, processes, signal, .. } => {
                (format!("{processes} processes, each ended by SIG{signal} in turn"), role)
            }
            Bad::Promotes { breaks: true, .. } => ("promotion by hand, its command killed".to_owned(), "score"),
            Bad::Promotes { .. } => ("promotion by hand, there and back".to_owned(), "score"),
            Bad::Killed { .. } => ("kill -9 of a broker".to_owned(), BROKER),
            Bad::Stalls { long, .. } => (format!("a broker stands still for {} s", long / 1000), BROKER),
            Bad::RollingBroker { .. } => ("every broker killed in turn".to_owned(), BROKER),
        }
    }
}

/// Where in the work of a role a point lies, for the table.
fn phase(point: &str) -> &'static str {
    match point.split_once('.').unwrap_or_default() {
        (_, "assigned" | "recovered" | "revoked") => "while a partition is taken or given away",
        ("normalize", "polled") => "after a poll",
        ("normalize" | "score", "begin" | "produced" | "offsets" | "delivered") => "within a transaction",
        ("normalize" | "score", "committed") => "after a transaction's commit",
        ("normalize" | "score" | "archive", "made" | "folded" | "scored" | "gathered") => "in the middle of a batch",
        ("library", "opened") => "when a table of the library is opened",
        ("library", "written") => "before a Delta commit",
        ("library" | "archive", "committed" | "appended") => "after a Delta commit",
        ("library", "rewritten" | "compacted") => "around a compaction",
        ("score", "swapped") => "when a model is swapped",
        ("train" | "registry", _) => "while a model is trained and promoted",
        _ => panic!("{point} has no phase"),
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Abort => f.write_str("process ends"),
            What::Lost => f.write_str("answer lost"),
            What::Refused(_) => f.write_str("answers lost in a row"),
            What::Sleep(_) => f.write_str("stall of up to 8 s"),
            What::Jump(_) => f.write_str("jump"),
        }
    }
}

/// `AUSCULT_FAULTS` for a fault.
pub fn planned(point: &str, at: u64, what: What) -> String {
    match what {
        What::Abort => format!("{point}={at}:abort"),
        What::Lost => format!("{point}={at}:lost"),
        What::Sleep(ms) => format!("{point}={at}:sleep {ms}"),
        What::Jump(ms) => format!("{point}={at}:jump {ms},{point}={}:jump {}", at + CLOCK_IS_OFF, -ms),
        What::Refused(times) => (at..at + times).map(|at| format!("{point}={at}:lost")).collect::<Vec<_>>().join(","),
    }
}

#[test]
fn every_point_has_its_phase_and_a_seed_its_bad_things() {
    POINTS.iter().for_each(|point| assert!(!phase(point.name).is_empty()));
    let drawn = |seed| format!("{:?}", Bad::several(&mut StdRng::seed_from_u64(seed), 3));
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
}
