//! Why a role ended.

use crate::alerts::AlertError;
use crate::events::EventsError;
use crate::features::Asleep;
use crate::kafka::KafkaError;
use crate::learn::LearnError;
use crate::library::LibraryError;
use crate::models::ModelError;
use crate::normalize::NormalizeError;
use crate::settings::Problem;

use super::ServeError;

/// An error that ends a role's run; the supervisor decides whether it runs again.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Event batches.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The DataFusion plan.
    #[error(transparent)]
    Normalize(#[from] NormalizeError),
    /// A subject that rested.
    #[error(transparent)]
    Asleep(#[from] Asleep),
    /// The case library.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// Training and registry.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// A model bundle.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An alert or a score.
    #[error(transparent)]
    Alert(#[from] AlertError),
    /// The HTTP side.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The site.
    #[error("{0}")]
    Site(Problem),
    /// A message of the log of record cannot be read.
    #[error(
        "{topic}-{partition} offset {offset} is no event batch ({cause}); it was not written by auscult, or by a newer version"
    )]
    Log {
        /// Topic of the log of record.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset of the message.
        offset: i64,
        /// What is wrong with it.
        cause: EventsError,
    },
    /// The metrics registry refused.
    #[error("a metric cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A thread or runtime of the process could not be started.
    #[error("the system refuses a thread or a runtime: {0}")]
    System(#[from] std::io::Error),
    /// Messages could not be written as JSON.
    #[error("an output cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A role's thread panicked, which is a bug.
    #[error("the role '{0}' ended by a panic; this is a bug, please report it")]
    Panic(&'static str),
}

impl RoleError {
    /// Whether another member of the group has this one's place.
    pub(super) fn is_fence(&self) -> bool {
        matches!(self, RoleError::Kafka(KafkaError::Fenced { .. }))
    }

    /// Whether running the role again cannot help.
    pub(super) fn is_final(&self) -> bool {
        match self {
            RoleError::Kafka(error) => {
                matches!(
                    error,
                    KafkaError::Lost { .. }
                        | KafkaError::Forgotten { .. }
                        | KafkaError::Partitions { .. }
                        | KafkaError::Topic { .. }
                )
            }
            RoleError::Site(_) | RoleError::Log { .. } | RoleError::Metrics(_) | RoleError::Panic(_) => true,
            _ => false,
        }
    }
}
