//! Ensembles of decision trees as flat arrays: what boosting and forests are scored with.
//!
//! Scoring walks eight rows down a tree at once (or one row down eight trees), without a
//! branch on the data: a leaf is a node that leads to itself, so that every row takes as
//! many steps as the tree is deep, and a row is laid out twice, with its gaps as +infinity
//! and as -infinity, so that one comparison also sends a missing value where it belongs.
//! Each row's leaves are added in the order of the trees, in f64, whatever rows are beside
//! it; that is why a row alone and a row in a batch get the same bits.

use serde::{Deserialize, Serialize};

use super::treeshap;

/// Deepest tree that is taken; honest ones stay far below, and SHAP recurses this deep.
pub(super) const MAX_DEPTH: u32 = 64;
/// Most nodes of one ensemble (a 10,000-round boosting of depth 10 has 20 million).
const MAX_NODES: usize = 1 << 25;
/// Most columns of a row.
const MAX_COLUMNS: usize = 1 << 24;
/// Rows, or trees, that are walked together: their loads overlap, which is most of the speed.
const LANES: usize = 8;
/// Groups of rows that share one pass over the trees, so that both stay in the cache.
const GROUPS: usize = 2;

/// One decision tree, a column a property; node 0 is the root.
///
/// A row goes left where `value < threshold`, or where the value is missing and
/// `missing_left`; else right. A node whose `left` is 0 is a leaf (nothing leads to the root).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tree {
    pub(super) feature: Vec<u32>,
    pub(super) threshold: Vec<f32>,
    pub(super) missing_left: Vec<bool>,
    pub(super) left: Vec<u32>,
    pub(super) right: Vec<u32>,
    /// Value of a leaf; not read elsewhere.
    pub(super) value: Vec<f64>,
    /// Training weight that passed through the node, from which SHAP takes its odds.
    pub(super) cover: Vec<f64>,
}

impl Tree {
    /// Appends a leaf; [`Tree::split`] may turn it into a split later.
    pub(super) fn push_leaf(&mut self, value: f64, cover: f64) {
        self.feature.push(0);
        self.threshold.push(0.0);
        self.missing_left.push(false);
        self.left.push(0);
        self.right.push(0);
        self.value.push(value);
        self.cover.push(cover);
    }

    /// Makes node `at` a split.
    pub(super) fn split(&mut self, at: usize, feature: u32, threshold: f32, missing_left: bool, children: [u32; 2]) {
        self.feature[at] = feature;
        self.threshold[at] = threshold;
        self.missing_left[at] = missing_left;
        [self.left[at], self.right[at]] = children;
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.left.len()
    }

    /// Whether node `at` is a leaf.
    pub(super) fn is_leaf(&self, at: usize) -> bool {
        self.left[at] == 0
    }

    /// Where node `at` sends a row.
    pub(super) fn goes_left(&self, at: usize, row: &[f32]) -> bool {
        let x = row[self.feature[at] as usize];
        x < self.threshold[at] || x.is_nan() && self.missing_left[at]
    }

    /// Odds of the left and the right child of node `at` under the training data. They sum
    /// to one, so that a tree's expectation is one; where nothing passed, they are even.
    pub(super) fn odds(&self, at: usize) -> [f64; 2] {
        let [left, right] = [self.left[at], self.right[at]].map(|child| self.cover[child as usize]);
        let sum = left + right;
        if sum > 0.0 { [left / sum, right / sum] } else { [0.5, 0.5] }
    }

    /// Checks that this is a tree over `columns` columns; returns its depth.
    fn check(&self, columns: usize) -> Result<u32, String> {
        let nodes = self.left.len();
        let lengths = [
            self.feature.len(),
            self.threshold.len(),
            self.missing_left.len(),
            self.right.len(),
            self.value.len(),
            self.cover.len(),
        ];
        if nodes == 0 || nodes > MAX_NODES || lengths.iter().any(|&length| length != nodes) {
            return Err("a tree's columns are empty or differ in length".to_owned());
        }
        if self.threshold.iter().any(|x| !x.is_finite())
            || self.value.iter().any(|x| !x.is_finite())
            || self.cover.iter().any(|x| !(x.is_finite() && *x >= 0.0))
        {
            return Err("a tree holds a threshold, value or cover that is not a usable number".to_owned());
        }
        let mut seen = vec![false; nodes];
        let mut open = vec![(0usize, 0u32)];
        let mut depth = 0;
        while let Some((at, level)) = open.pop() {
            if std::mem::replace(&mut seen[at], true) {
                return Err("a tree's nodes do not form a tree".to_owned());
            }
            if level > MAX_DEPTH {
                return Err(format!("a tree is deeper than {MAX_DEPTH}"));
            }
            depth = depth.max(level);
            if self.is_leaf(at) {
                if self.right[at] != 0 {
                    return Err("a leaf has a child".to_owned());
                }
                continue;
            }
            if self.feature[at] as usize >= columns {
                return Err(format!("a tree splits on column {}, there are {columns}", self.feature[at]));
            }
            for child in [self.left[at], self.right[at]] {
                if child == 0 || child as usize >= nodes {
                    return Err("a tree's node leads out of the tree".to_owned());
                }
                open.push((child as usize, level + 1));
            }
        }
        if seen.contains(&false) {
            return Err("a tree holds nodes that no path reaches".to_owned());
        }
        Ok(depth)
    }
}

/// A node as scoring reads it: 12 bytes, the right child follows the left one.
#[derive(Copy, Clone, Debug)]
struct Flat {
    threshold: f32,
    /// The column, plus the number of columns where a missing value goes left.
    slot: u32,
    left: u32,
}

/// One value of eight rows; a block of rows has two of them a column.
type Lane = [f32; LANES];

impl Flat {
    /// The node below, without a branch; a leaf's is itself.
    #[inline(always)]
    fn next(self, x: f32) -> u32 {
        let goes_left = x < self.threshold;
        self.left.wrapping_add(u32::from(!goes_left))
    }
}

/// A value as it is where a gap goes right, and where a gap goes left: no threshold is
/// above +infinity, every one is above -infinity.
#[inline(always)]
fn gaps_out(x: f32) -> [f32; 2] {
    if x.is_nan() { [f32::INFINITY, f32::NEG_INFINITY] } else { [x, x] }
}

/// Where a tree begins, and how many steps reach every leaf.
#[derive(Copy, Clone, Debug)]
struct Entry {
    root: u32,
    depth: u32,
}

/// Trees whose leaves are summed: `margin = (offset + Σ leaves) / divisor`.
#[derive(Clone, Debug)]
pub(super) struct Ensemble {
    columns: usize,
    offset: f64,
    divisor: f64,
    base: f64,
    trees: Vec<Tree>,
    entries: Vec<Entry>,
    nodes: Vec<Flat>,
    values: Vec<f64>,
}

impl Ensemble {
    /// Takes trees apart into the flat form.
    ///
    /// # Errors
    /// A reason if these are not trees over `columns` columns: everything an index could
    /// run out of is checked here, once.
    pub(super) fn new(columns: usize, offset: f64, divisor: f64, trees: Vec<Tree>) -> Result<Ensemble, String> {
        if columns == 0 || columns > MAX_COLUMNS || trees.is_empty() {
            return Err("an ensemble needs columns and trees".to_owned());
        }
        if !(offset.is_finite() && divisor.is_finite() && divisor > 0.0) {
            return Err("the ensemble's offset or divisor is not a usable number".to_owned());
        }
        let total: usize = trees.iter().map(Tree::len).fold(0, usize::saturating_add);
        if total > MAX_NODES {
            return Err(format!("the ensemble has {total} nodes, {MAX_NODES} are taken at most"));
        }
        let mut out = Ensemble {
            columns,
            offset,
            divisor,
            base: 0.0,
            entries: Vec::with_capacity(trees.len()),
            nodes: Vec::with_capacity(total),
            values: Vec::with_capacity(total),
            trees: Vec::new(),
        };
        let mut expected = offset;
        for tree in &trees {
            let depth = tree.check(columns)?;
            out.append(tree, depth);
            expected += treeshap::expectation(tree);
        }
        out.base = expected / divisor;
        out.trees = trees;
        Ok(out)
    }

    /// Lays a checked tree out breadth first, siblings side by side.
    fn append(&mut self, tree: &Tree, depth: u32) {
        let start = self.nodes.len() as u32;
        self.entries.push(Entry { root: start, depth });
        let mut order = vec![0usize];
        let mut next = 0;
        while let Some(&at) = order.get(next) {
            let here = start + next as u32;
            if tree.is_leaf(at) {
                // No comparison with NaN holds, so a leaf always goes right: to itself.
                self.nodes.push(Flat { threshold: f32::NAN, slot: 0, left: here.wrapping_sub(1) });
                self.values.push(tree.value[at]);
            } else {
                let shift = if tree.missing_left[at] { self.columns as u32 } else { 0 };
                let left = start + order.len() as u32;
                self.nodes.push(Flat { threshold: tree.threshold[at], slot: tree.feature[at] + shift, left });
                self.values.push(0.0);
                order.extend([tree.left[at] as usize, tree.right[at] as usize]);
            }
            next += 1;
        }
    }

    /// Columns of a row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The margin expected before a row is seen: where an explanation starts.
    pub(super) fn base(&self) -> f64 {
        self.base
    }

    /// The trees, in order.
    pub(super) fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Appends the margin of every row of `rows` (whole rows of [`Ensemble::columns`]).
    pub(super) fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let group = self.columns * LANES;
        let full = rows.len() / group * group;
        let mut blocks = vec![vec![[0.0; LANES]; self.columns * 2]; GROUPS.min(full / group)];
        for some in rows[..full].chunks(group * GROUPS) {
            let mut sums = [[self.offset; LANES]; GROUPS];
            let count = some.len() / group;
            for (rows, block) in some.chunks_exact(group).zip(&mut blocks) {
                self.lay_out(rows, block);
            }
            for &entry in &self.entries {
                for (block, sums) in blocks.iter().zip(&mut sums).take(count) {
                    self.walk_rows(entry, block, sums);
                }
            }
            out.extend(sums.iter().take(count).flatten().map(|sum| sum / self.divisor));
        }
        let mut both = vec![0.0; self.columns * 2];
        for row in rows[full..].chunks_exact(self.columns) {
            let (right, left) = both.split_at_mut(self.columns);
            for ((&x, right), left) in row.iter().zip(right).zip(left) {
                [*right, *left] = gaps_out(x);
            }
            out.push(self.walk_trees(&both) / self.divisor);
        }
    }

    /// Lays eight rows out value by value, gaps replaced.
    fn lay_out(&self, rows: &[f32], block: &mut [Lane]) {
        let (right, left) = block.split_at_mut(self.columns);
        for (lane, row) in rows.chunks_exact(self.columns).enumerate() {
            for ((&x, right), left) in row.iter().zip(&mut *right).zip(&mut *left) {
                [right[lane], left[lane]] = gaps_out(x);
            }
        }
    }

    /// Eight rows down one tree.
    #[inline]
    fn walk_rows(&self, entry: Entry, block: &[Lane], sums: &mut [f64; LANES]) {
        let mut at = [entry.root; LANES];
        for _ in 0..entry.depth {
            for (lane, at) in at.iter_mut().enumerate() {
                let node = self.nodes[*at as usize];
                *at = node.next(block[node.slot as usize][lane]);
            }
        }
        for (sum, at) in sums.iter_mut().zip(at) {
            *sum += self.values[at as usize];
        }
    }

    /// One row, laid out twice, down all trees; the sum before it is divided.
    fn walk_trees(&self, both: &[f32]) -> f64 {
        let mut sum = self.offset;
        for entries in self.entries.chunks(LANES) {
            let mut at = [0; LANES];
            let mut depth = 0;
            for (at, entry) in at.iter_mut().zip(entries) {
                *at = entry.root;
                depth = depth.max(entry.depth);
            }
            for _ in 0..depth {
                for at in &mut at {
                    let node = self.nodes[*at as usize];
                    *at = node.next(both[node.slot as usize]);
                }
            }
            for (at, _) in at.into_iter().zip(entries) {
                sum += self.values[at as usize];
            }
        }
        sum
    }

    /// SHAP values of one row, one a column: they and [`Ensemble::base`] sum to its margin.
    pub(super) fn shap(&self, row: &[f32]) -> Vec<f64> {
        let mut out = vec![0.0; self.columns];
        for tree in &self.trees {
            treeshap::add(tree, row, &mut out);
        }
        for value in &mut out {
            *value /= self.divisor;
        }
        out
    }

    /// Shapley values of one row against another, one for each of `players`, of whom each column has one: they
    /// sum to the difference of the margins.
    pub(super) fn shap_against(&self, row: &[f32], other: &[f32], players: &[usize], count: usize) -> Vec<f64> {
        let mut out = vec![0.0; count];
        for tree in &self.trees {
            treeshap::add_against(tree, row, other, players, &mut out);
        }
        for value in &mut out {
            *value /= self.divisor;
        }
        out
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::random::Random;
    use super::*;

    /// A random tree of at most `depth` levels of splits over `columns` columns.
    pub(in super::super) fn random_tree(random: &mut Random, columns: usize, depth: u32) -> Tree {
        let mut tree = Tree::default();
        tree.push_leaf(random.unit() - 0.5, 1.0);
        grow(random, columns, depth, &mut tree, 0);
        tree
    }

    fn grow(random: &mut Random, columns: usize, depth: u32, tree: &mut Tree, at: usize) {
        if depth == 0 || random.unit() < 0.2 {
            return;
        }
        let left = tree.len() as u32;
        for _ in 0..2 {
            tree.push_leaf(random.unit() * 2.0 - 1.0, 0.05 + random.unit());
        }
        let feature = (random.bits() % columns as u64) as u32;
        tree.split(at, feature, random.unit() as f32, random.unit() < 0.5, [left, left + 1]);
        grow(random, columns, depth - 1, tree, left as usize);
        grow(random, columns, depth - 1, tree, left as usize + 1);
    }

    /// The plain walk that the flat form must equal.
    fn plain(tree: &Tree, row: &[f32]) -> f64 {
        let mut at = 0;
        while !tree.is_leaf(at) {
            at = if tree.goes_left(at, row) { tree.left[at] } else { tree.right[at] } as usize;
        }
        tree.value[at]
    }

    fn random_rows(random: &mut Random, rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|_| if random.unit() < 0.2 { f32::NAN } else { random.unit() as f32 }).collect()
    }

    proptest! {
        #[test]
        fn the_flat_form_equals_a_plain_walk_and_ignores_the_rows_beside(seed: u64, count in 1usize..150) {
            let mut random = Random::new(seed);
            let trees: Vec<Tree> = (0..7).map(|i| random_tree(&mut random, 5, i)).collect();
            let ensemble = Ensemble::new(5, 0.25, 3.0, trees.clone()).unwrap();
            let rows = random_rows(&mut random, count, 5);
            let mut batch = Vec::new();
            ensemble.margins(&rows, &mut batch);
            prop_assert_eq!(batch.len(), count);
            for (row, margin) in rows.chunks(5).zip(batch) {
                let want = trees.iter().fold(0.25, |sum, tree| sum + plain(tree, row)) / 3.0;
                let mut alone = Vec::new();
                ensemble.margins(row, &mut alone);
                prop_assert_eq!(margin.to_bits(), want.to_bits());
                prop_assert_eq!(margin.to_bits(), alone[0].to_bits());
            }
        }
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let mut good = Tree::default();
        for value in [0.0, 1.0, 2.0] {
            good.push_leaf(value, 1.0);
        }
        good.split(0, 1, 0.5, false, [1, 2]);
        let refused = |change: fn(&mut Tree)| {
            let mut tree = good.clone();
            change(&mut tree);
            Ensemble::new(2, 0.0, 1.0, vec![tree]).unwrap_err()
        };
        assert!(Ensemble::new(2, 0.0, 1.0, vec![good.clone()]).is_ok());
        assert!(refused(|t| t.feature[0] = 2).contains("column"));
        assert!(refused(|t| t.right[0] = 3).contains("out of the tree"));
        assert!(refused(|t| t.right[0] = 1).contains("form a tree"));
        assert!(refused(|t| t.right[0] = 0).contains("out of the tree"));
        assert!(refused(|t| t.right[1] = 2).contains("a leaf has"));
        assert!(refused(|t| t.push_leaf(0.0, 1.0)).contains("no path"));
        assert!(refused(|t| t.threshold[0] = f32::NAN).contains("number"));
        assert!(refused(|t| t.cover[0] = -1.0).contains("number"));
        assert!(refused(|t| t.value.push(0.0)).contains("length"));
        assert!(Ensemble::new(0, 0.0, 1.0, vec![good.clone()]).is_err());
        assert!(Ensemble::new(2, f64::NAN, 1.0, vec![good.clone()]).is_err());
        assert!(Ensemble::new(2, 0.0, 0.0, vec![good]).is_err());
    }

    #[test]
    fn a_tree_too_deep_is_refused() {
        let mut tree = Tree::default();
        tree.push_leaf(0.0, 1.0);
        let mut at = 0;
        for _ in 0..=MAX_DEPTH {
            let left = tree.len() as u32;
            tree.push_leaf(0.0, 1.0);
            tree.push_leaf(0.0, 1.0);
            tree.split(at, 0, 0.5, false, [left, left + 1]);
            at = left as usize;
        }
        assert!(Ensemble::new(1, 0.0, 1.0, vec![tree]).unwrap_err().contains("deeper"));
    }
}
