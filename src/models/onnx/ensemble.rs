//! Trees behind columns, read out of a user's file.
//!
//! Where the file makes each number that its trees read of one column alone, and its output is a sum over leaves or
//! the sigmoid of one, it is scored as our own trees are. It is explained exactly: by the Shapley values of the very
//! game that sampling would play, in which a column is that of the row once it has come, and before of the mean
//! training row. Whoever reads a model so must hold it against what tract says.

use tract_onnx::pb::ModelProto;

use super::super::Attribution;
use super::super::trees;
use super::columns::Columns;
use super::graph::Place;
use super::ops::Work;

/// Trees behind columns.
#[derive(Debug)]
pub(super) struct Ensemble {
    columns: Columns,
    trees: trees::Ensemble,
    squashed: bool,
}

impl Ensemble {
    /// Reads a model, of whose output the number in that place counts, else the last of one or two; none if it is of
    /// another kind.
    pub(super) fn read(model: &ModelProto, columns: usize, place: Option<Place>) -> Option<Ensemble> {
        let graph = model.graph.as_ref()?;
        let mut name = graph.output.first()?.name.as_str();
        let mut squashed = false;
        // Nodes stand after those that they read.
        let mut nodes = graph.node.iter().enumerate().rev();
        let (before, node) = loop {
            let (before, node) = nodes.find(|(_, node)| node.output.iter().any(|output| output == name))?;
            match node.op_type.as_str() {
                "TreeEnsembleClassifier" | "TreeEnsembleRegressor" | "TreeEnsemble" => break (before, node),
                "Identity" | "ZipMap" => {}
                // To float or double.
                "Cast" if matches!(node.get_attr::<i64>("to"), Ok(1 | 11)) => {}
                "Sigmoid" if !squashed => squashed = true,
                _ => return None,
            }
            name = node.input.first()?;
        };
        let Work::Trees(trees) = Work::read(node).ok()? else { return None };
        let output = match (place, trees.outputs()) {
            (Some(Place { at, of }), outputs) => (of == outputs).then_some(at)?,
            (None, 1) => 0,
            (None, 2) => 1,
            (None, _) => return None,
        };
        let sum = trees.sum(output)?;
        let columns = Columns::read(graph, &graph.node[..before], columns, node.input.first()?)?;
        (!(squashed && sum.squashed)).then_some(())?;
        let trees = trees::Ensemble::new(columns.sources().len(), sum.offset, 1.0, sum.trees).ok()?;
        Some(Ensemble { columns, trees, squashed: squashed || sum.squashed })
    }

    /// Whether its output is the sigmoid of [`Ensemble::margin`], not that itself.
    pub(super) fn is_squashed(&self) -> bool {
        self.squashed
    }

    /// What a row comes to; NaN if a code of it is unknown.
    pub(super) fn margin(&self, row: &[f32]) -> f64 {
        self.columns.apply(row).map_or(f64::NAN, |row| self.sum(&row))
    }

    fn sum(&self, row: &[f32]) -> f64 {
        let mut margins = Vec::with_capacity(1);
        self.trees.margins(row, &mut margins);
        margins.first().copied().unwrap_or(f64::NAN)
    }

    /// The Shapley values of a row against `baseline`.
    pub(super) fn attribute(&self, row: &[f32], baseline: &[f32]) -> Attribution {
        match (self.columns.apply(row), self.columns.apply(baseline)) {
            (Some(here), Some(there)) => {
                let contributions = self.trees.shap_against(&here, &there, self.columns.sources(), row.len());
                Attribution::exact(self.sum(&there), contributions)
            }
            _ => Attribution::exact(f64::NAN, vec![f64::NAN; row.len()]),
        }
    }
}
