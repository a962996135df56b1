//! What one subject's rows of the matrices are made of.

use super::columns::Columns;
use crate::events::{Fact, Micros, SubjectId};

/// A dated event of a kept code.
#[derive(Copy, Clone, Debug)]
pub(super) struct Event {
    pub(super) time: Micros,
    /// Column of the code matrices.
    pub(super) code: u32,
    /// Its value, where it has one that is kept.
    pub(super) value: Option<Value>,
}

/// The value of an event.
#[derive(Copy, Clone, Debug)]
pub(super) struct Value {
    /// Column of the value matrices.
    pub(super) column: u32,
    /// Where it stands in [`History::values`].
    pub(super) place: u32,
}

/// A row of the matrices.
#[derive(Copy, Clone, Debug)]
pub(super) struct Moment {
    pub(super) time: Micros,
    /// Events up to and with this time.
    pub(super) events: usize,
}

/// The dated events of kept codes of one subject, by time.
#[derive(Debug)]
pub(super) struct History {
    pub(super) subject: SubjectId,
    pub(super) events: Vec<Event>,
    /// The distinct times, ascending.
    pub(super) moments: Vec<Moment>,
    /// The kept values, those of a column one after another, in the order of time: a window holds a range.
    pub(super) values: Vec<f32>,
}

impl History {
    /// Takes a subject's rows in any order; those of one time stay in theirs.
    pub(super) fn new(subject: SubjectId, rows: &[Fact], columns: &Columns) -> Self {
        let mut dated: Vec<(Micros, &Fact)> = rows.iter().filter_map(|row| Some((row.time?, row))).collect();
        // MEDS data is sorted, and that is found out in one pass.
        dated.sort_by_key(|&(time, _)| time);
        let value_column = |row: &Fact| columns.place(row.code).value.filter(|_| row.value.is_finite());
        let mut places = vec![0_u32; columns.values() + 1];
        for column in dated.iter().filter_map(|(_, row)| value_column(row)) {
            places[column as usize + 1] += 1;
        }
        for column in 1..places.len() {
            places[column] += places[column - 1];
        }
        let mut history = History {
            subject,
            events: Vec::with_capacity(dated.len()),
            moments: Vec::new(),
            values: vec![0.0; places.last().map_or(0, |&all| all as usize)],
        };
        for (time, row) in dated {
            let Some(code) = columns.place(row.code).code else { continue };
            let value = value_column(row).map(|column| {
                let place = places[column as usize];
                places[column as usize] += 1;
                history.values[place as usize] = row.value;
                Value { column, place }
            });
            history.events.push(Event { time, code, value });
            match history.moments.last_mut() {
                Some(moment) if moment.time == time => moment.events += 1,
                _ => history.moments.push(Moment { time, events: history.events.len() }),
            }
        }
        history
    }
}
