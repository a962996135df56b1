//! A user's own model in ONNX, run by tract, or by our own code where it is a plain network or trees.
//!
//! Nothing is fitted: the file is taken as it is, and calibration, threshold and judgement follow as for any
//! other family. It promises that a row runs alone, whatever rows are beside it, and that a file which tract
//! cannot run is refused when it is taken in, not when a patient is to be scored.
//!
//! The model takes one tensor of f32, `[1, features]`, and gives the probability of the outcome, or its
//! log-odds, as the last number of its last output: `[1, 1]`, `[1]`, or `[1, 2]` as scikit-learn's classifiers do
//! (with or without `zipmap`); or it gives the probabilities of several classes, of which one is taken by its name.
//! A model that imputes all that it reads, or has trees that know where a gap goes, gets gaps as NaN; to any other
//! they are filled with the training medians.

mod columns;
mod ensemble;
mod graph;
mod labels;
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

use self::ensemble::Ensemble;
use self::graph::{Place, Plan};
use self::plain::Plain;
use super::calibration::sigmoid;
use super::files::MODEL;
use super::hyper::{OnnxHyper, OnnxOutput};
use super::{Attribution, Link, Matrix, Model, ModelError, shapley};

/// Rows that an explanation puts to tract at a time.
const BATCH: usize = 32;

/// How near our own way to compute an output must come to tract's, row by row.
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
    /// Whether our own reading of it gave what tract gives on every training row.
    #[serde(default)]
    plain: bool,
    /// Whether it takes many rows at a time, and gives what it gives for each alone.
    #[serde(default)]
    batches: bool,
    /// Whether it gives the same bits, too, as what works row by row does; what multiplies matrices may round otherwise.
    #[serde(default)]
    row_by_row: bool,
    /// Which number of its last output is the answer; none: the last of one or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

/// What computes the margins.
enum Engine {
    /// tract, a row at a time; for explanations many, if the model can.
    Tract { one: Plan, many: Option<Plan> },
    /// Our own reading of the file.
    Own(Own),
}

/// A file that is simple enough for our own code.
#[derive(Debug)]
enum Own {
    Plain(Plain),
    Trees(Ensemble),
}

impl Own {
    /// Reads a file, if it is such a one and its output what the settings say.
    fn read(model: &ModelProto, columns: usize, output: OnnxOutput, place: Option<Place>) -> Option<Own> {
        let read = || {
            // One of several classes' is no plain network here.
            let plain = if place.is_none() { Plain::read(model, columns) } else { None };
            let own = plain.map(Own::Plain).or_else(|| Ensemble::read(model, columns, place).map(Own::Trees));
            own.ok_or_else(|| "it is of another kind".to_owned())
        };
        caught(read).ok().filter(|own| match own {
            Own::Plain(plain) => plain.is_squashed() == (output == OnnxOutput::Probability),
            // The mean of leaves can be a probability, too.
            Own::Trees(trees) => !trees.is_squashed() || output == OnnxOutput::Probability,
        })
    }

    fn is_squashed(&self) -> bool {
        match self {
            Own::Plain(plain) => plain.is_squashed(),
            Own::Trees(trees) => trees.is_squashed(),
        }
    }

    fn margin(&self, row: &[f32]) -> f64 {
        match self {
            Own::Plain(plain) => plain.margin(row),
            Own::Trees(trees) => trees.margin(row),
        }
    }

    /// What tract gives for a row.
    fn output(&self, row: &[f32]) -> f64 {
        let margin = self.margin(row);
        if self.is_squashed() { sigmoid(margin) } else { margin }
    }

    fn attribute(&self, row: &[f32], baseline: &[f32]) -> Attribution {
        match self {
            Own::Plain(plain) => plain.attribute(row, baseline),
            Own::Trees(trees) => trees.attribute(row, baseline),
        }
    }
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
    /// [`ModelError::Import`] if tract cannot run it on such rows, it gives no usable number, or has no class of the
    /// name that is asked for.
    pub(super) fn take(hyper: &OnnxHyper, file: &[u8], x: &Matrix) -> Result<Foreign, ModelError> {
        let problem = |reason: String| ModelError::Import { reason };
        let (columns, baseline) = (x.columns(), middle(x));
        let place = Foreign::place(hyper, file)?;
        let model = caught(|| graph::read(file)).map_err(problem)?;
        let one = caught(|| Plan::new(&model, 1, columns, place)).map_err(problem)?;
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
        let own = Own::read(&model, columns, hyper.output, place)
            .filter(|own| rows.iter().enumerate().all(|(row, &told)| off(told, own.output(x.row(row))) <= CLOSE));
        let many = match own {
            Some(_) => None,
            None => caught(|| Plan::new(&model, BATCH, columns, place)).ok(),
        };
        let differs = many.as_ref().map_or(f64::INFINITY, |many| difference(many, x, &rows));
        let many = many.filter(|_| differs <= CLOSE);
        let stored = Stored {
            columns,
            output: hyper.output,
            baseline,
            onnx: STANDARD.encode(file),
            plain: own.is_some(),
            batches: many.is_some(),
            row_by_row: differs == 0.0,
            place,
        };
        let engine = own.map_or(Engine::Tract { one, many }, Engine::Own);
        Ok(Foreign { stored, engine })
    }

    /// The names of the classes that a file tells apart, in the order of the numbers of its last output.
    ///
    /// # Errors
    /// [`ModelError::Import`] if it is no ONNX file, or neither it nor the settings name them.
    pub(super) fn classes(hyper: &OnnxHyper, file: &[u8]) -> Result<Vec<String>, ModelError> {
        if !hyper.classes.is_empty() {
            return Ok(hyper.classes.clone());
        }
        let named = caught(|| Ok(labels::read(&graph::parse(file)?)));
        named.map_err(|reason| ModelError::Import { reason })?.ok_or_else(|| ModelError::Import {
            reason: "it does not name its classes; name them as onnx.classes, in the order of its last output"
                .to_owned(),
        })
    }

    /// Where the class stands that is asked for; none: no class is.
    fn place(hyper: &OnnxHyper, file: &[u8]) -> Result<Option<Place>, ModelError> {
        if hyper.class.is_empty() {
            return Ok(None);
        }
        let classes = Foreign::classes(hyper, file)?;
        match classes.iter().position(|class| *class == hyper.class) {
            Some(at) => Ok(Some(Place { at, of: classes.len() })),
            None => {
                let what = format!("its classes are {}, none is '{}'", classes.join(", "), hyper.class);
                let remedy = "correct onnx.class, or name them as onnx.classes in the order of its last output";
                Err(ModelError::Import { reason: format!("{what}; {remedy}") })
            }
        }
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
        let plan = |rows: usize| caught(|| Plan::new(&model, rows, columns, stored.place)).map_err(corrupt);
        let engine = if stored.plain {
            let own = Own::read(&model, columns, stored.output, stored.place);
            Engine::Own(own.ok_or_else(|| corrupt("it is no plain network or trees, as it says".to_owned()))?)
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
            Engine::Own(own) => own.margin(row),
        }
    }

    /// The margins of [`BATCH`] rows at most, all at once if the model can; `rows` is filled up for that.
    ///
    /// Few rows of a model that works row by row go one by one, as that costs less and gives the same bits. Of any
    /// other they are filled up however few they are: a batch costs it little more than a row, and so a row's bits
    /// do not depend on how many are beside it.
    fn batch(&self, rows: &mut Vec<f32>) -> Vec<f64> {
        let count = rows.len() / self.stored.columns;
        if let Engine::Tract { many: Some(many), .. } = &self.engine
            && (count >= BATCH / 2 || !self.stored.row_by_row)
        {
            for _ in count..BATCH {
                rows.extend_from_slice(&self.stored.baseline);
            }
            if let Ok(mut found) = caught(|| many.run(rows).map_err(|error| error.to_string())) {
                found.truncate(count);
                return found;
            }
        }
        // There are few, or one of them makes the model fail: each alone, then.
        rows.chunks_exact(self.stored.columns).take(count).map(|row| self.margin(row)).collect()
    }
}

impl Model for Foreign {
    fn columns(&self) -> usize {
        self.stored.columns
    }

    fn link(&self) -> Link {
        match (&self.engine, self.stored.output) {
            (_, OnnxOutput::Logit) => Link::LogOdds,
            (Engine::Own(own), _) if own.is_squashed() => Link::LogOdds,
            (_, OnnxOutput::Probability) => Link::Probability,
        }
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        out.extend(rows.chunks_exact(self.stored.columns).map(|row| self.margin(row)));
    }

    /// Of a plain network or trees exact; else Shapley values by sampling, since the model tells nothing of its
    /// inside.
    fn attribute(&self, row: &[f32]) -> Attribution {
        let baseline = &self.stored.baseline;
        if let Engine::Own(own) = &self.engine {
            return own.attribute(row, baseline);
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
        let known = x.column(column).filter(|value| !value.is_nan());
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

/// The largest difference between rows at once and each alone; infinite if they cannot be run at once.
fn difference(many: &Plan, x: &Matrix, alone: &[f64]) -> f64 {
    let of_batch = |start: usize| {
        let picked: Vec<usize> = (start..start + BATCH).map(|row| row % x.rows()).collect();
        let found = caught(|| many.run(x.pick(&picked).values()).map_err(|error| error.to_string()));
        let off =
            |found: Vec<f64>| picked.iter().zip(found).map(|(&row, found)| off(alone[row], found)).fold(0.0, f64::max);
        found.map_or(f64::INFINITY, off)
    };
    (0..x.rows()).step_by(BATCH).map(of_batch).fold(0.0, f64::max)
}

/// How far a number is off what tract told for a row alone, measured by its size.
fn off(told: f64, found: f64) -> f64 {
    let off = (told - found).abs() / (1.0 + told.abs());
    if off.is_nan() { f64::INFINITY } else { off }
}

/// tract asserts in places, of files and of rows; a panic in there is an error of the model.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(_) => Err("reading it made tract panic".to_owned()),
    }
}
