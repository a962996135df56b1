//! The most telling terms of a concept's texts: what `[[text]]` of `features.toml` could count for a task.
//!
//! Promises that only training subjects are read, so that a model with these terms is still judged on subjects that had
//! no part in their choice; that of each prediction just those texts count that held and were known then, as in the
//! fold; and that a term is told only if it stands in texts of enough subjects, so that no name of a patient is.
//!
//! Which words are of no use (the, and) need not be known: chi-square tells. Memory is bounded: a filter of fixed size
//! counts in how many texts each term stands, where terms share counters (Park, Chen and Yu 1995), and only a term whose
//! counter has enough texts, which all that stand in enough subjects' have, is then counted by itself.

mod document;
mod filter;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::FixedState;
use futures::StreamExt as _;
use serde::Serialize;

use self::document::{Count, Documents};
use self::filter::Filter;
use super::LearnError;
use super::matrix::{Source, dataset};
use super::task::Task;
use crate::events::{EventsView, Micros, Split, SubjectId, split_of};
use crate::features::{Due, FeatureSpec, Fold, Trigger, TriggerKind, words};
use crate::library::Library;

/// Most terms that are counted.
const MOST_TERMS: usize = 1_000_000;
/// Most bytes of the terms of texts that are in memory at once, about.
const MOST_BYTES: usize = 2 << 30;

/// What is looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TermsSettings {
    /// Concept of the texts.
    pub concept: String,
    /// Most terms in the report.
    pub most: usize,
    /// Fewest subjects in whose texts a term must stand.
    pub min_subjects: u16,
}

/// What `terms` prints.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TermsReport {
    /// Task.
    pub task: String,
    /// Concept of the texts.
    pub concept: String,
    /// Labelled predictions of training subjects of whom a text was known then.
    pub documents: u64,
    /// Those with a true label.
    pub positives: u64,
    /// Their subjects.
    pub subjects: u64,
    /// The most telling terms, the first the most.
    pub terms: Vec<Telling>,
    /// Wall time.
    pub seconds: f64,
}

/// A term and how often it goes with the label.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Telling {
    /// One word or two, as `[[text]]` takes them.
    pub term: String,
    /// Labelled predictions with a text in which it stands.
    pub documents: u64,
    /// Those with a true label.
    pub positives: u64,
    /// Their subjects.
    pub subjects: u64,
    /// Pearson's chi-square of term and label over the documents. Predictions of a subject are alike, so it is good for
    /// an order and no test.
    pub chi_square: f64,
}

/// What every partition's replay goes by.
struct Search {
    spec: Arc<FeatureSpec>,
    trigger: Trigger,
    concept: String,
    min_subjects: u16,
    labels: HashMap<(SubjectId, Micros), bool, FixedState>,
    /// Most bytes of one replay.
    most_bytes: usize,
}

impl Search {
    fn too_many(&self, limit: usize, what: &'static str) -> LearnError {
        LearnError::TooManyTerms { concept: self.concept.clone(), limit, what }
    }
}

/// Finds the terms of one or two words that tell most about the label of `task`, in the texts of its training subjects.
///
/// Partitions are replayed on the runtime's blocking threads, as many at once as there are cores; the report is the
/// same whatever the cores.
///
/// # Errors
/// If the library cannot be read; [`LearnError::TooManyTerms`] if the terms would not fit into memory.
pub async fn terms(
    source: &Source<'_>,
    task: &Task,
    settings: &TermsSettings,
    progress: &mut dyn FnMut(&str),
) -> Result<TermsReport, LearnError> {
    let begin = Instant::now();
    let library = source.library;
    let rows = dataset(source, task, Some(Split::Train), progress).await?.train.rows;
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let search = Arc::new(Search {
        spec: Arc::clone(&source.features),
        trigger: task.trigger.clone(),
        concept: settings.concept.clone(),
        min_subjects: settings.min_subjects,
        labels: rows.iter().filter(|row| row.seen).map(|row| ((row.subject, row.time), row.outcome)).collect(),
        most_bytes: MOST_BYTES / at_once,
    });
    drop(rows);
    let (filter, runtime) = (Arc::new(Filter::new()), tokio::runtime::Handle::current());
    let partitions = library.partitions().await?;

    progress("looking for terms in the texts");
    let mut read = futures::stream::iter(partitions.clone())
        .map(|partition| {
            let (library, search, filter) = (library.clone(), Arc::clone(&search), Arc::clone(&filter));
            let runtime = runtime.clone();
            tokio::task::spawn_blocking(move || runtime.block_on(fill(&library, partition, &search, &filter)))
        })
        .buffered(at_once);
    while let Some(read) = read.next().await {
        read.map_err(|_| LearnError::Interrupted)??;
    }
    drop(read);

    progress("counting terms at the predictions");
    let mut counted = futures::stream::iter(partitions)
        .map(|partition| {
            let (library, search, filter) = (library.clone(), Arc::clone(&search), Arc::clone(&filter));
            let runtime = runtime.clone();
            tokio::task::spawn_blocking(move || runtime.block_on(count(&library, partition, &search, &filter)))
        })
        .buffered(at_once);
    let (mut all, mut terms) = (Count::default(), BTreeMap::<Box<str>, Count>::new());
    while let Some(counted) = counted.next().await {
        let (of_all, of_terms) = counted.map_err(|_| LearnError::Interrupted)??;
        all.add(of_all);
        for (term, count) in of_terms {
            terms.entry(term).or_default().add(count);
        }
        if terms.len() > MOST_TERMS {
            return Err(search.too_many(MOST_TERMS, "different terms"));
        }
    }
    Ok(TermsReport {
        task: task.name.clone(),
        concept: settings.concept.clone(),
        documents: all.documents,
        positives: all.positives,
        subjects: all.subjects,
        terms: most_telling(terms, all, settings),
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// The terms that may be told, the most telling first, of equal ones the first by the alphabet.
fn most_telling(terms: BTreeMap<Box<str>, Count>, all: Count, settings: &TermsSettings) -> Vec<Telling> {
    let told = terms.into_iter().filter(|(_, count)| count.subjects >= u64::from(settings.min_subjects));
    let mut told: Vec<Telling> = told
        .map(|(term, count)| Telling {
            term: term.into(),
            documents: count.documents,
            positives: count.positives,
            subjects: count.subjects,
            chi_square: chi_square(count, all),
        })
        .filter(|one| one.chi_square > 0.0)
        .collect();
    // Sorting keeps the order of those that are alike.
    told.sort_by(|a, b| b.chi_square.total_cmp(&a.chi_square));
    told.truncate(settings.most);
    told
}

/// Pearson's chi-square of two by two: with the term and without, positive and not; 0 where one of the four is empty by
/// itself.
fn chi_square(with: Count, all: Count) -> f64 {
    let [n, positive, documents, both] =
        [all.documents, all.positives, with.documents, with.positives].map(|count| count as f64);
    let spread = positive * (n - positive) * documents * (n - documents);
    if spread > 0.0 { n * (both * n - positive * documents).powi(2) / spread } else { 0.0 }
}

/// Gives the terms of a text, each as often as it stands there: every word, and every two that follow each other.
fn terms_of(text: &str, each: &mut dyn FnMut(&str)) {
    let (mut before, mut both) = (String::new(), String::new());
    words(text, &mut |word| {
        if !word.is_empty() {
            each(word);
            if !before.is_empty() {
                both.clear();
                both.extend([before.as_str(), " ", word]);
                each(&both);
            }
        }
        before.clear();
        before.push_str(word);
    });
}

/// Tells the filter of the texts of a partition's training subjects.
async fn fill(library: &Library, partition: u32, search: &Search, filter: &Filter) -> Result<(), LearnError> {
    let mut history = library.history(partition).await?;
    while let Some(batch) = history.next().await? {
        let view = EventsView::new(&batch)?;
        for event in (0..view.len()).map(|i| view.row(i)) {
            let is_training = event.subject.is_some_and(|subject| split_of(subject) == Split::Train);
            if let Some(text) = document::text_of(&event, &search.concept).filter(|_| is_training) {
                filter.add(text);
            }
        }
    }
    Ok(())
}

/// Counts of all documents of a partition, and of its terms.
type Counted = (Count, Vec<(Box<str>, Count)>);

/// Replays a partition and counts, at each labelled prediction, the terms of the texts that are known then.
async fn count(library: &Library, partition: u32, search: &Search, filter: &Filter) -> Result<Counted, LearnError> {
    let mut fold = Fold::new(Arc::clone(&search.spec), vec![search.trigger.clone()]);
    // What falls due at a time does so before the event is taken in, what falls due on an event behind it.
    let after = matches!(search.trigger.kind, TriggerKind::On { .. });
    let mut documents = Documents::new(search, filter);
    let mut due = Due::new();
    let mut history = library.history(partition).await?;
    while let Some(batch) = history.next().await? {
        let view = EventsView::new(&batch)?;
        for event in (0..view.len()).map(|i| view.row(i)) {
            // Ticks belong to all: they move the clock.
            if event.subject.is_some_and(|subject| split_of(subject) != Split::Train) {
                continue;
            }
            fold.apply(&event, Some(&mut due));
            if after {
                documents.apply(&event)?;
            }
            for row in &due.rows {
                documents.predict(row.subject, row.time);
            }
            due.clear();
            if !after {
                documents.apply(&event)?;
            }
        }
    }
    Ok(documents.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_words_and_pairs_of_words() {
        let mut all = Vec::new();
        let long = "x".repeat(100);
        terms_of(&format!("No chest-pain. {long} Fever"), &mut |term| all.push(term.to_owned()));
        assert_eq!(all, ["no", "chest", "no chest", "pain", "chest pain", "fever"]);
    }

    #[test]
    fn chi_square_is_that_of_the_textbook() {
        let count = |documents, positives| Count { documents, positives, subjects: 0 };
        // 20 of 30 with the term are positive, 10 of 70 without: expected 9 and 21 (21 and 49).
        let expected = [(20.0, 9.0), (10.0, 21.0), (10.0, 21.0), (60.0, 49.0)];
        let by_hand: f64 =
            expected.iter().map(|(seen, expected): &(f64, f64)| (seen - expected).powi(2) / expected).sum();
        assert!((chi_square(count(30, 20), count(100, 30)) - by_hand).abs() < 1e-9);
        assert_eq!(chi_square(count(30, 9), count(100, 30)), 0.0);
        for (with, all) in [(count(100, 30), count(100, 30)), (count(5, 0), count(9, 0)), (count(0, 0), count(0, 0))] {
            assert_eq!(chi_square(with, all), 0.0);
        }
    }

    #[test]
    fn what_few_subjects_have_is_not_told() {
        let count = |documents, positives, subjects| Count { documents, positives, subjects };
        let terms = [
            ("smith", count(30, 30, 4)),
            ("fever", count(30, 20, 25)),
            ("and", count(100, 30, 60)),
            ("b", count(30, 20, 25)),
        ];
        let terms: BTreeMap<Box<str>, Count> = terms.map(|(term, count)| (term.into(), count)).into();
        let told = |most, min_subjects| {
            let settings = TermsSettings { concept: String::new(), most, min_subjects };
            let told = most_telling(terms.clone(), count(100, 30, 60), &settings);
            told.into_iter().map(|one| one.term).collect::<Vec<_>>()
        };
        assert_eq!(told(9, 5), ["b", "fever"]);
        assert_eq!(told(9, 4), ["smith", "b", "fever"]);
        assert_eq!(told(1, 5), ["b"]);
    }
}
