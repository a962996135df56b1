//! Why a risk is what it is, in probability space.

use super::AlertError;
use crate::events::Micros;

/// How far base and contributions may miss the risk, for rounding.
const ROUNDING: f64 = 1e-6;

/// What one feature adds to the risk.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Contribution<'a> {
    /// Name of the feature, such as `heart_rate.max.8h`.
    pub feature: &'a str,
    /// Its value in `unit`; `NaN` where it is missing.
    pub value: f32,
    /// UCUM unit of the value, if it has one.
    pub unit: Option<&'a str>,
    /// When the value, or the latest of those it is made of, was observed.
    pub observed_at: Option<Micros>,
    /// Part of the risk, a probability difference; negative where it lowers the risk.
    pub contribution: f64,
}

/// What would have to be otherwise for the risk to lie below the threshold: all changes together.
#[derive(Clone, PartialEq, Debug)]
pub struct Instead {
    /// From the one that helps most.
    pub changes: Vec<Otherwise>,
    /// The risk then.
    pub risk: f64,
    /// Concepts derived from the changed ones that are left as they are, since it cannot be told what they would be.
    pub unchanged: Vec<String>,
}

/// A concept that would have another value.
#[derive(Clone, PartialEq, Debug)]
pub struct Otherwise {
    /// The concept.
    pub concept: String,
    /// UCUM unit of its values.
    pub unit: String,
    /// What it is.
    pub value: f32,
    /// What it would be.
    pub instead: f32,
}

/// An explanation that is finite and adds up (invariant 10).
#[derive(Clone, PartialEq, Debug)]
pub struct Explained<'a> {
    base: f64,
    contributions: Vec<Contribution<'a>>,
    error: Option<f64>,
    instead: Option<Instead>,
}

impl<'a> Explained<'a> {
    /// The explanation of `risk`: `base` plus the contributions of all features. Those that
    /// contribute nothing are left out, the others ordered from the weightiest.
    ///
    /// # Errors
    /// [`AlertError::NotFinite`] or [`AlertError::NotAdditive`] if it explains nothing.
    pub fn new(risk: f64, base: f64, mut contributions: Vec<Contribution<'a>>) -> Result<Self, AlertError> {
        contributions.retain(|one| one.contribution != 0.0);
        let sum: f64 = base + contributions.iter().map(|one| one.contribution).sum::<f64>();
        if !sum.is_finite() || !risk.is_finite() {
            return Err(AlertError::NotFinite);
        }
        if (sum - risk).abs() > ROUNDING {
            return Err(AlertError::NotAdditive);
        }
        // The name breaks ties, so that the same input is the same message.
        contributions.sort_by(|a, b| {
            b.contribution.abs().total_cmp(&a.contribution.abs()).then_with(|| a.feature.cmp(b.feature))
        });
        Ok(Explained { base, contributions, error: None, instead: None })
    }

    /// Says by how much a contribution may be off, where they are estimates.
    pub fn with_error(self, error: Option<f64>) -> Self {
        Explained { error, ..self }
    }

    /// Says what would have to be otherwise, where something would.
    pub fn with_instead(self, instead: Option<Instead>) -> Self {
        Explained { instead, ..self }
    }

    /// By how much a contribution may be off; `None`: they are exact.
    pub fn error(&self) -> Option<f64> {
        self.error
    }

    /// What would have to be otherwise.
    pub fn instead(&self) -> Option<&Instead> {
        self.instead.as_ref()
    }

    /// The risk where nothing is known of the subject.
    pub fn base(&self) -> f64 {
        self.base
    }

    /// What moves the risk away from the base, the weightiest first, none of them zero.
    pub fn contributions(&self) -> &[Contribution<'a>] {
        &self.contributions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(contributions: &[(&'static str, f64)]) -> Vec<Contribution<'static>> {
        let one = |&(feature, contribution)| Contribution {
            feature,
            value: f32::NAN,
            unit: None,
            observed_at: None,
            contribution,
        };
        contributions.iter().map(one).collect()
    }

    #[test]
    fn the_weightiest_come_first_and_zeros_not_at_all() {
        let explained = Explained::new(0.5, 0.2, of(&[("b", -0.1), ("zero", 0.0), ("a", 0.1), ("c", 0.3)])).unwrap();
        let order: Vec<&str> = explained.contributions().iter().map(|one| one.feature).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }

    #[test]
    fn invariant_10_what_does_not_add_up_is_no_explanation() {
        assert!(Explained::new(0.5, 0.2, of(&[("a", 0.3)])).is_ok());
        assert!(matches!(Explained::new(0.5, 0.2, of(&[("a", 0.31)])), Err(AlertError::NotAdditive)));
        for broken in [f64::NAN, f64::INFINITY] {
            assert!(matches!(Explained::new(0.5, 0.2, of(&[("a", broken)])), Err(AlertError::NotFinite)));
            assert!(matches!(Explained::new(0.5, broken, of(&[])), Err(AlertError::NotFinite)));
            assert!(matches!(Explained::new(broken, 0.2, of(&[])), Err(AlertError::NotFinite)));
        }
    }
}
