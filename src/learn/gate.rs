//! Whether a freshly fitted model may take over.
//!
//! Pure. A model that is not clearly useful, or clearly worse than the one it would
//! replace on the very same rows, is never promoted.

use serde::{Deserialize, Serialize};

use super::metrics::Metrics;

/// What a model must reach, the table `[gate]` of a task.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GateSettings {
    /// Least AUROC on held-out subjects, 0.5 to 1.
    pub min_auroc: f64,
    /// By how much AUROC may fall behind the champion's on the same rows, 0 to 0.5.
    pub margin: f64,
}

/// What the gate says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the model takes over.
    pub promote: bool,
    /// Why, for the ledger and the report.
    pub reason: String,
}

/// Judges `candidate` by its figures on held-out rows; `champion`: name of the present
/// champion's version and its figures on the same rows.
pub fn judge(settings: GateSettings, candidate: &Metrics, champion: Option<(u32, &Metrics)>) -> Verdict {
    let refuse = |reason: String| Verdict { promote: false, reason };
    let Some(auroc) = candidate.auroc else {
        return refuse(format!(
            "the {} held-out rows hold {} positives: AUROC is not defined, so nothing shows that the model is useful",
            candidate.n, candidate.positives
        ));
    };
    if auroc < settings.min_auroc {
        return refuse(format!("AUROC {auroc:.4} is below the least allowed, {:.4}", settings.min_auroc));
    }
    let Some((version, figures)) = champion else {
        return Verdict {
            promote: true,
            reason: format!(
                "AUROC {auroc:.4} reaches {:.4}, and no champion of these features is there to compare with",
                settings.min_auroc
            ),
        };
    };
    // The rows are the same, so the champion's AUROC exists where the candidate's does.
    let before = figures.auroc.unwrap_or(f64::INFINITY);
    if auroc < before - settings.margin {
        return refuse(format!(
            "AUROC {auroc:.4} falls more than {:.4} behind version {version} with {before:.4} on the same rows",
            settings.margin
        ));
    }
    Verdict {
        promote: true,
        reason: format!(
            "AUROC {auroc:.4} against {before:.4} of version {version} on the same rows, margin {:.4}",
            settings.margin
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{Scored, evaluate};
    use super::*;
    use crate::events::SubjectId;

    const SETTINGS: GateSettings = GateSettings { min_auroc: 0.7, margin: 0.01 };

    fn with(auroc: Option<f64>) -> Metrics {
        let row = |i: i64| Scored { subject: SubjectId(i), risk: 0.5, outcome: i % 2 == 0 };
        Metrics { auroc, ..evaluate(&(0..8).map(row).collect::<Vec<_>>(), 0.5, 0) }
    }

    #[test]
    fn the_gate_opens_for_a_useful_model_that_is_not_worse() {
        let promoted = |auroc, champion: Option<f64>| {
            judge(SETTINGS, &with(auroc), champion.map(|c| (3, with(Some(c)))).as_ref().map(|(v, m)| (*v, m))).promote
        };
        assert!(promoted(Some(0.70), None));
        assert!(!promoted(Some(0.6999), None));
        assert!(!promoted(None, None));
        assert!(promoted(Some(0.80), Some(0.81)));
        assert!(!promoted(Some(0.80), Some(0.8101)));
        assert!(promoted(Some(0.90), Some(0.80)));
        assert!(!promoted(Some(0.65), Some(0.60)));
    }

    #[test]
    fn a_champion_without_a_figure_keeps_its_place() {
        assert!(!judge(SETTINGS, &with(Some(0.9)), Some((1, &with(None)))).promote);
    }
}
