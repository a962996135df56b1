//! The topics a site needs, made where they are missing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::{KafkaError, client};
use crate::settings::Settings;

/// A topic as a site wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Name.
    pub name: String,
    /// Partitions.
    pub partitions: u32,
    /// Whether only the last value a key is kept.
    pub compacted: bool,
    /// Whether the number of partitions must be just this one.
    pub exact: bool,
}

/// Raw and own topics of a site.
pub fn wanted(settings: &Settings) -> Vec<Wanted> {
    let topics = &settings.topics;
    let topic =
        |name: &str, partitions, compacted, exact| Wanted { name: name.to_owned(), partitions, compacted, exact };
    let n = topics.partitions;
    let mut all: Vec<Wanted> = topics.raw.iter().map(|raw| topic(&raw.topic, n, false, false)).collect();
    all.extend([
        topic(&topics.events, n, false, true),
        topic(&topics.scores, n, false, false),
        topic(&topics.alerts, n, false, false),
        // Partition p holds the memory of the subjects in partition p of the events.
        topic(&topics.alert_state, n, true, true),
        topic(&topics.models, 1, true, true),
        topic(&topics.dead_letter, n, false, false),
        topic(&topics.redriven, 1, true, true),
        topic(&topics.feedback, n, false, false),
        // One order for all links of the site, and so one partition.
        topic(&topics.links, 1, false, true),
        topic(&topics.identity, 1, true, true),
    ]);
    all
}

/// Makes the missing topics and checks those whose partitions matter.
///
/// # Errors
/// If no broker answers within `kafka.deadline`, a topic cannot be made, or has the wrong partitions.
pub async fn ensure(settings: &Settings) -> Result<(), KafkaError> {
    let deadline = settings.kafka.deadline;
    let wanted = wanted(settings);
    let cluster = Cluster::open(settings)?;
    let mut found = cluster.topics()?;
    let missing: Vec<&Wanted> = wanted.iter().filter(|want| !found.contains_key(&want.name)).collect();
    if !missing.is_empty() {
        create(settings, &missing, deadline).await?;
        let started = Instant::now();
        // A topic is known to its creator before it is known to every broker.
        while missing.iter().any(|want| found.get(&want.name).is_none_or(|partitions| *partitions == 0)) {
            if started.elapsed() > deadline {
                return Err(KafkaError::Deadline { what: "new topics to appear", deadline });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            found = cluster.topics()?;
        }
    }
    for want in wanted.iter().filter(|want| want.exact) {
        let found = found.get(&want.name).copied().unwrap_or(0);
        if found != want.partitions as usize {
            return Err(KafkaError::Partitions { topic: want.name.clone(), found, wanted: want.partitions });
        }
    }
    Ok(())
}

/// Partitions of all raw topics of a site together.
///
/// # Errors
/// If no broker answers within `kafka.deadline`.
pub fn raw_partitions(settings: &Settings) -> Result<usize, KafkaError> {
    let found = Cluster::open(settings)?.topics()?;
    Ok(settings.topics.raw.iter().filter_map(|raw| found.get(&raw.topic)).sum())
}

/// Every topic of the cluster with its partitions.
///
/// # Errors
/// If no broker answers within `kafka.deadline`.
pub fn partitions(settings: &Settings) -> Result<HashMap<String, usize>, KafkaError> {
    Cluster::open(settings)?.topics()
}

/// Longest message that a topic takes (its `max.message.bytes`); `None` where the broker does not say.
///
/// # Errors
/// If the client cannot be made.
pub async fn longest_message(settings: &Settings, topic: &str) -> Result<Option<usize>, KafkaError> {
    // A cluster that has no such request does not refuse it: it never answers.
    let options = AdminOptions::new().request_timeout(Some(settings.kafka.deadline.min(Duration::from_secs(10))));
    let answers = match admin(settings)?.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await {
        Ok(answers) => answers,
        Err(cause) => {
            tracing::info!(topic, %cause, "the broker does not say how long a message of a topic may be");
            return Ok(None);
        }
    };
    let mut configs = answers.iter().filter_map(|answer| answer.as_ref().ok());
    Ok(configs.find_map(|config| config.get("max.message.bytes")?.value.as_ref()?.parse().ok()))
}

fn admin(settings: &Settings) -> Result<AdminClient<DefaultClientContext>, KafkaError> {
    client::reader(&settings.kafka, "admin").create().map_err(|cause| KafkaError::Client { client: "admin", cause })
}

/// A client that asks for metadata.
struct Cluster<'s> {
    reader: BaseConsumer,
    settings: &'s Settings,
}

impl<'s> Cluster<'s> {
    fn open(settings: &'s Settings) -> Result<Self, KafkaError> {
        let reader = client::reader(&settings.kafka, "topics")
            .create()
            .map_err(|cause| KafkaError::Client { client: "topics", cause })?;
        Ok(Cluster { reader, settings })
    }

    /// Every topic with its partitions.
    fn topics(&self) -> Result<HashMap<String, usize>, KafkaError> {
        let deadline = self.settings.kafka.deadline;
        let metadata = self.reader.fetch_metadata(None, deadline).map_err(|cause| KafkaError::Unreachable {
            brokers: self.settings.kafka.brokers.clone(),
            deadline,
            cause,
        })?;
        Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
    }
}

async fn create(settings: &Settings, missing: &[&Wanted], deadline: Duration) -> Result<(), KafkaError> {
    let admin = admin(settings)?;
    let retention = settings.topics.retention.as_millis().to_string();
    // A dead letter holds a whole raw record and its headers.
    let bytes = settings.limits.message_bytes().to_string();
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|want| {
            let replicas = TopicReplication::Fixed(settings.topics.replication as i32);
            let topic = NewTopic::new(&want.name, want.partitions as i32, replicas).set("max.message.bytes", &bytes);
            if want.compacted { topic.set("cleanup.policy", "compact") } else { topic.set("retention.ms", &retention) }
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(deadline)).request_timeout(Some(deadline));
    let results =
        admin.create_topics(&topics, &options).await.map_err(|cause| KafkaError::Ask { what: "new topics", cause })?;
    for result in results {
        match result {
            Ok(name) => tracing::info!(topic = name, "topic made"),
            // Another process of the site was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(KafkaError::Topic { topic, cause: code.to_string() }),
        }
    }
    Ok(())
}
