//! Gradient boosted trees: fitted by hessboost, stored as XGBoost JSON.
//!
//! `model.json` of a bundle is a file that XGBoost itself loads, so a model can leave this
//! program, and one from outside can come in by the same door. Scoring is an [`Ensemble`]
//! of the decoded trees: f64 sums of XGBoost's f32 leaves, within 1e-6 of its risks.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use hessboost::data::ViewCuts;
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
/// Fewest rows of each outcome among them for their log loss to mean something.
const FEWEST: usize = 10;
/// Objectives whose margin is log-odds.
const OBJECTIVES: [&str; 3] = ["binary:logistic", "reg:logistic", "binary:logitraw"];

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
        hyper: &BoostingHyper,
        seed: u64,
        x: &Matrix,
        labels: &[bool],
        groups: Option<&[i64]>,
    ) -> Result<(Boosted, usize), ModelError> {
        guarded(Family::Boosting, || {
            let table = to_hessboost(x, labels)?;
            // hessboost's trees are the same on any number of threads; a small table keeps but one of them busy.
            let fits = if hyper.patience > 0 { 2 * hyper.bags } else { hyper.bags };
            let at_once = at_once(x).min(fits);
            let threads = (rayon::current_num_threads() / at_once).max(1);
            let bag = |seed| Bag::new(hyper, seed, threads, &table, labels, groups);
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
            let boosted = Boosted::decode(json, x.columns()).map_err(problem)?;
            Ok((boosted, rounds))
        })
    }

    /// Reads XGBoost JSON of a binary classifier over `columns` features.
    ///
    /// Where the model carries the best iteration of an early stopping, the trees after it
    /// are left out, as XGBoost's own scikit-learn interface does.
    ///
    /// # Errors
    /// A reason if it is no such model.
    pub(super) fn decode(json: Vec<u8>, columns: usize) -> Result<Boosted, String> {
        let model = std::panic::catch_unwind(|| BoostedModel::decode(&json, ModelFormat::XgboostJson))
            .map_err(|_| "reading it made hessboost panic".to_owned())?
            .map_err(|e| e.to_string())?;
        let objective = model.objective().name();
        if !OBJECTIVES.contains(&objective) {
            return Err(format!("its objective is {objective}; needed is one of {}", OBJECTIVES.join(", ")));
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

fn problem(reason: impl std::fmt::Display) -> ModelError {
    ModelError::fit(Family::Boosting, reason)
}

fn to_hessboost(x: &Matrix, labels: &[bool]) -> Result<DMatrix, ModelError> {
    let targets: Vec<f32> = labels.iter().map(|&label| f32::from(u8::from(label))).collect();
    let table = DMatrix::from_dense(x.values(), x.rows(), x.columns()).map_err(problem)?;
    table.with_labels(&targets).map_err(problem)
}

/// One of the models that are averaged. Two fits make it, which may run side by side: one finds the number of rounds on
/// subjects that it holds back; one on all rows is the model, and goes on until the number is known, to be cut there.
struct Bag<'a> {
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
        hyper: &BoostingHyper,
        seed: u64,
        threads: usize,
        table: &'a DMatrix,
        labels: &[bool],
        groups: Option<&[i64]>,
    ) -> Result<Bag<'a>, ModelError> {
        let params = TrainingParams::builder()
            .objective(Objective::BinaryLogistic(RegLoss::default()))
            .eval_metric(EvalMetric::LogLoss)
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
            let parts = Parts::new(labels, groups, WATCHED, seed);
            if parts.can_judge(labels, FEWEST) {
                // In the bins of the whole table, which is put in bins once.
                let part = |rows: &[usize]| table.select_rows_with_cuts(rows, ViewCuts::Source).map_err(problem);
                watched = Some(Watched { kept: part(&parts.kept)?, held: part(&parts.held)?, patience });
            } else {
                rounds = hyper.rounds_unwatched.min(hyper.rounds);
            }
        }
        Ok(Bag { params, table, watched, rounds: AtomicUsize::new(rounds) })
    }

    fn rounds(&self) -> usize {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Finds the number of rounds.
    fn watch(&self) -> Result<(), ModelError> {
        let Some(Watched { kept, held, patience }) = &self.watched else { return Ok(()) };
        let trainer = Trainer::new(&self.params, kept, self.rounds()).eval(held, "held");
        let model = trainer.early_stopping_rounds(*patience).train().map(|fitted| fitted.model).map_err(problem);
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
        Ok(trainer.train().map_err(problem)?.model)
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
        let boosted = Boosted::decode(json.clone(), 188).unwrap();
        assert_eq!(boosted.ensemble.trees().len(), 300);
        assert_eq!(feature_names(&json).unwrap(), Vec::<String>::new());
        let rows = random_rows(2_000, 188, 1);
        let mut margins = Vec::new();
        boosted.margins(&rows, &mut margins);
        for (margin, want) in margins.iter().zip(theirs(&json, &rows)) {
            assert!((sigmoid(*margin) - f64::from(want)).abs() < 1e-6);
        }
        assert!(Boosted::decode(json, 187).unwrap_err().contains("188 features"));
    }

    #[test]
    fn a_fit_equals_its_library_and_its_shap_values() {
        let columns = 8;
        let x = Matrix::from_values(columns, random_rows(1_200, columns, 2)).unwrap();
        let labels: Vec<bool> = (0..1_200).map(|row| x.row(row)[0] > 120.0 || x.row(row)[1] < 40.0).collect();
        let hyper = BoostingHyper { rounds: 120, eta: 0.1, ..BoostingHyper::default() };
        let (boosted, rounds) = Boosted::fit(&hyper, 4, &x, &labels, None).unwrap();
        assert_eq!(boosted.ensemble.trees().len(), rounds);

        let fresh = random_rows(400, columns, 3);
        let mut margins = Vec::new();
        boosted.margins(&fresh, &mut margins);
        for (margin, want) in margins.iter().zip(theirs(&boosted.json, &fresh)) {
            assert!((sigmoid(*margin) - f64::from(want)).abs() < 1e-6);
        }
        let model = BoostedModel::decode(&boosted.json, ModelFormat::XgboostJson).unwrap();
        let table = DMatrix::from_dense(&fresh, 400, columns).unwrap();
        let contributions = model.predict_contribs(&table, Iterations::Best).unwrap();
        for (row, want) in fresh.chunks(columns).zip(contributions.as_slice().chunks(columns + 1)).take(100) {
            for (found, want) in boosted.attribute(row).contributions.iter().zip(want) {
                assert!((found - f64::from(*want)).abs() < 1e-4, "{found} {want}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let x = Matrix::from_values(5, random_rows(400, 5, 9)).unwrap();
        let labels: Vec<bool> = (0..400).map(|row| x.row(row)[2] > 100.0).collect();
        let fit = |seed| Boosted::fit(&BoostingHyper::default(), seed, &x, &labels, None).unwrap().0.json;
        assert_eq!(fit(1), fit(1));
        assert_ne!(fit(1), fit(2));
    }

    #[test]
    fn the_number_of_cores_does_not_matter() {
        let x = Matrix::from_values(5, random_rows(400, 5, 9)).unwrap();
        let labels: Vec<bool> = (0..400).map(|row| x.row(row)[2] > 100.0).collect();
        for bags in [1, 3] {
            let hyper = BoostingHyper { rounds: 80, patience: 10, eta: 0.2, bags, ..BoostingHyper::default() };
            let [one, four] = [1, 4].map(|cores| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build().unwrap();
                pool.install(|| Boosted::fit(&hyper, 6, &x, &labels, None)).unwrap()
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
        let (averaged, rounds) = Boosted::fit(&hyper, 6, &x, &labels, None).unwrap();
        let alone = BoostingHyper { bags: 1, ..hyper };
        let each: Vec<(Boosted, usize)> =
            seeds(6, 3).into_iter().map(|seed| Boosted::fit(&alone, seed, &x, &labels, None).unwrap()).collect();
        assert_eq!(rounds, each.iter().map(|(_, rounds)| *rounds).max().unwrap());
        assert_eq!(averaged.ensemble.trees().len(), each.iter().map(|(_, rounds)| rounds).sum::<usize>());
        let margins = |model: &Boosted| {
            let mut margins = Vec::new();
            model.margins(x.values(), &mut margins);
            margins
        };
        let each: Vec<Vec<f64>> = each.iter().map(|(model, _)| margins(model)).collect();
        assert!(each[0] != each[1] && each[1] != each[2]);
        for (row, margin) in margins(&averaged).into_iter().enumerate() {
            let mean = each.iter().map(|one| one[row]).sum::<f64>() / 3.0;
            assert!((margin - mean).abs() < 1e-5, "{margin} {mean}");
            let Attribution { base, contributions, .. } = averaged.attribute(x.row(row));
            assert!((base + contributions.iter().sum::<f64>() - margin).abs() < 1e-9);
        }
    }

    #[test]
    fn what_was_held_back_is_fitted_in_the_end() {
        let x = Matrix::from_values(3, random_rows(500, 3, 8)).unwrap();
        let labels: Vec<bool> = (0..500).map(|row| row % 5 == 0 || x.row(row)[0] > 150.0).collect();
        let hyper = BoostingHyper { rounds: 20, subsample: 1.0, ..BoostingHyper::default() };
        let (boosted, _) = Boosted::fit(&hyper, 1, &x, &labels, None).unwrap();
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
            let (boosted, _) = Boosted::fit(&hyper, 3, &x, &labels, None).unwrap();
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
    fn what_is_no_binary_tree_model_is_refused() {
        assert!(Boosted::decode(b"{}".to_vec(), 1).is_err());
        assert!(Boosted::decode(b"\xff\xfe".to_vec(), 1).is_err());
        assert!(Boosted::decode("[".repeat(100_000).into_bytes(), 1).is_err());
        let x = Matrix::from_values(2, random_rows(60, 2, 1)).unwrap();
        let params = TrainingParams::builder().build().unwrap();
        let table = to_hessboost(&x, &[true; 60]).unwrap();
        let regression = train(&params, &table, 2).unwrap().encode(ModelFormat::XgboostJson).unwrap();
        assert!(Boosted::decode(regression, 2).unwrap_err().contains("reg:squarederror"));
    }
}
