//! How many records a role has not read yet, and how long it will take to read them, looked up now
//! and then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use prometheus::IntGaugeVec;

use super::RoleError;
use crate::kafka::{NextOffset, Partition, Source};
use crate::telemetry::Metrics;

/// How often the ends of the logs are asked for.
const EVERY: Duration = Duration::from_secs(5);

/// What a role knew of its partitions when it last looked.
#[derive(Debug)]
pub(super) struct Lag {
    role: &'static str,
    looked: Option<Instant>,
    seen: HashMap<Partition, Look>,
}

/// How far a partition was read, and where it ended.
#[derive(Copy, Clone, PartialEq, Debug)]
struct Look {
    next: i64,
    end: i64,
}

impl Look {
    fn lag(self) -> i64 {
        (self.end - self.next).max(0)
    }

    /// Seconds until all is read at the pace since `before`; infinite for one that falls behind.
    fn catch_up(self, before: Look, elapsed: Duration) -> f64 {
        let gained = before.lag() - self.lag();
        match self.lag() {
            0 => 0.0,
            _ if gained <= 0 => f64::INFINITY,
            lag => lag as f64 / (gained as f64 / elapsed.as_secs_f64()),
        }
    }
}

impl Lag {
    /// Has not looked yet.
    pub(super) fn new(role: &'static str) -> Self {
        Lag { role, looked: None, seen: HashMap::new() }
    }

    /// Sets `gauge{topic,partition}` and `catch_up_seconds` of the owned partitions, if it is time for it.
    ///
    /// # Errors
    /// If the broker does not answer within `deadline`.
    pub(super) fn measure(
        &mut self,
        source: &Source,
        metrics: &Metrics,
        gauge: &IntGaugeVec,
        deadline: Duration,
        owned: impl Iterator<Item = (Partition, NextOffset)>,
    ) -> Result<(), RoleError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return Ok(());
        }
        let elapsed = self.looked.replace(Instant::now()).map(|looked| looked.elapsed());
        let mut seen = HashMap::with_capacity(self.seen.len());
        for (partition, next) in owned {
            let (_, end) = source.watermarks(&partition, deadline)?;
            let look = Look { next: next.0, end };
            let number = partition.number.to_string();
            gauge.with_label_values(&[&*partition.topic, number.as_str()]).set(look.lag());
            if let (Some(before), Some(elapsed)) = (self.seen.get(&partition), elapsed) {
                let labels = [self.role, &*partition.topic, number.as_str()];
                metrics.catch_up_seconds.with_label_values(&labels).set(look.catch_up(*before, elapsed));
            }
            seen.insert(partition, look);
        }
        self.seen = seen;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_catches_up_at_the_pace_at_which_its_lag_shrinks() {
        let look = |next, end| Look { next, end };
        let ten = Duration::from_secs(10);
        assert_eq!(look(100, 100).catch_up(look(0, 50), ten), 0.0);
        assert_eq!(look(100, 600).catch_up(look(0, 1_500), ten), 5.0, "1,000 in ten seconds, 500 are left");
        assert_eq!(look(100, 600).catch_up(look(0, 500), ten), f64::INFINITY, "as much came as was read");
        assert_eq!(look(100, 900).catch_up(look(0, 500), ten), f64::INFINITY);
    }
}
