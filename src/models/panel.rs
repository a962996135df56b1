//! A panel: several yes-or-no models side by side that answer together what is more than yes or no.
//!
//! - *Which* of several classes: one head a class, against the rest; their calibrated risks,
//!   brought to the sum 1.
//! - *When*, in discrete time: one head an interval, the hazard of those who came so far
//!   (Singer and Willett 1993); the incidence by a time is `1 - Π (1 - hazard)`. Who was lost
//!   from sight counts up to the last interval that was seen whole.
//! - *How much* or *how many*: one head a cut, whether the amount reaches it (distribution
//!   regression: Foresi and Peracchi 1995; Chernozhukov et al. 2013), from which follow mean
//!   and quantiles.
//!
//! So every family can answer every question, with the calibration and the exact explanation
//! that it has. A panel promises that one event is *watched*: its probability is the panel's
//! margin and so the bundle's risk, threshold and reasons; and that an explanation adds up to
//! it, whatever the other heads say.

mod fit;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use fit::{PanelSpec, TRAINING_MEAN};

use super::calibration::Calibration;
use super::files::MODEL;
use super::member::{Member, StoredMember};
use super::{Attribution, Explanation, Family, Link, Model, ModelError};

/// Most heads of a panel.
const MOST: usize = 64;
/// Below this difference of a head's risks its effect is taken as straight.
const SAME_RISK: f64 = 1e-9;
/// The quantiles that are told of an amount.
const QUANTILES: [(&str, f64); 3] = [("p10", 0.1), ("p50", 0.5), ("p90", 0.9)];

/// What a panel is asked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// Which of several classes, of which one comes about.
    Class {
        /// The classes.
        names: Vec<String>,
        /// Place of the one that is watched.
        watched: usize,
    },
    /// How much or how many.
    Amount {
        /// Quantiles of the training amounts at which the distribution is cut; the level is one
        /// more cut.
        cuts: usize,
        /// The level that is watched.
        level: f64,
        /// Whether amounts below the level are watched, else those that reach it.
        below: bool,
    },
    /// How soon.
    Time {
        /// Names of the times.
        names: Vec<String>,
        /// The times, in hours, ascending.
        hours: Vec<f64>,
        /// Place of the one by which what is watched happens.
        watched: usize,
    },
}

/// What became of a row.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Target {
    /// Place of its class.
    Class(usize),
    /// A finite number.
    Amount(f64),
    /// How soon it happened, or how long it was seen not to.
    Time {
        /// Hours from the prediction.
        hours: f64,
        /// Whether it happened then.
        happened: bool,
    },
}

impl Question {
    /// Checks the question itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        let different = |names: &[String]| (1..names.len()).all(|i| !names[..i].contains(&names[i]));
        match self {
            Question::Class { names, watched } => {
                if !(2..=MOST).contains(&names.len()) || !different(names) {
                    return Err("needs 2 to 64 different classes");
                }
                if *watched < names.len() { Ok(()) } else { Err("watches no class") }
            }
            Question::Amount { cuts, level, .. } => {
                if (1..MOST).contains(cuts) && level.is_finite() {
                    Ok(())
                } else {
                    Err("needs 1 to 63 cuts and a finite level")
                }
            }
            Question::Time { names, hours, watched } => {
                let rise = hours.windows(2).all(|pair| pair[0] < pair[1]) && hours.first().is_some_and(|&t| t > 0.0);
                if !rise || hours.len() > MOST || hours.iter().any(|t| !t.is_finite()) {
                    return Err("needs 1 to 64 times above 0 that rise");
                }
                if names.len() != hours.len() || !different(names) {
                    return Err("needs a name of its own for each time");
                }
                if *watched < hours.len() { Ok(()) } else { Err("watches no time") }
            }
        }
    }

    /// Whether what is watched happened to a row; `None`: it was lost from sight before, or the
    /// target answers another question.
    pub fn watched(&self, target: Target) -> Option<bool> {
        match (self, target) {
            (Question::Class { watched, .. }, Target::Class(class)) => Some(class == *watched),
            (Question::Amount { level, below, .. }, Target::Amount(amount)) => Some((amount < *level) == *below),
            (Question::Time { hours: times, watched, .. }, Target::Time { hours, happened }) => {
                let by = times.get(*watched)?;
                if happened && hours <= *by {
                    Some(true)
                } else if happened || hours >= *by {
                    Some(false)
                } else {
                    None
                }
            }
            _ => None,
        }
    }
}

/// The amounts between which a panel tells apart.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    /// Each head's: whether the amount reaches it. Ascending.
    cuts: Vec<f64>,
    /// Mean training amount below the first cut, from cut to cut, and from the last one up.
    means: Vec<f64>,
    /// Least and largest training amount.
    ends: [f64; 2],
}

/// A fitted panel, over raw rows.
#[derive(Debug)]
pub(super) struct Panel {
    columns: usize,
    question: Question,
    heads: Vec<Head>,
    /// Of an amount.
    scale: Option<Scale>,
    names: Vec<String>,
}

/// One yes-or-no model and its calibration.
#[derive(Debug)]
struct Head {
    member: Member,
    calibration: Calibration,
}

/// The panel in `model.json`; the question stands in the card.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    columns: usize,
    heads: Vec<StoredHead>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<Scale>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredHead {
    calibration: Calibration,
    member: StoredMember,
}

impl Panel {
    /// Puts a panel together.
    fn new(question: Question, columns: usize, heads: Vec<Head>, scale: Option<Scale>) -> Result<Panel, String> {
        question.check().map_err(|reason| format!("its question {reason}"))?;
        let names = match (&question, &scale) {
            (Question::Class { names, .. } | Question::Time { names, .. }, _) => names.clone(),
            (Question::Amount { .. }, scale) => {
                let told = std::iter::once("mean").chain(QUANTILES.map(|(name, _)| name)).map(str::to_owned);
                told.chain(scale.iter().flat_map(Scale::names)).collect()
            }
        };
        let panel = Panel { columns, question, heads, scale, names };
        let wanted = match (&panel.question, &panel.scale) {
            (Question::Class { names, .. } | Question::Time { names, .. }, None) => names.len(),
            (Question::Amount { level, .. }, Some(scale)) => {
                let Scale { cuts, means, ends } = scale;
                let finite = cuts.iter().chain(means).chain(ends).all(|amount| amount.is_finite());
                let rise = cuts.windows(2).all(|pair| pair[0] < pair[1]) && ends[0] <= ends[1];
                if !finite || !rise || means.len() != cuts.len() + 1 || !cuts.contains(level) {
                    return Err("its scale of amounts does not rise to a number each, or lacks the level".to_owned());
                }
                cuts.len()
            }
            _ => return Err("it has a scale of amounts and no amount to tell, or the other way round".to_owned()),
        };
        if panel.heads.len() != wanted || panel.columns == 0 {
            return Err(format!("it has {} heads where its question asks for {wanted}", panel.heads.len()));
        }
        if panel.heads.iter().any(|head| !head.calibration.is_sound()) {
            return Err("the calibration of a head is not a finite curve that rises".to_owned());
        }
        panel.heads.iter().try_for_each(|head| head.member.check(columns))?;
        Ok(panel)
    }

    /// Reads what [`Model::encode`] wrote; `features`: of a raw row.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable panel of that family.
    pub(super) fn decode(
        bytes: &[u8],
        features: usize,
        family: Family,
        question: Question,
    ) -> Result<Panel, ModelError> {
        let corrupt = |reason: String| ModelError::corrupt(MODEL, reason);
        let Stored { columns, heads, scale } = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
        if columns != features || heads.len() > MOST {
            return Err(corrupt("the panel takes another number of features, or has too many heads".to_owned()));
        }
        let head = |StoredHead { calibration, member }: StoredHead| {
            if member.family != family {
                return Err(corrupt("a head is of another family than the card says".to_owned()));
            }
            Ok(Head { calibration, member: Member::decode(member, features)? })
        };
        let heads = heads.into_iter().map(head).collect::<Result<_, ModelError>>()?;
        Panel::new(question, columns, heads, scale).map_err(corrupt)
    }

    /// Which heads the watched event hangs on: from and to.
    fn asked(&self) -> (usize, usize) {
        match (&self.question, &self.scale) {
            (Question::Time { watched, .. }, _) => (0, watched + 1),
            (Question::Amount { level, .. }, Some(scale)) => {
                let at = scale.cuts.partition_point(|cut| cut < level).min(self.heads.len().saturating_sub(1));
                (at, at + 1)
            }
            _ => (0, self.heads.len()),
        }
    }

    /// The calibrated risks of some heads, head by head.
    fn risks(&self, rows: &[f32], (from, to): (usize, usize)) -> Vec<Vec<f64>> {
        let mut columns = Vec::new();
        let head = |head: &Head| {
            let mut risks = Vec::with_capacity(rows.len() / self.columns);
            head.member.margins(rows, self.columns, &mut columns, &mut risks);
            let link = head.member.link();
            risks.iter_mut().for_each(|risk| *risk = head.calibration.risk(link, *risk));
            risks
        };
        self.heads[from..to].iter().map(head).collect()
    }

    /// The probability of the watched event, from the risks of the heads that it hangs on.
    fn watched(&self, risks: &[f64]) -> f64 {
        match &self.question {
            Question::Class { watched, .. } => share(risks, *watched),
            Question::Time { .. } => incidence(risks),
            Question::Amount { below, .. } => {
                let reaches = risks.first().copied().unwrap_or(0.0);
                if *below { 1.0 - reaches } else { reaches }
            }
        }
    }

    /// Appends what is told of a row whose heads have these risks, in the order of its names.
    fn tell(&self, risks: &[f64], out: &mut Vec<f64>) {
        match (&self.question, &self.scale) {
            (Question::Amount { .. }, Some(scale)) => {
                scale.tell(risks.to_vec(), out);
                out.extend_from_slice(risks);
            }
            (Question::Time { .. }, _) => out.extend((0..risks.len()).map(|k| incidence(&risks[..=k]))),
            _ => out.extend((0..risks.len()).map(|k| share(risks, k))),
        }
    }

    /// How the watched probability follows each head's risk from `from` to `to`: one factor a
    /// head, so that the products with the changes add up to its whole change.
    ///
    /// The heads change one after the other, in their order; each factor is the change that its
    /// head brings then, over the head's own.
    fn steps(&self, from: &[f64], to: &[f64]) -> Vec<f64> {
        match &self.question {
            Question::Amount { below, .. } => vec![if *below { -1.0 } else { 1.0 }],
            // The product is straight in every head: what the earlier ones are, what the later ones were.
            Question::Time { .. } => {
                let rest = |risks: &[f64]| risks.iter().map(|risk| 1.0 - risk).product::<f64>();
                (0..to.len()).map(|k| rest(&to[..k]) * rest(&from[k + 1..])).collect()
            }
            Question::Class { watched, .. } => {
                let mut now = from.to_vec();
                let mut step = |k: usize| {
                    let before = share(&now, *watched);
                    let sum: f64 = now.iter().sum();
                    let slope = (if k == *watched { sum - now[k] } else { -now[*watched] }) / (sum * sum);
                    now[k] = to[k];
                    let change = to[k] - from[k];
                    if change.abs() > SAME_RISK { (share(&now, *watched) - before) / change } else { slope }
                };
                // Without any risk at all there is no slope, and no change either.
                (0..to.len()).map(|k| Some(step(k)).filter(|step| step.is_finite()).unwrap_or(0.0)).collect()
            }
        }
    }
}

/// A risk's share of all; an even one where there is none at all.
fn share(risks: &[f64], of: usize) -> f64 {
    let sum: f64 = risks.iter().sum();
    if sum > 0.0 { risks[of] / sum } else { 1.0 / risks.len() as f64 }
}

/// The incidence after intervals of these hazards.
fn incidence(hazards: &[f64]) -> f64 {
    1.0 - hazards.iter().map(|hazard| 1.0 - hazard).product::<f64>()
}

impl Scale {
    /// What each head is asked.
    fn names(&self) -> Vec<String> {
        self.cuts.iter().map(|cut| format!(">= {cut}")).collect()
    }

    /// Mean and quantiles of the distribution that reaches the cuts with these probabilities.
    ///
    /// They are brought into falling order first (rearrangement: Chernozhukov, Fernández-Val and
    /// Galichon 2010); the mean takes each training mean between cuts, the quantiles run straight
    /// from cut to cut.
    fn tell(&self, mut reached: Vec<f64>, out: &mut Vec<f64>) {
        reached.sort_unstable_by(|a, b| b.total_cmp(a));
        let steps = self.means.windows(2).map(|pair| pair[1] - pair[0]);
        let first = self.means.first().copied().unwrap_or(0.0);
        out.push(steps.zip(&reached).fold(first, |mean, (step, reached)| mean + step * reached));
        let amounts = || std::iter::once(self.ends[0]).chain(self.cuts.iter().copied()).chain([self.ends[1]]);
        let above = || std::iter::once(1.0).chain(reached.iter().copied()).chain([0.0]);
        for (_, quantile) in QUANTILES {
            let level = 1.0 - quantile;
            let pairs = amounts().zip(above());
            let mut found = self.ends[1];
            let mut last: Option<(f64, f64)> = None;
            for (amount, above) in pairs {
                if above <= level {
                    found = match last {
                        Some((before, higher)) if higher > above => {
                            before + (amount - before).max(0.0) * (higher - level) / (higher - above)
                        }
                        _ => amount,
                    };
                    break;
                }
                last = Some((amount, above));
            }
            out.push(found);
        }
    }
}

impl Model for Panel {
    fn columns(&self) -> usize {
        self.columns
    }

    fn link(&self) -> Link {
        Link::Probability
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let risks = self.risks(rows, self.asked());
        let mut row = Vec::with_capacity(risks.len());
        for i in 0..rows.len() / self.columns {
            row.clear();
            row.extend(risks.iter().map(|head| head[i]));
            out.push(self.watched(&row));
        }
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        let (from, to) = self.asked();
        let told = |head: &Head| {
            let (margin, attribution) = head.member.attribute(row);
            Explanation::rescale(attribution, margin, &head.calibration, head.member.link())
        };
        let told: Vec<Explanation> = self.heads[from..to].iter().map(told).collect();
        let bases: Vec<f64> = told.iter().map(|head| head.base).collect();
        let risks: Vec<f64> = told.iter().map(|head| head.risk).collect();
        let steps = self.steps(&bases, &risks);
        let mut total = Attribution { base: self.watched(&bases), contributions: vec![0.0; self.columns], error: None };
        for (head, step) in told.iter().zip(steps) {
            if let Some(error) = head.error {
                // At worst the heads err the same way.
                *total.error.get_or_insert(0.0) += (step * error).abs();
            }
            for (sum, part) in total.contributions.iter_mut().zip(&head.contributions) {
                *sum += step * part;
            }
        }
        total
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        let head = |head: &Head| Ok(StoredHead { calibration: head.calibration.clone(), member: head.member.store()? });
        let heads = self.heads.iter().map(head).collect::<Result<_, ModelError>>()?;
        let stored = Stored { columns: self.columns, heads, scale: self.scale.clone() };
        serde_json::to_vec(&stored).map_err(|e| ModelError::corrupt(MODEL, e))
    }

    fn output_names(&self) -> &[String] {
        &self.names
    }

    fn cuts(&self) -> &[f64] {
        self.scale.as_ref().map_or(&[], |scale| &scale.cuts)
    }

    fn margins_and_outputs(&self, rows: &[f32], margins: &mut Vec<f64>, outputs: &mut Vec<f64>) {
        let ((from, to), risks) = (self.asked(), self.risks(rows, (0, self.heads.len())));
        let mut row = Vec::with_capacity(risks.len());
        for i in 0..rows.len() / self.columns {
            row.clear();
            row.extend(risks.iter().map(|head| head[i]));
            margins.push(self.watched(&row[from..to]));
            self.tell(&row, outputs);
        }
    }
}
