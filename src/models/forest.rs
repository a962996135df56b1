//! Random forest: smartcore's regressor on 0/1, whose mean leaf is a probability.
//!
//! smartcore's classifier hides its votes, its forests are fitted by one thread and scored
//! slowly. So sub-forests are fitted side by side, their nodes are read through serde once
//! and scored as an [`Ensemble`]; a test holds that to smartcore's own `predict`, bit by bit.
//!
//! smartcore moves the rows of every column at every split, however few columns it tries there. So each sub-forest
//! sees a share of the columns only (random subspaces: Ho 1998; random patches: Louppe and Geurts 2012).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::error::guarded;
use super::files::MODEL;
use super::random::{Random, mix};
use super::trees::{Ensemble, Tree};
use super::{Attribution, Family, ForestHyper, Link, Matrix, Model, ModelError};

/// Sub-forests; a fixed number, so that a seed gives the same forest on any machine.
const PARTS: usize = 8;
/// Columns that a sub-forest sees at the least, if there are so many: to see fewer saves next to no time, and of few
/// columns those that tell only together would seldom be seen together.
const FEWEST: usize = 32;

type Regressor = RandomForestRegressor<f32, f64, DenseMatrix<f32>, Vec<f64>>;

/// A fitted forest. Its margin is the probability itself ([`Link::Probability`]).
#[derive(Clone, Debug)]
pub(super) struct Forest {
    ensemble: Ensemble,
}

/// A sub-forest that is to be fitted.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Part {
    seed: u64,
    trees: usize,
    /// The columns that it sees, ascending.
    seen: Vec<usize>,
    /// How many of them it tries at a split.
    tried: usize,
}

/// The forest in `model.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<T> {
    columns: usize,
    trees: T,
}

/// smartcore's serde form, as far as it is read.
#[derive(Deserialize)]
struct Fitted {
    forest_regressor: FittedForest,
}

#[derive(Deserialize)]
struct FittedForest {
    trees: Vec<FittedTree>,
}

#[derive(Deserialize)]
struct FittedTree {
    nodes: Vec<FittedNode>,
}

/// A row goes to `true_child` where `x[split_feature] <= split_value`; a leaf has none.
#[derive(Deserialize)]
struct FittedNode {
    output: f64,
    split_feature: u32,
    split_value: Option<f64>,
    true_child: Option<u32>,
    false_child: Option<u32>,
}

impl Forest {
    /// Fits on preprocessed rows (no gaps: a NaN would make smartcore's sort run astray).
    ///
    /// # Errors
    /// [`ModelError::Fit`] if smartcore refuses.
    pub(super) fn fit(hyper: &ForestHyper, seed: u64, x: &Matrix, labels: &[bool]) -> Result<Forest, ModelError> {
        guarded(Family::Forest, || {
            let problem = |reason: String| ModelError::fit(Family::Forest, reason);
            let targets = targets(labels);
            let fitted: Vec<Vec<Tree>> = Part::deal(hyper, seed, x.columns())
                .par_iter()
                .map(|part| {
                    let fitted = part.fit(hyper, &to_smartcore(x, &part.seen)?, &targets)?;
                    read_trees(&fitted, x, &part.seen).map_err(problem)
                })
                .collect::<Result<_, ModelError>>()?;
            let trees: Vec<Tree> = fitted.into_iter().flatten().collect();
            let divisor = trees.len() as f64;
            let ensemble = Ensemble::new(x.columns(), 0.0, divisor, trees).map_err(problem)?;
            Ok(Forest { ensemble })
        })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable forest.
    pub(super) fn decode(bytes: &[u8]) -> Result<Forest, ModelError> {
        let stored: Stored<Vec<Tree>> = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        let divisor = stored.trees.len().max(1) as f64;
        let ensemble = Ensemble::new(stored.columns, 0.0, divisor, stored.trees)
            .map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        Ok(Forest { ensemble })
    }
}

impl Model for Forest {
    fn columns(&self) -> usize {
        self.ensemble.columns()
    }

    fn link(&self) -> Link {
        Link::Probability
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        self.ensemble.margins(rows, out);
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        Attribution::exact(self.ensemble.base(), self.ensemble.shap(row))
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        let stored = Stored { columns: self.columns(), trees: self.ensemble.trees() };
        serde_json::to_vec(&stored).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

impl Part {
    /// The sub-forests of a forest over so many columns.
    ///
    /// Each draws its columns with its own seed from those that the parts before it saw least often, so that all are
    /// seen equally often, or once more; none is left out where the parts see as many as there are, taken together.
    fn deal(hyper: &ForestHyper, seed: u64, columns: usize) -> Vec<Part> {
        // Without a number as many as smartcore itself would try of all columns.
        let tried = hyper.tried.unwrap_or((columns as f64).sqrt() as usize);
        let share = (hyper.colsample * columns as f64).ceil() as usize;
        let count = share.max(tried).max(FEWEST).min(columns);
        let mut times = vec![0usize; columns];
        let part = |part: usize| {
            let seed = mix(seed ^ mix(part as u64 + 1));
            let mut seen: Vec<usize> = (0..columns).collect();
            Random::new(seed).shuffle(&mut seen);
            // Sorting keeps the random order of those seen equally often.
            seen.sort_by_key(|&column| times[column]);
            seen.truncate(count);
            seen.sort_unstable();
            seen.iter().for_each(|&column| times[column] += 1);
            let trees = hyper.trees / PARTS + usize::from(part < hyper.trees % PARTS);
            Part { seed, trees, seen, tried: tried.min(count) }
        };
        (0..PARTS.min(hyper.trees)).map(part).collect()
    }

    /// Fits it on the table of the columns that it sees.
    fn fit(&self, hyper: &ForestHyper, table: &DenseMatrix<f32>, targets: &Vec<f64>) -> Result<Regressor, ModelError> {
        let parameters = RandomForestRegressorParameters::default()
            .with_n_trees(self.trees)
            .with_max_depth(hyper.depth)
            .with_min_samples_leaf(hyper.min_leaf)
            .with_min_samples_split(hyper.min_leaf.saturating_mul(2))
            .with_m(self.tried)
            .with_seed(self.seed);
        Regressor::fit(table, targets, parameters).map_err(|e| ModelError::fit(Family::Forest, e))
    }
}

/// Some columns as smartcore takes them (a column's values together: it works by column).
fn to_smartcore(x: &Matrix, seen: &[usize]) -> Result<DenseMatrix<f32>, ModelError> {
    let mut values = Vec::with_capacity(x.rows() * seen.len());
    for &column in seen {
        values.extend(x.column(column));
    }
    DenseMatrix::new(x.rows(), seen.len(), values, true).map_err(|e| ModelError::fit(Family::Forest, e))
}

/// The outcomes as smartcore takes them.
fn targets(labels: &[bool]) -> Vec<f64> {
    labels.iter().map(|&label| f64::from(u8::from(label))).collect()
}

/// Reads the nodes of a sub-forest that saw some columns of `x`, as trees over all of them, and counts how many of its
/// rows pass each.
fn read_trees(fitted: &Regressor, x: &Matrix, seen: &[usize]) -> Result<Vec<Tree>, String> {
    let text = serde_json::to_vec(fitted).map_err(|e| e.to_string())?;
    let fitted: Fitted = serde_json::from_slice(&text).map_err(|e| format!("smartcore's nodes changed: {e}"))?;
    fitted.forest_regressor.trees.iter().map(|tree| read_tree(tree, x, seen)).collect()
}

fn read_tree(fitted: &FittedTree, x: &Matrix, seen: &[usize]) -> Result<Tree, String> {
    let mut tree = Tree::default();
    for node in &fitted.nodes {
        tree.push_leaf(node.output, 0.0);
    }
    for (at, node) in fitted.nodes.iter().enumerate() {
        match (node.true_child, node.false_child, node.split_value) {
            // A split that smartcore found and then gave up leaves its value behind.
            (None, None, _) => {}
            (Some(left), Some(right), Some(value)) if left != 0 && right != 0 => {
                let column = seen.get(node.split_feature as usize);
                let column = column.ok_or("a split of smartcore's is on a column that it did not see")?;
                tree.split(at, *column as u32, below(value), false, [left, right]);
            }
            _ => return Err("a split of smartcore's has no value or one child only".to_owned()),
        }
    }
    let nodes = tree.len();
    let astray = |at: usize| {
        let children = [tree.left[at], tree.right[at]];
        !tree.is_leaf(at) && children.iter().any(|&child| child as usize >= nodes || child as usize <= at)
    };
    if (0..nodes).any(astray) {
        return Err("a split of smartcore's leads backwards or out of the tree".to_owned());
    }
    for row in 0..x.rows() {
        let (row, mut at) = (x.row(row), 0usize);
        tree.cover[at] += 1.0;
        while !tree.is_leaf(at) {
            at = if tree.goes_left(at, row) { tree.left[at] } else { tree.right[at] } as usize;
            tree.cover[at] += 1.0;
        }
    }
    Ok(tree)
}

/// The f32 `t` for which `x < t` says the same as `f64(x) <= value`, for every f32 `x`.
fn below(value: f64) -> f32 {
    let near = value as f32;
    let floor = if f64::from(near) > value { near.next_down() } else { near };
    floor.next_up()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(rows: usize, columns: usize) -> (Matrix, Vec<bool>) {
        let mut random = Random::new(11);
        let mut x = Matrix::new(columns);
        let mut labels = Vec::new();
        for _ in 0..rows {
            // Coarse values make ties, fine ones thresholds that f32 cannot hold.
            let row: Vec<f32> = (0..columns)
                .map(|i| if i % 2 == 0 { (random.unit() * 9.0).floor() as f32 } else { random.unit() as f32 })
                .collect();
            labels.push(row[0] > 4.0 && row[1] < 0.7 || random.unit() < 0.05);
            x.push_row(&row).unwrap();
        }
        (x, labels)
    }

    #[test]
    fn the_flat_copy_equals_smartcores_own_predict_on_every_row() {
        let columns = 70;
        let ((x, labels), (fresh, _)) = (problem(700, columns), problem(1_500, columns));
        for (colsample, sees) in [(1.0, 70), (0.5, 35)] {
            let hyper = ForestHyper { trees: 160, depth: 12, min_leaf: 2, colsample, ..ForestHyper::default() };
            let part = &Part::deal(&hyper, 5, columns)[3];
            assert_eq!((part.trees, part.seen.len()), (20, sees));
            let fitted = part.fit(&hyper, &to_smartcore(&x, &part.seen).unwrap(), &targets(&labels)).unwrap();
            let trees = read_trees(&fitted, &x, &part.seen).unwrap();
            let forest = Forest { ensemble: Ensemble::new(columns, 0.0, 20.0, trees).unwrap() };
            for rows in [&x, &fresh] {
                let want = fitted.predict(&to_smartcore(rows, &part.seen).unwrap()).unwrap();
                let mut found = Vec::new();
                forest.margins(rows.values(), &mut found);
                assert_eq!(found.len(), want.len());
                for (found, want) in found.iter().zip(&want) {
                    assert_eq!(found.to_bits(), want.to_bits());
                }
            }
        }
    }

    #[test]
    fn a_share_of_one_is_a_forest_of_all_columns_as_smartcore_tries_them() {
        let (x, labels) = problem(200, 70);
        let hyper = ForestHyper { trees: 9, colsample: 1.0, ..ForestHyper::default() };
        let forest = Forest::fit(&hyper, 3, &x, &labels).unwrap();
        let all: Vec<usize> = (0..70).collect();
        let mut want = Vec::new();
        for part in 0..8 {
            let parameters = RandomForestRegressorParameters::default()
                .with_n_trees(if part == 0 { 2 } else { 1 })
                .with_max_depth(16)
                .with_min_samples_leaf(10)
                .with_min_samples_split(20)
                .with_seed(mix(3 ^ mix(part + 1)));
            let fitted = Regressor::fit(&to_smartcore(&x, &all).unwrap(), &targets(&labels), parameters).unwrap();
            want.extend(read_trees(&fitted, &x, &all).unwrap());
        }
        assert_eq!(forest.ensemble.trees(), want);
    }

    #[test]
    fn columns_are_dealt_so_that_each_is_seen_equally_often() {
        for columns in [1, 2, 3, 31, 32, 33, 64, 65, 201, 1_000] {
            for (colsample, tried) in [(0.01, None), (0.125, None), (0.5, None), (0.5, Some(600)), (0.9, None)] {
                let hyper = ForestHyper { colsample, tried, ..ForestHyper::default() };
                let parts = Part::deal(&hyper, 7, columns);
                let least = (colsample * columns as f64).ceil().max(tried.unwrap_or(32) as f64) as usize;
                let mut times = vec![0; columns];
                for part in &parts {
                    assert_eq!(part.seen.len(), least.min(columns), "{columns} {colsample}");
                    assert!(part.seen.windows(2).all(|pair| pair[0] < pair[1]));
                    assert!((1..=part.seen.len()).contains(&part.tried));
                    part.seen.iter().for_each(|&column| times[column] += 1);
                }
                let (fewest, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
                assert!(most - fewest <= 1, "{columns} {colsample}: {fewest} to {most} times");
                assert_eq!(*fewest > 0, parts.len() * least >= columns, "{columns} {colsample}");
                assert_eq!(parts, Part::deal(&hyper, 7, columns));
                let seen = |parts: &[Part]| parts.iter().map(|part| part.seen.clone()).collect::<Vec<_>>();
                assert_eq!(seen(&parts) == seen(&Part::deal(&hyper, 8, columns)), least >= columns);
            }
        }
    }

    #[test]
    fn trees_split_on_what_their_part_sees_and_few_columns_are_enough() {
        let (x, labels) = problem(300, 90);
        let hyper = ForestHyper { trees: 16, colsample: 0.5, ..ForestHyper::default() };
        let forest = Forest::fit(&hyper, 2, &x, &labels).unwrap();
        for (part, trees) in Part::deal(&hyper, 2, 90).iter().zip(forest.ensemble.trees().chunks(2)) {
            assert_eq!(part.seen.len(), 45);
            let mut splits = Vec::new();
            for tree in trees {
                splits.extend((0..tree.len()).filter(|&at| !tree.is_leaf(at)).map(|at| tree.feature[at] as usize));
            }
            assert!(splits.iter().any(|&column| column >= 45));
            assert!(splits.iter().all(|column| part.seen.contains(column)));
        }
        for columns in [1, 2, 3] {
            let forest = Forest::fit(&hyper, 2, &x.leading(columns), &labels).unwrap();
            assert!(forest.columns() == columns && forest.ensemble.trees().iter().all(|tree| tree.len() > 1));
        }
    }

    #[test]
    fn all_sub_forests_are_there_and_differ() {
        let (x, labels) = problem(200, 4);
        let hyper = ForestHyper { trees: 21, ..ForestHyper::default() };
        let forest = Forest::fit(&hyper, 1, &x, &labels).unwrap();
        let trees = forest.ensemble.trees();
        assert_eq!(trees.len(), 21);
        for (i, tree) in trees.iter().enumerate() {
            assert!(trees[..i].iter().all(|other| other != tree), "tree {i} occurs twice");
            assert_eq!(tree.cover[0], 200.0);
        }
        let again = Forest::fit(&hyper, 1, &x, &labels).unwrap();
        assert_eq!(again.ensemble.trees(), trees);
        let loaded = Forest::decode(&forest.encode().unwrap()).unwrap();
        assert_eq!(loaded.ensemble.trees(), trees);
    }

    #[test]
    fn a_damaged_forest_is_refused() {
        for bytes in [
            &br#"{"columns":1,"trees":[]}"#[..],
            br#"{"columns":1,"trees":[{"feature":[0],"threshold":[0.0],"missing_left":[false],"left":[9],"right":[1],"value":[0.0],"cover":[1.0]}]}"#,
            b"[[[[[[",
        ] {
            assert!(matches!(Forest::decode(bytes), Err(ModelError::Corrupt { .. })));
        }
    }

    proptest! {
        #[test]
        fn the_threshold_says_the_same(value in -1e6f64..1e6, steps in -3i32..=3) {
            let mut x = value as f32;
            for _ in 0..steps.abs() {
                x = if steps < 0 { x.next_down() } else { x.next_up() };
            }
            prop_assert_eq!(x < below(value), f64::from(x) <= value);
        }
    }
}
