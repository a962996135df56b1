//! What a subject lets go of while it is awake, and which rows ask for it back.
//!
//! No prediction can come any more before some time, the *horizon*. So the samples that no window reaches from
//! there go, and the facts that happened before all that windows reach. Those stay that a window without end has,
//! that say who somebody is or when an encounter began, and that have no time.
//!
//! [`Subject::lacks`] tells of the rows that need more: before one is applied the subject is folded anew from all
//! of its rows. To all others it makes no difference what has gone. A correction of a fact that has gone looks like
//! a new fact, is counted as one, and leaves the same: what it takes away is out of reach, and what it adds has the same
//! number.

use super::{Fact, Key, Statement, Subject, content, table_bytes};
use crate::events::{EventRef, LEAVE, MEDS_BIRTH, Micros, Op, TOKEN};
use crate::features::encounter::{Edge, Encounter};
use crate::features::fold::Rules;

/// A subject is trimmed when one part in so many of what is bounded is out of reach, and, once it had to be folded
/// anew, when as large a part has come since: so that the work is in proportion to what comes, whatever comes.
const PART: usize = 4;

/// Facts of a group of [`Arrivals`].
const GROUP: u32 = 16;

/// When facts happened, by groups of those that arrived one after the other: they have no room for it themselves.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Number of each group, ascending, and the latest time of its facts.
    groups: Vec<(u32, Micros)>,
}

impl Arrivals {
    /// Adds the fact that has just arrived; gives the bytes that it takes. One without a time is never past.
    pub(super) fn add(&mut self, fact: u32, time: Option<Micros>) -> usize {
        let (group, time) = (fact / GROUP, time.unwrap_or(Micros::MAX));
        match self.groups.last_mut() {
            Some((last, latest)) if *last == group => {
                *latest = time.max(*latest);
                0
            }
            _ => {
                self.groups.push((group, time));
                size_of::<(u32, Micros)>()
            }
        }
    }

    /// How many groups are past at a time.
    fn past(&self, at: Micros) -> usize {
        self.groups.iter().filter(|(_, latest)| *latest < at).count()
    }

    /// Forgets these; gives the bytes that they took.
    fn forget(&mut self, at: Micros) -> usize {
        let before = self.groups.len();
        self.groups.retain(|(_, latest)| *latest >= at);
        self.groups.shrink_to(2 * self.groups.len());
        (before - self.groups.len()) * size_of::<(u32, Micros)>()
    }

    /// Whether a fact is of a group that is forgotten.
    fn is_past(&self, fact: u32) -> bool {
        self.groups.binary_search_by_key(&(fact / GROUP), |(group, _)| *group).is_err()
    }
}

/// Since when a subject is whole.
#[derive(Copy, Clone)]
pub(super) struct Trimmed {
    /// Predictions before cannot be made.
    horizon: Micros,
    /// Nor those of an encounter that began before; [`Micros::MIN`] where no window asks for that.
    began: Micros,
    /// Facts that happened before may have gone.
    facts: Micros,
}

impl Subject {
    /// Whether something has gone.
    pub(in crate::features) fn is_trimmed(&self) -> bool {
        self.trimmed.is_some()
    }

    /// Lets go of what no prediction at `horizon` or later reaches, nor any that is due; whether it was worth it.
    pub(in crate::features) fn trim(&mut self, horizon: Micros, rules: &Rules) -> bool {
        if self.next_number.wrapping_sub(self.woken) < self.woken / PART as u32 {
            return false;
        }
        let horizon = horizon.min(self.due);
        let predicts = |class: &str| rules.triggers.iter().any(|trigger| trigger.concerns(class));
        let open = self.encounters.iter().filter(|one| predicts(&one.class)).filter_map(|one| one.open);
        let began = open.fold(horizon, Micros::min);
        let floors: Vec<Micros> = rules.reaches.iter().map(|reach| reach.floor(horizon, began)).collect();
        let bounded = || rules.reaches.iter().zip(&floors).filter(|(reach, _)| !reach.is_endless());
        let facts = bounded().map(|(_, floor)| *floor).fold(horizon, Micros::min);

        let series = || self.series.iter().zip(&floors).zip(&rules.reaches).filter(|(_, reach)| !reach.is_endless());
        let gone: usize = series().map(|((series, floor), _)| series.before(*floor).len()).sum();
        let all: usize = series().map(|((series, _), _)| series.samples().len()).sum();
        let past = self.arrivals.past(facts);
        if (gone == 0 || gone * PART < all) && (past == 0 || past * PART < self.arrivals.groups.len()) {
            return false;
        }
        self.trim_series(&floors, rules);
        if past > 0 {
            self.trim_facts(facts, rules);
        }
        let is_of_encounter = rules.reaches.iter().any(|reach| reach.is_of_encounter());
        let now = Trimmed { horizon, began: if is_of_encounter { began } else { Micros::MIN }, facts };
        let before = self.trimmed.unwrap_or(now);
        self.trimmed = Some(Trimmed {
            horizon: now.horizon.max(before.horizon),
            began: now.began.max(before.began),
            facts: now.facts.max(before.facts),
        });
        true
    }

    fn trim_series(&mut self, floors: &[Micros], rules: &Rules) {
        for ((index, series), floor) in (0..).zip(&mut self.series).zip(floors) {
            if rules.spec.texts_of(index).is_some() {
                for sample in series.samples().get(series.before(*floor)).unwrap_or(&[]) {
                    self.bytes -= self.held.remove(index, sample.fact);
                }
            }
            let before = series.bytes();
            series.trim(*floor);
            // What is kept of derived series is not counted.
            if rules.spec.derived().iter().all(|derived| derived.series != index) {
                self.bytes -= before - series.bytes();
            }
        }
        self.held.shrink();
    }

    fn trim_facts(&mut self, before: Micros, rules: &Rules) {
        self.bytes -= self.arrivals.forget(before);
        let (arrivals, statements) = (&self.arrivals, &self.statements);
        let stays = |fact: &Fact| {
            !arrivals.is_past(fact.number)
                || fact.is_endless(rules)
                || statements.binary_search_by_key(&fact.number, |said| said.number).is_ok()
        };
        let room = self.facts.capacity();
        self.facts = std::mem::take(&mut self.facts).into_iter().filter(|(_, fact)| stays(fact)).collect();
        self.bytes = self.bytes + table_bytes(self.facts.capacity()) - table_bytes(room);
    }

    /// Whether what a row does cannot be told from what there is; no other row before it may be of the same fact.
    pub(in crate::features) fn lacks(&self, event: &EventRef<'_>, rules: &Rules) -> bool {
        let Some(trimmed) = self.trimmed else { return false };
        let known = self.facts.get(&Key::from(event.event_key));
        let is_redelivery = || known.is_some_and(|known| known.content == content(event));
        if event.op == Op::Assert && is_redelivery() {
            return false;
        }
        if event.recorded_at < trimmed.horizon || event.code == LEAVE || self.may_open(event, known, trimmed.began) {
            return true;
        }
        match (known, event.op) {
            // Whatever it had out of reach may go or change unseen.
            (Some(_), _) => false,
            // Nobody can tell whether there was something to take away.
            (None, Op::Retract) => true,
            // It may be a redelivery, unless that would not have gone.
            (None, Op::Assert) => {
                let has_gone = || !says_something(event) && !self.fact(event, rules).is_endless(rules);
                event.time.is_some_and(|time| time < trimmed.facts) && has_gone()
            }
        }
    }

    /// Whether a row may open, or open anew, an encounter that began before a time: it is of one, or was.
    fn may_open(&self, event: &EventRef<'_>, known: Option<&Fact>, began: Micros) -> bool {
        let began_before = |place: usize| {
            self.statements.iter().any(|said| match said.what {
                Statement::Edge { encounter, edge: Edge::Start, time } => encounter as usize == place && time < began,
                _ => false,
            })
        };
        let of_row = Edge::of(event.code).zip(event.time).is_some_and(|((class, edge), time)| {
            let known = self.known_encounter(class, event.encounter_id);
            (edge == Edge::Start && time < began) || known.is_some_and(began_before)
        });
        let said = known.and_then(|fact| self.statements.iter().rfind(|said| said.number == fact.number));
        of_row
            || said.is_some_and(|said| match said.what {
                Statement::Edge { encounter, .. } => began_before(encounter as usize),
                _ => false,
            })
    }

    /// Takes over from the same subject, trimmed, what does not follow from its rows alone: which due times have
    /// fired, for ticks let them fire too. Says whether it is the same.
    pub(in crate::features) fn resume(&mut self, trimmed: &mut Subject) -> bool {
        let same = |(one, other): (&Encounter, &Encounter)| {
            (&one.class, &one.id, one.open) == (&other.class, &other.id, other.open)
        };
        let is_same = (self.next_number, self.known, self.encounters.len())
            == (trimmed.next_number, trimmed.known, trimmed.encounters.len())
            && self.encounters.iter().zip(&trimmed.encounters).all(same);
        if is_same {
            self.encounters = std::mem::take(&mut trimmed.encounters);
            (self.due, self.woken) = (trimmed.due, self.next_number);
        }
        is_same
    }
}

impl Fact {
    /// Whether a window without end looks at a series that it may have a sample in.
    fn is_endless(&self, rules: &Rules) -> bool {
        let is_endless = |series: u16| rules.reaches.get(usize::from(series)).is_some_and(|reach| reach.is_endless());
        self.series(&rules.spec).any(is_endless)
    }
}

/// Whether an event with a time makes a statement.
fn says_something(event: &EventRef<'_>) -> bool {
    match event.code {
        MEDS_BIRTH | super::MALE | super::FEMALE => true,
        TOKEN => event.text_value.is_some(),
        code => Edge::of(code).is_some(),
    }
}
