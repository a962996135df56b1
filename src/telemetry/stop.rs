//! The one signal to stop, for tasks and for threads.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Says once, to everyone who holds a clone, that it is time to finish. It cannot be taken back.
#[derive(Clone)]
pub struct Stop {
    shared: Arc<Shared>,
}

struct Shared {
    tasks: watch::Sender<bool>,
    threads: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    /// Not stopped yet.
    pub fn new() -> Self {
        Stop {
            shared: Arc::new(Shared {
                tasks: watch::Sender::new(false),
                threads: Mutex::new(false),
                wake: Condvar::new(),
            }),
        }
    }

    /// Stops: wakes everyone who waits, now and later.
    pub fn stop(&self) {
        *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
        self.shared.tasks.send_replace(true);
    }

    /// Whether it is time to finish.
    pub fn is_stopped(&self) -> bool {
        *self.shared.tasks.borrow()
    }

    /// Waits, in a task, until it is time to finish. The future owns what it needs.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        let mut receiver = shared.tasks.subscribe();
        async move {
            // The sender lives as long as `shared`, so that the wait ends by the signal alone.
            let _ = receiver.wait_for(|stopped| *stopped).await;
            drop(shared);
        }
    }

    /// Waits, in a thread, at most `longest`; true if it is time to finish.
    pub fn wait(&self, longest: Duration) -> bool {
        let stopped = self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.shared.wake.wait_timeout_while(stopped, longest, |stopped| !*stopped);
        *outcome.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_stopped()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_waits_no_longer_than_it_must() {
        let stop = Stop::new();
        assert!(!stop.is_stopped() && !stop.wait(Duration::from_millis(1)));
        let waiting = stop.clone();
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            (waiting.wait(Duration::from_secs(60)), began.elapsed())
        });
        std::thread::sleep(Duration::from_millis(10));
        stop.stop();
        let (stopped, waited) = thread.join().unwrap();
        assert!(stopped && waited < Duration::from_secs(30), "{waited:?}");
        assert!(stop.wait(Duration::from_secs(60)), "who comes later does not wait");
    }

    #[tokio::test]
    async fn tasks_wake_before_and_after() {
        let stop = Stop::new();
        let early = tokio::spawn(stop.stopped());
        let late = stop.stopped();
        assert!(!early.is_finished());
        tokio::task::yield_now().await;
        stop.stop();
        stop.stop();
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, early).await.unwrap().unwrap();
        tokio::time::timeout(limit, late).await.unwrap();
        tokio::time::timeout(limit, stop.stopped()).await.unwrap();
        assert!(stop.is_stopped());
    }
}
