//! From the case library to models: labels, matrix, fit, judgement, gate, registry.
//!
//! Promises that what a model is judged by are subjects it never saw (the split is a
//! function of the pseudonym alone), that features are made by the very fold that runs
//! online, that every model is registered with its figures and its reason, and that the
//! champion changes only through the ledger. Must never promote what did not pass the gate.

mod aces;
mod error;
mod evaluate;
mod facts;
mod features;
mod gate;
mod label;
mod ledger;
mod matrix;
mod metrics;
mod outcome;
mod output;
mod registry;
mod settle;
mod tabular;
mod task;
#[cfg(test)]
mod tests;
mod train;

pub use aces::{Config as AcesConfig, Evaluator as AcesEvaluator, Label, Realization};
pub use error::LearnError;
pub use evaluate::{Evaluation, Part, evaluate};
pub use features::{FeaturesReport, features};
pub use gate::{GateSettings, Verdict, judge};
pub use label::{LabelReport, label, label_meds};
pub use ledger::{Entry, Event};
pub use matrix::{LabelLag, LeftOut};
pub use metrics::{Intervals, Metrics, Scored, evaluate as figures};
pub use registry::{Announcement, Listing, ModelRef, Registry};
pub use settle::{Settled, settle};
pub use tabular::{Aggregate, Tabular, TabularReport, Window, tabularize_library, tabularize_meds};
pub use task::{Task, TrainSettings};
pub use train::{Baseline, Named, TrainReport, train};
