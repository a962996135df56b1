//! How good a set of predictions is, and how sure that is.
//!
//! Pure. Ties are never broken by order: equal scores are one group everywhere. A figure
//! that does not exist (one class only, no rows) is `None`, never 0 or NaN.

mod amount;
mod bootstrap;
mod calibration;
mod classes;
mod compare;
mod concordance;
mod curve;
mod delong;
mod details;
mod figures;
mod kaplan_meier;
mod lead;
mod normal;
#[cfg(test)]
mod peers;
mod subgroup;
mod sums;
mod survival;
#[cfg(test)]
mod tests;
mod utility;

pub use amount::{AmountErrors, AmountFigures, AmountGroup, Amounts, AtCut, Central};
pub use bootstrap::Interval;
pub use calibration::{CalibrationLine, Decile, HosmerLemeshow, ReliabilityBin};
pub use classes::{ClassFigures, OneClass};
pub use compare::{Comparison, Paired};
pub use curve::{Curves, NetBenefit, OperatingPoint, PrPoint, RocPoint};
pub use delong::DeLong;
pub use details::Details;
pub use lead::{LeadTime, Quartiles};
pub use subgroup::Subgroup;
pub use survival::{AtTime, Incidences, SurvivalFigures};
pub use utility::Utility;

pub(crate) use compare::compare;
pub(crate) use lead::Dated;
pub(crate) use subgroup::{Grouping, subgroups};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::events::SubjectId;
use bootstrap::{LEVEL, draw, interval, replicates};
use figures::{Figures, Ranked};

/// One scored row whose outcome is known.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Scored {
    /// Whose.
    pub subject: SubjectId,
    /// Calibrated probability, in 0 to 1.
    pub risk: f64,
    /// What happened.
    pub outcome: bool,
}

/// Figures of a model on labelled rows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Metrics {
    /// Rows.
    pub n: usize,
    /// Rows whose outcome is true.
    pub positives: usize,
    /// Subjects.
    pub subjects: usize,
    /// Area under the receiver operating characteristic.
    pub auroc: Option<f64>,
    /// Average precision: the step-wise area under precision over recall.
    pub auprc: Option<f64>,
    /// Mean squared difference of risk and outcome.
    pub brier: Option<f64>,
    /// Mean negative logarithm of the probability given to what happened.
    pub log_loss: Option<f64>,
    /// Expected calibration error over 10 bins of equal width (Naeini et al. 2015).
    pub ece: Option<f64>,
    /// The smaller of sensitivity and positive predictivity at `threshold`: event 1 of the
    /// PhysioNet/CinC Challenge 2012.
    pub min_se_ppv: Option<f64>,
    /// The same at the best threshold for these very rows: an upper bound, not an estimate.
    pub min_se_ppv_best: Option<f64>,
    /// Sensitivity at `threshold`.
    pub sensitivity: Option<f64>,
    /// Specificity at `threshold`.
    pub specificity: Option<f64>,
    /// Positive predictivity at `threshold`; `None` if nothing reaches it.
    pub ppv: Option<f64>,
    /// Negative predictivity at `threshold`; `None` if everything reaches it.
    pub npv: Option<f64>,
    /// Share of rows at or above `threshold`.
    pub alert_share: Option<f64>,
    /// Risk from which a row counts as predicted.
    pub threshold: f64,
    /// Bootstrap intervals.
    pub ci: Intervals,
}

/// Percentile intervals of a bootstrap that draws whole subjects (rows of one subject are
/// not independent). Each is low and high end.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Intervals {
    /// Two-sided level, 0.95.
    pub level: f64,
    /// Replicates drawn; those with one class only count for no figure that needs two.
    pub replicates: usize,
    /// Of `auroc`.
    pub auroc: Option<[f64; 2]>,
    /// Of `auprc`.
    pub auprc: Option<[f64; 2]>,
    /// Of `brier`.
    pub brier: Option<[f64; 2]>,
    /// Of `ece`, which is never below 0 and so biased upwards in small samples, in replicates
    /// more than in the rows themselves: the figure may lie below its own interval.
    pub ece: Option<[f64; 2]>,
    /// Of `min_se_ppv`.
    pub min_se_ppv: Option<[f64; 2]>,
    /// Of `sensitivity`.
    pub sensitivity: Option<[f64; 2]>,
    /// Of `ppv`.
    pub ppv: Option<[f64; 2]>,
}

/// The area under the receiver operating characteristic alone, without intervals.
pub(super) fn auroc(rows: &[Scored]) -> Option<f64> {
    Figures::of(&Ranked::new(rows).rows, 0.5, |_| 1).auroc
}

/// All figures of `rows` at `threshold`; the same for the same rows in any order and `seed`.
pub fn evaluate(rows: &[Scored], threshold: f64, seed: u64) -> Metrics {
    let ranked = Ranked::new(rows);
    let point = Figures::of(&ranked.rows, threshold, |_| 1);
    Metrics {
        n: rows.len(),
        positives: rows.iter().filter(|row| row.outcome).count(),
        subjects: ranked.subjects,
        auroc: point.auroc,
        auprc: point.auprc,
        brier: point.brier,
        log_loss: calibration::log_loss(&ranked.rows),
        ece: point.ece,
        min_se_ppv: point.min_se_ppv,
        min_se_ppv_best: point.min_se_ppv_best,
        sensitivity: point.sensitivity,
        specificity: point.specificity,
        ppv: point.ppv,
        npv: point.npv,
        alert_share: point.alert_share,
        threshold,
        ci: intervals(&ranked, threshold, seed),
    }
}

fn intervals(ranked: &Ranked, threshold: f64, seed: u64) -> Intervals {
    if ranked.subjects < 2 {
        return Intervals { level: LEVEL, ..Intervals::default() };
    }
    let replicates = replicates(ranked.rows.len());
    let figures: Vec<Figures> = (0..replicates as u64)
        .into_par_iter()
        .map(|replicate| {
            let times = draw(seed, replicate, ranked.subjects);
            Figures::of(&ranked.rows, threshold, |i| times[ranked.of[i]])
        })
        .collect();
    let interval = |get: fn(&Figures) -> Option<f64>| interval(&figures.iter().map(get).collect::<Vec<_>>());
    Intervals {
        level: LEVEL,
        replicates,
        auroc: interval(|f| f.auroc),
        auprc: interval(|f| f.auprc),
        brier: interval(|f| f.brier),
        ece: interval(|f| f.ece),
        min_se_ppv: interval(|f| f.min_se_ppv),
        sensitivity: interval(|f| f.sensitivity),
        ppv: interval(|f| f.ppv),
    }
}
