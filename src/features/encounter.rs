//! Encounters of a subject, and what is to be predicted in them.

use std::sync::Arc;

use super::trigger::Trigger;
use crate::events::Micros;

/// A due time that never comes.
pub(super) const NEVER: Micros = Micros::MAX;

const PREFIX: &str = "ENCOUNTER//";

/// One end of an encounter.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Edge {
    Start,
    End,
}

impl Edge {
    /// Class and edge of a code: `ICU` and the start of `ENCOUNTER//ICU//START`.
    pub(super) fn of(code: &str) -> Option<(&str, Edge)> {
        match code.strip_prefix(PREFIX)?.rsplit_once("//")? {
            (class, "START") => Some((class, Edge::Start)),
            (class, "END") => Some((class, Edge::End)),
            _ => None,
        }
    }
}

/// What is known under one class and one encounter id (or none) of a subject.
pub(super) struct Encounter {
    pub(super) class: Box<str>,
    /// Pseudonymous.
    pub(super) id: Option<Arc<str>>,
    /// When the stay that is open began; `None`: not begun, or ended.
    pub(super) open: Option<Micros>,
    /// One for each trigger with due times that concerns the class.
    pub(super) pending: Box<[Pending]>,
}

/// The next prediction of one trigger in one encounter.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Pending {
    /// Index of the trigger.
    pub(super) trigger: u32,
    /// When it falls due, or [`NEVER`].
    pub(super) next: Micros,
    /// The last that fired: a later one is never due before it, whatever is corrected.
    pub(super) fired: Micros,
}

impl Encounter {
    /// An encounter of which nothing is known yet.
    pub(super) fn new(class: &str, id: Option<&str>, triggers: &[Trigger]) -> Self {
        let concerned = (0..).zip(triggers).filter(|(_, trigger)| trigger.has_times() && trigger.concerns(class));
        let pending = concerned.map(|(trigger, _)| Pending { trigger, next: NEVER, fired: Micros::MIN });
        Encounter { class: class.into(), id: id.map(Arc::from), open: None, pending: pending.collect() }
    }

    /// Takes in its surviving edges, given in order of arrival, after one of them changed by an
    /// event that became known at `recorded_at`.
    ///
    /// Due times that would lie before that moment are skipped: nobody could have predicted
    /// then. If the start stays what it was, so do the due times.
    pub(super) fn restate(
        &mut self,
        edges: impl Iterator<Item = (Micros, Edge)>,
        recorded_at: Micros,
        triggers: &[Trigger],
    ) {
        let open = open_since(edges, self.id.is_some());
        if open == self.open {
            return;
        }
        self.open = open;
        for pending in &mut self.pending {
            let low = recorded_at.max(pending.fired.saturating_add(1));
            let due = |start| triggers.get(pending.trigger as usize)?.next_due(start, low);
            pending.next = open.and_then(due).unwrap_or(NEVER);
        }
    }
}

/// When the stay began that is open after all edges, taken in order of time.
///
/// A start while open and an end while closed change nothing. At the same time a stay with
/// an id starts before it ends; without an id the order of arrival tells a short stay from
/// the end of one and the start of the next.
fn open_since(edges: impl Iterator<Item = (Micros, Edge)>, identified: bool) -> Option<Micros> {
    let mut edges: Vec<(Micros, Edge)> = edges.collect();
    edges.sort_by_key(|(time, edge)| (*time, identified && *edge == Edge::End));
    edges.into_iter().fold(None, |open, (time, edge)| match edge {
        Edge::Start => open.or(Some(time)),
        Edge::End => None,
    })
}

#[cfg(test)]
mod tests {
    use super::Edge::{End, Start};
    use super::*;

    #[test]
    fn a_code_says_class_and_edge() {
        assert_eq!(Edge::of("ENCOUNTER//ICU//START"), Some(("ICU", Start)));
        assert_eq!(Edge::of("ENCOUNTER//A//B//END"), Some(("A//B", End)));
        for other in ["ENCOUNTER//START", "ENCOUNTER//ICU//PAUSE", "LOINC//START", ""] {
            assert_eq!(Edge::of(other), None, "{other}");
        }
    }

    #[test]
    fn edges_make_a_stay_whatever_their_order() {
        let open = |edges: &[(Micros, Edge)], identified| open_since(edges.iter().copied(), identified);
        for identified in [true, false] {
            assert_eq!(open(&[], identified), None);
            assert_eq!(open(&[(5, Start), (3, Start)], identified), Some(3), "the earliest");
            assert_eq!(open(&[(9, End), (5, Start)], identified), None);
            assert_eq!(open(&[(5, Start), (3, End)], identified), Some(5), "an end before the start ends nothing");
            assert_eq!(open(&[(5, Start), (7, End), (8, Start)], identified), Some(8));
        }
        assert_eq!((open(&[(5, End), (5, Start)], true), open(&[(5, End), (5, Start)], false)), (None, Some(5)));
    }
}
