//! The keys of a mapping file, one by one.

use std::collections::BTreeMap;

use chrono::DateTime;
use encoding_rs::Encoding;
use toml::{Table, Value};

use crate::decode::csv::{Clock, Code, Dialect, Kind, Mapping, Meaning, Naming, Pattern, Rule, Text, When};
use crate::events::Micros;
use crate::settings::Problem;

const TOP: [&str; 12] = [
    "delimiter",
    "quote",
    "encoding",
    "columns",
    "trim",
    "missing",
    "decimal",
    "patient",
    "encounter",
    "time",
    "recorded",
    "fact",
];
const FACT: [&str; 13] = [
    "column",
    "code",
    "code_column",
    "system",
    "system_column",
    "unit",
    "unit_column",
    "kind",
    "values",
    "missing",
    "format",
    "zone",
    "since",
];
const TIME: [&str; 6] = ["column", "format", "zone", "since", "fixed", "static"];

/// Units of a time since something, in microseconds.
const UNITS: [(&str, f64); 5] =
    [("days", 86_400e6), ("hours", 3600e6), ("minutes", 60e6), ("seconds", 1e6), ("milliseconds", 1e3)];

/// Reads a mapping and keeps every problem. `None` always comes with one.
pub(super) struct Reader<'a> {
    file: &'a str,
    /// Columns named so far.
    names: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Reader { file, names: Vec::new(), problems: Vec::new() }
    }

    pub(super) fn mapping(&mut self, text: &str) -> Option<Mapping> {
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let error: toml::de::Error = error;
                let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
                self.problem(&format!("line {line}"), format!("is no TOML: {}", error.message()), "correct the syntax");
                return None;
            }
        };
        self.keys("", &table, &TOP);
        let dialect = self.dialect(&table);
        let encoding = self.encoding(&table);
        let columns = self.columns(&table);
        let trim = self.flag(&table, "", "trim", true);
        let missing = self.texts(&table, "", "missing").unwrap_or_else(|| vec![String::new()]);
        let decimal = self.sign(&table, "decimal", ".").flatten().map_or('.', char::from);
        let patient = self.patient(&table);
        let encounter = self.section(&table, "encounter").and_then(|inner| {
            self.keys("encounter", &inner, &["column", "row", "prefix"]);
            self.naming(&inner, "encounter")
        });
        let time = match self.section(&table, "time") {
            Some(inner) => self.when(&inner, "time", true),
            None => {
                let remedy = "give [time] a column and a format, or fixed = a time, or static = true";
                self.problem("time", "is missing", remedy);
                None
            }
        };
        let recorded = self.section(&table, "recorded").map(|inner| self.when(&inner, "recorded", false));
        let is_static = matches!(time, Some(When::Static));
        let rules = self.rules(&table, is_static);
        if let Some(columns) = &columns {
            self.known(columns);
        }
        let (patient, assigner) = patient?;
        Some(Mapping {
            dialect: dialect?,
            encoding: encoding?,
            columns,
            names: std::mem::take(&mut self.names),
            trim,
            missing,
            decimal,
            patient,
            assigner,
            encounter,
            time: time?,
            recorded: recorded.flatten(),
            rules,
        })
    }

    fn problem(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(self.file, key, what, remedy));
    }

    fn keys(&mut self, path: &str, table: &Table, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.problem(&join(path, key), "is unknown", format!("use only {}", known.join(", ")));
        }
    }

    fn section(&mut self, table: &Table, key: &str) -> Option<Table> {
        match table.get(key)? {
            Value::Table(table) => Some(table.clone()),
            _ => {
                self.problem(key, "is no table", format!("write [{key}] above its keys"));
                None
            }
        }
    }

    fn text(&mut self, table: &Table, path: &str, key: &str) -> Option<String> {
        match table.get(key)? {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            _ => {
                self.problem(&join(path, key), "is no text", "give a text in quotes");
                None
            }
        }
    }

    fn texts(&mut self, table: &Table, path: &str, key: &str) -> Option<Vec<String>> {
        let texts = match table.get(key)? {
            Value::Array(texts) => texts.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        if texts.is_none() {
            self.problem(&join(path, key), "is no list of texts", "write [\"one\", \"two\"]");
        }
        texts
    }

    fn flag(&mut self, table: &Table, path: &str, key: &str, default: bool) -> bool {
        match table.get(key) {
            None => default,
            Some(Value::Boolean(flag)) => *flag,
            Some(_) => {
                self.problem(&join(path, key), "is not true or false", "write it without quotes");
                default
            }
        }
    }

    /// One ASCII sign, or none where the text is empty. The outer `None` comes with a problem.
    fn sign(&mut self, table: &Table, key: &str, default: &str) -> Option<Option<u8>> {
        match table.get(key).map_or(Some(default), Value::as_str).map(str::as_bytes) {
            Some([]) if key == "quote" => Some(None),
            Some(&[sign]) if sign.is_ascii() && !sign.is_ascii_alphanumeric() && sign != b'\n' && sign != b'\r' => {
                Some(Some(sign))
            }
            _ => {
                self.problem(key, "is not one sign", format!("write one sign in quotes; the usual one is {default:?}"));
                None
            }
        }
    }

    fn dialect(&mut self, table: &Table) -> Option<Dialect> {
        let delimiter = self.sign(table, "delimiter", ",").flatten();
        let quote = self.sign(table, "quote", "\"");
        let dialect = Dialect { delimiter: delimiter?, quote: quote? };
        if dialect.quote == Some(dialect.delimiter) {
            self.problem("quote", "is the delimiter too", "give each a sign of its own, or quote = \"\" for none");
        }
        Some(dialect)
    }

    fn encoding(&mut self, table: &Table) -> Option<&'static Encoding> {
        let label = if table.contains_key("encoding") { self.text(table, "", "encoding")? } else { "utf-8".to_owned() };
        let encoding = Encoding::for_label(label.as_bytes()).filter(|encoding| encoding.is_ascii_compatible());
        if encoding.is_none() {
            let what = "is no encoding that is read, which are those of the web whose first 128 signs are ASCII";
            self.problem("encoding", what, "write utf-8, windows-1252 or iso-8859-1; convert UTF-16 to UTF-8 before");
        }
        encoding
    }

    fn columns(&mut self, table: &Table) -> Option<Vec<String>> {
        let columns = self.texts(table, "", "columns")?;
        if columns.is_empty() {
            self.problem("columns", "is empty", "name every column in order, or leave it out if the file does");
        }
        Some(columns)
    }

    /// Where the mapping names all columns, those that it uses must be among them, once.
    fn known(&mut self, columns: &[String]) {
        for name in self.names.clone() {
            match columns.iter().filter(|column| **column == name).count() {
                0 => self.problem("columns", format!("does not hold the column '{name}'"), "correct one of the two"),
                1 => {}
                _ => self.problem("columns", format!("holds the column '{name}' twice"), "give each its own name"),
            }
        }
    }

    /// The index of the column that `key` names.
    fn column(&mut self, table: &Table, path: &str, key: &str) -> Option<usize> {
        let name = self.text(table, path, key)?;
        let known = self.names.iter().position(|known| *known == name);
        Some(known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        }))
    }

    fn patient(&mut self, table: &Table) -> Option<(Naming, Option<String>)> {
        let Some(inner) = self.section(table, "patient") else {
            if !table.contains_key("patient") {
                self.problem("patient", "is missing", "give [patient] a column, or row = true and a prefix");
            }
            return None;
        };
        self.keys("patient", &inner, &["column", "row", "prefix", "assigner"]);
        let assigner = self.text(&inner, "patient", "assigner");
        let naming = self.naming(&inner, "patient")?;
        if naming.column.is_none() && naming.prefix.is_empty() {
            let remedy = "give the table a prefix of its own, such as \"study-7-\"";
            self.problem("patient.prefix", "is missing, so that rows of two tables would be one patient", remedy);
        }
        Some((naming, assigner))
    }

    fn naming(&mut self, table: &Table, path: &str) -> Option<Naming> {
        let column = self.column(table, path, "column");
        let row = self.flag(table, path, "row", false);
        if row == table.contains_key("column") {
            self.problem(path, "does not say which of the two names it", "give either column or row = true");
            return None;
        }
        let prefix = self.text(table, path, "prefix").unwrap_or_default();
        (row || column.is_some()).then_some(Naming { column, prefix })
    }

    fn when(&mut self, table: &Table, path: &str, may_be_static: bool) -> Option<When> {
        self.keys(path, table, &TIME);
        let is_static = self.flag(table, path, "static", false);
        let given = ["column", "fixed"].into_iter().filter(|key| table.contains_key(*key)).count();
        if given + usize::from(is_static) != 1 || (is_static && !may_be_static) {
            let ways = if may_be_static { "column, fixed and static = true" } else { "column and fixed" };
            self.problem(path, "does not say just one time", format!("give one of {ways}"));
            return None;
        }
        if is_static {
            return Some(When::Static);
        }
        if table.contains_key("fixed") {
            return self.moment(table, path, "fixed").map(When::Fixed);
        }
        let column = self.column(table, path, "column");
        let clock = self.clock(table, path);
        Some(When::Cell(column?, clock?))
    }

    fn moment(&mut self, table: &Table, path: &str, key: &str) -> Option<Micros> {
        let text = match table.get(key)? {
            Value::String(text) => text.clone(),
            Value::Datetime(time) => time.to_string(),
            _ => String::new(),
        };
        let at = DateTime::parse_from_rfc3339(&text).ok().map(|at| at.timestamp_micros());
        if at.is_none() {
            let remedy = "write one such as \"2026-01-31T00:00:00Z\"";
            self.problem(&join(path, key), "is not an RFC 3339 time with an offset", remedy);
        }
        at
    }

    fn clock(&mut self, table: &Table, path: &str) -> Option<Clock> {
        let format =
            if table.contains_key("format") { self.text(table, path, "format")? } else { "rfc3339".to_owned() };
        let key = join(path, "format");
        let zone = match self.text(table, path, "zone") {
            None => None,
            Some(name) => {
                let zone = name.parse::<chrono_tz::Tz>().ok();
                if zone.is_none() {
                    let remedy = "write a name of the IANA database, such as \"Europe/Berlin\" or \"UTC\"";
                    self.problem(&join(path, "zone"), "is no time zone", remedy);
                    return None;
                }
                zone
            }
        };
        if table.contains_key("since") {
            let start = self.moment(table, path, "since")?;
            if zone.is_some() {
                self.problem(&join(path, "zone"), "says nothing of a time since another", "leave it out");
            }
            if format == "hh:mm" {
                return Some(Clock::HoursSince(start));
            }
            let unit = UNITS.iter().find(|(name, _)| *name == format).map(|(_, unit)| *unit);
            if unit.is_none() {
                let what = "is not what is counted since a time";
                self.problem(&key, what, "write days, hours, minutes, seconds, milliseconds or hh:mm");
            }
            return Some(Clock::Since { start, unit: unit? });
        }
        if UNITS.iter().any(|(name, _)| *name == format) || format == "hh:mm" {
            let remedy = "give since = a time; 1970-01-01T00:00:00Z for Unix times";
            self.problem(&join(path, "since"), "is missing", remedy);
            return None;
        }
        if format == "rfc3339" {
            if zone.is_some() {
                self.problem(&join(path, "zone"), "is not needed, each time names its offset", "leave it out");
            }
            return Some(Clock::Rfc3339);
        }
        match Pattern::new(&format, zone) {
            Ok(pattern) => Some(Clock::Pattern(pattern)),
            Err(what) => {
                let remedy = "write rfc3339, or a pattern such as \"%Y-%m-%d %H:%M:%S\" and a zone";
                self.problem(&key, what, remedy);
                None
            }
        }
    }

    fn rules(&mut self, table: &Table, is_static: bool) -> Vec<Rule> {
        let list = match table.get("fact") {
            Some(Value::Array(list)) if !list.is_empty() => list.as_slice(),
            _ => {
                self.problem("fact", "is missing", "begin each fact of a row with a line [[fact]]");
                return Vec::new();
            }
        };
        let mut rules = Vec::with_capacity(list.len());
        for (i, entry) in list.iter().enumerate() {
            let path = format!("fact[{i}]");
            match entry.as_table() {
                Some(entry) => rules.extend(self.rule(entry, &path, is_static)),
                None => self.problem(&path, "is no table", "begin each fact of a row with a line [[fact]]"),
            }
        }
        rules
    }

    fn rule(&mut self, table: &Table, path: &str, is_static: bool) -> Option<Rule> {
        self.keys(path, table, &FACT);
        let column = self.column(table, path, "column");
        let values = self.values(table, path);
        let kind = self.kind(table, path, &values);
        let code = self.code(table, path);
        let system = self.either(table, path, "system");
        let unit = self.either(table, path, "unit");
        let missing = self.texts(table, path, "missing").unwrap_or_default();
        let is_time = matches!(kind, Some(Kind::Time(_)));
        for key in ["format", "zone", "since"].into_iter().filter(|key| !is_time && table.contains_key(*key)) {
            self.problem(&join(path, key), "is of a time", "leave it out, or write kind = \"time\"");
        }
        if !table.contains_key("column") {
            for key in ["kind", "values", "missing", "unit", "unit_column"] {
                if table.contains_key(key) {
                    self.problem(&join(path, key), "is of a value, and there is none", "name its column");
                }
            }
        }
        if kind == Some(Kind::Age) && is_static {
            self.problem(&join(path, "kind"), "age needs the time at which the patient had it", "give [time] one");
        }
        if matches!(code, Some(Code::Around(..))) {
            let fits = column.is_some() && (kind == Some(Kind::Text) || !values.is_empty());
            if !fits {
                let remedy = "name a column, and write kind = \"text\" or values";
                self.problem(&join(path, "code"), "has {} for a value, and there is no word", remedy);
            }
        }
        Some(Rule { column, code: code?, system, unit, kind: kind?, values, missing })
    }

    fn code(&mut self, table: &Table, path: &str) -> Option<Code> {
        match (table.contains_key("code"), table.contains_key("code_column")) {
            (true, false) => {
                let code = self.text(table, path, "code")?;
                Some(match code.split_once("{}") {
                    Some((before, after)) => Code::Around(before.to_owned(), after.to_owned()),
                    None => Code::Fixed(code),
                })
            }
            (false, true) => self.column(table, path, "code_column").map(Code::Column),
            (both, _) => {
                let what = if both { "stands beside code_column" } else { "is missing" };
                self.problem(&join(path, "code"), what, "give either code or code_column");
                None
            }
        }
    }

    /// `key` or `key_column`.
    fn either(&mut self, table: &Table, path: &str, key: &str) -> Text {
        let by_column = format!("{key}_column");
        if table.contains_key(key) && table.contains_key(&by_column) {
            self.problem(&join(path, key), format!("stands beside {by_column}"), "give one of the two");
        }
        match self.text(table, path, key) {
            Some(text) => Text::Fixed(text),
            None => self.column(table, path, &by_column).map_or(Text::None, Text::Column),
        }
    }

    fn values(&mut self, table: &Table, path: &str) -> BTreeMap<String, Meaning> {
        let mut values = BTreeMap::new();
        let words = match table.get("values") {
            None => return values,
            Some(Value::Table(words)) if !words.is_empty() => words,
            Some(_) => {
                let remedy = "write values = { yes = true, no = false }";
                self.problem(&join(path, "values"), "is no table of words", remedy);
                return values;
            }
        };
        for (word, meaning) in words {
            let meaning = match meaning {
                Value::Boolean(truth) => Meaning::Bool(*truth),
                Value::Integer(number) => Meaning::Number(*number as f64),
                Value::Float(number) if number.is_finite() => Meaning::Number(*number),
                Value::String(text) if !text.is_empty() => Meaning::Text(text.clone()),
                _ => {
                    let key = join(&join(path, "values"), word);
                    self.problem(&key, "means nothing", "give true, false, a number or a text");
                    continue;
                }
            };
            values.insert(word.clone(), meaning);
        }
        values
    }

    fn kind(&mut self, table: &Table, path: &str, values: &BTreeMap<String, Meaning>) -> Option<Kind> {
        let key = join(path, "kind");
        if !values.is_empty() && table.contains_key("kind") {
            self.problem(&key, "stands beside values, which say what the cell is", "leave one of the two out");
        }
        if !table.contains_key("kind") {
            return Some(Kind::Number);
        }
        match self.text(table, path, "kind")?.as_str() {
            "number" => Some(Kind::Number),
            "text" => Some(Kind::Text),
            "auto" => Some(Kind::Auto),
            "age" => Some(Kind::Age),
            "time" => self.clock(table, path).map(Kind::Time),
            _ => {
                self.problem(&key, "is no kind of value", "write number, text, auto, age or time");
                None
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
