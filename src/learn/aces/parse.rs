//! The YAML of an ACES file into a [`Config`]: strict, and every problem at once.

use serde_yaml_ng::{Mapping, Value};

use super::config::{Bound, Code, Config, Side};
use super::resolve::resolve;
use super::{ANY_EVENT, RECORD_END, RECORD_START, span};
use crate::events::ColumnTest;
use crate::settings::{Problem, TextFile};

/// Most predicates, and most windows, of one file.
const MOST: usize = 500;

/// Reads and checks a file; `asked`: predicates that are needed beside those it refers to itself.
pub(super) fn parse(file: &TextFile, asked: &[String]) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { file: &file.name, problems: Vec::new() };
    let config = reader.file(&file.text, asked);
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.problems),
    }
}

/// A predicate before the names it refers to are looked up.
pub(super) enum Draft {
    Plain { code: Code, low: Option<Bound>, high: Option<Bound>, tests: Vec<ColumnTest> },
    Derived { and: bool, inputs: Vec<String> },
}

pub(super) struct Named {
    pub(super) name: String,
    pub(super) draft: Draft,
    pub(super) is_static: bool,
    /// From `patient_demographics`: filters subjects even if nothing refers to it.
    pub(super) demographic: bool,
}

/// A window before the names it refers to are looked up.
pub(super) struct WindowDraft {
    pub(super) name: String,
    pub(super) root: Side,
    /// `None`: the trigger.
    pub(super) anchor: Option<(String, Side)>,
    pub(super) to_root: StepDraft,
    pub(super) to_other: StepDraft,
    pub(super) start_inclusive: bool,
    pub(super) end_inclusive: bool,
    pub(super) has: Vec<(String, Option<i64>, Option<i64>)>,
    pub(super) label: Option<String>,
    pub(super) index: Option<Side>,
}

pub(super) enum StepDraft {
    Same,
    Shift(i64),
    Next(String),
    Previous(String),
}

/// One side of a window as it is written: the point it refers to and the step from there.
struct BoundaryDraft {
    reference: String,
    step: StepDraft,
}

pub(super) struct Reader<'a> {
    file: &'a str,
    pub(super) problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Notes a problem at a key.
    pub(super) fn problem(&mut self, key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(self.file, key, what, remedy));
    }

    fn file(&mut self, text: &str, asked: &[String]) -> Option<Config> {
        let value: Value = match serde_yaml_ng::from_str(text) {
            Ok(value) => value,
            Err(e) => {
                let at = e
                    .location()
                    .map_or_else(|| "file".to_owned(), |l| format!("line {} column {}", l.line(), l.column()));
                self.problem(at, format!("is no YAML: {e}"), "correct the syntax");
                return None;
            }
        };
        let Some(map) = value.as_mapping() else {
            self.problem("file", "is no map", "give predicates, trigger and windows");
            return None;
        };
        self.keys("", map, &["predicates", "patient_demographics", "trigger", "windows", "description", "metadata"]);
        let mut named = Vec::new();
        for (key, demographic) in [("predicates", false), ("patient_demographics", true)] {
            for (name, body) in self.section(map, key) {
                if let Some(one) = self.predicate(&format!("{key}.{name}"), &name, body, demographic) {
                    if named.iter().any(|other: &Named| other.name == name) {
                        self.problem(format!("{key}.{name}"), "is defined twice", "give one of the two another name");
                    }
                    named.push(one);
                }
            }
        }
        let windows: Vec<WindowDraft> = self
            .section(map, "windows")
            .into_iter()
            .filter_map(|(name, body)| self.window(&format!("windows.{name}"), name, body))
            .collect();
        let trigger = match map.get("trigger") {
            Some(Value::String(trigger)) => Some(trigger.as_str()),
            Some(_) => {
                self.problem("trigger", "is no name", "name the predicate that starts a sample");
                None
            }
            None => {
                self.problem("trigger", "is missing", "name the predicate that starts a sample");
                None
            }
        };
        for (key, many) in [("predicates", named.len() > MOST), ("windows", windows.len() > MOST)] {
            if many {
                self.problem(key, format!("are more than {MOST}"), "split the task");
            }
        }
        // What refers to what is looked up only in a file whose parts are right.
        if !self.problems.is_empty() {
            return None;
        }
        resolve(self, &named, trigger?, &windows, asked)
    }

    /// Complains of every key of `map` that is not in `known`.
    fn keys(&mut self, path: &str, map: &Mapping, known: &[&str]) {
        for key in map.keys() {
            let name = key.as_str().unwrap_or("a key that is no text");
            if !known.contains(&name) {
                let at = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                self.problem(at, "is unknown", format!("use only {}", known.join(", ")));
            }
        }
    }

    /// The named maps below `key`; nothing if it is absent or null.
    fn section<'v>(&mut self, map: &'v Mapping, key: &str) -> Vec<(String, &'v Mapping)> {
        let entries = match map.get(key) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Mapping(entries)) => entries,
            Some(_) => {
                self.problem(key, "is no map", "give a name and a body for each entry");
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for (name, body) in entries {
            let name = match name.as_str() {
                Some(name) if is_word(name) => name.to_owned(),
                other => {
                    let at = format!("{key}.{}", other.unwrap_or("?"));
                    self.problem(at, "is no name", "use letters, digits and '_' only");
                    continue;
                }
            };
            match body.as_mapping() {
                Some(body) => found.push((name, body)),
                None => self.problem(format!("{key}.{name}"), "is no map", "give its keys below it"),
            }
        }
        found
    }

    fn predicate(&mut self, path: &str, name: &str, body: &Mapping, demographic: bool) -> Option<Named> {
        if [ANY_EVENT, RECORD_START, RECORD_END].contains(&name) {
            self.problem(path, "is the name of a special predicate", "choose another name");
        }
        let is_static = demographic || self.flag(path, body, "static").unwrap_or(false);
        let draft = if body.contains_key("expr") && !demographic {
            self.keys(path, body, &["expr", "static"]);
            self.derived(&format!("{path}.expr"), body.get("expr")?)?
        } else {
            let low = self.bound(path, body, "value_min");
            let high = self.bound(path, body, "value_max");
            let tests = self.tests(path, body);
            let code = match body.get("code") {
                None | Some(Value::Null) if low.is_some() || high.is_some() || !tests.is_empty() => Code::All,
                code => self.code(&format!("{path}.code"), code)?,
            };
            Draft::Plain { code, low, high, tests }
        };
        Some(Named { name: name.to_owned(), draft, is_static, demographic })
    }

    /// Columns and what they must hold: those of `other_cols`, and every key that is none of a
    /// predicate's own, which is how upstream reads them from a file.
    fn tests(&mut self, path: &str, body: &Mapping) -> Vec<ColumnTest> {
        const OWN: [&str; 7] =
            ["code", "value_min", "value_max", "value_min_inclusive", "value_max_inclusive", "static", "other_cols"];
        let mut entries: Vec<(String, &Value)> = Vec::new();
        let mut add = |reader: &mut Self, path: &str, key: &Value, value| match key.as_str() {
            Some(key) => entries.push((key.to_owned(), value)),
            None => reader.problem(path, "has a key that is no text", "name a column"),
        };
        for (key, value) in body.iter().filter(|(key, _)| key.as_str().is_none_or(|key| !OWN.contains(&key))) {
            add(self, path, key, value);
        }
        match body.get("other_cols") {
            None | Some(Value::Null) => {}
            Some(Value::Mapping(map)) => map.iter().for_each(|(key, value)| add(self, path, key, value)),
            Some(_) => self.problem(format!("{path}.other_cols"), "is no map", "give 'COLUMN: VALUE' below it"),
        }
        let mut tests = Vec::new();
        for (column, value) in entries {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) if !number.is_f64() => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => {
                    self.problem(
                        format!("{path}.{column}"),
                        "is no key of a predicate, nor a column with the text, whole number or boolean it must hold",
                        format!("write one value, or use only {}", OWN.join(", ")),
                    );
                    continue;
                }
            };
            tests.push(ColumnTest { column, value });
        }
        tests
    }

    fn code(&mut self, path: &str, value: Option<&Value>) -> Option<Code> {
        const REMEDY: &str = "give a code, {regex: EXPRESSION} or {any: [CODE, ...]}";
        match value {
            Some(Value::String(code)) => return Some(Code::Exact(code.clone())),
            Some(Value::Mapping(map)) if map.len() == 1 => {
                if let Some(Value::String(text)) = map.get("regex")
                    && !text.is_empty()
                {
                    match regex::Regex::new(text) {
                        Ok(regex) => return Some(Code::Regex(regex)),
                        Err(e) => self.problem(
                            format!("{path}.regex"),
                            format!("is no regular expression: {e}"),
                            "correct it",
                        ),
                    }
                    return None;
                }
                if let Some(Value::Sequence(list)) = map.get("any")
                    && !list.is_empty()
                    && let Some(codes) = list.iter().map(|code| code.as_str().map(str::to_owned)).collect()
                {
                    return Some(Code::Any(codes));
                }
                self.problem(path, "has neither a regex nor a list of codes", REMEDY);
            }
            Some(_) => self.problem(path, "is no code", REMEDY),
            None => self.problem(path, "is missing, and no value or column is asked for instead", REMEDY),
        }
        None
    }

    fn bound(&mut self, path: &str, body: &Mapping, key: &str) -> Option<Bound> {
        let inclusive = self.flag(path, body, &format!("{key}_inclusive")).unwrap_or(false);
        match body.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) if number.as_f64().is_some_and(f64::is_finite) => {
                number.as_f64().map(|value| Bound { value: value as f32, inclusive })
            }
            Some(_) => {
                self.problem(format!("{path}.{key}"), "is no number", "give a finite number");
                None
            }
        }
    }

    /// A boolean; null and absence are `None`.
    fn flag(&mut self, path: &str, body: &Mapping, key: &str) -> Option<bool> {
        match body.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(_) => {
                self.problem(format!("{path}.{key}"), "is neither true nor false", "give true or false");
                None
            }
        }
    }

    fn derived(&mut self, path: &str, value: &Value) -> Option<Draft> {
        const REMEDY: &str = "write and(A, B, ...) or or(A, B, ...) of at least two predicates, not nested";
        let text = value.as_str().unwrap_or_default();
        let parts = [("and(", true), ("or(", false)]
            .iter()
            .find_map(|(head, and)| Some((*and, text.strip_prefix(head)?.strip_suffix(')')?)));
        let Some((and, inner)) = parts else {
            self.problem(path, "is no expression", REMEDY);
            return None;
        };
        let inputs: Vec<String> = inner.split(',').map(|input| input.trim().to_owned()).collect();
        if inputs.len() < 2 || !inputs.iter().all(|input| is_word(input)) {
            self.problem(path, "does not combine two or more predicates by name", REMEDY);
            return None;
        }
        Some(Draft::Derived { and, inputs })
    }

    fn window(&mut self, path: &str, name: String, body: &Mapping) -> Option<WindowDraft> {
        self.keys(path, body, &["start", "end", "start_inclusive", "end_inclusive", "has", "label", "index_timestamp"]);
        let start = self.boundary(path, body, "start");
        let end = self.boundary(path, body, "end");
        let mut inclusive = |key: &str| {
            let flag = self.flag(path, body, key);
            if matches!(body.get(key), None | Some(Value::Null)) {
                self.problem(format!("{path}.{key}"), "is missing", "say true or false");
            }
            flag
        };
        let (start_inclusive, end_inclusive) = (inclusive("start_inclusive"), inclusive("end_inclusive"));
        let has = self.has(&format!("{path}.has"), body.get("has"));
        let label = self.name(path, body, "label");
        let index = match self.name(path, body, "index_timestamp").as_deref() {
            None => None,
            Some("start") => Some(Side::Start),
            Some("end") => Some(Side::End),
            Some(_) => {
                self.problem(format!("{path}.index_timestamp"), "is no end of a window", "say start or end");
                None
            }
        };
        let (start, end) = (start?, end?);
        let (root, reference, to_root, to_other) = match (start, end) {
            (None, None) => {
                self.problem(
                    path,
                    "reaches from the start to the end of the record",
                    "tie one of its ends to the trigger or to another window",
                );
                return None;
            }
            (None, Some(end)) => (Side::End, end.reference, end.step, StepDraft::Previous(RECORD_START.to_owned())),
            (Some(start), None) => (Side::Start, start.reference, start.step, StepDraft::Next(RECORD_END.to_owned())),
            (Some(start), Some(end)) => match (start.reference == "end", end.reference == "start") {
                (true, false) => (Side::End, end.reference, end.step, start.step),
                (false, true) => (Side::Start, start.reference, start.step, end.step),
                _ => {
                    self.problem(
                        path,
                        "must tie exactly one of its ends to the other",
                        "let one end refer to 'start' or 'end', the other to the trigger or another window",
                    );
                    return None;
                }
            },
        };
        let backwards = match to_other {
            StepDraft::Same => false,
            StepDraft::Shift(us) => (us < 0) != (root == Side::End),
            StepDraft::Next(_) => root == Side::End,
            StepDraft::Previous(_) => root == Side::Start,
        };
        if backwards {
            self.problem(
                path,
                "does not start before it ends",
                "use '+' or '->' after 'start', '-' or '<-' after 'end'",
            );
        }
        if matches!(to_other, StepDraft::Same) && (!has.is_empty() || label.is_some() || index.is_some()) {
            self.problem(
                path,
                "has no extent, so that ACES drops its has, label and index_timestamp",
                "give it a span or an event as its other end",
            );
        }
        let anchor = match reference.split_once('.') {
            Some((window, "start")) => Some((window.to_owned(), Side::Start)),
            Some((window, _)) => Some((window.to_owned(), Side::End)),
            None if reference == "trigger" => None,
            None => {
                self.problem(path, format!("refers to '{reference}'"), "refer to trigger, WINDOW.start or WINDOW.end");
                return None;
            }
        };
        Some(WindowDraft {
            name,
            root,
            anchor,
            to_root,
            to_other,
            start_inclusive: start_inclusive?,
            end_inclusive: end_inclusive?,
            has,
            label,
            index,
        })
    }

    /// One side of a window: `Some(None)` is null, `None` a problem.
    fn boundary(&mut self, path: &str, body: &Mapping, key: &str) -> Option<Option<BoundaryDraft>> {
        let path = format!("{path}.{key}");
        let text = match body.get(key) {
            Some(Value::Null) => return Some(None),
            Some(Value::String(text)) => text.as_str(),
            Some(_) => {
                self.problem(path, "is no boundary", "give null or a point such as 'trigger + 24h'");
                return None;
            }
            None => {
                self.problem(path, "is missing", "give null or a point such as 'trigger + 24h'");
                return None;
            }
        };
        let (reference, step) = match read_boundary(text) {
            Ok(read) => read,
            Err(what) => {
                self.problem(path, what, "write REF, REF + SPAN, REF - SPAN, REF -> PREDICATE or REF <- PREDICATE");
                return None;
            }
        };
        match &step {
            StepDraft::Next(name) if name == RECORD_START => {
                self.problem(
                    path,
                    "looks forward to the start of the record",
                    "use '<- _RECORD_START', or null as start",
                );
                return None;
            }
            StepDraft::Previous(name) if name == RECORD_END => {
                self.problem(path, "looks back to the end of the record", "use '-> _RECORD_END', or null as end");
                return None;
            }
            _ => {}
        }
        Some(Some(BoundaryDraft { reference: reference.to_owned(), step }))
    }

    fn has(&mut self, path: &str, value: Option<&Value>) -> Vec<(String, Option<i64>, Option<i64>)> {
        let map = match value {
            None => return Vec::new(),
            Some(Value::Mapping(map)) => map,
            Some(_) => {
                self.problem(path, "is no map", "give 'PREDICATE: (MIN, MAX)' below it");
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for (name, range) in map {
            let name = name.as_str().unwrap_or("?");
            let limit = |text: &str| match text.trim() {
                "" | "None" => Some(None),
                number => number.parse::<i64>().ok().map(Some),
            };
            let limits = range
                .as_str()
                .and_then(|text| text.trim_matches(['(', ')']).split_once(','))
                .and_then(|(least, most)| Some((limit(least)?, limit(most)?)));
            match limits {
                Some((None, None)) => {
                    self.problem(format!("{path}.{name}"), "limits nothing", "give a least or a greatest count")
                }
                Some((Some(least), Some(most))) if most < least => {
                    self.problem(format!("{path}.{name}"), "allows no count", "let the least not exceed the greatest");
                }
                Some((least, most)) => found.push((name.to_owned(), least, most)),
                None => self.problem(
                    format!("{path}.{name}"),
                    "is no range of counts",
                    "write (MIN, MAX) of whole numbers or None",
                ),
            }
        }
        found
    }

    /// A text; null and absence are `None`.
    fn name(&mut self, path: &str, body: &Mapping, key: &str) -> Option<String> {
        match body.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.problem(format!("{path}.{key}"), "is no name", "give one name");
                None
            }
        }
    }
}

/// `trigger`, `gap.end + 24h`, `start -> death` ...: the reference and the step.
fn read_boundary(text: &str) -> Result<(&str, StepDraft), &'static str> {
    let arrows = (text.contains("->"), text.contains("<-"));
    let (reference, step) = match arrows {
        (true, true) => return Err("points both ways"),
        (true, false) | (false, true) => {
            let arrow = if arrows.0 { "->" } else { "<-" };
            let (reference, name) = text.split_once(arrow).unwrap_or((text, ""));
            let name = name.trim();
            if !is_word(name) {
                return Err("names no predicate after its arrow");
            }
            (reference, if arrows.0 { StepDraft::Next(name.to_owned()) } else { StepDraft::Previous(name.to_owned()) })
        }
        (false, false) => match text.find(['+', '-']) {
            None => (text, StepDraft::Same),
            Some(at) => {
                let (plus, span) = (text.as_bytes()[at] == b'+', &text[at + 1..]);
                // Upstream cuts at every sign, so that a second one is an error there too.
                let us = if span.contains(['+', '-']) { None } else { span::parse(span) };
                let us = us.ok_or("has no span of time after its sign")?;
                (&text[..at], if us == 0 { StepDraft::Same } else { StepDraft::Shift(if plus { us } else { -us }) })
            }
        },
    };
    let reference = reference.trim();
    let right = match reference.split_once('.') {
        Some((window, side)) => is_word(window) && (side == "start" || side == "end"),
        None => is_word(reference),
    };
    if right { Ok((reference, step)) } else { Err("refers to no point") }
}

/// `^\w+$`.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}
