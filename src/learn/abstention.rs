//! How often a model abstains, and whether its sets of possible outcomes hold the true one.

use serde::Serialize;

use super::matrix::Row;
use crate::models::{Assessment, Bundle, Doubt};

/// What a model that abstains does on labelled rows.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Abstention {
    /// Error rate that was stated.
    pub error_rate: f64,
    /// Rows for which both outcomes were possible.
    pub ambiguous: usize,
    /// Rows unlike anything seen.
    pub novel: usize,
    /// Rows with too little data.
    pub too_little_data: usize,
    /// Share of all rows without a risk for one of these reasons; `None` without rows.
    pub share: Option<f64>,
    /// Rows whose outcome is true.
    pub positives: OfOutcome,
    /// The others.
    pub negatives: OfOutcome,
}

/// Figures of the rows of one outcome; `None` without any.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct OfOutcome {
    /// Rows.
    pub n: usize,
    /// Share of them without a risk.
    pub share: Option<f64>,
    /// Share of them whose outcome was among the possible ones: what was stated is one minus the
    /// error rate.
    pub coverage: Option<f64>,
}

impl Abstention {
    /// The figures of rows and their assessments; `None` for a model that never abstains.
    pub(super) fn of(bundle: &Bundle, assessed: &[Assessment], rows: &[Row]) -> Option<Abstention> {
        let error_rate = bundle.card.conformal.as_ref()?.error_rate;
        let doubted = |doubt| assessed.iter().filter(|one| one.doubt == Some(doubt)).count();
        let share = |part: usize, all: usize| (all > 0).then(|| part as f64 / all as f64);
        let outcome = |outcome: bool| {
            let of = || assessed.iter().zip(rows).filter(|(_, row)| row.outcome == outcome).map(|(one, _)| one);
            let n = of().count();
            OfOutcome {
                n,
                share: share(of().filter(|one| one.doubt.is_some()).count(), n),
                coverage: share(of().filter(|one| one.possible[usize::from(outcome)]).count(), n),
            }
        };
        Some(Abstention {
            error_rate,
            ambiguous: doubted(Doubt::Ambiguous),
            novel: doubted(Doubt::Novel),
            too_little_data: doubted(Doubt::TooLittleData),
            share: share(assessed.iter().filter(|one| one.doubt.is_some()).count(), assessed.len()),
            positives: outcome(true),
            negatives: outcome(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::bundle;
    use super::*;
    use crate::events::SubjectId;
    use crate::models::{Conformal, Counts};

    #[test]
    fn figures_by_hand() {
        let mut bundle = bundle("t", 0);
        let row = |i: i64, outcome| Row::of(SubjectId(i), outcome);
        let rows = [row(1, true), row(2, true), row(3, false), row(4, false), row(5, false)];
        let one = |possible, doubt| Assessment { risk: 0.5, possible, doubt };
        let assessed = [
            one([false, true], None),
            one([true, true], Some(Doubt::Ambiguous)),
            one([false, true], None),
            one([true, false], Some(Doubt::TooLittleData)),
            one([false, false], Some(Doubt::Novel)),
        ];
        assert_eq!(Abstention::of(&bundle, &assessed, &rows), None);
        bundle.card.conformal = Some(Conformal {
            error_rate: 0.1,
            calibrated_on: Counts::default(),
            with_from: None,
            without_to: None,
            least_present: None,
            most_outside: None,
            ranges: Vec::new(),
        });
        let found = Abstention::of(&bundle, &assessed, &rows).unwrap();
        let want = Abstention {
            error_rate: 0.1,
            ambiguous: 1,
            novel: 1,
            too_little_data: 1,
            share: Some(0.6),
            positives: OfOutcome { n: 2, share: Some(0.5), coverage: Some(1.0) },
            negatives: OfOutcome { n: 3, share: Some(2.0 / 3.0), coverage: Some(1.0 / 3.0) },
        };
        assert_eq!(found, want);
        let none = Abstention::of(&bundle, &[], &[]).unwrap();
        assert_eq!((none.share, none.positives.coverage), (None, None));
    }
}
