//! Random forest: smartcore's regressor on 0/1, whose mean leaf is a probability.
//!
//! smartcore's classifier hides its votes, its forests are fitted by one thread and scored
//! slowly. So sub-forests are fitted side by side, their nodes are read through serde once
//! and scored as an [`Ensemble`]; a test holds that to smartcore's own `predict`, bit by bit.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::error::guarded;
use super::files::MODEL;
use super::random::mix;
use super::trees::{Ensemble, Tree};
use super::{Attribution, Family, ForestHyper, Link, Matrix, Model, ModelError};

/// Sub-forests; a fixed number, so that a seed gives the same forest on any machine.
const PARTS: usize = 8;

type Regressor = RandomForestRegressor<f32, f64, DenseMatrix<f32>, Vec<f64>>;

/// A fitted forest. Its margin is the probability itself ([`Link::Probability`]).
#[derive(Clone, Debug)]
pub(super) struct Forest {
    ensemble: Ensemble,
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
            let (table, targets) = to_smartcore(x, labels)?;
            let parts: Vec<Vec<Tree>> = (0..PARTS.min(hyper.trees))
                .into_par_iter()
                .map(|part| {
                    let count = hyper.trees / PARTS + usize::from(part < hyper.trees % PARTS);
                    let fitted = fit_part(hyper, count, mix(seed ^ mix(part as u64 + 1)), &table, &targets)?;
                    read_trees(&fitted, x).map_err(problem)
                })
                .collect::<Result<_, ModelError>>()?;
            let trees: Vec<Tree> = parts.into_iter().flatten().collect();
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

/// The table and the targets as smartcore takes them (columns together: it works by column).
fn to_smartcore(x: &Matrix, labels: &[bool]) -> Result<(DenseMatrix<f32>, Vec<f64>), ModelError> {
    let mut values = Vec::with_capacity(x.values().len());
    for column in 0..x.columns() {
        values.extend(x.column(column));
    }
    let table =
        DenseMatrix::new(x.rows(), x.columns(), values, true).map_err(|e| ModelError::fit(Family::Forest, e))?;
    Ok((table, labels.iter().map(|&label| f64::from(u8::from(label))).collect()))
}

/// Fits one sub-forest.
fn fit_part(
    hyper: &ForestHyper,
    trees: usize,
    seed: u64,
    table: &DenseMatrix<f32>,
    targets: &Vec<f64>,
) -> Result<Regressor, ModelError> {
    let mut parameters = RandomForestRegressorParameters::default()
        .with_n_trees(trees)
        .with_max_depth(hyper.depth)
        .with_min_samples_leaf(hyper.min_leaf)
        .with_min_samples_split(hyper.min_leaf.saturating_mul(2))
        .with_seed(seed);
    if let Some(tried) = hyper.tried {
        parameters = parameters.with_m(tried);
    }
    Regressor::fit(table, targets, parameters).map_err(|e| ModelError::fit(Family::Forest, e))
}

/// Reads the nodes of a sub-forest, and counts how many training rows pass each.
fn read_trees(fitted: &Regressor, x: &Matrix) -> Result<Vec<Tree>, String> {
    let text = serde_json::to_vec(fitted).map_err(|e| e.to_string())?;
    let fitted: Fitted = serde_json::from_slice(&text).map_err(|e| format!("smartcore's nodes changed: {e}"))?;
    fitted.forest_regressor.trees.iter().map(|tree| read_tree(tree, x)).collect()
}

fn read_tree(fitted: &FittedTree, x: &Matrix) -> Result<Tree, String> {
    let mut tree = Tree::default();
    for node in &fitted.nodes {
        tree.push_leaf(node.output, 0.0);
    }
    for (at, node) in fitted.nodes.iter().enumerate() {
        match (node.true_child, node.false_child, node.split_value) {
            // A split that smartcore found and then gave up leaves its value behind.
            (None, None, _) => {}
            (Some(left), Some(right), Some(value)) if left != 0 && right != 0 => {
                tree.split(at, node.split_feature, below(value), false, [left, right]);
            }
            _ => return Err("a split of smartcore's has no value or one child only".to_owned()),
        }
    }
    let (nodes, columns) = (tree.len(), x.columns());
    let astray = |at: usize| {
        !tree.is_leaf(at)
            && (tree.feature[at] as usize >= columns
                || [tree.left[at], tree.right[at]].iter().any(|&child| child as usize >= nodes || child as usize <= at))
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

    use super::super::random::Random;
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
        let (x, labels) = problem(700, 6);
        let (table, targets) = to_smartcore(&x, &labels).unwrap();
        let hyper = ForestHyper { depth: 12, min_leaf: 2, ..ForestHyper::default() };
        let fitted = fit_part(&hyper, 20, 5, &table, &targets).unwrap();
        let trees = read_trees(&fitted, &x).unwrap();
        let forest = Forest { ensemble: Ensemble::new(6, 0.0, 20.0, trees).unwrap() };

        let (fresh, _) = problem(1_500, 6);
        for rows in [&x, &fresh] {
            let (table, _) = to_smartcore(rows, &vec![false; rows.rows()]).unwrap();
            let want = fitted.predict(&table).unwrap();
            let mut found = Vec::new();
            forest.margins(rows.values(), &mut found);
            assert_eq!(found.len(), want.len());
            for (found, want) in found.iter().zip(&want) {
                assert_eq!(found.to_bits(), want.to_bits());
            }
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
