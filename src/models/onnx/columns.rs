//! What a user's file makes of the columns before its trees, each by itself.
//!
//! Where it only fills, scales, encodes, picks and puts side by side, every number that its trees read comes of one
//! column of the row. In f32, step by step, as tract does it: a tree may part numbers that differ by a rounding.

use std::collections::BTreeMap;

use tract_onnx::pb::{GraphProto, NodeProto};

use super::ops::Work;
use super::plain::constant;

/// Steps from a row to the numbers that trees read.
#[derive(Debug)]
pub(super) struct Columns {
    steps: Vec<Step>,
    /// Which table the trees read.
    last: usize,
    /// Of each number that they read: the column that it comes of.
    sources: Vec<usize>,
}

/// A step makes one more table; the first is the row itself.
#[derive(Debug)]
struct Step {
    /// The tables that it reads.
    reads: Vec<usize>,
    does: Does,
}

#[derive(Debug)]
enum Does {
    /// Puts tables side by side, or leaves the only one as it is.
    Join,
    /// Leaves the whole part of each number.
    Truncate,
    Work(Work),
}

/// What is known of a table.
#[derive(Clone)]
struct Table {
    /// Of each number: the column that it comes of.
    sources: Vec<usize>,
    /// Whether it has rows and columns only, no third axis.
    is_flat: bool,
}

impl Columns {
    /// Reads the nodes from a row of `columns` to the table `end`; none if one of them does otherwise.
    pub(super) fn read(graph: &GraphProto, nodes: &[NodeProto], columns: usize, end: &str) -> Option<Columns> {
        let mut places = BTreeMap::from([(graph.input.first()?.name.as_str(), 0)]);
        let mut tables = vec![Table { sources: (0..columns).collect(), is_flat: true }];
        let mut steps = Vec::new();
        for node in nodes.iter().filter(|node| node.op_type != "Constant") {
            let (step, table) = Step::read(graph, node, &places, &tables)?;
            places.insert(node.output.first()?, tables.len());
            steps.push(step);
            tables.push(table);
        }
        let last = *places.get(end)?;
        let table = tables.swap_remove(last);
        table.is_flat.then_some(Columns { steps, last, sources: table.sources })
    }

    /// Of each number that trees read: the column that it comes of.
    pub(super) fn sources(&self) -> &[usize] {
        &self.sources
    }

    /// What trees read of a row; none if a code of the row is unknown.
    pub(super) fn apply(&self, row: &[f32]) -> Option<Vec<f32>> {
        let mut tables = vec![row.to_vec()];
        for Step { reads, does } in &self.steps {
            let mut out = Vec::new();
            for table in reads.iter().map(|&read| &tables[read]) {
                match does {
                    Does::Join => out.extend_from_slice(table),
                    Does::Truncate => out.extend(table.iter().map(|&x| (x as i64) as f32)),
                    Does::Work(work) => work.apply(table, &mut out).ok()?,
                }
            }
            tables.push(out);
        }
        Some(tables.swap_remove(self.last))
    }
}

impl Step {
    /// Reads a node whose inputs are among the tables known by their names, and what it makes.
    fn read(
        graph: &GraphProto,
        node: &NodeProto,
        places: &BTreeMap<&str, usize>,
        tables: &[Table],
    ) -> Option<(Step, Table)> {
        let reads: Vec<usize> = match node.op_type.as_str() {
            "Concat" => node.input.iter().map(|name| places.get(name.as_str()).copied()).collect::<Option<_>>()?,
            _ => vec![*places.get(node.input.first()?.as_str())?],
        };
        let table = tables.get(*reads.first()?)?;
        let axis = |default: i64| node.get_attr_opt::<i64>("axis").ok().map(|axis| axis.unwrap_or(default));
        let flattened = Table { is_flat: true, ..table.clone() };
        let picked = |name: &String| Some(Does::Work(Work::Pick { columns: places_of(graph, name)? }));
        let does = match node.op_type.as_str() {
            "Identity" | "Dropout" => return Some((Step { reads, does: Does::Join }, table.clone())),
            "Cast" => match node.get_attr::<i64>("to").ok()? {
                // To float or double.
                1 | 11 => return Some((Step { reads, does: Does::Join }, table.clone())),
                // To int32 or int64.
                6 | 7 => return Some((Step { reads, does: Does::Truncate }, table.clone())),
                _ => return None,
            },
            "Reshape" => {
                let shape = constant(graph, node.input.get(1)?)?.values;
                let fits = matches!(*shape, [_, width] if width == table.sources.len() as f64);
                return fits.then_some((Step { reads, does: Does::Join }, flattened));
            }
            "Flatten" => return (axis(1)? == 1).then_some((Step { reads, does: Does::Join }, flattened)),
            "Concat" => {
                let all = reads.iter().map(|&read| &tables[read]);
                let fits = matches!(axis(0)?, 1 | -1) && all.clone().all(|table| table.is_flat);
                let sources = all.flat_map(|table| table.sources.iter().copied()).collect();
                return fits.then_some((Step { reads, does: Does::Join }, Table { sources, is_flat: true }));
            }
            "Gather" if axis(0)? == 1 => picked(node.input.get(1)?)?,
            "ArrayFeatureExtractor" => picked(node.input.get(1)?)?,
            _ => Does::Work(Work::read(node).ok()?),
        };
        let Does::Work(work) = &does else { return None };
        work.axes(table.sources.len()).ok().filter(|_| table.is_flat)?;
        let table = match work {
            Work::Scale { .. } | Work::Impute { .. } | Work::Binarize { .. } | Work::Encode { .. } => table.clone(),
            Work::OneHot { categories, .. } => {
                let each = |&source: &usize| std::iter::repeat_n(source, categories.len());
                Table { sources: table.sources.iter().flat_map(each).collect(), is_flat: false }
            }
            Work::Pick { columns } => {
                Table { sources: columns.iter().map(|&column| table.sources[column]).collect(), is_flat: true }
            }
            // They read several columns at once.
            Work::Trees(_) | Work::Machine(_) => return None,
        };
        Some((Step { reads, does }, table))
    }
}

/// The places that a tensor of one axis holds.
fn places_of(graph: &GraphProto, name: &str) -> Option<Vec<usize>> {
    let held = constant(graph, name)?;
    let place = |&value: &f64| (value >= 0.0).then_some(value as usize);
    // As an ArrayFeatureExtractor has them, with an axis of 1 before them or without.
    (held.shape.last() == Some(&held.values.len())).then(|| held.values.iter().map(place).collect())?
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::{AttributeProto, TensorProto, ValueInfoProto};

    use super::*;

    fn whole(name: &str, i: i64) -> AttributeProto {
        let r#type = AttributeType::Int as i32;
        AttributeProto { name: name.to_owned(), r#type, i, ..AttributeProto::default() }
    }

    fn floats(name: &str, floats: &[f32]) -> AttributeProto {
        let r#type = AttributeType::Floats as i32;
        AttributeProto { name: name.to_owned(), r#type, floats: floats.to_vec(), ..AttributeProto::default() }
    }

    fn ints(name: &str, ints: &[i64]) -> AttributeProto {
        let r#type = AttributeType::Ints as i32;
        AttributeProto { name: name.to_owned(), r#type, ints: ints.to_vec(), ..AttributeProto::default() }
    }

    fn node(kind: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            op_type: kind.to_owned(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        }
    }

    /// Four columns; a file that holds some places.
    fn read(nodes: &[NodeProto], end: &str) -> Option<Columns> {
        let held = |name: &str, places: &[i64]| TensorProto {
            name: name.to_owned(),
            dims: vec![places.len() as i64],
            data_type: 7,
            int64_data: places.to_vec(),
            ..TensorProto::default()
        };
        let graph = GraphProto {
            input: vec![ValueInfoProto { name: "x".to_owned(), ..ValueInfoProto::default() }],
            initializer: vec![
                held("codes", &[3, 0]),
                held("numbers", &[1]),
                held("beyond", &[4]),
                held("six", &[-1, 6]),
            ],
            ..GraphProto::default()
        };
        Columns::read(&graph, nodes, 4, end)
    }

    #[test]
    fn every_number_is_traced_to_its_column() {
        let columns = read(
            &[
                node("ArrayFeatureExtractor", &["x", "codes"], "c", vec![]),
                node("Cast", &["c"], "whole", vec![whole("to", 7)]),
                node("OneHotEncoder", &["whole"], "hot", vec![ints("cats_int64s", &[0, 1, 5])]),
                node("Reshape", &["hot", "six"], "flat", vec![]),
                node("Gather", &["x", "numbers"], "n", vec![whole("axis", 1)]),
                node("Scaler", &["n"], "scaled", vec![floats("offset", &[1.0]), floats("scale", &[2.0])]),
                node("Concat", &["flat", "scaled", "n"], "end", vec![whole("axis", 1)]),
            ],
            "end",
        )
        .unwrap();
        assert_eq!(columns.sources(), [3, 3, 3, 0, 0, 0, 1, 1]);
        assert_eq!(columns.apply(&[5.0, 4.0, 9.0, 1.75]).unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 6.0, 4.0]);
        assert_eq!(read(&[], "x").unwrap().sources(), [0, 1, 2, 3]);
    }

    #[test]
    fn what_mixes_columns_or_does_not_fit_is_not_read() {
        assert!(read(&[node("Normalizer", &["x"], "y", vec![])], "y").is_none());
        assert!(read(&[node("MatMul", &["x", "w"], "y", vec![])], "y").is_none());
        assert!(read(&[node("ArrayFeatureExtractor", &["x", "beyond"], "y", vec![])], "y").is_none());
        assert!(read(&[node("Gather", &["x", "codes"], "y", vec![])], "y").is_none(), "it gathers rows");
        assert!(read(&[node("Concat", &["x", "x"], "y", vec![whole("axis", 0)])], "y").is_none());
        let hot = || node("OneHotEncoder", &["x"], "y", vec![ints("cats_int64s", &[0, 1])]);
        assert!(read(&[hot()], "y").is_none(), "it has a third axis");
        assert!(read(&[hot(), node("Reshape", &["y", "six"], "z", vec![])], "z").is_none());
        assert!(read(&[], "y").is_none());
    }
}
