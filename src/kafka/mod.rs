//! Kafka: everything that speaks to a broker.
//!
//! Promises: one thread polls each consumer and is held back by pausing, never by a
//! blocked channel (invariants 8 and 9); an offset is committed only inside the
//! transaction that holds what came of it (invariant 2); a needed offset that the broker
//! no longer holds stops the role, it is never skipped. Must never decide what a record
//! means, and never log a record's key or body.

mod block;
mod client;
mod embedded;
mod error;
mod offset;
mod orphans;
mod produce;
mod publisher;
mod scan;
mod source;
mod survey;
mod table;
mod topics;
mod transaction;

pub use block::{Block, RecordRef};
pub use embedded::Embedded;
pub use error::KafkaError;
pub use offset::{NextOffset, Partition, Position};
pub use produce::Feeder;
pub use publisher::{Fill, Parcel, Publisher};
pub use scan::{Found, Scan};
pub use source::{Assigned, Member, Source, SourceEvent, SourceSettings};
pub use survey::{Ends, Group, Survey};
pub use table::{Follower, read_partitions, read_range};
pub use topics::{Wanted, ensure, longest_message, partitions, raw_partitions, wanted};
pub use transaction::{Outbox, Transactions};
