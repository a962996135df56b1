//! The texts of a subject as how often terms stand in them, and the columns that this fills.
//!
//! No text is kept: when its event is taken in, its terms are counted once, and the few that it has are kept. A text is
//! a sample of its series like any other, so that what is late, corrected or withdrawn leaves no trace. A column is
//! missing where no text lies in its window, and 0 where there are texts without the term.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::aggregate::Window;
use super::series::Series;
use super::terms::{Found, Terms};
use super::vector::{Moment, since};
use crate::events::Micros;

/// In place of a column: the window does not count that term.
const NO_COLUMN: u32 = u32::MAX;

/// A series of texts and what is counted in them.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) series: u16,
    pub(super) terms: Terms,
    panes: Vec<TextPane>,
}

/// The columns that one window of a series of texts fills.
#[derive(Debug)]
struct TextPane {
    window: Window,
    /// By the number of the term.
    columns: Vec<u32>,
}

/// What the texts of one subject hold, by series and fact.
#[derive(Default)]
pub(super) struct Held {
    by_text: HashMap<(u16, u32), Found, FixedState>,
}

impl Held {
    /// Keeps what a text holds; gives the bytes that it takes.
    pub(super) fn insert(&mut self, series: u16, fact: u32, found: Found) -> usize {
        let bytes = bytes(&found);
        self.by_text.insert((series, fact), found);
        bytes
    }

    /// Forgets a text; gives the bytes that it took, 0 of one that is not there.
    pub(super) fn remove(&mut self, series: u16, fact: u32) -> usize {
        self.by_text.remove(&(series, fact)).map_or(0, |found| bytes(&found))
    }

    /// Gives back room for many more texts than there are.
    pub(super) fn shrink(&mut self) {
        self.by_text.shrink_to(2 * self.by_text.len());
    }

    /// What a text holds: the numbers of terms, and how often.
    pub(super) fn of(&self, series: u16, fact: u32) -> &[(u16, u16)] {
        self.by_text.get(&(series, fact)).map_or(&[], |found| &found[..])
    }
}

/// Bytes of what a text holds, about.
fn bytes(found: &[(u16, u16)]) -> usize {
    size_of::<((u16, u32), Found)>() + size_of_val(found)
}

impl Texts {
    /// A series in whose texts nothing is counted yet.
    pub(super) fn new(series: u16) -> Self {
        Texts { series, terms: Terms::default(), panes: Vec::new() }
    }

    /// Counts a term of one to three words in a window, for a column.
    pub(super) fn count(&mut self, term: &[String], window: Window, column: u32) {
        let number = usize::from(self.terms.number(term));
        let place = self.panes.iter().position(|pane| pane.window == window).unwrap_or_else(|| {
            self.panes.push(TextPane { window, columns: Vec::new() });
            self.panes.len() - 1
        });
        let columns = &mut self.panes[place].columns;
        if columns.len() <= number {
            columns.resize(number + 1, NO_COLUMN);
        }
        columns[number] = column;
    }

    /// Each column with its window.
    pub(super) fn columns(&self) -> impl Iterator<Item = (Window, u32)> {
        self.panes.iter().flat_map(|pane| pane.columns().map(move |column| (pane.window, column)))
    }

    /// Fills the columns of a blank row. A count is observed when the last text with the term was written, or the
    /// last of all where none has it.
    pub(super) fn fill(
        &self,
        series: &[Series],
        held: &Held,
        moment: &Moment,
        values: &mut [f32],
        observed: &mut [Micros],
    ) {
        let Some(texts) = series.get(usize::from(self.series)) else { return };
        for pane in &self.panes {
            let Some(from) = since(pane.window, moment) else { continue };
            let samples = texts.samples().get(texts.between(from, moment.at)).unwrap_or(&[]);
            let Some(last) = samples.last() else { continue };
            for column in pane.columns() {
                (values[column as usize], observed[column as usize]) = (0.0, last.time);
            }
            for sample in samples {
                for (term, count) in held.of(self.series, sample.fact) {
                    let column = pane.columns.get(usize::from(*term)).copied().unwrap_or(NO_COLUMN);
                    if column != NO_COLUMN {
                        values[column as usize] += f32::from(*count);
                        observed[column as usize] = sample.time;
                    }
                }
            }
        }
    }
}

impl TextPane {
    fn columns(&self) -> impl Iterator<Item = u32> {
        self.columns.iter().copied().filter(|column| *column != NO_COLUMN)
    }
}

/// Name of the number of times that a term stands in texts.
pub(super) fn term_name(of: &str, term: &[String], window: &str) -> String {
    format!("{of}:{}.count.{window}", term.join(" "))
}
