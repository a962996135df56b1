//! The figures of ranked rows that each count a number of times: one pass serves the rows as
//! they are and every replicate of the bootstrap.

use super::Scored;
use super::bootstrap::numbered;
use crate::events::SubjectId;

/// Bins of the calibration error.
pub(super) const BINS: usize = 10;

/// Rows from the highest risk down.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    pub(super) rows: Vec<Scored>,
    /// Of each row, the number of its subject among all, ascending.
    pub(super) of: Vec<usize>,
    /// How many subjects there are.
    pub(super) subjects: usize,
}

impl Ranked {
    pub(super) fn new(rows: &[Scored]) -> Ranked {
        // The rest of the key only makes the order unique.
        let mut rows = rows.to_vec();
        rows.sort_by(|a, b| b.risk.total_cmp(&a.risk).then(a.subject.cmp(&b.subject)).then(a.outcome.cmp(&b.outcome)));
        let (of, subjects) = numbered(&rows.iter().map(|row| row.subject).collect::<Vec<SubjectId>>());
        Ranked { rows, of, subjects }
    }
}

/// The bin of equal width that a risk falls into.
pub(super) fn bin(risk: f64) -> usize {
    ((risk * BINS as f64) as usize).min(BINS - 1)
}

/// The figures; `None` is one that does not exist.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub(super) struct Figures {
    pub(super) auroc: Option<f64>,
    pub(super) auprc: Option<f64>,
    pub(super) brier: Option<f64>,
    pub(super) ece: Option<f64>,
    pub(super) min_se_ppv: Option<f64>,
    pub(super) min_se_ppv_best: Option<f64>,
    pub(super) sensitivity: Option<f64>,
    pub(super) specificity: Option<f64>,
    pub(super) ppv: Option<f64>,
    pub(super) npv: Option<f64>,
    pub(super) alert_share: Option<f64>,
}

impl Figures {
    /// Of rows ordered from the highest risk down, row `i` counting `times(i)` times.
    pub(super) fn of(rows: &[Scored], threshold: f64, times: impl Fn(usize) -> u32) -> Figures {
        let (mut positives, mut all, mut squares) = (0.0, 0.0, 0.0);
        let mut gaps = [0.0_f64; BINS];
        for (i, row) in rows.iter().enumerate() {
            let times = f64::from(times(i));
            let outcome = f64::from(u8::from(row.outcome));
            all += times;
            positives += times * outcome;
            squares += times * (row.risk - outcome).powi(2);
            gaps[bin(row.risk)] += times * (row.risk - outcome);
        }
        if all == 0.0 {
            return Figures::default();
        }
        let negatives = all - positives;
        let (mut found, mut wrong) = (0.0, 0.0);
        let (mut pairs, mut precision, mut best, mut at) = (0.0, 0.0, 0.0_f64, (0.0, 0.0));
        let mut i = 0;
        while i < rows.len() {
            // A group of equal risks is passed as one.
            let (risk, found_before, wrong_before) = (rows[i].risk, found, wrong);
            while i < rows.len() && rows[i].risk.total_cmp(&risk).is_eq() {
                let times = f64::from(times(i));
                if rows[i].outcome {
                    found += times
                } else {
                    wrong += times
                }
                i += 1;
            }
            // Mann-Whitney: negatives ranked below count whole, those in the group half.
            pairs += (found - found_before) * (negatives - wrong + (wrong - wrong_before) / 2.0);
            if found + wrong > 0.0 {
                let precise = found / (found + wrong);
                precision += (found - found_before) * precise;
                if positives > 0.0 {
                    best = best.max(precise.min(found / positives));
                }
            }
            if risk >= threshold {
                at = (found, wrong);
            }
        }
        let at = Confusion { found: at.0, wrong: at.1, positives, negatives };
        let some = |exists: bool, value: f64| exists.then_some(value);
        Figures {
            auroc: some(positives > 0.0 && negatives > 0.0, pairs / (positives * negatives)),
            auprc: some(positives > 0.0, precision / positives),
            brier: Some(squares / all),
            ece: Some(gaps.iter().map(|gap| gap.abs()).sum::<f64>() / all),
            min_se_ppv: at.min_se_ppv(),
            min_se_ppv_best: some(positives > 0.0, best),
            sensitivity: at.sensitivity(),
            specificity: at.specificity(),
            ppv: at.ppv(),
            npv: at.npv(),
            alert_share: Some((at.found + at.wrong) / all),
        }
    }
}

/// The four cells at a threshold.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub(super) struct Confusion {
    /// Positives at or above it.
    pub(super) found: f64,
    /// Negatives at or above it.
    pub(super) wrong: f64,
    pub(super) positives: f64,
    pub(super) negatives: f64,
}

impl Confusion {
    pub(super) fn sensitivity(self) -> Option<f64> {
        share(self.found, self.positives)
    }

    pub(super) fn specificity(self) -> Option<f64> {
        share(self.negatives - self.wrong, self.negatives)
    }

    pub(super) fn ppv(self) -> Option<f64> {
        share(self.found, self.found + self.wrong)
    }

    pub(super) fn npv(self) -> Option<f64> {
        let missed = self.positives - self.found;
        let right = self.negatives - self.wrong;
        share(right, right + missed)
    }

    /// Nothing predicted: no event is found, so the smaller of the two is 0.
    pub(super) fn min_se_ppv(self) -> Option<f64> {
        self.sensitivity().map(|sensitivity| sensitivity.min(self.ppv().unwrap_or(0.0)))
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}
