//! The texts that are known of each subject, as the terms in them, and how often a prediction was made from which.
//!
//! The text of a fact holds until the fact is corrected, withdrawn or another subject's, as in the fold.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use super::filter::Filter;
use super::{Counted, MOST_TERMS, Search, terms_of};
use crate::events::{EventKey, EventRef, Links, Micros, Op, Seen, SubjectId};
use crate::learn::LearnError;

/// Labelled predictions, and of whom.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Count {
    pub(super) documents: u64,
    /// Those with a true label.
    pub(super) positives: u64,
    pub(super) subjects: u64,
}

impl Count {
    /// Adds what was counted elsewhere, of other subjects.
    pub(super) fn add(&mut self, other: Count) {
        self.documents += other.documents;
        self.positives += other.positives;
        self.subjects += other.subjects;
    }
}

/// The text of an event that asserts one of the concept.
pub(super) fn text_of<'e>(event: &EventRef<'e>, concept: &str) -> Option<&'e str> {
    event.text_value.filter(|_| event.op == Op::Assert && event.plausible_concept() == Some(concept))
}

/// What is known of the subjects of a partition.
pub(super) struct Documents<'a> {
    search: &'a Search,
    filter: &'a Filter,
    links: Links,
    patients: HashMap<SubjectId, Patient, FixedState>,
    /// The terms that are counted.
    numbers: HashMap<Box<str>, u32, FixedState>,
    /// By their numbers.
    counts: Vec<Count>,
    all: Count,
    /// Of the terms of all texts, about.
    bytes: usize,
}

/// A text: when it was written, and the numbers of its terms.
struct Text {
    time: Micros,
    terms: Box<[u32]>,
}

/// What is known of one subject.
#[derive(Default)]
struct Patient {
    texts: BTreeMap<EventKey, Text>,
    /// How often the texts have changed.
    version: u64,
    /// Version and number of the texts that the document is made of.
    made_of: (u64, usize),
    /// The terms of the last prediction.
    document: Vec<u32>,
    /// Predictions from that document which its terms do not have yet.
    pending: Count,
    /// Terms of all documents so far, ascending.
    told: Vec<u32>,
    has_predictions: bool,
}

impl<'a> Documents<'a> {
    /// Nothing known yet.
    pub(super) fn new(search: &'a Search, filter: &'a Filter) -> Self {
        Documents {
            search,
            filter,
            links: Links::default(),
            patients: HashMap::default(),
            numbers: HashMap::default(),
            counts: Vec::new(),
            all: Count::default(),
            bytes: 0,
        }
    }

    /// Takes the next event in.
    ///
    /// # Errors
    /// [`LearnError::TooManyTerms`] if there is no room for its terms.
    pub(super) fn apply(&mut self, event: &EventRef<'_>) -> Result<(), LearnError> {
        let Some(subject) = event.subject else { return Ok(()) };
        match self.links.see(event) {
            Seen::Row(_) => {}
            Seen::Outdated | Seen::Elsewhere(..) | Seen::Joined => return Ok(()),
            Seen::LeftAll => {
                if let Some(patient) = self.patients.remove(&subject) {
                    self.bytes -= patient.bytes();
                    patient.close(&mut self.counts, &mut self.all);
                }
                return Ok(());
            }
            Seen::Left(keys) => {
                if let Some(patient) = self.patients.get_mut(&subject) {
                    self.bytes -= keys.into_iter().map(|key| patient.forget(key)).sum::<usize>();
                }
                return Ok(());
            }
        }
        if let Some(patient) = self.patients.get_mut(&subject) {
            self.bytes -= patient.forget(event.event_key);
        }
        let Some(text) = text_of(event, &self.search.concept) else { return Ok(()) };
        let terms = self.numbers_of(text)?;
        let text = Text { time: event.time.unwrap_or(Micros::MIN), terms };
        self.bytes += text.bytes();
        if self.bytes > self.search.most_bytes {
            return Err(self.search.too_many(self.search.most_bytes, "bytes of terms"));
        }
        let patient = self.patients.entry(subject).or_default();
        patient.texts.insert(event.event_key, text);
        patient.version += 1;
        Ok(())
    }

    /// The terms of a text that are counted, ascending.
    fn numbers_of(&mut self, text: &str) -> Result<Box<[u32]>, LearnError> {
        let mut numbers = Vec::new();
        terms_of(text, &mut |term| {
            if let Some(number) = self.numbers.get(term) {
                numbers.push(*number);
            } else if self.filter.may_have(term, self.search.min_subjects) {
                let number = self.counts.len() as u32;
                self.numbers.insert(term.into(), number);
                self.counts.push(Count::default());
                numbers.push(number);
            }
        });
        if self.counts.len() > MOST_TERMS {
            return Err(self.search.too_many(MOST_TERMS, "different terms"));
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers.into())
    }

    /// Counts a prediction, if it has a label and a text is known.
    pub(super) fn predict(&mut self, subject: SubjectId, at: Micros) {
        let label = self.search.labels.get(&(subject, at));
        let (Some(label), Some(patient)) = (label, self.patients.get_mut(&subject)) else { return };
        let written = || patient.texts.values().filter(move |text| text.time <= at);
        // Of one version the texts up to a time are told apart by their number.
        let made_of = (patient.version, written().count());
        if made_of.1 == 0 {
            return;
        }
        if made_of != patient.made_of {
            let mut document: Vec<u32> = written().flat_map(|text| text.terms.iter().copied()).collect();
            document.sort_unstable();
            document.dedup();
            patient.settle(&mut self.counts);
            (patient.document, patient.made_of) = (document, made_of);
        }
        patient.pending.documents += 1;
        patient.pending.positives += u64::from(*label);
        self.all.documents += 1;
        self.all.positives += u64::from(*label);
        patient.has_predictions = true;
    }

    /// All documents, and the terms that stood in some.
    pub(super) fn finish(self) -> Counted {
        let Documents { patients, numbers, mut counts, mut all, .. } = self;
        for patient in patients.into_values() {
            patient.close(&mut counts, &mut all);
        }
        let of = |(term, number): (Box<str>, u32)| Some((term, *counts.get(number as usize)?));
        let terms = numbers.into_iter().filter_map(of).filter(|(_, count)| count.documents > 0).collect();
        (all, terms)
    }
}

impl Text {
    fn bytes(&self) -> usize {
        size_of::<(EventKey, Text)>() + size_of_val(&*self.terms)
    }
}

impl Patient {
    fn bytes(&self) -> usize {
        self.texts.values().map(Text::bytes).sum()
    }

    /// Forgets the text of a fact; gives the bytes that it took.
    fn forget(&mut self, key: EventKey) -> usize {
        let Some(text) = self.texts.remove(&key) else { return 0 };
        self.version += 1;
        text.bytes()
    }

    /// Gives the terms of the document the predictions made from it.
    fn settle(&mut self, counts: &mut [Count]) {
        let made = std::mem::take(&mut self.pending);
        if made.documents == 0 {
            return;
        }
        for term in &self.document {
            if let Some(count) = counts.get_mut(*term as usize) {
                count.add(made);
            }
        }
        self.told.extend_from_slice(&self.document);
        self.told.sort_unstable();
        self.told.dedup();
    }

    /// Counts the subject, of whom no more will be told.
    fn close(mut self, counts: &mut [Count], all: &mut Count) {
        self.settle(counts);
        for term in self.told {
            if let Some(count) = counts.get_mut(term as usize) {
                count.subjects += 1;
            }
        }
        all.subjects += u64::from(self.has_predictions);
    }
}
