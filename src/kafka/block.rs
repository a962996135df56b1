//! A block of records: what travels from the polling thread to a role.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Partition;

/// Bytes that lie between the polling thread and its role (invariant 8).
#[derive(Clone, Default, Debug)]
pub(super) struct Queued {
    bytes: Arc<AtomicUsize>,
    blocks: Arc<AtomicUsize>,
}

impl Queued {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.load(Ordering::Relaxed)
    }
}

/// Records in the order they were polled, their bytes in one buffer.
#[derive(Debug)]
pub struct Block {
    partitions: Vec<Partition>,
    bytes: Vec<u8>,
    records: Vec<Meta>,
    queued: Option<Queued>,
}

#[derive(Copy, Clone, Debug)]
struct Meta {
    partition: u32,
    offset: i64,
    timestamp: i64,
    start: usize,
    end: usize,
}

/// One record of a block.
#[derive(Copy, Clone, Debug)]
pub struct RecordRef<'a> {
    /// Where it lies.
    pub partition: &'a Partition,
    /// Index of the partition in [`Block::partitions`].
    pub index: usize,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in Kafka, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Its value; a tombstone's is empty.
    pub bytes: &'a [u8],
}

impl Block {
    pub(super) fn new() -> Self {
        Block::with_room(0, 0)
    }

    /// An empty block with room for so many bytes and records, as a rule those of the last one.
    pub(super) fn with_room(bytes: usize, records: usize) -> Self {
        Block {
            partitions: Vec::new(),
            bytes: Vec::with_capacity(bytes),
            records: Vec::with_capacity(records),
            queued: None,
        }
    }

    /// A new block with the room that this one needed.
    pub(super) fn like(&self) -> Self {
        Block::with_room(self.bytes.len(), self.records.len())
    }

    /// A block of one partition, for tests and replays without Kafka.
    pub fn of(partition: Partition, values: &[&[u8]]) -> Self {
        let mut block = Block::new();
        for (offset, value) in values.iter().enumerate() {
            block.push(&partition.topic, partition.number, offset as i64, 0, value);
        }
        block
    }

    pub(super) fn push(&mut self, topic: &str, number: i32, offset: i64, timestamp: i64, value: &[u8]) {
        // Few partitions, and the next record is mostly of the last one's.
        let same = |p: &Partition| p.number == number && *p.topic == *topic;
        let partition = match self.records.last().map(|r| r.partition as usize) {
            Some(last) if same(&self.partitions[last]) => last,
            _ => self.partitions.iter().position(same).unwrap_or_else(|| {
                self.partitions.push(Partition { topic: Arc::from(topic), number });
                self.partitions.len() - 1
            }),
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.records.push(Meta { partition: partition as u32, offset, timestamp, start, end: self.bytes.len() });
    }

    /// Marks the block as lying in the queue until it is dropped.
    pub(super) fn enqueue(&mut self, queued: &Queued) {
        queued.bytes.fetch_add(self.weight(), Ordering::Relaxed);
        queued.blocks.fetch_add(1, Ordering::Relaxed);
        self.queued = Some(queued.clone());
    }

    /// Bytes that the block holds.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Meta>()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The partitions that the records are of.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.records.iter().map(|meta| RecordRef {
            partition: &self.partitions[meta.partition as usize],
            index: meta.partition as usize,
            offset: meta.offset,
            timestamp_ms: meta.timestamp,
            bytes: &self.bytes[meta.start..meta.end],
        })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(queued) = &self.queued {
            queued.bytes.fetch_sub(self.weight(), Ordering::Relaxed);
            queued.blocks.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_order_place_and_bytes() {
        let mut block = Block::new();
        block.push("a", 0, 7, 1, b"x");
        block.push("b", 0, 8, 2, b"");
        block.push("a", 0, 9, 3, b"yz");
        let seen: Vec<_> = block.iter().map(|r| (&*r.partition.topic, r.offset, r.bytes)).collect();
        assert_eq!(seen, [("a", 7, b"x".as_slice()), ("b", 8, b""), ("a", 9, b"yz")]);
        assert_eq!(block.partitions().len(), 2);
    }

    #[test]
    fn invariant_08_a_dropped_block_no_longer_counts() {
        let queued = Queued::default();
        let mut block = Block::of(Partition { topic: "t".into(), number: 0 }, &[b"0123456789"]);
        block.enqueue(&queued);
        assert!(queued.bytes() >= 10 && queued.blocks() == 1);
        drop(block);
        assert_eq!((queued.bytes(), queued.blocks()), (0, 0));
    }
}
