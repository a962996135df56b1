//! The kinds of models: each is one file of this room and one line in every table here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bayes::Bayes;
use super::bedside::Bedside;
use super::boosting::{Boosted, Goal, LOG_ODDS};
use super::cnn::Cnn;
use super::committee;
use super::files::MODEL;
use super::forest::Forest;
use super::gru::Gru;
use super::hazard::LOG_HAZARD;
use super::knn::Knn;
use super::linear::Linear;
use super::neural::Network;
use super::onnx::Foreign;
use super::preprocess::Preprocess;
use super::stack::Stack;
use super::svm::Svm;
use super::text::Text;
use super::{BoostingHyper, FitSpec, Hyper, Matrix, Model, ModelError};

/// A kind of model.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Logistic regression with an L2 or elastic net penalty.
    Logistic,
    /// Random forest on 0/1, whose mean leaf is a probability.
    Forest,
    /// Gradient boosted trees.
    Boosting,
    /// Gradient boosted trees that learn from when the outcome happens, also after the label's window.
    Hazard,
    /// A small multilayer perceptron.
    Mlp,
    /// Several of the others, weighed against each other.
    Stack,
    /// A gated recurrent unit over the hourly grid.
    Gru,
    /// A convolutional network over the hourly grid.
    Cnn,
    /// A user's own model, which is taken as it is.
    Onnx,
    /// Support vector machine with a Gaussian kernel.
    Svm,
    /// Nearest neighbours.
    Knn,
    /// Gaussian naive Bayes.
    Bayes,
    /// A bedside score: one feature that is a score already.
    Bedside,
    /// A bag of words: logistic regression on the terms of texts.
    Text,
}

/// What a family's rows must have gone through.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    /// Nothing: it knows what to do with a gap.
    Raw,
    /// Gaps filled and no more: the columns are the features. Nothing, if the model knows what to do with a gap.
    Whole,
    /// Gaps filled, masks added.
    Filled,
    /// Outliers cut and columns of one scale, too.
    Scaled,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 14] = [
        Family::Logistic,
        Family::Forest,
        Family::Boosting,
        Family::Hazard,
        Family::Mlp,
        Family::Svm,
        Family::Knn,
        Family::Bayes,
        Family::Bedside,
        Family::Text,
        Family::Gru,
        Family::Cnn,
        Family::Stack,
        Family::Onnx,
    ];

    /// The word used in task files, cards and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Logistic => "logistic",
            Family::Forest => "forest",
            Family::Boosting => "boosting",
            Family::Hazard => "hazard",
            Family::Mlp => "mlp",
            Family::Stack => "stack",
            Family::Gru => "gru",
            Family::Cnn => "cnn",
            Family::Onnx => "onnx",
            Family::Svm => "svm",
            Family::Knn => "knn",
            Family::Bayes => "bayes",
            Family::Bedside => "bedside",
            Family::Text => "text",
        }
    }

    /// The family of a word, `None` if there is none of that name.
    pub fn parse(word: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.as_str() == word)
    }

    /// The words of all families, for a message.
    pub fn words() -> String {
        Family::ALL.map(Family::as_str).join(", ")
    }

    /// What its rows must have gone through.
    pub(super) fn needs(self) -> Needs {
        match self {
            Family::Boosting | Family::Hazard | Family::Bedside | Family::Text => Needs::Raw,
            Family::Gru | Family::Cnn | Family::Stack => Needs::Raw,
            Family::Onnx => Needs::Whole,
            Family::Forest => Needs::Filled,
            Family::Logistic | Family::Mlp | Family::Svm | Family::Knn | Family::Bayes => Needs::Scaled,
        }
    }

    /// Whether rows that went through it are of the kind that it needs.
    pub(super) fn takes(self, preprocess: &Preprocess) -> bool {
        self.needs() == Needs::Whole || preprocess.is_raw() == (self.needs() == Needs::Raw)
    }

    /// Whether it reads the hourly grid, or has members that may; the others see only the columns before it.
    pub fn reads_grid(self) -> bool {
        matches!(self, Family::Gru | Family::Cnn | Family::Stack)
    }

    /// Whether it can do with a selection of the columns. One that looks for a column by its name, or takes all as they
    /// are, has them all; so has a stack with such a member.
    pub(super) fn selects(self, params: &Hyper) -> bool {
        let is_whole = |family: &Family| matches!(family, Family::Bedside | Family::Onnx | Family::Text);
        !is_whole(&self) && (self != Family::Stack || !params.stack.members.iter().any(is_whole))
    }

    /// Fits on preprocessed rows; what the fit found out by itself goes into `found`.
    pub(super) fn fit(
        self,
        spec: &FitSpec,
        x: &Matrix,
        labels: &[bool],
        found: &mut BTreeMap<String, f64>,
    ) -> Result<Box<dyn Model>, ModelError> {
        let (params, seed, groups) = (&spec.params, spec.seed, spec.groups.as_deref());
        let mut boosted = |goal: &Goal<'_>, hyper: &BoostingHyper| -> Result<Box<dyn Model>, ModelError> {
            let (model, rounds) = Boosted::fit(goal, hyper, seed, x, groups)?;
            found.insert("rounds".to_owned(), rounds as f64);
            Ok(Box::new(model))
        };
        Ok(match self {
            Family::Logistic => Box::new(Linear::fit(self, &params.logistic, x, labels)?),
            Family::Forest => Box::new(Forest::fit(&params.forest, seed, x, labels)?),
            Family::Boosting => boosted(&Goal::log_odds(labels), &params.boosting)?,
            Family::Hazard => boosted(&Goal::log_hazard(labels, spec.onsets.as_deref()), &params.hazard)?,
            Family::Mlp => {
                let (model, epochs) = committee::fit(params.mlp.networks, seed, x, |seed| {
                    let (model, epochs) = Network::fit(&params.mlp, seed, x, labels, groups)?;
                    Ok((Box::new(model), epochs))
                })?;
                found.insert("epochs".to_owned(), epochs as f64);
                model
            }
            Family::Stack => Box::new(Stack::fit(spec, x, labels, found)?),
            Family::Gru => {
                let (model, epochs) = committee::fit(params.gru.networks, seed, x, |seed| {
                    let (model, epochs) = Gru::fit(&params.gru, seed, &spec.features, x, labels, groups)?;
                    Ok((Box::new(model), epochs))
                })?;
                found.insert("epochs".to_owned(), epochs as f64);
                model
            }
            Family::Cnn => {
                let (model, epochs) = committee::fit(params.cnn.networks, seed, x, |seed| {
                    let (model, epochs) = Cnn::fit(&params.cnn, seed, &spec.features, x, labels, groups)?;
                    Ok((Box::new(model), epochs))
                })?;
                found.insert("epochs".to_owned(), epochs as f64);
                model
            }
            Family::Onnx => {
                let file = spec.onnx.as_deref().ok_or_else(|| ModelError::Import {
                    reason: "its file was not read; name it as onnx.file of a site in a folder".to_owned(),
                })?;
                Box::new(Foreign::take(&params.onnx, file, x)?)
            }
            Family::Svm => {
                let model = Svm::fit(&params.svm, seed, x, labels, groups)?;
                found.insert("support_vectors".to_owned(), model.vectors() as f64);
                Box::new(model)
            }
            Family::Knn => Box::new(Knn::fit(&params.knn, seed, x, labels, groups)),
            Family::Bayes => Box::new(Bayes::fit(&params.bayes, x, labels)?),
            Family::Bedside => Box::new(Bedside::fit(&params.bedside, &spec.features, x)?),
            Family::Text => Box::new(Text::fit(&params.text, &spec.features, x, labels)?),
        })
    }

    /// Reads what the family's [`Model::encode`] wrote; `features`: of a raw row.
    pub(super) fn decode(self, bytes: &[u8], features: usize) -> Result<Box<dyn Model>, ModelError> {
        let boosted = |objectives: &[&str]| {
            Boosted::decode(bytes.to_vec(), features, objectives).map_err(|reason| ModelError::corrupt(MODEL, reason))
        };
        Ok(match self {
            Family::Logistic => Box::new(Linear::decode(bytes)?),
            Family::Forest => Box::new(Forest::decode(bytes)?),
            Family::Boosting => Box::new(boosted(&LOG_ODDS)?),
            Family::Hazard => Box::new(boosted(&LOG_HAZARD)?),
            Family::Mlp => committee::decode(bytes, |one| Ok(Box::new(Network::decode(one)?)))?,
            Family::Stack => Box::new(Stack::decode(bytes, features)?),
            Family::Gru => committee::decode(bytes, |one| Ok(Box::new(Gru::decode(one)?)))?,
            Family::Cnn => committee::decode(bytes, |one| Ok(Box::new(Cnn::decode(one)?)))?,
            Family::Onnx => Box::new(Foreign::decode(bytes)?),
            Family::Svm => Box::new(Svm::decode(bytes)?),
            Family::Knn => Box::new(Knn::decode(bytes)?),
            Family::Bayes => Box::new(Bayes::decode(bytes)?),
            Family::Bedside => Box::new(Bedside::decode(bytes)?),
            Family::Text => Box::new(Text::decode(bytes)?),
        })
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
