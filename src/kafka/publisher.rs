//! A thread of its own for a role's transactions, so that a batch is made while the last one commits.
//!
//! Promises: transactions follow each other in the order they were handed over, one at a time;
//! what was handed over last is not committed before [`Publisher::settle`] says so. After an
//! error nothing more is published: the role starts again from what is committed. Dropped, it
//! first ends what it has begun, so that a role that starts again reads settled offsets.

use std::error::Error;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::Histogram;

use super::{KafkaError, Member, NextOffset, Outbox, Partition, Transactions};
use crate::telemetry::{Metrics, is_loose};

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
    deadline: Duration,
    waited: Histogram,
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
        let (deadline, role) = (transactions.deadline(), transactions.role());
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
            deadline,
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
        Ok(())
    }

    /// Notices how the transaction under way has ended, without waiting for it. While nothing comes
    /// nothing is published either, and a failure must not stay unknown until something does.
    ///
    /// # Errors
    /// If it was aborted, or its outcome is unknown.
    pub fn look(&mut self) -> Result<(), KafkaError> {
        if !self.is_under_way {
            return Ok(());
        }
        let done = match self.settled.try_recv() {
            Ok(done) => done,
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => return Err(KafkaError::Thread("publisher")),
        };
        self.is_under_way = false;
        self.spare = done?;
        Ok(())
    }

    /// Waits until all that was handed over is committed.
    ///
    /// # Errors
    /// If it was aborted, or its outcome is unknown.
    pub fn settle(&mut self) -> Result<(), KafkaError> {
        if !self.is_under_way {
            return Ok(());
        }
        // Each step of a transaction has this deadline: begin, send, offsets, deliveries, commit, abort.
        // It is begun again until one deadline has gone by.
        let deadline = self.deadline * 8;
        let done = self.settled.recv_timeout(deadline).map_err(|error| match error {
            RecvTimeoutError::Timeout => KafkaError::Deadline { what: "a transaction", deadline },
            RecvTimeoutError::Disconnected => KafkaError::Thread("publisher"),
        })?;
        self.is_under_way = false;
        self.spare = done?;
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.parcels = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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
