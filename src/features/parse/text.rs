//! The terms that `features.toml` counts in texts.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::super::spec::SpecBuilder;
use super::super::terms::{LONGEST_WORD, MOST_OF_TERM, words_of};
use super::super::text::term_name;
use super::{Reader, below};

/// Most terms of a list.
const MOST: usize = 5_000;

impl Reader<'_> {
    /// Reads `[[text]]`.
    pub(super) fn all_texts(&mut self, table: &Table, builder: &mut SpecBuilder) {
        match table.get("text") {
            None => {}
            Some(Value::Array(blocks)) if !blocks.is_empty() => {
                for (i, block) in blocks.iter().enumerate() {
                    let key = format!("text[{i}]");
                    match block {
                        Value::Table(block) => self.texts_block(&key, block, builder),
                        _ => self.problem(&key, "is no table", "write [[text]] and its keys below"),
                    }
                }
            }
            Some(_) => self.problem("text", "is no list of tables, or empty", "write it with two brackets: [[text]]"),
        }
    }

    fn texts_block(&mut self, key: &str, block: &Table, builder: &mut SpecBuilder) {
        self.known_keys(key, block, &["concept", "codes", "windows", "terms"]);
        let of = match (block.contains_key("concept"), block.get("codes")) {
            (true, None) => self.concept_of_texts(key, block).map(|name| (name, Vec::new())).into_iter().collect(),
            (false, Some(codes)) => self.codes(&below(key, "codes"), codes),
            _ => {
                self.problem(key, "needs exactly one of concept and codes", "split or complete it");
                Vec::new()
            }
        };
        let windows = self.windows(&below(key, "windows"), block.get("windows"));
        let key = below(key, "terms");
        let terms = self.terms(&key, block.get("terms"));
        for (name, patterns) in of {
            for (window, text) in &windows {
                for term in &terms {
                    if self.new_name(&key, term_name(&name, term, text)) {
                        let series = builder.terms(&name, &patterns);
                        builder.term(series, term, (*window, text));
                    }
                }
            }
        }
    }

    /// The one concept of a block, if it can have texts.
    fn concept_of_texts(&mut self, key: &str, block: &Table) -> Option<String> {
        let name = self.text(key, block, "concept")?;
        if self.concepts.contains_key(&name) {
            return Some(name);
        }
        let key = below(key, "concept");
        if self.derived.contains_key(&name) {
            self.problem(
                &key,
                format!("names '{name}', which is derived and has no texts"),
                "name one of concepts.csv",
            );
        } else {
            let what = format!("names '{name}', which is no concept");
            self.problem(&key, what, "add it to concepts.csv, or correct the name");
        }
        None
    }

    /// Terms, each as its words.
    fn terms(&mut self, key: &str, value: Option<&Value>) -> Vec<Vec<String>> {
        let (mut terms, mut met) = (Vec::new(), BTreeSet::new());
        for text in self.words(key, value) {
            let words = words_of(text);
            let problem = if words.is_empty() {
                Some(("has no letter and no digit".to_owned(), "remove it".to_owned()))
            } else if words.len() > MOST_OF_TERM {
                let what = format!("has more than {MOST_OF_TERM} words");
                Some((what, format!("write one to {MOST_OF_TERM} words; signs part words too")))
            } else if words.iter().any(String::is_empty) {
                Some((format!("has a word of more than {LONGEST_WORD} bytes"), "shorten it".to_owned()))
            } else if !met.insert(words.clone()) {
                let what = format!("is '{}', which is there already", words.join(" "));
                Some((what, "remove one of the two; neither case nor signs tell terms apart".to_owned()))
            } else {
                None
            };
            match problem {
                Some((what, remedy)) => self.problem(key, format!("holds '{text}', which {what}"), remedy),
                None => terms.push(words),
            }
        }
        if terms.len() > MOST {
            self.problem(key, format!("holds more than {MOST} terms"), "keep the most telling: see auscult terms");
        }
        terms
    }
}

#[cfg(test)]
mod tests {
    use crate::features::FeatureSpec;
    use crate::settings::Problem;

    fn read(text: &str) -> Result<FeatureSpec, Vec<Problem>> {
        let concepts = [("heart_rate", "/min"), ("note", "")].map(|(name, unit)| (name.to_owned(), unit.to_owned()));
        FeatureSpec::parse("features.toml", text, &concepts.into())
    }

    const SITE: &str = r#"
        [grid]
        concepts = ["heart_rate"]
        hours = 1
        [[text]]
        concept = "note"
        windows = ["24h", "ever"]
        terms = ["Chest-Pain", "fever"]
        [[feature]]
        concepts = ["heart_rate"]
        windows = ["24h"]
        aggregates = ["last"]
        [[text]]
        codes = { radiology = ["LOINC//18748-4", "LOINC//24*"] }
        windows = ["encounter"]
        terms = ["fever"]
        [[text]]
        concept = "note"
        windows = ["8h"]
        terms = ["no chest pain"]
    "#;

    #[test]
    fn terms_come_behind_the_features_and_before_the_grid() {
        let spec = read(SITE).unwrap();
        let expected = [
            ("heart_rate.last.24h", Some("heart_rate")),
            ("note:chest pain.count.24h", Some("note")),
            ("note:fever.count.24h", Some("note")),
            ("note:chest pain.count.ever", Some("note")),
            ("note:fever.count.ever", Some("note")),
            ("radiology:fever.count.encounter", None),
            ("note:no chest pain.count.8h", Some("note")),
            ("grid.heart_rate.-00h", Some("heart_rate")),
        ];
        assert_eq!(spec.len(), expected.len());
        for (i, (name, concept)) in expected.into_iter().enumerate() {
            assert_eq!((spec.name(i), spec.concept(i)), (name, concept));
        }
        assert_eq!(spec.unit(1), "");
        let told = spec.describe();
        let meaning = "how often 'chest pain' stands in the texts of note in the 1 d before the prediction, of each in its \
                       first 50000 words; missing where there is no text";
        assert_eq!((told[1].meaning.as_str(), &told[1].concepts[..]), (meaning, &["note".to_owned()][..]));
        assert!(told[5].meaning.contains("texts of the group radiology since the encounter began"));
        assert_eq!((told[5].codes.len(), told[5].concepts.len()), (2, 0));
        assert_eq!(read("[[text]]\nconcept = \"note\"\nwindows = [\"ever\"]\nterms = [\"fever\"]").unwrap().len(), 1);
    }

    #[test]
    fn the_hash_is_of_terms_windows_and_whose_texts_they_are() {
        let hash = |text: &str| read(text).unwrap().hash();
        assert_eq!(hash(SITE), hash(&SITE.replace("Chest-Pain", "chest pain")));
        for (from, to) in [
            ("Chest-Pain", "pain"),
            ("18748-4", "18748-5"),
            ("\"24h\", \"ever\"", "\"24h\", \"encounter\""),
            ("[\"8h\"]", "[\"7h\"]"),
            ("\"Chest-Pain\", \"fever\"", "\"fever\", \"Chest-Pain\""),
        ] {
            assert_ne!(hash(SITE), hash(&SITE.replace(from, to)), "{from}");
        }
        let codes = "[[text]]\ncodes = { a = [\"X\"] }\nwindows = [\"ever\"]\nterms = [\"b\"]";
        assert_ne!(hash(codes), hash(&codes.replace("\"X\"", "\"X*\"")));
    }

    #[test]
    fn every_problem_of_terms_is_found_at_once() {
        let text = r#"
            [[derived]]
            name = "twice"
            formula = "heart_rate * 2"
            [[text]]
            concept = "note"
            windows = ["24h", "soon"]
            terms = ["fever", "--", "no pain in chest", "Fever!", "chest pain"]
            colour = 1
            [[text]]
            concept = "notes"
            codes = { a = ["B"] }
            windows = ["ever"]
            terms = []
            [[text]]
            concept = "twice"
            windows = ["ever"]
            terms = "fever"
            [[text]]
            concept = "notes"
            windows = ["ever"]
            terms = ["fever"]
            [[text]]
            concept = 1
            [[text]]
            concept = "note"
            windows = ["24h"]
            terms = ["Fever"]
        "#;
        let problems = read(text).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        let expected = [
            "text[0].colour",
            "text[0].windows",
            "text[0].terms",
            "text[0].terms",
            "text[0].terms",
            "text[1]",
            "text[1].terms",
            "text[2].concept",
            "text[2].terms",
            "text[3].concept",
            "text[4].concept",
            "text[4].windows",
            "text[4].terms",
            "text[5].terms",
        ];
        assert_eq!(keys, expected, "{problems:#?}");
        for (text, key) in [("text = 1", "text"), ("text = []", "text"), ("text = [1]", "text[0]")] {
            assert_eq!(read(text).unwrap_err()[0].key, key, "{text}");
        }
        let long = format!("\"a {}\"", "x".repeat(70));
        let many: Vec<String> = (0..5_001).map(|i| format!("\"t{i}\"")).collect();
        for (terms, what) in [(long, "64 bytes"), (many.join(","), "more than 5000 terms")] {
            let text = format!("[[text]]\nconcept = \"note\"\nwindows = [\"ever\"]\nterms = [{terms}]");
            let problems = read(&text).unwrap_err();
            assert!(problems.len() == 1 && problems[0].what.contains(what), "{problems:#?}");
        }
    }
}
