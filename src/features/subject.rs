//! The state of one subject: the facts that hold, and what they amount to.

mod trim;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use foldhash::fast::FixedState;

use self::trim::{Arrivals, Trimmed};
use super::NONE;
use super::derived::{FRESH, Person, refresh};
use super::encounter::{Edge, Encounter, NEVER};
use super::fold::{Applied, Rules};
use super::series::{STATIC, Sample, Series};
use super::spec::FeatureSpec;
use super::text::Held;
use super::trigger::Trigger;
use crate::events::{EventKey, EventRef, MEDS_BIRTH, Micros, Op, TOKEN, Told};

const MALE: &str = "GENDER//M";
const FEMALE: &str = "GENDER//F";

/// An [`EventKey`] as two numbers.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Key(u64, u64);

impl From<EventKey> for Key {
    fn from(key: EventKey) -> Self {
        let whole = u128::from_le_bytes(key.0);
        Key(whole as u64, (whole >> 64) as u64)
    }
}

/// Hashes a [`Key`], which is a keyed hash already: one multiplication, so that keys made
/// otherwise (by tests) spread too.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, half: u64) {
        let product = u128::from(self.0.rotate_left(32) ^ half) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A fact that holds: 16 bytes, beside a key of 16.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Fact {
    /// Hash of all that makes it the same fact when it is delivered again.
    content: u64,
    /// Its number among the facts of the subject, in order of arrival. It tells samples apart;
    /// after 2^32 it would begin anew, but nobody is told of so often.
    number: u32,
    /// Entry of its concept in the spec, or [`NONE`].
    concept: u16,
    /// Set of series of its code, or [`NONE`].
    codes: u16,
}

impl Fact {
    /// The series that it may have a sample in, and [`NONE`].
    fn series<'s>(&self, spec: &'s FeatureSpec) -> impl Iterator<Item = u16> + use<'s> {
        let entry = spec.entry(self.concept);
        let of_concept = entry.into_iter().flat_map(|entry| [entry.values, entry.texts, entry.terms]);
        of_concept.chain(spec.codes().series(self.codes).iter().copied())
    }
}

/// What a fact says that is no sample.
#[derive(Clone, PartialEq, Debug)]
enum Statement {
    Birth(Micros),
    Sex(f32),
    Token(Box<str>),
    Edge { encounter: u32, edge: Edge, time: Micros },
}

impl Statement {
    /// Bytes it takes, about.
    fn bytes(&self) -> usize {
        let text = if let Statement::Token(token) = self { token.len() } else { 0 };
        size_of::<Said>() + text
    }
}

/// A statement, and the fact that makes it.
#[derive(Clone, PartialEq, Debug)]
struct Said {
    /// Number of the fact.
    number: u32,
    /// Whether it was told under the identifier that the subject has its pseudonym from. Of what
    /// can be only once, that one's word counts before all others'.
    own: bool,
    what: Statement,
}

/// The facts of a subject, or those of them that are in memory.
type Facts = HashMap<Key, Fact, BuildHasherDefault<KeyHasher>>;

/// The state of one subject.
pub(super) struct Subject {
    facts: Facts,
    /// When the facts happened, about. No part of the state.
    arrivals: Arrivals,
    /// What is no longer in memory; `None`: all is. No part of the state.
    trimmed: Option<Trimmed>,
    /// By series of the spec; none until the first sample.
    pub(super) series: Vec<Series>,
    /// What the texts hold that series of texts have as samples.
    pub(super) held: Held,
    /// From when on each derived series is out of date; none until the first sample. Like those
    /// series, no part of the state.
    stale: Vec<Micros>,
    /// The codes met in groups that tell them apart, with a number each.
    names: HashMap<Box<str>, u32, FixedState>,
    /// In order of arrival.
    statements: Vec<Said>,
    /// In order of their first fact; one that is withdrawn stays, closed.
    pub(super) encounters: Vec<Encounter>,
    pub(super) birth: Option<Micros>,
    pub(super) sex: Option<f32>,
    /// Source of the event that last changed the state.
    pub(super) source: String,
    /// When each `on` rule last fired.
    pub(super) last_on: Vec<Micros>,
    /// The earliest due time of all encounters.
    pub(super) due: Micros,
    /// Position in the log of its last row. Like the next, no part of the state.
    pub(super) position: i64,
    /// The latest time at which anything became known of it.
    pub(super) known: Micros,
    next_number: u32,
    /// The number of the next fact when it was last folded anew for what it had let go of; no part of the state.
    woken: u32,
    /// Heap bytes of the state, about; what is kept of derived series and blocks is not in it.
    pub(super) bytes: usize,
}

impl Subject {
    /// A subject of whom nothing is known.
    pub(super) fn new() -> Self {
        Subject {
            facts: Facts::default(),
            arrivals: Arrivals::default(),
            trimmed: None,
            series: Vec::new(),
            held: Held::default(),
            stale: Vec::new(),
            names: HashMap::default(),
            statements: Vec::new(),
            encounters: Vec::new(),
            birth: None,
            sex: None,
            source: String::new(),
            last_on: Vec::new(),
            due: NEVER,
            position: 0,
            known: Micros::MIN,
            next_number: 0,
            woken: 0,
            bytes: size_of::<Subject>(),
        }
    }

    /// The token that came last, of the identifier that is in use.
    pub(super) fn token(&self) -> Option<&str> {
        self.latest(|what| if let Statement::Token(token) = what { Some(&**token) } else { None })
    }

    /// What `wanted` finds in the latest statement: of those under the subject's own identifier, or
    /// else of all.
    fn latest<'s, T>(&'s self, wanted: impl Fn(&'s Statement) -> Option<T>) -> Option<T> {
        let latest = |own| self.statements.iter().rev().filter(move |said| said.own == own);
        latest(true).find_map(|said| wanted(&said.what)).or_else(|| latest(false).find_map(|said| wanted(&said.what)))
    }

    /// The open encounter that an event belongs to: the one it names, else the one begun last.
    pub(super) fn encounter_at(&self, trigger: &Trigger, id: Option<&str>, at: Micros) -> Option<&Encounter> {
        let open = || {
            let concerned = self.encounters.iter().filter(|one| trigger.concerns(&one.class));
            concerned.filter(|one| one.open.is_some_and(|start| start <= at))
        };
        let named = id.and_then(|id| open().filter(|one| one.id.as_deref() == Some(id)).max_by_key(|one| one.open));
        named.or_else(|| open().max_by_key(|one| one.open))
    }

    /// Takes one event of the subject in.
    pub(super) fn apply(&mut self, event: &EventRef<'_>, told: Told<'_>, rules: &Rules) -> Applied {
        let key = Key::from(event.event_key);
        let (old, new, applied) = match event.op {
            Op::Retract => match self.facts.remove(&key) {
                Some(old) => (Some(old), None, Applied::Retracted),
                None => return Applied::RetractedUnknown,
            },
            Op::Assert => {
                let new = self.fact(event, rules);
                let room = self.facts.capacity();
                match self.facts.entry(key) {
                    Entry::Occupied(known) if known.get().content == new.content => return Applied::Redelivered,
                    Entry::Occupied(mut known) => (Some(known.insert(new)), Some(new), Applied::Corrected),
                    Entry::Vacant(place) => {
                        place.insert(new);
                        if self.facts.capacity() != room {
                            self.bytes += table_bytes(self.facts.capacity()) - table_bytes(room);
                        }
                        (None, Some(new), Applied::Asserted)
                    }
                }
            }
        };
        let left = old.and_then(|old| self.forget(old, rules));
        let entered = new.and_then(|new| {
            self.next_number = self.next_number.wrapping_add(1);
            self.bytes += self.arrivals.add(new.number, event.time);
            self.remember(new, event, told, rules)
        });
        // After both, so that a correction that moves nothing keeps the due times.
        for encounter in left.into_iter().chain(entered) {
            self.restate(encounter, event.recorded_at, rules);
        }
        self.source.clear();
        self.source.push_str(told.place);
        applied
    }

    /// Takes away facts that are another subject's now.
    pub(super) fn lose(&mut self, keys: &[EventKey], recorded_at: Micros, rules: &Rules) {
        let mut lost: Vec<Fact> = keys.iter().filter_map(|key| self.facts.remove(&Key::from(*key))).collect();
        // Not in the order of the keys, which is a hash map's.
        lost.sort_unstable_by_key(|fact| fact.number);
        let mut concerned: Vec<u32> = lost.iter().filter_map(|fact| self.forget(*fact, rules)).collect();
        concerned.sort_unstable();
        concerned.dedup();
        for encounter in concerned {
            self.restate(encounter, recorded_at, rules);
        }
    }

    /// The fact that an event asserts.
    fn fact(&self, event: &EventRef<'_>, rules: &Rules) -> Fact {
        let (has_value, has_text) = (event.numeric_value.is_some_and(f32::is_finite), event.text_value.is_some());
        let concept = event.plausible_concept().and_then(|concept| rules.spec.entry_of(concept));
        let takes = |entry: &u16| rules.spec.entry(*entry).is_some_and(|entry| entry.takes(has_value, has_text));
        let concept = concept.filter(takes);
        Fact {
            content: content(event),
            number: self.next_number,
            concept: concept.unwrap_or(NONE),
            codes: rules.spec.codes().set_of(event.code).unwrap_or(NONE),
        }
    }

    /// Takes away what a fact said; gives the encounter it was about.
    fn forget(&mut self, fact: Fact, rules: &Rules) -> Option<u32> {
        for index in fact.series(&rules.spec) {
            let removed = self.series.get_mut(usize::from(index)).and_then(|series| series.remove(fact.number));
            if let Some(time) = removed {
                self.outdate(rules.spec.dependents(index), time);
                self.bytes -= self.held.remove(index, fact.number);
            }
        }
        let place = self.statements.iter().rposition(|said| said.number == fact.number)?;
        let statement = self.statements.remove(place).what;
        self.bytes -= statement.bytes();
        self.settle(&statement, rules)
    }

    /// Adds what a fact says; gives the encounter it is about.
    fn remember(&mut self, fact: Fact, event: &EventRef<'_>, told: Told<'_>, rules: &Rules) -> Option<u32> {
        let time = event.time.unwrap_or(STATIC);
        let codes = rules.spec.codes().series(fact.codes);
        if fact.concept != NONE || !codes.is_empty() {
            if self.series.is_empty() {
                self.series.resize_with(rules.spec.panes().len(), Series::default);
                self.stale = vec![FRESH; rules.spec.derived().len()];
                self.bytes += self.series.len() * size_of::<Series>() + size_of_val(&*self.stale);
            }
            let number = event.numeric_value.filter(|value| value.is_finite());
            if let Some(entry) = rules.spec.entry(fact.concept) {
                if entry.takes_value(number.is_some()) {
                    // Without a number it is a sample of presence.
                    let value = number.unwrap_or(1.0);
                    self.sample(entry.values, Sample { time, value, fact: fact.number }, rules);
                }
                if entry.texts != NONE
                    && let Some(text) = event.text_value
                {
                    let value = rules.spec.category(entry.texts, text);
                    self.sample(entry.texts, Sample { time, value, fact: fact.number }, rules);
                }
                self.text(entry.terms, event.text_value, Sample { time, value: 1.0, fact: fact.number }, rules);
            }
            for series in codes {
                if rules.spec.texts_of(*series).is_some() {
                    self.text(*series, event.text_value, Sample { time, value: 1.0, fact: fact.number }, rules);
                    continue;
                }
                let value = if rules.spec.tells_apart(*series) { self.name(event.code) } else { 1.0 };
                self.sample(*series, Sample { time, value, fact: fact.number }, rules);
            }
        }
        let statement = self.statement(event, &rules.triggers)?;
        self.bytes += statement.bytes();
        let own = told.under.is_none_or(|under| Some(under) == event.subject);
        self.statements.push(Said { number: fact.number, own, what: statement.clone() });
        self.settle(&statement, rules)
    }

    fn sample(&mut self, index: u16, sample: Sample, rules: &Rules) {
        if let Some(series) = self.series.get_mut(usize::from(index)) {
            let before = series.bytes();
            series.insert(sample);
            self.bytes += series.bytes() - before;
        }
        self.outdate(rules.spec.dependents(index), sample.time);
    }

    /// Takes a text in as a sample of a series of texts, if there is both, with what it holds.
    fn text(&mut self, index: u16, text: Option<&str>, sample: Sample, rules: &Rules) {
        if let (Some(texts), Some(text)) = (rules.spec.texts_of(index), text) {
            self.bytes += self.held.insert(index, sample.fact, texts.terms.find(text));
            self.sample(index, sample, rules);
        }
    }

    /// Says that derived series are out of date from a time on.
    fn outdate(&mut self, derived: &[u16], from: Micros) {
        for place in derived {
            if let Some(stale) = self.stale.get_mut(usize::from(*place)) {
                *stale = (*stale).min(from);
            }
        }
    }

    /// Brings the derived series up to date.
    pub(super) fn refresh(&mut self, rules: &Rules) {
        if self.stale.iter().all(|from| *from == FRESH) {
            return;
        }
        let person = Person { birth: self.birth, sex: self.sex };
        refresh(&rules.spec, &mut self.series, &mut self.stale, person);
    }

    /// The number of a code, the same for as long as the subject is told of.
    fn name(&mut self, code: &str) -> f32 {
        if let Some(known) = self.names.get(code) {
            return *known as f32;
        }
        let next = self.names.len() as u32;
        self.names.insert(code.into(), next);
        self.bytes += code.len() + size_of::<(Box<str>, u32)>();
        next as f32
    }

    /// What an event says beside its value.
    fn statement(&mut self, event: &EventRef<'_>, triggers: &[Trigger]) -> Option<Statement> {
        match event.code {
            MEDS_BIRTH => event.time.map(Statement::Birth),
            MALE => Some(Statement::Sex(1.0)),
            FEMALE => Some(Statement::Sex(0.0)),
            TOKEN => event.text_value.map(|token| Statement::Token(token.into())),
            code => {
                let ((class, edge), time) = Edge::of(code).zip(event.time)?;
                let encounter = self.encounter(class, event.encounter_id, triggers);
                Some(Statement::Edge { encounter, edge, time })
            }
        }
    }

    /// Index of the encounter of a class under an id, if there is one.
    fn known_encounter(&self, class: &str, id: Option<&str>) -> Option<usize> {
        self.encounters.iter().rposition(|one| *one.class == *class && one.id.as_deref() == id)
    }

    /// Index of the encounter of a class under an id.
    fn encounter(&mut self, class: &str, id: Option<&str>, triggers: &[Trigger]) -> u32 {
        let place = self.known_encounter(class, id).unwrap_or_else(|| {
            let new = Encounter::new(class, id, triggers);
            self.bytes += size_of::<Encounter>() + size_of_val(&*new.pending) + class.len() + id.map_or(0, str::len);
            self.encounters.push(new);
            self.encounters.len() - 1
        });
        place as u32
    }

    /// Brings up to date what a statement that came or went is about, except for an encounter,
    /// whose index it gives.
    fn settle(&mut self, statement: &Statement, rules: &Rules) -> Option<u32> {
        match statement {
            Statement::Birth(_) => {
                self.birth = self.latest(|what| if let Statement::Birth(time) = what { Some(*time) } else { None });
            }
            Statement::Sex(_) => {
                self.sex = self.latest(|what| if let Statement::Sex(sex) = what { Some(*sex) } else { None });
            }
            Statement::Token(_) => return None,
            Statement::Edge { encounter, .. } => return Some(*encounter),
        }
        self.outdate(rules.spec.of_person(), STATIC);
        None
    }

    fn restate(&mut self, index: u32, recorded_at: Micros, rules: &Rules) {
        let edges = self.statements.iter().filter_map(|said| match &said.what {
            Statement::Edge { encounter, edge, time } if *encounter == index => Some((*time, *edge)),
            _ => None,
        });
        if let Some(encounter) = self.encounters.get_mut(index as usize) {
            encounter.restate(edges, recorded_at, &rules.triggers);
        }
        self.refresh_due();
    }

    /// Finds the earliest due time anew.
    pub(super) fn refresh_due(&mut self) {
        let pending = self.encounters.iter().flat_map(|encounter| &encounter.pending);
        self.due = pending.map(|pending| pending.next).min().unwrap_or(NEVER);
    }

    /// Feeds everything that is state to `hasher`, in an order that is no hash map's.
    pub(super) fn digest(&self, rules: &Rules, hasher: &mut blake3::Hasher) {
        let mut numbers = |numbers: &[i64]| {
            for number in numbers {
                hasher.update(&number.to_le_bytes());
            }
        };
        let mut facts: Vec<_> = self.facts.iter().collect();
        facts.sort_unstable_by_key(|(key, _)| **key);
        for (Key(low, high), fact) in facts {
            let small = i64::from(fact.number) << 32 | i64::from(fact.concept) << 16 | i64::from(fact.codes);
            numbers(&[*low as i64, *high as i64, fact.content as i64, small]);
        }
        let derived: Vec<u16> = rules.spec.derived().iter().map(|derived| derived.series).collect();
        for (_, series) in (0..).zip(&self.series).filter(|(place, _)| !derived.contains(place)) {
            numbers(&[series.samples().len() as i64]);
            for sample in series.samples() {
                numbers(&[sample.time, i64::from(sample.value.to_bits()), i64::from(sample.fact)]);
            }
        }
        for texts in rules.spec.texts() {
            for sample in self.series.get(usize::from(texts.series)).map_or(&[][..], Series::samples) {
                for (term, count) in self.held.of(texts.series, sample.fact) {
                    numbers(&[i64::from(sample.fact), i64::from(*term) << 16 | i64::from(*count)]);
                }
            }
        }
        for encounter in &self.encounters {
            numbers(&[encounter.open.unwrap_or(NEVER), encounter.pending.len() as i64]);
            for pending in &encounter.pending {
                numbers(&[i64::from(pending.trigger), pending.next, pending.fired]);
            }
        }
        numbers(&[self.due, i64::from(self.next_number), self.birth.unwrap_or(NEVER)]);
        numbers(&self.last_on);
        let ids = self.encounters.iter().map(|encounter| (&*encounter.class, encounter.id.as_deref()));
        let rest = format!("{:?}{:?}{:?}{:?}", self.statements, self.sex, self.source, ids.collect::<Vec<_>>());
        hasher.update(rest.as_bytes());
    }
}

/// Hash of all that makes an event the same fact as another under its key: not when it became
/// known, nor through which message.
fn content(event: &EventRef<'_>) -> u64 {
    const SEED: FixedState = FixedState::with_seed(0x6175_7363_756c_7401);
    let mut hasher = SEED.build_hasher();
    event.time.hash(&mut hasher);
    event.numeric_value.map(f32::to_bits).hash(&mut hasher);
    event.code.hash(&mut hasher);
    for text in [event.unit, event.plausible_concept(), event.encounter_id, event.text_value] {
        text.hash(&mut hasher);
    }
    hasher.finish()
}

/// About how many bytes the table of facts takes that has room for `capacity`.
fn table_bytes(capacity: usize) -> usize {
    // The standard library's table: a power of two, at most 7/8 full, one byte beside each entry.
    let buckets = if capacity == 0 { 0 } else { (capacity * 8 / 7).next_power_of_two() };
    buckets * (size_of::<(Key, Fact)>() + 1)
}
