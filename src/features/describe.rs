//! What each feature is, for people.

use serde::Serialize;

use super::NONE;
use super::aggregate::{Aggregate, Demographic, Window, window_words};
use super::grid::{Grid, HourlyValue, grid_name};
use super::spec::{Column, FeatureSpec, Pane, SeriesOf};
use super::terms::MOST_WORDS;

/// What a feature is, and what it is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Description {
    /// Its name, which is its column's.
    pub feature: String,
    /// UCUM unit; empty for a number without one.
    pub unit: String,
    /// What it is, in words.
    pub meaning: String,
    /// Concepts whose events it is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub concepts: Vec<String>,
    /// Codes, or beginnings of codes with a `*`, of the events it is made of. Of concepts they
    /// stand in `concepts.csv`; whoever has that fills them in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
    /// How it follows from what it is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formula: Option<String>,
    /// Where the formula is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl FeatureSpec {
    /// What each feature is, in order of the columns; the hours of a concept in the grid are one.
    pub fn describe(&self) -> Vec<Description> {
        let blank = |i: usize| Description {
            feature: self.name(i).to_owned(),
            unit: self.unit(i).to_owned(),
            meaning: String::new(),
            concepts: Vec::new(),
            codes: Vec::new(),
            formula: None,
            source: None,
        };
        let of_grid = self.grid().and_then(|grid| grid.concepts.first());
        let table = of_grid.map_or(self.len(), |(_, first)| *first as usize);
        let mut all: Vec<Description> = (0..table).map(blank).collect();
        for (series, panes) in self.panes().iter().enumerate() {
            for (pane, column) in panes.iter().flat_map(|pane| pane.columns.iter().map(move |column| (pane, column))) {
                self.describe_column(series as u16, pane, column, &mut all[column.column as usize]);
            }
        }
        for texts in self.texts() {
            for (window, column) in texts.columns() {
                self.describe_term(texts.series, window, &mut all[column as usize]);
            }
        }
        for (demographic, column) in self.demographics() {
            all[*column as usize].meaning = match demographic {
                Demographic::Age => "years from birth to the start of the encounter, or to the prediction without one",
                Demographic::Sex => "1 male, 0 female",
                Demographic::HoursInEncounter => "hours from the start of the encounter to the prediction",
                Demographic::HourOfDay => "hour of the prediction's day (UTC), with its fraction",
            }
            .to_owned();
        }
        for row in self.formulas() {
            let mut concepts: Vec<String> =
                row.inputs.iter().flat_map(|column| all[*column as usize].concepts.clone()).collect();
            concepts.sort_unstable();
            concepts.dedup();
            let of = &mut all[row.column as usize];
            of.meaning = "follows from other features of the same moment".to_owned();
            of.formula = Some(row.formula.text().to_owned());
            of.concepts = concepts;
        }
        all.extend(self.grid().into_iter().flat_map(|grid| self.describe_grid(grid)));
        all
    }

    fn describe_grid(&self, grid: &Grid) -> Vec<Description> {
        let lane = |(series, first): &(u16, u32)| {
            let concept = self.series().get(usize::from(*series))?.name();
            let (oldest, newest) = (grid_name(concept, grid.hours - 1), grid_name(concept, 0));
            let words = match grid.value {
                HourlyValue::Last => "last value",
                HourlyValue::Mean => "mean",
            };
            let mut of = Description {
                feature: format!("{oldest} to {newest}"),
                unit: self.unit(*first as usize).to_owned(),
                meaning: format!(
                    "{words} of {concept} in each of the {} hours before the prediction, the oldest first, \
                     missing where there is none",
                    grid.hours
                ),
                concepts: Vec::new(),
                codes: Vec::new(),
                formula: None,
                source: None,
            };
            self.made_of(*series, concept, &mut of);
            Some(of)
        };
        grid.concepts.iter().filter_map(lane).collect()
    }

    fn describe_column(&self, series: u16, pane: &Pane, column: &Column, of: &mut Description) {
        let Some(what) = self.series().get(usize::from(series)) else { return };
        let samples = match what {
            SeriesOf::Concept(concept) => {
                self.made_of(series, concept, of);
                concept.clone()
            }
            SeriesOf::Texts(concept) => {
                of.concepts.push(concept.clone());
                match self.categories(series).get(usize::from(column.category)) {
                    Some(category) => format!("{concept} with the text '{category}'"),
                    None if column.category == NONE => format!("{concept}, by category"),
                    None => format!("{concept} with a text of no category"),
                }
            }
            SeriesOf::Codes(group, patterns) => {
                of.codes.clone_from(patterns);
                format!("codes of the group {group}")
            }
            // They have no panes.
            SeriesOf::Terms(..) => return,
        };
        let is_text = matches!(what, SeriesOf::Texts(_));
        let words = match column.aggregate {
            Aggregate::Last if is_text => "1 if the last is",
            Aggregate::First if is_text => "1 if the first is",
            Aggregate::Last => "last value of",
            Aggregate::First => "first value of",
            Aggregate::Count => "how many of",
            Aggregate::Min => "least value of",
            Aggregate::Max => "greatest value of",
            Aggregate::Change => "last less first value of",
            Aggregate::Range => "greatest less least value of",
            Aggregate::Sum => "sum of",
            Aggregate::Mean => "mean of",
            Aggregate::Median => "median of",
            Aggregate::Std => "sample standard deviation of",
            Aggregate::Slope => "slope per hour of the line of least squares of",
            Aggregate::TimeSinceLast => "hours since the last of",
            Aggregate::Ever => "1 if there is any of",
            Aggregate::Distinct => "how many different of",
        };
        of.meaning = format!("{words} {samples} {}", window_words(pane.window));
    }

    fn describe_term(&self, series: u16, window: Window, of: &mut Description) {
        let Some(SeriesOf::Terms(name, patterns)) = self.series().get(usize::from(series)) else { return };
        let term = of.feature.split([':', '.']).nth(1).unwrap_or_default();
        let texts = if patterns.is_empty() { name.clone() } else { format!("the group {name}") };
        of.meaning = format!(
            "how often '{term}' stands in the texts of {texts} {}, of each in its first {MOST_WORDS} words; missing \
             where there is no text",
            window_words(window)
        );
        if patterns.is_empty() {
            of.concepts.push(name.clone());
        }
        of.codes.clone_from(patterns);
    }

    /// The concepts whose events a series is made of, and how.
    fn made_of(&self, series: u16, concept: &str, of: &mut Description) {
        let Some(derived) = self.derived().iter().find(|derived| derived.series == series) else {
            of.concepts.push(concept.to_owned());
            return;
        };
        let title = if derived.title.is_empty() { concept } else { &derived.title };
        of.formula = Some(format!("{title} = {} {}", derived.formula.text(), derived.inputs_in_words()));
        of.source = Some(derived.source.clone()).filter(|source| !source.is_empty());
        let mut pending = derived.series_of_inputs();
        while let Some(input) = pending.pop() {
            match self.derived().iter().find(|derived| derived.series == input) {
                Some(derived) => pending.extend(derived.series_of_inputs()),
                None => {
                    of.concepts.extend(self.series().get(usize::from(input)).map(|input| input.name().to_owned()));
                }
            }
        }
        of.concepts.sort_unstable();
        of.concepts.dedup();
    }
}
