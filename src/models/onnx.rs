//! A user's own model in ONNX, run by tract, or by our own code where it is a plain network.
//!
//! Nothing is fitted: the file is taken as it is, and calibration, threshold and judgement follow as for any
//! other family. It promises that a row runs alone, whatever rows are beside it, and that a file which tract
//! cannot run is refused when it is taken in, not when a patient is to be scored.
//!
//! The model takes one tensor of f32, `[1, features]`, and gives the probability of the outcome, or its
//! log-odds, as the last number of its last output: `[1, 1]`, `[1]`, or `[1, 2]` as scikit-learn's classifiers do
//! (with or without `zipmap`). A model that imputes all that it reads, or has trees that know where a gap goes,
//! gets gaps as NaN; to any other they are filled with the training medians.

mod graph;
mod ops;
mod plain;
mod svm;
#[cfg(test)]
mod tests;
mod trees;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tract_onnx::pb::ModelProto;

use self::graph::Plan;
use self::plain::Plain;
use super::calibration::sigmoid;
use super::files::MODEL;
use super::hyper::{OnnxHyper, OnnxOutput};
use super::{Attribution, Link, Matrix, Model, ModelError, shapley};

/// Rows that an explanation puts to tract at a time.
const BATCH: usize = 32;

/// How near another way to compute an output must come to tract's, row by row.
const CLOSE: f64 = 1e-5;

/// A user's model, ready to run.
pub(super) struct Foreign {
    stored: Stored,
    engine: Engine,
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
    /// Whether it is a plain network, which gave what tract gives on every training row.
    #[serde(default)]
    plain: bool,
    /// Whether it takes many rows at a time, and gives what it gives for each alone.
    #[serde(default)]
    batches: bool,
}

/// What computes the margins.
enum Engine {
    /// tract, a row at a time; for explanations many, if the model can.
    Tract { one: Plan, many: Option<Plan> },
    /// Our own reading of the file.
    Plain(Plain),
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Foreign").field("columns", &self.stored.columns).finish_non_exhaustive()
    }
}

impl Foreign {
    /// Takes in a file whose rows are those of `x`, on all of which it is tried.
    ///
    /// # Errors
    /// [`ModelError::Import`] if tract cannot run it on such rows or it gives no usable number.
    pub(super) fn take(hyper: &OnnxHyper, file: &[u8], x: &Matrix) -> Result<Foreign, ModelError> {
        let problem = |reason: String| ModelError::Import { reason };
        let (columns, baseline) = (x.columns(), middle(x));
        let model = caught(|| graph::read(file)).map_err(problem)?;
        let one = caught(|| Plan::new(&model, 1, columns)).map_err(problem)?;
        let told = |row: &[f32]| alone(&one, row);
        let usable = |number: f64| match hyper.output {
            // Sums of f32 end a little off.
            OnnxOutput::Probability => (-CLOSE..=1.0 + CLOSE).contains(&number),
            OnnxOutput::Logit => number.is_finite(),
        };
        let rows: Vec<f64> = (0..x.rows()).into_par_iter().map(|row| told(x.row(row))).collect();
        if !rows.iter().all(|&number| usable(number)) {
            let what = "for a training row it gives no number that its output can be";
            return Err(problem(format!("{what}; check onnx.output, and that the last output holds the probability")));
        }
        if !usable(told(&baseline)) {
            let what = "for the mean of the training rows, where explanations start, it gives no number";
            return Err(problem(format!("{what}; let its encoders ignore codes that they do not know")));
        }
        let plain = read_plain(&model, columns, hyper.output)
            .filter(|plain| rows.iter().enumerate().all(|(row, &told)| is_close(told, output_of(plain, x.row(row)))));
        let many = match plain {
            Some(_) => None,
            None => caught(|| Plan::new(&model, BATCH, columns)).ok().filter(|many| {
                let picked: Vec<usize> = (0..BATCH).map(|row| row % x.rows().max(1)).collect();
                let found = caught(|| many.run(x.pick(&picked).values()).map_err(|error| error.to_string()));
                found.is_ok_and(|found| picked.iter().zip(found).all(|(&row, found)| is_close(rows[row], found)))
            }),
        };
        let stored = Stored {
            columns,
            output: hyper.output,
            baseline,
            onnx: STANDARD.encode(file),
            plain: plain.is_some(),
            batches: many.is_some(),
        };
        let engine = plain.map_or(Engine::Tract { one, many }, Engine::Plain);
        Ok(Foreign { stored, engine })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable model.
    pub(super) fn decode(bytes: &[u8]) -> Result<Foreign, ModelError> {
        let corrupt = |reason: String| ModelError::corrupt(MODEL, reason);
        let stored: Stored = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
        let columns = stored.columns;
        if columns == 0 || stored.baseline.len() != columns || stored.baseline.iter().any(|x| !x.is_finite()) {
            return Err(corrupt("its baseline is no row of its columns".to_owned()));
        }
        let file = STANDARD.decode(&stored.onnx).map_err(|e| corrupt(e.to_string()))?;
        let model = caught(|| graph::read(&file)).map_err(corrupt)?;
        let plan = |rows: usize| caught(|| Plan::new(&model, rows, columns)).map_err(corrupt);
        let engine = if stored.plain {
            let plain = read_plain(&model, columns, stored.output);
            Engine::Plain(plain.ok_or_else(|| corrupt("it is no plain network, as it says".to_owned()))?)
        } else {
            let many = if stored.batches { Some(plan(BATCH)?) } else { None };
            Engine::Tract { one: plan(1)?, many }
        };
        Ok(Foreign { stored, engine })
    }

    /// Whether a file deals with gaps itself; of one that cannot be read, [`Foreign::take`] says why.
    pub(super) fn knows_gaps(file: &[u8]) -> bool {
        caught(|| graph::read(file)).is_ok_and(|model| graph::knows_gaps(&model))
    }

    /// The margin of one row; NaN if the model fails on it.
    fn margin(&self, row: &[f32]) -> f64 {
        match &self.engine {
            Engine::Tract { one, .. } => alone(one, row),
            Engine::Plain(plain) => plain.margin(row),
        }
    }

    /// The margins of [`BATCH`] rows at most, all at once if the model can; `rows` is filled up for that.
    fn batch(&self, rows: &mut Vec<f32>) -> Vec<f64> {
        let count = rows.len() / self.stored.columns;
        if let Engine::Tract { many: Some(many), .. } = &self.engine {
            for _ in count..BATCH {
                rows.extend_from_slice(&self.stored.baseline);
            }
            if let Ok(mut found) = caught(|| many.run(rows).map_err(|error| error.to_string())) {
                found.truncate(count);
                return found;
            }
        }
        // One of the rows makes the model fail: each alone, then.
        rows.chunks_exact(self.stored.columns).take(count).map(|row| self.margin(row)).collect()
    }
}

impl Model for Foreign {
    fn columns(&self) -> usize {
        self.stored.columns
    }

    fn link(&self) -> Link {
        match (&self.engine, self.stored.output) {
            (Engine::Plain(_), _) | (_, OnnxOutput::Logit) => Link::LogOdds,
            (_, OnnxOutput::Probability) => Link::Probability,
        }
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        out.extend(rows.chunks_exact(self.stored.columns).map(|row| self.margin(row)));
    }

    /// Of a plain network exact; else Shapley values by sampling, since the model tells nothing of its inside.
    fn attribute(&self, row: &[f32]) -> Attribution {
        let baseline = &self.stored.baseline;
        if let Engine::Plain(plain) = &self.engine {
            return plain.attribute(row, baseline);
        }
        let moved = shapley::moved(row, baseline);
        // Many rows at once may round otherwise than each alone, so the ends are those that are scored.
        let (base, full) = (self.margin(baseline), self.margin(row));
        let mut rows = Vec::new();
        shapley::attribute(row, &moved, base, &mut |order, gains| {
            let (mut now, mut before) = (baseline.clone(), base);
            let mut left = order.len();
            for players in order.chunks(BATCH) {
                rows.clear();
                for &player in players {
                    now[moved[player]] = row[moved[player]];
                    rows.extend_from_slice(&now);
                }
                for (&player, after) in players.iter().zip(self.batch(&mut rows)) {
                    left -= 1;
                    let after = if left == 0 { full } else { after };
                    gains[player] += after - before;
                    before = after;
                }
            }
        })
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(&self.stored).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

/// The mean of what is known of each column; 0 where nothing is.
fn middle(x: &Matrix) -> Vec<f32> {
    let mean = |column: usize| {
        let known = (0..x.rows()).map(|row| x.row(row)[column]).filter(|value| !value.is_nan());
        let (sum, count) = known.fold((0.0, 0u32), |(sum, count), value| (sum + f64::from(value), count + 1));
        (sum / f64::from(count.max(1))) as f32
    };
    (0..x.columns()).into_par_iter().map(mean).collect()
}

/// What tract gives for a single row; NaN if the model fails on it.
fn alone(plan: &Plan, row: &[f32]) -> f64 {
    let found = caught(|| plan.run(row).map_err(|error| error.to_string()));
    found.ok().and_then(|found| found.first().copied()).unwrap_or(f64::NAN)
}

/// The plain network that a file may be, if its output is what the settings say.
fn read_plain(model: &ModelProto, columns: usize, output: OnnxOutput) -> Option<Plain> {
    let read = caught(|| Plain::read(model, columns).ok_or_else(|| "it is not plain".to_owned()));
    read.ok().filter(|plain| plain.is_squashed() == (output == OnnxOutput::Probability))
}

/// The last number of the last output, by the plain network.
fn output_of(plain: &Plain, row: &[f32]) -> f64 {
    let margin = plain.margin(row);
    if plain.is_squashed() { sigmoid(margin) } else { margin }
}

fn is_close(told: f64, found: f64) -> bool {
    (told - found).abs() <= CLOSE * (1.0 + told.abs())
}

/// tract asserts in places, of files and of rows; a panic in there is an error of the model.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(_) => Err("reading it made tract panic".to_owned()),
    }
}
