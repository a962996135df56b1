//! Risk models: a matrix of features in, a calibrated probability and its reasons out.
//!
//! A [`Bundle`] is everything that scoring needs: preprocessing, model, calibration,
//! threshold and the [`Card`] that says where they come from. It promises:
//!
//! - the risk of a row is the same bits whether it is scored alone or in a batch, before
//!   a save or after a load (invariant 6 rests on it): every row takes one code path, and
//!   no sum depends on how many rows there are, nor on how many cores they are dealt to;
//! - a question of more than yes or no (which, when, how much) is answered by a panel of such models;
//! - a row that it cannot tell is said to be so, as often as was stated (see [`Conformal`]);
//! - an explanation is in probability space and adds up to the risk (invariant 10); where
//!   its parts are estimates, it says how far off they may be;
//! - a folder that somebody damaged or forged is refused with a reason.
//!
//! Libraries fit (smartcore, hessboost, burn); the fitted numbers are then taken out and
//! scored by our own plain code, so that no library's version changes a score. The room
//! does no I/O except the bundle's own files, and knows no clock, no Kafka, no patient:
//! its errors name features and files, never a value.

mod bayes;
mod bedside;
mod boosting;
mod bundle;
mod calibration;
mod card;
mod cnn;
mod committee;
mod conformal;
mod counterfactual;
mod crossfit;
mod elastic;
mod error;
mod explain;
mod family;
mod files;
mod fit;
mod folds;
mod forest;
mod gradients;
mod gru;
mod hazard;
mod hyper;
mod jobs;
mod knn;
mod layer;
mod linear;
mod matrix;
mod member;
mod neural;
mod onnx;
mod panel;
mod points;
mod preprocess;
mod random;
mod select;
mod sequence;
mod shapley;
mod space;
mod stack;
mod svm;
mod text;
mod threshold;
mod training;
mod trees;
mod treeshap;

#[cfg(test)]
mod measured;
#[cfg(test)]
mod tests;

pub use bundle::{Bundle, Scratch};
pub use calibration::{Calibration, Link};
pub use card::{Card, Counts, FORMAT};
pub use conformal::{Abstain, Assessment, Conformal, Doubt, Grounds};
pub use counterfactual::{Change, Counterfactual, Lever, counterfactual};
pub use error::ModelError;
pub use explain::{Attribution, Explanation};
pub use family::Family;
pub use fit::FitSpec;
pub use folds::Folds;
pub use hyper::{
    BayesHyper, BedsideHyper, BoostingHyper, CnnHyper, ForestHyper, GruHyper, Hyper, KnnHyper, LogisticHyper, MlpHyper,
    OnnxHyper, OnnxOutput, StackHyper, SvmHyper, TextHyper,
};
pub use jobs::{at_once, side_by_side};
pub use matrix::Matrix;
pub use panel::{PanelSpec, Question, TRAINING_MEAN, Target};
pub use select::{Select, Selection};
pub use threshold::Aim;

pub(crate) use random::mix;

use std::fmt::Debug;

/// A fitted model over preprocessed columns.
///
/// Works in margin space: log-odds, or for a forest its probability (see [`Link`]).
pub trait Model: Send + Sync + Debug {
    /// Columns of a row, after preprocessing.
    fn columns(&self) -> usize;

    /// What the margin is.
    fn link(&self) -> Link;

    /// Appends one margin per row of `rows` (row-major, whole rows of [`Model::columns`]).
    /// A row's margin does not depend on the rows beside it.
    fn margins(&self, rows: &[f32], out: &mut Vec<f64>);

    /// Why one row has its margin: base plus contributions equal it, up to rounding. The
    /// same row has the same attribution, even where it is estimated.
    fn attribute(&self, row: &[f32]) -> Attribution;

    /// Names of what [`Model::margins_and_outputs`] tells beside the margins.
    fn output_names(&self) -> &[String] {
        &[]
    }

    /// The amounts that the last of its outputs say the probability to reach of, ascending.
    fn cuts(&self) -> &[f64] {
        &[]
    }

    /// [`Model::margins`], and appends to `outputs`, row after row, what a row has beside its margin, in the
    /// order of [`Model::output_names`]: probabilities of classes, of times, an expected amount. Most models
    /// tell nothing more. The margins are the same bits.
    fn margins_and_outputs(&self, rows: &[f32], margins: &mut Vec<f64>, _outputs: &mut Vec<f64>) {
        self.margins(rows, margins);
    }

    /// The model as the bytes of a bundle's `model.json`.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if a fitted number cannot be written (not finite).
    fn encode(&self) -> Result<Vec<u8>, ModelError>;
}
