//! Exact SHAP values of a tree, in f64.
//!
//! Path-dependent ones ([`add`]): Lundberg, Erion, Lee: "Consistent Individualized Feature
//! Attribution for Tree Ensembles" (2018), Algorithm 2. Where a column is not in the coalition,
//! a row takes both branches with the odds of the training data. Cost: leaves × depth².
//!
//! Interventional ones against a single other row ([`add_against`]), for trees that do not know
//! their odds: Lundberg et al., "From local explanations to global understanding with explainable
//! AI for trees" (2020). Where a column is not in the coalition, it is the other row's. Cost:
//! leaves × depth.

use super::trees::{MAX_DEPTH, Tree};

/// Longest path: a step a level, and the root's.
const PATH: usize = MAX_DEPTH as usize + 1;

/// A column on the path to a node, with the share of coalitions that pass when it is out
/// of the coalition (`zero`) and when it is in (`one`, which is 1 or 0).
#[derive(Copy, Clone, Debug)]
struct Step {
    /// `u32::MAX` for the root's step, which is no column.
    feature: u32,
    zero: f64,
    one: f64,
    /// Summed permutation weight of the coalitions of this size.
    weight: f64,
}

/// The mean of a tree's leaves under the training odds.
pub(super) fn expectation(tree: &Tree) -> f64 {
    let mut open = vec![(0usize, 1.0f64)];
    let mut sum = 0.0;
    while let Some((at, share)) = open.pop() {
        if tree.is_leaf(at) {
            sum += share * tree.value[at];
        } else {
            let [left, right] = tree.odds(at);
            open.push((tree.right[at] as usize, share * right));
            open.push((tree.left[at] as usize, share * left));
        }
    }
    sum
}

/// Adds the SHAP values of `row` under `tree` to `out`, one a column.
pub(super) fn add(tree: &Tree, row: &[f32], out: &mut [f64]) {
    let root = Step { feature: u32::MAX, zero: 1.0, one: 1.0, weight: 0.0 };
    let mut walk = Walk { tree, row, out, steps: Vec::new() };
    walk.descend(0, 0..0, root);
}

/// One row's way through one tree.
struct Walk<'a> {
    tree: &'a Tree,
    row: &'a [f32],
    out: &'a mut [f64],
    /// The paths of all nodes between the root and the current one, one after the other;
    /// the current one is the tail.
    steps: Vec<Step>,
}

impl Walk<'_> {
    /// Follows both branches of node `at`; `parent` is where the path above stands, `step`
    /// what was taken here. Recurses at most as deep as the tree, which its check bounds.
    fn descend(&mut self, at: usize, parent: std::ops::Range<usize>, step: Step) {
        let tree = self.tree;
        // Nothing to share out; in a forest this is every pure leaf without the outcome.
        if tree.is_leaf(at) && tree.value[at] == 0.0 {
            return;
        }
        let start = self.steps.len();
        self.steps.extend_from_within(parent);
        extend(&mut self.steps, start, step);
        if tree.is_leaf(at) {
            self.credit(start, tree.value[at]);
            self.steps.truncate(start);
            return;
        }
        let feature = tree.feature[at];
        // A column met before counts once: its earlier step is undone and merged into this one.
        let (mut zero, mut one) = (1.0, 1.0);
        if let Some(index) = self.steps[start..].iter().position(|step| step.feature == feature) {
            (zero, one) = (self.steps[start + index].zero, self.steps[start + index].one);
            unwind(&mut self.steps, start, index);
        }
        let [left, right] = tree.odds(at);
        let goes_left = tree.goes_left(at, self.row);
        for (child, odds, hot) in [(tree.left[at], left, goes_left), (tree.right[at], right, !goes_left)] {
            let step = Step { feature, zero: zero * odds, one: if hot { one } else { 0.0 }, weight: 0.0 };
            // Neither in nor out of the coalition does anything get here.
            if step.zero == 0.0 && step.one == 0.0 {
                continue;
            }
            self.descend(child as usize, start..self.steps.len(), step);
        }
        self.steps.truncate(start);
    }

    /// Shares a leaf's value out over the columns of the path from `start`: each gets the
    /// sum of the weights that [`unwind`] would leave without its step.
    fn credit(&mut self, start: usize, value: f64) {
        let path = &self.steps[start..];
        let depth = path.len() - 1;
        let size = depth as f64 + 1.0;
        let (mut up, mut down) = ([0.0; PATH], [0.0; PATH]);
        for i in 0..depth {
            up[i] = size / (i as f64 + 1.0);
            down[i] = (depth - i) as f64 / size;
        }
        // For a step not taken the sum is this over its odds, which cancel out.
        let cold: f64 = (0..depth).map(|i| path[i].weight / down[i]).sum();
        for step in &path[1..] {
            let share = if step.one == 0.0 {
                -cold
            } else {
                let mut next = path[depth].weight;
                let mut total = 0.0;
                for i in (0..depth).rev() {
                    let weight = next * up[i];
                    total += weight;
                    next = path[i].weight - weight * step.zero * down[i];
                }
                total * (1.0 - step.zero)
            };
            self.out[step.feature as usize] += share * value;
        }
    }
}

/// Adds the Shapley values of `row` under `tree` against `other` to `out`, one a player;
/// `players` says of each column whose it is, so that columns of one player come together.
pub(super) fn add_against(tree: &Tree, row: &[f32], other: &[f32], players: &[usize], out: &mut [f64]) {
    let mut parting = Parting { tree, row, other, players, out, came: Vec::new(), stayed: Vec::new() };
    parting.descend(0);
}

/// Two rows' ways through one tree.
struct Parting<'a> {
    tree: &'a Tree,
    row: &'a [f32],
    other: &'a [f32],
    players: &'a [usize],
    out: &'a mut [f64],
    /// Players whose columns lead here if they are the row's.
    came: Vec<usize>,
    /// Players whose columns lead here if they are the other's.
    stayed: Vec<usize>,
}

impl Parting<'_> {
    /// Follows the branches of node `at` that any coalition leads to. Recurses at most as deep as the tree.
    fn descend(&mut self, at: usize) {
        let tree = self.tree;
        if tree.is_leaf(at) {
            return self.credit(tree.value[at]);
        }
        let next = |row: &[f32]| if tree.goes_left(at, row) { tree.left[at] } else { tree.right[at] } as usize;
        let (here, there) = (next(self.row), next(self.other));
        let player = self.players[tree.feature[at] as usize];
        if here == there || self.came.contains(&player) {
            return self.descend(here);
        }
        if self.stayed.contains(&player) {
            return self.descend(there);
        }
        self.came.push(player);
        self.descend(here);
        self.came.pop();
        self.stayed.push(player);
        self.descend(there);
        self.stayed.pop();
    }

    /// Shares a leaf's value out. Coalitions lead to it that hold all who came and none who stayed;
    /// with `a` of the ones and `b` of the others, the last of the former completes such a coalition in
    /// `(a - 1)! b! / (a + b)!` of all orders for each of them, and the first of the latter ends it in
    /// `a! (b - 1)! / (a + b)!`.
    fn credit(&mut self, value: f64) {
        let (came, stayed) = (self.came.len(), self.stayed.len());
        let choices = (1..=came).fold(1.0, |choices, k| choices * (stayed + k) as f64 / k as f64);
        for &player in &self.came {
            self.out[player] += value / (choices * came as f64);
        }
        for &player in &self.stayed {
            self.out[player] -= value / (choices * stayed as f64);
        }
    }
}

/// Puts a step on the path from `start` and spreads the weights over coalitions one larger.
fn extend(steps: &mut Vec<Step>, start: usize, step: Step) {
    let depth = steps.len() - start;
    steps.push(Step { weight: if depth == 0 { 1.0 } else { 0.0 }, ..step });
    let path = &mut steps[start..];
    let size = depth as f64 + 1.0;
    for i in (0..depth).rev() {
        path[i + 1].weight += step.one * path[i].weight * (i as f64 + 1.0) / size;
        path[i].weight *= step.zero * (depth - i) as f64 / size;
    }
}

/// Takes step `index` off the path from `start` again, wherever it stands.
fn unwind(steps: &mut Vec<Step>, start: usize, index: usize) {
    let path = &mut steps[start..];
    let depth = path.len() - 1;
    let size = depth as f64 + 1.0;
    let Step { zero, one, .. } = path[index];
    let mut next = path[depth].weight;
    for i in (0..depth).rev() {
        if one != 0.0 {
            let weight = path[i].weight;
            path[i].weight = next * size / (i as f64 + 1.0);
            next = weight - path[i].weight * zero * (depth - i) as f64 / size;
        } else {
            path[i].weight = path[i].weight * size / (zero * (depth - i) as f64);
        }
    }
    for i in index..depth {
        let Step { feature, zero, one, .. } = path[i + 1];
        path[i] = Step { feature, zero, one, weight: path[i].weight };
    }
    steps.pop();
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::random::Random;
    use super::super::trees::tests::random_tree;
    use super::*;

    /// The value of a coalition: columns outside it take both branches with the odds.
    fn game(tree: &Tree, row: &[f32], coalition: u32, at: usize) -> f64 {
        if tree.is_leaf(at) {
            return tree.value[at];
        }
        let [left, right] = [tree.left[at], tree.right[at]].map(|child| child as usize);
        if coalition & (1 << tree.feature[at]) != 0 {
            game(tree, row, coalition, if tree.goes_left(at, row) { left } else { right })
        } else {
            let odds = tree.odds(at);
            odds[0] * game(tree, row, coalition, left) + odds[1] * game(tree, row, coalition, right)
        }
    }

    /// Shapley's formula over all subsets of the columns.
    fn shapley(tree: &Tree, row: &[f32], column: u32) -> f64 {
        over_subsets(row.len() as u32, column, |coalition| game(tree, row, coalition, 0))
    }

    /// Shapley's formula over all subsets of `players`, for one of them.
    pub(in super::super) fn over_subsets(players: u32, player: u32, worth: impl Fn(u32) -> f64) -> f64 {
        let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
        (0..1u32 << players)
            .filter(|coalition| coalition & (1 << player) == 0)
            .map(|coalition| {
                let size = coalition.count_ones();
                let weight = factorial(size) * factorial(players - size - 1) / factorial(players);
                weight * (worth(coalition | 1 << player) - worth(coalition))
            })
            .sum()
    }

    proptest! {
        #[test]
        fn equals_shapley_over_all_subsets(seed: u64, depth in 0u32..7, columns in 1usize..6) {
            let mut random = Random::new(seed);
            let tree = random_tree(&mut random, columns, depth);
            let row: Vec<f32> = (0..columns)
                .map(|_| if random.unit() < 0.2 { f32::NAN } else { random.unit() as f32 })
                .collect();
            let mut found = vec![0.0; columns];
            add(&tree, &row, &mut found);
            for (column, value) in found.iter().enumerate() {
                prop_assert!((value - shapley(&tree, &row, column as u32)).abs() < 1e-12);
            }
            let full = game(&tree, &row, u32::MAX, 0);
            prop_assert!((expectation(&tree) + found.iter().sum::<f64>() - full).abs() < 1e-12);
        }

        /// Of nine columns some are one player's.
        #[test]
        fn against_another_row_it_equals_shapley_over_all_subsets(seed: u64, depth in 0u32..8, players in 1usize..8) {
            let mut random = Random::new(seed);
            let tree = random_tree(&mut random, 9, depth);
            let whose: Vec<usize> = (0..9).map(|column| column % players).collect();
            let mut draw = || -> Vec<f32> {
                (0..9).map(|_| if random.unit() < 0.2 { f32::NAN } else { random.unit() as f32 }).collect()
            };
            let (row, other) = (draw(), draw());
            let worth = |coalition: u32| {
                let came = |column: usize| coalition & (1 << whose[column]) != 0;
                let mixed: Vec<f32> = (0..9).map(|i| if came(i) { row[i] } else { other[i] }).collect();
                game(&tree, &mixed, u32::MAX, 0)
            };
            let mut found = vec![0.0; players];
            add_against(&tree, &row, &other, &whose, &mut found);
            for (player, value) in found.iter().enumerate() {
                let want = over_subsets(players as u32, player as u32, worth);
                prop_assert!((value - want).abs() < 1e-12, "{value} {want}");
            }
        }
    }

    #[test]
    fn a_branch_that_no_training_row_took_gives_no_nan() {
        let mut tree = Tree::default();
        for (value, cover) in [(0.0, 4.0), (1.0, 0.0), (2.0, 4.0)] {
            tree.push_leaf(value, cover);
        }
        tree.split(0, 0, 0.5, false, [1, 2]);
        for (x, want) in [(0.0, -1.0), (1.0, 0.0)] {
            let mut found = [0.0];
            add(&tree, &[x], &mut found);
            assert_eq!(found, [want]);
        }
        tree.cover[2] = 0.0;
        let mut found = [0.0];
        add(&tree, &[0.0], &mut found);
        assert_eq!((expectation(&tree), found), (1.5, [-0.5]));
    }
}
