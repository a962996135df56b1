//! Whether a model is as good for some as for others.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Dated, Details, Intervals, NetBenefit, Scored, evaluate};

/// Fewest rows of which figures are told.
const LEAST: usize = 20;

/// A way to part rows into groups.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Grouping {
    /// What tells them apart, such as `sex`.
    pub(crate) by: String,
    /// Name of each group and the places of its rows; each row is in one group.
    pub(crate) groups: BTreeMap<String, Vec<usize>>,
}

/// A group of rows and the figures of the model on it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Subgroup {
    /// What tells the groups apart.
    pub by: String,
    /// Its name.
    pub group: String,
    /// Rows.
    pub n: usize,
    /// Rows whose outcome is true.
    pub positives: usize,
    /// Area under the receiver operating characteristic.
    pub auroc: Option<f64>,
    /// Its interval, by a bootstrap over the group's subjects.
    pub auroc_ci: Option<[f64; 2]>,
    /// Average precision; the rarer the outcome in the group, the lower for the same model.
    pub auprc: Option<f64>,
    /// Mean squared difference of risk and outcome.
    pub brier: Option<f64>,
    /// Expected calibration error.
    pub ece: Option<f64>,
    /// Sensitivity at the model's threshold.
    pub sensitivity: Option<f64>,
    /// Positive predictivity there.
    pub ppv: Option<f64>,
    /// Share of rows at or above it.
    pub alert_share: Option<f64>,
    /// The smaller of sensitivity and positive predictivity.
    pub min_se_ppv: Option<f64>,
    /// Intervals of these figures, by a bootstrap over the group's subjects.
    pub ci: Option<Intervals>,
    /// Calibration, operating points, lead time, Hosmer-Lemeshow statistic and utility.
    pub details: Option<Details>,
    /// Decision curve at thresholds 0.01 to 0.99.
    pub decision: Vec<NetBenefit>,
    /// Why it has no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_none: Option<&'static str>,
}

/// The figures of every group of every grouping, in their order.
pub(crate) fn subgroups(rows: &[Dated], groupings: &[Grouping], threshold: f64, seed: u64) -> Vec<Subgroup> {
    let groups = groupings.iter().flat_map(|grouping| grouping.groups.iter().map(|group| (&grouping.by, group)));
    groups
        .map(|(by, (group, places))| {
            let rows: Vec<Dated> = places.iter().filter_map(|place| rows.get(*place)).copied().collect();
            of(by, group, &rows, threshold, seed)
        })
        .collect()
}

fn of(by: &str, group: &str, rows: &[Dated], threshold: f64, seed: u64) -> Subgroup {
    let scored: Vec<Scored> = rows.iter().map(|row| row.scored).collect();
    let positives = scored.iter().filter(|row| row.outcome).count();
    let why_none = if rows.len() < LEAST {
        Some("fewer than 20 rows")
    } else if positives == 0 {
        Some("no row has the outcome")
    } else if positives == rows.len() {
        Some("every row has the outcome")
    } else {
        None
    };
    let figures = why_none.is_none().then(|| evaluate(&scored, threshold, seed));
    let (details, curves) = why_none.is_none().then(|| Details::of(rows, threshold)).unzip();
    let get = |figure: fn(&super::Metrics) -> Option<f64>| figures.as_ref().and_then(figure);
    Subgroup {
        by: by.to_owned(),
        group: group.to_owned(),
        n: rows.len(),
        positives,
        auroc: get(|f| f.auroc),
        auroc_ci: figures.as_ref().and_then(|f| f.ci.auroc),
        auprc: get(|f| f.auprc),
        brier: get(|f| f.brier),
        ece: get(|f| f.ece),
        sensitivity: get(|f| f.sensitivity),
        ppv: get(|f| f.ppv),
        alert_share: get(|f| f.alert_share),
        min_se_ppv: get(|f| f.min_se_ppv),
        ci: figures.map(|f| f.ci),
        details,
        decision: curves.map(|curves| curves.decision).unwrap_or_default(),
        why_none,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn groups_have_the_figures_of_their_rows_or_say_why_not() {
        let data: Vec<(f64, bool)> = (0..100).map(|i| (f64::from(i) / 100.0, i < 80 && i % 4 == 0)).collect();
        let rows = rows(&data);
        let dated: Vec<Dated> = rows.iter().map(|&scored| Dated { scored, time: 0, onset: None }).collect();
        let groups = [("few", 0..19), ("some", 19..80), ("none", 80..100)];
        let groups = groups.into_iter().map(|(name, places)| (name.to_owned(), places.collect())).collect();
        let found = subgroups(&dated, &[Grouping { by: "site".to_owned(), groups }], 0.5, 1);
        let why: Vec<_> = found.iter().map(|group| (group.group.as_str(), group.n, group.why_none)).collect();
        let few = ("few", 19, Some("fewer than 20 rows"));
        assert_eq!(why, [few, ("none", 20, Some("no row has the outcome")), ("some", 61, None)]);
        let whole = evaluate(&rows[19..80], 0.5, 1);
        let some = &found[2];
        assert_eq!((some.auroc, some.auroc_ci, some.ppv), (whole.auroc, whole.ci.auroc, whole.ppv));
        assert!(some.auroc.is_some() && some.auroc_ci.is_some() && found[0].auroc.is_none());
        let (details, curves) = Details::of(&dated[19..80], 0.5);
        assert_eq!((&some.ci, some.min_se_ppv), (&Some(whole.ci), whole.min_se_ppv));
        assert_eq!((&some.details, &some.decision), (&Some(details), &curves.decision));
        assert!(some.details.as_ref().unwrap().calibration.is_some() && some.decision.len() == 99);
        assert!(found[0].details.is_none() && found[0].ci.is_none() && found[0].decision.is_empty());
        let all = Grouping { by: "sex".to_owned(), groups: [("f".to_owned(), (0..30).collect())].into() };
        let sure = Dated { scored: Scored { outcome: true, ..rows[0] }, ..dated[0] };
        let found = subgroups(&vec![sure; 30], &[all], 0.5, 1);
        assert_eq!((found[0].positives, found[0].why_none), (30, Some("every row has the outcome")));
    }
}
