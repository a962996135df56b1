//! Why no risk can be given.

use super::text::list;
use crate::models::Grounds;

/// Why a prediction has no risk.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Reason<'a> {
    /// In the words of its score.
    pub words: &'a str,
    /// The features it rests on, where these tell.
    pub grounds: Option<&'a Grounds<'a>>,
}

impl Reason<'_> {
    /// What it rests on in words, of many features the first `top` by name; no value.
    pub(super) fn detail(&self, top: usize) -> Option<String> {
        Some(match self.grounds? {
            Grounds::Present { known, of, least } => {
                let are = if *known == 1 { "is" } else { "are" };
                format!("{known} of {of} inputs {are} known, at least {least} are needed")
            }
            Grounds::Outside(features) => {
                let lie = if features.len() == 1 { "lies" } else { "lie" };
                format!("{} {lie} outside the range seen in training", list(features, top))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_the_features_it_rests_on_and_no_more_than_are_wanted() {
        let detail = |grounds: &Grounds<'_>| Reason { words: "any", grounds: Some(grounds) }.detail(2).unwrap();
        let known = |known| Grounds::Present { known, of: 40, least: 12 };
        assert_eq!(detail(&known(3)), "3 of 40 inputs are known, at least 12 are needed");
        assert_eq!(detail(&known(1)), "1 of 40 inputs is known, at least 12 are needed");
        let names = ["heart_rate.max.8h", "age", "lactate.last.24h", "gcs.min.24h"];
        let outside = |count: usize| detail(&Grounds::Outside(names[..count].to_vec()));
        assert_eq!(outside(1), "heart_rate.max.8h lies outside the range seen in training");
        assert_eq!(outside(2), "heart_rate.max.8h and age lie outside the range seen in training");
        assert_eq!(outside(4), "heart_rate.max.8h, age and 2 others lie outside the range seen in training");
        assert_eq!(Reason { words: "ambiguous", grounds: None }.detail(2), None);
    }
}
