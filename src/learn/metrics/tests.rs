use proptest::prelude::*;

use super::*;

pub(super) fn rows(data: &[(f64, bool)]) -> Vec<Scored> {
    let row = |(i, (risk, outcome)): (usize, &(f64, bool))| Scored {
        subject: SubjectId(i as i64),
        risk: *risk,
        outcome: *outcome,
    };
    data.iter().enumerate().map(row).collect()
}

pub(super) fn near(a: Option<f64>, b: f64) -> bool {
    a.is_some_and(|a| (a - b).abs() < 1e-12)
}

/// By hand, with a tie over both classes at 0.5.
#[test]
fn figures_by_hand() {
    let m = evaluate(&rows(&[(0.9, true), (0.5, true), (0.5, false), (0.2, false)]), 0.5, 0);
    assert!(near(m.auroc, 3.5 / 4.0));
    assert!(near(m.auprc, 0.5 * 1.0 + 0.5 * 2.0 / 3.0));
    assert!(near(m.brier, (0.01 + 0.25 + 0.25 + 0.04) / 4.0));
    assert!(near(m.ece, (0.1 + 0.0 + 0.2) / 4.0));
    assert!(near(m.sensitivity, 1.0) && near(m.ppv, 2.0 / 3.0));
    assert!(near(m.specificity, 0.5) && near(m.npv, 1.0) && near(m.alert_share, 0.75));
    assert!(near(m.min_se_ppv, 2.0 / 3.0) && near(m.min_se_ppv_best, 2.0 / 3.0));
    assert_eq!((m.n, m.positives, m.subjects), (4, 2, 4));
}

#[test]
fn what_does_not_exist_is_none() {
    let none = evaluate(&[], 0.5, 0);
    assert_eq!((none.auroc, none.auprc, none.brier, none.ece, none.min_se_ppv), (None, None, None, None, None));
    let one_class = evaluate(&rows(&[(0.9, false), (0.1, false)]), 0.5, 0);
    assert_eq!((one_class.auroc, one_class.auprc, one_class.min_se_ppv), (None, None, None));
    assert_eq!(one_class.ppv, Some(0.0));
    let none_reached = evaluate(&rows(&[(0.3, true), (0.1, false)]), 0.5, 0);
    assert_eq!((none_reached.ppv, none_reached.min_se_ppv), (None, Some(0.0)));
}

#[test]
fn intervals_hold_the_figure_and_depend_on_the_seed_alone() {
    let data: Vec<(f64, bool)> = (0..300).map(|i| (f64::from(i % 97) / 97.0, (i * 7919) % 97 < i % 97)).collect();
    let mut rows = rows(&data);
    for (i, row) in rows.iter_mut().enumerate() {
        row.subject = SubjectId(i as i64 / 3);
    }
    let m = evaluate(&rows, 0.5, 7);
    let [low, high] = m.ci.auroc.unwrap();
    assert!(low < m.auroc.unwrap() && m.auroc.unwrap() < high && high - low < 0.3);
    rows.reverse();
    assert_eq!(evaluate(&rows, 0.5, 7), m);
    assert_ne!(evaluate(&rows, 0.5, 8).ci, m.ci);
}

/// Rows of one subject are drawn together: copies of rows under the same subject leave
/// the interval as it is, where drawing rows would narrow it.
#[test]
fn the_bootstrap_draws_subjects() {
    let data: Vec<(f64, bool)> = (0..60).map(|i| (f64::from(i) / 60.0, (i * 7) % 10 < i / 6)).collect();
    let once = rows(&data);
    let mut many = once.clone();
    for _ in 0..9 {
        many.extend_from_slice(&once);
    }
    let (a, b) = (evaluate(&once, 0.5, 1).ci.auroc.unwrap(), evaluate(&many, 0.5, 1).ci.auroc.unwrap());
    assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9);
}

proptest! {
    /// Against the definitions, pair by pair and threshold by threshold.
    #[test]
    fn figures_equal_their_definitions(data in prop::collection::vec((0u8..12, any::<bool>()), 1..40), threshold in 0u8..12) {
        let data: Vec<(f64, bool)> = data.iter().map(|(s, y)| (f64::from(*s) / 11.0, *y)).collect();
        let threshold = f64::from(threshold) / 11.0;
        let m = evaluate(&rows(&data), threshold, 0);
        let (pos, neg): (Vec<&(f64, bool)>, Vec<_>) = data.iter().partition(|row| row.1);
        let mut wins = 0.0;
        for p in &pos {
            for n in &neg {
                wins += if p.0 > n.0 { 1.0 } else if p.0 == n.0 { 0.5 } else { 0.0 };
            }
        }
        let pairs = (pos.len() * neg.len()) as f64;
        let auroc_right = if pairs > 0.0 { near(m.auroc, wins / pairs) } else { m.auroc.is_none() };
        prop_assert!(auroc_right);
        let at = |t: f64| {
            let tp = data.iter().filter(|r| r.0 >= t && r.1).count() as f64;
            let fp = data.iter().filter(|r| r.0 >= t && !r.1).count() as f64;
            (if pos.is_empty() { 0.0 } else { tp / pos.len() as f64 }, if tp + fp > 0.0 { tp / (tp + fp) } else { 0.0 })
        };
        let mut thresholds: Vec<f64> = data.iter().map(|r| r.0).collect();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let (mut area, mut before, mut best) = (0.0, 0.0, 0.0_f64);
        for t in thresholds {
            let (recall, precision) = at(t);
            area += (recall - before) * precision;
            before = recall;
            best = best.max(recall.min(precision));
        }
        if pos.is_empty() {
            prop_assert!(m.auprc.is_none() && m.min_se_ppv.is_none());
        } else {
            prop_assert!(near(m.auprc, area) && near(m.min_se_ppv_best, best));
            let (se, ppv) = at(threshold);
            prop_assert!(near(m.min_se_ppv, se.min(ppv)));
        }
    }
}
