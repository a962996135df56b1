//! The operator `TreeEnsemble`, which came with version 5 of `ai.onnx.ml` for the two before it.
//!
//! Branches and leaves are numbered each by themselves, and what were words are numbers.

use tract_onnx::data_resolver::FopenDataResolver;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::internal::*;

use super::{Aggregate, MOST_TARGETS, Node, Post, Test, Trees, check_reached};

impl Trees {
    /// The trees of a `TreeEnsemble`.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub(in super::super) fn ensemble(node: &NodeProto) -> TractResult<Trees> {
        let whole = |name: &str| node.get_attr_slice::<i64>(name);
        let (features, yes, no) =
            (whole("nodes_featureids")?, whole("nodes_truenodeids")?, whole("nodes_falsenodeids")?);
        let (yes_leaf, no_leaf) = (whole("nodes_trueleafs")?, whole("nodes_falseleafs")?);
        let (modes, values) = (numbers(node, "nodes_modes")?, numbers(node, "nodes_splits")?);
        let gaps = node.get_attr_opt_slice::<i64>("nodes_missing_value_tracks_true")?.unwrap_or_default();
        let count = features.len();
        let even = [yes.len(), no.len(), yes_leaf.len(), no_leaf.len(), modes.len(), values.len()];
        ensure!(even.iter().all(|&len| len == count) && (gaps.is_empty() || gaps.len() == count), "uneven nodes");

        let targets = node.get_attr_opt::<usize>("n_targets")?.unwrap_or(1);
        ensure!((1..=MOST_TARGETS).contains(&targets), "it has {targets} targets");
        let (to, adds) = (whole("leaf_targetids")?, numbers(node, "leaf_weights")?);
        ensure!(to.len() == adds.len(), "uneven leaves");
        let mut weights = Vec::with_capacity(to.len());
        for (&target, &value) in to.iter().zip(&adds) {
            let target = usize::try_from(target)?;
            ensure!(target < targets, "a weight of no target");
            weights.push((target, value));
        }

        // The leaves stand behind the branches, one for each way to them.
        let mut leaves = Vec::new();
        let mut has_parent = vec![false; count];
        let mut child = |is_leaf: i64, to: i64| -> TractResult<usize> {
            let to = usize::try_from(to)?;
            ensure!(to < if is_leaf != 0 { weights.len() } else { count }, "a branch leads nowhere");
            if is_leaf != 0 {
                leaves.push(Node::Leaf { from: to, to: to + 1 });
                return Ok(count + leaves.len() - 1);
            }
            ensure!(!std::mem::replace(&mut has_parent[to], true), "two branches lead to one node");
            Ok(to)
        };
        let mut nodes = Vec::with_capacity(3 * count);
        for place in 0..count {
            let mode = modes[place];
            let tests = [Test::AtMost, Test::Below, Test::AtLeast, Test::Above, Test::Equal, Test::Other];
            let test = tests.into_iter().enumerate().find(|(number, _)| *number as f64 == mode);
            let (_, test) = test.with_context(|| format!("node mode {mode} cannot be done"))?;
            let value = values[place] as f32;
            ensure!(f64::from(value) == values[place], "a threshold is no f32");
            nodes.push(Node::Branch {
                feature: usize::try_from(features[place])?,
                test,
                value,
                gap: gaps.get(place).is_some_and(|&gap| gap != 0),
                yes: child(yes_leaf[place], yes[place])?,
                no: child(no_leaf[place], no[place])?,
            });
        }
        nodes.extend(leaves);
        let roots = whole("tree_roots")?.iter().map(|&root| usize::try_from(root));
        let roots = roots.collect::<Result<Vec<usize>, _>>()?;
        ensure!(!roots.is_empty() && roots.iter().all(|&root| has_parent.get(root) == Some(&false)), "a root is none");
        check_reached(&nodes, &roots)?;
        Ok(Trees {
            nodes,
            roots,
            weights,
            targets,
            base: Vec::new(),
            aggregate: match node.get_attr_opt::<i64>("aggregate_function")?.unwrap_or(1) {
                0 => Aggregate::Average,
                1 => Aggregate::Sum,
                2 => Aggregate::Min,
                3 => Aggregate::Max,
                other => bail!("aggregate_function {other} is unknown"),
            },
            single: None,
            post: match node.get_attr_opt::<i64>("post_transform")?.unwrap_or(0) {
                0 => Post::None,
                1 => Post::Softmax,
                2 => Post::Logistic,
                other => bail!("post_transform {other} cannot be done"),
            },
        })
    }
}

/// The numbers of a tensor that a node holds.
fn numbers(node: &NodeProto, name: &str) -> TractResult<Vec<f64>> {
    let tensor = load_tensor(&FopenDataResolver, node.get_attr::<&TensorProto>(name)?, None)?;
    let values = tensor.cast_to::<f64>()?;
    let values = values.try_as_plain_ram()?;
    Ok(values.as_slice::<f64>()?.to_vec())
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;
    use tract_onnx::pb::attribute_proto::AttributeType;

    use super::super::tests::{attribute, of, whole};
    use super::*;

    fn tensor(name: &str, values: &[f32]) -> AttributeProto {
        let t = TensorProto {
            dims: vec![values.len() as i64],
            data_type: 1,
            float_data: values.to_vec(),
            ..TensorProto::default()
        };
        AttributeProto { t: Some(t), ..attribute(name, AttributeType::Tensor) }
    }

    fn number(name: &str, i: i64) -> AttributeProto {
        AttributeProto { i, ..attribute(name, AttributeType::Int) }
    }

    /// Tree 0: `x0 <= 1` (or NaN) leads to `x1 > 0`, that to 3 or 4; else to 5. Tree 1 is a leaf of 10 for the second
    /// target.
    fn two_trees(more: &[AttributeProto]) -> NodeProto {
        let mut attribute = vec![
            number("n_targets", 2),
            whole("tree_roots", &[0, 2]),
            whole("nodes_featureids", &[0, 1, 0]),
            tensor("nodes_modes", &[0.0, 3.0, 0.0]),
            tensor("nodes_splits", &[1.0, 0.0, 0.0]),
            whole("nodes_truenodeids", &[1, 0, 3]),
            whole("nodes_trueleafs", &[0, 1, 1]),
            whole("nodes_falsenodeids", &[2, 1, 3]),
            whole("nodes_falseleafs", &[1, 1, 1]),
            whole("nodes_missing_value_tracks_true", &[1, 0, 0]),
            whole("leaf_targetids", &[0, 0, 0, 1]),
            tensor("leaf_weights", &[3.0, 4.0, 5.0, 10.0]),
        ];
        for more in more {
            attribute.retain(|there| there.name != more.name);
            attribute.push(more.clone());
        }
        NodeProto { attribute, ..NodeProto::default() }
    }

    #[test]
    fn trees_are_walked_from_their_roots() {
        let trees = Trees::ensemble(&two_trees(&[])).unwrap();
        for (row, want) in [([1.0, 0.5], 3.0), ([1.0, 0.0], 4.0), ([2.0, 0.5], 5.0), ([f32::NAN, f32::NAN], 4.0)] {
            assert_eq!(of(&trees, &row), [want, 10.0], "{row:?}");
        }
        let average = Trees::ensemble(&two_trees(&[number("aggregate_function", 0)])).unwrap();
        assert_eq!(of(&average, &[2.0, 0.0]), [2.5, 5.0]);
        let softmax = Trees::ensemble(&two_trees(&[number("post_transform", 1)])).unwrap();
        assert!((of(&softmax, &[2.0, 0.0])[0] - 1.0 / (1.0 + 5.0f32.exp())).abs() < 1e-6);
    }

    #[test]
    fn forged_trees_are_refused() {
        let refused = |more: AttributeProto| Trees::ensemble(&two_trees(&[more])).unwrap_err().to_string();
        assert!(refused(whole("tree_roots", &[0])).contains("no root leads"));
        assert!(refused(whole("tree_roots", &[0, 0, 2])).contains("no root leads"));
        assert!(refused(whole("tree_roots", &[0, 1, 2])).contains("root is none"));
        assert!(refused(whole("tree_roots", &[0, 9])).contains("root is none"));
        // A circle.
        assert!(refused(whole("nodes_trueleafs", &[0, 0, 1])).contains("root is none"));
        assert!(refused(whole("nodes_truenodeids", &[3, 0, 3])).contains("nowhere"));
        assert!(refused(whole("nodes_falsenodeids", &[2, 1, 4])).contains("nowhere"));
        assert!(refused(whole("nodes_featureids", &[0, 1])).contains("uneven"));
        assert!(refused(whole("leaf_targetids", &[0, 0, 0, 2])).contains("no target"));
        // Membership of a set.
        assert!(refused(tensor("nodes_modes", &[6.0, 3.0, 0.0])).contains("mode 6"));
        assert!(refused(number("post_transform", 4)).contains("post_transform 4"));
    }
}
