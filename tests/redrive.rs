//! Dead letters go back when their cause is mended: accepted exactly once, whatever ends `redrive`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use auscult::events::{EventsView, decode};
use auscult::kafka::Feeder;
use auscult::roles::Site;
use auscult::settings::{Settings, SiteFiles};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::broker::Broker;
use crate::peer::{Place, Read, read_topic, read_until};

/// A record whose unit no rule of the site converts.
fn record(i: usize, unit: &str) -> String {
    format!(
        r#"{{"patient":"p{}","time":"2026-01-01T00:00:00Z","code":"8867-4","system":"http://loinc.org","value":71,"unit":"{unit}","id":"{i}"}}"#,
        i % 97
    )
}

/// A copy of the hospital's site, the same but for its rules.
fn site(dir: &Path, rules: impl Fn(String) -> String) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/hospital");
    std::fs::create_dir_all(dir.join("tasks")).unwrap();
    for name in ["auscult.toml", "concepts.csv", "features.toml"] {
        std::fs::copy(from.join(name), dir.join(name)).unwrap();
    }
    let sql = std::fs::read_to_string(from.join("normalize.sql")).unwrap();
    std::fs::write(dir.join("normalize.sql"), rules(sql)).unwrap();
    dir.to_owned()
}

/// The site's rules, with one more: what is measured in beats needs no conversion.
fn mended(sql: String) -> String {
    let before = "mapped.unit IS NOT NULL AND units.factor IS NULL AS strange";
    let after = "mapped.unit IS NOT NULL AND mapped.unit <> 'beats' AND units.factor IS NULL AS strange";
    assert!(sql.contains(before));
    sql.replace(before, after)
}

/// The settings of a place, and its topics made.
fn settings(place: &Place, bootstrap: &str) -> Settings {
    let files = SiteFiles::find(Some(&place.site), None).unwrap();
    let env = [("AUSCULT__KAFKA__BROKERS".to_owned(), bootstrap.to_owned())];
    let settings = Site::parse(&files, env.into_iter()).unwrap().settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(auscult::kafka::ensure(&settings)).unwrap();
    settings
}

/// Events of that concept in the log.
fn events(messages: &[Read], concept: &str) -> usize {
    let of = |message: &Read| {
        let batch = decode(&message.value).unwrap();
        let view = EventsView::new(&batch).unwrap();
        (0..view.len()).filter(|&i| view.row(i).concept == Some(concept)).count()
    };
    messages.iter().map(of).sum()
}

fn redriven(bootstrap: &str) -> Vec<String> {
    read_topic(bootstrap, "raw.flat")
        .iter()
        .filter_map(|message| message.headers.get("redriven-from").cloned())
        .collect()
}

/// Empties the dead-letter topic, as its retention would.
fn forget_letters(bootstrap: &str, partitions: u32) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let mut ends = TopicPartitionList::new();
    for partition in 0..partitions as i32 {
        ends.add_partition_offset("auscult.dead-letter", partition, Offset::End).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(admin.delete_records(&ends, &AdminOptions::new())).unwrap();
}

#[test]
fn redriven_letters_are_accepted_once_though_redrive_is_killed() {
    const N: usize = 20_000;
    let Some(broker) = Broker::start() else { return };
    let sites = tempfile::TempDir::new().unwrap();
    let place = Place::of(site(&sites.path().join("before"), |sql| sql), &broker.bootstrap);
    let settings = settings(&place, &broker.bootstrap);
    let feeder = Feeder::open(&settings).unwrap();
    for i in 0..N {
        feeder.send("raw.flat", None, record(i, "beats").as_bytes(), None).unwrap();
    }
    feeder.send("raw.flat", None, b"{", None).unwrap();
    feeder.send("raw.flat", None, record(N, "/min").as_bytes(), None).unwrap();
    feeder.flush(Duration::from_secs(20)).unwrap();
    let daemon = place.daemon("normalize");
    let letters = |n: usize| {
        read_until(&broker.bootstrap, "auscult.dead-letter", Duration::from_secs(60), |letters| letters.len() >= n)
    };
    assert_eq!(letters(N + 1).len(), N + 1);
    assert_eq!(daemon.terminate(), Some(0));
    assert_eq!(place.run(&["redrive", "--reason", "no_such_reason"]).status.code(), Some(2));

    // The cause is mended, and redrive is killed until one of them dies in the middle.
    let place = Place::of(site(&sites.path().join("after"), mended), &broker.bootstrap);
    let (mut after, mut in_the_middle) = (Duration::from_millis(150), false);
    while !in_the_middle {
        let mut child = place
            .command(&["redrive", "--reason", "unit"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().unwrap();
        let sent = redriven(&broker.bootstrap).len();
        println!("killed after {after:?}: {sent} letters of {N} sent");
        assert!(sent < N, "redrive was through before it could be killed");
        in_the_middle = sent > 0;
        after += Duration::from_millis(100);
    }
    // Two at a time: the second takes over, and the first can commit nothing more.
    let both: Vec<_> = (0..2)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(300));
            place.command(&["redrive", "--reason", "unit"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let succeeded: Vec<bool> = both.into_iter().map(|mut child| child.wait().unwrap().success()).collect();
    println!("of two redrives at a time these succeeded: {succeeded:?}");
    let before = redriven(&broker.bootstrap).len();
    assert_eq!(place.json(&["redrive", "--reason", "unit"])["sent"], N - before);
    let mut sent = redriven(&broker.bootstrap);
    assert_eq!(sent.len(), N);
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), N, "a letter was sent twice");
    assert_eq!(place.json(&["redrive", "--reason", "unit"])["sent"], 0);

    // What cannot be mended goes once more, as the new letter that it becomes.
    let daemon = place.daemon("normalize");
    assert_eq!(place.json(&["redrive"])["sent"], 1);
    assert_eq!(letters(N + 2).len(), N + 2);
    assert_eq!(place.json(&["redrive", "--reason", "syntax"])["sent"], 1);
    assert_eq!(letters(N + 3).len(), N + 3);
    read_until(&broker.bootstrap, "auscult.events", Duration::from_secs(60), |m| events(m, "heart_rate") > N);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(events(&read_topic(&broker.bootstrap, "auscult.events"), "heart_rate"), N + 1);
    assert_eq!(daemon.terminate(), Some(0));

    // Each of all these records has one end.
    let verified = place.json(&["verify"]);
    let records = &verified["invariants"][0];
    assert_eq!((&records["holds"], &records["checked"]["dead_letters"]), (&true.into(), &(N + 3).into()), "{verified}");
    println!("verified in {} s", verified["seconds"]);

    // The marks go with their letters.
    forget_letters(&broker.bootstrap, settings.topics.partitions);
    for _ in 0..2 {
        assert_eq!(place.json(&["redrive"])["sent"], 0);
    }
    let marks = read_topic(&broker.bootstrap, "auscult.redriven");
    assert_eq!(marks.iter().filter(|mark| !mark.value.is_empty()).count(), N + 2);
    let mut gone: Vec<&Vec<u8>> = marks.iter().filter(|mark| mark.value.is_empty()).map(|mark| &mark.key).collect();
    assert_eq!(gone.len(), N + 2);
    gone.sort_unstable();
    gone.dedup();
    assert_eq!(gone.len(), N + 2);
}

#[test]
fn a_record_longer_than_any_message_of_the_site_is_kept_whole_and_goes_back() {
    let Some(broker) = Broker::start() else { return };
    let mut place = Place::new("hospital", &broker.bootstrap);
    let settings = settings(&place, &broker.bootstrap);
    // Topics take more than the site does, as where another system made them.
    place.set("AUSCULT__LIMITS__RECORD_BYTES", "20000").set("AUSCULT__LIMITS__BATCH_BYTES", "16384");
    let long = record(1, "/min").replacen('{', &format!(r#"{{"padding":"{}","#, "x".repeat(2_500_000)), 1);
    let feeder = Feeder::open(&settings).unwrap();
    feeder.send("raw.flat", None, long.as_bytes(), None).unwrap();
    feeder.send("raw.flat", None, b"", None).unwrap();
    feeder.flush(Duration::from_secs(20)).unwrap();
    let mut daemon = place.daemon("normalize");
    let whole = |letters: &[Read]| {
        let parts = |letter: &&Read| letter.headers["reason"] == "too_large";
        letters.iter().filter(parts).flat_map(|letter| letter.value.clone()).collect::<Vec<u8>>()
    };
    let letters = read_until(&broker.bootstrap, "auscult.dead-letter", Duration::from_secs(60), |letters| {
        whole(letters).len() >= long.len() && letters.iter().any(|letter| letter.headers["reason"] == "empty")
    });
    assert!(whole(&letters) == long.as_bytes(), "the parts are not the record");
    let of = letters.iter().filter_map(|letter| letter.headers.get("part")).count();
    assert!(of > 10, "{of} parts");
    assert!(daemon.is_alive());
    assert_eq!(daemon.terminate(), Some(0));

    let place = Place::new("hospital", &broker.bootstrap);
    let daemon = place.daemon("normalize");
    let done = place.json(&["redrive", "--reason", "too_large"]);
    assert_eq!((&done["sent"], &done["left"]), (&1.into(), &0.into()));
    read_until(&broker.bootstrap, "auscult.events", Duration::from_secs(60), |m| events(m, "heart_rate") == 1);
    assert_eq!(place.json(&["redrive", "--reason", "too_large"])["sent"], 0);
    assert_eq!(place.json(&["redrive", "--reason", "empty"])["sent"], 1);
    assert_eq!(daemon.terminate(), Some(0));
}
