//! A partition of the log, folded into the state of its subjects.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::clock::Clock;
use super::due::{Due, Prediction};
use super::encounter::{Encounter, NEVER};
use super::reach::{Reach, reaches};
use super::rest::Resting;
use super::spec::FeatureSpec;
use super::subject::Subject;
use super::trigger::{Trigger, TriggerKind};
use super::vector::{self, Moment};
use crate::events::{EventRef, Links, Micros, Seen, SubjectId, TICK};

/// Most predictions of one trigger in one encounter that one event or tick lets fall due. A
/// time in the far future would ask for millions, all from the same state; of more than this
/// the earliest are skipped, and counted by [`Fold::skipped`].
pub const CATCH_UP: usize = 1_000;

/// What became of an event.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Applied {
    /// It moved the clock, or told how far a raw partition is.
    Tick,
    /// A new fact.
    Asserted,
    /// A fact that held already: nothing changed.
    Redelivered,
    /// It replaced a fact.
    Corrected,
    /// It took a fact away.
    Retracted,
    /// It would have taken away a fact that does not hold: nothing changed.
    RetractedUnknown,
    /// A link moved here what had been told anew meanwhile: nothing changed.
    Outdated,
    /// What is told under its identifier belongs to this subject now; it was said under the link of
    /// this number, unless it was moved before: nothing changed here.
    Elsewhere(SubjectId, u64),
    /// It took away from its subject what was told under some identifiers, and something was.
    Left,
    /// It said something of links and took nothing away.
    Linked,
    /// A row without subject that is no tick.
    Ignored,
}

/// What the fold goes by.
pub(super) struct Rules {
    pub(super) spec: Arc<FeatureSpec>,
    pub(super) triggers: Vec<Trigger>,
    /// Of each series.
    pub(super) reaches: Vec<Reach>,
    /// Of each trigger, the columns of what its cohort depends on.
    cohorts: Vec<Vec<usize>>,
    on: Vec<On>,
    /// No gap shorter than this holds more than [`CATCH_UP`] due times.
    long: Micros,
}

/// A trigger that fires on events.
struct On {
    trigger: usize,
    what: HashSet<Box<str>, FixedState>,
    min_gap: Micros,
}

impl On {
    fn wants(&self, event: &EventRef<'_>) -> bool {
        self.what.contains(event.code) || event.plausible_concept().is_some_and(|concept| self.what.contains(concept))
    }
}

/// The state of all subjects of one partition of the log, and its clock.
pub struct Fold {
    pub(super) rules: Rules,
    clock: Clock,
    links: Links,
    index: HashMap<i64, u32, FixedState>,
    subjects: Vec<(SubjectId, Subject)>,
    /// The earliest due time of every subject that has one.
    pending: BTreeSet<(Micros, SubjectId)>,
    /// Subjects that are not in memory.
    pub(super) resting: Resting,
    /// Whether any subject was trimmed.
    pub(super) is_trimmed: bool,
    /// Position in the log of the rows that are applied.
    position: i64,
    /// The latest time at which anything became known.
    known: Micros,
    bytes: usize,
    skipped: u64,
}

impl fmt::Debug for Fold {
    /// How much, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold")
            .field("subjects", &self.subjects.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Fold {
    /// An empty state. [`Prediction::trigger`] is an index into `triggers`.
    pub fn new(spec: Arc<FeatureSpec>, triggers: Vec<Trigger>) -> Self {
        let on = triggers.iter().enumerate().filter_map(|(trigger, one)| match &one.kind {
            TriggerKind::On { what, min_gap } => {
                Some(On { trigger, what: what.iter().map(|what| what.as_str().into()).collect(), min_gap: *min_gap })
            }
            _ => None,
        });
        let on = on.collect();
        let cohorts = triggers.iter().map(|trigger| trigger.columns(&spec)).collect();
        let every = triggers.iter().filter_map(|one| match one.kind {
            TriggerKind::Every { every, .. } => Some(every),
            _ => None,
        });
        let long = every.min().map_or(Micros::MAX, |every| every.saturating_mul(CATCH_UP as i64));
        Fold {
            rules: Rules { reaches: reaches(&spec), spec, triggers, cohorts, on, long },
            clock: Clock::default(),
            links: Links::default(),
            index: HashMap::default(),
            subjects: Vec::new(),
            pending: BTreeSet::new(),
            resting: Resting::default(),
            is_trimmed: false,
            position: 0,
            known: Micros::MIN,
            bytes: 0,
            skipped: 0,
        }
    }

    /// Says at which position of the log the rows stand that are applied from here on;
    /// [`Fold::rest`] goes by it.
    pub fn at(&mut self, position: i64) {
        self.position = position;
    }

    /// Takes the next event of the partition's log in. Predictions that fall due are added to
    /// `due`; without it they fall due all the same, unheard, so that a silent replay leaves
    /// the state that a live pass would.
    pub fn apply(&mut self, event: &EventRef<'_>, mut due: Option<&mut Due>) -> Applied {
        let Some(id) = event.subject else {
            return if event.code == TICK { self.tick(event, due) } else { Applied::Ignored };
        };
        let seen = self.links.see(event);
        match &seen {
            Seen::Outdated => return Applied::Outdated,
            Seen::Elsewhere(subject, number) => return Applied::Elsewhere(*subject, *number),
            // Nobody becomes a subject by a link.
            Seen::Joined | Seen::Left(_) | Seen::LeftAll if !self.index.contains_key(&id.0) => return Applied::Linked,
            _ => {}
        }
        let place = self.place(id);
        let Some((_, subject)) = self.subjects.get_mut(place) else { return Applied::Ignored };
        self.known = self.known.max(event.recorded_at);
        (subject.position, subject.known) = (self.position, subject.known.max(event.recorded_at));
        let (due_before, bytes_before) = (subject.due, subject.bytes);
        if subject.due <= event.recorded_at {
            self.skipped += skip(&self.rules, subject, event.recorded_at);
            fire(&self.rules, id, subject, event.recorded_at, due.as_deref_mut());
        }
        let applied = match &seen {
            Seen::Row(told) => {
                let applied = subject.apply(event, *told, &self.rules);
                let is_news = matches!(applied, Applied::Asserted | Applied::Corrected) && told.moved.is_none();
                if is_news && !self.rules.on.is_empty() {
                    fire_on(&self.rules, id, subject, event, due);
                }
                applied
            }
            Seen::Left(keys) if !keys.is_empty() => {
                subject.lose(keys, event.recorded_at, &self.rules);
                Applied::Left
            }
            Seen::LeftAll => Applied::Left,
            _ => Applied::Linked,
        };
        self.bytes = self.bytes + subject.bytes - bytes_before;
        if subject.due != due_before {
            reschedule(&mut self.pending, id, due_before, subject.due);
        }
        if seen == Seen::LeftAll {
            self.remove(id);
        }
        applied
    }

    /// Lets go, of every subject in memory, of the facts that no window reaches any more: neither from what is due,
    /// nor from rows that become known `slack` before the clock and the subject's last row, or later. Returns of
    /// how many. Rows that need them all the same are told of by [`Fold::asleep`].
    pub fn trim(&mut self, slack: Micros) -> usize {
        let now = self.clock.now().unwrap_or(Micros::MAX);
        let mut count = 0;
        for (_, subject) in &mut self.subjects {
            let before = subject.bytes;
            if subject.trim(now.min(subject.known).saturating_sub(slack), &self.rules) {
                self.bytes = self.bytes + subject.bytes - before;
                count += 1;
            }
        }
        self.is_trimmed |= count > 0;
        count
    }

    /// Takes over the state of a fold of the same log that was told of other subjects, and of all the ticks too.
    pub fn absorb(&mut self, mut other: Fold) {
        for (id, subject) in other.subjects {
            self.index.insert(id.0, self.subjects.len() as u32);
            self.subjects.push((id, subject));
        }
        self.pending.append(&mut other.pending);
        self.links.absorb(other.links);
        self.resting.absorb(other.resting);
        self.is_trimmed |= other.is_trimmed;
        self.position = self.position.max(other.position);
        self.known = self.known.max(other.known);
        self.bytes += other.bytes;
        self.skipped += other.skipped;
    }

    /// How many subjects are in memory.
    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }

    /// Bytes of the state, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.links.bytes() + self.resting.bytes()
    }

    /// The sealed identifier of a subject, if the log holds one.
    pub fn token(&self, subject: SubjectId) -> Option<&str> {
        self.subject(subject)?.token()
    }

    /// The clock of the partition: how far every raw partition has been read.
    pub fn clock(&self) -> Option<Micros> {
        self.clock.now()
    }

    /// The latest time at which anything became known of anybody; [`Micros::MIN`] before the first.
    pub fn known(&self) -> Micros {
        self.known
    }

    /// How many due times were skipped because of [`CATCH_UP`].
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Hash of everything the state holds in memory, the same on every machine of one architecture
    /// for the same log (invariant 3), where nobody rests or was trimmed. Not cheap.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.clock.digest(&mut hasher);
        self.links.digest(&mut hasher);
        let mut subjects: Vec<&(SubjectId, Subject)> = self.subjects.iter().collect();
        subjects.sort_unstable_by_key(|(id, _)| *id);
        for (id, subject) in subjects {
            hasher.update(&id.0.to_le_bytes());
            subject.digest(&self.rules, &mut hasher);
        }
        for (due, id) in &self.pending {
            hasher.update(&due.to_le_bytes());
            hasher.update(&id.0.to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// The subjects in memory.
    pub(super) fn awake(&self) -> &[(SubjectId, Subject)] {
        &self.subjects
    }

    /// A subject, if it is in memory.
    pub(super) fn subject(&self, id: SubjectId) -> Option<&Subject> {
        self.subjects.get(*self.index.get(&id.0)? as usize).map(|(_, subject)| subject)
    }

    /// The same, to be changed; whoever changes its `bytes` or `due` puts it back by [`Fold::put`].
    pub(super) fn subject_mut(&mut self, id: SubjectId) -> Option<&mut Subject> {
        self.subjects.get_mut(*self.index.get(&id.0)? as usize).map(|(_, subject)| subject)
    }

    /// The subjects, of a fold that has done its work.
    pub(super) fn into_subjects(self) -> Vec<(SubjectId, Subject)> {
        self.subjects
    }

    /// Takes a subject in as it is.
    pub(super) fn put(&mut self, id: SubjectId, subject: Subject) {
        let place = self.place(id);
        if let Some((_, known)) = self.subjects.get_mut(place) {
            self.bytes = self.bytes + subject.bytes - known.bytes;
            *known = subject;
        }
    }

    fn place(&mut self, id: SubjectId) -> usize {
        if let Some(place) = self.index.get(&id.0) {
            return *place as usize;
        }
        let place = self.subjects.len();
        self.index.insert(id.0, place as u32);
        let subject = Subject::new();
        self.bytes += subject.bytes;
        self.subjects.push((id, subject));
        place
    }

    /// Forgets a subject.
    pub(super) fn remove(&mut self, id: SubjectId) {
        let Some(place) = self.index.remove(&id.0) else { return };
        let (_, subject) = self.subjects.swap_remove(place as usize);
        self.bytes -= subject.bytes;
        reschedule(&mut self.pending, id, subject.due, NEVER);
        if let Some((last, _)) = self.subjects.get(place as usize) {
            self.index.insert(last.0, place);
        }
    }

    /// Moves the clock and lets fall due what is due by then, in order of time, then subject.
    fn tick(&mut self, event: &EventRef<'_>, mut due: Option<&mut Due>) -> Applied {
        self.clock.tick(event);
        let Some(now) = self.clock.now() else { return Applied::Tick };
        while let Some(&(at, id)) = self.pending.first()
            && at <= now
        {
            let place = self.place(id);
            let Some((_, subject)) = self.subjects.get_mut(place) else { break };
            self.skipped += skip(&self.rules, subject, now);
            fire(&self.rules, id, subject, at, due.as_deref_mut());
            reschedule(&mut self.pending, id, at, subject.due);
        }
        Applied::Tick
    }
}

fn reschedule(pending: &mut BTreeSet<(Micros, SubjectId)>, id: SubjectId, from: Micros, to: Micros) {
    if from != NEVER {
        pending.remove(&(from, id));
    }
    if to != NEVER {
        pending.insert((to, id));
    }
}

/// Skips the due times of a subject up to `limit` that are more than [`CATCH_UP`]; gives how many.
fn skip(rules: &Rules, subject: &mut Subject, limit: Micros) -> u64 {
    if limit.saturating_sub(subject.due) < rules.long {
        return 0;
    }
    let mut skipped = 0;
    for encounter in &mut subject.encounters {
        let Some(start) = encounter.open else { continue };
        for pending in &mut encounter.pending {
            let Some(TriggerKind::Every { every, until }) =
                rules.triggers.get(pending.trigger as usize).map(|t| &t.kind)
            else {
                continue;
            };
            let every = (*every).max(1);
            let last = until.map_or(limit, |until| start.saturating_add(until).min(limit));
            if pending.next > last {
                continue;
            }
            let due = (last.saturating_sub(pending.next) / every).saturating_add(1);
            let surplus = due.saturating_sub(CATCH_UP as i64);
            if surplus > 0 {
                pending.next += surplus * every;
                skipped += surplus as u64;
            }
        }
    }
    if skipped > 0 {
        subject.refresh_due();
    }
    skipped
}

/// Lets fall due what is due up to `limit`, in order of time, trigger, encounter.
fn fire(rules: &Rules, id: SubjectId, subject: &mut Subject, limit: Micros, mut due: Option<&mut Due>) {
    loop {
        let pending = subject.encounters.iter().enumerate().flat_map(|(place, encounter)| {
            encounter.pending.iter().enumerate().map(move |(slot, one)| (one.next, one.trigger, place, slot))
        });
        let Some((at, trigger, place, slot)) = pending.filter(|(at, ..)| *at <= limit && *at != NEVER).min() else {
            break;
        };
        if let Some(due) = due.as_deref_mut() {
            let stay = subject.encounters.get(place).map(Stay::of);
            predict(rules, id, subject, stay, trigger as usize, at, due);
        }
        let Some(encounter) = subject.encounters.get_mut(place) else { break };
        let open = encounter.open;
        if let Some(one) = encounter.pending.get_mut(slot) {
            let trigger = rules.triggers.get(trigger as usize);
            let next = open.zip(trigger).and_then(|(start, trigger)| trigger.next_due(start, at.saturating_add(1)));
            (one.fired, one.next) = (at, next.unwrap_or(NEVER));
        }
    }
    subject.refresh_due();
}

/// Lets fall due what fires on an event that was just taken in.
fn fire_on(rules: &Rules, id: SubjectId, subject: &mut Subject, event: &EventRef<'_>, mut due: Option<&mut Due>) {
    let at = event.recorded_at;
    for (slot, on) in rules.on.iter().enumerate().filter(|(_, on)| on.wants(event)) {
        let Some(trigger) = rules.triggers.get(on.trigger) else { continue };
        if subject.last_on.is_empty() {
            subject.last_on = vec![Micros::MIN; rules.on.len()];
            subject.bytes += size_of_val(&*subject.last_on);
        }
        let last = subject.last_on.get(slot).copied().unwrap_or(Micros::MIN);
        let soon = last != Micros::MIN && (at <= last || at.saturating_sub(last) < on.min_gap);
        let stay = subject.encounter_at(trigger, event.encounter_id, at).map(Stay::of);
        if soon || (stay.is_none() && trigger.encounter.is_some()) {
            continue;
        }
        if let Some(due) = due.as_deref_mut() {
            predict(rules, id, subject, stay, on.trigger, at, due);
        }
        if let Some(last) = subject.last_on.get_mut(slot) {
            *last = at;
        }
    }
}

/// The encounter of a prediction.
struct Stay {
    id: Option<Arc<str>>,
    start: Option<Micros>,
}

impl Stay {
    fn of(encounter: &Encounter) -> Self {
        Stay { id: encounter.id.clone(), start: encounter.open }
    }
}

fn predict(
    rules: &Rules,
    id: SubjectId,
    subject: &mut Subject,
    stay: Option<Stay>,
    trigger: usize,
    at: Micros,
    due: &mut Due,
) {
    let stay = stay.unwrap_or(Stay { id: None, start: None });
    let source = subject.source.clone();
    let prediction = Prediction { trigger, subject: id, encounter: stay.id, time: at, source };
    let moment = Moment { birth: subject.birth, sex: subject.sex, start: stay.start, at };
    subject.refresh(rules);
    let (values, observed) = due.push(prediction, &rules.spec);
    vector::fill(&rules.spec, &mut subject.series, &subject.held, &moment, values, observed);
    let columns = rules.cohorts.get(trigger).map_or(&[][..], Vec::as_slice);
    // Who is not of the cohort is passed over; the times of the trigger go on as if it had been.
    if rules.triggers.get(trigger).is_some_and(|trigger| !trigger.is_of_cohort(values, columns)) {
        due.pop(&rules.spec);
    }
}
