//! A window that slides over one subject's history.
//!
//! An event enters once and leaves once. Counts go up and down by one. Sums are never taken back by
//! subtraction, which would drift: the values of a column in the window are a range of the history's
//! values, kept as two stacks. The older one holds, for each of its values, what all from there to its
//! end come to; the newer one only what all come to. When the older one is used up, the newer one
//! becomes it, so that every value is turned over once.

use super::history::{Event, History, Value};
use super::window::Window;
use crate::learn::LearnError;

/// What some values come to.
#[derive(Copy, Clone, Debug)]
struct Total {
    sum: f64,
    sum_sqd: f64,
    min: f32,
    max: f32,
}

impl Total {
    const NONE: Total = Total { sum: 0.0, sum_sqd: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY };

    fn of(value: f32) -> Self {
        let wide = f64::from(value);
        Total { sum: wide, sum_sqd: wide * wide, min: value, max: value }
    }

    fn and(self, other: Total) -> Self {
        Total {
            sum: self.sum + other.sum,
            sum_sqd: self.sum_sqd + other.sum_sqd,
            min: if other.min < self.min { other.min } else { self.min },
            max: if other.max > self.max { other.max } else { self.max },
        }
    }
}

/// A cell of the value matrices.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Cell {
    pub(super) count: f32,
    pub(super) sum: f32,
    pub(super) sum_sqd: f32,
    pub(super) min: f32,
    pub(super) max: f32,
}

/// The values of one column that are in the window: places `left..entered` of the history's values.
#[derive(Copy, Clone, Debug)]
struct Span {
    left: u32,
    /// Places before this one are in the older stack.
    turned: u32,
    entered: u32,
    newer: Total,
}

impl Span {
    const EMPTY: Span = Span { left: 0, turned: 0, entered: 0, newer: Total::NONE };
}

/// The columns that have something in the window, ascending.
#[derive(Default, Debug)]
struct Active(Vec<i32>);

impl Active {
    fn insert(&mut self, column: u32) {
        if let Err(at) = self.0.binary_search(&(column as i32)) {
            self.0.insert(at, column as i32);
        }
    }

    fn remove(&mut self, column: u32) {
        if let Ok(at) = self.0.binary_search(&(column as i32)) {
            self.0.remove(at);
        }
    }
}

/// The row of all matrices of one window at the time that the window ends.
#[derive(Debug)]
pub(super) struct Slide {
    codes: Active,
    /// Events in the window, by column.
    counts: Vec<u32>,
    values: Active,
    spans: Vec<Span>,
    /// What the row says, by column; only those of active columns mean something.
    cells: Vec<Cell>,
    /// The older stacks of all columns, by place.
    older: Vec<Total>,
}

impl Slide {
    /// For matrices of so many columns. One slide serves any number of subjects, one after another.
    pub(super) fn new(codes: usize, values: usize) -> Self {
        let nothing = Cell { count: 0.0, sum: 0.0, sum_sqd: 0.0, min: 0.0, max: 0.0 };
        Slide {
            codes: Active::default(),
            counts: vec![0; codes],
            values: Active::default(),
            spans: vec![Span::EMPTY; values],
            cells: vec![nothing; values],
            older: Vec::new(),
        }
    }

    /// Gives `each` every row of a subject, by time.
    pub(super) fn run(
        &mut self,
        history: &History,
        window: &Window,
        each: &mut dyn FnMut(&Slide) -> Result<(), LearnError>,
    ) -> Result<(), LearnError> {
        self.clear();
        if self.older.len() < history.values.len() {
            self.older.resize(history.values.len(), Total::NONE);
        }
        let (mut first, mut next) = (0, 0);
        for moment in &history.moments {
            for event in &history.events[next..moment.events] {
                self.enter(event, &history.values);
            }
            next = moment.events;
            // The row's own events are in every window, so that this ends before `next`.
            while !window.reaches(moment.time, history.events[first].time) {
                self.leave(&history.events[first], &history.values);
                first += 1;
            }
            each(self)?;
        }
        Ok(())
    }

    /// The columns of the code matrices that have an event in the window, ascending.
    pub(super) fn code_columns(&self) -> &[i32] {
        &self.codes.0
    }

    /// The events in the window, by [`code_columns`](Self::code_columns).
    pub(super) fn counts(&self) -> impl Iterator<Item = f32> {
        self.codes.0.iter().map(|&column| self.counts[column as usize] as f32)
    }

    /// The columns of the value matrices that have a value in the window, ascending.
    pub(super) fn value_columns(&self) -> &[i32] {
        &self.values.0
    }

    /// The cells of the value matrices, by [`value_columns`](Self::value_columns).
    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.values.0.iter().map(|&column| &self.cells[column as usize])
    }

    fn clear(&mut self) {
        for column in self.codes.0.drain(..) {
            self.counts[column as usize] = 0;
        }
        for column in self.values.0.drain(..) {
            self.spans[column as usize] = Span::EMPTY;
        }
    }

    fn enter(&mut self, event: &Event, values: &[f32]) {
        let count = &mut self.counts[event.code as usize];
        *count += 1;
        if *count == 1 {
            self.codes.insert(event.code);
        }
        let Some(Value { column, place }) = event.value else { return };
        let span = &mut self.spans[column as usize];
        if span.left == span.entered {
            *span = Span { left: place, turned: place, entered: place, newer: Total::NONE };
            self.values.insert(column);
        }
        span.newer = span.newer.and(Total::of(values[place as usize]));
        span.entered += 1;
        self.cells[column as usize] = span.cell(&self.older);
    }

    fn leave(&mut self, event: &Event, values: &[f32]) {
        let count = &mut self.counts[event.code as usize];
        *count -= 1;
        if *count == 0 {
            self.codes.remove(event.code);
        }
        let Some(Value { column, .. }) = event.value else { return };
        let span = &mut self.spans[column as usize];
        span.left += 1;
        if span.left == span.entered {
            self.values.remove(column);
            return;
        }
        if span.left > span.turned {
            let mut total = Total::NONE;
            for place in (span.left..span.entered).rev() {
                total = Total::of(values[place as usize]).and(total);
                self.older[place as usize] = total;
            }
            span.turned = span.entered;
            span.newer = Total::NONE;
        }
        self.cells[column as usize] = span.cell(&self.older);
    }
}

impl Span {
    fn cell(&self, older: &[Total]) -> Cell {
        let total = if self.left < self.turned { older[self.left as usize].and(self.newer) } else { self.newer };
        Cell {
            count: (self.entered - self.left) as f32,
            sum: total.sum as f32,
            sum_sqd: total.sum_sqd as f32,
            min: total.min,
            max: total.max,
        }
    }
}
