//! What the codes of the log mean, and the table `concepts` of `normalize.sql`.
//!
//! Promises that a code has the meaning of its own row in `concepts.csv` or, without one, of the
//! row with the longest beginning that fits (`ICD10CM//I*`). The table holds the rows without `*`
//! from the start and learns other codes when they are first met; what it learns is bounded.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use foldhash::quality::RandomState;

use super::concepts::{Concept, Concepts, Mapping};
use super::systems::SEPARATOR;

/// Codes that are learnt and kept; more are learnt anew.
const KEPT: usize = 4096;

/// The codes and concepts of a site.
pub(super) struct Codes {
    concepts: Vec<Concept>,
    mappings: Vec<Mapping>,
    /// Whole codes to their mapping.
    exact: HashMap<Box<str>, usize, RandomState>,
    /// Beginnings of codes to their mapping.
    prefixes: HashMap<Box<str>, usize, RandomState>,
    /// Lengths of the beginnings, the longest first.
    lengths: Vec<usize>,
    /// The systems of the beginnings, with the separator: no other code need be looked up.
    heads: Vec<Box<str>>,
    /// Codes of those systems that were met, whether they mean something or not.
    met: HashSet<Box<str>, RandomState>,
    /// Those that do, and their mapping.
    learnt: Vec<(Box<str>, usize)>,
    changed: bool,
}

impl fmt::Debug for Codes {
    /// Never the codes that were met, which came with records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes").field("mappings", &self.mappings.len()).field("learnt", &self.learnt.len()).finish()
    }
}

impl Codes {
    /// The codes of `concepts.csv`.
    pub(super) fn new(concepts: &Concepts) -> Self {
        let mappings = concepts.mappings().to_vec();
        let (mut exact, mut prefixes) = (HashMap::default(), HashMap::default());
        let (mut lengths, mut heads) = (BTreeSet::new(), BTreeSet::new());
        for (i, mapping) in mappings.iter().enumerate() {
            let code: Box<str> = mapping.code.as_str().into();
            if !mapping.is_prefix {
                exact.insert(code, i);
                continue;
            }
            let head = mapping.code.find(SEPARATOR).map_or(0, |at| at + SEPARATOR.len());
            heads.insert(Box::from(&mapping.code[..head]));
            lengths.insert(code.len());
            prefixes.insert(code, i);
        }
        Codes {
            concepts: concepts.concepts().to_vec(),
            mappings,
            exact,
            prefixes,
            lengths: lengths.into_iter().rev().collect(),
            heads: heads.into_iter().collect(),
            met: HashSet::default(),
            learnt: Vec::new(),
            changed: true,
        }
    }

    /// The concept of a code.
    pub(super) fn concept(&self, code: &str) -> Option<&Concept> {
        let mapping = self.exact.get(code).copied().or_else(|| self.longest_prefix(code))?;
        Some(&self.concepts[self.mappings[mapping].concept])
    }

    fn longest_prefix(&self, code: &str) -> Option<usize> {
        let known = |length: &usize| code.get(..*length).and_then(|beginning| self.prefixes.get(beginning));
        self.lengths.iter().find_map(known).copied()
    }

    /// Learns what codes mean that have no row of their own.
    pub(super) fn meet(&mut self, codes: &StringArray) {
        if self.heads.is_empty() {
            return;
        }
        let mut last = "";
        for code in (0..codes.len()).map(|i| codes.value(i)) {
            if code == last || !self.heads.iter().any(|head| code.starts_with(&**head)) {
                continue;
            }
            last = code;
            if self.exact.contains_key(code) || self.met.contains(code) {
                continue;
            }
            if let Some(mapping) = self.longest_prefix(code) {
                self.learnt.push((code.into(), mapping));
                self.changed = true;
            }
            self.met.insert(code.into());
        }
    }

    /// Forgets what was learnt if it has become much. Only between batches: within one, what
    /// was met must stay.
    pub(super) fn bound(&mut self) {
        if self.met.len() > KEPT {
            self.met.clear();
            self.learnt.clear();
            self.changed = true;
        }
    }

    /// Schema of the table.
    pub(super) fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("code", DataType::Utf8, false),
            Field::new("concept", DataType::Utf8, false),
            Field::new("unit", DataType::Utf8, true),
            Field::new("low", DataType::Float64, false),
            Field::new("high", DataType::Float64, false),
        ]))
    }

    /// The table, a row a code, if it has changed since it was last asked for.
    ///
    /// # Errors
    /// If Arrow refuses the columns.
    pub(super) fn table(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if !std::mem::take(&mut self.changed) {
            return Ok(None);
        }
        let whole = self.mappings.iter().filter(|mapping| !mapping.is_prefix).map(|m| (m.code.as_str(), m));
        let learnt = self.learnt.iter().map(|(code, i)| (&**code, &self.mappings[*i]));
        let rows: Vec<(&str, &Mapping)> = whole.chain(learnt).collect();
        let concept = |mapping: &Mapping| &self.concepts[mapping.concept];
        let unit = |(_, mapping): &(&str, &Mapping)| {
            let unit = concept(mapping).unit.as_str();
            Some(unit.to_owned()).filter(|unit| !unit.is_empty())
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(code, _)| code))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, mapping)| &concept(mapping).name))),
            Arc::new(StringArray::from_iter(rows.iter().map(unit))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, mapping)| mapping.low))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, mapping)| mapping.high))),
        ];
        RecordBatch::try_new(Self::schema(), columns).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes() -> Codes {
        let csv = "system,code,concept\nICD10CM,I*,circulatory\nICD10CM,I50*,heart_failure\nICD10CM,I10,hypertension\n\
                   LOINC,1,rate\nATC,B01A*,antithrombotic\n";
        Codes::new(&Concepts::parse("concepts.csv", csv).unwrap())
    }

    #[test]
    fn the_longest_beginning_gives_the_meaning() {
        let codes = codes();
        let of = |code: &str| codes.concept(code).map(|concept| concept.name.as_str());
        assert_eq!(of("ICD10CM//I10"), Some("hypertension"));
        assert_eq!(of("ICD10CM//I50.9"), Some("heart_failure"));
        assert_eq!(of("ICD10CM//I10.1"), Some("circulatory"), "a row without * is one code");
        assert_eq!(of("ICD10CM//I"), Some("circulatory"));
        assert_eq!(of("ATC//B01AC06"), Some("antithrombotic"));
        for unknown in ["ICD10CM//", "ICD10//I50", "I50", "", "ATC//B01", "LOINC//10", "ICD10CM//é"] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_table_learns_and_stays_bounded() {
        let mut codes = codes();
        let rows = |codes: &mut Codes| codes.table().unwrap().map(|table| table.num_rows());
        assert_eq!(rows(&mut codes), Some(2));
        codes.meet(&StringArray::from(vec!["LOINC//1", "LOINC//2", "ICD10CM//I10", "ICD10CM//J1"]));
        assert_eq!(rows(&mut codes), None, "nothing new that means something");
        codes.meet(&StringArray::from(vec!["ICD10CM//I50.1", "ICD10CM//I50.1", "ICD10CM//I21", "ICD10CM//I50.1"]));
        assert_eq!(rows(&mut codes), Some(4));
        let many: Vec<String> = (0..=KEPT).map(|i| format!("ATC//B01A{i}")).collect();
        codes.meet(&StringArray::from_iter_values(&many));
        assert_eq!(rows(&mut codes), Some(4 + many.len()), "within a batch nothing is forgotten");
        codes.bound();
        assert_eq!(rows(&mut codes), Some(2));
    }
}
