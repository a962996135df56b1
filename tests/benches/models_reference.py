#!/usr/bin/env python3
"""What the usual Python libraries make of the same features and labels, for whoever wants to compare.

    auscult features --task T --out features.parquet
    auscult evaluate --task T --split all --predictions labels.parquet     # labels of every labelled row
    python3 -m venv venv && venv/bin/pip install pandas pyarrow scikit-learn xgboost-cpu
    venv/bin/python tests/benches/models_reference.py features.parquet labels.parquet [--dump DIR]

`labels.parquet` may also come from `auscult label`: only subject_id, prediction_time and boolean_value are read.
Rows are joined by (subject_id, prediction_time). A subject is in one of five folds, by a hash of its number, so
that every model and every run has the same ones; in each fold a fifth of the other subjects is kept from the fit,
to choose the threshold of min(Se,+P) by, and never from the fold that is judged.

`--dump DIR` fits one XGBoost model of 50 trees on all rows and writes xgboost.json (the model), xgboost_rows.parquet
(up to 500 rows of features) and xgboost_shap.parquet (per row: a contribution a feature, `__bias__` and `__margin__`).
Another implementation of the same trees can be tested by them: each contribution within 1e-6. XGBoost adds up in single
precision, so that the sums of its own contributions miss its own margins by 3e-6, and by 6e-6 with 400 trees.
"""

import argparse
import hashlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
KEY = ["subject_id", "prediction_time"]


def bucket(subject, salt, buckets):
    """A number below `buckets` that depends on the subject and the salt alone."""
    digest = hashlib.blake2b(f"{salt}:{subject}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % buckets


def read(features_file, labels_file, task):
    """Features, outcomes and subjects of the labelled rows."""
    features = pd.read_parquet(features_file)
    if "task" in features:
        tasks = sorted(features["task"].unique())
        if task is None and len(tasks) > 1:
            raise SystemExit(f"{features_file} holds the tasks {', '.join(tasks)}; choose one with --task")
        features = features[features["task"] == (task or tasks[0])].drop(columns="task")
    labels = pd.read_parquet(labels_file, columns=KEY + ["boolean_value"])
    labels = labels.dropna(subset=KEY + ["boolean_value"])
    # Two labels of one time that differ are no label, as in `auscult train`.
    labels = labels.groupby(KEY)["boolean_value"].agg(["first", "nunique"]).reset_index()
    labels = labels[labels["nunique"] == 1]
    rows = features.merge(labels[KEY + ["first"]], on=KEY, how="inner", validate="many_to_one")
    if rows.empty:
        raise SystemExit("no row has a label: are the files of the same library and task?")
    rows = rows.sort_values(KEY, kind="stable")
    outcomes = rows.pop("first").to_numpy(dtype=int)
    subjects = rows["subject_id"].to_numpy()
    columns = rows.drop(columns=KEY).astype(np.float32)
    return columns, outcomes, subjects


def models(seed):
    """A fresh model of each kind. Those that know no missing values are told which there were."""

    def impute():
        return SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)

    return {
        "logistic regression": make_pipeline(
            impute(), StandardScaler(), LogisticRegression(C=0.01, max_iter=2000, random_state=seed)
        ),
        "random forest": make_pipeline(
            impute(),
            RandomForestClassifier(n_estimators=500, min_samples_leaf=5, max_features="sqrt", n_jobs=-1, random_state=seed),
        ),
        "MLP": make_pipeline(
            impute(),
            StandardScaler(),
            MLPClassifier((64, 32), alpha=1e-2, early_stopping=True, max_iter=200, random_state=seed),
        ),
        "XGBoost": xgb(seed),
    }


def xgb(seed, trees=400, rate=0.03):
    return xgboost.XGBClassifier(
        n_estimators=trees,
        learning_rate=rate,
        max_depth=4,
        min_child_weight=5,
        subsample=0.8,
        colsample_bytree=0.5,
        reg_lambda=5.0,
        tree_method="hist",
        n_jobs=-1,
        random_state=seed,
    )


def min_se_ppv(risks, outcomes, threshold):
    """min(sensitivity, positive predictivity); 0 where nothing reaches the threshold."""
    alerts = risks >= threshold
    found = float(np.sum(alerts & (outcomes == 1)))
    if found == 0:
        return 0.0
    return min(found / float(np.sum(outcomes)), found / float(np.sum(alerts)))


def best_threshold(risks, outcomes):
    """The risk that occurs with the highest min(Se,+P)."""
    candidates = np.unique(risks)
    return candidates[int(np.argmax([min_se_ppv(risks, outcomes, t) for t in candidates]))]


def judge(columns, outcomes, subjects, seed):
    """Of each model the figures on the rows of all folds, each scored by a model that never saw its subject."""
    fold = np.array([bucket(subject, "fold", FOLDS) for subject in subjects])
    kept = np.array([bucket(subject, "threshold", 5) == 0 for subject in subjects])
    print(f"{len(outcomes)} rows, {outcomes.sum()} positive, {len(set(subjects))} subjects, {columns.shape[1]} features")
    print("rows a fold: " + ", ".join(str(int(np.sum(fold == k))) for k in range(FOLDS)))
    print(f"\n{'model':22} {'AUROC':>8} {'AUPRC':>8} {'min(Se,+P)':>11} {'Brier':>8} {'fit s':>8} {'score s':>8}")
    for name in models(seed):
        figures, fit_seconds, score_seconds = [], 0.0, 0.0
        for k in range(FOLDS):
            fit, tune, test = (fold != k) & ~kept, (fold != k) & kept, fold == k
            if not (0 < outcomes[test].sum() < test.sum() and 0 < outcomes[tune].sum() and 0 < outcomes[fit].sum()):
                raise SystemExit(f"fold {k} lacks an outcome; there are too few subjects for {FOLDS} folds")
            model = models(seed)[name]
            begin = time.perf_counter()
            model.fit(columns[fit].to_numpy(), outcomes[fit])
            fit_seconds += time.perf_counter() - begin
            threshold = best_threshold(model.predict_proba(columns[tune].to_numpy())[:, 1], outcomes[tune])
            begin = time.perf_counter()
            risks = model.predict_proba(columns[test].to_numpy())[:, 1]
            score_seconds += time.perf_counter() - begin
            figures.append(
                (
                    roc_auc_score(outcomes[test], risks),
                    average_precision_score(outcomes[test], risks),
                    min_se_ppv(risks, outcomes[test], threshold),
                    brier_score_loss(outcomes[test], risks),
                )
            )
        auroc, auprc, least, brier = np.mean(figures, axis=0)
        spread = np.std(figures, axis=0, ddof=1)
        print(
            f"{name:22} {auroc:8.4f} {auprc:8.4f} {least:11.4f} {brier:8.4f} {fit_seconds:8.1f} {score_seconds:8.2f}"
            f"   (± {spread[0]:.4f} AUROC over the folds)"
        )


def dump(columns, outcomes, seed, folder):
    """An XGBoost model, rows, and what it says of them."""
    folder.mkdir(parents=True, exist_ok=True)
    model = xgb(seed, trees=50, rate=0.2).fit(columns, outcomes)
    booster = model.get_booster()
    rows = columns.iloc[np.linspace(0, len(columns) - 1, min(500, len(columns))).astype(int)]
    matrix = xgboost.DMatrix(rows)
    shap = booster.predict(matrix, pred_contribs=True)
    margins = booster.predict(matrix, output_margin=True)
    worst = float(np.max(np.abs(shap.sum(axis=1) - margins)))
    booster.save_model(folder / "xgboost.json")
    rows.reset_index(drop=True).to_parquet(folder / "xgboost_rows.parquet")
    contributions = pd.DataFrame(shap, columns=list(columns.columns) + ["__bias__"])
    contributions["__margin__"] = margins
    contributions.to_parquet(folder / "xgboost_shap.parquet")
    print(f"\n{folder}: {len(rows)} rows; contributions and margins differ by at most {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path, help="Parquet file of `auscult features`")
    parser.add_argument("labels", type=Path, help="Parquet file of `auscult evaluate --predictions` or `auscult label`")
    parser.add_argument("--task", help="which task of the features")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dump", type=Path, metavar="DIR", help="write an XGBoost model and its SHAP values")
    args = parser.parse_args()
    columns, outcomes, subjects = read(args.features, args.labels, args.task)
    judge(columns, outcomes, subjects, args.seed)
    if args.dump:
        dump(columns, outcomes, args.seed, args.dump)


if __name__ == "__main__":
    main()
