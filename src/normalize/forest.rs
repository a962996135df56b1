//! Who is who: to which subject an identifier leads.
//!
//! Pure. Every identifier has a pseudonym of its own and at most one other identifier that is
//! kept for it; the one at the end of that chain is the subject. So a link is an arrow between
//! two trees, from the top of the one to the identifier that is kept, and an undoing takes one
//! away: it gives back the identifiers that came with that link, and those that were told to be one
//! of them since. What was linked to the subject as a whole stays with the subject. It is made of [`Entry`]s, the
//! values of the compacted topic `auscult.identity`, in which no identifier stands.
//!
//! What a source says again, or says late, changes nothing; nor does a link of what is one
//! already, so that there are no circles. A subject has at most [`MOST`] identifiers.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use crate::decode::LinkKind;
use crate::events::{Micros, SubjectId};

/// Most identifiers of one subject. A person has some ten; more are an attack, or a feed that
/// merges everyone into one.
pub const MOST: usize = 100;

/// What a record says of two identifiers, by their pseudonyms: a value of `auscult.links`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// What.
    #[serde(with = "kind")]
    pub kind: LinkKind,
    /// The identifier that stays in use.
    #[serde(with = "decimal")]
    pub kept: SubjectId,
    /// The other one.
    #[serde(with = "decimal")]
    pub other: SubjectId,
    /// When that became known.
    pub at: Micros,
}

/// The last word on one identifier: a value of `auscult.identity`, under the pseudonym as key.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Pseudonym of the identifier.
    #[serde(with = "decimal")]
    pub identifier: SubjectId,
    /// The identifier that is kept for it; `None`: it leads to a subject of its own (again).
    #[serde(with = "optional")]
    pub kept: Option<SubjectId>,
    /// Number of the change, from 1 on, counted over the whole table.
    pub number: u64,
    /// Who said so. Undoing needs it: it names the link.
    pub by: Statement,
}

/// What becomes of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Something changes.
    Change(Change),
    /// It says what is known.
    Known,
    /// Something later was said of these two.
    Late,
    /// The subject would have more than [`MOST`] identifiers.
    Refused,
}

impl Decision {
    /// The label of the metric `identity_links_total`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Decision::Change(_) => "done",
            Decision::Known => "known",
            Decision::Late => "late",
            Decision::Refused => "refused",
        }
    }
}

/// The word of the metric `identity_links_total` and of a statement's JSON.
pub fn kind_word(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Same => "same",
        LinkKind::Merge => "merge",
        LinkKind::Unmerge => "unmerge",
    }
}

/// What a statement changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The entry that says so from now on.
    pub entry: Entry,
    /// What moves; `None`: nothing, only the statement is remembered.
    pub moves: Option<Move>,
}

/// What is known under some identifiers goes from one subject to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// The subject that loses it.
    pub from: SubjectId,
    /// The subject that gains it.
    pub to: SubjectId,
    /// The pseudonyms of the identifiers, ascending.
    pub under: Vec<SubjectId>,
}

/// All that is known of who is who.
#[derive(Clone, Default, Debug)]
pub struct Forest {
    entries: HashMap<SubjectId, Entry, FixedState>,
    /// Those for whom an identifier is kept.
    below: HashMap<SubjectId, Vec<SubjectId>, FixedState>,
    /// Number of the last change.
    last: u64,
}

impl Forest {
    /// The subject to which an identifier leads.
    pub fn subject(&self, identifier: SubjectId) -> SubjectId {
        if self.entries.is_empty() { identifier } else { self.chain(identifier).last().unwrap_or(identifier) }
    }

    /// What becomes of a statement.
    pub fn decide(&self, statement: &Statement) -> Decision {
        match statement.kind {
            LinkKind::Same | LinkKind::Merge => self.link(statement),
            LinkKind::Unmerge => self.unlink(statement),
        }
    }

    /// Takes an entry in, in the order of `auscult.identity`.
    pub fn apply(&mut self, entry: Entry) {
        self.last = self.last.max(entry.number);
        let before = self.entries.insert(entry.identifier, entry).and_then(|before| before.kept);
        if let Some(below) = before.and_then(|before| self.below.get_mut(&before)) {
            below.retain(|one| *one != entry.identifier);
        }
        if let Some(kept) = entry.kept {
            self.below.entry(kept).or_default().push(entry.identifier);
        }
    }

    /// How many identifiers have an entry.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was ever linked.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An identifier, the one kept for it, and so on. Never longer than a subject can be large,
    /// whatever the topic holds.
    fn chain(&self, identifier: SubjectId) -> impl Iterator<Item = SubjectId> {
        std::iter::successors(Some(identifier), |at| self.entries.get(at)?.kept).take(MOST)
    }

    /// The identifiers that lead through one, and itself, ascending.
    fn tree(&self, top: SubjectId) -> Vec<SubjectId> {
        let mut tree = vec![top];
        let mut next = 0;
        while let Some(at) = tree.get(next)
            && tree.len() <= MOST
        {
            tree.extend(self.below.get(at).into_iter().flatten());
            next += 1;
        }
        tree.sort_unstable();
        tree
    }

    fn link(&self, statement: &Statement) -> Decision {
        let (to, from) = (self.subject(statement.kept), self.subject(statement.other));
        if to == from {
            return Decision::Known;
        }
        if [to, from].iter().any(|one| self.is_undone(*one, statement)) {
            return Decision::Late;
        }
        let under = self.tree(from);
        if under.len() + self.tree(to).len() > MOST {
            return Decision::Refused;
        }
        let entry = self.entry(from, Some(statement.kept), statement);
        Decision::Change(Change { entry, moves: Some(Move { from, to, under }) })
    }

    fn entry(&self, identifier: SubjectId, kept: Option<SubjectId>, by: &Statement) -> Entry {
        Entry { identifier, kept, number: self.last + 1, by: *by }
    }

    /// Whether the link of a statement was undone, at this identifier, when it was stated or later.
    fn is_undone(&self, identifier: SubjectId, statement: &Statement) -> bool {
        let entry = self.entries.get(&identifier).filter(|entry| entry.by.kind == LinkKind::Unmerge);
        entry.is_some_and(|entry| entry.by.is_of(statement) && statement.at <= entry.by.at)
    }

    fn unlink(&self, statement: &Statement) -> Decision {
        let (kept, other) = (statement.kept, statement.other);
        if kept == other {
            return Decision::Known;
        }
        let from = self.subject(other);
        if self.subject(kept) != from {
            if self.is_undone(from, statement) || self.is_undone(self.subject(kept), statement) {
                return Decision::Known;
            }
            // The merge may still be on its way, by another road: it will come too late.
            let entry = self.entry(from, None, statement);
            return Decision::Change(Change { entry, moves: None });
        }
        let (up, down): (Vec<_>, Vec<_>) = (self.chain(other).collect(), self.chain(kept).collect());
        let between = up.iter().filter(|one| !down.contains(one)).chain(down.iter().filter(|one| !up.contains(one)));
        let mut arrows = between.filter_map(|one| self.entries.get(one));
        // The arrow that this pair made, or else the first on the way from one to the other.
        let Some(arrow) = arrows.clone().find(|arrow| arrow.by.is_of(statement)).or_else(|| arrows.next()) else {
            return Decision::Known;
        };
        if statement.at < arrow.by.at {
            return Decision::Late;
        }
        let identifier = arrow.identifier;
        let entry = self.entry(identifier, None, statement);
        Decision::Change(Change { entry, moves: Some(Move { from, to: identifier, under: self.tree(identifier) }) })
    }
}

impl Statement {
    /// Whether it is of the same two identifiers.
    fn is_of(&self, other: &Statement) -> bool {
        (self.kept, self.other) == (other.kept, other.other) || (self.kept, self.other) == (other.other, other.kept)
    }
}

/// JSON has no integers of 64 bits that every reader keeps: pseudonyms are written in decimal.
mod decimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    use super::SubjectId;

    pub(super) fn serialize<S: Serializer>(id: &SubjectId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&id.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SubjectId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map(SubjectId).map_err(|_| D::Error::custom("a pseudonym is no decimal number"))
    }
}

mod optional {
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    use super::{SubjectId, decimal};

    #[derive(Deserialize)]
    struct Decimal(#[serde(with = "decimal")] SubjectId);

    // serde hands the field over by reference.
    #[allow(clippy::ref_option, reason = "serde asks for this shape")]
    pub(super) fn serialize<S: Serializer>(id: &Option<SubjectId>, to: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.0.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SubjectId>, D::Error> {
        Ok(Option::<Decimal>::deserialize(from)?.map(|Decimal(id)| id))
    }
}

mod kind {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    use super::{LinkKind, kind_word};

    // serde hands the field over by reference.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this shape")]
    pub(super) fn serialize<S: Serializer>(kind: &LinkKind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(kind_word(*kind))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LinkKind, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let all = [LinkKind::Same, LinkKind::Merge, LinkKind::Unmerge];
        all.into_iter().find(|kind| kind_word(*kind) == text).ok_or_else(|| D::Error::custom("no kind of link"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    use LinkKind::{Merge, Same, Unmerge};

    fn say(kind: LinkKind, kept: i64, other: i64, at: Micros) -> Statement {
        Statement { kind, kept: SubjectId(kept), other: SubjectId(other), at }
    }

    /// Decides and applies; gives what came of it.
    fn tell(forest: &mut Forest, statement: Statement) -> Decision {
        let decision = forest.decide(&statement);
        if let Decision::Change(change) = &decision {
            forest.apply(change.entry);
        }
        decision
    }

    fn moves(decision: Decision) -> (i64, i64, Vec<i64>) {
        match decision {
            Decision::Change(Change { moves: Some(moves), .. }) => {
                (moves.from.0, moves.to.0, moves.under.iter().map(|id| id.0).collect())
            }
            other => panic!("{other:?} moves nothing"),
        }
    }

    fn subjects<const N: usize>(forest: &Forest, of: [i64; N]) -> [i64; N] {
        of.map(|id| forest.subject(SubjectId(id)).0)
    }

    #[test]
    fn a_chain_of_merges_leads_to_the_last_one_kept_and_comes_apart_again() {
        let mut forest = Forest::default();
        assert_eq!(moves(tell(&mut forest, say(Merge, 2, 1, 10))), (1, 2, vec![1]));
        assert_eq!(moves(tell(&mut forest, say(Merge, 3, 2, 20))), (2, 3, vec![1, 2]));
        assert_eq!(moves(tell(&mut forest, say(Same, 1, 4, 30))), (4, 3, vec![4]), "4 is told to be 1, who is 3");
        assert_eq!(subjects(&forest, [1, 2, 3, 4, 5]), [3, 3, 3, 3, 5]);
        // The middle link was wrong: 1 and what came with it stay with 2.
        assert_eq!(moves(tell(&mut forest, say(Unmerge, 3, 2, 40))), (3, 2, vec![1, 2, 4]));
        assert_eq!(subjects(&forest, [1, 2, 3, 4]), [2, 2, 3, 2]);
        assert_eq!(moves(tell(&mut forest, say(Unmerge, 2, 1, 50))), (2, 1, vec![1, 4]));
        assert_eq!(subjects(&forest, [1, 2, 3, 4]), [1, 2, 3, 1]);
    }

    #[test]
    fn circles_and_repetitions_change_nothing() {
        let mut forest = Forest::default();
        tell(&mut forest, say(Merge, 1, 2, 10));
        for known in [say(Merge, 1, 2, 10), say(Merge, 2, 1, 20), say(Same, 1, 1, 20), say(Unmerge, 1, 1, 20)] {
            assert_eq!(forest.decide(&known), Decision::Known, "{known:?}");
        }
        tell(&mut forest, say(Merge, 3, 1, 20));
        assert_eq!(forest.decide(&say(Merge, 2, 3, 30)), Decision::Known);
        assert_eq!(subjects(&forest, [1, 2, 3]), [3, 3, 3]);
    }

    #[test]
    fn what_comes_late_changes_nothing() {
        let mut forest = Forest::default();
        let (merge, undo) = (say(Merge, 1, 2, 10), say(Unmerge, 1, 2, 20));
        tell(&mut forest, merge);
        tell(&mut forest, undo);
        assert_eq!((forest.decide(&merge), forest.decide(&undo)), (Decision::Late, Decision::Known));
        assert_eq!(forest.decide(&say(Merge, 2, 1, 15)), Decision::Late, "whichever way round");
        assert_eq!(moves(tell(&mut forest, say(Merge, 1, 2, 30))), (2, 1, vec![2]), "merged anew");
        assert_eq!(forest.decide(&undo), Decision::Late);
        // The undoing may even be read first.
        let mut forest = Forest::default();
        assert!(matches!(tell(&mut forest, undo), Decision::Change(Change { moves: None, .. })));
        assert_eq!((forest.decide(&merge), forest.decide(&undo)), (Decision::Late, Decision::Known));
    }

    #[test]
    fn an_undoing_names_the_link_or_any_two_that_it_joined() {
        let mut forest = Forest::default();
        for (kept, other) in [(1, 2), (3, 4), (2, 4)] {
            tell(&mut forest, say(Merge, kept, other, 10));
        }
        assert_eq!(subjects(&forest, [1, 2, 3, 4]), [1; 4], "2 is 1 and 4 is 3, so 3 becomes 1");
        let mut other = forest.clone();
        assert_eq!(moves(tell(&mut forest, say(Unmerge, 4, 2, 20))), (1, 3, vec![3, 4]), "said of 2 and 4, at 3");
        assert_eq!(moves(tell(&mut other, say(Unmerge, 1, 3, 20))), (1, 3, vec![3, 4]), "nobody said that of 1 and 3");
    }

    #[test]
    fn a_subject_is_bounded() {
        let mut forest = Forest::default();
        let decisions: Vec<_> = (1..5000).map(|i| tell(&mut forest, say(Merge, 0, i, 10))).collect();
        assert!(decisions[..MOST - 1].iter().all(|one| matches!(one, Decision::Change(_))));
        assert!(decisions[MOST - 1..].iter().all(|one| *one == Decision::Refused));
        // So is a chain, each kept for the one before.
        let mut forest = Forest::default();
        for i in 0..5000 {
            tell(&mut forest, say(Merge, i + 1, i, 10));
        }
        assert!((0..5000).all(|i| forest.tree(forest.subject(SubjectId(i))).len() <= MOST));
    }

    #[test]
    fn a_topic_with_a_circle_ends_the_search_all_the_same() {
        let mut forest = Forest::default();
        for (identifier, kept) in [(1, 2), (2, 1)] {
            let by = say(Merge, kept, identifier, 1);
            forest.apply(Entry { identifier: SubjectId(identifier), kept: Some(SubjectId(kept)), number: 1, by });
        }
        forest.subject(SubjectId(1));
        assert!(forest.tree(SubjectId(1)).len() <= 2 * MOST);
        forest.decide(&say(Unmerge, 1, 2, 5));
    }

    #[test]
    fn entries_and_statements_are_json_with_pseudonyms_in_decimal() {
        let statement = say(Merge, i64::MIN, 7, 5);
        let text = serde_json::to_string(&statement).unwrap();
        assert_eq!(text, r#"{"kind":"merge","kept":"-9223372036854775808","other":"7","at":5}"#);
        assert_eq!(serde_json::from_str::<Statement>(&text).unwrap(), statement);
        for kept in [None, Some(SubjectId(-1))] {
            let entry = Entry { identifier: SubjectId(7), kept, number: 3, by: statement };
            let text = serde_json::to_vec(&entry).unwrap();
            assert_eq!(serde_json::from_slice::<Entry>(&text).unwrap(), entry);
        }
    }

    proptest! {
        /// After each statement: only what is said to move has moved, a link joins, an undoing parts
        /// and, said of a link that was just made, gives back what was before. What compaction
        /// leaves of the table says the same.
        #[test]
        fn a_statement_does_what_it_says_and_an_undoing_undoes_it(said in vec((0u8..4, 0i64..8, 0i64..8), 0..60)) {
            let mut forest = Forest::default();
            let mut table: HashMap<SubjectId, Entry> = HashMap::new();
            let all = || (0..8).map(SubjectId);
            for (at, (kind, kept, other)) in (0..).zip(said) {
                let kind = [Same, Merge, Merge, Unmerge][usize::from(kind)];
                let before = forest.clone();
                let decision = tell(&mut forest, say(kind, kept, other, at));
                let (a, b) = (forest.subject(SubjectId(kept)), forest.subject(SubjectId(other)));
                prop_assert!(a == b || kind == Unmerge);
                prop_assert!(a != b || kind != Unmerge || kept == other);
                let Decision::Change(Change { entry, moves }) = decision else { continue };
                table.insert(entry.identifier, entry);
                for id in all() {
                    let moved = moves.as_ref().filter(|moves| moves.under.contains(&id));
                    prop_assert_eq!(forest.subject(id), moved.map_or(before.subject(id), |moves| moves.to));
                    prop_assert!(moved.is_none_or(|moves| before.subject(id) == moves.from));
                }
                if kind != Unmerge {
                    let mut undone = forest.clone();
                    let back = tell(&mut undone, say(Unmerge, kept, other, at));
                    prop_assert!(matches!(back, Decision::Change(_)));
                    prop_assert!(all().all(|id| undone.subject(id) == before.subject(id)));
                }
                let mut read = Forest::default();
                table.values().for_each(|entry| read.apply(*entry));
                prop_assert!(all().all(|id| read.subject(id) == forest.subject(id)));
                prop_assert_eq!(read.last, forest.last);
            }
        }
    }
}
