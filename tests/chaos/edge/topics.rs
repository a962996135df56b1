//! Topics that grow, records that are gone, offsets that are forgotten, and a flood of poison.

use std::time::{Duration, Instant};

use auscult::kafka::Feeder;
use auscult::roles::Site;
use auscult::settings::SiteFiles;
use rdkafka::topic_partition_list::Offset;

use super::hands::{Hands, all_differ, counted, fact, made, refused, says, sources};
use crate::bad_input::bad;
use crate::broker::Broker;
use crate::chaos::is_asked_for;
use crate::chaos::scene::Scene;
use crate::peer::{Place, read_settled, read_topic, read_until};
use crate::process::peak_mib;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_log_of_record_that_grew_is_refused_with_the_remedy_and_a_running_daemon_goes_on() {
    let Some(broker) = Broker::start() else { return };
    let place = Place::new("hospital", &broker.bootstrap);
    let mut running = place.daemon("normalize,score");
    made(&broker.bootstrap, "raw.flat");
    let hands = Hands::on(&broker.bootstrap);
    hands.send("raw.flat", 0, (0..10).map(fact));
    read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() == 10);
    hands.grow("auscult.events", 5);
    let said = refused(&Place::new("hospital", &broker.bootstrap), "score");
    assert!(said.contains("auscult.events has 5 partitions") && said.contains("topics.partitions = 5"), "{said}");
    hands.send("raw.flat", 0, (10..20).map(fact));
    let log = read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() == 20);
    assert!(log.iter().all(|message| message.partition < 4), "a subject's owner must not change");
    assert!(running.is_alive());
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn a_raw_topic_that_grew_is_read_whole_and_the_clock_counts_its_new_partition() {
    let Some(broker) = Broker::start() else { return };
    let mut place = Place::new("hospital", &broker.bootstrap);
    place.set("AUSCULT__KAFKA__CLIENT__TOPIC_METADATA_REFRESH_INTERVAL_MS", "1000").set("AUSCULT__TIME__CLOCK", "log");
    let daemon = place.daemon("normalize");
    made(&broker.bootstrap, "raw.flat");
    let hands = Hands::on(&broker.bootstrap);
    hands.send("raw.flat", 0, (0..10).map(fact));
    let log = read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() == 10);
    assert_eq!(counted(&log), Some(12.0));
    hands.grow("raw.flat", 5);
    // What is sent before anybody reads the new partition must not be passed over.
    hands.send("raw.flat", 4, (10..20).map(fact));
    let log = read_until(&broker.bootstrap, "auscult.events", LONG, |log| {
        sources(log).len() == 20 && counted(log) == Some(13.0)
    });
    assert_eq!(sources(&log).iter().filter(|source| source.starts_with("raw.flat-4-")).count(), 10);
    assert!(all_differ(&sources(&log)));
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn retention_that_passed_the_needed_record_stops_each_role_and_nothing_is_skipped() {
    let Some(broker) = Broker::start() else { return };
    let place = Place::new("hospital", &broker.bootstrap);
    let hands = Hands::on(&broker.bootstrap);
    let daemon = place.daemon("normalize,score,archive");
    made(&broker.bootstrap, "raw.flat");
    hands.send("raw.flat", 2, (0..10).map(fact));
    read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() == 10);
    assert_eq!(daemon.terminate(), Some(0));
    let daemon = place.daemon("normalize");
    hands.send("raw.flat", 2, (10..20).map(fact));
    let log = read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() == 20);
    assert_eq!(daemon.terminate(), Some(0));

    // A partition with a fact that nobody but normalize has seen.
    let partition = log.iter().rfind(|message| !sources(std::slice::from_ref(*message)).is_empty()).unwrap().partition;
    hands.forget("auscult.events", partition, Offset::End);
    for role in ["archive", "score"] {
        let said = refused(&place, role);
        assert!(said.contains(&format!("auscult.events-{partition} is needed from offset")), "{role}: {said}");
        assert!(said.contains("nothing is skipped"), "{role}: {said}");
    }
    hands.send("raw.flat", 2, (20..30).map(fact));
    hands.forget("raw.flat", 2, Offset::Offset(25));
    let before = read_topic(&broker.bootstrap, "auscult.events").len();
    let said = refused(&place, "normalize");
    assert!(said.contains("raw.flat-2 is needed from offset 20, but holds 25 to 30"), "{said}");
    assert_eq!(read_topic(&broker.bootstrap, "auscult.events").len(), before);
}

#[test]
fn offsets_that_are_lost_stop_a_role_before_it_publishes_twice() {
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::ward(broker, 10, 48);
    let bootstrap = &scene.broker.bootstrap;
    let place = scene.place("lost");
    let daemon = place.daemon("normalize,score");
    scene.feed();
    let read = |topic: &str| {
        let mut values = read_topic(bootstrap, topic);
        values.sort_by(|a, b| (a.partition, &a.value).cmp(&(b.partition, &b.value)));
        values
    };
    let all = || {
        read_settled(bootstrap, "lost.scores", Duration::from_secs(4), LONG);
        (read("lost.scores"), read("lost.dead-letter"), sources(&read("lost.events")))
    };
    let before = all();
    assert!(!before.0.is_empty() && !before.1.is_empty());
    assert_eq!(daemon.terminate(), Some(0));

    let hands = Hands::on(bootstrap);
    let roles = [("normalize", "raw.flat"), ("score", "lost.events")];
    let committed = roles.map(|(role, topic)| hands.committed(&format!("lost-{role}"), topic, 4));
    for (role, _) in roles {
        let group = format!("lost-{role}");
        hands.forget_group(&group);
        let said = refused(&place, role);
        assert!(said.contains(&group) && said.contains("--reset-offsets"), "{said}");
    }
    // The remedy that it names.
    for ((role, _), committed) in roles.iter().zip(&committed) {
        hands.commit(&format!("lost-{role}"), committed);
    }
    let daemon = place.daemon("normalize,score");
    std::thread::sleep(Duration::from_secs(4));
    let after = all();
    assert_eq!(daemon.terminate(), Some(0));
    assert!(before.0 == after.0, "{} scores, then {}", before.0.len(), after.0.len());
    assert!(before.1 == after.1, "{} dead letters, then {}", before.1.len(), after.1.len());
    assert!(before.2 == after.2, "{} facts, then {}", before.2.len(), after.2.len());
}

#[test]
fn a_transactional_id_that_expired_is_taken_anew() {
    if !is_asked_for() {
        return;
    }
    let further = "transactional.id.expiration.ms=3000\n\
                   transaction.remove.expired.transaction.cleanup.interval.ms=500\n\
                   producer.id.expiration.ms=2000\nproducer.id.expiration.check.interval.ms=500";
    let Some(broker) = Broker::start_with(1, further) else { return };
    let mut place = Place::new("hospital", &broker.bootstrap);
    // No ticks, so that nothing is published while nothing comes.
    place.set("AUSCULT__TIME__CLOCK", "events").set("AUSCULT__KAFKA__DEADLINE", "5s");
    let mut daemon = place.daemon("normalize,score");
    made(&broker.bootstrap, "raw.flat");
    let hands = Hands::on(&broker.bootstrap);
    for burst in 1..=3 {
        hands.send("raw.flat", 1, ((burst - 1) * 100..burst * 100).map(fact));
        let log = read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() >= burst * 100);
        assert!(sources(&log).len() == burst * 100 && all_differ(&sources(&log)));
        std::thread::sleep(Duration::from_secs(6));
    }
    assert!(daemon.is_alive());
    assert!(daemon.log().contains("a role starts again"), "nothing expired, so this shows nothing:\n{}", daemon.log());
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn a_raw_topic_full_of_poison_becomes_dead_letters_and_the_good_between_becomes_events() {
    const POISON: usize = 10_000;
    let Some(broker) = Broker::start() else { return };
    let place = Place::new("hospital", &broker.bootstrap);
    let files = SiteFiles::find(Some(&place.site), None).unwrap();
    let env = [("AUSCULT__KAFKA__BROKERS".to_owned(), broker.bootstrap.clone())];
    let settings = Site::parse(&files, env.into_iter()).unwrap().settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(auscult::kafka::ensure(&settings)).unwrap();
    let feeder = Feeder::open(&settings).unwrap();
    // Of every kind but those of megabytes, of which ten thousand would measure the disk.
    let kinds: Vec<_> = bad().into_iter().filter(|(_, _, bytes)| bytes.len() < 10_000).collect();
    for i in 0..POISON {
        let (topic, _, bytes) = &kinds[i % kinds.len()];
        feeder.send(topic, None, bytes, None).unwrap();
        if i % 100 == 0 {
            feeder.send("raw.flat", None, fact(i / 100).as_bytes(), None).unwrap();
        }
    }
    feeder.flush(LONG).unwrap();
    let started = Instant::now();
    let mut daemon = place.daemon("normalize");
    let letters = read_until(&broker.bootstrap, "auscult.dead-letter", LONG, |letters| letters.len() >= POISON);
    println!("{POISON} broken records in {:.1} s with the start", started.elapsed().as_secs_f64());
    assert_eq!(letters.len(), POISON);
    let log = read_until(&broker.bootstrap, "auscult.events", LONG, |log| sources(log).len() >= 100);
    assert!(sources(&log).len() == 100 && all_differ(&sources(&log)));
    let mib = peak_mib(daemon.id());
    assert!(mib < 400, "{mib} MiB");
    assert!(daemon.is_alive());
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn a_broker_that_stands_still_for_a_minute_delays_everything_and_changes_nothing() {
    if !is_asked_for() {
        return;
    }
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::ward(broker, 20, 96);
    let calm = scene.calm();
    let place = scene.place("stalled");
    let daemon = place.daemon("normalize,score,archive");
    says(&daemon, "state recovered", LONG);
    scene.broker.signal(0, "STOP");
    std::thread::sleep(Duration::from_secs(60));
    scene.broker.signal(0, "CONT");
    read_until(&scene.broker.bootstrap, "stalled.scores", 2 * LONG, |scores| {
        scores.len() >= calm.seen(false).counts()["scores"]
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(daemon.terminate(), Some(0));
    let difference = scene.seen(&place, "stalled", false).differs(calm.seen(false));
    assert!(difference.is_none(), "{}", difference.unwrap());
}
