//! A stack: several families, weighed by what each says of subjects it was not fitted on.
//!
//! Stacked generalisation (Wolpert 1992) with weights that are not negative (Breiman 1996):
//! `margin = bias + Σ weight * log-odds of the member`. A member that adds nothing gets the
//! weight 0 and is left out of the model. Each member keeps its own preprocessing, so a stack
//! takes raw rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::calibration::{sigmoid, softplus};
use super::files::MODEL;
use super::jobs::{at_once, side_by_side};
use super::member::{Member, StoredMember};
use super::preprocess::Preprocess;
use super::{Attribution, Family, FitSpec, Folds, Link, Matrix, Model, ModelError};

/// Fewest rows of each outcome in every fold for weights to mean something; with fewer all
/// members weigh the same.
const FEWEST: usize = 5;
/// L2 penalty on how far a weight is from an even share: members agree so much that the
/// likelihood alone would weigh them by chance.
const RIDGE: f64 = 10.0;
/// Largest weight or bias of an honest stack; sums of finite margins stay finite below it.
const LARGEST: f64 = 1e6;
/// Below this difference of margins a link is taken as straight.
const SAME_MARGIN: f64 = 1e-9;

/// A fitted stack.
#[derive(Debug)]
pub(super) struct Stack {
    columns: usize,
    bias: f64,
    members: Vec<Weighed>,
}

#[derive(Debug)]
struct Weighed {
    /// On the member's log-odds; not negative.
    weight: f64,
    member: Member,
}

/// The stack in `model.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    columns: usize,
    bias: f64,
    members: Vec<StoredWeighed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredWeighed {
    family: Family,
    weight: f64,
    preprocess: Preprocess,
    model: Box<RawValue>,
}

impl Stack {
    /// Fits on raw rows: the weights on what models of all other folds say of each fold's
    /// subjects, the members then on all rows. The weights go into `found`.
    ///
    /// # Errors
    /// Those of the members.
    pub(super) fn fit(
        spec: &FitSpec,
        x: &Matrix,
        labels: &[bool],
        found: &mut BTreeMap<String, f64>,
    ) -> Result<Stack, ModelError> {
        Ok(Stack::fit_judged(spec, x, labels, found)?.0)
    }

    /// [`Stack::fit`], and the margin of every row by models, and weights, of other folds; `None` where there were
    /// too few rows for folds.
    ///
    /// # Errors
    /// Those of the members.
    pub(super) fn fit_judged(
        spec: &FitSpec,
        x: &Matrix,
        labels: &[bool],
        found: &mut BTreeMap<String, f64>,
    ) -> Result<(Stack, Option<Vec<f64>>), ModelError> {
        let families = &spec.params.stack.members;
        let folds = Folds::new(labels, spec.groups.as_deref(), spec.params.stack.folds, spec.seed);
        let ((bias, weights), judged) = if folds.can_judge(labels, FEWEST) {
            let odds = out_of_fold(spec, x, labels, &folds)?;
            (combine(&odds, labels), Some(unseen(&odds, labels, &folds)))
        } else {
            ((0.0, vec![1.0 / families.len() as f64; families.len()]), None)
        };
        let mut members = Vec::new();
        for (&family, weight) in families.iter().zip(weights) {
            found.insert(format!("weight_{family}"), weight);
            if weight > 0.0 {
                members.push(Weighed { weight, member: Member::fit(family, spec, x, labels, &mut BTreeMap::new())? });
            }
        }
        let stack = Stack { columns: x.columns(), bias, members };
        stack.check().map_err(|reason| ModelError::fit(Family::Stack, reason))?;
        Ok((stack, judged))
    }

    /// Reads what [`Model::encode`] wrote; `features`: of a raw row.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable stack.
    pub(super) fn decode(bytes: &[u8], features: usize) -> Result<Stack, ModelError> {
        let Stored { columns, bias, members } =
            serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        let corrupt = |reason: &str| ModelError::corrupt(MODEL, reason);
        if columns != features {
            return Err(corrupt("the stack takes another number of features than the card names"));
        }
        let member = |stored: StoredWeighed| {
            let StoredWeighed { family, weight, preprocess, model } = stored;
            if family == Family::Stack {
                return Err(corrupt("a stack is a member of a stack"));
            }
            Ok(Weighed { weight, member: Member::decode(StoredMember { family, preprocess, model }, features)? })
        };
        let members = members.into_iter().map(member).collect::<Result<_, ModelError>>()?;
        let stack = Stack { columns, bias, members };
        stack.check().map_err(|reason| corrupt(&reason))?;
        Ok(stack)
    }

    fn check(&self) -> Result<(), String> {
        let family = |i: usize| self.members[i].member.family;
        let different = (1..self.members.len()).all(|i| (0..i).all(|before| family(before) != family(i)));
        if self.columns == 0 || self.members.is_empty() || !different {
            return Err("a stack needs columns and members of different families".to_owned());
        }
        let weighs = |one: &Weighed| (0.0..=LARGEST).contains(&one.weight);
        if !(-LARGEST..=LARGEST).contains(&self.bias) || !self.members.iter().all(weighs) {
            return Err("a weight of the stack is negative or too large".to_owned());
        }
        self.members.iter().try_for_each(|one| one.member.check(self.columns))
    }
}

impl Model for Stack {
    fn columns(&self) -> usize {
        self.columns
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let first = out.len();
        out.resize(first + rows.len() / self.columns, self.bias);
        let (mut columns, mut odds) = (Vec::new(), Vec::new());
        for Weighed { weight, member } in &self.members {
            odds.clear();
            log_odds(member, rows, self.columns, &mut columns, &mut odds);
            for (margin, odds) in out[first..].iter_mut().zip(&odds) {
                *margin += weight * odds;
            }
        }
    }

    /// The members' own attributions, each carried through its link by the rescale rule of
    /// DeepLIFT (Shrikumar et al. 2017) and weighed; the sum stays whole.
    fn attribute(&self, row: &[f32]) -> Attribution {
        let mut total = Attribution { base: self.bias, contributions: vec![0.0; self.columns], error: None };
        for Weighed { weight, member } in &self.members {
            let (margin, Attribution { base, contributions, error }) = member.attribute(row);
            let factor = weight * steepness(member.link(), base, margin);
            total.base += weight * member.link().log_odds(base);
            if let Some(error) = error {
                // At worst the members err the same way.
                *total.error.get_or_insert(0.0) += (factor * error).abs();
            }
            for (sum, part) in total.contributions.iter_mut().zip(contributions) {
                *sum += factor * part;
            }
        }
        total
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        let member = |one: &Weighed| {
            let StoredMember { family, preprocess, model } = one.member.store()?;
            Ok(StoredWeighed { family, weight: one.weight, preprocess, model })
        };
        let members = self.members.iter().map(member).collect::<Result<_, ModelError>>()?;
        let stored = Stored { columns: self.columns, bias: self.bias, members };
        serde_json::to_vec(&stored).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

/// Appends a member's log-odds of raw rows of `width`; `columns` is memory to work in.
fn log_odds(member: &Member, rows: &[f32], width: usize, columns: &mut Vec<f32>, out: &mut Vec<f64>) {
    let first = out.len();
    member.margins(rows, width, columns, out);
    let link = member.link();
    for margin in &mut out[first..] {
        *margin = link.log_odds(*margin);
    }
}

/// Change of the log-odds over the change of the margin; the slope where nothing changes.
fn steepness(link: Link, base: f64, margin: f64) -> f64 {
    if (margin - base).abs() > SAME_MARGIN {
        (link.log_odds(margin) - link.log_odds(base)) / (margin - base)
    } else {
        link.log_odds_slope(margin)
    }
}

/// Of each member, the log-odds of every row by a model that was not fitted on its fold.
fn out_of_fold(spec: &FitSpec, x: &Matrix, labels: &[bool], folds: &Folds) -> Result<Vec<Vec<f64>>, ModelError> {
    let families = &spec.params.stack.members;
    let jobs: Vec<(usize, usize)> =
        (0..families.len()).flat_map(|member| (0..folds.count()).map(move |fold| (member, fold))).collect();
    let fit = |&(member, fold): &(usize, usize)| -> Result<Vec<f64>, ModelError> {
        let kept = folds.kept(fold);
        let outcomes: Vec<bool> = kept.iter().map(|&row| labels[row]).collect();
        let fitted = Member::fit(
            families[member],
            &spec.of_rows(&kept, x.rows()),
            &x.pick(&kept),
            &outcomes,
            &mut BTreeMap::new(),
        )?;
        let mut odds = Vec::new();
        log_odds(&fitted, x.pick(&folds.held(fold)).values(), x.columns(), &mut Vec::new(), &mut odds);
        Ok(odds)
    };
    let fitted = side_by_side(at_once(x), &jobs, fit, &mut |_, _| {});
    let mut all = vec![vec![0.0; x.rows()]; families.len()];
    for ((member, fold), odds) in jobs.into_iter().zip(fitted) {
        for (row, odds) in folds.held(fold).into_iter().zip(odds?) {
            all[member][row] = odds;
        }
    }
    Ok(all)
}

/// The margin of every row, with the members' log-odds out of fold weighed as the other folds say.
fn unseen(odds: &[Vec<f64>], labels: &[bool], folds: &Folds) -> Vec<f64> {
    let mut margins = vec![0.0; labels.len()];
    for fold in 0..folds.count() {
        let kept = folds.kept(fold);
        let others: Vec<Vec<f64>> = odds.iter().map(|odds| kept.iter().map(|&row| odds[row]).collect()).collect();
        let (bias, weights) = combine(&others, &kept.iter().map(|&row| labels[row]).collect::<Vec<bool>>());
        for row in folds.held(fold) {
            margins[row] = bias + weights.iter().zip(odds).map(|(weight, odds)| weight * odds[row]).sum::<f64>();
        }
    }
    margins
}

/// Bias and weights with the least log loss, the weights not negative and drawn towards an
/// even share.
///
/// Newton's method; its quadratic is minimised under the bounds by coordinates (it has a
/// handful), and a step is halved until the loss falls.
fn combine(odds: &[Vec<f64>], labels: &[bool]) -> (f64, Vec<f64>) {
    let (size, even) = (odds.len() + 1, 1.0 / odds.len() as f64);
    let terms = |row: usize| std::iter::once(1.0).chain(odds.iter().map(move |member| member[row]));
    let sum = |at: &[f64], row: usize| terms(row).zip(at).map(|(term, factor)| term * factor).sum::<f64>();
    let loss = |at: &[f64]| {
        let penalty: f64 = at[1..].iter().map(|weight| RIDGE / 2.0 * (weight - even).powi(2)).sum();
        let each = labels.iter().enumerate().map(|(row, &label)| {
            let margin = sum(at, row);
            softplus(margin) - if label { margin } else { 0.0 }
        });
        penalty + each.sum::<f64>()
    };
    let mut at = vec![even; size];
    at[0] = 0.0;
    let mut current = loss(&at);
    for _ in 0..100 {
        let mut gradient: Vec<f64> = at.iter().map(|weight| RIDGE * (weight - even)).collect();
        let mut hessian = vec![vec![0.0; size]; size];
        // The bias is free; the tiny ridge keeps its curvature positive.
        gradient[0] = 0.0;
        hessian[0][0] = 1e-9;
        (1..size).for_each(|i| hessian[i][i] = RIDGE);
        for (row, &label) in labels.iter().enumerate() {
            let p = sigmoid(sum(&at, row));
            let (error, curvature) = (p - f64::from(u8::from(label)), p * (1.0 - p));
            for (i, term) in terms(row).enumerate() {
                gradient[i] += error * term;
                for (cell, other) in hessian[i].iter_mut().zip(terms(row)) {
                    *cell += curvature * term * other;
                }
            }
        }
        let step = bounded_step(&at, &gradient, &hessian);
        let descent: f64 = gradient.iter().zip(&step).map(|(g, s)| g * s).sum();
        if descent > -1e-9 {
            break;
        }
        let mut share = 1.0;
        let better = loop {
            let next: Vec<f64> = at.iter().zip(&step).map(|(from, step)| from + share * step).collect();
            let value = loss(&next);
            if value < current + 1e-4 * share * descent {
                break Some((next, value));
            }
            share /= 2.0;
            if share < 1e-10 {
                break None;
            }
        };
        let Some(better) = better else { break };
        (at, current) = better;
    }
    // A whole step that ends at the bound may miss 0 by a rounding.
    let weights: Vec<f64> = at[1..].iter().map(|&weight| if weight < 1e-9 { 0.0 } else { weight }).collect();
    if weights.iter().sum::<f64>() > 0.0 { (at[0], weights) } else { (0.0, vec![even; odds.len()]) }
}

/// The step that minimises `gradient * step + step * hessian * step / 2` while every number
/// but the first stays at least 0.
fn bounded_step(at: &[f64], gradient: &[f64], hessian: &[Vec<f64>]) -> Vec<f64> {
    let mut step = vec![0.0; at.len()];
    for _ in 0..10_000 {
        let mut largest = 0.0f64;
        for (i, row) in hessian.iter().enumerate() {
            let slope = gradient[i] + row.iter().zip(&step).map(|(h, s)| h * s).sum::<f64>();
            let mut next = step[i] - slope / row[i];
            if i > 0 {
                next = next.max(-at[i]);
            }
            largest = largest.max((next - step[i]).abs());
            step[i] = next;
        }
        if largest < 1e-12 {
            break;
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::super::{Bundle, StackHyper};
    use super::*;

    /// A line that logistic regression sees, and a corner that trees see.
    fn problem(rows: usize, seed: u64) -> (Matrix, Vec<bool>, Vec<i64>) {
        let mut random = Random::new(seed);
        let mut x = Matrix::new(12);
        let (mut labels, mut groups) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let mut values: Vec<f32> = (0..12).map(|_| random.unit() as f32 * 2.0 - 1.0).collect();
            let line: f64 = values[2..].iter().map(|&value| f64::from(value)).sum();
            let corner = if values[0] > 0.0 && values[1] > 0.0 { 2.0 } else { 0.0 };
            labels.push(random.unit() < sigmoid(line + corner - 1.5));
            if random.unit() < 0.2 {
                values[3] = f32::NAN;
            }
            x.push_row(&values).unwrap();
            groups.push(row as i64 / 2);
        }
        (x, labels, groups)
    }

    fn spec(family: Family, groups: Vec<i64>) -> FitSpec {
        let names = (0..12).map(|i| format!("f{i}")).collect();
        let mut spec = FitSpec { groups: Some(groups), ..FitSpec::new(family, "stack", names, "spec") };
        spec.params.stack = StackHyper { members: vec![Family::Logistic, Family::Forest, Family::Boosting], folds: 4 };
        spec.params.forest.trees = 60;
        spec.params.boosting.eta = 0.1;
        spec
    }

    fn log_loss(bundle: &Bundle, x: &Matrix, labels: &[bool]) -> f64 {
        let mut risks = Vec::new();
        bundle.score(x.values(), &mut risks).unwrap();
        let losses = risks.iter().zip(labels).map(|(&p, &label)| -(if label { p } else { 1.0 - p }).ln());
        losses.sum::<f64>() / labels.len() as f64
    }

    #[test]
    fn it_is_better_than_its_best_member() {
        let ((x, y, groups), (tuning, tuning_y, _)) = (problem(2_000, 1), problem(600, 2));
        let (fresh, fresh_y, _) = problem(4_000, 3);
        let fit = |family| Bundle::fit(spec(family, groups.clone()), &x, &y, &tuning, &tuning_y).unwrap();
        let stack = fit(Family::Stack);
        let whole = log_loss(&stack, &fresh, &fresh_y);
        for family in [Family::Logistic, Family::Forest, Family::Boosting] {
            let alone = log_loss(&fit(family), &fresh, &fresh_y);
            println!("{family} {alone:.4}, stack {whole:.4}, {:?}", stack.card.found);
            assert!(whole < alone, "{family} alone has {alone}, the stack {whole}");
            assert!(stack.card.found[&format!("weight_{family}")] >= 0.0);
        }
    }

    #[test]
    fn the_weights_are_those_that_made_the_labels_and_never_negative() {
        let mut random = Random::new(7);
        let mut draw = || (0..20_000).map(|_| random.unit() * 6.0 - 3.0).collect::<Vec<f64>>();
        let odds = [draw(), draw(), draw()];
        let mut random = Random::new(8);
        let labels: Vec<bool> = (0..20_000)
            .map(|i| random.unit() < sigmoid(0.7 * odds[0][i] + 0.3 * odds[1][i] - 0.5 * odds[2][i] - 1.0))
            .collect();
        let (bias, weights) = combine(&odds, &labels);
        // Without the third member, whose factor may not be negative, the others' are flatter.
        assert_eq!(weights[2], 0.0);
        assert!((weights[0] / weights[1] - 0.7 / 0.3).abs() < 0.25, "{weights:?}");
        assert!(bias < -0.5, "{bias}");
        let two = combine(&odds[..2], &labels);
        assert!((two.0 - bias).abs() < 1e-3 && (two.1[0] - weights[0]).abs() < 1e-3, "{two:?} {bias} {weights:?}");
    }

    #[test]
    fn members_that_say_the_opposite_weigh_the_same() {
        let odds = [vec![-1.0; 200], vec![-2.0; 200]].map(|mut odds: Vec<f64>| {
            odds[..100].iter_mut().for_each(|z| *z = -*z * 500.0);
            odds
        });
        let labels: Vec<bool> = (0..200).map(|row| row >= 100).collect();
        assert_eq!(combine(&odds, &labels), (0.0, vec![0.5; 2]));
    }

    #[test]
    fn with_too_few_outcomes_members_weigh_the_same() {
        let (x, _, groups) = problem(60, 4);
        let labels: Vec<bool> = groups.iter().map(|subject| *subject < 4).collect();
        let stack = Stack::fit(&spec(Family::Stack, groups), &x, &labels, &mut BTreeMap::new()).unwrap();
        assert!(stack.members.iter().all(|member| member.weight == 1.0 / 3.0) && stack.members.len() == 3);
    }

    #[test]
    fn attributions_add_up_where_members_are_probabilities() {
        let (x, y, groups) = problem(500, 5);
        let stack = Stack::fit(&spec(Family::Stack, groups), &x, &y, &mut BTreeMap::new()).unwrap();
        let mut margins = Vec::new();
        stack.margins(x.values(), &mut margins);
        for (row, margin) in margins.iter().enumerate() {
            let Attribution { base, contributions, .. } = stack.attribute(x.row(row));
            assert!((base + contributions.iter().sum::<f64>() - margin).abs() < 1e-10, "{row}");
        }
        // At the base itself and beyond the cut the rescale rule still holds.
        for (base, margin) in [(0.2, 0.2), (0.2, 0.2 + 1e-10), (0.0001, 0.0005), (0.5, 1.0), (0.2, 0.0)] {
            let carried = steepness(Link::Probability, base, margin) * (margin - base);
            let change = Link::Probability.log_odds(margin) - Link::Probability.log_odds(base);
            assert!((carried - change).abs() < 1e-12, "{base} {margin}");
        }
    }

    #[test]
    fn a_damaged_stack_is_refused_and_a_whole_one_comes_back() {
        let (x, y, groups) = problem(300, 6);
        let mut spec = spec(Family::Stack, groups);
        spec.params.stack.members = vec![Family::Logistic, Family::Boosting];
        spec.params.boosting.rounds = 20;
        let stack = Stack::fit(&spec, &x, &y, &mut BTreeMap::new()).unwrap();
        let text = String::from_utf8(stack.encode().unwrap()).unwrap();
        let loaded = Stack::decode(text.as_bytes(), 12).unwrap();
        assert_eq!(loaded.encode().unwrap(), text.as_bytes());
        let (mut here, mut there) = (Vec::new(), Vec::new());
        stack.margins(x.values(), &mut here);
        loaded.margins(x.values(), &mut there);
        assert_eq!(here, there);

        let refused = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Stack::decode(text.replacen(from, to, 1).as_bytes(), 12).unwrap_err().to_string()
        };
        assert!(Stack::decode(text.as_bytes(), 11).is_err());
        assert!(refused(r#""columns":12"#, r#""columns":11"#).contains("another number of features"));
        assert!(refused(r#""weight":"#, r#""weight":-"#).contains("negative"));
        assert!(refused(r#""family":"logistic""#, r#""family":"stack""#).contains("member of a stack"));
        assert!(refused(r#""family":"logistic""#, r#""family":"mlp""#).contains("model.json"));
        assert!(refused(r#""kind":"table""#, r#""kind":"raw""#).contains("model.json"));
        assert!(refused(r#""bias":"#, r#""bios":"#).contains("bios"));
        let none = br#"{"columns":12,"bias":0.0,"members":[]}"#;
        assert!(matches!(Stack::decode(none, 12), Err(ModelError::Corrupt { file: MODEL, .. })));
        let nested = format!(r#"{{"columns":12,"bias":0.0,"members":{}"#, "[".repeat(100_000));
        assert!(Stack::decode(nested.as_bytes(), 12).is_err());
    }
}
