//! Gradient boosted trees: fitted by hessboost, stored as XGBoost JSON.
//!
//! What they are fitted to is a [`Goal`]: the log-odds of an outcome, or its log hazard ratio (`hazard.rs`).
//!
//! `model.json` of a bundle is a file that XGBoost itself loads, so a model can leave this
//! program, and one from outside can come in by the same door. Scoring is an [`Ensemble`]
//! of the decoded trees: f64 sums of XGBoost's f32 leaves, within 1e-6 of its risks.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use hessboost::data::ViewCuts;
use hessboost::error::HessboostError;
use hessboost::metric::EvalMetric;
use hessboost::model::{BoostedModel, ModelFormat};
use hessboost::objective::{Objective, RegLoss};
use hessboost::prelude::{DMatrix, Trainer, TrainingParams, TreeMethod};
use serde::Deserialize;

use super::error::guarded;
use super::jobs::{at_once, side_by_side};
use super::random::{Parts, seeds};
use super::trees::{Ensemble, Tree};
use super::{Attribution, BoostingHyper, Family, Link, Matrix, Model, ModelError};

/// Share of the training subjects that early stopping watches.
const WATCHED: f64 = 0.2;
/// Fewest rows of each outcome among them for their loss to mean something.
const FEWEST: usize = 10;
/// Objectives whose margin is log-odds.
pub(super) const LOG_ODDS: [&str; 3] = ["binary:logistic", "reg:logistic", "binary:logitraw"];

/// What trees are fitted to.
#[derive(Debug)]
pub(super) struct Goal<'a> {
    pub(super) family: Family,
    /// Whether each row has the outcome, which what is held back to judge by must have in rows enough.
    pub(super) labels: &'a [bool],
    /// What the objective takes for the rows' labels.
    pub(super) targets: Vec<f32>,
    pub(super) objective: Objective,
    /// What early stopping watches.
    pub(super) metric: EvalMetric,
}

impl<'a> Goal<'a> {
    /// The log-odds of the labels.
    pub(super) fn log_odds(labels: &'a [bool]) -> Goal<'a> {
        Goal {
            family: Family::Boosting,
            labels,
            targets: labels.iter().map(|&label| f32::from(u8::from(label))).collect(),
            objective: Objective::BinaryLogistic(RegLoss::default()),
            metric: EvalMetric::LogLoss,
        }
    }

    fn problem(&self, error: HessboostError) -> ModelError {
        ModelError::fit(self.family, error)
    }

    /// The rows with what the objective takes for their labels.
    fn table(&self, x: &Matrix) -> Result<DMatrix, ModelError> {
        let table = DMatrix::from_dense(x.values(), x.rows(), x.columns());
        table.and_then(|table| table.with_labels(&self.targets)).map_err(|e| self.problem(e))
    }
}

/// A fitted or imported model.
#[derive(Clone, Debug)]
pub(super) struct Boosted {
    /// The XGBoost JSON the ensemble was decoded from, saved as it came.
    json: Vec<u8>,
    ensemble: Ensemble,
}

impl Boosted {
    /// Fits on raw rows: the average of `bags` models, which is one ensemble again, with all their trees. Each draws
    /// its own rows and columns and finds its own number of rounds; the largest is returned too.
    ///
    /// # Errors
    /// [`ModelError::Fit`] if hessboost refuses.
    pub(super) fn fit(
        goal: &Goal<'_>,
        hyper: &BoostingHyper,
        seed: u64,
        x: &Matrix,
        groups: Option<&[i64]>,
    ) -> Result<(Boosted, usize), ModelError> {
        let problem = |e: HessboostError| goal.problem(e);
        guarded(goal.family, || {
            let table = goal.table(x)?;
            // hessboost's trees are the same on any number of threads; a small table keeps but one of them busy.
            let fits = if hyper.patience > 0 { 2 * hyper.bags } else { hyper.bags };
            let at_once = at_once(x).min(fits);
            let threads = (rayon::current_num_threads() / at_once).max(1);
            let bag = |seed| Bag::new(goal, hyper, seed, threads, &table, groups);
            let bags: Vec<Bag<'_>> = seeds(seed, hyper.bags).into_iter().map(bag).collect::<Result<_, ModelError>>()?;
            let watches = bags.iter().filter(|bag| bag.watched.is_some()).map(|bag| (bag, false));
            let jobs: Vec<(&Bag<'_>, bool)> = watches.chain(bags.iter().map(|bag| (bag, true))).collect();
            let work = |&(bag, is_whole): &(&Bag<'_>, bool)| {
                if is_whole { bag.whole().map(Some) } else { bag.watch().map(|()| None) }
            };
            let done = side_by_side(at_once, &jobs, work, &mut |_, _| {});
            let whole = done.into_iter().collect::<Result<Vec<Option<BoostedModel>>, ModelError>>()?;
            let cut = |(bag, whole): (&Bag<'_>, BoostedModel)| whole.slice(..bag.rounds(), 1).map_err(problem);
            let models: Vec<BoostedModel> =
                bags.iter().zip(whole.into_iter().flatten()).map(cut).collect::<Result<_, ModelError>>()?;
            let model = BoostedModel::average(&models).map_err(problem)?;
            let rounds = bags.iter().map(Bag::rounds).max().unwrap_or_default();
            let json = model.encode(ModelFormat::XgboostJson).map_err(problem)?;
            // Decoded from the very bytes that are saved: a load cannot differ.
            let boosted = Boosted::decode(json, x.columns(), &[goal.objective.name()])
                .map_err(|reason| ModelError::fit(goal.family, reason))?;
            Ok((boosted, rounds))
        })
    }

    /// Reads XGBoost JSON over `columns` features that was fitted for one of `objectives`.
    ///
    /// Where the model carries the best iteration of an early stopping, the trees after it
    /// are left out, as XGBoost's own scikit-learn interface does.
    ///
    /// # Errors
    /// A reason if it is no such model.
    pub(super) fn decode(json: Vec<u8>, columns: usize, objectives: &[&str]) -> Result<Boosted, String> {
        let model = std::panic::catch_unwind(|| BoostedModel::decode(&json, ModelFormat::XgboostJson))
            .map_err(|_| "reading it made hessboost panic".to_owned())?
            .map_err(|e| e.to_string())?;
        let objective = model.objective().name();
        if !objectives.contains(&objective) {
            return Err(format!("its objective is {objective}; needed is {}", objectives.join(" or ")));
        }
        if model.n_features() != columns {
            return Err(format!("it takes {} features, {columns} are named", model.n_features()));
        }
        if model.linear().is_some() || model.n_outputs() != 1 || model.has_vector_leaves() {
            return Err("only tree boosters with one output are taken".to_owned());
        }
        if model.trees().iter().any(|tree| tree.has_categorical_splits() || tree.linear_leaves().is_some()) {
            return Err(
                "splits on categories and linear leaves are not supported; encode categories as numbers".to_owned()
            );
        }
        let used = match model.best_iteration() {
            Some(best) => best.saturating_add(1).saturating_mul(model.trees_per_iteration()),
            None => usize::MAX,
        };
        let trees =
            model.trees().iter().zip(model.tree_weights()).take(used).map(|(tree, weight)| to_tree(tree, weight));
        let ensemble = Ensemble::new(columns, f64::from(model.base_score()), 1.0, trees.collect())?;
        Ok(Boosted { json, ensemble })
    }
}

impl Model for Boosted {
    fn columns(&self) -> usize {
        self.ensemble.columns()
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        self.ensemble.margins(rows, out);
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        Attribution::exact(self.ensemble.base(), self.ensemble.shap(row))
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        Ok(self.json.clone())
    }
}

/// The feature names written in XGBoost JSON; empty where there are none.
///
/// # Errors
/// A reason if it is not JSON of that shape.
pub(super) fn feature_names(json: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct File {
        learner: Learner,
    }
    #[derive(Deserialize)]
    struct Learner {
        #[serde(default)]
        feature_names: Vec<String>,
    }
    let file: File = serde_json::from_slice(json).map_err(|e| format!("it is not XGBoost JSON: {e}"))?;
    Ok(file.learner.feature_names)
}

/// One of the models that are averaged. Two fits make it, which may run side by side: one finds the number of rounds on
/// subjects that it holds back; one on all rows is the model, and goes on until the number is known, to be cut there.
struct Bag<'a> {
    goal: &'a Goal<'a>,
    params: TrainingParams,
    table: &'a DMatrix,
    /// What the first fit is of; none where the number of rounds is given.
    watched: Option<Watched>,
    /// The number of rounds; the most, until it is known.
    rounds: AtomicUsize,
}

/// A part of the rows to fit on, and the others to watch.
struct Watched {
    kept: DMatrix,
    held: DMatrix,
    /// Rounds without a better loss that end the fit.
    patience: NonZeroUsize,
}

impl<'a> Bag<'a> {
    fn new(
        goal: &'a Goal<'a>,
        hyper: &BoostingHyper,
        seed: u64,
        threads: usize,
        table: &'a DMatrix,
        groups: Option<&[i64]>,
    ) -> Result<Bag<'a>, ModelError> {
        let problem = |e: HessboostError| goal.problem(e);
        let params = TrainingParams::builder()
            .objective(goal.objective.clone())
            .eval_metric(goal.metric.clone())
            .tree_method(TreeMethod::Hist)
            .max_bin(hyper.bins)
            .max_depth(hyper.depth)
            .eta(hyper.eta)
            .subsample(hyper.subsample)
            .colsample_bytree(hyper.colsample)
            .min_child_weight(hyper.min_child_weight)
            .lambda(hyper.lambda)
            .seed(seed)
            // A pool of its own: from outside of one, each of a tree's many small steps would wait for another thread.
            .nthread(threads)
            .build()
            .map_err(problem)?;
        let (mut watched, mut rounds) = (None, hyper.rounds);
        if let Some(patience) = NonZeroUsize::new(hyper.patience) {
            let parts = Parts::new(goal.labels, groups, WATCHED, seed);
            if parts.can_judge(goal.labels, FEWEST) {
                // In the bins of the whole table, which is put in bins once.
                let part = |rows: &[usize]| table.select_rows_with_cuts(rows, ViewCuts::Source).map_err(problem);
                watched = Some(Watched { kept: part(&parts.kept)?, held: part(&parts.held)?, patience });
            } else {
                rounds = hyper.rounds_unwatched.min(hyper.rounds);
            }
        }
        Ok(Bag { goal, params, table, watched, rounds: AtomicUsize::new(rounds) })
    }

    fn rounds(&self) -> usize {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Finds the number of rounds.
    fn watch(&self) -> Result<(), ModelError> {
        let Some(Watched { kept, held, patience }) = &self.watched else { return Ok(()) };
        let trainer = Trainer::new(&self.params, kept, self.rounds()).eval(held, "held");
        let fitted = trainer.early_stopping_rounds(*patience).train();
        let model = fitted.map(|fitted| fitted.model).map_err(|e| self.goal.problem(e));
        let best = |model: &BoostedModel| model.best_iteration().map_or(model.num_boost_rounds(), |best| best + 1);
        // Of a failure the other fit hears, too: it need not go on.
        self.rounds.store(model.as_ref().map_or(1, best), Ordering::Relaxed);
        model.map(drop)
    }

    /// Fits on all rows, at least as many rounds as are wanted in the end.
    fn whole(&self) -> Result<BoostedModel, ModelError> {
        let trainer = Trainer::new(&self.params, self.table, self.rounds()).on_round(|round| {
            let is_enough = round.iteration() + 1 >= self.rounds();
            if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        Ok(trainer.train().map_err(|e| self.goal.problem(e))?.model)
    }
}

/// One of hessboost's trees; its nodes may stand in any order, leaves weigh `weight`.
fn to_tree(source: &hessboost::tree::RegTree, weight: f32) -> Tree {
    let mut tree = Tree::default();
    for node in source.nodes() {
        tree.push_leaf(f64::from(weight * node.leaf_value), f64::from(node.sum_hess).max(0.0));
    }
    for (at, node) in source.nodes().iter().enumerate() {
        if !node.is_leaf() {
            // Children that do not fit an index become one that the ensemble's check refuses.
            let children = [node.left, node.right].map(|child| u32::try_from(child).unwrap_or(u32::MAX));
            tree.split(at, node.split_feature, node.split_cond, node.default_left, children);
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hessboost::model::Iterations;
    use hessboost::prelude::train;

    use super::super::calibration::sigmoid;
    use super::super::random::Random;
    use super::*;

    fn random_rows(rows: usize, columns: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..rows * columns)
            .map(|_| if random.unit() < 0.3 { f32::NAN } else { (random.unit() * 200.0) as f32 })
            .collect()
    }

    /// What either family is fitted to: the labels, and that a third of the rows without the outcome have it later, as
    /// the first column says.
    fn goals<'a>(x: &Matrix, labels: &'a [bool]) -> [Goal<'a>; 2] {
        let hours = |row: usize| x.row(row)[0].max(1.0) + if labels[row] { 0.0 } else { 100.0 };
        let onsets: Vec<Option<f32>> =
            (0..x.rows()).map(|row| (labels[row] || row % 3 == 0).then(|| hours(row))).collect();
        [Goal::log_odds(labels), Goal::log_hazard(labels, Some(&onsets))]
    }

    /// Risks of hessboost, which equal XGBoost's bit by bit (measured in `research/spikes.md`).
    fn theirs(json: &[u8], rows: &[f32]) -> Vec<f32> {
        let model = BoostedModel::decode(json, ModelFormat::XgboostJson).unwrap();
        model.predict_rows(rows, Iterations::Best).unwrap().as_slice().to_vec()
    }

    #[test]
    fn an_xgboost_file_scores_as_xgboost_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/peers/model.json");
        let Ok(json) = std::fs::read(path) else {
            println!("skipped: no {path}");
            return;
        };
        let boosted = Boosted::decode(json.clone(), 188, &LOG_ODDS).unwrap();
        assert_eq!(boosted.ensemble.trees().len(), 300);
        assert_eq!(feature_names(&json).unwrap(), Vec::<String>::new());
        let rows = random_rows(2_000, 188, 1);
        let mut margins = Vec::new();
        boosted.margins(&rows, &mut margins);
        for (margin, want) in margins.iter().zip(theirs(&json, &rows)) {
            assert!((sigmoid(*margin) - f64::from(want)).abs() < 1e-6);
        }
        assert!(Boosted::decode(json, 187, &LOG_ODDS).unwrap_err().contains("188 features"));
    }

    #[test]
    fn a_fit_equals_its_library_and_its_shap_values() {
        let columns = 8;
        let x = Matrix::from_values(columns, random_rows(1_200, columns, 2)).unwrap();
        let labels: Vec<bool> = (0..1_200).map(|row| x.row(row)[0] > 120.0 || x.row(row)[1] < 40.0).collect();
        let hyper = BoostingHyper { rounds: 120, eta: 0.1, ..BoostingHyper::default() };
        let fresh = random_rows(400, columns, 3);
        let table = DMatrix::from_dense(&fresh, 400, columns).unwrap();
        for goal in goals(&x, &labels) {
            let (boosted, rounds) = Boosted::fit(&goal, &hyper, 4, &x, None).unwrap();
            assert_eq!(boosted.ensemble.trees().len(), rounds);
            let mut margins = Vec::new();
            boosted.margins(&fresh, &mut margins);
            for (margin, want) in margins.iter().zip(theirs(&boosted.json, &fresh)) {
                let want = f64::from(want);
                match goal.family {
                    // A hazard ratio has no upper end.
                    Family::Hazard => assert!((margin.exp() / want - 1.0).abs() < 1e-5, "{margin} {want}"),
                    _ => assert!((sigmoid(*margin) - want).abs() < 1e-6),
                }
            }
            let model = BoostedModel::decode(&boosted.json, ModelFormat::XgboostJson).unwrap();
            let theirs = model.predict_contribs(&table, Iterations::Best).unwrap();
            let theirs = theirs.as_slice().chunks(columns + 1);
            for ((row, margin), want) in fresh.chunks(columns).zip(&margins).zip(theirs).take(100) {
                let Attribution { base, contributions, .. } = boosted.attribute(row);
                assert!((base + contributions.iter().sum::<f64>() - margin).abs() < 1e-9);
                for (found, want) in contributions.iter().zip(want) {
                    assert!((found - f64::from(*want)).abs() < 1e-4, "{found} {want}");
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let x = Matrix::from_values(5, random_rows(400, 5, 9)).unwrap();
        let labels: Vec<bool> = (0..400).map(|row| x.row(row)[2] > 100.0).collect();
        for goal in goals(&x, &labels) {
            let fit = |seed| Boosted::fit(&goal, &BoostingHyper::default(), seed, &x, None).unwrap().0.json;
            assert_eq!(fit(1), fit(1));
            assert_ne!(fit(1), fit(2));
        }
    }

    #[test]
    fn the_number_of_cores_does_not_matter() {
        let x = Matrix::from_values(5, random_rows(400, 5, 9)).unwrap();
        let labels: Vec<bool> = (0..400).map(|row| x.row(row)[2] > 100.0).collect();
        let goals = goals(&x, &labels);
        for (bags, goal) in [1, 3].into_iter().flat_map(|bags| goals.iter().map(move |goal| (bags, goal))) {
            let hyper = BoostingHyper { rounds: 80, patience: 10, eta: 0.2, bags, ..BoostingHyper::default() };
            let [one, four] = [1, 4].map(|cores| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build().unwrap();
                pool.install(|| Boosted::fit(goal, &hyper, 6, &x, None)).unwrap()
            });
            assert!(one.1 > 1 && one.1 < 80, "{} rounds", one.1);
            assert_eq!((one.0.json, one.1), (four.0.json, four.1));
        }
    }

    #[test]
    fn several_are_averaged_and_each_tells_otherwise() {
        let x = Matrix::from_values(4, random_rows(500, 4, 5)).unwrap();
        let labels: Vec<bool> = (0..500).map(|row| x.row(row)[1] > 90.0 || x.row(row)[2] > 170.0).collect();
        let hyper = BoostingHyper { rounds: 60, eta: 0.1, bags: 3, ..BoostingHyper::default() };
        let alone = BoostingHyper { bags: 1, ..hyper };
        let margins = |model: &Boosted| {
            let mut margins = Vec::new();
            model.margins(x.values(), &mut margins);
            margins
        };
        for goal in goals(&x, &labels) {
            let (averaged, rounds) = Boosted::fit(&goal, &hyper, 6, &x, None).unwrap();
            let each: Vec<(Boosted, usize)> =
                seeds(6, 3).into_iter().map(|seed| Boosted::fit(&goal, &alone, seed, &x, None).unwrap()).collect();
            assert_eq!(rounds, each.iter().map(|(_, rounds)| *rounds).max().unwrap());
            assert_eq!(averaged.ensemble.trees().len(), each.iter().map(|(_, rounds)| rounds).sum::<usize>());
            let each: Vec<Vec<f64>> = each.iter().map(|(model, _)| margins(model)).collect();
            assert!(each[0] != each[1] && each[1] != each[2]);
            for (row, margin) in margins(&averaged).into_iter().enumerate() {
                let mean = each.iter().map(|one| one[row]).sum::<f64>() / 3.0;
                assert!((margin - mean).abs() < 1e-5, "{margin} {mean}");
                let Attribution { base, contributions, .. } = averaged.attribute(x.row(row));
                assert!((base + contributions.iter().sum::<f64>() - margin).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn what_was_held_back_is_fitted_in_the_end() {
        let x = Matrix::from_values(3, random_rows(500, 3, 8)).unwrap();
        let labels: Vec<bool> = (0..500).map(|row| row % 5 == 0 || x.row(row)[0] > 150.0).collect();
        let hyper = BoostingHyper { rounds: 20, subsample: 1.0, ..BoostingHyper::default() };
        let (boosted, _) = Boosted::fit(&Goal::log_odds(&labels), &hyper, 1, &x, None).unwrap();
        // Each row of the first tree has the variance of the outcome for its hessian.
        let share = labels.iter().filter(|&&label| label).count() as f64 / 500.0;
        let cover = boosted.ensemble.trees()[0].cover[0];
        assert!((cover / (500.0 * share * (1.0 - share)) - 1.0).abs() < 0.01, "{cover} {share}");
    }

    #[test]
    fn a_column_is_split_between_its_bins_only() {
        let x = Matrix::from_values(2, random_rows(600, 2, 7)).unwrap();
        let labels: Vec<bool> = (0..600).map(|row| x.row(row)[0] + x.row(row)[1] > 200.0).collect();
        let thresholds = |bins| {
            let hyper = BoostingHyper { rounds: 80, eta: 0.1, bins, ..BoostingHyper::default() };
            let (boosted, _) = Boosted::fit(&Goal::log_odds(&labels), &hyper, 3, &x, None).unwrap();
            let mut found = BTreeSet::new();
            for tree in boosted.ensemble.trees() {
                found.extend((0..tree.len()).filter(|&at| !tree.is_leaf(at)).map(|at| tree.threshold[at].to_bits()));
            }
            found.len()
        };
        // Of a column one a bin, and one below all values, which tells the missing ones from the rest.
        assert!(thresholds(5) <= 2 * 6 && thresholds(200) > 2 * 6, "{} {}", thresholds(5), thresholds(200));
    }

    #[test]
    fn either_family_takes_its_own_objective_alone() {
        let x = Matrix::from_values(2, random_rows(60, 2, 1)).unwrap();
        let labels: Vec<bool> = (0..60).map(|row| row % 4 == 0).collect();
        let hyper = BoostingHyper { rounds: 3, patience: 0, ..BoostingHyper::default() };
        let [odds, hazard] = goals(&x, &labels).map(|goal| Boosted::fit(&goal, &hyper, 1, &x, None).unwrap().0.json);
        assert_eq!(Family::Boosting.decode(&odds, 2).unwrap().encode().unwrap(), odds);
        assert_eq!(Family::Hazard.decode(&hazard, 2).unwrap().encode().unwrap(), hazard);
        let refused = |family: Family, json: &[u8]| family.decode(json, 2).unwrap_err().to_string();
        assert!(refused(Family::Boosting, &hazard).contains("its objective is survival:cox"));
        assert!(refused(Family::Hazard, &odds).contains("its objective is binary:logistic; needed is survival:cox"));
    }

    #[test]
    fn what_is_no_binary_tree_model_is_refused() {
        assert!(Boosted::decode(b"{}".to_vec(), 1, &LOG_ODDS).is_err());
        assert!(Boosted::decode(b"\xff\xfe".to_vec(), 1, &LOG_ODDS).is_err());
        assert!(Boosted::decode("[".repeat(100_000).into_bytes(), 1, &LOG_ODDS).is_err());
        let x = Matrix::from_values(2, random_rows(60, 2, 1)).unwrap();
        let params = TrainingParams::builder().build().unwrap();
        let table = Goal::log_odds(&[true; 60]).table(&x).unwrap();
        let regression = train(&params, &table, 2).unwrap().encode(ModelFormat::XgboostJson).unwrap();
        assert!(Boosted::decode(regression, 2, &LOG_ODDS).unwrap_err().contains("reg:squarederror"));
    }
}
