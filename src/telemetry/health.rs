//! Is everything alive, is everything ready: asked of those who must know, not guessed.
//!
//! Whoever does work that must go on holds a [`Beat`] and lets it beat as it makes progress. Live
//! means that nobody is late, ready that everybody has said so. A beat that is dropped is no longer
//! watched, unless a panic dropped it: that one stays late until the process ends.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is watched in a process. Clones watch the same.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    /// Beats are milliseconds since then, so that one atomic number holds them.
    began: Instant,
    pulses: Mutex<Vec<Arc<Pulse>>>,
}

struct Pulse {
    name: &'static str,
    deadline_ms: u64,
    last_ms: AtomicU64,
    ready: AtomicBool,
    panicked: AtomicBool,
}

/// Held by whoever is watched. Clones beat for the same; the last one that is dropped ends the watch.
#[derive(Clone)]
pub struct Beat {
    held: Arc<Held>,
}

struct Held {
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
}

impl Health {
    /// Watches nothing yet: live and ready.
    pub fn new() -> Self {
        Health { shared: Arc::new(Shared { began: Instant::now(), pulses: Mutex::default() }) }
    }

    /// Watches `name` from now on: it must beat at least once every `deadline`, and is not ready
    /// until it says so.
    pub fn watch(&self, name: &'static str, deadline: Duration) -> Beat {
        let pulse = Arc::new(Pulse {
            name,
            deadline_ms: millis(deadline),
            last_ms: AtomicU64::new(self.shared.now_ms()),
            ready: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        self.shared.pulses().push(Arc::clone(&pulse));
        Beat { held: Arc::new(Held { shared: Arc::clone(&self.shared), pulse }) }
    }

    /// Names of those that have not beaten within their deadline, or that a panic ended. None: live.
    pub fn late(&self) -> Vec<&'static str> {
        self.late_at(self.shared.now_ms())
    }

    /// Names of those that are not ready. None: ready.
    pub fn unready(&self) -> Vec<&'static str> {
        self.names(|pulse| !pulse.ready.load(Ordering::Acquire))
    }

    fn late_at(&self, now_ms: u64) -> Vec<&'static str> {
        self.names(|pulse| {
            let quiet_ms = now_ms.saturating_sub(pulse.last_ms.load(Ordering::Acquire));
            quiet_ms > pulse.deadline_ms || pulse.panicked.load(Ordering::Acquire)
        })
    }

    fn names(&self, which: impl Fn(&Pulse) -> bool) -> Vec<&'static str> {
        let mut names: Vec<_> = self.shared.pulses().iter().filter(|p| which(p)).map(|p| p.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }

    fn pulses(&self) -> MutexGuard<'_, Vec<Arc<Pulse>>> {
        // A list of pulses is whole at any moment, also where a panic poisoned its lock.
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    /// Says that work goes on. Takes no lock.
    pub fn beat(&self) {
        self.held.pulse.last_ms.store(self.held.shared.now_ms(), Ordering::Release);
    }

    /// Says whether it can do its work: caught up, a model loaded, partitions assigned.
    pub fn ready(&self, ready: bool) {
        self.held.pulse.ready.store(ready, Ordering::Release);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.pulse.panicked.store(true, Ordering::Release);
            self.pulse.ready.store(false, Ordering::Release);
        } else {
            self.shared.pulses().retain(|pulse| !Arc::ptr_eq(pulse, &self.pulse));
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("late", &self.late()).field("unready", &self.unready()).finish()
    }
}

impl fmt::Debug for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Beat").field(&self.held.pulse.name).finish()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_beat_in_time_is_late() {
        let health = Health::new();
        let slow = health.watch("slow", Duration::from_secs(60));
        let _fast = health.watch("fast", Duration::from_secs(1));
        assert!(health.late().is_empty(), "a deadline counts from the beginning of the watch");
        let now = health.shared.now_ms();
        assert_eq!(health.late_at(now + 30_000), ["fast"]);
        assert_eq!(health.late_at(now + 90_000), ["fast", "slow"]);
        slow.beat();
        assert_eq!(health.late_at(slow.held.pulse.last_ms.load(Ordering::Acquire) + 60_000), ["fast"]);
    }

    #[test]
    fn real_time_passes_too() {
        let health = Health::new();
        let beat = health.watch("role", Duration::from_millis(5));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(health.late(), ["role"]);
        beat.beat();
        assert!(beat.held.pulse.last_ms.load(Ordering::Acquire) >= 20);
    }

    #[test]
    fn ready_is_what_everybody_says() {
        let health = Health::new();
        assert!(health.unready().is_empty());
        let (a, b) = (health.watch("a", Duration::MAX), health.watch("b", Duration::MAX));
        assert_eq!(health.unready(), ["a", "b"]);
        a.ready(true);
        b.ready(true);
        assert!(health.unready().is_empty());
        b.ready(false);
        assert_eq!(health.clone().unready(), ["b"]);
        let other = b.clone();
        drop(b);
        assert_eq!(health.unready(), ["b"], "a clone is held still");
        drop(other);
        assert!(health.unready().is_empty() && health.late_at(u64::MAX - 1).is_empty());
    }

    #[test]
    fn whom_a_panic_ended_stays_late() {
        let health = Health::new();
        let beat = health.watch("role", Duration::MAX);
        beat.ready(true);
        let thread = std::thread::spawn(move || {
            let _held = beat;
            panic!("meant to be");
        });
        assert!(thread.join().is_err());
        assert_eq!((health.late(), health.unready()), (vec!["role"], vec!["role"]));
    }

    #[test]
    fn two_of_a_name_are_named_once() {
        let health = Health::new();
        let (_a, _b) = (health.watch("poll", Duration::ZERO), health.watch("poll", Duration::ZERO));
        assert_eq!(health.late_at(1_000_000), ["poll"]);
    }
}
