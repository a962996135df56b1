//! What the features of a site are: the table of `features.toml`, ready for use.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use super::codes::Codes;
use crate::events::Micros;
use crate::settings::Problem;

/// Span of samples that a feature looks at, back from the prediction.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Window {
    /// Those with a time in `(prediction - span, prediction]`.
    Back(Micros),
    /// From the start of the prediction's encounter, inclusive; none without an encounter.
    Encounter,
    /// All up to the prediction, and those without a time.
    Ever,
}

/// What is made of the samples of a window.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Aggregate {
    Last,
    First,
    Count,
    Min,
    Max,
    Mean,
    Std,
    Slope,
    TimeSinceLast,
    Ever,
}

impl Aggregate {
    /// Every aggregate, in the order of the documentation.
    pub(super) const ALL: [Aggregate; 10] = [
        Aggregate::Last,
        Aggregate::First,
        Aggregate::Count,
        Aggregate::Min,
        Aggregate::Max,
        Aggregate::Mean,
        Aggregate::Std,
        Aggregate::Slope,
        Aggregate::TimeSinceLast,
        Aggregate::Ever,
    ];

    /// The word in `features.toml` and in a feature's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Aggregate::Last => "last",
            Aggregate::First => "first",
            Aggregate::Count => "count",
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::Mean => "mean",
            Aggregate::Std => "std",
            Aggregate::Slope => "slope",
            Aggregate::TimeSinceLast => "time_since_last",
            Aggregate::Ever => "ever",
        }
    }

    /// Whether it needs no values: the presence of a code will do.
    pub(super) fn of_presence(self) -> bool {
        matches!(self, Aggregate::Count | Aggregate::TimeSinceLast | Aggregate::Ever)
    }

    /// Whether nothing is a number to it: no event is a count of 0.
    fn of_none(self) -> bool {
        matches!(self, Aggregate::Count | Aggregate::Ever)
    }

    /// UCUM unit of the aggregate of values in `unit`; empty for a number without one.
    fn unit(self, unit: &str) -> String {
        match self {
            Aggregate::Count | Aggregate::Ever => String::new(),
            Aggregate::TimeSinceLast => "h".to_owned(),
            Aggregate::Slope => format!("{unit}/h"),
            _ => unit.to_owned(),
        }
    }
}

/// A feature of the subject and the moment, not of samples.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Demographic {
    /// Years from birth to the start of the encounter, or to the prediction without one.
    Age,
    /// 1 male, 0 female.
    Sex,
    /// Hours from the start of the encounter to the prediction.
    HoursInEncounter,
    /// Hour of the prediction's day, UTC, with its fraction.
    HourOfDay,
}

impl Demographic {
    /// Every one, in the order of the documentation.
    pub(super) const ALL: [Demographic; 4] =
        [Demographic::Age, Demographic::Sex, Demographic::HoursInEncounter, Demographic::HourOfDay];

    /// The word in `features.toml`, which is the feature's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Demographic::Age => "age",
            Demographic::Sex => "sex",
            Demographic::HoursInEncounter => "hours_in_encounter",
            Demographic::HourOfDay => "hour_of_day",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Demographic::Age => "a",
            Demographic::Sex => "",
            Demographic::HoursInEncounter | Demographic::HourOfDay => "h",
        }
    }
}

/// The columns that one window of one series fills.
#[derive(Debug)]
pub(super) struct Pane {
    pub(super) window: Window,
    pub(super) columns: Vec<(Aggregate, u32)>,
    /// Whether a column needs the pass over all values.
    pub(super) needs_spread: bool,
}

/// What a series is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum SeriesOf {
    /// Values of a concept.
    Concept(String),
    /// Presence of codes: a name for the group, and its patterns.
    Codes(String, Vec<String>),
}

/// The features of a site, in the order of `features.toml`.
///
/// Features of one `[[feature]]` table follow each other: for each concept or group of codes,
/// for each window, for each aggregate. A name is `<concept>.<aggregate>.<window>`, such as
/// `heart_rate.max.8h`, or the word of a demographic.
#[derive(Debug)]
pub struct FeatureSpec {
    names: Vec<String>,
    units: Vec<String>,
    /// Series of a feature.
    of: Vec<Option<u16>>,
    concepts: Vec<Option<String>>,
    by_concept: HashMap<Box<str>, u16, FixedState>,
    codes: Codes,
    panes: Vec<Vec<Pane>>,
    /// Series of concepts without a unit: an event is a sample whether it has a number or not.
    presence: Vec<bool>,
    demographics: Vec<(Demographic, u32)>,
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

    /// The concept that feature `i` is made of; `None` for demographics and codes.
    pub fn concept(&self, i: usize) -> Option<&str> {
        let series = (*self.of.get(i)?)?;
        self.concepts.get(usize::from(series))?.as_deref()
    }

    /// BLAKE3, hexadecimal, of the names in order and of what they mean: where it is the same,
    /// the same log gives the same columns.
    pub fn hash(&self) -> String {
        self.hash.clone()
    }

    /// The series of a concept.
    pub(super) fn series_of(&self, concept: &str) -> Option<u16> {
        self.by_concept.get(concept).copied()
    }

    /// Whether a series is of a concept without a unit, such as a drug or a diagnosis, which needs no number.
    pub(super) fn is_of_presence(&self, series: u16) -> bool {
        self.presence.get(usize::from(series)).copied().unwrap_or(false)
    }

    /// The groups of codes.
    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }

    /// The panes of every series.
    pub(super) fn panes(&self) -> &[Vec<Pane>] {
        &self.panes
    }

    /// The demographics and their columns.
    pub(super) fn demographics(&self) -> &[(Demographic, u32)] {
        &self.demographics
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
    series: BTreeMap<SeriesOf, u16>,
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
            concepts: Vec::new(),
            by_concept: HashMap::default(),
            codes: Codes::default(),
            panes: Vec::new(),
            presence: Vec::new(),
            demographics: Vec::new(),
            blank: Vec::new(),
            hash: String::new(),
        };
        // A change of what a feature means changes this line, so that no old bundle is asked.
        let mut hasher = blake3::Hasher::new_derive_key("auscult 2026 features 1");
        hasher.update(&[u8::from(count_of_none.is_nan())]);
        SpecBuilder { spec, series: BTreeMap::new(), patterns: Vec::new(), count_of_none, hasher }
    }

    /// Adds an aggregate of samples in `unit`; `window_name` is how the window was written.
    pub(super) fn aggregate(&mut self, of: &SeriesOf, unit: &str, window: (Window, &str), aggregate: Aggregate) {
        let series = self.series(of, unit);
        let (name, patterns): (&str, &[String]) = match of {
            SeriesOf::Concept(name) => (name, &[]),
            SeriesOf::Codes(name, patterns) => (name, patterns),
        };
        let (window, window_name) = window;
        let empty = if aggregate.of_none() { self.count_of_none } else { f32::NAN };
        let column = self.column(feature_name(name, aggregate, window_name), aggregate.unit(unit), Some(series), empty);
        let meaning = match window {
            Window::Back(span) => span.to_string(),
            Window::Encounter => "encounter".to_owned(),
            Window::Ever => "ever".to_owned(),
        };
        let count = patterns.len().to_string();
        let fixed = [name, aggregate.as_str(), &meaning, unit, &count];
        for part in fixed.into_iter().chain(patterns.iter().map(String::as_str)) {
            self.digest(part);
        }
        let panes = &mut self.spec.panes[usize::from(series)];
        let pane = match panes.iter().position(|pane| pane.window == window) {
            Some(known) => &mut panes[known],
            None => {
                panes.push(Pane { window, columns: Vec::new(), needs_spread: false });
                let last = panes.len() - 1;
                &mut panes[last]
            }
        };
        pane.columns.push((aggregate, column));
        pane.needs_spread |= matches!(aggregate, Aggregate::Min | Aggregate::Max | Aggregate::Mean | Aggregate::Std);
    }

    /// Adds a demographic.
    pub(super) fn demographic(&mut self, demographic: Demographic) {
        let name = demographic.as_str().to_owned();
        let column = self.column(name, demographic.unit().to_owned(), None, f32::NAN);
        self.spec.demographics.push((demographic, column));
    }

    /// The finished table.
    pub(super) fn finish(mut self) -> FeatureSpec {
        self.spec.codes = Codes::new(&self.patterns);
        self.spec.hash = self.hasher.finalize().to_hex().to_string();
        self.spec
    }

    fn series(&mut self, of: &SeriesOf, unit: &str) -> u16 {
        if let Some(known) = self.series.get(of) {
            return *known;
        }
        let series = self.spec.panes.len() as u16;
        self.spec.panes.push(Vec::new());
        self.spec.presence.push(unit.is_empty());
        match of {
            SeriesOf::Concept(concept) => {
                self.spec.by_concept.insert(concept.as_str().into(), series);
                self.spec.concepts.push(Some(concept.clone()));
            }
            SeriesOf::Codes(_, patterns) => {
                self.patterns.extend(patterns.iter().map(|pattern| (pattern.clone(), series)));
                self.spec.concepts.push(None);
            }
        }
        self.series.insert(of.clone(), series);
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

/// Name of an aggregate.
pub(super) fn feature_name(of: &str, aggregate: Aggregate, window: &str) -> String {
    format!("{of}.{}.{window}", aggregate.as_str())
}
