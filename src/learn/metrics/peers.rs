//! Against scikit-learn, SciPy and scikit-survival: `tests/peers/metrics_oracle.py` makes the rows and their figures,
//! and says where definitions differ.

use std::iter::zip;

use serde_json::Value;

use super::kaplan_meier::KaplanMeier;
use super::*;

fn oracle() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/metrics/oracle.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn each_its_own(n: usize) -> Vec<SubjectId> {
    (0..n).map(|i| SubjectId(i as i64)).collect()
}

fn agree(found: Option<f64>, peer: &Value, what: &str) {
    let (found, peer) = (found.unwrap(), peer.as_f64().unwrap());
    assert!((found - peer).abs() < 1e-9, "{what}: {found}, of the peer {peer}");
}

#[test]
fn figures_of_classes_are_those_of_scikit_learn() {
    let peer = &oracle()["classes"];
    let names: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let truth: Vec<usize> = numbers(&peer["truth"]).iter().map(|class| *class as usize).collect();
    let found = ClassFigures::of(&names, &numbers(&peer["probabilities"]), &truth, &each_its_own(truth.len()), 1);
    for (i, class) in found.classes.iter().enumerate() {
        agree(class.auroc, &peer["auroc"][i], "AUROC of a class");
        agree(class.auprc, &peer["auprc"][i], "AUPRC of a class");
        agree(class.brier, &peer["brier_of_one"][i], "Brier score of a class");
    }
    agree(found.macro_auroc, &peer["macro_auroc"], "macro AUROC");
    agree(found.weighted_auroc, &peer["weighted_auroc"], "weighted AUROC");
    agree(found.log_loss, &peer["log_loss"], "log loss");
    agree(found.brier, &peer["brier"], "Brier score");
    agree(found.accuracy, &peer["accuracy"], "accuracy");
    agree(found.balanced_accuracy, &peer["balanced_accuracy"], "balanced accuracy");
    agree(found.kappa, &peer["kappa"], "kappa");
    assert_eq!(serde_json::to_value(&found.confusion).unwrap(), peer["confusion"]);
}

#[test]
fn figures_of_amounts_are_those_of_scikit_learn_and_scipy() {
    let peer = &oracle()["amount"];
    let (truth, expected) = (numbers(&peer["truth"]), numbers(&peer["expected"]));
    let (cuts, reaching) = (numbers(&peer["cuts"]), numbers(&peer["reaching"]));
    let ends = |value: &Value| [value[0].as_f64().unwrap(), value[1].as_f64().unwrap()];
    let central: Vec<[f64; 2]> = peer["central"].as_array().unwrap().iter().map(ends).collect();
    let rows = Amounts {
        subjects: &each_its_own(truth.len()),
        truth: &truth,
        expected: &expected,
        training_mean: peer["training_mean"].as_f64().unwrap(),
        cuts: &cuts,
        reaching: &reaching,
        central: Some(&central),
    };
    let found = AmountFigures::of(rows, 1);
    for (name, errors) in [("errors", found.errors), ("baseline", found.baseline)] {
        agree(errors.mae, &peer[name]["mae"], "mean absolute error");
        agree(errors.rmse, &peer[name]["rmse"], "root mean squared error");
        agree(errors.r2, &peer[name]["r2"], "R²");
        agree(errors.bias, &peer[name]["bias"], "bias");
    }
    agree(found.errors.spearman, &peer["errors"]["spearman"], "Spearman's correlation");
    for (i, at) in found.cuts.iter().enumerate() {
        agree(at.auroc, &peer["auroc"][i], "AUROC at a cut");
        agree(at.brier, &peer["brier"][i], "Brier score at a cut");
    }
    agree(found.crps, &peer["crps"], "CRPS");
    agree(found.central.map(|of| of.coverage), &peer["coverage"], "coverage");
    agree(found.central.and_then(|of| of.mean_width), &peer["mean_width"], "mean width");
}

#[test]
fn figures_of_times_are_those_of_scikit_survival() {
    for case in ["tied", "apart"] {
        let peer = &oracle()[case];
        let (hours, times, incidence) = (numbers(&peer["hours"]), numbers(&peer["times"]), numbers(&peer["incidence"]));
        let events: Vec<bool> =
            peer["events"].as_array().unwrap().iter().map(|event| event.as_bool().unwrap()).collect();
        let rows = Incidences {
            subjects: &each_its_own(hours.len()),
            hours: &hours,
            events: &events,
            times: &times,
            incidence: &incidence,
        };
        let found = SurvivalFigures::of(rows, 1);
        agree(found.harrell, &peer["harrell"], "Harrell's concordance");
        agree(found.uno, &peer["uno"], "Uno's concordance");
        for (i, at) in found.times.iter().enumerate() {
            agree(at.auroc, &peer["auroc"][i], "AUROC at a time");
            agree(at.brier, &peer["brier"][i], "Brier score at a time");
        }
        agree(found.integrated_brier, &peer["integrated_brier"], "integrated Brier score");

        let mut ends: Vec<(f64, bool)> = zip(hours, events).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (name, found) in [("left", KaplanMeier::of_events(&ends)), ("watched", KaplanMeier::of_censorings(&ends))] {
            for (time, left) in zip(numbers(&peer[name][0]), numbers(&peer[name][1])) {
                assert!((found.after(time) - left).abs() < 1e-9, "{name} after {time}: {found:?}, of the peer {left}");
            }
        }
    }
}
