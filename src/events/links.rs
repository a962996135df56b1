//! What the log of record says of links between identifiers, and what follows for its rows.
//!
//! A patient may have several identifiers, and each has a pseudonym of its own. Which subject it
//! leads to is decided before a row is written; a link that comes later, or is undone, moves what
//! is known under some identifiers from one subject to another. The log says so itself:
//!
//! - [`LEAVE`] in the partition of the subject that loses them: from here on it no longer holds
//!   what was told under these identifiers. The owner of that partition writes what it held
//!   into the other's as rows that are *moved*, and after them every straggler, a row that was
//!   written by a process which had not heard of the link yet.
//! - [`JOIN`] in the partition of the subject that gains them, before anything of theirs.
//!
//! So every partition holds all that its subjects know, and the state stays a function of the
//! partition's rows alone (invariants 3 and 6). Moved rows may come late, over several subjects, and
//! after something newer. So links are numbered, and a moved row says by [`Said`] where it was said
//! first: the number of the link by which that subject had gained its identifier, and the place in
//! that subject's partition. Of two words on one fact the one that was said later holds.
//!
//! [`Links`] is this rule. Whoever goes through a partition's rows asks it first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;

use super::{EventKey, EventRef, JOIN, LEAVE, SubjectId};

/// Marks a moved row at the end of its source.
const MOVED: char = '~';
/// Stands before the pseudonym of the identifier under which a fact was told.
const UNDER: char = '@';

/// What the source of an event says of the way it came: `topic-partition-offset#index`, then
/// `@PSEUDONYM` where it was told under another identifier than that whose pseudonym the subject
/// has, then `~NUMBER.OFFSET.ROW` where a link or its undoing moved it here.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Told<'a> {
    /// `topic-partition-offset#index` of the raw message.
    pub place: &'a str,
    /// Pseudonym of the identifier; `None`: that of the subject.
    pub under: Option<SubjectId>,
    /// Where it was said first, if it was moved here.
    pub moved: Option<Said>,
}

/// Where a row was said first; the later is the greater.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Said {
    /// Number of the link by which the subject of then had gained the identifier; 0: by none.
    pub number: u64,
    /// Offset in that subject's partition of the log of record.
    pub offset: i64,
    /// Row of that message.
    pub row: i32,
}

impl FromStr for Said {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        fn next<T: FromStr>(words: &mut std::str::Split<'_, char>) -> Result<T, ()> {
            words.next().and_then(|word| word.parse().ok()).ok_or(())
        }
        let mut words = text.split('.');
        let said = Said { number: next(&mut words)?, offset: next(&mut words)?, row: next(&mut words)? };
        if words.next().is_none() { Ok(said) } else { Err(()) }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.number, self.offset, self.row)
    }
}

impl<'a> Told<'a> {
    /// Reads a source.
    pub fn of(source: &'a str) -> Self {
        let (rest, moved) = cut(source, MOVED);
        let (place, under) = cut(rest, UNDER);
        Told { place, under: under.map(SubjectId), moved }
    }
}

/// A text without the number after its last `sign`, and that number.
fn cut<T: FromStr>(text: &str, sign: char) -> (&str, Option<T>) {
    match text.rsplit_once(sign).and_then(|(rest, number)| Some((rest, number.parse().ok()?))) {
        Some((rest, number)) => (rest, Some(number)),
        None => (text, None),
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.place)?;
        if let Some(SubjectId(under)) = self.under {
            write!(f, "{UNDER}{under}")?;
        }
        self.moved.map_or(Ok(()), |moved| write!(f, "{MOVED}{moved}"))
    }
}

/// The text of a [`JOIN`] or [`LEAVE`]: who is on the other side, which link it is, and what moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linked {
    /// For a [`LEAVE`] the subject that gains, for a [`JOIN`] the one that loses.
    pub other: SubjectId,
    /// Number of the link or its undoing, from 1 on.
    pub number: u64,
    /// Pseudonyms of the identifiers concerned.
    pub under: Vec<SubjectId>,
}

impl Linked {
    /// Reads the text of an event; `None` if it is none of the two.
    pub fn of(event: &EventRef<'_>) -> Option<Self> {
        if event.code != LEAVE && event.code != JOIN {
            return None;
        }
        let mut words = event.text_value?.split(' ');
        let other = SubjectId(words.next()?.parse().ok()?);
        let number = words.next()?.parse().ok()?;
        let under = words.map(|word| word.parse().map(SubjectId)).collect::<Result<_, _>>().ok()?;
        Some(Linked { other, number, under })
    }
}

impl fmt::Display for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.other.0, self.number)?;
        self.under.iter().try_for_each(|under| write!(f, " {}", under.0))
    }
}

/// What is to be done with a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen<'a> {
    /// It says something of its subject.
    Row(Told<'a>),
    /// It was moved here, but something newer has been said: it says nothing.
    Outdated,
    /// Its subject no longer holds what is told under its identifier: this one does, and there the
    /// row is a moved one. Unless it is one here already, it was said under the link of this number.
    Elsewhere(SubjectId, u64),
    /// Its subject will hold what is told under more identifiers.
    Joined,
    /// Its subject holds nothing any more.
    LeftAll,
    /// Its subject no longer holds the facts of these keys, in no order.
    Left(Vec<EventKey>),
}

/// The links of a partition of the log, as far as it has been read.
#[derive(Clone, Default)]
pub struct Links {
    /// By subject and identifier, for identifiers that were linked.
    stays: HashMap<(SubjectId, SubjectId), Stay, State>,
    /// By subject: the last word on every fact that may have to leave it.
    words: HashMap<SubjectId, HashMap<EventKey, Word, State>, State>,
    /// Facts in all `words`.
    facts: usize,
}

/// The same on every machine, and quick: this is asked for every row.
type State = foldhash::fast::FixedState;

/// Whether what is told under an identifier is a subject's.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Stay {
    /// The link by which it came to be; 0: by none.
    number: u64,
    /// Whose it is since then.
    left: Option<SubjectId>,
}

/// The last word on a fact: under which identifier, and where it was said.
#[derive(Copy, Clone)]
struct Word {
    under: SubjectId,
    said: Said,
}

impl fmt::Debug for Links {
    /// How much, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("stays", &self.stays.len()).field("facts", &self.facts).finish()
    }
}

impl Links {
    /// Takes the partition's next row in and says what is to be done with it.
    pub fn see<'e>(&mut self, event: &EventRef<'e>) -> Seen<'e> {
        let told = Told::of(event.source);
        let Some(subject) = event.subject else { return Seen::Row(told) };
        if event.code == JOIN || event.code == LEAVE {
            return match Linked::of(event) {
                Some(linked) if event.code == JOIN => self.join(subject, &linked),
                Some(linked) => self.leave(subject, &linked),
                None => Seen::Joined,
            };
        }
        let under = told.under.unwrap_or(subject);
        let stay = if self.stays.is_empty() { None } else { self.stays.get(&(subject, under)) };
        let number = stay.map_or(0, |stay| stay.number);
        if let Some(other) = stay.and_then(|stay| stay.left) {
            return Seen::Elsewhere(other, number);
        }
        // What is told under the identifier that a subject has its pseudonym from goes with the
        // subject, all of it; only of one that has come back can there be older words on the way.
        if under == subject && stay.is_none() {
            return Seen::Row(told);
        }
        // What is moved here was said before, under links of lower numbers.
        let said = told.moved.unwrap_or(Said { number, offset: i64::MAX, row: i32::MAX });
        match self.words.entry(subject).or_default().entry(event.event_key) {
            Entry::Occupied(last) if said < last.get().said => return Seen::Outdated,
            Entry::Occupied(mut last) => {
                last.insert(Word { under, said });
            }
            Entry::Vacant(place) => {
                place.insert(Word { under, said });
                self.facts += 1;
            }
        }
        Seen::Row(told)
    }

    /// Number of the link by which a subject last gained an identifier; 0: by none.
    pub fn number(&self, subject: SubjectId, under: SubjectId) -> u64 {
        self.stays.get(&(subject, under)).map_or(0, |stay| stay.number)
    }

    /// Takes over what the rows of other subjects of the same partition said. All that a row changes here is its own
    /// subject's: of the one on the other side of a link a row of its own says so.
    pub fn absorb(&mut self, other: Links) {
        self.stays.extend(other.stays);
        self.words.extend(other.words);
        self.facts += other.facts;
    }

    /// Heap bytes, about.
    pub fn bytes(&self) -> usize {
        self.stays.len() * size_of::<((SubjectId, SubjectId), Stay)>() + self.facts * size_of::<(EventKey, Word)>()
    }

    /// Feeds everything it holds to `hasher`, in an order that is no hash map's.
    pub fn digest(&self, hasher: &mut blake3::Hasher) {
        let mut stays: Vec<_> = self.stays.iter().collect();
        stays.sort_unstable();
        for ((subject, under), stay) in stays {
            for id in [subject, under, &stay.left.unwrap_or(*subject)] {
                hasher.update(&id.0.to_le_bytes());
            }
            hasher.update(&stay.number.to_le_bytes()).update(&[u8::from(stay.left.is_some())]);
        }
        let mut words: Vec<_> = self.words.iter().filter(|(_, words)| !words.is_empty()).collect();
        words.sort_unstable_by_key(|(subject, _)| **subject);
        for (subject, words) in words {
            hasher.update(&subject.0.to_le_bytes());
            let mut words: Vec<_> = words.iter().collect();
            words.sort_unstable_by_key(|(key, _)| **key);
            for (key, word) in words {
                hasher.update(&key.0).update(&word.under.0.to_le_bytes()).update(&word.said.number.to_le_bytes());
                hasher.update(&word.said.offset.to_le_bytes()).update(&word.said.row.to_le_bytes());
            }
        }
    }

    fn join(&mut self, subject: SubjectId, linked: &Linked) -> Seen<'static> {
        for under in &linked.under {
            self.stays.insert((subject, *under), Stay { number: linked.number, left: None });
        }
        Seen::Joined
    }

    fn leave(&mut self, subject: SubjectId, linked: &Linked) -> Seen<'static> {
        for under in &linked.under {
            self.stays.entry((subject, *under)).or_insert(Stay { number: 0, left: None }).left = Some(linked.other);
        }
        if linked.under.contains(&subject) {
            self.facts -= self.words.remove(&subject).map_or(0, |words| words.len());
            return Seen::LeftAll;
        }
        let Some(words) = self.words.get_mut(&subject) else { return Seen::Left(Vec::new()) };
        let gone = |word: &Word| linked.under.contains(&word.under);
        let keys: Vec<EventKey> = words.iter().filter(|(_, word)| gone(word)).map(|(key, _)| *key).collect();
        for key in &keys {
            words.remove(key);
        }
        self.facts -= keys.len();
        Seen::Left(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Op;
    use super::*;

    /// A row of subject 1, or of another that `code` and `text` make it.
    fn row<'a>(code: &'a str, text: &'a str, source: &'a str, key: u8) -> EventRef<'a> {
        EventRef {
            subject: Some(SubjectId(1)),
            time: None,
            code,
            numeric_value: None,
            text_value: Some(text),
            unit: None,
            concept: None,
            recorded_at: 0,
            op: Op::Assert,
            event_key: EventKey([key; 16]),
            encounter_id: None,
            source,
            implausible: false,
        }
    }

    #[test]
    fn a_source_says_how_a_row_came_and_is_written_back() {
        for (source, place, under, moved) in [
            ("raw.flat-3-18#0", "raw.flat-3-18#0", None, None),
            ("raw.flat-3-18#0@-77", "raw.flat-3-18#0", Some(-77), None),
            ("raw.flat-3-18#0~0.-5.0", "raw.flat-3-18#0", None, Some((0, -5, 0))),
            ("raw.flat-3-18#0@9~12.7.3", "raw.flat-3-18#0", Some(9), Some((12, 7, 3))),
            ("else~1.2", "else~1.2", None, None),
            ("else~1.2.3.4", "else~1.2.3.4", None, None),
            ("someone@else~", "someone@else~", None, None),
            ("", "", None, None),
        ] {
            let told = Told::of(source);
            let moved = moved.map(|(number, offset, row)| Said { number, offset, row });
            assert_eq!(told, Told { place, under: under.map(SubjectId), moved }, "{source}");
            assert_eq!(told.to_string(), source);
        }
    }

    #[test]
    fn the_text_of_a_link_is_read_as_it_is_written() {
        let linked = Linked { other: SubjectId(-3), number: 7, under: vec![SubjectId(i64::MIN), SubjectId(4)] };
        let text = linked.to_string();
        for code in [JOIN, LEAVE] {
            assert_eq!(Linked::of(&row(code, &text, "s", 0)), Some(linked.clone()));
        }
        assert_eq!(Linked::of(&row("X", &text, "s", 0)), None);
        for text in ["", "1", "1 x", "1 2 x", "x 2"] {
            assert_eq!(Linked::of(&row(JOIN, text, "s", 0)), None, "{text}");
        }
    }

    #[test]
    fn a_subject_loses_what_was_told_under_an_identifier_and_gets_it_back() {
        let mut links = Links::default();
        let is_row = |seen: Seen<'_>| matches!(seen, Seen::Row(_));
        assert!(is_row(links.see(&row("X", "", "own", 1))));
        assert_eq!(links.see(&row(JOIN, "2 5 2", "s", 0)), Seen::Joined);
        assert!(is_row(links.see(&row("X", "", "later@2", 2))), "said directly under link 5");
        assert_eq!(links.see(&row("X", "", "late@2~0.9.9", 2)), Seen::Outdated);
        assert!(is_row(links.see(&row("X", "", "moved@2~0.1.0", 3))));
        assert_eq!(links.see(&row("X", "", "moved before@2~0.0.9", 3)), Seen::Outdated);
        assert_eq!((links.number(SubjectId(1), SubjectId(2)), links.facts), (5, 2));
        match links.see(&row(LEAVE, "2 8 2", "s", 0)) {
            Seen::Left(mut keys) => {
                keys.sort_unstable();
                assert_eq!(keys, [EventKey([2; 16]), EventKey([3; 16])]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(links.see(&row("X", "", "straggler@2", 4)), Seen::Elsewhere(SubjectId(2), 5));
        assert_eq!(links.see(&row("X", "", "on its way@2~0.1.0", 4)), Seen::Elsewhere(SubjectId(2), 5));
        assert!(is_row(links.see(&row("X", "", "own", 1))));
        assert_eq!(links.see(&row(LEAVE, "3 9 1", "s", 0)), Seen::LeftAll);
        assert_eq!(links.see(&row("X", "", "straggler", 1)), Seen::Elsewhere(SubjectId(3), 0));
        assert_eq!(links.see(&row(JOIN, "3 10 1", "s", 0)), Seen::Joined);
        assert!(is_row(links.see(&row("X", "", "own", 1))), "said under link 10");
        assert_eq!(links.see(&row("X", "", "moved~0.1.0", 1)), Seen::Outdated);
        assert_eq!(links.facts, 1);
    }
}
