//! A row as it would be if concepts had other values.
//!
//! Promises that the last values of a row are then what the fold would have made of the same events with the
//! last one of each concept changed, or that it names the derived concepts of which the row does not tell.

use std::fmt;

use super::NONE;
use super::aggregate::{Aggregate, Demographic, Window};
use super::derived::{Derived, Input, Of, Take, is_within};
use super::spec::{Column, FeatureSpec, SeriesOf};
use super::vector::number;
use crate::events::Micros;

/// The vector of one prediction.
#[derive(Copy, Clone)]
pub struct Vector<'a> {
    /// Its values, one a feature; `NaN` is missing.
    pub values: &'a [f32],
    /// When each was observed, as in [`Due::observed`](super::Due::observed).
    pub observed: &'a [Micros],
    /// The moment that is predicted from.
    pub at: Micros,
}

impl fmt::Debug for Vector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vector").finish_non_exhaustive()
    }
}

/// The columns of a row that would be other if a concept's values were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Levels {
    /// The concept.
    pub concept: String,
    /// UCUM unit of its values.
    pub unit: String,
    /// Columns that hold a value, such as the last or the highest; not empty, the last value's first.
    pub columns: Vec<u32>,
    /// Columns that hold how values differ: none would.
    trends: Vec<u32>,
    /// Where its samples are.
    series: u16,
}

impl Levels {
    /// Makes the known columns of a row say that its values are, and have been, at `level`.
    fn set(&self, level: f32, row: &mut [f32]) {
        for (columns, value) in [(&self.columns, level), (&self.trends, 0.0)] {
            for &column in columns {
                if let Some(cell) = row.get_mut(column as usize).filter(|cell| !cell.is_nan()) {
                    *cell = value;
                }
            }
        }
    }
}

/// What a row tells of the last sample of an input.
#[derive(Copy, Clone)]
enum Last {
    /// It stands in this column.
    In(u32),
    /// None has a time after this one. [`Micros::MIN`]: there is none; [`Micros::MAX`]: the row does not tell.
    NoneAfter(Micros),
}

impl FeatureSpec {
    /// The columns that hold values of a concept, or of a derived one; `None` if no feature does.
    pub fn levels(&self, concept: &str) -> Option<Levels> {
        let is_it = |series: &SeriesOf| matches!(series, SeriesOf::Concept(name) if name == concept);
        let series = self.series().iter().position(is_it)?;
        Some(self.levels_of(series as u16)).filter(|levels| !levels.columns.is_empty())
    }

    fn levels_of(&self, series: u16) -> Levels {
        let (mut columns, mut trends) = (Vec::new(), Vec::new());
        for column in self.columns_of(series).filter(|one| one.category == NONE) {
            match column.aggregate {
                Aggregate::Last => columns.insert(0, column.column),
                Aggregate::Min | Aggregate::Max | Aggregate::Mean | Aggregate::Median => columns.push(column.column),
                Aggregate::Slope | Aggregate::Change | Aggregate::Range | Aggregate::Std => trends.push(column.column),
                // What the concept was at first is past, and how often it was measured stays.
                Aggregate::First
                | Aggregate::Count
                | Aggregate::Sum
                | Aggregate::TimeSinceLast
                | Aggregate::Ever
                | Aggregate::Distinct => {}
            }
        }
        let concept = self.series().get(usize::from(series)).map_or("", SeriesOf::name).to_owned();
        let unit = columns.first().map_or("", |column| self.unit(*column as usize)).to_owned();
        Levels { concept, unit, columns, trends, series }
    }

    fn columns_of(&self, series: u16) -> impl Iterator<Item = &Column> {
        self.panes().get(usize::from(series)).into_iter().flatten().flat_map(|pane| &pane.columns)
    }

    /// Fills `row` with the vector as it would be if concepts were, and had been, at other levels; gives the
    /// concepts derived from these that stay as they are, since it cannot be told what they would be.
    ///
    /// Known columns of values hold the level, those of differences nothing. So do those of a derived concept,
    /// at what its formula makes of the last values of the row; where it looks at anything else it stays. An age
    /// is that of the row, of the encounter's start. Formulas of the row follow; the hourly grid stays.
    pub fn with_levels(&self, vector: &Vector<'_>, levels: &[(&Levels, f32)], row: &mut Vec<f32>) -> Vec<&str> {
        row.clear();
        row.extend_from_slice(vector.values);
        for (levels, level) in levels {
            levels.set(*level, row);
        }
        let mut moved: Vec<u16> = levels.iter().map(|(levels, _)| levels.series).collect();
        // Series of which it cannot be told what they would be, and the names of those that the row has.
        let (mut lost, mut unchanged): (Vec<u16>, Vec<&str>) = (Vec::new(), Vec::new());
        // Each comes after those that it follows from.
        for derived in self.derived().iter().filter(|one| levels.iter().all(|(set, _)| set.series != one.series)) {
            let follows = |input: &Input| match input.of {
                // Other values are as many, at the same times.
                Of::Series(of) if moved.contains(&of) => !matches!(input.take, Take::Count | Take::Hours),
                Of::Series(of) => lost.contains(&of),
                Of::Age | Of::Sex | Of::Nothing => false,
            };
            if !derived.inputs.iter().any(follows) {
                continue;
            }
            match self.recomputed(derived, vector, row, &moved, &lost) {
                Some([before, then]) if before.is_finite() && then.is_finite() => {
                    if before != then {
                        self.levels_of(derived.series).set(then, row);
                        moved.push(derived.series);
                    }
                }
                // Where its last value is of an earlier moment, or none, the row does not tell what it would be.
                _ => {
                    lost.push(derived.series);
                    let is_in_row = self.columns_of(derived.series).next().is_some();
                    let name = self.series().get(usize::from(derived.series)).map(SeriesOf::name);
                    unchanged.extend(name.filter(|_| is_in_row));
                }
            }
        }
        for formula in self.formulas() {
            let value = formula.formula.value(&|place| f64::from(cell(row, formula.inputs[place])));
            if let Some(own) = row.get_mut(formula.column as usize) {
                *own = number(value);
            }
        }
        unchanged
    }

    /// What the formula of a derived concept makes of the last values in the vector, and of those in `row`;
    /// `None` where these do not tell what its last value is.
    fn recomputed(
        &self,
        derived: &Derived,
        vector: &Vector<'_>,
        row: &[f32],
        moved: &[u16],
        lost: &[u16],
    ) -> Option<[f32; 2]> {
        let mut lasts = Vec::with_capacity(derived.inputs.len());
        for input in &derived.inputs {
            lasts.push(match input.of {
                Of::Series(of) if input.take == Take::Last && !lost.contains(&of) => self.last(of, vector),
                Of::Series(_) => return None,
                Of::Age => Last::In(self.column_of(Demographic::Age)?),
                Of::Sex => Last::In(self.column_of(Demographic::Sex)?),
                Of::Nothing => Last::NoneAfter(Micros::MIN),
            });
        }
        let observed = |column: u32| vector.observed.get(column as usize).copied().unwrap_or(Micros::MIN);
        let series = derived.inputs.iter().zip(&lasts).filter(|(input, _)| matches!(input.of, Of::Series(_)));
        let times =
            series.filter_map(|(_, last)| if let Last::In(column) = last { Some(observed(*column)) } else { None });
        // It has a value whenever an input has.
        let at = times.max()?;
        let (mut before, mut then, mut is_told) = (Vec::new(), Vec::new(), true);
        for (input, last) in derived.inputs.iter().zip(&lasts) {
            let is_moved = matches!(input.of, Of::Series(of) if moved.contains(&of));
            let is_person = matches!(input.of, Of::Age | Of::Sex);
            let (was, would_be) = match *last {
                Last::In(column) if is_person || is_within(input.within, observed(column), at) => {
                    (cell(vector.values, column), cell(row, column))
                }
                Last::In(_) => (f32::NAN, f32::NAN),
                Last::NoneAfter(after) => {
                    let from = input.within.map_or(Micros::MIN, |within| at.saturating_sub(within));
                    if from < after && is_moved {
                        return None;
                    }
                    is_told &= from >= after;
                    (f32::NAN, f32::NAN)
                }
            };
            before.push(f64::from(was));
            then.push(f64::from(would_be));
        }
        let value = |inputs: &[f64]| derived.formula.value(&|place| inputs[place]) as f32;
        let (before, then) = (value(&before), value(&then));
        // Where an input may be hidden, the value itself tells that there is none.
        let is_it = |column| cell(vector.values, column) == before && observed(column) == at;
        let agrees = || matches!(self.last(derived.series, vector), Last::In(column) if is_it(column));
        (is_told || agrees()).then_some([before, then])
    }

    /// What a vector tells of the last sample of a series.
    fn last(&self, series: u16, vector: &Vector<'_>) -> Last {
        let mut after = Micros::MAX;
        for pane in self.panes().get(usize::from(series)).into_iter().flatten() {
            let is_last = |column: &&Column| column.aggregate == Aggregate::Last && column.category == NONE;
            let Some(column) = pane.columns.iter().find(is_last) else { continue };
            if !cell(vector.values, column.column).is_nan() {
                return Last::In(column.column);
            }
            after = after.min(match pane.window {
                Window::Ever => Micros::MIN,
                Window::Back(span) => vector.at.saturating_sub(span),
                Window::Encounter => Micros::MAX,
            });
        }
        Last::NoneAfter(after)
    }

    fn column_of(&self, demographic: Demographic) -> Option<u32> {
        self.demographics().iter().find(|(one, _)| *one == demographic).map(|(_, column)| *column)
    }
}

/// A value of a row; beyond its end there is none.
fn cell(row: &[f32], column: u32) -> f32 {
    row.get(column as usize).copied().unwrap_or(f32::NAN)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_level_goes_to_all_columns_that_hold_it_and_to_what_follows() {
        let toml = r#"
[[feature]]
concepts = ["lactate", "gcs"]
windows = ["8h", "24h"]
aggregates = ["max", "last", "count", "slope"]

[[feature]]
name = "twice"
formula = '"lactate.last.8h" * 2'
"#;
        let units = BTreeMap::from([("lactate".to_owned(), "mmol/L".to_owned()), ("gcs".to_owned(), String::new())]);
        let spec = FeatureSpec::parse("features.toml", toml, &units).unwrap();
        let at = |name: &str| spec.names().iter().position(|one| one == name).unwrap();
        let lactate = spec.levels("lactate").unwrap();
        assert_eq!((lactate.unit.as_str(), lactate.columns.len()), ("mmol/L", 4));
        assert!(lactate.columns[..2].contains(&(at("lactate.last.8h") as u32)));
        assert_eq!(spec.levels("sodium"), None);

        let mut values = vec![5.0; spec.len()];
        values[at("lactate.max.24h")] = f32::NAN;
        let vector = Vector { values: &values, observed: &vec![0; spec.len()], at: 0 };
        let mut row = vec![1.0];
        assert!(spec.with_levels(&vector, &[(&lactate, 2.0)], &mut row).is_empty());
        for (name, value) in [
            ("lactate.last.8h", 2.0),
            ("lactate.max.8h", 2.0),
            ("lactate.slope.8h", 0.0),
            ("lactate.count.8h", 5.0),
            ("gcs.last.8h", 5.0),
            ("twice", 4.0),
        ] {
            assert_eq!(row[at(name)], value, "{name}");
        }
        assert!(row[at("lactate.max.24h")].is_nan(), "what is not known stays so");
    }
}
