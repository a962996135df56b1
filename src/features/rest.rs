//! Subjects that are not in memory: nothing is due of them until they are told of again.
//!
//! The state of a subject follows from its own rows, but for one thing: which due times have fired,
//! for ticks let them fire too. So of a subject that rests just these are kept, and the rest is
//! folded anew from its rows. One that is in memory, but no longer all of it, is folded anew too when
//! it is told of something that needs what has gone.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

use super::encounter::Pending;
use super::fold::Fold;
use super::subject::Subject;
use crate::events::{EventKey, EventsView, Micros, SubjectId};

/// A subject that rests, or was trimmed, cannot be woken: its rows are not those that it was folded from.
#[derive(Debug, thiserror::Error)]
#[error("the rows of a subject that left memory are not those it was folded from; state must be folded anew")]
pub struct Asleep;

/// What is kept of subjects that rest: of each of their encounters and triggers, when it last fired.
#[derive(Default)]
pub(super) struct Resting {
    fired: HashMap<i64, Box<[Micros]>, FixedState>,
    bytes: usize,
}

impl Resting {
    /// Heap bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.fired.len() * size_of::<(i64, Box<[Micros]>)>()
    }

    fn add(&mut self, id: SubjectId, fired: Box<[Micros]>) {
        self.bytes += size_of_val(&*fired);
        self.fired.insert(id.0, fired);
    }

    /// Takes over other subjects that rest.
    pub(super) fn absorb(&mut self, other: Resting) {
        self.fired.extend(other.fired);
        self.bytes += other.bytes;
    }

    fn take(&mut self, id: SubjectId) -> Option<Box<[Micros]>> {
        let fired = self.fired.remove(&id.0)?;
        self.bytes -= size_of_val(&*fired);
        Some(fired)
    }
}

impl Fold {
    /// Before when a subject was last told of that has been inactive for so long.
    pub fn inactive_since(&self, long: Micros) -> Micros {
        self.clock().unwrap_or(self.known()).saturating_sub(long)
    }

    /// How many of the subjects in memory [`Fold::rest`] would let go, if all of their rows are archived.
    pub fn restful(&self, before: Micros) -> usize {
        self.awake().iter().filter(|(_, subject)| may_rest(subject, before)).count()
    }

    /// Lets go of every subject without an open encounter of whom nothing became known since
    /// `before`, and all of whose rows stand at `archived` or before; returns how many.
    pub fn rest(&mut self, before: Micros, archived: i64) -> usize {
        let may = |subject: &Subject| may_rest(subject, before) && subject.position <= archived;
        let going: Vec<(SubjectId, Box<[Micros]>)> = self
            .awake()
            .iter()
            .filter(|(_, subject)| may(subject))
            .map(|(id, subject)| (*id, fired(subject)))
            .collect();
        let count = going.len();
        for (id, fired) in going {
            self.remove(id);
            self.resting.add(id, fired);
        }
        count
    }

    /// How many subjects rest.
    pub fn resting(&self) -> usize {
        self.resting.fired.len()
    }

    /// Whether a subject rests.
    #[cfg(test)]
    pub(super) fn rests(&self, id: SubjectId) -> bool {
        self.resting.fired.contains_key(&id.0)
    }

    /// Subjects of the rows that rest, or have let go of what a row needs: they must be [woken](Fold::wake) before
    /// the rows are applied.
    pub fn asleep(&self, rows: &EventsView<'_>) -> Vec<SubjectId> {
        let mut asleep = Vec::new();
        if self.resting.fired.is_empty() && !self.is_trimmed {
            return asleep;
        }
        let mut facts: HashSet<(SubjectId, EventKey), FixedState> = HashSet::default();
        for row in 0..rows.len() {
            let Some(id) = rows.subject(row) else { continue };
            let is_asleep = match self.subject(id) {
                Some(subject) if subject.is_trimmed() => {
                    let event = rows.row(row);
                    // What an earlier of these rows makes of the same fact is not known here.
                    !facts.insert((id, event.event_key)) || subject.lacks(&event, &self.rules)
                }
                Some(_) => false,
                None => self.resting.fired.contains_key(&id.0),
            };
            if is_asleep && asleep.last() != Some(&id) {
                asleep.push(id);
            }
        }
        asleep.sort_unstable();
        asleep.dedup();
        asleep
    }

    /// Whether one of `subjects` is in memory, in part.
    pub fn has_any(&self, subjects: &[SubjectId]) -> bool {
        subjects.iter().any(|id| self.subject(*id).is_some())
    }

    /// Takes `subjects` back from `told`, a fold of all of their rows up to here.
    ///
    /// # Errors
    /// If those were not the rows that they were folded from before.
    pub fn wake(&mut self, subjects: &[SubjectId], told: Fold) -> Result<(), Asleep> {
        for (id, mut subject) in told.into_subjects() {
            if let Some(fired) = self.resting.take(id) {
                let mut pending = subject.encounters.iter_mut().flat_map(|encounter| &mut encounter.pending);
                for fired in &fired {
                    pending.next().ok_or(Asleep)?.fired = *fired;
                }
                if pending.next().is_some() || is_busy(&subject) {
                    return Err(Asleep);
                }
            } else {
                let Some(trimmed) = self.subject_mut(id).filter(|known| known.is_trimmed()) else { continue };
                if !subject.resume(trimmed) {
                    return Err(Asleep);
                }
            }
            self.put(id, subject);
        }
        let is_whole = |id: &SubjectId| self.subject(*id).is_some_and(|subject| !subject.is_trimmed());
        if subjects.iter().all(is_whole) { Ok(()) } else { Err(Asleep) }
    }
}

fn may_rest(subject: &Subject, before: Micros) -> bool {
    subject.known < before && !is_busy(subject)
}

/// Whether an encounter is open; of one that is not, nothing is due.
fn is_busy(subject: &Subject) -> bool {
    subject.encounters.iter().any(|encounter| encounter.open.is_some())
}

fn fired(subject: &Subject) -> Box<[Micros]> {
    let pending = subject.encounters.iter().flat_map(|encounter| &encounter.pending);
    pending.map(|Pending { fired, .. }| *fired).collect()
}
