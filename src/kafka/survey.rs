//! What the brokers say of topics and groups, asked from outside: no group is joined, nothing is committed.
//!
//! The end of a log is asked for twice, by a reader of everything and by one of committed records only;
//! what lies between is of transactions that are not decided yet. librdkafka tells nothing of who has
//! these open (no transactional id, no producer epoch), and rdkafka nothing of leader epochs and of the
//! generation of a group.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as Cause, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::table::{Quiet, assign, watermarks};
use super::{KafkaError, NextOffset, client, partitions};
use crate::settings::{Kafka, Settings};

/// How often is asked again while a transaction is open.
const AGAIN: Duration = Duration::from_millis(50);

/// Where the log of a partition begins and ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ends {
    /// First offset that is there.
    pub low: i64,
    /// Offset of the next record written.
    pub end: i64,
    /// Where read_committed readers come to at present: the first record of the oldest transaction that
    /// is not decided, else the end.
    pub stable: i64,
}

/// A consumer group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// State: `Stable`, `Empty`, `PreparingRebalance` …
    pub state: String,
    /// How partitions are assigned; empty without members.
    pub protocol: String,
    /// Member and client id of each member.
    pub members: Vec<(String, String)>,
}

/// Asks a cluster.
pub struct Survey {
    kafka: Kafka,
    partitions: HashMap<String, usize>,
    /// Reads everything.
    all: BaseConsumer<Quiet>,
    /// Reads what is committed.
    committed: BaseConsumer<Quiet>,
}

impl std::fmt::Debug for Survey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survey").field("topics", &self.partitions.len()).finish_non_exhaustive()
    }
}

impl Survey {
    /// Asks for the topics there are.
    ///
    /// # Errors
    /// If no broker answers within `kafka.deadline`.
    pub fn open(settings: &Settings) -> Result<Self, KafkaError> {
        let kafka = settings.kafka.clone();
        let partitions = partitions(settings)?;
        let (all, committed) = (reader(&kafka, None, "read_uncommitted")?, reader(&kafka, None, "read_committed")?);
        Ok(Survey { kafka, partitions, all, committed })
    }

    /// Partitions of a topic; none if it is not there.
    pub fn partitions(&self, topic: &str) -> i32 {
        self.partitions.get(topic).map_or(0, |partitions| *partitions as i32)
    }

    /// The ends of a partition as they are now.
    ///
    /// # Errors
    /// If the broker does not answer within `kafka.deadline`.
    pub fn ends(&self, topic: &str, partition: i32) -> Result<Ends, KafkaError> {
        // In this order, so that what is written in between does not look undecided.
        let (_, stable) = watermarks(&self.committed, topic, partition, self.kafka.deadline)?;
        let (low, end) = watermarks(&self.all, topic, partition, self.kafka.deadline)?;
        if stable == end {
            return Ok(Ends { low, end, stable });
        }
        let (_, stable) = watermarks(&self.committed, topic, partition, self.kafka.deadline)?;
        Ok(Ends { low, end, stable: stable.min(end) })
    }

    /// The same, once the transactions that are open now are decided. Whose stable end is before the
    /// other then holds one that was not decided within `kafka.deadline`.
    ///
    /// # Errors
    /// If the broker does not answer within `kafka.deadline`.
    pub fn settled(&self, topic: &str, partition: i32) -> Result<Ends, KafkaError> {
        let started = Instant::now();
        let mut ends = self.ends(topic, partition)?;
        while ends.stable < ends.end && started.elapsed() < self.kafka.deadline {
            std::thread::sleep(AGAIN);
            let (_, stable) = watermarks(&self.committed, topic, partition, self.kafka.deadline)?;
            ends.stable = stable.min(ends.end);
        }
        Ok(ends)
    }

    /// When the first record at or after an offset arrived, decided or not: milliseconds since the epoch.
    /// `None` if there is none.
    ///
    /// # Errors
    /// If the broker does not answer within `kafka.deadline`.
    pub fn arrived(&self, topic: &str, partition: i32, offset: NextOffset) -> Result<Option<i64>, KafkaError> {
        self.first(&self.all, topic, partition, offset)
    }

    /// The same of the first record that read_committed readers see: what follows may be nothing but the
    /// markers of transactions.
    ///
    /// # Errors
    /// If the broker does not answer within `kafka.deadline`.
    pub fn waiting(&self, topic: &str, partition: i32, offset: NextOffset) -> Result<Option<i64>, KafkaError> {
        self.first(&self.committed, topic, partition, offset)
    }

    fn first(
        &self,
        reader: &BaseConsumer<Quiet>,
        topic: &str,
        partition: i32,
        offset: NextOffset,
    ) -> Result<Option<i64>, KafkaError> {
        assign(reader, topic, [(partition, Offset::Offset(offset.0))].into_iter())?;
        let started = Instant::now();
        let found = loop {
            match reader.poll(Duration::from_millis(100)) {
                // Of another partition is what was fetched for the question before.
                Some(Ok(record)) if record.topic() == topic && record.partition() == partition => {
                    break Ok(record.timestamp().to_millis());
                }
                Some(Err(Cause::PartitionEOF(number))) if number == partition => break Ok(None),
                Some(Err(cause)) if !matches!(cause, Cause::PartitionEOF(_)) => {
                    tracing::warn!(%cause, "reading a record, retrying");
                }
                _ => {}
            }
            if started.elapsed() > self.kafka.deadline {
                break Err(KafkaError::Deadline { what: "reading a record", deadline: self.kafka.deadline });
            }
        };
        reader.unassign().map_err(KafkaError::Consume)?;
        found
    }

    /// The group of a role; `None` if the cluster knows of none.
    ///
    /// # Errors
    /// If a broker does not answer within `kafka.deadline`.
    pub fn group(&self, role: &str) -> Result<Option<Group>, KafkaError> {
        let name = client::group(&self.kafka, role);
        let started = Instant::now();
        let groups = loop {
            match self.all.fetch_group_list(Some(&name), self.kafka.deadline) {
                Ok(groups) => break groups,
                // A broker that has just started does not know its groups yet.
                Err(Cause::GroupListFetch(RDKafkaErrorCode::CoordinatorLoadInProgress))
                    if started.elapsed() < self.kafka.deadline =>
                {
                    std::thread::sleep(AGAIN);
                }
                Err(cause) => return Err(KafkaError::Ask { what: "a consumer group", cause }),
            }
        };
        // A group that is gone is told of as dead.
        let found = groups.groups().iter().find(|group| group.name() == name && group.state() != "Dead");
        Ok(found.map(|group| Group {
            state: group.state().to_owned(),
            protocol: group.protocol().to_owned(),
            members: group.members().iter().map(|one| (one.id().to_owned(), one.client_id().to_owned())).collect(),
        }))
    }

    /// Committed offsets of the group of a role, partition by partition, as they stand.
    ///
    /// # Errors
    /// If the broker does not answer within `kafka.deadline`.
    pub fn committed(&self, role: &str, topic: &str) -> Result<Vec<Option<NextOffset>>, KafkaError> {
        self.offsets(role, topic, "read_uncommitted")
    }

    /// The same, once the transactions that commit offsets now are decided.
    ///
    /// # Errors
    /// If the broker does not answer, or they are not decided, within `kafka.deadline`.
    pub fn committed_settled(&self, role: &str, topic: &str) -> Result<Vec<Option<NextOffset>>, KafkaError> {
        self.offsets(role, topic, "read_committed")
    }

    fn offsets(&self, role: &str, topic: &str, isolation: &str) -> Result<Vec<Option<NextOffset>>, KafkaError> {
        let count = self.partitions(topic);
        // Asked of a group that never was, brokers would make their topic for offsets.
        if count == 0 || self.group(role)?.is_none() {
            return Ok(vec![None; count as usize]);
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, count - 1);
        let reader = reader(&self.kafka, Some(role), isolation)?;
        let committed = reader
            .committed_offsets(list, self.kafka.deadline)
            .map_err(|cause| KafkaError::Ask { what: "committed offsets", cause })?;
        let of = |number| match committed.find_partition(topic, number)?.offset() {
            Offset::Offset(offset) => Some(NextOffset(offset)),
            _ => None,
        };
        Ok((0..count).map(of).collect())
    }
}

/// A reader that never joins the group, if it is asked to speak of one.
fn reader(kafka: &Kafka, role: Option<&str>, isolation: &str) -> Result<BaseConsumer<Quiet>, KafkaError> {
    let mut config = client::reader(kafka, "survey");
    config.set("isolation.level", isolation);
    if let Some(role) = role {
        config.set("group.id", client::group(kafka, role));
    }
    config.create_with_context(Quiet).map_err(|cause| KafkaError::Client { client: "survey", cause })
}
