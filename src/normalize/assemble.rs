//! What the SQL gave, and the columns that it left alone, into an event batch.
//!
//! Usually the SQL gives every fact, in order; then its columns stand beside the others as
//! they are. Otherwise rows are picked, in the order of the facts.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Float32Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::Float32Type;

use super::NormalizeError;
use super::codes::Codes;
use super::facts::name;
use super::plan::Ruled;
use super::run::Token;
use crate::decode::{Fact, Reason, Reject};
use crate::events::{Op, SubjectId, column, schema};

/// A fact that the SQL left out.
const LEFT_OUT: u32 = u32::MAX;

/// What goes into a batch.
pub(super) struct Parts<'a> {
    /// Columns of tokens and facts.
    pub(super) rows: &'a RecordBatch,
    /// Whose tokens stand before the facts.
    pub(super) tokens: &'a [Token<'a>],
    /// The facts.
    pub(super) facts: &'a [Fact<'a>],
    /// Facts of each record.
    pub(super) ranges: &'a [Range<usize>],
    /// What the codes mean.
    pub(super) codes: &'a Codes,
}

/// How a record ended.
pub(super) enum Ending {
    /// With so many events.
    Accepted(u32),
    /// As a dead letter.
    Dead(Reject),
    /// The SQL left out all its facts.
    Filtered,
}

/// A batch of events.
pub(super) struct Assembled {
    /// In the event schema.
    pub(super) events: RecordBatch,
    /// For the metrics.
    pub(super) counts: Counts,
    /// Tokens of subjects none of whose facts was kept; they are not in the batch.
    pub(super) unused: Vec<usize>,
}

/// What is counted of the events.
#[derive(Default)]
pub(super) struct Counts {
    /// Events by concept whose number is not plausible.
    pub(super) implausible: BTreeMap<String, u64>,
    /// Events of a code system whose code has no concept.
    pub(super) unmapped: u64,
}

/// Puts the batch together and says how each record with facts ended.
///
/// # Errors
/// If the SQL gave what cannot be an event.
pub(super) fn assemble(
    parts: &Parts<'_>,
    ruled: Ruled,
    endings: &mut [Option<Ending>],
) -> Result<Assembled, NormalizeError> {
    let place = places(&ruled, parts.facts.len())?;
    end_records(parts, &ruled, &place, endings)?;
    let is_dead = |record: usize| matches!(endings[record], Some(Ending::Dead(_)));
    let counts = count(parts, &ruled, &place, is_dead)?;

    let tokens = parts.tokens.len() as u32;
    let mut kept: Vec<u32> = Vec::with_capacity(parts.facts.len());
    for (record, range) in parts.ranges.iter().enumerate() {
        if !is_dead(record) {
            kept.extend(range.clone().map(|fact| fact as u32).filter(|fact| place[*fact as usize] != LEFT_OUT));
        }
    }
    let mut unused = Vec::new();
    let in_order = place.iter().enumerate().all(|(fact, at)| *at == fact as u32);
    let picks = if in_order && kept.len() == parts.facts.len() {
        None
    } else {
        let subjects: HashSet<SubjectId> = kept.iter().map(|fact| parts.subject(*fact)).collect();
        unused = (0..parts.tokens.len()).filter(|i| !subjects.contains(&parts.tokens[*i].subject)).collect();
        let used = |i: &u32| subjects.contains(&parts.tokens[*i as usize].subject);
        let rows = |at: fn(&[u32], u32) -> u32| -> UInt32Array {
            let facts = kept.iter().map(|fact| tokens + at(&place, *fact));
            (0..tokens).filter(used).chain(facts).collect::<Vec<u32>>().into()
        };
        Some((rows(|_, fact| fact), rows(|place, fact| place[fact as usize])))
    };

    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema().fields().len());
    for (i, field) in schema().fields().iter().enumerate() {
        let given = ruled.columns.iter().find(|(at, _)| *at == i).map(|(_, values)| values);
        let column = match given {
            None => parts.as_sent(field.name(), i, parts.rows.num_rows())?,
            Some(values) if parts.tokens.is_empty() => Arc::clone(values),
            Some(values) => concat(&[&*parts.as_sent(field.name(), i, parts.tokens.len())?, values])?,
        };
        let column = match &picks {
            None => column,
            Some((sent, _)) if given.is_none() => take(&column, sent, None)?,
            Some((_, ruled)) => take(&column, ruled, None)?,
        };
        columns.push(if i == column::NUMERIC_VALUE { finite(column) } else { column });
    }
    if columns[column::CODE].null_count() > 0 {
        return Err(NormalizeError::Code);
    }
    Ok(Assembled { events: RecordBatch::try_new(schema(), columns)?, counts, unused })
}

impl Parts<'_> {
    /// The first `rows` rows of a column of the event schema, as far as it was sent.
    fn as_sent(&self, name: &str, at: usize, rows: usize) -> Result<ArrayRef, NormalizeError> {
        let schema = schema();
        let kind = schema.field(at).data_type();
        match self.rows.column_by_name(name) {
            Some(column) => Ok(cast(&column.slice(0, rows), kind)?),
            None => Ok(new_null_array(kind, rows)),
        }
    }

    fn subject(&self, fact: u32) -> SubjectId {
        let subjects = self.rows.column(1).as_primitive::<arrow::datatypes::Int64Type>();
        SubjectId(subjects.value(self.tokens.len() + fact as usize))
    }

    fn code(&self, fact: usize) -> Option<&str> {
        let codes = self.rows.column_by_name(name::CODE)?.as_string_opt::<i32>()?;
        Some(codes.value(self.tokens.len() + fact))
    }
}

/// Row of the SQL's result for each fact.
fn places(ruled: &Ruled, facts: usize) -> Result<Vec<u32>, NormalizeError> {
    let mut places = vec![LEFT_OUT; facts];
    if ruled.rows.null_count() > 0 {
        return Err(NormalizeError::Rows);
    }
    for (at, fact) in ruled.rows.values().iter().enumerate() {
        match places.get_mut(*fact as usize) {
            Some(place) if *place == LEFT_OUT => *place = at as u32,
            _ => return Err(NormalizeError::Rows),
        }
    }
    Ok(places)
}

/// A record all of whose events have a problem is a dead letter; one that is left without events
/// was dropped by the site's rules.
fn end_records(
    parts: &Parts<'_>,
    ruled: &Ruled,
    place: &[u32],
    endings: &mut [Option<Ending>],
) -> Result<(), NormalizeError> {
    let problem = ruled.problem.as_ref().filter(|problem| problem.null_count() < problem.len());
    let whole = problem.is_none() && ruled.rows.len() == parts.facts.len();
    for (record, range) in parts.ranges.iter().enumerate() {
        if range.is_empty() || endings[record].is_some() {
            continue;
        }
        if whole {
            endings[record] = Some(Ending::Accepted(range.len() as u32));
            continue;
        }
        let (mut events, mut failed, mut first) = (0, 0, None);
        for fact in range.clone().filter(|fact| place[*fact] != LEFT_OUT) {
            events += 1;
            if let Some(word) =
                problem.filter(|p| p.is_valid(place[fact] as usize)).map(|p| p.value(place[fact] as usize))
            {
                failed += 1;
                first = first.or(Some((fact, word)));
            }
        }
        endings[record] = Some(match first {
            _ if events == 0 => Ending::Filtered,
            Some((fact, word)) if failed == events => Ending::Dead(reject(parts, fact, word)?),
            _ => Ending::Accepted(events),
        });
    }
    Ok(())
}

fn reject(parts: &Parts<'_>, fact: usize, word: &str) -> Result<Reject, NormalizeError> {
    let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == word).ok_or(NormalizeError::Problem)?;
    let concept = parts.code(fact).and_then(|code| parts.codes.concept(code));
    let detail = match (reason, concept) {
        (Reason::Unit, Some(concept)) => {
            format!("{} is kept in {}, to which the unit that was sent does not convert", concept.name, concept.unit)
        }
        _ => "normalize.sql found this problem".to_owned(),
    };
    Ok(Reject::new(reason, detail))
}

fn count(
    parts: &Parts<'_>,
    ruled: &Ruled,
    place: &[u32],
    is_dead: impl Fn(usize) -> bool,
) -> Result<Counts, NormalizeError> {
    let mut counts = Counts::default();
    let given = |i: usize| ruled.columns.iter().find(|(at, _)| *at == i).map(|(_, values)| values);
    let unmapped = given(column::CONCEPT).filter(|concept| concept.null_count() > 0);
    let flags = given(column::IMPLAUSIBLE).and_then(|flags| flags.as_boolean_opt());
    let flags = flags.filter(|flags| flags.true_count() > 0);
    if unmapped.is_none() && flags.is_none() {
        return Ok(counts);
    }
    for (record, range) in parts.ranges.iter().enumerate() {
        if is_dead(record) {
            continue;
        }
        for fact in range.clone().filter(|fact| place[*fact] != LEFT_OUT) {
            let row = place[fact] as usize;
            let implausible = flags.is_some_and(|flags| flags.is_valid(row) && flags.value(row));
            if !implausible && unmapped.is_none_or(|concept| concept.is_valid(row)) {
                continue;
            }
            let meant = parts.code(fact).and_then(|code| parts.codes.concept(code));
            match meant {
                Some(meant) if implausible && parts.facts[fact].op == Op::Assert => {
                    match counts.implausible.get_mut(&meant.name) {
                        Some(count) => *count += 1,
                        None => drop(counts.implausible.insert(meant.name.clone(), 1)),
                    }
                }
                None if parts.facts[fact].system.is_some() => counts.unmapped += 1,
                _ => {}
            }
        }
    }
    Ok(counts)
}

/// A number that float32 cannot hold is none.
fn finite(column: ArrayRef) -> ArrayRef {
    let Some(numbers) = column.as_primitive_opt::<Float32Type>() else { return column };
    if numbers.values().iter().all(|number| number.is_finite()) {
        return column;
    }
    let numbers: Float32Array = numbers.unary_opt(|number| number.is_finite().then_some(number));
    Arc::new(numbers)
}
