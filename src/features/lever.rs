//! A row as it would be if a concept had another value.

use super::NONE;
use super::aggregate::Aggregate;
use super::spec::{FeatureSpec, SeriesOf};

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
}

impl FeatureSpec {
    /// The columns that hold values of a concept; `None` if no feature does.
    pub fn levels(&self, concept: &str) -> Option<Levels> {
        let is_it = |series: &SeriesOf| matches!(series, SeriesOf::Concept(name) if name == concept);
        let series = self.series().iter().position(is_it)?;
        let (mut columns, mut trends) = (Vec::new(), Vec::new());
        for column in self.panes().get(series)?.iter().flat_map(|pane| &pane.columns).filter(|one| one.category == NONE)
        {
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
        let unit = self.unit(*columns.first()? as usize).to_owned();
        Some(Levels { concept: concept.to_owned(), unit, columns, trends })
    }

    /// Makes a row say that a concept is, and has been, at `level`: its known columns of values hold it, those
    /// of differences nothing. Formulas of the row follow; concepts that are derived from this one stay.
    pub fn set_level(&self, levels: &Levels, level: f32, row: &mut [f32]) {
        for (columns, value) in [(&levels.columns, level), (&levels.trends, 0.0)] {
            for &column in columns {
                if let Some(cell) = row.get_mut(column as usize).filter(|cell| !cell.is_nan()) {
                    *cell = value;
                }
            }
        }
        for formula in self.formulas() {
            let value = formula.formula.value(&|place| f64::from(row[formula.inputs[place] as usize])) as f32;
            if !row[formula.column as usize].is_nan() && value.is_finite() {
                row[formula.column as usize] = value;
            }
        }
    }
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

        let mut row = vec![5.0; spec.len()];
        row[at("lactate.max.24h")] = f32::NAN;
        spec.set_level(&lactate, 2.0, &mut row);
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
