//! From risks to the threshold that alerts are raised at.

use serde::{Deserialize, Serialize};

use super::ModelError;

/// What the threshold is chosen for, on the tuning rows.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// The best min(sensitivity, positive predictive value), the figure of the PhysioNet 2012
    /// challenge; of equal ones the highest threshold: fewer alerts for the same.
    #[default]
    MinSePpv,
    /// The highest threshold whose sensitivity is at least this, in (0, 1].
    Sensitivity(f64),
    /// The lowest threshold whose positive predictive value is at least this, in (0, 1].
    Ppv(f64),
    /// The lowest threshold with at most so many rows at or above it per patient-day; positive.
    /// What a policy's silence keeps back is counted as well.
    AlertsPerPatientDay(f64),
}

impl Aim {
    /// Checks the number.
    ///
    /// # Errors
    /// What it must be.
    pub fn check(self) -> Result<(), &'static str> {
        match self {
            Aim::Sensitivity(share) | Aim::Ppv(share) if !(share > 0.0 && share <= 1.0) => {
                Err("must be above 0 and at most 1")
            }
            Aim::AlertsPerPatientDay(rate) if !(rate > 0.0 && rate.is_finite()) => Err("must be positive and finite"),
            _ => Ok(()),
        }
    }
}

/// A threshold, and what it does on the rows it was chosen on.
#[derive(Copy, Clone, PartialEq, Debug)]
struct Cut {
    threshold: f64,
    /// Rows at or above it.
    alerts: f64,
    /// Those among them with the outcome.
    caught: f64,
}

impl Cut {
    fn ppv(&self) -> f64 {
        self.caught / self.alerts
    }
}

/// The threshold (alert at `risk >= threshold`) for `aim`; it lies between two risks that occur.
/// Where the aim is out of reach it is the nearest, and a note says so. There must be rows, and
/// of both outcomes; `patient_days`: how long they watch over, for a rate of alerts.
///
/// # Errors
/// [`ModelError::Parameter`] if a rate of alerts has no patient-days to refer to.
pub(super) fn choose(
    aim: Aim,
    risks: &[f64],
    labels: &[bool],
    patient_days: Option<f64>,
) -> Result<(f64, Option<String>), ModelError> {
    let cuts = cuts(risks, labels);
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    // The greatest of a figure; of equal ones the first, which has the highest threshold.
    let best = |figure: &dyn Fn(&Cut) -> f64| {
        cuts.iter().copied().reduce(|best, cut| if figure(&cut) > figure(&best) { cut } else { best })
    };
    let (cut, note) = match aim {
        Aim::MinSePpv => (best(&|cut| (cut.caught / positives).min(cut.ppv())), None),
        // The lowest threshold of all has sensitivity 1.
        Aim::Sensitivity(least) => (cuts.iter().copied().find(|cut| cut.caught / positives >= least), None),
        Aim::Ppv(least) => match cuts.iter().copied().rfind(|cut| cut.ppv() >= least) {
            Some(cut) => (Some(cut), None),
            None => {
                let cut = best(&Cut::ppv);
                let most = cut.map_or(0.0, |cut| cut.ppv());
                let note = format!(
                    "no threshold has a positive predictive value of {least} on the tuning rows: the highest, {most:.4}, was taken"
                );
                (cut, Some(note))
            }
        },
        Aim::AlertsPerPatientDay(most) => {
            let days = patient_days.filter(|days| *days > 0.0 && days.is_finite()).ok_or(ModelError::Parameter {
                name: "aim",
                reason: "is a rate of alerts, which needs the patient-days of the tuning rows",
            })?;
            match cuts.iter().copied().rfind(|cut| cut.alerts / days <= most) {
                Some(cut) => (Some(cut), None),
                None => {
                    let least = cuts.first().map_or(0.0, |cut| cut.alerts / days);
                    let note = format!(
                        "no threshold gives as few as {most} alerts per patient-day on the tuning rows: that of the highest risk, with {least:.4}, was taken"
                    );
                    (cuts.first().copied(), Some(note))
                }
            }
        }
    };
    Ok((cut.map_or(1.0, |cut| cut.threshold), note))
}

/// One threshold for each different risk, from the highest.
fn cuts(risks: &[f64], labels: &[bool]) -> Vec<Cut> {
    let mut ranked: Vec<(f64, bool)> = risks.iter().copied().zip(labels.iter().copied()).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut cuts, mut caught) = (Vec::new(), 0.0);
    for (i, &(risk, label)) in ranked.iter().enumerate() {
        caught += f64::from(u8::from(label));
        let next = ranked.get(i + 1).map(|&(next, _)| next);
        if next == Some(risk) {
            continue;
        }
        // Halfway down to the next risk; the midpoint of two floats may round to the
        // lower one, which would alert on it too.
        let middle = next.map_or(risk, |next| next + (risk - next) / 2.0);
        let threshold = if next.is_some_and(|next| middle <= next) { risk } else { middle };
        cuts.push(Cut { threshold, alerts: i as f64 + 1.0, caught });
    }
    cuts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RISKS: [f64; 6] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4];
    const LABELS: [bool; 6] = [true, false, true, true, false, false];

    fn chosen(aim: Aim) -> (f64, Option<String>) {
        choose(aim, &RISKS, &LABELS, Some(2.0)).unwrap()
    }

    fn near(found: (f64, Option<String>), want: f64) -> bool {
        (found.0 - want).abs() < 1e-12 && found.1.is_none()
    }

    #[test]
    fn without_an_aim_it_maximises_the_smaller_of_sensitivity_and_precision() {
        // Of 4 alerts 3 are right and 3 of 3 caught: 0.75.
        assert!(near(chosen(Aim::default()), 0.55));
        assert_eq!(choose(Aim::MinSePpv, &[0.3, 0.3], &[true, false], None).unwrap(), (0.3, None));
    }

    #[test]
    fn an_aim_is_reached_with_as_few_alerts_or_as_many_catches_as_it_allows() {
        assert!(near(chosen(Aim::Sensitivity(0.6)), 0.65));
        assert!(near(chosen(Aim::Sensitivity(1.0)), 0.55));
        assert!(near(chosen(Aim::Sensitivity(0.01)), 0.85));
        // Precision is 1, 1/2, 2/3, 3/4, 3/5, 1/2 from the top.
        assert!(near(chosen(Aim::Ppv(0.7)), 0.55));
        assert!(near(chosen(Aim::Ppv(0.8)), 0.85));
        assert!(near(chosen(Aim::Ppv(0.2)), 0.4));
        assert!(near(chosen(Aim::AlertsPerPatientDay(1.0)), 0.75));
        assert!(near(chosen(Aim::AlertsPerPatientDay(1.7)), 0.65));
        assert!(near(chosen(Aim::AlertsPerPatientDay(99.0)), 0.4));
    }

    #[test]
    fn an_aim_out_of_reach_gives_the_nearest_and_says_so() {
        let labels = [false, true, true, false, false, false];
        let (threshold, note) = choose(Aim::Ppv(0.9), &RISKS, &labels, None).unwrap();
        assert!((threshold - 0.65).abs() < 1e-12);
        assert!(note.unwrap().contains("0.6667"));
        let (threshold, note) = chosen(Aim::AlertsPerPatientDay(0.25));
        assert!((threshold - 0.85).abs() < 1e-12);
        assert!(note.unwrap().contains("0.5000"));
    }

    #[test]
    fn a_rate_without_days_and_numbers_out_of_range_are_refused() {
        for days in [None, Some(0.0), Some(f64::NAN)] {
            let error = choose(Aim::AlertsPerPatientDay(1.0), &RISKS, &LABELS, days).unwrap_err();
            assert!(error.to_string().contains("patient-days"), "{error}");
        }
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            for aim in [Aim::Sensitivity(wrong), Aim::Ppv(wrong), Aim::AlertsPerPatientDay(wrong)] {
                assert!(aim.check().is_err(), "{aim:?}");
            }
        }
        assert!(Aim::Ppv(1.01).check().is_err() && Aim::AlertsPerPatientDay(7.0).check().is_ok());
        assert!(Aim::default().check().is_ok() && Aim::Sensitivity(1.0).check().is_ok());
    }

    #[test]
    fn an_aim_is_one_key_and_a_number() {
        let read = |text: &str| serde_json::from_str::<Aim>(text);
        assert_eq!(read(r#"{"sensitivity":0.8}"#).unwrap(), Aim::Sensitivity(0.8));
        assert_eq!(read(r#"{"alerts_per_patient_day":2}"#).unwrap(), Aim::AlertsPerPatientDay(2.0));
        assert!(read(r#"{"specificity":0.8}"#).is_err() && read(r#"{"ppv":0.3,"sensitivity":0.8}"#).is_err());
        for aim in [Aim::MinSePpv, Aim::Ppv(0.3)] {
            assert_eq!(read(&serde_json::to_string(&aim).unwrap()).unwrap(), aim);
        }
    }

    proptest! {
        #[test]
        fn no_other_threshold_serves_the_aim_better(
            rows in prop::collection::vec((0u8..20, any::<bool>()), 2..60), least in 1u8..=20,
        ) {
            let risks: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 20.0).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            prop_assume!(labels.contains(&true));
            let least = f64::from(least) / 20.0;
            let positives = labels.iter().filter(|&&label| label).count() as f64;
            let at = |threshold: f64| {
                let alerts = risks.iter().filter(|&&risk| risk >= threshold).count() as f64;
                let caught = risks.iter().zip(&labels).filter(|&(&risk, &label)| label && risk >= threshold).count();
                (alerts, caught as f64 / positives, if alerts == 0.0 { 0.0 } else { caught as f64 / alerts })
            };
            let found = |aim: Aim| {
                let (threshold, note) = choose(aim, &risks, &labels, Some(10.0)).unwrap();
                (at(threshold), note.is_none())
            };
            let (best, _) = found(Aim::MinSePpv);
            let (caught, is_reached) = found(Aim::Sensitivity(least));
            prop_assert!(is_reached && caught.1 >= least);
            let (precise, is_precise) = found(Aim::Ppv(least));
            prop_assert_eq!(precise.2 >= least, is_precise);
            let (rare, is_rare) = found(Aim::AlertsPerPatientDay(least));
            prop_assert_eq!(rare.0 / 10.0 <= least, is_rare);
            for other in risks.iter().map(|&risk| at(risk)) {
                prop_assert!(other.1.min(other.2) <= best.1.min(best.2));
                prop_assert!(other.1 < least || other.0 >= caught.0);
                prop_assert!(other.2 <= precise.2 || is_precise);
                prop_assert!(other.2 < least || other.1 <= precise.1);
                prop_assert!(other.0 / 10.0 > least || other.0 <= rare.0);
                prop_assert!(is_rare || other.0 >= rare.0);
            }
        }
    }
}
