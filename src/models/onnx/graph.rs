//! What of a user's file leads to its last output, and tract made ready to run it.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tract_onnx::Onnx;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{ModelProto, NodeProto};
use tract_onnx::tract_core::model::TypedSimplePlan;
use tract_onnx::tract_hir::internal::*;

use super::ops;

/// Longest reason of tract's that is passed on.
const LONGEST: usize = 300;

/// Which number of the last output is taken, where there is one for each of several classes.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// Its place.
    pub(super) at: usize,
    /// How many there are.
    pub(super) of: usize,
}

fn framework() -> Onnx {
    let mut framework = tract_onnx::onnx();
    ops::register(&mut framework.op_register);
    framework
}

/// Reads a file, all of it.
///
/// # Errors
/// A reason if it is no ONNX file.
pub(super) fn parse(file: &[u8]) -> Result<ModelProto, String> {
    let read = framework().proto_model_for_read(&mut Cursor::new(file));
    read.map_err(|error| format!("tract cannot run it: it is no ONNX file ({error})"))
}

/// Reads a file and leaves of it what its last output needs; labels fall away, and with them what only they need.
///
/// # Errors
/// A reason if it is no model of one table of features, or has an operator that is unknown here.
pub(super) fn read(file: &[u8]) -> Result<ModelProto, String> {
    let mut model = parse(file)?;
    let Some(graph) = &mut model.graph else { return Err("it holds no graph".to_owned()) };
    let Some(last) = graph.output.pop() else { return Err("it has no output".to_owned()) };

    // Nodes stand after those that they read.
    let mut needed = BTreeSet::from([last.name.clone()]);
    let mut kept = Vec::new();
    for node in graph.node.drain(..).rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            read_by(&node, &mut needed);
            kept.push(node);
        }
    }
    kept.reverse();
    for node in &mut kept {
        if ops::CLASSIFIERS.contains(&node.op_type.as_str()) && node.output.len() == 2 {
            let label = node.output.remove(0);
            if needed.contains(&label) {
                return Err("its last output is a label, or made of one; let it be the probability".to_owned());
            }
        }
        if node.op_type == "LinearClassifier" && node.output.first().is_none_or(|label| !needed.contains(label)) {
            number_labels(node);
        }
    }
    (graph.node, graph.output) = (kept, vec![last]);
    // Hints that may fix the number of rows.
    graph.value_info.clear();
    let given: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.retain(|input| needed.contains(&input.name) && !given.contains(input.name.as_str()));
    if graph.input.len() != 1 {
        let what = format!("it has {} inputs; it must take one table with all features as columns", graph.input.len());
        return Err(format!("{what} (in skl2onnx: one FloatTensorType in initial_types)"));
    }
    let framework = framework();
    let unknown = |node: &&NodeProto| !framework.op_register.0.contains_key(&node.op_type);
    let unknown: BTreeSet<&str> = graph.node.iter().filter(unknown).map(|node| node.op_type.as_str()).collect();
    if !unknown.is_empty() {
        let unknown: Vec<&str> = unknown.into_iter().collect();
        return Err(format!("tract cannot run it: it lacks the operators {}", unknown.join(", ")));
    }
    Ok(model)
}

/// Puts numbers in the place of a classifier's labels: tract takes no text for them, and nobody reads them.
fn number_labels(node: &mut NodeProto) {
    if let Some(labels) = node.attribute.iter_mut().find(|attribute| attribute.name == "classlabels_strings") {
        labels.name = "classlabels_ints".to_owned();
        labels.r#type = AttributeType::Ints as i32;
        labels.ints = (0..).take(labels.strings.len()).collect();
        labels.strings.clear();
    }
}

/// Adds what a node reads, or the graphs within it.
fn read_by(node: &NodeProto, needed: &mut BTreeSet<String>) {
    needed.extend(node.input.iter().filter(|input| !input.is_empty()).cloned());
    let within = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    for graph in within {
        needed.extend(graph.output.iter().map(|output| output.name.clone()));
        graph.node.iter().for_each(|node| read_by(node, needed));
    }
}

/// Whether no gap of a row can reach the last output as NaN: on every way to it the model imputes, or has trees
/// that know where a gap goes. tract is not to be asked for that: its sigmoid makes a number of NaN.
pub(super) fn knows_gaps(model: &ModelProto) -> bool {
    let Some(graph) = &model.graph else { return false };
    let mut open: BTreeSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    for node in &graph.node {
        let mut read = BTreeSet::new();
        read_by(node, &mut read);
        if read.iter().any(|name| open.contains(name.as_str())) && !closes_gaps(node) {
            open.extend(node.output.iter().map(String::as_str));
        }
    }
    !graph.output.iter().any(|output| open.contains(output.name.as_str()))
}

fn closes_gaps(node: &NodeProto) -> bool {
    match node.op_type.as_str() {
        "Imputer" => ops::imputed(node).is_ok_and(|(gap, values)| gap.is_nan() && !values.iter().any(|x| x.is_nan())),
        "TreeEnsembleClassifier" | "TreeEnsembleRegressor" | "TreeEnsemble" => {
            let tracks = node.get_attr_opt_slice::<i64>("nodes_missing_value_tracks_true");
            tracks.is_ok_and(|tracks| tracks.unwrap_or_default().iter().any(|&to| to != 0))
        }
        _ => false,
    }
}

/// A model made ready for a fixed number of rows.
pub(super) struct Plan {
    plan: Arc<TypedSimplePlan>,
    shape: [usize; 2],
    place: Option<Place>,
    kind: DatumType,
}

impl Plan {
    /// Makes what [`read`] gave ready for `rows` rows of `columns` numbers; of its output the number in that place
    /// is taken, else the last of one or two.
    ///
    /// # Errors
    /// A reason if tract cannot run it on such rows, or its output holds another number of numbers a row.
    pub(super) fn new(model: &ModelProto, rows: usize, columns: usize, place: Option<Place>) -> Result<Plan, String> {
        let ready = || -> TractResult<(Plan, usize)> {
            let model = framework().model_for_proto_model(model)?;
            // Rows are f32; a model of f64 gets them so.
            let kind = model.input_fact(0)?.datum_type.concretize().unwrap_or(f32::datum_type());
            ensure!(kind == f32::datum_type() || kind == f64::datum_type(), "its input is {kind:?}, not f32 or f64");
            let fact = InferenceFact::dt_shape(kind, [rows, columns]);
            let model = model.with_input_fact(0, fact)?.into_optimized()?;
            let axes = model.output_fact(0)?.shape.iter().map(|axis| axis.to_usize());
            let numbers = axes.product::<Result<usize, _>>()?;
            Ok((Plan { plan: model.into_runnable()?, shape: [rows, columns], place, kind }, numbers))
        };
        let fits = |numbers: usize| match place {
            Some(Place { at, of }) => at < of && rows.checked_mul(of) == Some(numbers),
            None => numbers == rows || numbers == 2 * rows,
        };
        match ready() {
            Ok((plan, numbers)) if fits(numbers) => Ok(plan),
            Ok((_, numbers)) => {
                let what = format!("its last output holds {numbers} numbers for {rows} rows");
                Err(match place {
                    Some(Place { of, .. }) => format!("{what}; it must be those of {of} classes"),
                    None => format!(
                        "{what}; it must be the probability, or those of two classes; of more, name one as onnx.class"
                    ),
                })
            }
            Err(error) => {
                let reason: String = format!("{error:#}").chars().take(LONGEST).collect();
                Err(format!("tract cannot run it on rows of {columns} f32: {reason}"))
            }
        }
    }

    /// The number that is taken for each of the rows it was made for.
    ///
    /// # Errors
    /// What tract says; it also asserts in places, which is for the caller to catch.
    pub(super) fn run(&self, rows: &[f32]) -> TractResult<Vec<f64>> {
        let input = Tensor::from_shape(&self.shape, rows)?.cast_to_dt(self.kind)?.into_owned();
        let outputs = self.plan.run(tvec!(input.into()))?;
        let Some(last) = outputs.last() else { bail!("it gives nothing") };
        let last = last.cast_to::<f64>()?;
        let numbers = last.try_as_plain_ram()?;
        let numbers = numbers.as_slice::<f64>()?;
        let each = numbers.len() / self.shape[0];
        let at = self.place.map_or(each.saturating_sub(1), |place| place.at);
        ensure!(at < each && numbers.len().is_multiple_of(self.shape[0]), "it gives another number of rows");
        Ok(numbers.chunks_exact(each).map(|row| row[at]).collect())
    }
}
