//! What an administrator's hands do to a broker: topics grow, records and groups go.

use std::time::{Duration, Instant};

use auscult::events::{EventsView, TICK, TOKEN, decode};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::peer::{Daemon, Place, Read, read_settled};

/// Hands on one broker.
pub struct Hands<'b> {
    bootstrap: &'b str,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl<'b> Hands<'b> {
    pub fn on(bootstrap: &'b str) -> Hands<'b> {
        let admin = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Hands { bootstrap, admin, runtime }
    }

    /// Gives a topic so many partitions.
    pub fn grow(&self, topic: &str, partitions: usize) {
        let wanted = NewPartitions::new(topic, partitions);
        let results = self.runtime.block_on(self.admin.create_partitions([&wanted], &AdminOptions::new()));
        results.unwrap().into_iter().for_each(|result| drop(result.unwrap()));
    }

    /// Deletes the records of a partition before an offset, as retention does.
    pub fn forget(&self, topic: &str, partition: i32, before: Offset) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, before).unwrap();
        let done = self.runtime.block_on(self.admin.delete_records(&list, &AdminOptions::new())).unwrap();
        done.elements().iter().for_each(|one| one.error().unwrap());
    }

    /// Deletes what a group has committed; its members must have been silent for a session.
    pub fn forget_group(&self, group: &str) {
        patiently(group, || {
            let results = self.runtime.block_on(self.admin.delete_groups(&[group], &AdminOptions::new())).unwrap();
            results.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, why)| why.to_string()))
        });
    }

    /// Commits offsets for a group without members, as `kafka-consumer-groups.sh --reset-offsets` does.
    pub fn commit(&self, group: &str, offsets: &TopicPartitionList) {
        let consumer = self.consumer(group);
        patiently(group, || consumer.commit(offsets, CommitMode::Sync).map_err(|why| why.to_string()));
    }

    /// What a group has committed of the first partitions of a topic.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for number in 0..partitions {
            list.add_partition(topic, number);
        }
        self.consumer(group).committed_offsets(list, Duration::from_secs(10)).unwrap()
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        ClientConfig::new().set("bootstrap.servers", self.bootstrap).set("group.id", group).create().unwrap()
    }

    /// Sends records to one partition.
    pub fn send(&self, topic: &str, partition: i32, records: impl IntoIterator<Item = String>) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap).set("enable.idempotence", "true");
        // A partition that is new is known soon, not after five minutes.
        config.set("topic.metadata.refresh.interval.ms", "500");
        let producer: BaseProducer = config.create().unwrap();
        for record in records {
            let mut next: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(partition).payload(&record);
            next.key = Some("k");
            let started = Instant::now();
            while let Err((why, back)) = producer.send(next) {
                assert!(started.elapsed() < Duration::from_secs(20), "{topic}-{partition}: {why}");
                producer.poll(Duration::from_millis(100));
                next = back;
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(Duration::from_secs(20)).unwrap();
    }
}

/// Tries again for a while: a group has members until their session is over.
fn patiently(group: &str, act: impl Fn() -> Result<(), String>) {
    let started = Instant::now();
    while let Err(why) = act() {
        assert!(started.elapsed() < Duration::from_secs(30), "{group}: {why}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// A heart rate of one of a few patients; the number makes it a fact of its own.
pub fn fact(number: usize) -> String {
    let (patient, minute) = (number % 7, number / 7);
    format!(
        r#"{{"patient":"p{patient}","time":"2026-01-0{}T{:02}:{:02}:00Z","code":"8867-4","system":"http://loinc.org","value":{},"unit":"/min","id":"{number}"}}"#,
        1 + minute / 1440 % 9,
        minute / 60 % 24,
        minute % 60,
        60 + number % 40
    )
}

/// Sources of the facts in the log of record, each as often as it is there, sorted.
pub fn sources(log: &[Read]) -> Vec<String> {
    let mut sources: Vec<String> =
        rows(log, |code| code != TICK && code != TOKEN).into_iter().map(|(source, _)| source).collect();
    sources.sort();
    sources
}

/// What the last ticks claim: how many raw partitions there are.
pub fn counted(log: &[Read]) -> Option<f32> {
    rows(log, |code| code == TICK).into_iter().next_back().and_then(|(_, number)| number)
}

fn rows(log: &[Read], wanted: impl Fn(&str) -> bool) -> Vec<(String, Option<f32>)> {
    let mut found = Vec::new();
    for message in log {
        let batch = decode(&message.value).unwrap();
        let view = EventsView::new(&batch).unwrap();
        let rows = (0..view.len()).map(|i| view.row(i)).filter(|row| wanted(row.code));
        found.extend(rows.map(|row| (row.source.to_owned(), row.numeric_value)));
    }
    found
}

/// Whether none of the sorted items is there twice.
pub fn all_differ(sorted: &[String]) -> bool {
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// Waits until a topic is there.
pub fn made(bootstrap: &str, topic: &str) {
    read_settled(bootstrap, topic, Duration::from_millis(300), Duration::from_secs(60));
}

/// Waits until the daemon's log says something.
pub fn says(daemon: &Daemon, text: &str, within: Duration) {
    let started = Instant::now();
    while !daemon.log().contains(text) {
        assert!(started.elapsed() < within, "'{text}' is not said within {within:?}:\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs roles that must refuse to; gives what they say.
pub fn refused(place: &Place, roles: &str) -> String {
    let mut daemon = place.daemon(roles);
    assert!(daemon.ends_within(Duration::from_secs(60)), "{roles} goes on:\n{}", daemon.log());
    assert_eq!(daemon.code(), Some(1), "{}", daemon.log());
    daemon.log().lines().last().unwrap_or_default().to_owned()
}
