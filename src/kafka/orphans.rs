//! Partitions that a group leaves to nobody.
//!
//! A cooperative rebalance has two steps: who must give a partition away does so and joins again, for
//! another to get it. A static member that ends between the steps comes back with what the first step has
//! left it, without a rebalance, and then nobody asks for the second. So whoever comes new looks; and since
//! the group may just then assign anew, and come to rest with the same gap, everybody looks now and then.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::groups::GroupMemberInfo;

use super::KafkaError;
use super::table::partitions;

/// How long a look may take: meanwhile the role does not read.
const LOOK: Duration = Duration::from_secs(1);
/// Seconds between two looks, drawn anew for each: not all members look at once.
const PAUSE: std::ops::Range<f64> = 20.0..40.0;

/// Looks now and then whether the group leaves partitions to nobody.
#[derive(Debug)]
pub(super) struct Watch {
    role: &'static str,
    group: String,
    topics: Vec<String>,
    /// When to look next; `None`: never, since the broker lists no groups (librdkafka's mock).
    next: Option<Instant>,
    /// Whether the last look found any.
    found: bool,
}

impl Watch {
    /// The watch of a member of `group`, which reads `topics` for `role`.
    pub(super) fn new(role: &'static str, group: String, topics: Vec<String>) -> Self {
        Watch { role, group, topics, next: Some(later()), found: false }
    }

    /// Looks if it is time to.
    ///
    /// # Errors
    /// [`KafkaError::Orphans`] if two looks in a row found partitions that are nobody's. The role that then
    /// starts again is new, and asks the group for them. That no broker answers is no error here.
    pub(super) fn look<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>) -> Result<(), KafkaError> {
        if self.next.is_none_or(|next| Instant::now() < next) {
            return Ok(());
        }
        self.next = Some(later());
        let before = self.found;
        match orphans(consumer, &self.group, &self.topics, LOOK) {
            Ok(count) => {
                self.found = count > 0;
                if before && self.found {
                    return Err(KafkaError::Orphans { role: self.role, count });
                }
            }
            Err(error) if error.is_unsupported() => self.next = None,
            Err(error) => tracing::debug!(role = self.role, %error, "whether partitions are nobody's is not known"),
        }
        Ok(())
    }
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs_f64(rand::rng().random_range(PAUSE))
}

/// How many partitions of `topics` the assignment of a stable group leaves to nobody. None while the group
/// assigns anew.
///
/// # Errors
/// If a broker does not answer within `deadline`, or a member's assignment cannot be read.
pub(super) fn orphans<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    topics: &[String],
    deadline: Duration,
) -> Result<usize, KafkaError> {
    let deadline = deadline.min(LOOK);
    let mut wanted = HashSet::new();
    for topic in topics {
        wanted.extend(partitions(consumer, topic, deadline)?.into_iter().map(|number| (topic.clone(), number)));
    }
    let groups = consumer
        .fetch_group_list(Some(group), deadline)
        .map_err(|cause| KafkaError::Ask { what: "a consumer group", cause })?;
    let Some(group) = groups.groups().iter().find(|one| one.name() == group && one.state() == "Stable") else {
        return Ok(0);
    };
    let assigned = |member: &GroupMemberInfo| read(member.assignment().unwrap_or(&[]));
    for member in group.members() {
        for owned in assigned(member).ok_or(KafkaError::Assignment)? {
            wanted.remove(&owned);
        }
    }
    Ok(wanted.len())
}

/// The partitions of a member's assignment, as the consumer protocol writes it: a version, and topics with
/// their partitions (`ConsumerProtocolAssignment.json` of Apache Kafka, versions 0 to 3, which begin alike).
/// A member without one has none.
fn read(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut rest = Bytes(bytes);
    let _version = rest.i16()?;
    let mut owned = Vec::new();
    for _ in 0..rest.i32()? {
        let topic = rest.text()?;
        for _ in 0..rest.i32()? {
            owned.push((topic.to_owned(), rest.i32()?));
        }
    }
    Some(owned)
}

/// What is still to be read, big-endian.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'b str> {
        let length = usize::try_from(self.i16()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_as_the_consumer_protocol_writes_it() {
        let bytes = b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x05\x00\x02bc\x00\x00\x00\x01\x00\x00\x01\x00\xff\xff\xff\xff";
        let owned = [("a", 0), ("a", 5), ("bc", 256)].map(|(topic, number)| (topic.to_owned(), number));
        assert_eq!(read(bytes).unwrap(), owned);
        assert_eq!(read(&[]).unwrap(), []);
        for cut in 1..bytes.len() - 4 {
            assert!(read(&bytes[..cut]).is_none(), "{cut}");
        }
        assert_eq!(read(b"\x00\x00\x7f\xff\xff\xff"), None);
    }
}
