//! `features.toml`, checked whole.
//!
//! ```toml
//! count_of_none = "missing"                  # default "zero"
//!
//! [[feature]]
//! concepts = ["heart_rate", "lactate"]       # or "*": every concept, by name
//! windows = ["8h", "encounter", "ever"]
//! aggregates = ["last", "max", "slope"]
//!
//! [[feature]]
//! concepts = ["smoking_status"]              # of texts: one column a category
//! categories = ["never", "former", "*"]      # "*": any other
//! windows = ["ever"]
//! aggregates = ["last", "count"]             # or first, ever, time_since_last, distinct
//!
//! [[feature]]
//! codes = { diabetes = ["ICD10CM//E11*", "SNOMED//44054006"] }
//! windows = ["ever"]
//! aggregates = ["ever"]                      # or count, time_since_last, distinct
//!
//! [[feature]]
//! demographics = ["age", "sex"]
//!
//! [[feature]]                                # of features above it
//! name = "worst"
//! formula = "greatest(\"heart_rate.max.8h\", 100)"
//!
//! [[text]]                                   # how often terms stand in texts, for models of texts: text
//! concept = "note"                           # or codes, as above
//! windows = ["24h", "ever"]
//! terms = ["pneumonia", "chest pain"]        # of one to three words
//!
//! [grid]                                     # hour by hour, for models of sequences: gru, cnn
//! concepts = ["heart_rate", "lactate"]       # or "*"
//! hours = 48                                 # default; 1 to 168
//! aggregate = "last"                         # default; or "mean": of the values of an hour
//! ```
//!
//! Derived concepts: see `parse/derive.rs`. Words and terms: see `terms.rs`.

mod derive;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use self::derive::{Draft, is_name};
use super::NONE;
use super::aggregate::{Aggregate, Demographic, Window};
use super::codes::WILDCARD;
use super::formula::Formula;
use super::grid::{HourlyValue, MOST_HOURS, grid_name};
use super::spec::{FeatureSpec, SpecBuilder, category_name, feature_name};
use super::trigger::micros;
use crate::settings::{Problem, parse_span};

/// Most features, and most patterns of codes, so that both are small integers.
const MOST: usize = 20_000;
/// Most series, so that those of derived concepts are small integers too.
const MOST_SERIES: usize = 60_000;

/// Reads and checks the text of `file`.
pub(super) fn parse(file: &str, text: &str, concepts: &BTreeMap<String, String>) -> Result<FeatureSpec, Vec<Problem>> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let what = format!("is no TOML: {}", error.message());
        vec![Problem::new(file, format!("line {line}"), what, "correct the syntax")]
    })?;
    let (names, derived) = (BTreeSet::new(), BTreeMap::new());
    let mut reader = Reader { file, concepts, derived, names, patterns: 0, problems: Vec::new() };
    let blocks = reader.top(&table);
    if reader.problems.is_empty() { Ok(blocks) } else { Err(reader.problems) }
}

struct Reader<'a> {
    file: &'a str,
    concepts: &'a BTreeMap<String, String>,
    /// Derived concepts, by name.
    derived: BTreeMap<String, Draft>,
    /// Names of the features so far.
    names: BTreeSet<String>,
    /// Patterns of codes so far.
    patterns: usize,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(self.file, key, what, remedy));
    }

    fn top(&mut self, table: &Table) -> FeatureSpec {
        self.known_keys("", table, &["count_of_none", "derive", "derived", "feature", "text", "grid"]);
        let count_of_none = match table.get("count_of_none").map(Value::as_str) {
            None | Some(Some("zero")) => 0.0,
            Some(Some("missing")) => f32::NAN,
            Some(_) => {
                self.problem("count_of_none", "is not one of its words", "write \"zero\" or \"missing\"");
                0.0
            }
        };
        self.all_derived(table);
        let mut builder = SpecBuilder::new(count_of_none);
        match table.get("feature") {
            Some(Value::Array(blocks)) if !blocks.is_empty() => {
                for (i, block) in blocks.iter().enumerate() {
                    let key = format!("feature[{i}]");
                    match block {
                        Value::Table(block) => self.block(&key, block, &mut builder),
                        _ => self.problem(&key, "is no table", "write [[feature]] and its keys below"),
                    }
                }
            }
            None if table.contains_key("text") => {}
            Some(Value::Array(_)) | None => self.problem("feature", "is missing", "add a [[feature]] table"),
            Some(_) => self.problem("feature", "is no list of tables", "write it with two brackets: [[feature]]"),
        }
        self.all_texts(table, &mut builder);
        // After all other features, whose columns a model of a table can then tell from it.
        if let Some(grid) = table.get("grid") {
            self.grid(grid, &mut builder);
        }
        if builder.series_count() > MOST_SERIES {
            self.problem("feature", format!("looks at more than {MOST_SERIES} concepts and groups"), "ask for less");
        }
        builder.finish()
    }

    fn known_keys(&mut self, key: &str, table: &Table, known: &[&str]) {
        // Sorted, because the order of a table depends on how the library was built.
        let unknown: BTreeSet<&String> = table.keys().filter(|name| !known.contains(&name.as_str())).collect();
        for name in unknown {
            let remedy = format!("remove it, or use one of: {}", known.join(", "));
            self.problem(&below(key, name), "is not known", remedy);
        }
    }

    fn block(&mut self, key: &str, block: &Table, builder: &mut SpecBuilder) {
        let kinds = ["concepts", "codes", "demographics", "formula"];
        let found: Vec<&str> = kinds.into_iter().filter(|kind| block.contains_key(*kind)).collect();
        let [kind] = found[..] else {
            let what = "needs exactly one of concepts, codes, demographics and formula";
            return self.problem(key, what, "split or complete it");
        };
        let known: &[&str] = match kind {
            "concepts" => &["concepts", "categories", "windows", "aggregates"],
            "codes" => &["codes", "windows", "aggregates"],
            "demographics" => &["demographics"],
            _ => &["formula", "name", "unit"],
        };
        self.known_keys(key, block, known);
        match kind {
            "concepts" if block.contains_key("categories") => self.texts(key, block, builder),
            "concepts" => self.values(key, block, builder),
            "codes" => self.groups(key, block, builder),
            "demographics" => self.demographics(&below(key, kind), block.get(kind), builder),
            _ => self.formula(key, block, builder),
        }
    }

    fn values(&mut self, key: &str, block: &Table, builder: &mut SpecBuilder) {
        let concepts = self.concepts(&below(key, "concepts"), block.get("concepts"));
        let (windows, aggregates) = self.axes(key, block, |_| true, "");
        for (name, unit) in concepts {
            for (window, text) in &windows {
                for aggregate in &aggregates {
                    if self.new_name(&below(key, "aggregates"), feature_name(&name, *aggregate, text)) {
                        let series = self.series_of(&name, builder);
                        builder.aggregate(series, &unit, (*window, text), *aggregate);
                    }
                }
            }
        }
    }

    /// Features of the texts of concepts, by category.
    fn texts(&mut self, key: &str, block: &Table, builder: &mut SpecBuilder) {
        let concepts = self.concepts(&below(key, "concepts"), block.get("concepts"));
        let words = self.words(&below(key, "categories"), block.get("categories"));
        let categories: Vec<String> =
            words.iter().filter(|word| **word != "*").map(|word| (*word).to_owned()).collect();
        let names = "use last, first, count, ever, time_since_last or distinct";
        let (windows, aggregates) = self.axes(key, block, Aggregate::of_texts, names);
        for (name, _) in concepts {
            let Ok(series) = builder.texts(&name, &categories) else {
                let what = format!("differs from other categories of '{name}'");
                self.problem(&below(key, "categories"), what, "give a concept one list of categories");
                continue;
            };
            let others = words.len() > categories.len();
            for (window, text) in &windows {
                for aggregate in &aggregates {
                    let key = below(key, "aggregates");
                    if *aggregate == Aggregate::Distinct {
                        if self.new_name(&key, feature_name(&name, *aggregate, text)) {
                            builder.category(series, NONE, (*window, text), *aggregate);
                        }
                        continue;
                    }
                    for category in 0..categories.len() + usize::from(others) {
                        if self.new_name(&key, category_name(&name, categories.get(category), *aggregate, text)) {
                            builder.category(series, category as u16, (*window, text), *aggregate);
                        }
                    }
                }
            }
        }
    }

    fn groups(&mut self, key: &str, block: &Table, builder: &mut SpecBuilder) {
        let groups = match block.get("codes") {
            Some(codes) => self.codes(&below(key, "codes"), codes),
            None => Vec::new(),
        };
        let names = "use ever, count, time_since_last or distinct";
        let (windows, aggregates) = self.axes(key, block, Aggregate::of_presence, names);
        for (name, patterns) in groups {
            for (window, text) in &windows {
                for aggregate in &aggregates {
                    if self.new_name(&below(key, "aggregates"), feature_name(&name, *aggregate, text)) {
                        let series = builder.group(&name, &patterns);
                        builder.aggregate(series, "", (*window, text), *aggregate);
                    }
                }
            }
        }
    }

    fn formula(&mut self, key: &str, block: &Table, builder: &mut SpecBuilder) {
        let (name, text) = (self.text(key, block, "name"), self.text(key, block, "formula"));
        let (Some(name), Some(text)) = (name, text) else { return };
        let unit = if block.contains_key("unit") { self.text(key, block, "unit") } else { Some(String::new()) };
        if !is_name(&name.replace('.', "_")) {
            self.problem(&below(key, "name"), "is no name for a feature", "use a-z, 0-9, '_' and '.'");
        }
        let remedy = "write an SQL expression over features above it, their names in double quotes";
        match Formula::parse(&text) {
            Err(why) => self.problem(&below(key, "formula"), why, remedy),
            Ok(formula) => {
                if self.new_name(&below(key, "name"), name.clone())
                    && let Err(input) = builder.formula(name, unit.unwrap_or_default(), formula)
                {
                    self.problem(
                        &below(key, "formula"),
                        format!("names '{input}', which is no feature above it"),
                        remedy,
                    );
                }
            }
        }
    }

    fn grid(&mut self, grid: &Value, builder: &mut SpecBuilder) {
        let Value::Table(grid) = grid else {
            return self.problem("grid", "is no table", "write [grid] and its keys below");
        };
        self.known_keys("grid", grid, &["concepts", "hours", "aggregate"]);
        let concepts = self.concepts("grid.concepts", grid.get("concepts"));
        let hours = grid.get("hours").map_or(Some(48), Value::as_integer);
        let hours = hours.and_then(|hours| u16::try_from(hours).ok()).filter(|hours| (1..=MOST_HOURS).contains(hours));
        if hours.is_none() {
            self.problem("grid.hours", format!("is no whole number from 1 to {MOST_HOURS}"), "the usual value is 48");
        }
        let value = match grid.get("aggregate").map(Value::as_str) {
            None | Some(Some("last")) => Some(HourlyValue::Last),
            Some(Some("mean")) => Some(HourlyValue::Mean),
            Some(_) => {
                self.problem("grid.aggregate", "is not one of its words", "write \"last\" or \"mean\"");
                None
            }
        };
        let (Some(hours), Some(value)) = (hours, value) else { return };
        for (name, unit) in concepts {
            if (0..hours).rev().all(|hour| self.new_name("grid.concepts", grid_name(&name, hour))) {
                let series = self.series_of(&name, builder);
                builder.grid(&name, series, &unit, hours, value);
            }
        }
    }

    /// A list of words that is not empty.
    fn words<'v>(&mut self, key: &str, value: Option<&'v Value>) -> Vec<&'v str> {
        let words = match value {
            Some(Value::Array(items)) => items.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        match words {
            Some(words) if !words.is_empty() => words,
            _ => {
                self.problem(key, "is no list of words, or empty", "write a list such as [\"one\", \"two\"]");
                Vec::new()
            }
        }
    }

    /// Concepts and derived ones, each with its unit.
    fn concepts(&mut self, key: &str, value: Option<&Value>) -> Vec<(String, String)> {
        let all = self.concepts;
        if value.and_then(Value::as_str) == Some("*") {
            return all.iter().map(|(name, unit)| (name.clone(), unit.clone())).collect();
        }
        let mut of = Vec::new();
        for name in self.words(key, value) {
            match all.get(name).or_else(|| self.derived.get(name).map(|derived| &derived.unit)) {
                Some(unit) => of.push((name.to_owned(), unit.clone())),
                None => {
                    let what = format!("names '{name}', which is no concept");
                    self.problem(key, what, "add it to concepts.csv or derive it, or correct the name");
                }
            }
        }
        of
    }

    /// Groups of codes, each with its patterns.
    fn codes(&mut self, key: &str, value: &Value) -> Vec<(String, Vec<String>)> {
        let Value::Table(groups) = value else {
            self.problem(key, "is no table of groups", "write codes = { diabetes = [\"ICD10CM//E11*\"] }");
            return Vec::new();
        };
        let mut of = Vec::new();
        for (name, patterns) in groups.iter().collect::<BTreeMap<_, _>>() {
            let key = below(key, name);
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
                self.problem(&key, "is no name for features", "use a-z, 0-9 and _");
            }
            if self.concepts.contains_key(name) || self.derived.contains_key(name) {
                self.problem(&key, "is the name of a concept", "give the group of codes another name");
            }
            let mut kept = Vec::new();
            for pattern in self.words(&key, Some(patterns)) {
                let text = pattern.strip_suffix(WILDCARD).unwrap_or(pattern);
                if text.is_empty() || text.contains(WILDCARD) {
                    let what = format!("holds '{pattern}', which is no pattern");
                    self.problem(&key, what, "write a code, or the beginning of codes with one * at its end");
                } else {
                    kept.push(pattern.to_owned());
                }
            }
            self.patterns += kept.len();
            of.push((name.clone(), kept));
        }
        if self.patterns > MOST {
            self.problem(key, format!("brings the patterns of codes above {MOST}"), "use beginnings of codes with a *");
        }
        if groups.is_empty() {
            self.problem(key, "is empty", "name a group of codes");
        }
        of
    }

    fn demographics(&mut self, key: &str, value: Option<&Value>, builder: &mut SpecBuilder) {
        for word in self.words(key, value) {
            match Demographic::ALL.into_iter().find(|one| one.as_str() == word) {
                Some(one) => {
                    if self.new_name(key, word.to_owned()) {
                        builder.demographic(one);
                    }
                }
                None => self.unknown_word(key, word, &Demographic::ALL.map(Demographic::as_str)),
            }
        }
    }

    /// Windows and aggregates of a block; `may`: whether what it is of has an aggregate.
    fn axes(
        &mut self,
        key: &str,
        block: &Table,
        may: fn(Aggregate) -> bool,
        remedy: &str,
    ) -> (Vec<(Window, String)>, Vec<Aggregate>) {
        let windows = self.windows(&below(key, "windows"), block.get("windows"));
        let key = below(key, "aggregates");
        let mut aggregates = Vec::new();
        for word in self.words(&key, block.get("aggregates")) {
            match Aggregate::ALL.into_iter().find(|one| one.as_str() == word) {
                Some(one) if !may(one) => {
                    let what = format!("holds '{word}', which codes and texts without values do not have");
                    self.problem(&key, what, remedy);
                }
                Some(one) => aggregates.push(one),
                None => self.unknown_word(&key, word, &Aggregate::ALL.map(Aggregate::as_str)),
            }
        }
        (windows, aggregates)
    }

    fn windows(&mut self, key: &str, value: Option<&Value>) -> Vec<(Window, String)> {
        let mut windows = Vec::new();
        for text in self.words(key, value) {
            let window = match text {
                "encounter" => Some(Window::Encounter),
                "ever" => Some(Window::Ever),
                span if span.contains(char::is_whitespace) => None,
                span => parse_span(span).map(micros).filter(|span| *span > 0).map(Window::Back),
            };
            match window {
                Some(window) => windows.push((window, text.to_owned())),
                None => {
                    let what = format!("holds '{text}', which is no window");
                    self.problem(key, what, "use a span such as \"8h\", or \"encounter\" or \"ever\"");
                }
            }
        }
        windows
    }

    /// Whether a feature of this name may be added; else why not is a problem.
    fn new_name(&mut self, key: &str, name: String) -> bool {
        if self.names.len() >= MOST {
            // The empty name is none of a feature's: it marks that this has been said.
            if self.names.insert(String::new()) {
                self.problem(key, format!("makes more than {MOST} features"), "ask for less");
            }
            return false;
        }
        if self.names.contains(&name) {
            self.problem(key, format!("makes the feature '{name}' a second time"), "remove one of the two");
            return false;
        }
        self.names.insert(name)
    }

    fn unknown_word(&mut self, key: &str, word: &str, known: &[&str]) {
        self.problem(key, format!("holds '{word}', which is not known"), format!("use one of: {}", known.join(", ")));
    }
}

fn below(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FeatureSpec, Vec<Problem>> {
        let concepts = [("heart_rate", "/min"), ("lactate", "mmol/L")];
        let concepts = concepts.map(|(name, unit)| (name.to_owned(), unit.to_owned())).into();
        parse("features.toml", text, &concepts)
    }

    const SITE: &str = r#"
        [[feature]]
        concepts = ["lactate", "heart_rate"]
        windows = ["24h", "encounter"]
        aggregates = ["max", "slope", "count"]
        [[feature]]
        codes = { sepsis = ["ICD10CM//A41*"], diabetes = ["ICD10CM//E11*", "SNOMED//44054006"] }
        windows = ["ever"]
        aggregates = ["ever", "time_since_last"]
        [[feature]]
        demographics = ["sex", "age"]
        [[feature]]
        concepts = "*"
        windows = ["24h"]
        aggregates = ["last"]
    "#;

    #[test]
    fn features_come_in_the_order_of_the_file() {
        let spec = read(SITE).unwrap();
        assert_eq!(spec.len(), 20);
        let expected = [
            ("lactate.max.24h", "mmol/L", Some("lactate")),
            ("lactate.slope.24h", "mmol/L/h", Some("lactate")),
            ("lactate.count.24h", "", Some("lactate")),
            ("lactate.max.encounter", "mmol/L", Some("lactate")),
            ("lactate.slope.encounter", "mmol/L/h", Some("lactate")),
            ("lactate.count.encounter", "", Some("lactate")),
            ("heart_rate.max.24h", "/min", Some("heart_rate")),
        ];
        for (i, (name, unit, concept)) in expected.into_iter().enumerate() {
            assert_eq!((spec.name(i), spec.unit(i), spec.concept(i)), (name, unit, concept));
        }
        let rest =
            ["diabetes.ever.ever", "diabetes.time_since_last.ever", "sepsis.ever.ever", "sepsis.time_since_last.ever"];
        assert_eq!(spec.names()[12..16], rest);
        assert_eq!((spec.unit(13), spec.concept(13)), ("h", None));
        assert_eq!(spec.names()[16..], ["sex", "age", "heart_rate.last.24h", "lactate.last.24h"]);
        assert_eq!((spec.unit(17), spec.concept(17), spec.name(20), spec.unit(20)), ("a", None, "", ""));
        assert_eq!(spec.panes().len(), 4, "one series a concept and group, whatever asks for it");
    }

    #[test]
    fn the_hash_is_of_names_order_and_meaning() {
        let hash = |text: &str| read(text).unwrap().hash();
        assert_eq!(hash(SITE), hash(&SITE.replace("        ", "")), "not of how it is laid out");
        assert_eq!(hash(SITE).len(), 64);
        for (from, to) in [
            ("\"sex\", \"age\"", "\"age\", \"sex\""),
            ("\"24h\"", "\"1d\""),
            ("E11*", "E1*"),
            ("\"lactate\", \"heart_rate\"", "\"heart_rate\", \"lactate\""),
        ] {
            assert_ne!(hash(SITE), hash(&SITE.replace(from, to)), "{from}");
        }
        assert_ne!(hash(SITE), hash(&format!("count_of_none = \"missing\"\n{SITE}")));
        let other = [("heart_rate", "Hz"), ("lactate", "mmol/L")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_ne!(hash(SITE), parse("features.toml", SITE, &other).unwrap().hash(), "nor the same in another unit");
    }

    #[test]
    fn the_grid_comes_last_concept_by_concept_and_the_oldest_hour_first() {
        let grid = "[grid]\nconcepts = \"*\"\nhours = 3\n";
        let spec = read(&format!("{grid}{SITE}")).unwrap();
        let (heart_rate, lactate) = (["-02h", "-01h", "-00h"], ["-02h", "-01h", "-00h"]);
        let heart_rate = heart_rate.map(|hour| format!("grid.heart_rate.{hour}"));
        let lactate = lactate.map(|hour| format!("grid.lactate.{hour}"));
        assert_eq!(spec.names()[20..], [heart_rate, lactate].concat());
        assert_eq!((spec.unit(22), spec.concept(22), spec.concept(23)), ("/min", Some("heart_rate"), Some("lactate")));
        assert_eq!(spec.panes().len(), 4, "a concept's series is there once");
        let hash = |grid: &str| read(&format!("{grid}{SITE}")).unwrap().hash();
        assert_ne!(hash(grid), hash(""));
        assert_ne!(hash(grid), hash(&grid.replace('3', "4")));
        assert_ne!(hash(grid), hash(&format!("{grid}aggregate = \"mean\"\n")));
        assert_eq!(hash(grid), hash(&format!("{grid}aggregate = \"last\"\n")));
        assert_ne!(hash(grid), hash(&grid.replace("\"*\"", "[\"lactate\", \"heart_rate\"]")));
        assert_eq!(read(&format!("[grid]\nconcepts = [\"lactate\"]\n{SITE}")).unwrap().len(), 20 + 48, "two days");
    }

    #[test]
    fn a_grid_that_cannot_be_is_refused() {
        for (grid, keys) in [
            ("grid = 1\n", &["grid"][..]),
            ("[grid]\n", &["grid.concepts"]),
            ("[grid]\nconcepts = [\"pulse\"]\nhours = 0\n", &["grid.concepts", "grid.hours"]),
            ("[grid]\nconcepts = \"*\"\nhours = 169\ncolour = 1\n", &["grid.colour", "grid.hours"]),
            ("[grid]\nconcepts = \"*\"\nhours = 1.5\naggregate = \"max\"\n", &["grid.hours", "grid.aggregate"]),
            ("[grid]\nconcepts = [\"lactate\", \"lactate\"]\n", &["grid.concepts"]),
        ] {
            let problems = read(&format!("{grid}{SITE}")).unwrap_err();
            let found: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
            assert_eq!(found, keys, "{problems:#?}");
        }
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let text = r#"
            count_of_none = "none"
            colour = 1
            [[feature]]
            concepts = ["heart_rate", "pulse"]
            windows = ["8h", "soon", "0h", "8 h"]
            aggregates = ["last", "last", "mode"]
            [[feature]]
            concepts = ["lactate"]
            codes = { a = ["B//1"] }
            [[feature]]
            codes = { lactate = ["*", "C//*1"], "Big one" = [], x = [1] }
            windows = ["ever"]
            aggregates = ["max"]
            [[feature]]
            demographics = ["height", "age", "age"]
            windows = ["8h"]
            because = ""
        "#;
        let problems = read(text).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        let expected = [
            "colour",
            "count_of_none",
            "feature[0].concepts",
            "feature[0].windows",
            "feature[0].windows",
            "feature[0].windows",
            "feature[0].aggregates",
            "feature[0].aggregates",
            "feature[1]",
            "feature[2].codes.Big one",
            "feature[2].codes.Big one",
            "feature[2].codes.lactate",
            "feature[2].codes.lactate",
            "feature[2].codes.lactate",
            "feature[2].codes.x",
            "feature[2].aggregates",
            "feature[3].because",
            "feature[3].windows",
            "feature[3].demographics",
            "feature[3].demographics",
        ];
        assert_eq!(keys, expected, "{problems:#?}");
    }

    #[test]
    fn a_file_without_features_or_sense_is_refused() {
        for (text, key) in [
            ("", "feature"),
            ("feature = []", "feature"),
            ("feature = 1", "feature"),
            ("feature = [1]", "feature[0]"),
            ("[feature]\nconcepts = \"*\"", "feature"),
            ("[[feature]]", "feature[0]"),
            ("\n[[feature", "line 2"),
            (
                "[[feature]]\nconcepts = \"heart_rate\"\nwindows = [\"8h\"]\naggregates = [\"last\"]",
                "feature[0].concepts",
            ),
            ("[[feature]]\nconcepts = \"*\"", "feature[0].windows"),
        ] {
            assert_eq!(read(text).unwrap_err()[0].key, key, "{text}");
        }
        let many: Vec<String> = (1..5000).map(|i| format!("\"{i}s\"")).collect();
        let aggregates = "[\"last\", \"min\", \"max\", \"mean\"]";
        let text = format!("[[feature]]\nconcepts = \"*\"\nwindows = [{}]\naggregates = {aggregates}", many.join(","));
        assert_eq!(read(&text).unwrap_err().len(), 1, "more than can be");
    }
}
