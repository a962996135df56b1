//! librdkafka's mock cluster in this process: the demo's broker, and no proof of anything.
//!
//! It has no admin API, keeps 5 MiB a partition, only acknowledges transactions and does
//! not store the offsets they commit. Exactly-once is proved on a real Apache Kafka.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::{KafkaError, wanted};
use crate::settings::Settings;

/// A running mock cluster; it ends when dropped.
pub struct Embedded {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("brokers", &self.brokers()).finish()
    }
}

impl Embedded {
    /// Starts a cluster of one broker.
    ///
    /// # Errors
    /// If librdkafka cannot start it.
    pub fn start() -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(1).map_err(|cause| KafkaError::Client { client: "embedded", cause })?;
        Ok(Embedded { cluster })
    }

    /// Its `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Makes the topics of a site.
    ///
    /// # Errors
    /// If librdkafka refuses one.
    pub fn make_topics(&self, settings: &Settings) -> Result<(), KafkaError> {
        for topic in wanted(settings) {
            self.cluster
                .create_topic(&topic.name, topic.partitions as i32, 1)
                .map_err(|cause| KafkaError::Topic { topic: topic.name, cause: cause.to_string() })?;
        }
        Ok(())
    }
}
