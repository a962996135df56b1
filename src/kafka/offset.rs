//! Two ways to name a place in a partition, and the one way between them.

use std::sync::Arc;

use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Partition {
    /// Topic.
    pub topic: Arc<str>,
    /// Number within the topic.
    pub number: i32,
}

/// Offset of the last record that was processed (inclusive), as the case library counts.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position(pub i64);

/// Offset of the next record to read (exclusive), as Kafka commits.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NextOffset(pub i64);

impl Position {
    /// Where reading goes on after this position.
    pub fn next(self) -> NextOffset {
        NextOffset(self.0 + 1)
    }
}

/// Offsets as librdkafka takes them.
pub(super) fn offset_list(offsets: &[(Partition, NextOffset)]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, next) in offsets {
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(next.0))?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_offset_is_one_beyond_the_last_position() {
        assert_eq!(Position(41).next(), NextOffset(42));
    }
}
