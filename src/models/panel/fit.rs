//! Fitting a panel: a question taken apart into heads, each fitted on the rows that answer it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Head, Panel, Question, Scale, Target};
use crate::models::calibration::Calibration;
use crate::models::member::Member;
use crate::models::onnx::Foreign;
use crate::models::{Family, FitSpec, Matrix, ModelError};

/// What a panel is fitted for, and what became of its rows.
#[derive(Clone, Debug)]
pub struct PanelSpec {
    /// The question.
    pub question: Question,
    /// What became of each training row.
    pub train: Vec<Target>,
    /// What became of each tuning row.
    pub tuning: Vec<Target>,
}

impl PanelSpec {
    /// The tuning rows of which it is known whether what is watched happened.
    pub fn seen(&self) -> Vec<usize> {
        let watched = |row: &usize| self.question.watched(self.tuning[*row]).is_some();
        (0..self.tuning.len()).filter(watched).collect()
    }
}

/// Under which an amount's mean in the training rows is found.
pub const TRAINING_MEAN: &str = "training_mean";

/// Some rows and the yes or no of each.
struct Answers {
    rows: Vec<usize>,
    labels: Vec<bool>,
}

impl Answers {
    /// The rows that a head is asked about.
    fn of(targets: &[Target], answer: impl Fn(Target) -> Option<bool>) -> Answers {
        let (rows, labels) =
            targets.iter().enumerate().filter_map(|(row, target)| Some((row, answer(*target)?))).unzip();
        Answers { rows, labels }
    }

    fn positives(&self) -> usize {
        self.labels.iter().filter(|label| **label).count()
    }

    /// These rows of a matrix, and whose they are.
    fn pick<'m>(&self, x: &'m Matrix, groups: Option<&[i64]>) -> (Cow<'m, Matrix>, Option<Vec<i64>>) {
        let groups = groups.map(|groups| self.rows.iter().map(|&row| groups[row]).collect());
        let all = self.rows.len() == x.rows();
        (if all { Cow::Borrowed(x) } else { Cow::Owned(x.pick(&self.rows)) }, groups)
    }
}

impl Panel {
    /// Fits one head after the other on raw rows, and its calibration on tuning rows. What the
    /// fits found out goes into `found`, with the head's name.
    ///
    /// # Errors
    /// [`ModelError::Head`] if the training rows leave a head without one of its answers; those
    /// of the family.
    pub(in crate::models) fn fit(
        spec: &FitSpec,
        panel: &PanelSpec,
        train: &Matrix,
        tuning: &Matrix,
        found: &mut BTreeMap<String, f64>,
    ) -> Result<Panel, ModelError> {
        let PanelSpec { question, .. } = panel;
        question.check().map_err(|reason| ModelError::Parameter { name: "label", reason })?;
        let scale = Scale::of(question, &panel.train);
        let names: Vec<String> = match (question, &scale) {
            (Question::Class { names, .. } | Question::Time { names, .. }, _) => names.clone(),
            (_, scale) => scale.iter().flat_map(Scale::names).collect(),
        };
        // Neither is this one's business, and the targets are many. A head's outcome is not the label's, of which alone
        // it is known when it happens.
        let mut own = FitSpec { panel: None, tuning_groups: None, onsets: None, tuning_onsets: None, ..spec.clone() };
        if spec.family == Family::Onnx {
            check_classes(spec, question)?;
        }
        let mut heads = Vec::with_capacity(names.len());
        for (k, name) in names.iter().enumerate() {
            let told = |target: Target| answer(question, scale.as_ref(), k, target);
            let answers = Answers::of(&panel.train, told);
            let positives = answers.positives();
            if positives == 0 || positives == answers.rows.len() {
                return Err(ModelError::Head { head: name.clone(), rows: answers.rows.len(), positives });
            }
            let (x, groups) = answers.pick(train, spec.groups.as_deref());
            let mut of_head = BTreeMap::new();
            if spec.family == Family::Onnx {
                // Each head is the same file, of which it takes its own class.
                own.params.onnx.class.clone_from(name);
                own.params.check(Family::Onnx)?;
            }
            let member =
                Member::fit(spec.family, &FitSpec { groups, ..own.clone() }, &x, &answers.labels, &mut of_head)?;
            let heard = Answers::of(&panel.tuning, told);
            let (x, groups) = heard.pick(tuning, spec.tuning_groups.as_deref());
            let mut margins = Vec::new();
            member.margins(x.values(), x.columns(), &mut Vec::new(), &mut margins);
            let (link, groups) = (member.link(), groups.as_deref());
            let calibration = match heard.rows.len() {
                0 => Calibration::Identity,
                _ => Calibration::fit(link, &margins, &heard.labels, groups, spec.seed, &mut of_head),
            };
            of_head.insert("rows".to_owned(), answers.rows.len() as f64);
            of_head.insert("positives".to_owned(), positives as f64);
            found.extend(of_head.into_iter().map(|(key, value)| (format!("{name}: {key}"), value)));
            heads.push(Head { member, calibration });
        }
        if let Some(mean) = scale.as_ref().map(|_| mean(&panel.train)) {
            found.insert(TRAINING_MEAN.to_owned(), mean);
        }
        Panel::new(question.clone(), train.columns(), heads, scale)
            .map_err(|reason| ModelError::fit(spec.family, reason))
    }
}

/// Checks that a user's own model tells just the classes that are asked of.
fn check_classes(spec: &FitSpec, question: &Question) -> Result<(), ModelError> {
    let Question::Class { names, .. } = question else {
        let reason = "answers yes or no, or which of several classes; for when and how much a panel needs one a head";
        return Err(ModelError::fit(Family::Onnx, reason));
    };
    // Without a file the heads say what is amiss.
    let (hyper, Some(file)) = (&spec.params.onnx, &spec.onnx) else { return Ok(()) };
    if !hyper.class.is_empty() {
        return Err(ModelError::Parameter {
            name: "onnx.class",
            reason: "must be left out where the label has classes",
        });
    }
    let told = Foreign::classes(hyper, file)?;
    let is_same = told.len() == names.len() && names.iter().all(|name| told.contains(name));
    if is_same {
        return Ok(());
    }
    let what = format!("it tells the classes {}, the label {}", told.join(", "), names.join(", "));
    let remedy =
        "name them alike, or name as onnx.classes what the numbers of its last output stand for, in their order";
    Err(ModelError::Import { reason: format!("{what}; {remedy}") })
}

/// The mean of amounts.
fn mean(targets: &[Target]) -> f64 {
    let amounts = targets.iter().filter_map(|target| match target {
        Target::Amount(amount) => Some(*amount),
        _ => None,
    });
    let (sum, count) = amounts.fold((0.0, 0.0), |(sum, count), amount| (sum + amount, count + 1.0));
    sum / count
}

/// What a target answers a head; `None`: the head is not asked about it.
pub(super) fn answer(question: &Question, scale: Option<&Scale>, head: usize, target: Target) -> Option<bool> {
    match (question, target) {
        (Question::Class { .. }, Target::Class(class)) => Some(class == head),
        (Question::Amount { .. }, Target::Amount(amount)) => Some(amount >= *scale?.cuts.get(head)?),
        (Question::Time { hours: times, .. }, Target::Time { hours, happened }) => {
            // An event at the very start belongs to the first interval.
            let from = head.checked_sub(1).map_or(f64::NEG_INFINITY, |before| times[before]);
            let by = *times.get(head)?;
            if hours <= from {
                None
            } else if happened && hours <= by {
                Some(true)
            } else {
                (hours >= by).then_some(false)
            }
        }
        _ => None,
    }
}

impl Scale {
    /// The cuts for the amounts of the training rows; `None` for another question. Their order
    /// and the means between them follow from the amounts alone.
    pub(super) fn of(question: &Question, targets: &[Target]) -> Option<Scale> {
        let Question::Amount { cuts: wanted, level, .. } = question else { return None };
        let amount = |target: &Target| match target {
            Target::Amount(amount) => Some(*amount),
            _ => None,
        };
        let mut amounts: Vec<f64> = targets.iter().filter_map(amount).collect();
        amounts.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*amounts.first()?, *amounts.last()?);
        let at = |i: usize| amounts[(amounts.len() * i / (wanted + 1)).min(amounts.len() - 1)];
        let mut cuts: Vec<f64> = (1..=*wanted).map(at).filter(|cut| *cut > low).collect();
        cuts.push(*level);
        cuts.sort_unstable_by(f64::total_cmp);
        cuts.dedup();
        let place = |cut: f64| amounts.partition_point(|amount| *amount < cut);
        let mean = |k: usize| {
            let (lower, upper) = (k.checked_sub(1).map(|before| cuts[before]), cuts.get(k).copied());
            let within = &amounts[lower.map_or(0, place)..upper.map_or(amounts.len(), place)];
            match within.len() {
                0 => f64::midpoint(lower.unwrap_or(low), upper.unwrap_or(high)),
                count => within.iter().sum::<f64>() / count as f64,
            }
        };
        let means = (0..=cuts.len()).map(mean).collect();
        Some(Scale { cuts, means, ends: [low, high] })
    }
}
