//! A thread of its own for a role's transactions, so that a batch is made while the last one commits.
//!
//! Promises: transactions follow each other in the order they were handed over, one at a time;
//! what was handed over last is not committed before [`Publisher::settle`] says so. After an
//! error nothing more is published: the role starts again from what is committed. Dropped, it
//! first ends what it has begun, so that a role that starts again reads settled offsets.
//!
//! But never waits without end. When offsets are committed in a transaction, librdkafka waits for the coordinator's
//! answer without a deadline of its own (`rd_kafka_send_offsets_to_transaction`), so that a thread may never come back:
//! a role once stood still in that way after a broker had. Who has made no step for longer than any may take is left
//! behind: the next producer of the same transactional id fences it, and so does the next generation of the group.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::Histogram;

use super::{KafkaError, Member, NextOffset, Outbox, Partition, Transactions};
use crate::telemetry::{Metrics, is_loose};

/// How often a role that waits looks whether its transaction comes along.
const LOOK: Duration = Duration::from_millis(100);

/// Adds the rest of a transaction's messages.
pub type Fill = Box<dyn FnOnce(&mut Outbox) -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

/// One transaction: what to publish, the offsets it came from, and what to do once it is committed.
pub struct Parcel {
    /// The messages.
    pub outbox: Outbox,
    /// Called on the publisher's thread before it publishes: encoding is work that the role need not wait for.
    pub fill: Fill,
    /// The offsets that are consumed with them.
    pub offsets: Vec<(Partition, NextOffset)>,
    /// Called on the publisher's thread after the commit (metrics count what is committed).
    pub committed: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel").field("messages", &self.outbox.len()).finish_non_exhaustive()
    }
}

/// A role's end of the publishing thread.
pub struct Publisher {
    parcels: Option<SyncSender<Parcel>>,
    settled: Receiver<Result<Outbox, KafkaError>>,
    thread: Option<JoinHandle<()>>,
    is_under_way: bool,
    /// The outbox of the last transaction, for its room.
    spare: Outbox,
    pace: Pace,
    waited: Histogram,
}

/// How the thread comes along with a transaction, as its role sees it.
#[derive(Debug)]
struct Pace {
    /// Counted by the thread.
    steps: Arc<AtomicUsize>,
    seen: usize,
    since: Instant,
    /// Longer than any step takes.
    patience: Duration,
}

impl Pace {
    fn new(steps: Arc<AtomicUsize>, patience: Duration) -> Self {
        Pace { steps, seen: 0, since: Instant::now(), patience }
    }

    /// From now on there is something to do.
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// Looks for a step that was made.
    ///
    /// # Errors
    /// If there was none for too long.
    fn check(&mut self) -> Result<(), KafkaError> {
        let steps = self.steps.load(Ordering::Relaxed);
        if steps != self.seen {
            (self.seen, self.since) = (steps, Instant::now());
        }
        if self.since.elapsed() > self.patience {
            return Err(KafkaError::Deadline { what: "a step of a transaction", deadline: self.patience });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("is_under_way", &self.is_under_way).finish_non_exhaustive()
    }
}

impl Publisher {
    /// Starts the thread. `member` says, at each commit, which generation of the group commits.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(mut transactions: Transactions, member: Member, metrics: Metrics) -> Result<Self, KafkaError> {
        let (parcels, wanted) = sync_channel::<Parcel>(1);
        let (done, settled) = sync_channel(2);
        // A step is repeated for one deadline, and its last try may take another.
        let (pace, role) = (Pace::new(transactions.steps(), 3 * transactions.deadline()), transactions.role());
        let waited = metrics.transaction_wait_seconds.with_label_values(&[role]);
        let thread = std::thread::Builder::new()
            .name(format!("{role}-out"))
            .spawn(move || {
                loop {
                    let parcel = match wanted.recv_timeout(Duration::from_secs(1)) {
                        Ok(parcel) => parcel,
                        Err(RecvTimeoutError::Timeout) => {
                            transactions.hear();
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => return,
                    };
                    let started = Instant::now();
                    let result = publish(&mut transactions, &member, parcel);
                    let outcome = if result.is_ok() { "committed" } else { "failed" };
                    metrics.transactions.with_label_values(&[role, outcome]).inc();
                    metrics.transaction_seconds.with_label_values(&[role]).observe(started.elapsed().as_secs_f64());
                    let is_over = result.is_err();
                    // A role that has gone does not want to know.
                    if done.send(result).is_err() || is_over {
                        return;
                    }
                }
            })
            .map_err(|_| KafkaError::Thread(role))?;
        Ok(Publisher {
            parcels: Some(parcels),
            settled,
            thread: Some(thread),
            is_under_way: false,
            spare: Outbox::default(),
            pace,
            waited,
        })
    }

    /// An empty outbox, with the room of one that was published.
    pub fn outbox(&mut self) -> Outbox {
        let mut outbox = std::mem::take(&mut self.spare);
        outbox.clear();
        outbox
    }

    /// Hands a transaction over, after the one before it is committed.
    ///
    /// # Errors
    /// That of the one before: it was aborted, or its outcome is unknown.
    pub fn publish(&mut self, parcel: Parcel) -> Result<(), KafkaError> {
        let waited = self.waited.start_timer();
        self.settle()?;
        waited.observe_duration();
        let parcels = self.parcels.as_ref().ok_or(KafkaError::Thread("publisher"))?;
        parcels.send(parcel).map_err(|_| KafkaError::Thread("publisher"))?;
        self.is_under_way = true;
        self.pace.begin();
        Ok(())
    }

    /// Notices how the transaction under way has ended, without waiting for it. While nothing comes
    /// nothing is published either, and a failure must not stay unknown until something does.
    ///
    /// # Errors
    /// If it was aborted, or its outcome is unknown; if it does not end.
    pub fn look(&mut self) -> Result<(), KafkaError> {
        if !self.is_under_way {
            return Ok(());
        }
        let done = match self.settled.try_recv() {
            Ok(done) => done,
            Err(TryRecvError::Empty) => return self.pace.check(),
            Err(TryRecvError::Disconnected) => return Err(KafkaError::Thread("publisher")),
        };
        self.is_under_way = false;
        self.spare = done?;
        Ok(())
    }

    /// Waits until all that was handed over is committed.
    ///
    /// # Errors
    /// If it was aborted, or its outcome is unknown; if it does not end.
    pub fn settle(&mut self) -> Result<(), KafkaError> {
        if !self.is_under_way {
            return Ok(());
        }
        let done = loop {
            match self.settled.recv_timeout(LOOK) {
                Ok(done) => break done,
                Err(RecvTimeoutError::Timeout) => self.pace.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(KafkaError::Thread("publisher")),
            }
        };
        self.is_under_way = false;
        self.spare = done?;
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.parcels = None;
        let Some(thread) = self.thread.take() else { return };
        if !self.is_under_way {
            self.pace.begin();
        }
        while !thread.is_finished() {
            if let Err(error) = self.pace.check() {
                tracing::error!(thread = thread.thread().name(), %error, "a thread is left behind");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

fn publish(transactions: &mut Transactions, member: &Member, parcel: Parcel) -> Result<Outbox, KafkaError> {
    let mut outbox = parcel.outbox;
    (parcel.fill)(&mut outbox).map_err(KafkaError::Fill)?;
    if is_loose() {
        transactions.publish_loosely(&outbox)?;
        member.commit(&parcel.offsets)?;
    } else {
        publish_in_group(transactions, member, &outbox, &parcel.offsets)?;
    }
    (parcel.committed)();
    Ok(outbox)
}

/// How long until a transaction that came too late for its generation is begun again.
const AGAIN: Duration = Duration::from_millis(10);

/// Publishes, and again if the group has assigned anew meanwhile. What the role holds is still its own
/// then: it is asked to finish what is taken away before the member joins the next generation.
fn publish_in_group(
    transactions: &mut Transactions,
    member: &Member,
    outbox: &Outbox,
    offsets: &[(Partition, NextOffset)],
) -> Result<(), KafkaError> {
    let started = Instant::now();
    loop {
        let group = member.metadata().ok_or(KafkaError::NoGroup)?;
        match transactions.publish(outbox, offsets, &group) {
            Err(error) if error.is_of_older_generation() && started.elapsed() < transactions.deadline() => {
                std::thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A publisher of whose transactions `work` takes the place.
    fn publisher(work: impl FnOnce(&AtomicUsize) -> Result<Outbox, KafkaError> + Send + 'static) -> Publisher {
        let (steps, (done, settled)) = (Arc::new(AtomicUsize::new(0)), sync_channel(2));
        let pace = Pace::new(Arc::clone(&steps), Duration::from_millis(300));
        let (parcels, wanted) = sync_channel::<Parcel>(1);
        let thread = std::thread::spawn(move || {
            if wanted.recv().is_ok() {
                let _ = done.send(work(&steps));
            }
        });
        let waited = Metrics::new().unwrap().transaction_wait_seconds.with_label_values(&["test"]);
        let (thread, spare) = (Some(thread), Outbox::default());
        Publisher { parcels: Some(parcels), settled, thread, is_under_way: false, spare, pace, waited }
    }

    fn parcel() -> Parcel {
        let (outbox, fill, committed) = (Outbox::default(), Box::new(|_: &mut Outbox| Ok(())), Box::new(|| {}));
        Parcel { outbox, fill, offsets: Vec::new(), committed }
    }

    #[test]
    fn a_transaction_may_take_long_while_it_comes_along() {
        let mut publisher = publisher(|steps| {
            for _ in 0..8 {
                std::thread::sleep(Duration::from_millis(80));
                steps.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Outbox::default())
        });
        publisher.publish(parcel()).unwrap();
        publisher.look().unwrap();
        publisher.settle().unwrap();
    }

    #[test]
    fn a_transaction_that_never_ends_is_told_of_and_left_behind() {
        let started = Instant::now();
        let never = || {
            publisher(|_| {
                std::thread::sleep(Duration::from_secs(3_600));
                Ok(Outbox::default())
            })
        };
        let mut waiting = never();
        waiting.publish(parcel()).unwrap();
        let error = waiting.settle().unwrap_err().to_string();
        assert!(error.contains("a step of a transaction"), "{error}");
        drop(waiting);
        // Nor does who only looks now and then take it for granted that it will end.
        let mut looking = never();
        looking.publish(parcel()).unwrap();
        looking.look().unwrap();
        std::thread::sleep(Duration::from_millis(350));
        looking.look().unwrap_err();
        drop(looking);
        // One that has waited for work for long is not late.
        let idle = publisher(|_| Ok(Outbox::default()));
        std::thread::sleep(Duration::from_millis(350));
        drop(idle);
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
