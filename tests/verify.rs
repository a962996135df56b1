//! `inspect` and `verify` on a real broker: beside a daemon, after it, and after things were forged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use auscult::events::{EventKey, EventRef, EventsBuilder, EventsView, TICK, decode};
use auscult::library::{Library, Table, predictions_batch, with_position};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::peer::{Place, Read, read_settled, read_topic};

const WAIT: Duration = Duration::from_secs(20);

/// A place whose clock is that of the data.
fn place(bootstrap: &str) -> Place {
    let mut place = Place::new("hospital", bootstrap);
    place
        .set("AUSCULT__TIME__CLOCK", "log")
        .set("AUSCULT__TIME__TICK", "5min")
        .set("AUSCULT__TIME__IDLE", "2s")
        .set("AUSCULT__ARCHIVE__EVERY", "500ms")
        .set("AUSCULT__LIMITS__BATCH_RECORDS", "250");
    place
}

/// What `verify` says, and its exit code.
fn verify(place: &Place) -> (Vec<Value>, Option<i32>) {
    let output = place.run(&["verify"]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    let invariants = report["invariants"].as_array().unwrap().clone();
    let numbers: Vec<u64> = invariants.iter().map(|one| one["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    (invariants, output.status.code())
}

fn holds(invariants: &[Value]) -> Vec<Value> {
    invariants.iter().map(|one| one["holds"].clone()).collect()
}

/// What is violated of an invariant: what, topic and partition.
fn violations(invariants: &[Value], number: usize) -> Vec<(String, String, i64)> {
    let all = invariants[number - 1]["violations"].as_array().unwrap();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    all.iter().map(|one| (text(one, "what"), text(one, "topic"), one["partition"].as_i64().unwrap())).collect()
}

/// The partitions of a topic as `inspect` tells of them.
fn partitions(report: &Value, topic: &str) -> Vec<Value> {
    let topics = report["topics"].as_array().unwrap();
    topics.iter().find(|one| one["topic"] == topic).unwrap()["partitions"].as_array().unwrap().clone()
}

/// Waits until the role has read all of a topic.
fn until_read(place: &Place, role: &str, topic: &str) -> Value {
    let started = Instant::now();
    loop {
        let report = place.json(&["inspect"]);
        let is_read = |one: &Value| {
            let reader = one["readers"].as_array().unwrap().iter().find(|reader| reader["role"] == role);
            one["stable"] == 0 || reader.is_some_and(|reader| reader["lag"] == 0 && !reader["next"].is_null())
        };
        if partitions(&report, topic).iter().all(is_read) {
            return report;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{role} has not read {topic}: {report}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn producer(bootstrap: &str, transactional: bool) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    if transactional {
        config.set("transactional.id", "a-stranger");
    }
    config.create().unwrap()
}

/// Writes a message as another process would; of a topic that it was read from, the same again.
fn forge(bootstrap: &str, topic: &str, read: &Read) {
    let producer = producer(bootstrap, false);
    let mut headers = OwnedHeaders::new();
    for (key, value) in &read.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let record = BaseRecord::to(topic).partition(read.partition).key(&read.key).payload(&read.value).headers(headers);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(WAIT).unwrap();
}

#[test]
fn without_a_broker_inspect_and_verify_say_so_and_exit_1() {
    let mut place = Place::new("hospital", "127.0.0.1:1");
    place.set("AUSCULT__KAFKA__DEADLINE", "2s");
    for command in ["inspect", "verify"] {
        let output = place.run(&[command]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        let own: Vec<&str> = said.lines().filter(|line| line.starts_with("auscult: ")).collect();
        assert!(own.len() == 1 && own[0].contains("127.0.0.1:1") && own[0].contains("kafka.brokers"), "{said}");
    }
}

#[test]
fn invariants_01_to_04_are_proved_on_what_is_there_and_every_forgery_is_found() {
    let Some(broker) = Broker::start() else { return };
    let bootstrap = &broker.bootstrap;
    let place = place(bootstrap);

    // Nothing there yet, and nothing is made.
    let report = place.json(&["inspect"]);
    assert!(report["topics"].as_array().unwrap().iter().all(|topic| topic["partitions"] == json!([])), "{report}");
    assert!(report["groups"].as_array().unwrap().iter().all(|group| group["state"].is_null()), "{report}");
    assert!(report["tables"].as_array().unwrap().iter().all(|table| table["version"].is_null()), "{report}");
    let (invariants, code) = verify(&place);
    assert_eq!((holds(&invariants), code), (vec![Value::Null; 4], Some(0)));
    assert!(!std::path::Path::new(&place.path("library")).exists());
    assert!(!std::path::Path::new(&place.path("registry")).exists());

    let history = place.run(&["simulate", "--patients", "700", "--hours", "336", "--seed", "1"]);
    place.json(&["import", &place.file("history.jsonl", &history.stdout)]);
    let trained = place.json(&["train", "--task", "deterioration"]);
    assert_eq!(trained["promoted"], true, "{trained}");

    // Beside a daemon that is at work.
    let daemon = place.daemon("normalize,score,archive");
    read_settled(bootstrap, "raw.flat", Duration::from_millis(300), Duration::from_secs(60));
    let ward = place.file("ward.jsonl", &place.broken_ward(60, 72));
    let unread = place.file("unread.json", br#"{"resourceType":"Practitioner","id":"1"}"#);
    place.json(&["feed", "--topic", "raw.fhir", "--format", "fhir", &unread]);
    let sent = place.json(&["feed", "--topic", "raw.flat", "--key", "patient", &ward])["sent"].as_u64().unwrap();
    let (invariants, code) = verify(&place);
    assert_eq!((invariants.iter().find(|one| one["holds"] == false), code), (None, Some(0)));
    read_settled(bootstrap, "auscult.scores", Duration::from_secs(6), Duration::from_secs(120));
    let report = until_read(&place, "archive", "auscult.scores");
    let group = |report: &Value, role: &str| {
        report["groups"].as_array().unwrap().iter().find(|group| group["role"] == role).unwrap().clone()
    };
    let score = group(&report, "score");
    assert_eq!((&score["state"], &score["protocol"]), (&json!("Stable"), &json!("cooperative-sticky")), "{report}");
    assert!(score["members"][0]["id"].as_str().unwrap().starts_with("auscult-score-0"), "{report}");
    assert_eq!((&report["champions"][0]["version"], &report["champions"][0]["ledger"]), (&json!(1), &json!(2)));
    assert_eq!(daemon.terminate(), Some(0));

    let report = place.json(&["inspect"]);
    for one in partitions(&report, "auscult.events") {
        let (stable, archived) = (one["stable"].as_i64().unwrap(), one["archived"].as_i64().unwrap());
        assert!(stable > 0 && archived < stable && one["pending"] == 0 && one["end"] == stable, "{one}");
        assert_eq!(one["readers"][0]["role"], "score");
        let next = one["readers"][0]["next"].as_i64().unwrap();
        assert_eq!(one["recovery"], json!({"replay": (next - archived - 1).max(0), "possible": true}), "{one}");
    }
    let table =
        |name: &str| report["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap().clone();
    assert!(table("events")["rows"].as_u64().unwrap() > 20_000 && table("events")["bytes"].as_u64() > Some(100_000));
    assert!(table("alerts")["rows"].as_u64().unwrap() > 0, "{report}");

    // A stranger's transaction hides what comes after it; what it held is no record once it is given up.
    let stranger = producer(bootstrap, true);
    stranger.init_transactions(WAIT).unwrap();
    stranger.begin_transaction().unwrap();
    let record = BaseRecord::<[u8], [u8]>::to("auscult.events").partition(2).payload(b"no events");
    stranger.send(record).map_err(|(error, _)| error).unwrap();
    stranger.flush(WAIT).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    let open = &partitions(&place.json(&["inspect"]), "auscult.events")[2];
    assert_eq!((&open["pending"], open["end"].as_i64()), (&json!(1), Some(open["stable"].as_i64().unwrap() + 1)));
    assert!(open["pending_seconds"].as_f64().unwrap() > 1.0, "{open}");
    stranger.abort_transaction(WAIT).unwrap();
    let given_up = &partitions(&place.json(&["inspect"]), "auscult.events")[2];
    assert_eq!((&given_up["pending"], &given_up["pending_seconds"]), (&json!(0), &Value::Null));

    let (invariants, code) = verify(&place);
    assert_eq!((holds(&invariants), code), (vec![json!(true); 4], Some(0)), "{invariants:?}");
    let checked = |number: usize, what: &str| invariants[number - 1]["checked"][what].as_u64().unwrap_or(0);
    let letters = read_topic(bootstrap, "auscult.dead-letter");
    let scores = read_topic(bootstrap, "auscult.scores");
    assert_eq!(checked(1, "dead_letters"), letters.len() as u64);
    assert_eq!((checked(1, "offsets"), checked(1, "dropped")), (sent + 1, 1));
    assert_eq!(checked(1, "with_events") + checked(1, "dead_letters") + checked(1, "without_events"), sent);
    assert_eq!((checked(2, "scores"), checked(2, "predictions")), (scores.len() as u64, scores.len() as u64));
    assert!(checked(2, "alerts") > 0 && scores.len() > 300);
    assert!(checked(3, "partitions") == 4 && checked(3, "offsets_from_the_library") > 0);
    assert!(checked(4, "rows") > 5_000 && checked(4, "rows_imported") > 20_000 && checked(4, "commits") > 5);

    // 1: a dead letter there twice, and an event.
    forge(bootstrap, "auscult.dead-letter", &letters[0]);
    let (invariants, code) = verify(&place);
    assert_eq!((holds(&invariants), code), (json!([false, true, true, true]).as_array().unwrap().clone(), Some(1)));
    let twice = ("a record has two dead letters".to_owned(), "auscult.dead-letter".to_owned());
    let found = violations(&invariants, 1);
    assert_eq!(found, [(twice.0.clone(), twice.1.clone(), i64::from(letters[0].partition))]);

    let log = read_topic(bootstrap, "auscult.events");
    let is_of_records = |read: &&Read| {
        let batch = decode(&read.value).unwrap();
        let view = EventsView::new(&batch).unwrap();
        (0..view.len()).any(|row| view.row(row).numeric_value.is_some() && view.row(row).code != TICK)
    };
    let copied = log.iter().find(is_of_records).unwrap();
    let offset = partitions(&place.json(&["inspect"]), "auscult.events")[copied.partition as usize]["end"].clone();
    forge(bootstrap, "auscult.events", copied);
    let (invariants, _) = verify(&place);
    assert_eq!(holds(&invariants), [json!(false), json!(true), json!(true), json!(true)]);
    let doubled = &invariants[0]["violations"][0];
    assert_eq!(doubled["what"], "an event is in the log twice, or out of the order of its records");
    assert_eq!((&doubled["partition"], &doubled["offset"]), (&json!(copied.partition), &offset), "{doubled}");

    // 1: records that role normalize passed over.
    let lost = r#"{"patient":"lost","time":"2026-01-01T00:00:00Z","code":"8867-4","system":"http://loinc.org","value":71,"unit":"/min"}"#;
    let raw = |value: &str| Read {
        partition: 1,
        key: Vec::new(),
        value: value.as_bytes().to_vec(),
        headers: BTreeMap::new(),
    };
    for value in [lost, "{", lost] {
        forge(bootstrap, "raw.flat", &raw(value));
    }
    let group: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", "auscult-normalize").create().unwrap();
    let end = group.fetch_watermarks("raw.flat", 1, WAIT).unwrap().1;
    let mut passed = TopicPartitionList::new();
    passed.add_partition_offset("raw.flat", 1, Offset::Offset(end)).unwrap();
    // The broker refuses while it takes the daemon for a member that may come back.
    let started = Instant::now();
    while let Err(error) = group.commit(&passed, CommitMode::Sync) {
        assert!(started.elapsed() < Duration::from_secs(40), "{error}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let (invariants, _) = verify(&place);
    let is_lost =
        |one: &&(String, String, i64)| one.0.starts_with("a record is lost") && one.1 == "raw.flat" && one.2 == 1;
    assert_eq!(violations(&invariants, 1).iter().filter(is_lost).count(), 3, "{invariants:?}");

    // 2: a score there twice.
    forge(bootstrap, "auscult.scores", &scores[0]);
    let (invariants, _) = verify(&place);
    assert_eq!(holds(&invariants), [json!(false), json!(false), json!(true), json!(true)]);
    let partition = i64::from(scores[0].partition);
    let twice = ("a prediction is scored twice".to_owned(), "auscult.scores".to_owned(), partition);
    assert_eq!(violations(&invariants, 2), [twice]);

    // 4: a row of the library that no message has; 3: a history that is not the log's.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let library = runtime.block_on(Library::open(&place.path_url("library"))).unwrap();
    let rows = predictions_batch(&[(0, 1_000_000, &scores[0].value)]).unwrap();
    runtime.block_on(library.append(Table::Predictions, vec![rows], &[(0, 1_000_000)].into())).unwrap();
    let batch = decode(&copied.value).unwrap();
    let view = EventsView::new(&batch).unwrap();
    let mut builder = EventsBuilder::new();
    for row in (0..view.len()).map(|row| view.row(row)) {
        builder.push(&EventRef { event_key: EventKey([7; 16]), numeric_value: Some(1.0), ..row }).unwrap();
    }
    let (number, offset) = (copied.partition as u32, offset.as_i64().unwrap());
    let forged = with_position(&builder.finish().unwrap(), number, offset).unwrap();
    runtime.block_on(library.append(Table::Events, vec![forged], &[(number, offset)].into())).unwrap();
    let daemon = place.daemon("score");
    until_read(&place, "score", "auscult.events");
    assert_eq!(daemon.terminate(), Some(0));
    let (invariants, code) = verify(&place);
    assert_eq!((holds(&invariants), code), (vec![json!(false); 4], Some(1)));
    let other = "a restart here gives another state than the log does".to_owned();
    assert_eq!(violations(&invariants, 3), [(other, "auscult.events".to_owned(), i64::from(copied.partition))]);
    let expected = [
        ("a message says something else in the library", "auscult.events", i64::from(copied.partition)),
        ("a message is missing in the library", "auscult.scores", partition),
        ("the library holds rows that no message of the topic has", "auscult.scores", 0),
    ];
    for (what, topic, partition) in expected.iter().filter(|one| one.0 != expected[1].0 || partition == 0) {
        let found = violations(&invariants, 4);
        assert!(found.contains(&((*what).to_owned(), (*topic).to_owned(), *partition)), "{what}: {found:?}");
    }
    let report = place.run(&["verify"]);
    let subject = String::from_utf8(scores[0].key.clone()).unwrap();
    assert!(!String::from_utf8_lossy(&[report.stdout, report.stderr].concat()).contains(&subject));
}

/// Takes away what a topic holds before these offsets, as its retention would.
fn forget(bootstrap: &str, topic: &str, before: impl Iterator<Item = (i32, i64)>) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in before {
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(admin.delete_records(&offsets, &AdminOptions::new())).unwrap();
}

#[test]
fn what_retention_took_away_is_read_from_the_library_or_not_judged() {
    let Some(broker) = Broker::start() else { return };
    let bootstrap = &broker.bootstrap;
    let place = place(bootstrap);
    let daemon = place.daemon("normalize,score,archive");
    read_settled(bootstrap, "raw.flat", Duration::from_millis(300), Duration::from_secs(60));
    let ward = place.file("ward.jsonl", &place.broken_ward(20, 72));
    place.json(&["feed", "--topic", "raw.flat", "--key", "patient", &ward]);
    read_settled(bootstrap, "auscult.scores", Duration::from_secs(6), Duration::from_secs(120));
    until_read(&place, "archive", "auscult.scores");
    assert_eq!(daemon.terminate(), Some(0));
    let (invariants, _) = verify(&place);
    assert_eq!(holds(&invariants), [json!(true), json!(true), json!(true), json!(true)], "{invariants:?}");

    // The library still holds what Kafka does not.
    let archived = |report: &Value| -> Vec<(i32, i64)> {
        let all = partitions(report, "auscult.events");
        (0..).zip(&all).map(|(number, one)| (number, one["archived"].as_i64().unwrap())).collect()
    };
    let report = place.json(&["inspect"]);
    forget(bootstrap, "auscult.events", archived(&report).into_iter().map(|(number, at)| (number, at / 2)));
    let scored: Vec<i64> =
        partitions(&report, "auscult.scores").iter().map(|one| one["end"].as_i64().unwrap()).collect();
    forget(bootstrap, "auscult.scores", (0..).zip(&scored).map(|(number, end)| (number, end / 2)));
    let (invariants, code) = verify(&place);
    assert_eq!((holds(&invariants), code), (vec![json!(true), json!(true), Value::Null, json!(true)], Some(0)));
    assert!(invariants[2]["note"].as_str().unwrap().contains("auscult.events-0"), "{invariants:?}");
    assert!(invariants[1]["checked"]["scores_gone"].as_u64().unwrap() > 0, "{invariants:?}");
    assert!(invariants[3]["checked"]["rows_gone_from_kafka"].as_u64().unwrap() > 0, "{invariants:?}");

    // What neither holds cannot be judged, and a score role could not start.
    let ends = partitions(&place.json(&["inspect"]), "auscult.events");
    let beyond = (0..).zip(&ends).map(|(number, one)| (number, one["end"].as_i64().unwrap()));
    std::fs::remove_dir_all(place.path("library")).unwrap();
    forget(bootstrap, "auscult.events", beyond);
    let (invariants, code) = verify(&place);
    assert_eq!((holds(&invariants), code), (vec![Value::Null; 4], Some(0)), "{invariants:?}");
    let recovery = &partitions(&place.json(&["inspect"]), "auscult.events")[0]["recovery"];
    assert_eq!(recovery, &json!({"replay": null, "possible": false}));
}
