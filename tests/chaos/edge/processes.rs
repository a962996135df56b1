//! Two who believe that they own the same, and a clock that jumps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::hands::{Hands, all_differ, fact, made, says, sources};
use crate::broker::Broker;
use crate::chaos::bad::SESSION;
use crate::chaos::is_asked_for;
use crate::chaos::scene::{Calm, Scene};
use crate::own_topics::own_topics;
use crate::peer::{Daemon, Place, Read, read_settled, read_until};

const LONG: Duration = Duration::from_secs(60);

/// Waits until a run shows what the calm one shows.
fn settled(scene: &Scene, place: &Place, name: &str, calm: &Calm, within: Duration) {
    let started = Instant::now();
    while let Some(difference) = scene.seen(place, name, false).differs(calm.seen(false)) {
        assert!(started.elapsed() < within, "after {within:?} still {difference}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn invariant_05_two_owners_never_commit_the_same_partition() {
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::ward(broker, 20, 96);
    let calm = scene.calm();
    let roles = if is_asked_for() { vec!["score", "normalize"] } else { vec!["score"] };
    for role in roles {
        let place = scene.place(role);
        let others: Vec<Daemon> =
            ["normalize", "score", "archive"].iter().filter(|r| **r != role).map(|r| place.daemon(r)).collect();
        // It stands still in the middle of a transaction: its messages are produced, its offsets are not.
        let plan = format!("{role}.produced=3:sleep 3000");
        let zombie = place.daemon_with(role, &[("AUSCULT_FAULTS", &plan)]);
        says(&zombie, "broken here", Duration::from_secs(60));
        zombie.signal("STOP");
        let other = place.daemon_with(role, &[("AUSCULT__INSTANCE", "1")]);
        std::thread::sleep(Duration::from_millis(SESSION + 4_000));
        zombie.signal("CONT");
        // It finds out that its partitions are another's when it commits, and not by a look at the clock.
        says(&zombie, "a transaction failed at its offsets", Duration::from_secs(30));
        settled(&scene, &place, role, &calm, Duration::from_secs(60));
        for daemon in others.into_iter().chain([zombie, other]) {
            assert_eq!(daemon.terminate(), Some(0));
        }
        settled(&scene, &place, role, &calm, Duration::ZERO);
    }
}

#[test]
fn a_transaction_that_never_ends_is_left_behind_and_its_work_done_again() {
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::ward(broker, 20, 96);
    let calm = scene.calm();
    let mut place = scene.place("stuck");
    // A role waits three of them for a step.
    place.set("AUSCULT__KAFKA__DEADLINE", "5s");
    let plan = "normalize.produced=3:sleep 3600000,score.produced=3:sleep 3600000";
    let daemon = place.daemon_with("normalize,score,archive", &[("AUSCULT_FAULTS", plan)]);
    settled(&scene, &place, "stuck", &calm, Duration::from_secs(120));
    let log = daemon.log();
    for said in ["broken here", "a thread is left behind"] {
        assert_eq!(log.matches(said).count(), 2, "{said}:\n{log}");
    }
    // Nor does it hold up the end.
    assert_eq!(daemon.terminate(), Some(0));
    settled(&scene, &place, "stuck", &calm, Duration::ZERO);
}

#[test]
fn who_ends_between_the_steps_of_a_rebalance_leaves_no_partition_unread() {
    let Some(broker) = Broker::start() else { return };
    let place = Place::new("hospital", &broker.bootstrap);
    // It ends when it is told what to give away, and is back before anybody has missed it.
    let mut giver = place.daemon_with("normalize", &[("AUSCULT_FAULTS", "normalize.revoked=1:abort")]);
    made(&broker.bootstrap, "raw.flat");
    let hands = Hands::on(&broker.bootstrap);
    hands.send("raw.flat", 0, (0..10).map(fact));
    read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() == 10);
    let taker = place.daemon_with("normalize", &[("AUSCULT__INSTANCE", "1")]);
    assert!(giver.ends_within(LONG), "it was told to give something away");
    let giver = place.daemon("normalize");
    for partition in 0..4 {
        hands.send("raw.flat", partition, (10..20).map(fact));
    }
    let log = read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() == 50);
    assert!(all_differ(&sources(&log)));
    for daemon in [giver, taker] {
        assert_eq!(daemon.terminate(), Some(0));
    }
}

#[test]
fn of_two_daemons_with_one_instance_one_ends_and_says_why_and_nothing_is_doubled() {
    if !is_asked_for() {
        return;
    }
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::ward(broker, 20, 96);
    let calm = scene.calm();
    let place = scene.place("twins");
    let roles = "normalize,score,archive";
    let mut twins = vec![place.daemon(roles)];
    std::thread::sleep(Duration::from_millis(1500));
    twins.push(place.daemon(roles));
    let started = Instant::now();
    while twins.len() > 1 {
        assert!(started.elapsed() < Duration::from_secs(60), "both go on:\n{}", twins[0].log());
        std::thread::sleep(Duration::from_millis(50));
        if let Some(i) = (0..twins.len()).find(|&i| !twins[i].is_alive()) {
            let mut gone = twins.remove(i);
            assert_eq!(gone.code(), Some(1));
            println!("the {} ended after {:.1} s", ["first", "second"][i], started.elapsed().as_secs_f64());
        }
    }
    assert!(twins[0].log().contains("an instance of its own (AUSCULT__INSTANCE)"), "{}", twins[0].log());
    settled(&scene, &place, "twins", &calm, Duration::from_secs(60));
    assert!(twins[0].is_alive(), "the one that is left goes on");
    assert_eq!(twins.remove(0).terminate(), Some(0));
    settled(&scene, &place, "twins", &calm, Duration::ZERO);
}

#[test]
fn a_wall_clock_that_jumps_by_a_day_makes_no_prediction_twice_early_or_never() {
    if !is_asked_for() {
        return;
    }
    let Some(broker) = Broker::start() else { return };
    let began = Instant::now();
    let at = |name: &str, jump: i64| {
        let mut place = Place::new("hospital", &broker.bootstrap);
        for (key, topic) in own_topics(name) {
            place.set(&key, &topic);
        }
        place.set("AUSCULT__KAFKA__GROUP", name);
        // For eight seconds it is another day.
        let plan = format!("clock=6000:jump {jump},clock=14000:jump {}", -jump);
        let daemon = place.daemon_with("normalize,score", &[("AUSCULT_FAULTS", &plan)]);
        (place, daemon)
    };
    let day = 86_400_000;
    let runs = [("yesterday", at("yesterday", -day)), ("tomorrow", at("tomorrow", day))];
    made(&broker.bootstrap, "tomorrow.scores");
    // Their third prediction falls due when nothing happens but that time passes, and the clock is right again.
    let admitted = Utc::now() - TimeDelta::hours(12) + TimeDelta::seconds(25);
    let hands = Hands::on(&broker.bootstrap);
    hands.send("raw.flat", 0, (0..5).map(|patient| record(patient, admitted, r#""code":"ENCOUNTER//IMP//START""#)));
    let rate = r#""code":"8867-4","system":"http://loinc.org","value":80,"unit":"/min""#;
    hands.send("raw.flat", 1, (0..5).map(|patient| record(patient, admitted + TimeDelta::hours(9), rate)));
    std::thread::sleep(Duration::from_secs(34).saturating_sub(began.elapsed()));
    for (name, (_place, daemon)) in runs {
        let scores = read_settled(&broker.bootstrap, &format!("{name}.scores"), Duration::from_secs(2), LONG);
        let mut times: BTreeMap<String, Vec<DateTime<Utc>>> = BTreeMap::new();
        for score in scores.iter().map(Read::json) {
            let time = score["prediction_time"].as_str().unwrap().parse().unwrap();
            times.entry(score["subject"].as_str().unwrap().to_owned()).or_default().push(time);
        }
        assert_eq!(daemon.log().matches("broken here").count(), 2, "{name}: the clock has not jumped there and back");
        let hours = |from: DateTime<Utc>| ((from - admitted).num_minutes() + 1) / 60;
        let wrong = times.values().find(|times| times.iter().map(|time| hours(*time)).ne([4, 8, 12]));
        assert!(wrong.is_none() && times.len() == 5, "{name}: {times:?}\n{}", daemon.log());
        // A broker does not take what is said to be of tomorrow, and so it is not predicted from.
        assert_eq!(daemon.log().contains("set the clocks of this machine"), name == "tomorrow", "{}", daemon.log());
        assert_eq!(daemon.terminate(), Some(0));
    }
}

fn record(patient: usize, time: DateTime<Utc>, what: &str) -> String {
    let time = time.to_rfc3339_opts(SecondsFormat::Secs, true);
    format!(r#"{{"patient":"p{patient}","time":"{time}","recorded":"{time}","encounter":"e{patient}",{what}}}"#)
}
