//! What can be tuned about a model.

use serde::{Deserialize, Serialize};

use super::committee::MOST;
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
    /// Of [`Family::Hazard`].
    pub hazard: BoostingHyper,
    /// Of [`Family::Mlp`].
    pub mlp: MlpHyper,
    /// Of [`Family::Stack`], whose members read their own.
    pub stack: StackHyper,
    /// Of [`Family::Gru`].
    pub gru: GruHyper,
    /// Of [`Family::Cnn`].
    pub cnn: CnnHyper,
    /// Of [`Family::Onnx`].
    pub onnx: OnnxHyper,
    /// Of [`Family::Svm`].
    pub svm: SvmHyper,
    /// Of [`Family::Knn`].
    pub knn: KnnHyper,
    /// Of [`Family::Bayes`].
    pub bayes: BayesHyper,
    /// Of [`Family::Bedside`].
    pub bedside: BedsideHyper,
    /// Of [`Family::Text`].
    pub text: TextHyper,
}

/// Whether a value holds, its name, and what it must be.
type Rule = (bool, &'static str, &'static str);

/// Hyperparameters of the logistic regression.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogisticHyper {
    /// Weight of the penalty that is added to the summed log loss over standardised
    /// columns: `alpha * (l1_ratio * Σ|w| + (1 - l1_ratio) / 2 * Σw²)`. Must be positive.
    pub alpha: f64,
    /// Share of the L1 penalty, in [0, 1]: 0 is ridge, 1 the lasso, between them the
    /// elastic net (Zou and Hastie 2005). Above 0, weights of little use become exactly 0.
    pub l1_ratio: f64,
}

impl Default for LogisticHyper {
    fn default() -> Self {
        LogisticHyper { alpha: 100.0, l1_ratio: 0.0 }
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
    /// Columns that each of the eight parts of the forest sees, in (0, 1]: a fit takes as much less time. Each part
    /// draws its own, so that all are seen equally often (of less than an eighth, some by no part); at least as many
    /// as are tried at a split, and 32 if there are.
    pub colsample: f64,
}

impl Default for ForestHyper {
    fn default() -> Self {
        ForestHyper { trees: 300, depth: 16, min_leaf: 10, tried: None, colsample: 0.4 }
    }
}

/// Hyperparameters of the boosted trees; the names are XGBoost's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoostingHyper {
    /// Most boosting rounds, 1 to 10,000.
    pub rounds: usize,
    /// Rounds without a better log loss (of a hazard, partial likelihood) on the held-back fifth
    /// of the training subjects after which it stops; 0 never stops early.
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
    /// Most bins that a column's values are put in, 2 to 256; a tree splits only between bins. Fewer make a fit faster:
    /// 64 tell PhysioNet 2012 set-a as well as 256 in about half the time.
    pub bins: usize,
    /// Models that are averaged, 1 to 32: what one tells by chance the others do not. They are fitted side by side on
    /// the cores. Earlier versions had `parallel` trees of a round for the same end at the same cost; that key is read
    /// as this one.
    #[serde(alias = "parallel")]
    pub bags: usize,
}

impl Default for BoostingHyper {
    fn default() -> Self {
        BoostingHyper {
            rounds: 2_000,
            patience: 150,
            rounds_unwatched: 500,
            depth: 4,
            eta: 0.015,
            subsample: 0.5,
            colsample: 0.5,
            min_child_weight: 5.0,
            lambda: 2.0,
            bins: 64,
            bags: 1,
        }
    }
}

impl BoostingHyper {
    /// The rules of its values, whose names are these, in the order of the fields.
    fn rules(&self, names: &[&'static str; 10]) -> Vec<Rule> {
        let h = self;
        let weight = |x: f64| x >= 0.0 && x.is_finite();
        let rules = [
            ((1..=10_000).contains(&h.rounds), "must be 1 to 10000"),
            ((1..=10_000).contains(&h.rounds_unwatched), "must be 1 to 10000"),
            ((1..=16).contains(&h.depth), "must be 1 to 16"),
            (is_share(h.eta), "must be above 0 and at most 1"),
            (is_share(h.subsample), "must be above 0 and at most 1"),
            (is_share(h.colsample), "must be above 0 and at most 1"),
            (weight(h.min_child_weight), "must be finite and not negative"),
            (weight(h.lambda), "must be finite and not negative"),
            ((2..=256).contains(&h.bins), "must be 2 to 256"),
            ((1..=32).contains(&h.bags), "must be 1 to 32"),
        ];
        rules.into_iter().zip(names).map(|((holds, must), name)| (holds, *name, must)).collect()
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
    /// Networks whose log-odds are averaged, each from other weights and with other subjects held back, 1 to 20.
    pub networks: usize,
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
            networks: 4,
        }
    }
}

/// Hyperparameters of the stack.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StackHyper {
    /// Families that are weighed against each other: at least two, all different, no stack.
    pub members: Vec<Family>,
    /// Folds by subject that the weights are found on, 2 to 20.
    pub folds: usize,
}

impl Default for StackHyper {
    fn default() -> Self {
        StackHyper { members: vec![Family::Logistic, Family::Forest, Family::Boosting, Family::Mlp], folds: 5 }
    }
}

/// Hyperparameters of the gated recurrent unit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GruHyper {
    /// Numbers of the state, 1 to 512.
    pub hidden: usize,
    /// Share of concepts and of other columns that a step does not see, in [0, 1).
    pub drop: f64,
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
    /// Networks whose log-odds are averaged, each from other weights and with other subjects held back, 1 to 20.
    pub networks: usize,
}

impl Default for GruHyper {
    fn default() -> Self {
        GruHyper {
            hidden: 16,
            drop: 0.1,
            epochs: 60,
            batch: 64,
            rate: 2e-3,
            decay: 3e-3,
            validation: 0.15,
            patience: 8,
            networks: 3,
        }
    }
}

/// Hyperparameters of the convolutional network.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CnnHyper {
    /// Channels of the layers over time, 1 to 4 of 1 to 512.
    pub channels: Vec<usize>,
    /// Hours, or outputs of the layer before, that a layer looks at together, 1 to 24.
    pub kernel: usize,
    /// Share of concepts and of other columns that a step does not see, in [0, 1).
    pub drop: f64,
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
    /// Networks whose log-odds are averaged, each from other weights and with other subjects held back, 1 to 20.
    pub networks: usize,
}

impl Default for CnnHyper {
    fn default() -> Self {
        CnnHyper {
            channels: vec![32, 32],
            kernel: 3,
            drop: 0.2,
            epochs: 60,
            batch: 64,
            rate: 1e-3,
            decay: 1e-2,
            validation: 0.15,
            patience: 6,
            networks: 3,
        }
    }
}

/// What is to be known of a user's own model.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnnxHyper {
    /// The file, below the site's folder `tasks`.
    pub file: String,
    /// What it gives.
    pub output: OnnxOutput,
    /// Of a model of several classes: the one whose probability is taken, by its name in the file or in `classes`.
    /// Empty: the last of one number or two. A label of several classes asks for each of them, so it has none here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// Names of the classes in the order of the numbers of the last output. Empty: those in the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// What a user's model gives as the last number of its last output.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnnxOutput {
    /// The probability of the outcome.
    #[default]
    Probability,
    /// Its log-odds.
    Logit,
}

/// Hyperparameters of the support vector machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SvmHyper {
    /// Cost of a row on the wrong side of its margin, above 0 and at most 100.
    pub c: f64,
    /// The kernel is `exp(-gamma * |x - y|²)`; none means 1 over (columns × variance of
    /// all values), which scikit-learn calls `scale`. Positive and finite.
    pub gamma: Option<f64>,
    /// Most training rows, 10 to 4,000: a fit's time and memory grow with the square. Of
    /// more rows, that many are drawn, spread over subjects and outcomes.
    pub landmarks: usize,
}

impl Default for SvmHyper {
    fn default() -> Self {
        SvmHyper { c: 1.0, gamma: None, landmarks: 1_500 }
    }
}

/// Hyperparameters of the nearest neighbours.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnnHyper {
    /// Neighbours asked, at least 1; of fewer rows, all are. None means a tenth of the rows
    /// kept: outcomes are noisy, and many columns make all rows about equally far.
    pub neighbours: Option<usize>,
    /// Whether a neighbour's say is 1 over its distance; else all have the same.
    pub weighted: bool,
    /// Most training rows kept, 10 to 20,000. Of more rows, that many are drawn, spread
    /// over subjects and outcomes.
    pub rows: usize,
}

impl Default for KnnHyper {
    fn default() -> Self {
        KnnHyper { neighbours: None, weighted: true, rows: 2_000 }
    }
}

/// Hyperparameters of Gaussian naive Bayes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BayesHyper {
    /// Added to every variance of the standardised columns, 1e-9 to 1e6: it keeps a column
    /// that never varied within an outcome from deciding alone. The more, the less a heavy
    /// tail says, and the more it is the means that decide.
    pub smoothing: f64,
}

impl Default for BayesHyper {
    fn default() -> Self {
        BayesHyper { smoothing: 10.0 }
    }
}

/// Hyperparameters of the bedside score.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BedsideHyper {
    /// Name of the feature that is the score; more of it must mean more risk.
    pub feature: String,
}

impl Default for BedsideHyper {
    fn default() -> Self {
        BedsideHyper { feature: "news2.last.ever".to_owned() }
    }
}

/// Hyperparameters of the bag of words.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextHyper {
    /// Weight of the penalty that is added to the summed log loss over the weighed counts:
    /// `alpha / 2 * Σw²`. Must be positive. The default tells most of the sections of notes
    /// that dialogues belong to (MTS-Dialog) better than a third or three times as much.
    pub alpha: f64,
}

impl Default for TextHyper {
    fn default() -> Self {
        TextHyper { alpha: 100.0 }
    }
}

impl Hyper {
    /// Named hyperparameters with their family; `None` if there are none of that name.
    ///
    /// `mlp-64-32`: the perceptron of the worked example, 64 and 32 ReLU and a sigmoid, Adam on the
    /// binary cross-entropy at a rate of 0.001, batches of 32, a fifth of the subjects held back, at
    /// most 100 epochs (fewer if the held-back log loss no longer falls).
    pub fn preset(name: &str) -> Option<(Family, Hyper)> {
        let worked = MlpHyper {
            hidden: vec![64, 32],
            epochs: 100,
            batch: 32,
            rate: 1e-3,
            decay: 0.0,
            validation: 0.2,
            patience: 10,
            networks: 1,
        };
        (name == "mlp-64-32").then(|| (Family::Mlp, Hyper { mlp: worked, ..Hyper::default() }))
    }

    /// The names of [`Hyper::preset`], for a message.
    pub const PRESETS: [&str; 1] = ["mlp-64-32"];

    /// Checks the part that `family` reads.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] for the first value out of its range.
    pub fn check(&self, family: Family) -> Result<(), ModelError> {
        let rules: Vec<Rule> = match family {
            Family::Logistic => {
                let h = &self.logistic;
                vec![
                    (h.alpha > 0.0 && h.alpha.is_finite(), "logistic.alpha", "must be positive and finite"),
                    ((0.0..=1.0).contains(&h.l1_ratio), "logistic.l1_ratio", "must be 0 to 1"),
                ]
            }
            Family::Forest => {
                let h = &self.forest;
                vec![
                    ((1..=5_000).contains(&h.trees), "forest.trees", "must be 1 to 5000"),
                    ((2..=60).contains(&h.depth), "forest.depth", "must be 2 to 60"),
                    (h.min_leaf >= 1, "forest.min_leaf", "must be at least 1"),
                    (h.tried != Some(0), "forest.tried", "must be at least 1"),
                    (is_share(h.colsample), "forest.colsample", "must be above 0 and at most 1"),
                ]
            }
            Family::Boosting => self.boosting.rules(&[
                "boosting.rounds",
                "boosting.rounds_unwatched",
                "boosting.depth",
                "boosting.eta",
                "boosting.subsample",
                "boosting.colsample",
                "boosting.min_child_weight",
                "boosting.lambda",
                "boosting.bins",
                "boosting.bags",
            ]),
            Family::Hazard => self.hazard.rules(&[
                "hazard.rounds",
                "hazard.rounds_unwatched",
                "hazard.depth",
                "hazard.eta",
                "hazard.subsample",
                "hazard.colsample",
                "hazard.min_child_weight",
                "hazard.lambda",
                "hazard.bins",
                "hazard.bags",
            ]),
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
                    ((1..=MOST).contains(&h.networks), "mlp.networks", "must be 1 to 20"),
                ]
            }
            Family::Stack => {
                let StackHyper { members, folds } = &self.stack;
                let is_plain = members.len() >= 2 && !members.contains(&Family::Stack);
                if is_plain {
                    members.iter().try_for_each(|member| self.check(*member))?;
                }
                let differ = (1..members.len()).all(|i| !members[..i].contains(&members[i]));
                vec![
                    (is_plain, "stack.members", "must be two families or more, none of them stack"),
                    (differ, "stack.members", "must not name a family twice"),
                    ((2..=20).contains(folds), "stack.folds", "must be 2 to 20"),
                ]
            }
            Family::Gru => {
                let h = &self.gru;
                vec![
                    ((1..=512).contains(&h.hidden), "gru.hidden", "must be 1 to 512"),
                    (h.drop >= 0.0 && h.drop < 1.0, "gru.drop", "must be at least 0 and below 1"),
                    ((1..=10_000).contains(&h.epochs), "gru.epochs", "must be 1 to 10000"),
                    (h.batch >= 1, "gru.batch", "must be at least 1"),
                    (h.rate > 0.0 && h.rate < 1.0, "gru.rate", "must be above 0 and below 1"),
                    (h.decay >= 0.0 && h.decay < 1.0, "gru.decay", "must be at least 0 and below 1"),
                    (h.validation > 0.0 && h.validation <= 0.5, "gru.validation", "must be above 0 and at most 0.5"),
                    (h.patience >= 1, "gru.patience", "must be at least 1"),
                    ((1..=MOST).contains(&h.networks), "gru.networks", "must be 1 to 20"),
                ]
            }
            Family::Cnn => {
                let h = &self.cnn;
                let widths = (1..=4).contains(&h.channels.len()) && h.channels.iter().all(|w| (1..=512).contains(w));
                vec![
                    (widths, "cnn.channels", "must be 1 to 4 widths of 1 to 512"),
                    ((1..=24).contains(&h.kernel), "cnn.kernel", "must be 1 to 24"),
                    (h.drop >= 0.0 && h.drop < 1.0, "cnn.drop", "must be at least 0 and below 1"),
                    ((1..=10_000).contains(&h.epochs), "cnn.epochs", "must be 1 to 10000"),
                    (h.batch >= 1, "cnn.batch", "must be at least 1"),
                    (h.rate > 0.0 && h.rate < 1.0, "cnn.rate", "must be above 0 and below 1"),
                    (h.decay >= 0.0 && h.decay < 1.0, "cnn.decay", "must be at least 0 and below 1"),
                    (h.validation > 0.0 && h.validation <= 0.5, "cnn.validation", "must be above 0 and at most 0.5"),
                    (h.patience >= 1, "cnn.patience", "must be at least 1"),
                    ((1..=MOST).contains(&h.networks), "cnn.networks", "must be 1 to 20"),
                ]
            }
            Family::Onnx => {
                let OnnxHyper { file, output, class, classes } = &self.onnx;
                let (named, any) = (!class.is_empty(), !classes.is_empty());
                vec![
                    (!file.is_empty(), "onnx.file", "must name the model's file"),
                    (!(named && any) || classes.contains(class), "onnx.class", "must be one of onnx.classes"),
                    // The log-odds of one class against all others are none of the numbers of such a model.
                    (!named || *output == OnnxOutput::Probability, "onnx.output", "must be probability for a class"),
                ]
            }
            Family::Svm => {
                let h = &self.svm;
                let gamma = h.gamma.is_none_or(|gamma| gamma > 0.0 && gamma.is_finite());
                vec![
                    (h.c > 0.0 && h.c <= 100.0, "svm.c", "must be above 0 and at most 100"),
                    (gamma, "svm.gamma", "must be positive and finite"),
                    ((10..=4_000).contains(&h.landmarks), "svm.landmarks", "must be 10 to 4000"),
                ]
            }
            Family::Knn => {
                let h = &self.knn;
                vec![
                    (h.neighbours != Some(0), "knn.neighbours", "must be at least 1"),
                    ((10..=20_000).contains(&h.rows), "knn.rows", "must be 10 to 20000"),
                ]
            }
            Family::Bayes => {
                let smoothing = self.bayes.smoothing;
                vec![((1e-9..=1e6).contains(&smoothing), "bayes.smoothing", "must be 1e-9 to 1e6")]
            }
            Family::Bedside => vec![(!self.bedside.feature.is_empty(), "bedside.feature", "must name a feature")],
            Family::Text => {
                let alpha = self.text.alpha;
                vec![(alpha > 0.0 && alpha.is_finite(), "text.alpha", "must be positive and finite")]
            }
        };
        match rules.into_iter().find(|(ok, ..)| !ok) {
            Some((_, name, reason)) => Err(ModelError::Parameter { name, reason }),
            None => Ok(()),
        }
    }
}

fn is_share(x: f64) -> bool {
    x > 0.0 && x <= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_a_wrong_value_is_named() {
        for family in Family::ALL.into_iter().filter(|family| *family != Family::Onnx) {
            Hyper::default().check(family).unwrap();
        }
        assert!(Hyper::default().check(Family::Onnx).is_err(), "no file can be a default");
        let onnx = |class: &str, classes: &[&str], output: OnnxOutput| {
            let classes = classes.iter().map(|&class| class.to_owned()).collect();
            let onnx = OnnxHyper { file: "a.onnx".to_owned(), output, class: class.to_owned(), classes };
            Hyper { onnx, ..Hyper::default() }.check(Family::Onnx).is_ok()
        };
        assert!(onnx("a", &[], OnnxOutput::Probability) && onnx("a", &["b", "a"], OnnxOutput::Probability));
        assert!(!onnx("a", &["b"], OnnxOutput::Probability) && !onnx("a", &[], OnnxOutput::Logit));
        let mut hyper = Hyper::default();
        hyper.boosting.eta = 0.0;
        assert!(matches!(hyper.check(Family::Boosting), Err(ModelError::Parameter { name: "boosting.eta", .. })));
        hyper.boosting = BoostingHyper { bins: 1, ..BoostingHyper::default() };
        assert!(matches!(hyper.check(Family::Boosting), Err(ModelError::Parameter { name: "boosting.bins", .. })));
        hyper.boosting = BoostingHyper { bags: 33, ..BoostingHyper::default() };
        assert!(matches!(hyper.check(Family::Boosting), Err(ModelError::Parameter { name: "boosting.bags", .. })));
        hyper.check(Family::Hazard).unwrap();
        hyper.hazard.lambda = f64::INFINITY;
        assert!(matches!(hyper.check(Family::Hazard), Err(ModelError::Parameter { name: "hazard.lambda", .. })));
        for colsample in [0.0, 1.01, f64::NAN] {
            hyper.forest.colsample = colsample;
            assert!(matches!(hyper.check(Family::Forest), Err(ModelError::Parameter { name: "forest.colsample", .. })));
        }
        hyper.check(Family::Mlp).unwrap();
        hyper.mlp.rate = f64::NAN;
        assert!(hyper.check(Family::Mlp).is_err());
        hyper.gru.drop = 1.0;
        assert!(matches!(hyper.check(Family::Gru), Err(ModelError::Parameter { name: "gru.drop", .. })));
        hyper.cnn.channels = vec![8, 0];
        assert!(matches!(hyper.check(Family::Cnn), Err(ModelError::Parameter { name: "cnn.channels", .. })));
    }

    #[test]
    fn every_preset_is_named_and_holds() {
        for name in Hyper::PRESETS {
            let (family, hyper) = Hyper::preset(name).unwrap();
            hyper.check(family).unwrap();
        }
        assert!(Hyper::preset("mlp").is_none());
    }

    #[test]
    fn a_stack_has_two_members_that_differ_and_are_checked_too() {
        let check = |text: &str| serde_json::from_str::<Hyper>(text).unwrap().check(Family::Stack);
        check(r#"{"stack":{"members":["mlp","boosting"]}}"#).unwrap();
        for members in [r#"[]"#, r#"["mlp"]"#, r#"["mlp","stack"]"#, r#"["mlp","forest","mlp"]"#] {
            let error = check(&format!(r#"{{"stack":{{"members":{members}}}}}"#)).unwrap_err();
            assert!(matches!(error, ModelError::Parameter { name: "stack.members", .. }), "{members}: {error}");
        }
        assert!(check(r#"{"stack":{"folds":1}}"#).is_err());
        let eta = r#"{"boosting":{"eta":0},"stack":{"members":["mlp","boosting"]}}"#;
        assert!(matches!(check(eta), Err(ModelError::Parameter { name: "boosting.eta", .. })));
        check(&eta.replace("\"boosting\"]", "\"forest\"]")).unwrap();
    }

    #[test]
    fn a_misspelt_parameter_is_refused_and_an_absent_one_is_the_default() {
        assert!(serde_json::from_str::<Hyper>(r#"{"boosting":{"deepness":3}}"#).is_err());
        let hyper: Hyper = serde_json::from_str(r#"{"boosting":{"depth":3}}"#).unwrap();
        assert_eq!(hyper.boosting, BoostingHyper { depth: 3, ..BoostingHyper::default() });
    }

    #[test]
    fn a_forest_on_an_earlier_card_has_no_share_of_columns_and_is_read() {
        let card = r#"{"forest":{"trees":120,"depth":16,"min_leaf":10,"tried":null}}"#;
        let hyper: Hyper = serde_json::from_str(card).unwrap();
        assert_eq!(hyper.forest, ForestHyper { trees: 120, ..ForestHyper::default() });
        hyper.check(Family::Forest).unwrap();
    }

    #[test]
    fn trees_of_a_round_on_an_earlier_card_are_read_as_models_averaged() {
        let hyper: Hyper = serde_json::from_str(r#"{"boosting":{"parallel":4}}"#).unwrap();
        assert_eq!(hyper.boosting, BoostingHyper { bags: 4, ..BoostingHyper::default() });
        hyper.check(Family::Boosting).unwrap();
        let written = serde_json::to_value(&hyper.boosting).unwrap();
        assert_eq!((&written["bags"], written.get("parallel")), (&serde_json::json!(4), None));
    }
}
