//! The groups that a library knows of: sex, age, unit and site, told by features of the row.
//!
//! Promises that every row is in one group of each kind that is found; what a row does not
//! tell is `unknown`. What no feature tells is named as missing, never guessed.

use serde::Serialize;

use super::metrics::Grouping;

/// Concepts that name a place of care, the likelier first.
const UNITS: [&str; 5] = ["unit", "ward", "care_unit", "icu_type", "location"];
/// Concepts that name a hospital.
const SITES: [&str; 3] = ["site", "hospital", "facility"];
/// Most groups of a kind; more are no names of places.
const MOST: usize = 50;
/// The group of rows that do not tell.
const UNKNOWN: &str = "unknown";

/// A kind of group that is not told of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MissingSubgroup {
    /// What would tell the groups apart.
    pub by: &'static str,
    /// Why it does not.
    pub why: String,
}

/// How a row tells its group.
#[derive(Clone, Debug)]
enum Kind {
    /// Years, in this column.
    Age(usize),
    /// 1 male, 0 female, in this column.
    Sex(usize),
    /// A number that stands for the place.
    Number { concept: String, column: usize },
    /// A column a place, which is 1 if it is the one.
    Categories(Vec<(String, usize)>),
}

/// Sorts rows into groups.
#[derive(Clone, Debug)]
pub(super) struct Strata {
    found: Vec<(&'static str, Kind, Grouping)>,
    missing: Vec<MissingSubgroup>,
    rows: usize,
}

impl Strata {
    /// What these features tell.
    pub(super) fn of(features: &[String]) -> Strata {
        let column = |name: &str| features.iter().position(|feature| feature == name);
        let kinds = [
            ("sex", column("sex").map(Kind::Sex), "no feature 'sex' (demographics)".to_owned()),
            ("age", column("age").map(Kind::Age), "no feature 'age' (demographics)".to_owned()),
            ("unit", place(features, &UNITS), none_of(&UNITS)),
            ("site", place(features, &SITES), none_of(&SITES)),
        ];
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (by, kind, why) in kinds {
            match kind {
                Some(kind) => found.push((by, kind, Grouping { by: by.to_owned(), ..Grouping::default() })),
                None => missing.push(MissingSubgroup { by, why }),
            }
        }
        Strata { found, missing, rows: 0 }
    }

    /// Sorts the next row.
    pub(super) fn add(&mut self, row: &[f32]) {
        for (_, kind, grouping) in &mut self.found {
            let name = kind.group(row);
            if let Some(places) = grouping.groups.get_mut(&name) {
                places.push(self.rows);
            } else if grouping.groups.len() <= MOST {
                // One more than is allowed shows that there are too many.
                grouping.groups.insert(name, vec![self.rows]);
            }
        }
        self.rows += 1;
    }

    /// The groups of all rows so far, and what is missing.
    pub(super) fn finish(self) -> (Vec<Grouping>, Vec<MissingSubgroup>) {
        let (mut groupings, mut missing) = (Vec::new(), self.missing);
        for (by, _, grouping) in self.found {
            if grouping.groups.len() <= MOST {
                groupings.push(grouping);
            } else {
                missing.push(MissingSubgroup { by, why: format!("its feature has more than {MOST} values") });
            }
        }
        (groupings, missing)
    }
}

impl Kind {
    fn group(&self, row: &[f32]) -> String {
        let value = |column: usize| row.get(column).copied().unwrap_or(f32::NAN);
        match self {
            Kind::Age(column) => match value(*column) {
                age if age < 40.0 => "<40",
                age if age < 65.0 => "40-64",
                age if age < 80.0 => "65-79",
                age if age >= 80.0 => "80+",
                _ => UNKNOWN,
            }
            .to_owned(),
            Kind::Sex(column) => match value(*column) {
                1.0 => "male",
                0.0 => "female",
                _ => UNKNOWN,
            }
            .to_owned(),
            Kind::Number { column, .. } if value(*column).is_nan() => UNKNOWN.to_owned(),
            Kind::Number { concept, column } => format!("{concept} {}", value(*column)),
            Kind::Categories(columns) => {
                let name = columns.iter().find(|(_, column)| value(*column) == 1.0).map(|(name, _)| name.as_str());
                name.unwrap_or(UNKNOWN).to_owned()
            }
        }
    }
}

/// The columns of the last value of the first of `concepts` that is there.
fn place(features: &[String], concepts: &[&str]) -> Option<Kind> {
    concepts.iter().find_map(|concept| {
        let last = features.iter().enumerate().filter_map(|(column, feature)| {
            let mut parts = feature.rsplitn(3, '.');
            let (_, aggregate, of) = (parts.next()?, parts.next()?, parts.next()?);
            (aggregate == "last").then_some((of, column))
        });
        let mut categories = Vec::new();
        for (of, column) in last {
            match of.split_once('=') {
                Some((name, category)) if name == *concept => {
                    categories.push((if category == "*" { "other" } else { category }.to_owned(), column));
                }
                None if of == *concept => return Some(Kind::Number { concept: of.to_owned(), column }),
                _ => {}
            }
        }
        (!categories.is_empty()).then_some(Kind::Categories(categories))
    })
}

fn none_of(concepts: &[&str]) -> String {
    format!("no feature of the last value of a concept {}", concepts.join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn groups_are_told_by_features() {
        let features = names(&[
            "sex",
            "x.last.24h",
            "age",
            "icu_type.last.encounter",
            "site=St. Mary.last.ever",
            "site=*.last.ever",
        ]);
        let mut strata = Strata::of(&features);
        strata.add(&[1.0, 0.0, 39.9, 2.0, 1.0, 0.0]);
        strata.add(&[0.0, 0.0, 64.5, 2.0, 0.0, 1.0]);
        strata.add(&[f32::NAN, 0.0, 80.0, f32::NAN, 0.0, 0.0]);
        let (groupings, missing) = strata.finish();
        assert_eq!(missing, []);
        let told: Vec<String> = groupings.iter().map(|of| format!("{} {:?}", of.by, of.groups)).collect();
        let expected = [
            r#"sex {"female": [1], "male": [0], "unknown": [2]}"#,
            r#"age {"40-64": [1], "80+": [2], "<40": [0]}"#,
            r#"unit {"icu_type 2": [0, 1], "unknown": [2]}"#,
            r#"site {"St. Mary": [0], "other": [1], "unknown": [2]}"#,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_not_told_is_named() {
        let (groupings, missing) = Strata::of(&names(&["unit.mean.24h", "age.x"])).finish();
        assert_eq!(groupings, []);
        assert_eq!(missing.iter().map(|m| m.by).collect::<Vec<_>>(), ["sex", "age", "unit", "site"]);
        let mut strata = Strata::of(&names(&["ward.last.24h"]));
        (0..60).for_each(|ward| strata.add(&[ward as f32]));
        let (groupings, missing) = strata.finish();
        assert_eq!(groupings, []);
        assert!(missing.iter().any(|m| m.by == "unit" && m.why.contains("more than 50")), "{missing:?}");
    }

    proptest! {
        #[test]
        fn groups_part_the_rows(rows in prop::collection::vec((-1f32..110.0, 0u8..3, 0u8..9), 0..80)) {
            let mut strata = Strata::of(&names(&["age", "sex", "ward.last.ever"]));
            for (age, sex, ward) in &rows {
                let gap = |value: u8, none: u8| if value == none { f32::NAN } else { f32::from(value) };
                strata.add(&[if *age < 0.0 { f32::NAN } else { *age }, gap(*sex, 2), gap(*ward, 8)]);
            }
            for grouping in strata.finish().0 {
                let mut all: Vec<usize> = grouping.groups.into_values().flatten().collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..rows.len()).collect::<Vec<_>>());
            }
        }
    }
}
