//! From the case library to models: labels, matrix, fit, judgement, gate, registry.
//!
//! Promises that what a model is judged by are subjects it never saw (the split is a
//! function of the pseudonym alone), that features are made by the very fold that runs
//! online, that every model is registered with its figures and its reason, and that the
//! champion changes only through the ledger. Must never promote what did not pass the gate.

mod abstention;
mod aces;
mod aside;
mod crossval;
mod error;
mod evaluate;
mod facts;
mod features;
mod folder;
mod gate;
mod importance;
mod label;
mod ledger;
mod matrix;
mod metrics;
mod outcome;
mod output;
mod panel;
mod plots;
mod registry;
mod sample;
mod search;
mod settle;
mod spill;
mod strata;
mod tabular;
mod task;
mod terms;
#[cfg(test)]
mod tests;
mod train;
mod wanted;

pub use abstention::{Abstention, OfOutcome};
pub use aces::{Config as AcesConfig, Evaluator as AcesEvaluator, Label, Realization};
pub use crossval::{Crossval, FamilyReport, Figures, Judged, Subjects, crossval};
pub use error::LearnError;
pub use evaluate::{Against, EvaluateOptions, Evaluation, Part, evaluate};
pub use features::{FeaturesReport, features};
pub use gate::{GateSettings, Verdict, judge};
pub use importance::{ConceptImportance, Dependence, FeatureImportance, Importance};
pub use label::{LabelReport, label, label_meds};
pub use ledger::{Entry, Event};
pub use matrix::{LabelLag, LeftOut, Source};
pub use metrics::{
    AmountErrors, AmountFigures, AmountGroup, Amounts, AtCut, AtTime, CalibrationLine, Central, ClassFigures,
    Comparison, Curves, DeLong, Decile, Details, HosmerLemeshow, Incidences, Interval, Intervals, LeadTime, Metrics,
    NetBenefit, OneClass, OperatingPoint, Paired, PrPoint, Quartiles, ReliabilityBin, RocPoint, Scored, Subgroup,
    SurvivalFigures, Utility, evaluate as figures,
};
pub use panel::PanelFigures;
pub use registry::{Announcement, Listing, ModelRef, Registry};
pub use sample::Sampled;
pub use search::{Search, SearchSettings, Trial};
pub use settle::{Settled, settle};
pub use spill::Spill;
pub use strata::MissingSubgroup;
pub use tabular::{Aggregate, Tabular, TabularReport, Window, tabularize_library, tabularize_meds};
pub use task::{Task, TrainSettings};
pub use terms::{Telling, TermsReport, TermsSettings, terms};
pub use train::{Baseline, Named, TrainReport, train};
pub use wanted::{LabelKind, Wanted};
