//! The classes that a user's file tells apart, by the names that it has for them.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::plain::constant;

/// The names of the classes in the order of the numbers of the last output; none if the file has none for them.
///
/// They stand where a dictionary is made of the numbers, where a label is picked by the largest of them, or with the
/// classifier.
pub(super) fn read(model: &ModelProto) -> Option<Vec<String>> {
    let graph = model.graph.as_ref()?;
    let last = |told: &dyn Fn(&NodeProto) -> Option<Vec<String>>| graph.node.iter().rev().find_map(told);
    last(&|node| of_node(node).filter(|_| node.op_type == "ZipMap"))
        .or_else(|| {
            last(&|node| of_tensor(graph, node.input.first().filter(|_| node.op_type == "ArrayFeatureExtractor")?))
        })
        .or_else(|| last(&of_node))
}

/// Those that a node holds.
fn of_node(node: &NodeProto) -> Option<Vec<String>> {
    if let Ok(Some(names)) = node.get_attr_opt_vec::<String>("classlabels_strings") {
        return Some(names);
    }
    let numbers = |name: &str| node.get_attr_opt_slice::<i64>(name).ok().flatten();
    let numbers = numbers("classlabels_int64s").or_else(|| numbers("classlabels_ints"))?;
    Some(numbers.iter().map(i64::to_string).collect())
}

/// Those that a tensor of the file holds.
fn of_tensor(graph: &GraphProto, name: &str) -> Option<Vec<String>> {
    let held = graph.initializer.iter().find(|tensor| tensor.name == name)?;
    if held.data_type == DataType::String as i32 {
        return held.string_data.iter().map(|name| String::from_utf8(name.clone()).ok()).collect();
    }
    Some(constant(graph, name)?.values.iter().map(f64::to_string).collect())
}
