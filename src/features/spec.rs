//! What the features of a site are: the table of `features.toml`, ready for use.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use super::NONE;
use super::aggregate::{Aggregate, Demographic, Window};
use super::codes::Codes;
use super::derived::Derived;
use super::formula::Formula;
use super::grid::{Grid, HourlyValue, grid_name};
use super::text::{Texts, term_name};
use crate::settings::Problem;

/// One column of a pane.
#[derive(Copy, Clone, Debug)]
pub(super) struct Column {
    pub(super) aggregate: Aggregate,
    /// Of texts, the category that it is about, or [`NONE`] for all.
    pub(super) category: u16,
    pub(super) column: u32,
}

/// The columns that one window of one series fills.
#[derive(Debug)]
pub(super) struct Pane {
    pub(super) window: Window,
    pub(super) columns: Vec<Column>,
    /// Whether a column needs the pass over all values.
    pub(super) needs_spread: bool,
}

/// What a series is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum SeriesOf {
    /// Values of a concept, or of one that is derived.
    Concept(String),
    /// Texts of a concept, by category.
    Texts(String),
    /// Presence of codes: a name for the group, and its patterns.
    Codes(String, Vec<String>),
    /// Texts of a concept, or of a group of codes with these patterns, by the terms in them.
    Terms(String, Vec<String>),
}

impl SeriesOf {
    /// The name that features of it begin with.
    pub(super) fn name(&self) -> &str {
        match self {
            SeriesOf::Concept(name) | SeriesOf::Texts(name) | SeriesOf::Codes(name, _) | SeriesOf::Terms(name, _) => {
                name
            }
        }
    }
}

/// The series that an event of a concept is a sample of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Series of its values, or [`NONE`].
    pub(super) values: u16,
    /// Whether an event is a sample of them without a number too: the concept has no unit.
    pub(super) presence: bool,
    /// Series of its texts by category, or [`NONE`].
    pub(super) texts: u16,
    /// Series of its texts by their terms, or [`NONE`].
    pub(super) terms: u16,
}

impl Entry {
    /// Whether an event with a number, or with a text, is a sample of values.
    pub(super) fn takes_value(&self, has_value: bool) -> bool {
        self.values != NONE && (has_value || self.presence)
    }

    /// Whether an event is a sample of anything.
    pub(super) fn takes(&self, has_value: bool, has_text: bool) -> bool {
        self.takes_value(has_value) || (has_text && (self.texts != NONE || self.terms != NONE))
    }
}

/// A feature that follows from others of its row.
#[derive(Debug)]
pub(super) struct RowFormula {
    pub(super) column: u32,
    pub(super) formula: Formula,
    /// Columns of its inputs.
    pub(super) inputs: Vec<u32>,
}

/// The features of a site, in the order of `features.toml`.
///
/// Features of one `[[feature]]` table follow each other: for each concept or group of codes,
/// for each window, for each aggregate. A name is `<concept>.<aggregate>.<window>`, such as
/// `heart_rate.max.8h`, the word of a demographic, or the name of a formula. Behind them come the
/// columns of terms in texts (`note:chest pain.count.24h`), and last those of the hourly grid
/// (`grid.heart_rate.-00h`).
#[derive(Debug)]
pub struct FeatureSpec {
    names: Vec<String>,
    units: Vec<String>,
    /// Series of a feature.
    of: Vec<Option<u16>>,
    /// What each series is of.
    series: Vec<SeriesOf>,
    by_concept: HashMap<Box<str>, u16, FixedState>,
    entries: Vec<Entry>,
    codes: Codes,
    panes: Vec<Vec<Pane>>,
    /// Of series of texts, their categories; the others have none.
    categories: Vec<Vec<String>>,
    /// Series of codes of which it counts which code it was.
    told_apart: Vec<bool>,
    /// What follows from other series, each after those that it follows from.
    derived: Vec<Derived>,
    /// Of each series, which of `derived` follow from it.
    dependents: Vec<Vec<u16>>,
    /// Which of `derived` follow from birth or sex.
    of_person: Vec<u16>,
    /// Series of texts whose terms are counted.
    texts: Vec<Texts>,
    demographics: Vec<(Demographic, u32)>,
    formulas: Vec<RowFormula>,
    grid: Option<Grid>,
    /// A row of which nothing is known.
    blank: Vec<f32>,
    hash: String,
}

impl FeatureSpec {
    /// Reads and checks `features.toml`; `concepts` are those of `concepts.csv` with their units.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse(file: &str, toml: &str, concepts: &BTreeMap<String, String>) -> Result<Self, Vec<Problem>> {
        super::parse::parse(file, toml, concepts)
    }

    /// How many features there are; at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Name of feature `i`; empty beyond the last.
    pub fn name(&self, i: usize) -> &str {
        self.names.get(i).map_or("", String::as_str)
    }

    /// All names, in order of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// UCUM unit of feature `i`; empty for a number without one.
    pub fn unit(&self, i: usize) -> &str {
        self.units.get(i).map_or("", String::as_str)
    }

    /// The concept that feature `i` is made of; `None` for demographics, codes and formulas.
    pub fn concept(&self, i: usize) -> Option<&str> {
        match self.series.get(usize::from((*self.of.get(i)?)?))? {
            SeriesOf::Concept(concept) | SeriesOf::Texts(concept) => Some(concept),
            SeriesOf::Terms(concept, patterns) if patterns.is_empty() => Some(concept),
            SeriesOf::Codes(..) | SeriesOf::Terms(..) => None,
        }
    }

    /// BLAKE3, hexadecimal, of the names in order and of what they mean: where it is the same,
    /// the same log gives the same columns.
    pub fn hash(&self) -> String {
        self.hash.clone()
    }

    /// Which entry a concept has, if a feature looks at it.
    pub(super) fn entry_of(&self, concept: &str) -> Option<u16> {
        self.by_concept.get(concept).copied()
    }

    /// An entry.
    pub(super) fn entry(&self, entry: u16) -> Option<&Entry> {
        self.entries.get(usize::from(entry))
    }

    /// The category of a text, as a number; that of no category is how many there are.
    pub(super) fn category(&self, series: u16, text: &str) -> f32 {
        let categories = self.categories(series);
        let same = |category: &String| category.eq_ignore_ascii_case(text.trim());
        categories.iter().position(same).unwrap_or(categories.len()) as f32
    }

    /// The categories of a series of texts.
    pub(super) fn categories(&self, series: u16) -> &[String] {
        self.categories.get(usize::from(series)).map_or(&[], Vec::as_slice)
    }

    /// Whether it counts which code a sample of a series of codes has.
    pub(super) fn tells_apart(&self, series: u16) -> bool {
        self.told_apart.get(usize::from(series)).copied().unwrap_or(false)
    }

    /// The groups of codes.
    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }

    /// What each series is of.
    pub(super) fn series(&self) -> &[SeriesOf] {
        &self.series
    }

    /// The panes of every series.
    pub(super) fn panes(&self) -> &[Vec<Pane>] {
        &self.panes
    }

    /// The series of texts whose terms are counted.
    pub(super) fn texts(&self) -> &[Texts] {
        &self.texts
    }

    /// What is counted in the texts of a series; `None` of one that is no series of texts.
    pub(super) fn texts_of(&self, series: u16) -> Option<&Texts> {
        self.texts.iter().find(|texts| texts.series == series)
    }

    /// What follows from other series.
    pub(super) fn derived(&self) -> &[Derived] {
        &self.derived
    }

    /// Which of the derived follow from a series.
    pub(super) fn dependents(&self, series: u16) -> &[u16] {
        self.dependents.get(usize::from(series)).map_or(&[], Vec::as_slice)
    }

    /// Which of the derived follow from birth or sex.
    pub(super) fn of_person(&self) -> &[u16] {
        &self.of_person
    }

    /// The demographics and their columns.
    pub(super) fn demographics(&self) -> &[(Demographic, u32)] {
        &self.demographics
    }

    /// The features that follow from others of their row, each after those.
    pub(super) fn formulas(&self) -> &[RowFormula] {
        &self.formulas
    }

    /// The hourly grid, if the site has one.
    pub(super) fn grid(&self) -> Option<&Grid> {
        self.grid.as_ref()
    }

    /// A row of which nothing is known.
    pub(super) fn blank(&self) -> &[f32] {
        &self.blank
    }
}

/// Builds a [`FeatureSpec`] feature by feature. Whoever uses it has checked that no name
/// comes twice and that there are fewer than 65,535 series and features.
pub(super) struct SpecBuilder {
    spec: FeatureSpec,
    by_what: BTreeMap<SeriesOf, u16>,
    patterns: Vec<(String, u16)>,
    count_of_none: f32,
    hasher: blake3::Hasher,
}

impl SpecBuilder {
    /// No feature yet; `count_of_none` is what a count of nothing is, 0 or `NaN`.
    pub(super) fn new(count_of_none: f32) -> Self {
        let spec = FeatureSpec {
            names: Vec::new(),
            units: Vec::new(),
            of: Vec::new(),
            series: Vec::new(),
            by_concept: HashMap::default(),
            entries: Vec::new(),
            codes: Codes::default(),
            panes: Vec::new(),
            categories: Vec::new(),
            told_apart: Vec::new(),
            derived: Vec::new(),
            dependents: Vec::new(),
            of_person: Vec::new(),
            texts: Vec::new(),
            demographics: Vec::new(),
            formulas: Vec::new(),
            grid: None,
            blank: Vec::new(),
            hash: String::new(),
        };
        // A change of what a feature means changes this line, so that no old bundle is asked.
        let mut hasher = blake3::Hasher::new_derive_key("auscult 2026 features 1");
        hasher.update(&[u8::from(count_of_none.is_nan())]);
        SpecBuilder { spec, by_what: BTreeMap::new(), patterns: Vec::new(), count_of_none, hasher }
    }

    /// Adds an aggregate of samples of a series in `unit`; `window_name` is how the window was written.
    pub(super) fn aggregate(&mut self, series: u16, unit: &str, window: (Window, &str), aggregate: Aggregate) {
        self.pane_column(series, unit, window, aggregate, NONE);
    }

    /// Adds an aggregate of those texts of a series that are of a category; of the one past the
    /// last, of all that are of none.
    pub(super) fn category(&mut self, series: u16, category: u16, window: (Window, &str), aggregate: Aggregate) {
        self.pane_column(series, "", window, aggregate, category);
    }

    fn pane_column(
        &mut self,
        series: u16,
        unit: &str,
        (window, window_name): (Window, &str),
        aggregate: Aggregate,
        category: u16,
    ) {
        let place = usize::from(series);
        let of = self.spec.series[place].clone();
        let categories = &self.spec.categories[place];
        let name = match category {
            NONE => feature_name(of.name(), aggregate, window_name),
            _ => category_name(of.name(), categories.get(usize::from(category)), aggregate, window_name),
        };
        let patterns: &[String] = if let SeriesOf::Codes(_, patterns) = &of { patterns } else { categories };
        let patterns = patterns.to_vec();
        let empty = if aggregate.of_none() { self.count_of_none } else { f32::NAN };
        let feature_unit = if matches!(of, SeriesOf::Texts(_)) && aggregate != Aggregate::TimeSinceLast {
            String::new()
        } else {
            aggregate.unit(unit)
        };
        let column = self.column(name, feature_unit, Some(series), empty);
        let meaning = meaning(window);
        let count = patterns.len().to_string();
        let fixed = [of.name(), aggregate.as_str(), &meaning, unit, &count];
        for part in fixed.into_iter().chain(patterns.iter().map(String::as_str)) {
            self.digest(part);
        }
        if matches!(of, SeriesOf::Codes(..)) && aggregate == Aggregate::Distinct {
            self.spec.told_apart[place] = true;
        }
        let panes = &mut self.spec.panes[place];
        let pane = match panes.iter().position(|pane| pane.window == window) {
            Some(known) => &mut panes[known],
            None => {
                panes.push(Pane { window, columns: Vec::new(), needs_spread: false });
                let last = panes.len() - 1;
                &mut panes[last]
            }
        };
        pane.columns.push(Column { aggregate, category, column });
        pane.needs_spread |= aggregate.of_spread();
    }

    /// Adds the number of times that a term of one to three words stands in the texts of a series of texts.
    pub(super) fn term(&mut self, series: u16, term: &[String], (window, window_name): (Window, &str)) {
        let SeriesOf::Terms(name, patterns) = self.spec.series[usize::from(series)].clone() else { return };
        let column = self.column(term_name(&name, term, window_name), String::new(), Some(series), f32::NAN);
        let (meaning, count) = (meaning(window), patterns.len().to_string());
        for part in ["term", &meaning, &count].into_iter().chain(patterns.iter().map(String::as_str)) {
            self.digest(part);
        }
        if let Some(texts) = self.spec.texts.iter_mut().find(|texts| texts.series == series) {
            texts.count(term, window, column);
        }
    }

    /// Adds a demographic.
    pub(super) fn demographic(&mut self, demographic: Demographic) {
        let name = demographic.as_str().to_owned();
        let column = self.column(name, demographic.unit().to_owned(), None, f32::NAN);
        self.spec.demographics.push((demographic, column));
    }

    /// Adds a feature that follows from others, which must be there: `Err` names one that is not.
    pub(super) fn formula(&mut self, name: String, unit: String, formula: Formula) -> Result<(), String> {
        let place = |input: &String| {
            let place = self.spec.names.iter().position(|known| known == input);
            place.map(|place| place as u32).ok_or_else(|| input.clone())
        };
        let inputs = formula.inputs().iter().map(place).collect::<Result<Vec<u32>, _>>()?;
        let column = self.column(name, unit, None, f32::NAN);
        self.digest(formula.text());
        self.spec.formulas.push(RowFormula { column, formula, inputs });
        Ok(())
    }

    /// Adds a concept to the hourly grid, the same one in every call; no other feature may follow.
    pub(super) fn grid(&mut self, concept: &str, series: u16, unit: &str, hours: u16, value: HourlyValue) {
        let first = self.spec.names.len() as u32;
        for hour in (0..hours).rev() {
            self.column(grid_name(concept, hour), unit.to_owned(), Some(series), f32::NAN);
        }
        for part in ["grid", value.as_str(), unit] {
            self.digest(part);
        }
        let grid = self.spec.grid.get_or_insert(Grid { hours, value, concepts: Vec::new() });
        grid.concepts.push((series, first));
    }

    /// Adds what follows from other series; gives its own.
    pub(super) fn derive(&mut self, name: &str, derived: impl FnOnce(u16) -> Derived) -> u16 {
        let series = self.add_series(SeriesOf::Concept(name.to_owned()));
        let derived = derived(series);
        self.digest(&derived.meaning());
        let place = self.spec.derived.len() as u16;
        for input in derived.series_of_inputs() {
            self.spec.dependents[usize::from(input)].push(place);
        }
        if derived.follows_from_person() {
            self.spec.of_person.push(place);
        }
        self.spec.derived.push(derived);
        series
    }

    /// The finished table.
    pub(super) fn finish(mut self) -> FeatureSpec {
        self.spec.codes = Codes::new(&self.patterns);
        self.spec.hash = self.hasher.finalize().to_hex().to_string();
        self.spec
    }

    /// How many series there are.
    pub(super) fn series_count(&self) -> usize {
        self.spec.panes.len()
    }

    /// The series, if there is one.
    pub(super) fn known_series(&self, of: &SeriesOf) -> Option<u16> {
        self.by_what.get(of).copied()
    }

    /// The series of values of a concept in `unit`.
    pub(super) fn values(&mut self, concept: &str, unit: &str) -> u16 {
        let of = SeriesOf::Concept(concept.to_owned());
        self.known_series(&of).unwrap_or_else(|| {
            let series = self.add_series(of);
            let entry = self.entry(concept);
            (entry.values, entry.presence) = (series, unit.is_empty());
            series
        })
    }

    /// The series of texts of a concept; `Err` if it is known with other categories.
    pub(super) fn texts(&mut self, concept: &str, categories: &[String]) -> Result<u16, ()> {
        let of = SeriesOf::Texts(concept.to_owned());
        if let Some(known) = self.known_series(&of) {
            return if self.spec.categories[usize::from(known)] == categories { Ok(known) } else { Err(()) };
        }
        let series = self.add_series(of);
        self.spec.categories[usize::from(series)] = categories.to_vec();
        self.entry(concept).texts = series;
        Ok(series)
    }

    /// The series of a group of codes.
    pub(super) fn group(&mut self, name: &str, patterns: &[String]) -> u16 {
        let of = SeriesOf::Codes(name.to_owned(), patterns.to_vec());
        self.known_series(&of).unwrap_or_else(|| {
            let series = self.add_series(of);
            self.patterns.extend(patterns.iter().map(|pattern| (pattern.clone(), series)));
            series
        })
    }

    /// The series of texts of a concept, or of a group of codes with these patterns, by their terms.
    pub(super) fn terms(&mut self, name: &str, patterns: &[String]) -> u16 {
        let of = SeriesOf::Terms(name.to_owned(), patterns.to_vec());
        self.known_series(&of).unwrap_or_else(|| {
            let series = self.add_series(of);
            if patterns.is_empty() {
                self.entry(name).terms = series;
            }
            self.patterns.extend(patterns.iter().map(|pattern| (pattern.clone(), series)));
            self.spec.texts.push(Texts::new(series));
            series
        })
    }

    fn entry(&mut self, concept: &str) -> &mut Entry {
        let next = self.spec.entries.len() as u16;
        let place = *self.spec.by_concept.entry(concept.into()).or_insert(next);
        if place == next {
            self.spec.entries.push(Entry { values: NONE, presence: false, texts: NONE, terms: NONE });
        }
        &mut self.spec.entries[usize::from(place)]
    }

    fn add_series(&mut self, of: SeriesOf) -> u16 {
        let series = self.spec.panes.len() as u16;
        self.spec.panes.push(Vec::new());
        self.spec.categories.push(Vec::new());
        self.spec.told_apart.push(false);
        self.spec.dependents.push(Vec::new());
        self.spec.series.push(of.clone());
        self.by_what.insert(of, series);
        series
    }

    fn column(&mut self, name: String, unit: String, series: Option<u16>, empty: f32) -> u32 {
        let column = self.spec.names.len() as u32;
        self.digest(&name);
        self.spec.names.push(name);
        self.spec.units.push(unit);
        self.spec.of.push(series);
        self.spec.blank.push(empty);
        column
    }

    fn digest(&mut self, part: &str) {
        self.hasher.update(&(part.len() as u64).to_le_bytes());
        self.hasher.update(part.as_bytes());
    }
}

/// What a window is, however it was written.
fn meaning(window: Window) -> String {
    match window {
        Window::Back(span) => span.to_string(),
        Window::Encounter => "encounter".to_owned(),
        Window::Ever => "ever".to_owned(),
    }
}

/// Name of an aggregate.
pub(super) fn feature_name(of: &str, aggregate: Aggregate, window: &str) -> String {
    format!("{of}.{}.{window}", aggregate.as_str())
}

/// Name of an aggregate of the texts of a category; `None`: of those of no category.
pub(super) fn category_name(of: &str, category: Option<&String>, aggregate: Aggregate, window: &str) -> String {
    let category = category.map_or("other", String::as_str);
    feature_name(&format!("{of}={category}"), aggregate, window)
}
