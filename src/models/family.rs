//! The kinds of models: each is one file of this room and one line in every table here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::boosting::Boosted;
use super::files::MODEL;
use super::forest::Forest;
use super::linear::Linear;
use super::neural::Network;
use super::{FitSpec, Matrix, Model, ModelError};

/// A kind of model.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Logistic regression with an L2 penalty.
    Logistic,
    /// Random forest on 0/1, whose mean leaf is a probability.
    Forest,
    /// Gradient boosted trees.
    Boosting,
    /// A small multilayer perceptron.
    Mlp,
}

/// What a family's rows must have gone through.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    /// Nothing: it knows what to do with a gap.
    Raw,
    /// Gaps filled, masks added.
    Filled,
    /// Outliers cut and columns of one scale, too.
    Scaled,
}

impl Family {
    /// Every family, the simplest first.
    pub const ALL: [Family; 4] = [Family::Logistic, Family::Forest, Family::Boosting, Family::Mlp];

    /// The word used in task files, cards and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Logistic => "logistic",
            Family::Forest => "forest",
            Family::Boosting => "boosting",
            Family::Mlp => "mlp",
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
            Family::Boosting => Needs::Raw,
            Family::Forest => Needs::Filled,
            Family::Logistic | Family::Mlp => Needs::Scaled,
        }
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
        Ok(match self {
            Family::Logistic => Box::new(Linear::fit(&params.logistic, x, labels)?),
            Family::Forest => Box::new(Forest::fit(&params.forest, seed, x, labels)?),
            Family::Boosting => {
                let (model, rounds) = Boosted::fit(&params.boosting, seed, x, labels, groups)?;
                found.insert("rounds".to_owned(), rounds as f64);
                Box::new(model)
            }
            Family::Mlp => {
                let (model, epochs) = Network::fit(&params.mlp, seed, x, labels, groups)?;
                found.insert("epochs".to_owned(), epochs as f64);
                Box::new(model)
            }
        })
    }

    /// Reads what the family's [`Model::encode`] wrote; `features`: of a raw row.
    pub(super) fn decode(self, bytes: &[u8], features: usize) -> Result<Box<dyn Model>, ModelError> {
        Ok(match self {
            Family::Logistic => Box::new(Linear::decode(bytes)?),
            Family::Forest => Box::new(Forest::decode(bytes)?),
            Family::Boosting => Box::new(
                Boosted::decode(bytes.to_vec(), features).map_err(|reason| ModelError::corrupt(MODEL, reason))?,
            ),
            Family::Mlp => Box::new(Network::decode(bytes)?),
        })
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
