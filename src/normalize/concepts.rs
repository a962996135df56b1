//! `concepts.csv`: which code means which concept, in which unit, within which range.
//!
//! Promises that a code has one meaning and a concept one unit, that every unit is UCUM,
//! and that all problems of the file are found at once, each with its row.

use std::collections::{BTreeMap, HashMap};

use csv::StringRecord;

use super::{systems, units};
use crate::events;
use crate::settings::Problem;

/// What a code of the log means.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Mapping {
    /// Code as the log writes it, or the beginning of codes.
    pub(super) code: String,
    /// Whether it is the beginning of codes: written with a `*` at its end.
    pub(super) is_prefix: bool,
    /// Index of the concept in [`Concepts::concepts`].
    pub(super) concept: usize,
    /// Least plausible value in the concept's unit.
    pub(super) low: f64,
    /// Greatest plausible value in the concept's unit.
    pub(super) high: f64,
}

/// One concept: what is kept of a value whatever the code.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Concept {
    /// Name, such as `heart_rate`.
    pub(super) name: String,
    /// Canonical UCUM unit; empty if values have none.
    pub(super) unit: String,
    /// Grams of one mole, where amounts of substance are converted to masses and back.
    pub(super) molar_mass: Option<f64>,
    /// Charges of one ion, where equivalents are converted.
    pub(super) valence: Option<f64>,
}

/// The codes and concepts of a site.
#[derive(Clone, PartialEq, Debug)]
pub struct Concepts {
    mappings: Vec<Mapping>,
    concepts: Vec<Concept>,
}

/// The unit of a concept whose values are grades: negative, trace, 1+ to 4+.
pub(super) const ORDINAL: &str = "{ordinal}";

/// Stands at the end of a code for whatever begins so.
const WILDCARD: char = '*';

/// Columns of `concepts.csv`; the first three must be there.
const COLUMNS: [&str; 9] = ["system", "code", "concept", "unit", "low", "high", "molar_mass", "valence", "description"];
const REQUIRED: usize = 3;

impl Concepts {
    /// Reads the text of `concepts.csv`.
    ///
    /// Columns: `system` (short name, URI or OID; empty for a MEDS code as it stands), `code` (with
    /// `*` at its end whatever begins so; a longer beginning goes before a shorter one, and a row
    /// without `*` before both), `concept` (lower case, digits and `_`), `unit` (UCUM; `{ordinal}`
    /// for grades), `low` and `high` (plausible range in that unit, both inclusive), `molar_mass`
    /// (grams per mole), `valence`, `description` (not read). All but the first three may be left
    /// out or empty. A line that begins with `#` is a comment.
    ///
    /// # Errors
    /// Every problem of the file at once, each with its row (the header is row 1).
    pub fn parse(file: &str, csv: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .from_reader(csv.as_bytes());
        let mut read = Reading { file, problems: Vec::new(), concepts: Vec::new(), by_name: HashMap::new() };
        let columns = match reader.headers() {
            Ok(header) => read.columns(&header.clone()),
            Err(_) => [None; COLUMNS.len()],
        };
        if !read.problems.is_empty() {
            return Err(read.problems);
        }
        let width = reader.headers().map_or(0, StringRecord::len);
        let mut mappings: Vec<Mapping> = Vec::new();
        let mut rows: HashMap<(String, bool), u64> = HashMap::new();
        for record in reader.records() {
            let Ok(record) = record else {
                read.problem("file", "is not a table of comma separated values", "save it as CSV in UTF-8");
                break;
            };
            let row = record.position().map_or(0, csv::Position::line);
            if record.len() != width {
                let what = format!("has {} fields, the header {width}", record.len());
                read.problem(&format!("row {row}"), &what, "give every row the fields of the header; quote commas");
                continue;
            }
            let Some(mapping) = read.row(row, &columns, &record) else { continue };
            if let Some(first) = rows.insert((mapping.code.clone(), mapping.is_prefix), row) {
                let what = format!("maps the code of row {first} once more");
                read.problem(&format!("row {row}, code"), &what, "keep one of the two rows");
            }
            mappings.push(mapping);
        }
        if read.problems.is_empty() { Ok(Concepts { mappings, concepts: read.concepts }) } else { Err(read.problems) }
    }

    /// The codes of every concept as the log writes them; what ends in `*` is the beginning of codes.
    pub fn codes(&self) -> BTreeMap<&str, Vec<String>> {
        let mut codes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for mapping in &self.mappings {
            let Some(concept) = self.concepts.get(mapping.concept) else { continue };
            let code = if mapping.is_prefix { format!("{}{WILDCARD}", mapping.code) } else { mapping.code.clone() };
            codes.entry(&concept.name).or_default().push(code);
        }
        codes
    }

    /// Canonical unit of every concept; empty for one whose values have none.
    pub fn units(&self) -> BTreeMap<String, String> {
        self.concepts.iter().map(|concept| (concept.name.clone(), concept.unit.clone())).collect()
    }

    /// All concepts.
    pub(super) fn concepts(&self) -> &[Concept] {
        &self.concepts
    }

    /// What every code means.
    pub(super) fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }
}

/// Place of each of [`COLUMNS`] in the file.
type Columns = [Option<usize>; COLUMNS.len()];

/// What has been read of the file so far.
struct Reading<'a> {
    file: &'a str,
    problems: Vec<Problem>,
    concepts: Vec<Concept>,
    by_name: HashMap<String, usize>,
}

impl Reading<'_> {
    fn problem(&mut self, key: &str, what: &str, remedy: &str) {
        self.problems.push(Problem::new(self.file, key, what, remedy));
    }

    fn columns(&mut self, header: &StringRecord) -> Columns {
        let mut columns = [None; COLUMNS.len()];
        for (place, name) in header.iter().enumerate() {
            match COLUMNS.iter().position(|known| *known == name) {
                Some(column) if columns[column].is_none() => columns[column] = Some(place),
                Some(_) => self.problem(&format!("row 1, {name}"), "stands twice in the header", "keep one"),
                None => {
                    let remedy = format!("use these columns: {}", COLUMNS.join(", "));
                    self.problem(&format!("row 1, column {}", place + 1), "is no column of this file", &remedy);
                }
            }
        }
        for (name, place) in COLUMNS.iter().zip(&columns).take(REQUIRED) {
            if place.is_none() {
                self.problem(&format!("row 1, {name}"), "is missing from the header", "add this column");
            }
        }
        columns
    }

    /// One row; `None` if a problem keeps it from being a mapping.
    fn row(&mut self, row: u64, columns: &Columns, record: &StringRecord) -> Option<Mapping> {
        let before = self.problems.len();
        let field = |name: &str| {
            let column = COLUMNS.iter().position(|known| *known == name)?;
            columns[column].and_then(|place| record.get(place)).filter(|text| !text.is_empty())
        };
        let key = |name: &str| format!("row {row}, {name}");
        let code = match field("code") {
            Some(code) => systems::log_code(field("system"), code).into_owned(),
            None => {
                self.problem(&key("code"), "is empty", "name the code, or remove the row");
                String::new()
            }
        };
        if [events::TICK, events::TOKEN, events::PREDICTION].contains(&code.as_str()) {
            self.problem(&key("code"), "is a code of auscult's own", "remove the row");
        }
        let name = field("concept").unwrap_or_default();
        if !is_name(name) {
            let remedy = "write a name of lower case letters, digits and _, such as heart_rate";
            self.problem(&key("concept"), "is no name", remedy);
        }
        let unit = field("unit").unwrap_or_default();
        if let Some(remedy) = units::unfit(unit) {
            self.problem(&key("unit"), "is no UCUM unit", &remedy);
        }
        let low = self.number(&key("low"), field("low")).unwrap_or(f64::from(f32::MIN));
        let high = self.number(&key("high"), field("high")).unwrap_or(f64::from(f32::MAX));
        if low > high {
            self.problem(&key("low"), "is above high", "swap them, or correct one");
        }
        let molar_mass = self.positive(&key("molar_mass"), field("molar_mass"));
        let valence = self.positive(&key("valence"), field("valence"));
        let (code, is_prefix) = match code.strip_suffix(WILDCARD) {
            Some(beginning) => (beginning.to_owned(), true),
            None => (code, false),
        };
        if is_prefix && code.is_empty() {
            self.problem(&key("code"), "is the beginning of every code", "write a letter or digit before the *");
        }
        if self.problems.len() > before {
            return None;
        }
        let concept = self.concept(row, Concept { name: name.to_owned(), unit: unit.to_owned(), molar_mass, valence });
        Some(Mapping { code, is_prefix, concept, low, high })
    }

    /// Index of the concept, which must agree with what earlier rows said of it.
    fn concept(&mut self, row: u64, concept: Concept) -> usize {
        let Some(&known) = self.by_name.get(&concept.name) else {
            self.by_name.insert(concept.name.clone(), self.concepts.len());
            self.concepts.push(concept);
            return self.concepts.len() - 1;
        };
        let first = &mut self.concepts[known];
        let mut differs = Vec::new();
        if first.unit != concept.unit {
            differs.push("unit");
        }
        for (name, first, now) in [
            ("molar_mass", &mut first.molar_mass, concept.molar_mass),
            ("valence", &mut first.valence, concept.valence),
        ] {
            // A row may leave out what another row of the concept says.
            match (*first, now) {
                (Some(one), Some(other)) if one.to_bits() != other.to_bits() => differs.push(name),
                (None, Some(_)) => *first = now,
                _ => {}
            }
        }
        for name in differs {
            let what = format!("differs from an earlier row of {}", concept.name);
            self.problem(&format!("row {row}, {name}"), &what, "give all rows of a concept the same, or rename one");
        }
        known
    }

    fn number(&mut self, key: &str, text: Option<&str>) -> Option<f64> {
        let number = text?.parse::<f64>().ok().filter(|number| number.is_finite());
        if number.is_none() {
            self.problem(key, "is no number", "write a number with a decimal point, or leave it empty");
        }
        number
    }

    fn positive(&mut self, key: &str, text: Option<&str>) -> Option<f64> {
        let number = self.number(key, text)?;
        if number <= 0.0 {
            self.problem(key, "is not positive", "write a positive number, or leave it empty");
        }
        Some(number)
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
pub(super) mod hospital;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(csv: &str) -> Result<Concepts, Vec<Problem>> {
        Concepts::parse("concepts.csv", csv)
    }

    fn keys(csv: &str) -> Vec<String> {
        parse(csv).unwrap_err().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn codes_meet_under_their_concept() {
        let csv = "system,code,concept,unit,low,high\n\
                   http://loinc.org,8867-4,heart_rate,/min,10,300\n\
                   SNOMED,364075005,heart_rate,/min,,\n\
                   ,GENDER//F,is_female,,,\n";
        let concepts = parse(csv).unwrap();
        let units = concepts.units();
        assert_eq!(units.get("heart_rate").map(String::as_str), Some("/min"));
        assert_eq!(units.get("is_female").map(String::as_str), Some(""));
        let codes: Vec<(&str, usize)> = concepts.mappings().iter().map(|m| (m.code.as_str(), m.concept)).collect();
        assert_eq!(codes, [("LOINC//8867-4", 0), ("SNOMED//364075005", 0), ("GENDER//F", 1)]);
    }

    #[test]
    fn every_problem_is_found_at_once_with_its_row() {
        let csv = "system,code,concept,unit,low,high,molar_mass\n\
                   LOINC,1,Heart Rate,/min,10,300,\n\
                   LOINC,2,rate,mmHg,300,10,-1\n\
                   LOINC,,rate,/min,x,inf,\n\
                   LOINC,4,rate,/min,,,\n\
                   LOINC,5,rate,/h,,,\n\
                   http://loinc.org,4,rate,/min,,,\n\
                   LOINC,7,rate\n\
                   PATIENT,TOKEN,rate,/min,,,\n\
                   ,*,rate,/min,,,\n\
                   CVX,*,vaccine,,,,\n\
                   # a comment\n\
                   LOINC,9*,rate,/min,,,\nLOINC,9*,rate,/min,,,\n";
        let expected = [
            "row 2, concept",
            "row 3, unit",
            "row 3, low",
            "row 3, molar_mass",
            "row 4, code",
            "row 4, low",
            "row 4, high",
            "row 6, unit",
            "row 7, code",
            "row 8",
            "row 9, code",
            "row 10, code",
            "row 14, code",
        ];
        assert_eq!(keys(csv), expected);
    }

    #[test]
    fn a_header_must_name_known_columns() {
        assert_eq!(keys("system,code,concept,unti\n"), ["row 1, column 4"]);
        assert_eq!(keys("code,code\n"), ["row 1, code", "row 1, system", "row 1, concept"]);
        assert_eq!(keys(""), ["row 1, system", "row 1, code", "row 1, concept"]);
        assert!(parse("system,code,concept\n").unwrap().units().is_empty());
    }

    #[test]
    fn an_unfit_unit_is_told_how_to_be_written() {
        let problems = parse("system,code,concept,unit\nLOINC,1,bp,mmHg\n").unwrap_err();
        assert!(problems[0].remedy.contains("mm[Hg]"), "{}", problems[0].remedy);
    }

    #[test]
    fn what_one_row_says_of_a_concept_holds_for_all() {
        let rows = "LOINC,1,glucose,mg/dL,180.156\nLOINC,2,glucose,mg/dL,\n";
        let concepts = parse(&format!("system,code,concept,unit,molar_mass\n{rows}")).unwrap();
        assert_eq!(concepts.concepts()[0].molar_mass, Some(180.156));
        assert_eq!(
            keys(&format!("system,code,concept,unit,molar_mass\n{rows}LOINC,3,glucose,mg/dL,18\n")),
            ["row 4, molar_mass"]
        );
    }
}
