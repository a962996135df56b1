//! Where the facts go, within a bound.

use super::super::{Fact, Link, Notes, Reason, Reject};
use super::lenient::Tally;

/// Bytes in memory that a byte of a record may become: a result of forty bytes takes some four hundred.
const GROWTH: usize = 24;

/// What a record may take whatever its length.
const LEAST: usize = 256 << 10;

/// Where the facts go, and the count of what gave none.
pub(super) struct Sink<'f, 'a> {
    facts: &'f mut Vec<Fact<'a>>,
    links: Vec<Link<'a>>,
    /// What was read leniently or not at all.
    pub(super) tally: Tally,
    left: usize,
}

impl<'f, 'a> Sink<'f, 'a> {
    /// A sink for a record of that length.
    pub(super) fn new(facts: &'f mut Vec<Fact<'a>>, tally: Tally, length: usize) -> Self {
        Sink { facts, links: Vec::new(), tally, left: (GROWTH * length).max(LEAST) }
    }

    /// Adds a fact and says where it stands.
    ///
    /// # Errors
    /// `too_large` if the record has used up what its length allows.
    pub(super) fn push(&mut self, fact: Fact<'a>) -> Result<usize, Reject> {
        self.charge(size_of::<Fact<'_>>() + fact.id.as_ref().map_or(0, |id| id.len()))?;
        self.facts.push(fact);
        Ok(self.facts.len() - 1)
    }

    /// Adds a statement of who is who.
    ///
    /// # Errors
    /// As [`Sink::push`].
    pub(super) fn link(&mut self, link: Link<'a>) -> Result<(), Reject> {
        self.charge(size_of::<Link<'_>>())?;
        self.links.push(link);
        Ok(())
    }

    /// A fact that was added.
    pub(super) fn at(&mut self, place: usize) -> Option<&mut Fact<'a>> {
        self.facts.get_mut(place)
    }

    /// Takes that much of what the record may take.
    ///
    /// # Errors
    /// As [`Sink::push`].
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Reject> {
        let short = || Reject::new(Reason::TooLarge, "the record's facts would take many times its length");
        self.left = self.left.checked_sub(bytes).ok_or_else(short)?;
        Ok(())
    }

    /// What the record held beside the facts.
    pub(super) fn notes(self) -> Notes<'a> {
        Notes {
            unread: self.tally.unread.into_iter().collect(),
            lenient: self.tally.lenient.into_iter().collect(),
            links: self.links,
        }
    }
}
