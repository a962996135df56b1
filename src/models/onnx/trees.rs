//! Ensembles of decision trees, as `TreeEnsembleClassifier`, `TreeEnsembleRegressor` and `TreeEnsemble` have them.
//!
//! tract's own follow the indices of a file unchecked, know of two classes only where each has a base value,
//! and have no regressor. Here each index is checked when the model is taken in, and no walk can run in a circle.
//! What the definition leaves open (one score for two classes) is done as onnxruntime does it.

mod five;

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::calibration::sigmoid;
use super::super::trees::Tree;

/// Most classes or targets.
const MOST_TARGETS: usize = 1_000;

/// Decision trees.
#[derive(Debug)]
pub(super) struct Trees {
    nodes: Vec<Node>,
    roots: Vec<usize>,
    /// Of the leaves: which target they add to, and what.
    weights: Vec<(usize, f64)>,
    targets: usize,
    /// Added to each target.
    base: Vec<f64>,
    aggregate: Aggregate,
    /// Of two classes with scores for one: whether no score is negative, so that it is a probability already.
    single: Option<bool>,
    post: Post,
}

/// An output that is a sum over leaves, or the sigmoid of one.
#[derive(Debug)]
pub(super) struct Sum {
    /// As our own models have them.
    pub(super) trees: Vec<Tree>,
    pub(super) offset: f64,
    /// Whether the output is the sigmoid of the sum.
    pub(super) squashed: bool,
}

#[derive(Copy, Clone, Debug)]
enum Node {
    /// Goes to `yes` if the test holds for the feature, or if that is NaN and `gap` is set.
    Branch { feature: usize, test: Test, value: f32, gap: bool, yes: usize, no: usize },
    /// Its weights.
    Leaf { from: usize, to: usize },
}

#[derive(Copy, Clone, Debug)]
enum Test {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    Other,
}

#[derive(Copy, Clone, PartialEq, Debug)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// What becomes of the scores at the end.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Post {
    None,
    Logistic,
    Softmax,
}

impl Trees {
    /// The trees of a `TreeEnsembleClassifier`.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub(super) fn classifier(node: &NodeProto) -> TractResult<Trees> {
        let labels = match node.get_attr_opt_slice::<i64>("classlabels_int64s")? {
            Some(labels) => labels.len(),
            None => node.get_attr_vec::<&str>("classlabels_strings")?.len(),
        };
        let mut trees = Trees::parse(node, "class", labels)?;
        let targets: BTreeSet<usize> = trees.weights.iter().map(|(target, _)| *target).collect();
        if labels == 2 && targets.len() == 1 {
            ensure!(trees.post != Post::Softmax, "SOFTMAX over a single score");
            // Only the last of two base values stands for the single score.
            trees.base = vec![trees.base.last().copied().unwrap_or(0.0)];
            trees.targets = 1;
            trees.single = Some(trees.weights.iter().all(|(_, weight)| *weight >= 0.0));
            for (target, _) in &mut trees.weights {
                *target = 0;
            }
        }
        trees.checked()
    }

    /// The trees of a `TreeEnsembleRegressor`.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub(super) fn regressor(node: &NodeProto) -> TractResult<Trees> {
        let targets = node.get_attr_opt::<i64>("n_targets")?.unwrap_or(1);
        let mut trees = Trees::parse(node, "target", usize::try_from(targets)?)?;
        trees.aggregate = match node.get_attr_opt("aggregate_function")?.unwrap_or("SUM") {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => bail!("aggregate_function {other} is unknown"),
        };
        trees.checked()
    }

    fn checked(self) -> TractResult<Trees> {
        let base = self.base.len();
        ensure!(base == 0 || base == self.targets, "{base} base values for {} scores", self.targets);
        Ok(self)
    }

    /// `prefix`: of the attributes of leaves.
    fn parse(node: &NodeProto, prefix: &str, targets: usize) -> TractResult<Trees> {
        ensure!((1..=MOST_TARGETS).contains(&targets), "it has {targets} classes or targets");
        let whole = |name: &str| node.get_attr_slice::<i64>(name);
        let (trees, ids, features) = (whole("nodes_treeids")?, whole("nodes_nodeids")?, whole("nodes_featureids")?);
        let (yes, no) = (whole("nodes_truenodeids")?, whole("nodes_falsenodeids")?);
        let modes = node.get_attr_vec::<&str>("nodes_modes")?;
        let values = node.get_attr_slice::<f32>("nodes_values")?;
        let gaps = node.get_attr_opt_slice::<i64>("nodes_missing_value_tracks_true")?.unwrap_or_default();
        let count = ids.len();
        let even = [trees.len(), features.len(), yes.len(), no.len(), modes.len(), values.len()];
        ensure!(even.iter().all(|&len| len == count) && (gaps.is_empty() || gaps.len() == count), "uneven nodes");

        let mut places = BTreeMap::new();
        for (place, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
            ensure!(places.insert(key, place).is_none(), "a node is there twice");
        }
        // Each node has one parent at most, and a root none, so that no way from a root leads in a circle.
        let mut has_parent = vec![false; count];
        let mut child = |tree: i64, id: i64| -> TractResult<usize> {
            let place = *places.get(&(tree, id)).context("a branch leads nowhere")?;
            ensure!(!std::mem::replace(&mut has_parent[place], true), "two branches lead to one node");
            Ok(place)
        };
        let mut nodes = Vec::with_capacity(count);
        for place in 0..count {
            let test = match modes[place] {
                "LEAF" => None,
                "BRANCH_LEQ" => Some(Test::AtMost),
                "BRANCH_LT" => Some(Test::Below),
                "BRANCH_GTE" => Some(Test::AtLeast),
                "BRANCH_GT" => Some(Test::Above),
                "BRANCH_EQ" => Some(Test::Equal),
                "BRANCH_NEQ" => Some(Test::Other),
                other => bail!("node mode {other} is unknown"),
            };
            nodes.push(match test {
                None => Node::Leaf { from: 0, to: 0 },
                Some(test) => Node::Branch {
                    feature: usize::try_from(features[place])?,
                    test,
                    value: values[place],
                    gap: gaps.get(place).is_some_and(|&gap| gap != 0),
                    yes: child(trees[place], yes[place])?,
                    no: child(trees[place], no[place])?,
                },
            });
        }
        let roots: Vec<usize> = (0..count).filter(|&place| !has_parent[place]).collect();
        let rooted: BTreeSet<i64> = roots.iter().map(|&root| trees[root]).collect();
        let all: BTreeSet<i64> = trees.iter().copied().collect();
        ensure!(!all.is_empty() && rooted == all && rooted.len() == roots.len(), "a tree has no root, or several");
        check_reached(&nodes, &roots)?;

        let whole = |name: &str| node.get_attr_slice::<i64>(&format!("{prefix}_{name}"));
        let (trees, ids, to) = (whole("treeids")?, whole("nodeids")?, whole("ids")?);
        let values = node.get_attr_slice::<f32>(&format!("{prefix}_weights"))?;
        ensure!([trees.len(), ids.len(), to.len()].iter().all(|&len| len == values.len()), "uneven leaves");
        let mut leaves = Vec::with_capacity(values.len());
        for (index, &value) in values.iter().enumerate() {
            let place = *places.get(&(trees[index], ids[index])).context("a leaf is nowhere")?;
            let target = usize::try_from(to[index])?;
            ensure!(matches!(nodes[place], Node::Leaf { .. }) && target < targets, "a weight of no leaf or class");
            leaves.push((place, target, f64::from(value)));
        }
        leaves.sort_by_key(|(place, ..)| *place);
        for (index, (place, ..)) in leaves.iter().enumerate() {
            if let Node::Leaf { from, to } = &mut nodes[*place] {
                *from = if *to == 0 { index } else { *from };
                *to = index + 1;
            }
        }
        Ok(Trees {
            nodes,
            roots,
            weights: leaves.into_iter().map(|(_, target, value)| (target, value)).collect(),
            targets,
            base: node
                .get_attr_opt_slice::<f32>("base_values")?
                .unwrap_or_default()
                .iter()
                .map(|&b| b.into())
                .collect(),
            aggregate: Aggregate::Sum,
            single: None,
            post: match node.get_attr_opt("post_transform")?.unwrap_or("NONE") {
                "NONE" => Post::None,
                "LOGISTIC" => Post::Logistic,
                "SOFTMAX" => Post::Softmax,
                other => bail!("post_transform {other} cannot be done"),
            },
        })
    }

    /// Columns that a row must have at least.
    pub(super) fn features(&self) -> usize {
        let read = |node: &Node| if let Node::Branch { feature, .. } = node { feature.saturating_add(1) } else { 0 };
        self.nodes.iter().map(read).max().unwrap_or(0)
    }

    /// Numbers that come of a row.
    pub(super) fn outputs(&self) -> usize {
        if self.single.is_some() { 2 } else { self.targets }
    }

    /// How the output in that place is a sum over leaves, if it is and each branch parts smaller numbers from larger.
    pub(super) fn sum(&self, output: usize) -> Option<Sum> {
        let squashed = self.post != Post::None;
        // How much a weight for each target counts.
        let mut factors = vec![0.0; self.targets];
        let mut offset = 0.0;
        match (self.single, self.post) {
            (Some(_), _) if output == 1 => factors[0] = 1.0,
            (Some(positive), _) if output == 0 => {
                factors[0] = -1.0;
                offset = if positive && !squashed { 1.0 } else { 0.0 };
            }
            (None, Post::None | Post::Logistic) => *factors.get_mut(output)? = 1.0,
            // Of two numbers, one's share is the sigmoid of its difference from the other.
            (None, Post::Softmax) if self.targets == 2 && output < 2 => {
                factors = vec![-1.0; 2];
                factors[output] = 1.0;
            }
            _ => return None,
        }
        offset += factors.iter().zip(&self.base).map(|(factor, base)| factor * base).sum::<f64>();
        match self.aggregate {
            Aggregate::Sum => {}
            Aggregate::Average => factors.iter_mut().for_each(|factor| *factor /= self.roots.len() as f64),
            Aggregate::Min | Aggregate::Max => return None,
        }
        let trees = self.roots.iter().map(|&root| self.tree(root, &factors)).collect::<Option<_>>()?;
        Some(Sum { trees, offset, squashed })
    }

    /// A tree as our own models have it; a leaf's value are its weights by their factors.
    fn tree(&self, root: usize, factors: &[f64]) -> Option<Tree> {
        let mut tree = Tree::default();
        // How many training rows came along a file need not say.
        let push = |tree: &mut Tree| tree.push_leaf(0.0, 1.0);
        push(&mut tree);
        let mut open = vec![(root, 0)];
        while let Some((from, at)) = open.pop() {
            match self.nodes[from] {
                Node::Leaf { from, to } => {
                    let weights = &self.weights[from..to];
                    tree.value[at] = weights.iter().map(|&(target, weight)| factors[target] * weight).sum();
                }
                Node::Branch { feature, test, value, gap, yes, no } => {
                    // What is below the threshold goes left.
                    let (threshold, yes_is_left) = match test {
                        Test::AtMost => (value.next_up(), true),
                        Test::Below => (value, true),
                        Test::AtLeast => (value, false),
                        Test::Above => (value.next_up(), false),
                        Test::Equal | Test::Other => return None,
                    };
                    let [left, right] = if yes_is_left { [yes, no] } else { [no, yes] };
                    let next = u32::try_from(tree.len()).ok()?;
                    push(&mut tree);
                    push(&mut tree);
                    let missing_left = gap == yes_is_left;
                    tree.split(at, u32::try_from(feature).ok()?, threshold, missing_left, [next, next + 1]);
                    open.extend([(left, next as usize), (right, next as usize + 1)]);
                }
            }
        }
        Some(tree)
    }

    /// Appends what comes of a row, which has [`Trees::features`] columns at least.
    pub(super) fn apply(&self, row: &[f32], out: &mut Vec<f32>) {
        let first = match self.aggregate {
            Aggregate::Sum | Aggregate::Average => 0.0,
            Aggregate::Min => f64::INFINITY,
            Aggregate::Max => f64::NEG_INFINITY,
        };
        let mut scores = vec![first; self.targets];
        for &root in &self.roots {
            for &(target, weight) in self.leaf(root, row) {
                let score = &mut scores[target];
                *score = match self.aggregate {
                    Aggregate::Sum | Aggregate::Average => *score + weight,
                    Aggregate::Min => score.min(weight),
                    Aggregate::Max => score.max(weight),
                };
            }
        }
        for (target, score) in scores.iter_mut().enumerate() {
            if self.aggregate == Aggregate::Average {
                *score /= self.roots.len() as f64;
            } else if score.is_infinite() {
                // No tree said anything.
                *score = 0.0;
            }
            *score += self.base.get(target).unwrap_or(&0.0);
        }
        if let (Some(positive), [score]) = (self.single, &scores[..]) {
            let pair = match self.post {
                Post::Logistic => [sigmoid(-score), sigmoid(*score)],
                _ if positive => [1.0 - score, *score],
                _ => [-score, *score],
            };
            out.extend(pair.map(|score| score as f32));
            return;
        }
        match self.post {
            Post::None => {}
            Post::Logistic => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
            Post::Softmax => {
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                scores.iter_mut().for_each(|score| *score = (*score - most).exp());
                let sum: f64 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
        out.extend(scores.iter().map(|&score| score as f32));
    }

    /// The weights of the leaf that a row comes to.
    fn leaf(&self, root: usize, row: &[f32]) -> &[(usize, f64)] {
        let mut at = root;
        loop {
            match self.nodes[at] {
                Node::Leaf { from, to } => return &self.weights[from..to],
                Node::Branch { feature, test, value, gap, yes, no } => {
                    let x = row[feature];
                    at = if test.holds(x, value) || gap && x.is_nan() { yes } else { no };
                }
            }
        }
    }
}

impl Test {
    fn holds(self, x: f32, value: f32) -> bool {
        match self {
            Test::AtMost => x <= value,
            Test::Below => x < value,
            Test::AtLeast => x >= value,
            Test::Above => x > value,
            Test::Equal => x == value,
            Test::Other => x != value,
        }
    }
}

/// Checks that each node is reached from a root, and from one only. No node may have two parents, nor a root any.
fn check_reached(nodes: &[Node], roots: &[usize]) -> TractResult<()> {
    let (mut reached, mut open) = (0, roots.to_vec());
    while let Some(place) = open.pop() {
        reached += 1;
        if let Node::Branch { yes, no, .. } = nodes[place] {
            open.extend([yes, no]);
        }
    }
    ensure!(reached == nodes.len(), "it has nodes to which no root leads");
    Ok(())
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;
    use tract_onnx::pb::attribute_proto::AttributeType;

    use super::*;

    pub(super) fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
        AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
    }

    pub(super) fn whole(name: &str, ints: &[i64]) -> AttributeProto {
        AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
    }

    fn floats(name: &str, floats: &[f32]) -> AttributeProto {
        AttributeProto { floats: floats.to_vec(), ..attribute(name, AttributeType::Floats) }
    }

    fn words(name: &str, words: &[&str]) -> AttributeProto {
        let strings = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
    }

    fn word(name: &str, word: &str) -> AttributeProto {
        AttributeProto { s: word.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
    }

    /// Tree 0: `x0 <test> 1` gives 2, else 5, with NaN on the true side. Tree 1: `x1 <= 0` gives 10, else 20.
    fn two_trees(test: &str, prefix: &str, more: &[AttributeProto]) -> NodeProto {
        let mut attribute = vec![
            whole("nodes_treeids", &[0, 0, 0, 1, 1, 1]),
            whole("nodes_nodeids", &[0, 1, 2, 0, 1, 2]),
            whole("nodes_featureids", &[0, 0, 0, 1, 0, 0]),
            whole("nodes_truenodeids", &[1, 0, 0, 1, 0, 0]),
            whole("nodes_falsenodeids", &[2, 0, 0, 2, 0, 0]),
            whole("nodes_missing_value_tracks_true", &[1, 0, 0, 0, 0, 0]),
            words("nodes_modes", &[test, "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"]),
            floats("nodes_values", &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            whole(&format!("{prefix}_treeids"), &[0, 0, 1, 1]),
            whole(&format!("{prefix}_nodeids"), &[1, 2, 1, 2]),
            whole(&format!("{prefix}_ids"), &[0, 0, 0, 0]),
            floats(&format!("{prefix}_weights"), &[2.0, 5.0, 10.0, 20.0]),
        ];
        for more in more {
            attribute.retain(|there| there.name != more.name);
            attribute.push(more.clone());
        }
        NodeProto { attribute, ..NodeProto::default() }
    }

    pub(super) fn of(trees: &Trees, row: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        trees.apply(row, &mut out);
        assert_eq!(out.len(), trees.outputs());
        out
    }

    #[test]
    fn every_test_of_a_branch_goes_the_right_way() {
        let tests = [
            ("BRANCH_LEQ", [true, true, false]),
            ("BRANCH_LT", [true, false, false]),
            ("BRANCH_GTE", [false, true, true]),
            ("BRANCH_GT", [false, false, true]),
            ("BRANCH_EQ", [false, true, false]),
            ("BRANCH_NEQ", [true, false, true]),
        ];
        for (test, holds) in tests {
            let trees = Trees::regressor(&two_trees(test, "target", &[])).unwrap();
            assert_eq!(trees.features(), 2);
            for (x, holds) in [0.0, 1.0, 2.0].into_iter().zip(holds) {
                assert_eq!(of(&trees, &[x, 0.5]), [if holds { 22.0 } else { 25.0 }], "{test} {x}");
            }
            // NaN goes where the node says, in the other tree to the false side.
            assert_eq!(of(&trees, &[f32::NAN, f32::NAN]), [22.0], "{test}");
        }
    }

    #[test]
    fn scores_are_put_together_as_asked() {
        for (how, want) in [("SUM", 12.5), ("AVERAGE", 6.5), ("MIN", 2.5), ("MAX", 10.5)] {
            let more = [word("aggregate_function", how), floats("base_values", &[0.5])];
            let trees = Trees::regressor(&two_trees("BRANCH_LEQ", "target", &more)).unwrap();
            assert_eq!(of(&trees, &[0.0, 0.0]), [want], "{how}");
        }
        let labels = whole("classlabels_int64s", &[0, 1]);
        let class = |more: &[AttributeProto]| {
            let more: Vec<AttributeProto> = more.iter().cloned().chain([labels.clone()]).collect();
            of(&Trees::classifier(&two_trees("BRANCH_LEQ", "class", &more)).unwrap(), &[0.0, 0.0])
        };
        let weights = |weights: &[f32; 4]| floats("class_weights", weights);
        assert_eq!(class(&[weights(&[0.25, 0.0, 0.5, 0.0])]), [0.25, 0.75]);
        assert_eq!(class(&[weights(&[0.25, -1.0, 0.5, 0.0])]), [-0.75, 0.75]);
        for base in [&[0.25][..], &[9.0, 0.25]] {
            let more =
                [weights(&[0.25, -1.0, 0.5, 0.0]), word("post_transform", "LOGISTIC"), floats("base_values", base)];
            let p = sigmoid(1.0) as f32;
            assert_eq!(class(&more), [sigmoid(-1.0) as f32, p]);
        }
        let both = [whole("class_ids", &[0, 0, 1, 1]), word("post_transform", "SOFTMAX")];
        let found = class(&both);
        assert!((found[1] - sigmoid(8.0) as f32).abs() < 1e-7 && (found[0] + found[1] - 1.0).abs() < 1e-6);
    }

    /// What our own trees say of the output in that place.
    fn summed(trees: &Trees, output: usize, row: &[f32]) -> Option<f64> {
        let Sum { trees, offset, squashed } = trees.sum(output)?;
        let mut margin = Vec::new();
        super::super::super::trees::Ensemble::new(2, offset, 1.0, trees).unwrap().margins(row, &mut margin);
        Some(if squashed { sigmoid(margin[0]) } else { margin[0] })
    }

    #[test]
    fn what_is_a_sum_over_leaves_is_one_of_our_own_trees() {
        let (nan, labels) = (f32::NAN, whole("classlabels_int64s", &[0, 1]));
        let post = |how: &str| word("post_transform", how);
        let same = |trees: &Trees| {
            let near = [0.0, -0.0, 1.0f32.next_down(), 1.0, 1.0f32.next_up(), -5.0, 2.0, nan];
            for row in near.iter().flat_map(|&a| near.map(|b| [a, b])) {
                for (output, want) in of(trees, &row).into_iter().enumerate() {
                    let found = summed(trees, output, &row).unwrap();
                    assert!((found - f64::from(want)).abs() < 1e-5, "{row:?}: {found} {want}");
                }
            }
        };
        for test in ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"] {
            for gap in [0, 1] {
                let gaps = whole("nodes_missing_value_tracks_true", &[gap, 0, 0, 1 - gap, 0, 0]);
                let average = word("aggregate_function", "AVERAGE");
                let base = floats("base_values", &[0.5]);
                same(&Trees::regressor(&two_trees(test, "target", &[gaps.clone(), base])).unwrap());
                same(&Trees::regressor(&two_trees(test, "target", &[gaps, average, post("LOGISTIC")])).unwrap());
            }
        }
        let weights = |weights: &[f32; 4]| floats("class_weights", weights);
        let both = whole("class_ids", &[0, 1, 1, 0]);
        for more in [
            vec![labels.clone(), weights(&[0.25, 0.0, 0.5, 0.0])],
            vec![labels.clone(), weights(&[0.25, -1.0, 0.5, 0.0])],
            vec![labels.clone(), weights(&[0.25, -1.0, 0.5, 0.0]), post("LOGISTIC")],
            vec![labels.clone(), weights(&[0.25, 0.5, 0.5, 0.75]), both.clone()],
            vec![labels.clone(), weights(&[0.25, -1.0, 0.5, 2.0]), both.clone(), post("SOFTMAX")],
        ] {
            same(&Trees::classifier(&two_trees("BRANCH_LEQ", "class", &more)).unwrap());
        }
        // Of three classes the softmax is no sigmoid of a sum, nor is a least leaf a sum, nor has an equality a side.
        let three = [whole("classlabels_int64s", &[0, 1, 2]), both, post("SOFTMAX")];
        assert!(Trees::classifier(&two_trees("BRANCH_LEQ", "class", &three)).unwrap().sum(1).is_none());
        let least = [word("aggregate_function", "MIN")];
        assert!(Trees::regressor(&two_trees("BRANCH_LEQ", "target", &least)).unwrap().sum(0).is_none());
        assert!(Trees::regressor(&two_trees("BRANCH_EQ", "target", &[])).unwrap().sum(0).is_none());
        assert!(Trees::regressor(&two_trees("BRANCH_LEQ", "target", &[])).unwrap().sum(1).is_none());
    }

    #[test]
    fn forged_trees_are_refused() {
        let refused = |more: &[AttributeProto]| {
            Trees::regressor(&two_trees("BRANCH_LEQ", "target", more)).unwrap_err().to_string()
        };
        // A circle, a branch to nowhere, two branches to one node, a second root.
        assert!(refused(&[whole("nodes_truenodeids", &[0, 0, 0, 1, 0, 0])]).contains("root"));
        assert!(refused(&[whole("nodes_truenodeids", &[7, 0, 0, 1, 0, 0])]).contains("nowhere"));
        assert!(refused(&[whole("nodes_truenodeids", &[2, 0, 0, 1, 0, 0])]).contains("one node"));
        assert!(refused(&[words("nodes_modes", &["LEAF"; 6])]).contains("root"));
        assert!(refused(&[whole("nodes_nodeids", &[0, 1, 1, 0, 1, 2])]).contains("twice"));
        assert!(refused(&[whole("target_ids", &[0, 0, 0, 1])]).contains("weight"));
        assert!(refused(&[whole("target_nodeids", &[0, 2, 1, 2])]).contains("weight"));
        assert!(refused(&[floats("nodes_values", &[1.0])]).contains("uneven"));
        assert!(refused(&[floats("base_values", &[1.0, 2.0])]).contains("base values"));
        assert!(refused(&[word("post_transform", "PROBIT")]).contains("PROBIT"));
        assert!(!refused(&[whole("nodes_featureids", &[-1, 0, 0, 1, 0, 0])]).is_empty());
        let many = AttributeProto { i: i64::MAX, ..attribute("n_targets", AttributeType::Int) };
        assert!(refused(&[many]).contains("targets"));
    }
}
