//! A user's own model in ONNX, run by tract.
//!
//! Nothing is fitted: the file is taken as it is, and calibration, threshold and judgement follow as for any
//! other family. It promises that a row runs alone, whatever rows are beside it, and that a file which tract
//! cannot run is refused when it is taken in, not when a patient is to be scored.
//!
//! The model takes one tensor of f32, `[1, features]` (or `[features]`), and gives the probability of the
//! outcome, or its log-odds, as the last number of its last output: `[1, 1]`, `[1]`, or `[1, 2]` as
//! scikit-learn's classifiers do (converted with `zipmap` off).

use std::io::Cursor;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tract_onnx::prelude::{
    Datum as _, Framework as _, InferenceFact, InferenceModelExt as _, IntoRunnable as _, Tensor, TractResult, tvec,
};
use tract_onnx::tract_core::model::TypedSimplePlan;

use super::files::MODEL;
use super::hyper::{OnnxHyper, OnnxOutput};
use super::linear::means;
use super::{Attribution, Link, Matrix, Model, ModelError, shapley};

/// A user's model, ready to run.
pub(super) struct Foreign {
    stored: Stored,
    plan: Arc<TypedSimplePlan>,
}

/// What `model.json` holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    columns: usize,
    output: OnnxOutput,
    /// The mean training row, from which explanations start.
    baseline: Vec<f32>,
    /// The file, in base64.
    onnx: String,
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Foreign").field("columns", &self.stored.columns).finish_non_exhaustive()
    }
}

impl Foreign {
    /// Takes in a file whose rows are those of `x`, which is only asked for its means and one row to try.
    ///
    /// # Errors
    /// [`ModelError::Import`] if tract cannot run it on such rows or it gives no usable number.
    pub(super) fn take(hyper: &OnnxHyper, file: &[u8], x: &Matrix) -> Result<Foreign, ModelError> {
        let stored = Stored {
            columns: x.columns(),
            output: hyper.output,
            baseline: means(x).into_iter().map(|mean| mean as f32).collect(),
            onnx: STANDARD.encode(file),
        };
        let problem = |reason: String| ModelError::Import { reason };
        let model = Foreign { plan: plan(file, stored.columns).map_err(problem)?, stored };
        let mut tried = Vec::new();
        model.margins(x.row(0), &mut tried);
        let usable = match hyper.output {
            OnnxOutput::Probability => tried.iter().all(|p| (0.0..=1.0).contains(p)),
            OnnxOutput::Logit => tried.iter().all(|z| z.is_finite()),
        };
        if usable {
            return Ok(model);
        }
        let what = "for a training row it gives no number that its output can be";
        Err(problem(format!("{what}; check onnx.output, and that the last output holds the probability")))
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable model.
    pub(super) fn decode(bytes: &[u8]) -> Result<Foreign, ModelError> {
        let corrupt = |reason: String| ModelError::corrupt(MODEL, reason);
        let stored: Stored = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
        if stored.columns == 0
            || stored.baseline.len() != stored.columns
            || stored.baseline.iter().any(|x| !x.is_finite())
        {
            return Err(corrupt("its baseline is no row of its columns".to_owned()));
        }
        let file = STANDARD.decode(&stored.onnx).map_err(|e| corrupt(e.to_string()))?;
        Ok(Foreign { plan: plan(&file, stored.columns).map_err(corrupt)?, stored })
    }

    /// The margin of one row; NaN if the model fails on it.
    fn margin(&self, row: &[f32]) -> f64 {
        let run = || -> TractResult<f64> {
            let input = Tensor::from_shape(&[1, row.len()], row)?;
            let outputs = self.plan.run(tvec!(input.into()))?;
            let Some(last) = outputs.last() else { return Ok(f64::NAN) };
            let last = last.cast_to::<f64>()?;
            let numbers = last.to_plain_array_view::<f64>()?;
            Ok(numbers.iter().last().copied().unwrap_or(f64::NAN))
        };
        // tract asserts in places; a row that it cannot run has no risk, and the score says so.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).ok().and_then(Result::ok).unwrap_or(f64::NAN)
    }
}

impl Model for Foreign {
    fn columns(&self) -> usize {
        self.stored.columns
    }

    fn link(&self) -> Link {
        match self.stored.output {
            OnnxOutput::Probability => Link::Probability,
            OnnxOutput::Logit => Link::LogOdds,
        }
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        out.extend(rows.chunks_exact(self.stored.columns).map(|row| self.margin(row)));
    }

    /// Shapley values by sampling: a user's model tells nothing of its inside.
    fn attribute(&self, row: &[f32]) -> Attribution {
        let baseline = &self.stored.baseline;
        let moved = shapley::moved(row, baseline);
        let base = self.margin(baseline);
        shapley::attribute(row, &moved, base, &mut |order, gains| {
            let (mut now, mut before) = (baseline.clone(), base);
            for &player in order {
                now[moved[player]] = row[moved[player]];
                let after = self.margin(&now);
                gains[player] += after - before;
                before = after;
            }
        })
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(&self.stored).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

/// The model of a file for single rows of `columns` numbers.
fn plan(file: &[u8], columns: usize) -> Result<Arc<TypedSimplePlan>, String> {
    let read = || -> TractResult<Arc<TypedSimplePlan>> {
        let fact = InferenceFact::dt_shape(f32::datum_type(), [1, columns]);
        let model = tract_onnx::onnx().model_for_read(&mut Cursor::new(file))?;
        model.with_input_fact(0, fact)?.into_optimized()?.into_runnable()
    };
    match std::panic::catch_unwind(read) {
        Ok(Ok(plan)) => Ok(plan),
        Ok(Err(error)) => Err(format!("tract cannot run it on rows of {columns} f32: {error}")),
        Err(_) => Err("reading it made tract panic".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of a protocol buffer that holds bytes.
    fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![field << 3 | 2];
        out.extend(varint(content.len() as u64));
        out.extend_from_slice(content);
        out
    }

    fn number(field: u8, value: u64) -> Vec<u8> {
        let mut out = vec![field << 3];
        out.extend(varint(value));
        out
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    fn tensor(name: &str, dims: &[u64], values: &[f32]) -> Vec<u8> {
        let mut out: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
        out.extend(number(2, 1));
        out.extend(bytes(8, name.as_bytes()));
        out.extend(bytes(9, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()));
        out
    }

    fn value(name: &str, dims: &[u64]) -> Vec<u8> {
        let shape: Vec<u8> = dims.iter().flat_map(|&dim| bytes(1, &number(1, dim))).collect();
        let tensor = [number(1, 1), bytes(2, &shape)].concat();
        [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
    }

    fn node(kind: &str, inputs: &[&str], output: &str) -> Vec<u8> {
        let mut out: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
        out.extend(bytes(2, output.as_bytes()));
        out.extend(bytes(4, kind.as_bytes()));
        out
    }

    /// `sigmoid(x W + b)` over `weights.len()` columns, or without the sigmoid, as ONNX of opset 13.
    fn logistic(weights: &[f32], bias: f32, sigmoid: bool) -> Vec<u8> {
        let columns = weights.len() as u64;
        let mut graph = [
            bytes(1, &node("MatMul", &["x", "w"], "xw")),
            bytes(1, &node("Add", &["xw", "b"], "z")),
            bytes(2, b"logistic"),
            bytes(5, &tensor("w", &[columns, 1], weights)),
            bytes(5, &tensor("b", &[1], &[bias])),
            bytes(11, &value("x", &[1, columns])),
        ]
        .concat();
        if sigmoid {
            graph.extend(bytes(1, &node("Sigmoid", &["z"], "p")));
        }
        graph.extend(bytes(12, &value(if sigmoid { "p" } else { "z" }, &[1, 1])));
        [number(1, 8), bytes(8, &number(2, 13)), bytes(7, &graph)].concat()
    }

    fn rows() -> Matrix {
        Matrix::from_values(3, (0..30).map(|i| (i * 7 % 11) as f32 / 5.0 - 1.0).collect()).unwrap()
    }

    fn hyper(output: OnnxOutput) -> OnnxHyper {
        OnnxHyper { file: "model.onnx".to_owned(), output }
    }

    #[test]
    fn a_users_model_scores_as_its_formula_and_comes_back_the_same() {
        let (weights, bias) = ([1.5f32, -2.0, 0.25], -0.5f32);
        let x = rows();
        for (output, sigmoid) in [(OnnxOutput::Probability, true), (OnnxOutput::Logit, false)] {
            let model = Foreign::take(&hyper(output), &logistic(&weights, bias, sigmoid), &x).unwrap();
            let again = Foreign::decode(&model.encode().unwrap()).unwrap();
            let (mut ours, mut loaded) = (Vec::new(), Vec::new());
            model.margins(x.values(), &mut ours);
            again.margins(x.values(), &mut loaded);
            for row in 0..x.rows() {
                let z = f64::from(bias)
                    + x.row(row).iter().zip(weights).map(|(&x, w)| f64::from(x) * f64::from(w)).sum::<f64>();
                let want = if sigmoid { super::super::calibration::sigmoid(z) } else { z };
                assert!((ours[row] - want).abs() < 1e-5, "{} {want}", ours[row]);
                assert_eq!(ours[row].to_bits(), loaded[row].to_bits());
            }
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused_when_it_is_taken_in() {
        let x = rows();
        let take = |file: &[u8]| Foreign::take(&hyper(OnnxOutput::Probability), file, &x).unwrap_err().to_string();
        assert!(take(b"no model").contains("tract cannot run it"));
        assert!(take(b"").contains("rows of 3"));
        let wide = logistic(&[1.0; 5], 0.0, true);
        assert!(take(&wide).contains("rows of 3"));
        // Log-odds are no probability.
        assert!(take(&logistic(&[9.0, 0.0, 0.0], 20.0, false)).contains("onnx.output"));
        let mut damaged = logistic(&[1.0, 2.0, 3.0], 0.0, true);
        for at in 0..damaged.len() {
            damaged[at] ^= 0x55;
            // Any answer is right but a panic.
            let _ = Foreign::take(&hyper(OnnxOutput::Probability), &damaged, &x).is_ok();
            damaged[at] ^= 0x55;
        }
        assert!(matches!(Foreign::decode(br#"{"columns":1}"#), Err(ModelError::Corrupt { .. })));
    }

    #[test]
    fn the_explanation_of_a_linear_model_is_its_terms() {
        let weights = [1.5f32, -2.0, 0.25];
        let x = rows();
        let model = Foreign::take(&hyper(OnnxOutput::Logit), &logistic(&weights, 0.0, false), &x).unwrap();
        let Attribution { contributions, error, .. } = model.attribute(x.row(2));
        assert!(error.unwrap() < 1e-5);
        for ((found, (&value, &base)), weight) in
            contributions.iter().zip(x.row(2).iter().zip(&model.stored.baseline)).zip(weights)
        {
            assert!((found - f64::from(weight) * (f64::from(value) - f64::from(base))).abs() < 1e-5);
        }
    }
}
