#!/usr/bin/env python3
"""Figures of made-up predictions as scikit-learn, SciPy and scikit-survival compute them, as facts to compare with.

usage: metrics_oracle.py > tests/fixtures/metrics/oracle.json
    python3 -m venv V && V/bin/pip install scikit-learn==1.9.1 scikit-survival==0.28.0 scipy==1.17.1 numpy==2.4.6 &&
        V/bin/python tests/peers/metrics_oracle.py > tests/fixtures/metrics/oracle.json

Rows come from a seed and are made-up; they have ties wherever there can be some. Where definitions differ:

- scikit-survival counts a row that is censored at a time as gone then, and its weights of an event at a time take
  those censored at the same time as gone before it; here events come before censorings of the same time. That is had
  of it by moving each censoring by a millionth of an hour, which is what "after the events" means, and needs no
  move where no time is both ("apart").
- scikit-learn clips probabilities before the logarithm at 2e-16, here it is 1e-9: no row is so sure here.
- The continuous ranked probability score between cuts is computed here row by row, from its definition.
"""

import json

import numpy as np
from scipy.stats import spearmanr
from sklearn import metrics
from sksurv.metrics import brier_score, concordance_index_censored, concordance_index_ipcw
from sksurv.metrics import cumulative_dynamic_auc, integrated_brier_score
from sksurv.nonparametric import kaplan_meier_estimator
from sksurv.util import Surv

ROWS = 60
AFTER = 1e-6


def classes(rng):
    margins = rng.normal(size=(ROWS, 4)) + [1.0, 0.3, 0.0, -0.5]
    truth = (margins + rng.gumbel(size=margins.shape)).argmax(axis=1)
    shares = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    percent = np.clip(np.round(100 * shares), 1, None)
    percent[:, 0] += 100 - percent.sum(axis=1)
    p = percent / 100
    assert (p > 0).all() and np.allclose(p.sum(axis=1), 1)
    likeliest = p.argmax(axis=1)
    one = [truth == k for k in range(4)]
    return {
        "probabilities": p.ravel().tolist(),
        "truth": truth.tolist(),
        "auroc": [metrics.roc_auc_score(one[k], p[:, k]) for k in range(4)],
        "auprc": [metrics.average_precision_score(one[k], p[:, k]) for k in range(4)],
        "brier_of_one": [metrics.brier_score_loss(one[k], p[:, k]) for k in range(4)],
        "macro_auroc": metrics.roc_auc_score(truth, p, multi_class="ovr", average="macro"),
        "weighted_auroc": metrics.roc_auc_score(truth, p, multi_class="ovr", average="weighted"),
        "log_loss": metrics.log_loss(truth, p),
        "brier": metrics.brier_score_loss(truth, p, labels=range(4), scale_by_half=False),
        "accuracy": metrics.accuracy_score(truth, likeliest),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, likeliest),
        "kappa": metrics.cohen_kappa_score(truth, likeliest),
        "confusion": metrics.confusion_matrix(truth, likeliest).tolist(),
    }


def errors(truth, said):
    return {
        "mae": metrics.mean_absolute_error(truth, said),
        "rmse": metrics.root_mean_squared_error(truth, said),
        "r2": metrics.r2_score(truth, said),
        "bias": float(np.mean(said - truth)),
    }


def amount(rng):
    expected = np.round(2 * rng.gamma(2.0, 2.0, size=ROWS)) / 2
    truth = rng.poisson(expected).astype(float)
    drawn = rng.poisson(expected[:, None] + 0.3, size=(ROWS, 40))
    cuts = np.array([1.0, 2.0, 4.0, 7.0, 11.0])
    reaching = np.stack([(drawn >= cut).mean(axis=1) for cut in cuts], axis=1)
    central = np.quantile(drawn, [0.1, 0.9], axis=1).T
    above = truth[:, None] >= cuts
    inside = (central[:, 0] <= truth) & (truth <= central[:, 1])
    return {
        "truth": truth.tolist(),
        "expected": expected.tolist(),
        "training_mean": 4.25,
        "cuts": cuts.tolist(),
        "reaching": reaching.ravel().tolist(),
        "central": central.tolist(),
        "errors": errors(truth, expected) | {"spearman": float(spearmanr(truth, expected).statistic)},
        "baseline": errors(truth, np.full(ROWS, 4.25)),
        "coverage": float(inside.mean()),
        "mean_width": float((central[:, 1] - central[:, 0]).mean()),
        "auroc": [metrics.roc_auc_score(above[:, k], reaching[:, k]) for k in range(len(cuts))],
        "brier": [metrics.brier_score_loss(above[:, k], reaching[:, k]) for k in range(len(cuts))],
        "crps": float(np.trapezoid((reaching - above) ** 2, cuts, axis=1).mean()),
    }


def survival(rng, apart):
    risk = rng.normal(size=ROWS)
    to_event = np.ceil(rng.exponential(50 * np.exp(-0.8 * risk)))
    watched = np.minimum(np.ceil(rng.exponential(70, size=ROWS)), 48)
    event = to_event <= watched
    hours = np.minimum(to_event, watched)
    if apart:
        hours = np.where(event, hours, hours + 0.25)
    times = np.array([12.0, 24.0, 36.0, 48.0])
    by = 1 - np.exp(-times / 50 * np.exp(0.8 * risk + 0.3 * rng.normal(size=ROWS))[:, None])
    incidence = np.round(20 * by) / 20
    both = len(set(hours[event]) & set(hours[~event]))
    assert (both == 0) == apart and len(set(hours)) < ROWS - 5
    theirs = Surv.from_arrays(event, hours if apart else np.where(event, hours, hours + AFTER))
    risk = incidence[:, -1]
    left = kaplan_meier_estimator(event, hours)
    watched = kaplan_meier_estimator(event, hours, reverse=True)
    return {
        "hours": hours.tolist(),
        "events": event.tolist(),
        "times": times.tolist(),
        "incidence": incidence.ravel().tolist(),
        "left": [left[0].tolist(), left[1].tolist()],
        "watched": [watched[0].tolist(), watched[1].tolist()],
        "harrell": float(concordance_index_censored(event, hours, risk)[0]),
        "uno": float(concordance_index_ipcw(theirs, theirs, risk, tau=times[-1])[0]),
        "auroc": cumulative_dynamic_auc(theirs, theirs, incidence, times)[0].tolist(),
        "brier": brier_score(theirs, theirs, 1 - incidence, times)[1].tolist(),
        "integrated_brier": float(integrated_brier_score(theirs, theirs, 1 - incidence, times)),
    }


def main():
    rng = np.random.default_rng(20261126)
    parts = {
        "classes": classes(rng),
        "amount": amount(rng),
        "tied": survival(rng, apart=False),
        "apart": survival(rng, apart=True),
    }
    print("{")
    for i, (name, part) in enumerate(parts.items()):
        print(f'"{name}": {{')
        print(",\n".join(f'"{key}": {json.dumps(value)}' for key, value in part.items()))
        print("}" + ("," if i + 1 < len(parts) else ""))
    print("}")


if __name__ == "__main__":
    main()
