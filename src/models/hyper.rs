//! What can be tuned about a model.

use serde::{Deserialize, Serialize};

use super::{Family, ModelError};

/// Hyperparameters of every family; a fit reads only those of its own.
///
/// The defaults suit clinical tables of some hundred to some ten thousand rows and a few
/// hundred columns; they were chosen by cross-validation inside PhysioNet 2012 set-a.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hyper {
    /// Of [`Family::Logistic`].
    pub logistic: LogisticHyper,
    /// Of [`Family::Forest`].
    pub forest: ForestHyper,
    /// Of [`Family::Boosting`].
    pub boosting: BoostingHyper,
    /// Of [`Family::Mlp`].
    pub mlp: MlpHyper,
}

/// Hyperparameters of the logistic regression.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogisticHyper {
    /// Weight of the L2 penalty: `alpha / 2 * |w|²` is added to the summed log loss over
    /// standardised columns. Must be positive.
    pub alpha: f64,
}

impl Default for LogisticHyper {
    fn default() -> Self {
        LogisticHyper { alpha: 100.0 }
    }
}

/// Hyperparameters of the random forest.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForestHyper {
    /// Number of trees, 1 to 5,000.
    pub trees: usize,
    /// Levels of a tree, 2 to 60 (the root is the first).
    pub depth: u16,
    /// Fewest rows in a leaf, at least 1.
    pub min_leaf: usize,
    /// Columns tried at a split; none means the square root of their number.
    pub tried: Option<usize>,
}

impl Default for ForestHyper {
    fn default() -> Self {
        ForestHyper { trees: 300, depth: 16, min_leaf: 10, tried: None }
    }
}

/// Hyperparameters of the boosted trees; the names are XGBoost's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoostingHyper {
    /// Most boosting rounds, 1 to 10,000.
    pub rounds: usize,
    /// Rounds without a better log loss on the held-back fifth of the training subjects
    /// after which it stops; 0 never stops early.
    pub patience: usize,
    /// Rounds when the held-back part has too few outcomes to judge by.
    pub rounds_unwatched: usize,
    /// Depth of a tree, 1 to 16.
    pub depth: usize,
    /// Learning rate, in (0, 1].
    pub eta: f64,
    /// Rows drawn for a round, in (0, 1].
    pub subsample: f64,
    /// Columns drawn for a tree, in (0, 1].
    pub colsample: f64,
    /// Smallest sum of hessians in a child.
    pub min_child_weight: f64,
    /// L2 penalty on leaf weights.
    pub lambda: f64,
}

impl Default for BoostingHyper {
    fn default() -> Self {
        BoostingHyper {
            rounds: 2_000,
            patience: 75,
            rounds_unwatched: 250,
            depth: 4,
            eta: 0.03,
            subsample: 0.7,
            colsample: 0.3,
            min_child_weight: 10.0,
            lambda: 1.0,
        }
    }
}

/// Hyperparameters of the multilayer perceptron.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpHyper {
    /// Widths of the hidden layers (ReLU), 1 to 4 of 1 to 1,024; the output is one logit.
    pub hidden: Vec<usize>,
    /// Most passes over the data, 1 to 10,000.
    pub epochs: usize,
    /// Rows a step, at least 1.
    pub batch: usize,
    /// Adam's learning rate, in (0, 1).
    pub rate: f64,
    /// L2 penalty on the weights, in [0, 1).
    pub decay: f64,
    /// Share of the training subjects held back for early stopping, in (0, 0.5].
    pub validation: f64,
    /// Passes without a better held-back log loss after which it stops.
    pub patience: usize,
}

impl Default for MlpHyper {
    fn default() -> Self {
        MlpHyper {
            hidden: vec![64, 32],
            epochs: 100,
            batch: 32,
            rate: 3e-4,
            decay: 2e-2,
            validation: 0.2,
            patience: 10,
        }
    }
}

impl Hyper {
    /// Checks the part that `family` reads.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] for the first value out of its range.
    pub fn check(&self, family: Family) -> Result<(), ModelError> {
        let rules: Vec<(bool, &'static str, &'static str)> = match family {
            Family::Logistic => {
                let alpha = self.logistic.alpha;
                vec![(alpha > 0.0 && alpha.is_finite(), "logistic.alpha", "must be positive and finite")]
            }
            Family::Forest => {
                let h = &self.forest;
                vec![
                    ((1..=5_000).contains(&h.trees), "forest.trees", "must be 1 to 5000"),
                    ((2..=60).contains(&h.depth), "forest.depth", "must be 2 to 60"),
                    (h.min_leaf >= 1, "forest.min_leaf", "must be at least 1"),
                    (h.tried != Some(0), "forest.tried", "must be at least 1"),
                ]
            }
            Family::Boosting => {
                let h = &self.boosting;
                let share = |x: f64| x > 0.0 && x <= 1.0;
                let weight = |x: f64| x >= 0.0 && x.is_finite();
                vec![
                    ((1..=10_000).contains(&h.rounds), "boosting.rounds", "must be 1 to 10000"),
                    ((1..=10_000).contains(&h.rounds_unwatched), "boosting.rounds_unwatched", "must be 1 to 10000"),
                    ((1..=16).contains(&h.depth), "boosting.depth", "must be 1 to 16"),
                    (share(h.eta), "boosting.eta", "must be above 0 and at most 1"),
                    (share(h.subsample), "boosting.subsample", "must be above 0 and at most 1"),
                    (share(h.colsample), "boosting.colsample", "must be above 0 and at most 1"),
                    (weight(h.min_child_weight), "boosting.min_child_weight", "must be finite and not negative"),
                    (weight(h.lambda), "boosting.lambda", "must be finite and not negative"),
                ]
            }
            Family::Mlp => {
                let h = &self.mlp;
                let widths = (1..=4).contains(&h.hidden.len()) && h.hidden.iter().all(|w| (1..=1_024).contains(w));
                vec![
                    (widths, "mlp.hidden", "must be 1 to 4 widths of 1 to 1024"),
                    ((1..=10_000).contains(&h.epochs), "mlp.epochs", "must be 1 to 10000"),
                    (h.batch >= 1, "mlp.batch", "must be at least 1"),
                    (h.rate > 0.0 && h.rate < 1.0, "mlp.rate", "must be above 0 and below 1"),
                    (h.decay >= 0.0 && h.decay < 1.0, "mlp.decay", "must be at least 0 and below 1"),
                    (h.validation > 0.0 && h.validation <= 0.5, "mlp.validation", "must be above 0 and at most 0.5"),
                    (h.patience >= 1, "mlp.patience", "must be at least 1"),
                ]
            }
        };
        match rules.into_iter().find(|(ok, ..)| !ok) {
            Some((_, name, reason)) => Err(ModelError::Parameter { name, reason }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_a_wrong_value_is_named() {
        for family in Family::ALL {
            Hyper::default().check(family).unwrap();
        }
        let mut hyper = Hyper::default();
        hyper.boosting.eta = 0.0;
        assert!(matches!(hyper.check(Family::Boosting), Err(ModelError::Parameter { name: "boosting.eta", .. })));
        hyper.check(Family::Mlp).unwrap();
        hyper.mlp.rate = f64::NAN;
        assert!(hyper.check(Family::Mlp).is_err());
    }

    #[test]
    fn a_misspelt_parameter_is_refused_and_an_absent_one_is_the_default() {
        assert!(serde_json::from_str::<Hyper>(r#"{"boosting":{"deepness":3}}"#).is_err());
        let hyper: Hyper = serde_json::from_str(r#"{"boosting":{"depth":3}}"#).unwrap();
        assert_eq!(hyper.boosting, BoostingHyper { depth: 3, ..BoostingHyper::default() });
    }
}
