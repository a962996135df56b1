//! Columns of MEDS data beyond the event schema: kept as one JSON object a row, and columns again
//! in an export.
//!
//! Text, whole numbers, floating point numbers and booleans keep their type (in 64 bits); what
//! else has a text, such as a time, is kept as that. Lists and structs are named
//! and left out. So is a column that has a name of the event schema and another meaning.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use serde_json::{Map, Value};

use super::super::LibraryError;
use super::super::table::EXTRA;
use super::columns::to;
use crate::events;

/// What a column's values are.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Kind {
    Boolean,
    Integer,
    Float,
    Text,
}

impl Kind {
    fn of(kind: &DataType) -> Option<Kind> {
        match kind {
            DataType::Boolean => Some(Kind::Boolean),
            // Beyond 63 bits there is only the text.
            DataType::UInt64 => Some(Kind::Text),
            kind if kind.is_integer() => Some(Kind::Integer),
            kind if kind.is_floating() => Some(Kind::Float),
            kind => (!kind.is_nested() && can_cast_types(kind, &DataType::Utf8)).then_some(Kind::Text),
        }
    }

    fn arrow(self) -> DataType {
        match self {
            Kind::Boolean => DataType::Boolean,
            Kind::Integer => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Text => DataType::Utf8,
        }
    }
}

/// The extra columns of one file.
#[derive(Default, Debug)]
pub(super) struct Extra {
    columns: Vec<(usize, String, Kind)>,
    /// Names of the columns that cannot be kept.
    pub(super) unkept: Vec<String>,
}

impl Extra {
    /// The columns of a file that are not among those `read` already.
    pub(super) fn find(schema: &Schema, read: &[usize]) -> Self {
        let known = events::schema();
        let mut extra = Extra::default();
        for (place, field) in schema.fields().iter().enumerate().filter(|(place, _)| !read.contains(place)) {
            match Kind::of(field.data_type()) {
                // `source`, `op` and `event_key` an import makes anew.
                _ if ["source", "op", "event_key"].contains(&field.name().as_str()) => {}
                Some(kind) if known.index_of(field.name()).is_err() && field.name() != EXTRA => {
                    extra.columns.push((place, field.name().clone(), kind));
                }
                _ => extra.unkept.push(field.name().clone()),
            }
        }
        extra
    }

    /// Places of the columns in the file.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().map(|(place, ..)| *place)
    }

    /// The object of each row of a batch; `None` where the row has no value in any of the columns.
    pub(super) fn objects(&self, batch: &RecordBatch) -> Result<Vec<Option<String>>, LibraryError> {
        let mut objects = vec![String::new(); batch.num_rows()];
        for (_, name, kind) in &self.columns {
            let column = to(&super::columns::named(batch, name)?, &kind.arrow())?;
            let key = Value::from(name.as_str()).to_string();
            for (i, object) in objects.iter_mut().enumerate().filter(|(i, _)| column.is_valid(*i)) {
                let value = match kind {
                    Kind::Boolean => Value::from(column.as_boolean().value(i)),
                    Kind::Integer => Value::from(column.as_primitive::<Int64Type>().value(i)),
                    // One that is not finite is no value, and null.
                    Kind::Float => Value::from(column.as_primitive::<Float64Type>().value(i)),
                    Kind::Text => Value::from(column.as_string::<i32>().value(i)),
                };
                if !value.is_null() {
                    object.push(if object.is_empty() { '{' } else { ',' });
                    object.push_str(&format!("{key}:{value}"));
                }
            }
        }
        Ok(objects.into_iter().map(|object| (!object.is_empty()).then(|| object + "}")).collect())
    }
}

/// The columns that many objects make.
#[derive(Default, Debug)]
pub(super) struct ExtraColumns(BTreeMap<String, Kind>);

impl ExtraColumns {
    /// Takes the objects of some rows in.
    pub(super) fn see(&mut self, objects: &StringArray) {
        let mut last = None;
        for object in objects.iter().flatten().filter(|object| last.replace(*object) != Some(*object)) {
            for (name, value) in parsed(object) {
                let kind = match &value {
                    Value::Bool(_) => Kind::Boolean,
                    Value::Number(number) if number.is_f64() => Kind::Float,
                    Value::Number(_) => Kind::Integer,
                    _ => Kind::Text,
                };
                let known = self.0.entry(name).or_insert(kind);
                *known = match (*known, kind) {
                    (known, kind) if known == kind => kind,
                    (Kind::Integer | Kind::Float, Kind::Integer | Kind::Float) => Kind::Float,
                    _ => Kind::Text,
                };
            }
        }
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Their fields, in the order of [`columns`](Self::columns).
    pub(super) fn fields(&self) -> impl Iterator<Item = Field> {
        self.0.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true))
    }

    /// The objects of some rows as columns.
    pub(super) fn columns(&self, objects: &StringArray) -> Vec<ArrayRef> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let rows: Vec<Map<String, Value>> = objects.iter().map(|object| object.map_or_else(Map::new, parsed)).collect();
        let column = |(name, kind): (&String, &Kind)| -> ArrayRef {
            let cells = rows.iter().map(|row| row.get(name));
            match kind {
                Kind::Boolean => Arc::new(BooleanArray::from_iter(cells.map(|cell| cell?.as_bool()))),
                Kind::Integer => Arc::new(Int64Array::from_iter(cells.map(|cell| cell?.as_i64()))),
                Kind::Float => Arc::new(Float64Array::from_iter(cells.map(|cell| cell?.as_f64()))),
                Kind::Text => Arc::new(StringArray::from_iter(
                    cells.map(|cell| cell.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))),
                )),
            }
        };
        self.0.iter().map(column).collect()
    }
}

/// An object; nothing where another tool has put something else there.
fn parsed(object: &str) -> Map<String, Value> {
    serde_json::from_str(object).unwrap_or_default()
}
