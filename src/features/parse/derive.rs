//! The derived concepts of `features.toml`: those of the site, and those made here that it takes up.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::super::derived::{Derived, Input, Of, Take};
use super::super::formula::Formula;
use super::super::spec::{SeriesOf, SpecBuilder};
use super::super::trigger::micros;
use super::{Reader, below};
use crate::events::{DAY, Micros};
use crate::settings::parse_span;

/// Those made here, in the language of `features.toml`.
const MADE_HERE: &str = include_str!("../derived.toml");
/// Most derived concepts of a site.
const MOST: usize = 1_000;
/// How old an input may be where nothing is said.
const WITHIN: Micros = DAY;

/// A derived concept that no feature has asked for yet.
pub(super) struct Draft {
    /// Where it stands, for problems.
    key: String,
    pub(super) unit: String,
    formula: Formula,
    title: String,
    source: String,
    within: Option<Micros>,
    inputs: BTreeMap<String, DraftInput>,
    /// Inputs that the site may not have.
    optional: Vec<String>,
    /// UCUM units that inputs must have.
    units: BTreeMap<String, String>,
    /// How many derived concepts stood before it, all that it may follow from.
    rank: usize,
}

/// What is said of an input.
#[derive(Default)]
struct DraftInput {
    concept: Option<String>,
    take: Option<Take>,
    within: Option<Option<Micros>>,
}

impl Reader<'_> {
    /// Reads `derive` and `[[derived]]`.
    pub(super) fn all_derived(&mut self, table: &Table) {
        if let Some(wanted) = table.get("derive") {
            let made_here: Table = MADE_HERE.parse().unwrap_or_default();
            let made_here = made_here.get("derived").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let name_of = |one: &Value| one.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let known: Vec<String> = made_here.iter().map(name_of).collect();
            let words: Vec<String> = match wanted.as_str() {
                Some("*") => known.clone(),
                _ => self.words("derive", Some(wanted)).into_iter().map(str::to_owned).collect(),
            };
            for word in words {
                match made_here.iter().find(|one| name_of(one) == word).and_then(Value::as_table) {
                    Some(one) => self.derived_concept("derive", one, true),
                    None => self.unknown_word("derive", &word, &known.iter().map(String::as_str).collect::<Vec<_>>()),
                }
            }
        }
        match table.get("derived") {
            None => {}
            Some(Value::Array(blocks)) => {
                for (i, block) in blocks.iter().enumerate() {
                    let key = format!("derived[{i}]");
                    match block {
                        Value::Table(block) => self.derived_concept(&key, block, false),
                        _ => self.problem(&key, "is no table", "write [[derived]] and its keys below"),
                    }
                }
            }
            Some(_) => self.problem("derived", "is no list of tables", "write it with two brackets: [[derived]]"),
        }
    }

    fn derived_concept(&mut self, key: &str, block: &Table, made_here: bool) {
        let known = ["name", "unit", "formula", "within", "inputs", "title", "source", "optional", "units"];
        self.known_keys(key, block, if made_here { &known } else { &known[..7] });
        let name = self.text(key, block, "name").unwrap_or_default();
        let text = self.text(key, block, "formula").unwrap_or_default();
        if !is_name(&name) {
            self.problem(&below(key, "name"), "is no name for a concept", "use a-z, 0-9 and _, and a letter first");
        } else if self.concepts.contains_key(&name) {
            self.problem(&below(key, "name"), format!("'{name}' is a concept of concepts.csv"), "use another name");
        } else if self.derived.contains_key(&name) {
            self.problem(&below(key, "name"), format!("'{name}' is there already"), "remove one of the two");
        } else if self.derived.len() >= MOST {
            self.problem(key, format!("makes more than {MOST} derived concepts"), "ask for less");
        } else {
            let formula = match Formula::parse(&text) {
                Ok(formula) => formula,
                Err(why) => {
                    let remedy = "write an SQL expression over concepts, age and sex, such as heart_rate / systolic_bp";
                    return self.problem(&below(key, "formula"), why, remedy);
                }
            };
            let within = self.within(&below(key, "within"), block.get("within")).unwrap_or(Some(WITHIN));
            let inputs = self.inputs(&below(key, "inputs"), block.get("inputs"), &formula);
            let texts = |value: &Value| value.as_str().map(str::to_owned);
            let optional = block.get("optional").and_then(Value::as_array);
            let units = block.get("units").and_then(Value::as_table);
            let draft = Draft {
                key: key.to_owned(),
                unit: self.text_or(key, block, "unit", "1"),
                title: self.text_or(key, block, "title", ""),
                source: self.text_or(key, block, "source", ""),
                formula,
                within,
                inputs,
                optional: optional.into_iter().flatten().filter_map(texts).collect(),
                units: units
                    .into_iter()
                    .flatten()
                    .filter_map(|(name, unit)| Some((name.clone(), texts(unit)?)))
                    .collect(),
                rank: self.derived.len(),
            };
            // A formula that nobody uses is checked all the same.
            self.check_inputs(&name, &draft);
            self.derived.insert(name, draft);
        }
    }

    /// What a text key says, or else `default`.
    fn text_or(&mut self, key: &str, block: &Table, name: &str, default: &str) -> String {
        if block.contains_key(name) { self.text(key, block, name).unwrap_or_default() } else { default.to_owned() }
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, key: &str, block: &Table, name: &str) -> Option<String> {
        let text = block.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        if text.is_none() {
            self.problem(&below(key, name), "is missing, or no text", "write a text in quotes");
        }
        text.map(|text| text.trim().to_owned())
    }

    /// `within`: a span, or "ever".
    fn within(&mut self, key: &str, value: Option<&Value>) -> Option<Option<Micros>> {
        let text = value?.as_str();
        match text {
            Some("ever") => Some(None),
            _ => match text.and_then(parse_span).map(micros).filter(|span| *span > 0) {
                Some(span) => Some(Some(span)),
                None => {
                    self.problem(key, "is no span", "use a span such as \"24h\", or \"ever\"");
                    None
                }
            },
        }
    }

    fn inputs(&mut self, key: &str, value: Option<&Value>, formula: &Formula) -> BTreeMap<String, DraftInput> {
        let mut inputs = BTreeMap::new();
        let table = match value {
            None => return inputs,
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.problem(
                    key,
                    "is no table",
                    "write a table of the formula's names: weight = { within = \"ever\" }",
                );
                return inputs;
            }
        };
        for (name, value) in table.iter().collect::<BTreeMap<_, _>>() {
            let key = below(key, name);
            let Value::Table(input) = value else {
                self.problem(&key, "is no table", "write { within = \"ever\" }, for example");
                continue;
            };
            self.known_keys(&key, input, &["concept", "aggregate", "within"]);
            if !formula.inputs().contains(name) {
                self.problem(&key, "is no name of the formula", "remove it, or use it");
            }
            let word = input.get("aggregate").map(|word| word.as_str().unwrap_or_default());
            let take = word.and_then(|word| Take::ALL.iter().find(|(known, _)| *known == word));
            if let (Some(word), None) = (word, take) {
                self.unknown_word(&below(&key, "aggregate"), word, &Take::ALL.map(|(known, _)| known));
            }
            let concept = input.contains_key("concept").then(|| self.text(&key, input, "concept")).flatten();
            let within = self.within(&below(&key, "within"), input.get("within"));
            inputs.insert(name.clone(), DraftInput { concept, take: take.map(|(_, take)| *take), within });
        }
        inputs
    }

    /// Complains of inputs that are not there, or have another unit.
    fn check_inputs(&mut self, of: &str, draft: &Draft) {
        let key = if draft.key == "derive" { draft.key.clone() } else { below(&draft.key, "formula") };
        for name in draft.formula.inputs() {
            let concept = draft.concept(name);
            let unit = match self.concepts.get(concept) {
                Some(unit) => unit.clone(),
                None if is_person(concept) || draft.optional.contains(name) => continue,
                None => match self.derived.get(concept) {
                    Some(before) => before.unit.clone(),
                    None => {
                        let what = format!("'{of}' names '{concept}', which is no concept, nor derived before it");
                        self.problem(&key, what, "add it to concepts.csv or correct the name");
                        continue;
                    }
                },
            };
            if let Some(wanted) = draft.units.get(name).filter(|wanted| **wanted != unit) {
                let what = format!("'{of}' needs '{concept}' in {wanted}, not in {unit}");
                self.problem(&key, what, "change the unit in concepts.csv, or write a [[derived]] of your own");
            }
        }
    }

    /// The series of a concept or a derived one, with all that it follows from.
    pub(super) fn series_of(&self, name: &str, builder: &mut SpecBuilder) -> u16 {
        let of = SeriesOf::Concept(name.to_owned());
        if let Some(known) = builder.known_series(&of) {
            return known;
        }
        let Some(draft) = self.derived.get(name) else {
            return builder.values(name, self.concepts.get(name).map_or("", String::as_str));
        };
        let mut inputs = Vec::new();
        for name in draft.formula.inputs() {
            let concept = draft.concept(name);
            let said = draft.inputs.get(name);
            let is_known = self.concepts.contains_key(concept)
                || self.derived.get(concept).is_some_and(|before| before.rank < draft.rank);
            let of = match concept {
                "age" if !is_known => Of::Age,
                "sex" if !is_known => Of::Sex,
                _ if is_known => Of::Series(self.series_of(concept, builder)),
                _ => Of::Nothing,
            };
            let take = said.and_then(|said| said.take).unwrap_or(Take::Last);
            let within = said.and_then(|said| said.within).unwrap_or(draft.within);
            inputs.push(Input { of, take, within });
        }
        let (formula, title, source) = (draft.formula.clone(), draft.title.clone(), draft.source.clone());
        builder.derive(name, |series| Derived { series, formula, inputs, title, source })
    }
}

impl Draft {
    /// The concept that a name of the formula means.
    fn concept<'d>(&'d self, name: &'d str) -> &'d str {
        self.inputs.get(name).and_then(|said| said.concept.as_deref()).unwrap_or(name)
    }
}

fn is_person(name: &str) -> bool {
    name == "age" || name == "sex"
}

/// Whether it can be the name of a concept.
pub(super) fn is_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    name.len() <= 100 && name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(word)
}
