//! Everything else that is told of a model on labelled rows.

use serde::Serialize;

use super::Scored;
use super::calibration::{CalibrationLine, HosmerLemeshow, ReliabilityBin, hosmer_lemeshow, line, reliability};
use super::curve::{Curves, OperatingPoint, Steps};
use super::figures::Ranked;
use super::lead::{Dated, LeadTime, lead_time};
use super::utility::{Utility, utility};

/// Calibration, thresholds and time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Details {
    /// Slope and intercept of the calibration.
    pub calibration: Option<CalibrationLine>,
    /// Event 2 of the PhysioNet/CinC Challenge 2012, with the tenths it is made of.
    pub hosmer_lemeshow: Option<HosmerLemeshow>,
    /// Bins of the expected calibration error.
    pub reliability: Vec<ReliabilityBin>,
    /// At the deciles of the risk and at the model's threshold.
    pub operating_points: Vec<OperatingPoint>,
    /// How long before the outcome, and how many outcomes; `None` if no outcome's time is known.
    pub lead_time: Option<LeadTime>,
    /// The utility of the PhysioNet/CinC Challenge 2019.
    pub utility_2019: Option<Utility>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utility_2019_missing: Option<&'static str>,
}

impl Details {
    /// Of rows in any order, with the curves.
    pub(crate) fn of(rows: &[Dated], threshold: f64) -> (Details, Curves) {
        let scored: Vec<Scored> = rows.iter().map(|row| row.scored).collect();
        let ranked = Ranked::new(&scored).rows;
        let steps = Steps::of(&ranked);
        let utility = utility(rows, threshold);
        let details = Details {
            calibration: line(&ranked),
            hosmer_lemeshow: hosmer_lemeshow(&ranked),
            reliability: reliability(&ranked),
            operating_points: steps.operating_points(&ranked, threshold),
            lead_time: lead_time(rows, threshold),
            utility_2019_missing: utility.as_ref().err().copied(),
            utility_2019: utility.ok(),
        };
        (details, steps.curves())
    }
}
