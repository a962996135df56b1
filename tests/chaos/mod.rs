//! Breaking the daemon on purpose and comparing with a run that nobody disturbed.
//!
//! One feed of a simulated ward, with corrections, redeliveries, retractions and broken records, is
//! read again and again by daemons of their own groups and topics. A seed says what happens to them;
//! afterwards a read_committed subscriber and the library must see what they see in the calm run:
//! the same scores, alerts, dead letters, events and archived rows, bit by bit, and those of a subject in
//! the same order (`seen` says what is left out), and `auscult verify` must find nothing.
//!
//! By default three seeds are tried on one broker, and those tests of `edge` that are quick or prove an
//! invariant: about three minutes in all. With `AUSCULT_REQUIRE_KAFKA=1`,
//!
//! - `AUSCULT_CHAOS=150 cargo test --release --test auscult chaos::disturbed -- --nocapture` tries 150
//!   seeds on one broker and prints the table of README;
//! - `AUSCULT_CHAOS=30 cargo test --release --test auscult chaos::a_cluster -- --nocapture` the same on three,
//!   with the loss of one, its stall for up to a minute, and every one killed in turn;
//! - `AUSCULT_CHAOS_FROM=17 AUSCULT_CHAOS=1` replays seed 17 of either;
//! - `AUSCULT_CHAOS=1 cargo test --release --test auscult chaos::edge` runs all of `edge`, which holds what
//!   has to be set up one by one and not drawn.

pub mod bad;
mod edge;
mod run;
pub mod scene;
pub mod seen;
mod table;

use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::broker::Broker;
use bad::Bad;
use scene::Scene;
use table::Tries;

#[test]
fn disturbed_runs_give_what_a_calm_one_gives_invariants_01_02_03_and_04() {
    let Some(broker) = Broker::start() else { return };
    compare(broker, "chaos", 3);
}

#[test]
fn a_cluster_that_loses_one_of_three_brokers_gives_what_a_calm_one_gives() {
    if !is_asked_for() {
        return;
    }
    let Some(broker) = Broker::start_with(3, "") else { return };
    compare(broker, "cluster", 1);
}

/// Whether the environment asks for what takes its time; says so where it does not.
fn is_asked_for() -> bool {
    let asked = is_long();
    if !asked {
        eprintln!("SKIPPED, this takes its time: set AUSCULT_CHAOS=1");
    }
    asked
}

/// Whether there is time for more than CI tries.
fn is_long() -> bool {
    std::env::var_os("AUSCULT_CHAOS").is_some()
}

/// Tries so many seeds, unless the environment asks for others.
fn compare(broker: Broker, name: &str, seeds: u64) {
    let number = |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let (from, count) = (number("AUSCULT_CHAOS_FROM", 0), number("AUSCULT_CHAOS", seeds));
    let nodes = broker.nodes();
    let begun = Instant::now();
    let mut scene = Scene::whole(broker);
    let calm = scene.calm();
    println!("calm, {} s: {:?}", begun.elapsed().as_secs(), calm.seen(false).counts());
    let kinds = ["scores", "alerts", "dead letters", "archived events", "archived scores", "archived alerts"];
    assert!(kinds.iter().all(|kind| calm.seen(false).counts().contains_key(kind)), "the calm run has some of all");
    let (mut tries, mut failed) = (Tries::default(), Vec::new());
    for seed in from..from + count {
        let bad = Bad::several(&mut StdRng::seed_from_u64(seed), nodes);
        let started = Instant::now();
        let outcome = run::run(&mut scene, &format!("{name}-{seed}"), &bad, &calm);
        tries.count(&bad, &outcome);
        let said = outcome.wrong.as_ref().map_or("the same".to_owned(), ToString::to_string);
        println!("seed {seed}, {} s, {} happened so far: {said}", started.elapsed().as_secs(), tries.reached());
        for (bad, reached) in bad.iter().zip(&outcome.reached) {
            println!("    {}{bad:?}", if *reached { "" } else { "not reached: " });
        }
        failed.extend(outcome.wrong.map(|wrong| (seed, wrong.to_string())));
    }
    println!("{tries}");
    assert!(failed.is_empty(), "replay with AUSCULT_CHAOS_FROM=SEED AUSCULT_CHAOS=1: {failed:?}");
}
