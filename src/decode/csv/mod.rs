//! A row of CSV into facts, as a site's mapping says.
//!
//! Long tables (a fact a row) and wide ones (a fact a column) are the same here: every
//! [`Rule`] makes at most one fact of a row. Promises that a row gives all of its facts or
//! a [`Reject`], that a cell is never guessed at (what the mapping does not foresee is a
//! reject that names the column), and that a reject says nothing of what a cell holds.

mod split;
mod when;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use encoding_rs::Encoding;

pub use split::{Dialect, RowEnd};
pub use when::{Clock, Pattern};

use super::{Fact, Reason, Reject, Value};
use crate::events::{DAY, Micros, Op};

/// What a mapping file says. Columns are indices into [`Mapping::names`].
#[derive(Clone, Debug)]
pub struct Mapping {
    /// How rows divide into cells.
    pub dialect: Dialect,
    /// Encoding of the text.
    pub encoding: &'static Encoding,
    /// Names of all columns in order; `None`: the file's first row has them.
    pub columns: Option<Vec<String>>,
    /// Names of the columns that the mapping speaks of.
    pub names: Vec<String>,
    /// Whether blanks and tabs around a cell are no part of it.
    pub trim: bool,
    /// Cells that say that there is no value; an empty one always does.
    pub missing: Vec<String>,
    /// What stands between the whole and the fraction of a number.
    pub decimal: char,
    /// Whose row it is.
    pub patient: Naming,
    /// Assigner of the patients' identifiers; `None`: the site's default.
    pub assigner: Option<String>,
    /// The source's identifier of the encounter.
    pub encounter: Option<Naming>,
    /// When the row's facts happened.
    pub time: When,
    /// When they became known; `None`: when they happened.
    pub recorded: Option<When>,
    /// What the row says.
    pub rules: Vec<Rule>,
}

/// Where an identifier comes from: a column, or the number of the row from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naming {
    /// The column; `None`: the row's number.
    pub column: Option<usize>,
    /// Stands before it.
    pub prefix: String,
}

/// When something happened.
#[derive(Clone, PartialEq, Debug)]
pub enum When {
    /// At no time: the facts are static.
    Static,
    /// At the same time in every row.
    Fixed(Micros),
    /// As a cell says.
    Cell(usize, Clock),
}

/// One fact of a row.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The column of the value; no fact where it is missing. `None`: a fact of every row.
    pub column: Option<usize>,
    /// Code of the fact.
    pub code: Code,
    /// System of the code.
    pub system: Text,
    /// Unit of a number.
    pub unit: Text,
    /// What the cell is.
    pub kind: Kind,
    /// What the cell's words mean; where it is not empty no other word may stand there.
    pub values: BTreeMap<String, Meaning>,
    /// Cells of this column that say that there is no value, beside [`Mapping::missing`].
    pub missing: Vec<String>,
}

/// A code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Code {
    /// The same in every row.
    Fixed(String),
    /// These two with the value between them, which then is in the code.
    Around(String, String),
    /// As a column says.
    Column(usize),
}

/// A text that belongs to a code or a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Text {
    /// There is none.
    None,
    /// The same in every row.
    Fixed(String),
    /// As a column says; none where it is missing.
    Column(usize),
}

/// What a cell is.
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// A number.
    Number,
    /// Any text.
    Text,
    /// A number where it reads as one, else a text.
    Auto,
    /// The patient's age in years at the row's time; the fact is at the birth.
    Age,
    /// When the fact happened.
    Time(Clock),
}

/// What a word of a cell means.
#[derive(Clone, PartialEq, Debug)]
pub enum Meaning {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A truth.
    Bool(bool),
}

/// A mapping with the columns of one file.
#[derive(Clone, Debug)]
pub struct Table {
    mapping: Arc<Mapping>,
    /// Place in a row of each of [`Mapping::names`].
    places: Vec<usize>,
    /// Cells of a row.
    width: usize,
}

impl Table {
    /// Finds the mapping's columns in the file's first row, or where the mapping itself names all columns.
    ///
    /// # Errors
    /// Every column that is not there or there twice, in words.
    pub fn new(mapping: Arc<Mapping>, header: &[u8]) -> Result<Self, Vec<String>> {
        let columns: Vec<String> = match &mapping.columns {
            Some(columns) => columns.clone(),
            None => {
                let refused = |reject: Reject| vec![format!("the first row is no header: {}", reject.detail)];
                let cells = mapping.cells(header).map_err(refused)?;
                cells.iter().map(|cell| cell.trim().to_owned()).collect()
            }
        };
        let (mut places, mut wrong) = (Vec::new(), Vec::new());
        for name in &mapping.names {
            let mut found = columns.iter().enumerate().filter(|(_, column)| *column == name).map(|(place, _)| place);
            match (found.next(), found.next()) {
                (Some(place), None) => places.push(place),
                (Some(_), Some(_)) => wrong.push(format!("there are two columns '{name}'")),
                (None, _) => wrong.push(format!("there is no column '{name}'")),
            }
        }
        if wrong.is_empty() { Ok(Table { width: columns.len(), mapping, places }) } else { Err(wrong) }
    }

    /// Decodes one row, appending its facts; `row` is its number from 1. A row all of whose cells are
    /// missing has none.
    ///
    /// # Errors
    /// Why the row is a dead letter; `facts` may then hold some of its facts.
    pub fn decode<'a>(&'a self, row: i64, bytes: &'a [u8], facts: &mut Vec<Fact<'a>>) -> Result<(), Reject> {
        let mapping = &*self.mapping;
        let cells = mapping.cells(bytes)?;
        if cells.iter().all(|cell| cell.is_empty() || mapping.missing.iter().any(|missing| missing == cell)) {
            return Ok(());
        }
        if cells.len() != self.width {
            let detail = format!("the row has {} fields where its header has {}", cells.len(), self.width);
            return Err(Reject::new(Reason::Shape, detail));
        }
        let row = Row { table: self, mapping, number: row, cells };
        let patient = row.naming(&mapping.patient).ok_or_else(|| {
            let column = mapping.patient.column.map_or("", |column| &mapping.names[column]);
            Reject::new(Reason::Patient, format!("column '{column}' names no patient"))
        })?;
        let fact = Fact {
            assigner: mapping.assigner.as_deref().map(Cow::Borrowed),
            patient,
            encounter: mapping.encounter.as_ref().and_then(|naming| row.naming(naming)),
            time: row.when(&mapping.time)?,
            recorded: match &mapping.recorded {
                Some(When::Cell(column, _)) if row.cell(*column, &[]).is_none() => None,
                Some(when) => row.when(when)?,
                None => None,
            },
            system: None,
            code: Cow::Borrowed(""),
            value: Value::None,
            unit: None,
            id: None,
            op: Op::Assert,
        };
        for rule in &mapping.rules {
            facts.extend(row.fact(rule, &fact)?);
        }
        Ok(())
    }
}

impl Mapping {
    /// The cells of a row.
    fn cells<'a>(&self, bytes: &'a [u8]) -> Result<Vec<Cow<'a, str>>, Reject> {
        let text = self.encoding.decode_without_bom_handling_and_without_replacement(bytes).ok_or_else(|| {
            Reject::new(Reason::Syntax, format!("the row is not text in the encoding {}", self.encoding.name()))
        })?;
        let mut cells: Vec<Cow<'a, str>> = match text {
            Cow::Borrowed(text) => self.dialect.split(text)?,
            Cow::Owned(text) => {
                self.dialect.split(&text)?.into_iter().map(|cell| Cow::Owned(cell.into_owned())).collect()
            }
        };
        if self.trim {
            for cell in &mut cells {
                match cell {
                    Cow::Borrowed(text) => *text = text.trim(),
                    Cow::Owned(text) if text.trim().len() < text.len() => *text = text.trim().to_owned(),
                    Cow::Owned(_) => {}
                }
            }
        }
        Ok(cells)
    }
}

/// A row with its cells.
struct Row<'a> {
    table: &'a Table,
    mapping: &'a Mapping,
    number: i64,
    cells: Vec<Cow<'a, str>>,
}

impl<'a> Row<'a> {
    /// The cell of a column, unless it is missing.
    fn cell(&self, column: usize, missing: &[String]) -> Option<&Cow<'a, str>> {
        let cell = self.cells.get(*self.table.places.get(column)?)?;
        let all = self.mapping.missing.iter().chain(missing);
        (!cell.is_empty() && all.into_iter().all(|missing| missing != cell)).then_some(cell)
    }

    fn naming(&self, naming: &'a Naming) -> Option<Cow<'a, str>> {
        let prefix = naming.prefix.as_str();
        match naming.column {
            None => Some(Cow::Owned(format!("{prefix}{}", self.number))),
            Some(column) => {
                let cell = self.cell(column, &[]).filter(|cell| !cell.trim().is_empty())?;
                Some(if prefix.is_empty() { cell.clone() } else { Cow::Owned(format!("{prefix}{cell}")) })
            }
        }
    }

    fn when(&self, when: &When) -> Result<Option<Micros>, Reject> {
        match when {
            When::Static => Ok(None),
            When::Fixed(at) => Ok(Some(*at)),
            When::Cell(column, clock) => {
                let cell =
                    self.cell(*column, &[]).ok_or_else(|| self.wrong(*column, Reason::Field, "holds no time"))?;
                self.time(*column, cell, clock).map(Some)
            }
        }
    }

    fn time(&self, column: usize, cell: &str, clock: &Clock) -> Result<Micros, Reject> {
        let what = "holds a time that is not in its format, or that its zone never had";
        clock.read(cell, self.mapping.decimal).ok_or_else(|| self.wrong(column, Reason::Time, what))
    }

    /// The fact of a rule; `base` has what all facts of the row share.
    fn fact(&self, rule: &'a Rule, base: &Fact<'a>) -> Result<Option<Fact<'a>>, Reject> {
        let mut fact = base.clone();
        if let Some(column) = rule.column {
            let Some(cell) = self.cell(column, &rule.missing) else { return Ok(None) };
            self.value(rule, column, cell.clone(), &mut fact)?;
        }
        fact.code = match &rule.code {
            Code::Fixed(code) => Cow::Borrowed(code),
            Code::Around(before, after) => match std::mem::replace(&mut fact.value, Value::None) {
                Value::Text(text) | Value::Code(text) => Cow::Owned(format!("{before}{text}{after}")),
                Value::Number(number) => Cow::Owned(format!("{before}{number}{after}")),
                Value::Bool(truth) => Cow::Owned(format!("{before}{truth}{after}")),
                Value::None => Cow::Owned(format!("{before}{after}")),
            },
            Code::Column(column) => {
                self.cell(*column, &[]).ok_or_else(|| self.wrong(*column, Reason::Field, "names no code"))?.clone()
            }
        };
        fact.system = self.text(&rule.system);
        if matches!(fact.value, Value::Number(_)) {
            fact.unit = self.text(&rule.unit);
        }
        Ok(Some(fact))
    }

    fn value(&self, rule: &'a Rule, column: usize, cell: Cow<'a, str>, fact: &mut Fact<'a>) -> Result<(), Reject> {
        if !rule.values.is_empty() {
            fact.value = match rule.values.get(&*cell) {
                Some(Meaning::Number(number)) => Value::Number(*number),
                Some(Meaning::Text(text)) => Value::Text(Cow::Borrowed(text)),
                Some(Meaning::Bool(truth)) => Value::Bool(*truth),
                None => return Err(self.wrong(column, Reason::Field, "holds a word that its values do not list")),
            };
            return Ok(());
        }
        let number = number(&cell, self.mapping.decimal);
        let no_number = || self.wrong(column, Reason::Field, "does not hold a number");
        match &rule.kind {
            Kind::Number => fact.value = Value::Number(number.ok_or_else(no_number)?),
            Kind::Text => fact.value = Value::Text(cell),
            Kind::Auto => fact.value = number.map_or_else(|| Value::Text(cell), Value::Number),
            Kind::Age => {
                let years = number.filter(|years| (0.0..200.0).contains(years)).ok_or_else(no_number)?;
                // A year of the Julian calendar, as in the UCUM unit `a`.
                let age = (years * 365.25 * DAY as f64).round() as Micros;
                fact.time = fact.time.map(|time| time.saturating_sub(age));
            }
            Kind::Time(clock) => fact.time = Some(self.time(column, &cell, clock)?),
        }
        Ok(())
    }

    fn text(&self, text: &'a Text) -> Option<Cow<'a, str>> {
        match text {
            Text::None => None,
            Text::Fixed(text) => Some(Cow::Borrowed(text)),
            Text::Column(column) => self.cell(*column, &[]).cloned(),
        }
    }

    fn wrong(&self, column: usize, reason: Reason, what: &str) -> Reject {
        Reject::new(reason, format!("column '{}' {what}", self.mapping.names[column]))
    }
}

/// A finite number, written with that decimal separator.
fn number(cell: &str, decimal: char) -> Option<f64> {
    let plain = match decimal {
        '.' => Cow::Borrowed(cell),
        // A point would be a separator of thousands, of which nobody knows where it may stand.
        _ if cell.contains('.') => return None,
        decimal => Cow::Owned(cell.replacen(decimal, ".", 1)),
    };
    plain.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests;
