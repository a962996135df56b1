//! How many records a role has not read yet, looked up now and then.

use std::time::{Duration, Instant};

use super::RoleError;
use crate::kafka::{NextOffset, Partition, Source};
use crate::telemetry::Metrics;

/// How often the ends of the logs are asked for.
const EVERY: Duration = Duration::from_secs(5);

/// When a role last looked.
#[derive(Default, Debug)]
pub(super) struct Lag {
    looked: Option<Instant>,
}

impl Lag {
    /// Sets `consumer_lag` of the owned partitions, if it is time for it.
    ///
    /// # Errors
    /// If the broker does not answer within `deadline`.
    pub(super) fn measure(
        &mut self,
        source: &Source,
        metrics: &Metrics,
        deadline: Duration,
        owned: impl Iterator<Item = (Partition, NextOffset)>,
    ) -> Result<(), RoleError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        for (partition, next) in owned {
            let (_, end) = source.watermarks(&partition, deadline)?;
            let number = partition.number.to_string();
            metrics.consumer_lag.with_label_values(&[&*partition.topic, number.as_str()]).set((end - next.0).max(0));
        }
        Ok(())
    }
}
