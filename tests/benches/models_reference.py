#!/usr/bin/env python3
"""What the usual Python libraries make of the same rows: `compare`; and what they say of a model of theirs: `fixture`.

    python3 -m venv venv && venv/bin/pip install pandas pyarrow scikit-learn xgboost-cpu shap

    venv/bin/python tests/benches/models_reference.py compare --auscult target/release/auscult \\
        --config config/physionet2012 [--families logistic,boosting] [--threads 2] [--keep DIR]

needs a library with history, where the site or AUSCULT__LIBRARY__URL says. It asks `auscult crossval --split all` for
our figures, `auscult features` and `auscult label` for the same rows, and fits the counterparts on them: the same
subjects in the same folds (dealt as src/models/folds.rs deals them), of the other folds the same 8 of 9 subjects to
fit on and the same ninth to choose the threshold of min(Se,+P) by (a task's `crossfit` is left out). Counterparts have our default hyperparameters
where theirs mean the same; XGBoost also has 400 rounds at 0.03, as one would set it by hand. Printed is a Markdown
table: mean ± standard deviation over the folds, the difference (ours less theirs) fold by fold, seconds of a fit (ours
with calibration, theirs without), and seconds to score 4,000 rows: ours on all of `--threads` (folds of fewer than
512 rows on one), theirs on one or on all, whichever is faster. Both sides are bound to as many cores as `--threads` says (Linux), and run one after
the other. Let nothing else run meanwhile: threads of OpenMP that wait for each other on a busy machine take for ever.

    venv/bin/python tests/benches/models_reference.py fixture tests/fixtures/xgboost

writes a small XGBoost classifier of made-up patients (model.json), rows (rows.csv; empty: missing), and their margins,
SHAP values and base value by XGBoost, which computes in single precision (xgboost.csv), and by shap's own code, which
computes in double precision (shap.csv). It also takes each from Shapley's formula over all subsets, and prints how far
off the two are.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

KEY = ["subject_id", "prediction_time"]
SCORED = 4000  # rows that the seconds of scoring are told for
WORD = 1 << 64
FAMILIES = "logistic,forest,boosting,mlp,svm,knn,bayes,stack"

def mix(x):
    """The finaliser of SplitMix64, as in src/models/random.rs."""
    x = (x ^ (x >> 30)) * 0xBF58_476D_1CE4_E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D0_49BB_1331_11EB % WORD
    return x ^ (x >> 31)


def deal(subjects, outcomes, count, seed):
    """The fold of each row: subjects with and those without a positive row, each in random order, are dealt in turn.
    The same numbers as those of src/models/folds.rs."""
    seed = mix(seed ^ 0x666F_6C64)
    positive = {}
    for subject, outcome in zip(subjects.tolist(), outcomes.tolist()):
        positive[subject] = positive.get(subject, 0) | outcome
    order = sorted(positive, key=lambda s: (not positive[s], mix(seed ^ mix(s % WORD)), s))
    dealt = {subject: i % count for i, subject in enumerate(order)}
    return np.array([dealt[subject] for subject in subjects.tolist()])


class WatchedXgboost:
    """XGBoost as `boosting` is fitted here: the rounds are found on the rows held back, then all are fitted."""

    def __init__(self, held, seed, threads):
        self.held = held
        settings = {"learning_rate": 0.015, "max_depth": 4, "subsample": 0.5, "colsample_bytree": 0.5}
        settings |= {"min_child_weight": 5, "reg_lambda": 2, "tree_method": "hist", "max_bin": 64}
        self.settings = settings | {"random_state": seed, "n_jobs": threads}

    def fit(self, x, y):
        watched = xgboost.XGBClassifier(n_estimators=2000, early_stopping_rounds=150, **self.settings)
        kept, held = ~self.held, self.held
        watched.fit(x[kept], y[kept], eval_set=[(x[held], y[held])], verbose=False)
        rounds = watched.best_iteration + 1
        self.model = xgboost.XGBClassifier(n_estimators=rounds, **self.settings).fit(x, y)
        return self

    def predict_proba(self, x):
        return self.model.predict_proba(x)


def counterparts(subjects, outcomes, seed, threads):
    """Models by family and name for rows of these subjects. Those that know no gaps are told which there were."""
    inner = deal(subjects, outcomes, 5, seed)

    def whole(*steps):
        return make_pipeline(SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), *steps)

    def logistic():
        return whole(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))

    def forest():
        settings = {"n_estimators": 300, "max_depth": 16, "min_samples_leaf": 10, "max_features": "sqrt"}
        return whole(RandomForestClassifier(**settings, n_jobs=threads, random_state=seed))

    def xgb():
        settings = {"n_estimators": 400, "learning_rate": 0.03, "max_depth": 4, "min_child_weight": 5}
        settings |= {"subsample": 0.8, "colsample_bytree": 0.5, "reg_lambda": 5, "tree_method": "hist"}
        return xgboost.XGBClassifier(**settings, n_jobs=threads, random_state=seed)

    def mlp():
        # Its penalty is divided by the rows of a step, ours (0.02) is not.
        settings = {"batch_size": 32, "learning_rate_init": 3e-4, "alpha": 0.02 * 32, "max_iter": 100}
        settings |= {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 10}
        return whole(StandardScaler(), MLPClassifier((64, 32), **settings, random_state=seed))

    def stack():
        members = [("logistic", logistic()), ("forest", forest()), ("xgboost", xgb()), ("mlp", mlp())]
        parts = [(np.flatnonzero(inner != k), np.flatnonzero(inner == k)) for k in range(5)]
        return StackingClassifier(members, LogisticRegression(), cv=parts, stack_method="predict_proba")

    nearest = {"n_neighbors": max(1, min(len(outcomes), 2000) // 10), "weights": "distance", "n_jobs": threads}
    histogram = {"learning_rate": 0.03, "max_iter": 400, "max_leaf_nodes": 16, "l2_regularization": 5}
    return {
        "logistic": {"LogisticRegression": logistic},
        "forest": {"RandomForestClassifier": forest},
        "boosting": {
            "XGBoost, 400 rounds": xgb,
            "XGBoost, as boosting": lambda: WatchedXgboost(inner == 0, seed, threads),
            "HistGradientBoosting": lambda: HistGradientBoostingClassifier(**histogram, random_state=seed),
        },
        "mlp": {"MLPClassifier": mlp},
        "svm": {"SVC": lambda: whole(StandardScaler(), SVC(C=1.0, gamma="scale"))},
        "knn": {"KNeighborsClassifier": lambda: whole(StandardScaler(), KNeighborsClassifier(**nearest))},
        "bayes": {"GaussianNB": lambda: whole(StandardScaler(), GaussianNB(var_smoothing=10.0))},
        "stack": {"StackingClassifier": stack},
    }


def risks(model, x):
    return model.predict_proba(x)[:, 1] if hasattr(model, "predict_proba") else model.decision_function(x)


def min_se_ppv(scores, outcomes, threshold):
    """min(sensitivity, positive predictivity); 0 where nothing reaches the threshold."""
    alerts = scores >= threshold
    found = float(np.sum(alerts & (outcomes == 1)))
    return min(found / np.sum(outcomes), found / np.sum(alerts)) if found else 0.0


def seconds(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def score_seconds(model, x, threads):
    """The faster of one thread and of all."""

    def with_jobs(jobs):
        names = [name for name in getattr(model, "get_params", dict)() if name.split("__")[-1] == "n_jobs"]
        if names:
            model.set_params(**dict.fromkeys(names, jobs))
        with threadpool_limits(jobs):
            return seconds(lambda: risks(model, x))[0]

    return min(with_jobs(1), with_jobs(threads))


def judge(build, x, y, folds, threads):
    """Figures of each fold, and the mean seconds of a fit and of scoring."""
    figures, fitting, scoring = [], [], []
    for fit, tune, test in folds:
        model = build(fit)
        spent, model = seconds(lambda: model.fit(x[fit], y[fit]))
        fitting.append(spent)
        tuned, scores = risks(model, x[tune]), risks(model, x[test])
        threshold = max(np.unique(tuned), key=lambda t: min_se_ppv(tuned, y[tune], t))
        area, precision = roc_auc_score(y[test], scores), average_precision_score(y[test], scores)
        figures.append((area, precision, min_se_ppv(scores, y[test], threshold)))
        scoring.append(score_seconds(model, x[test], threads) * SCORED / len(scores))
    return np.array(figures), np.mean(fitting), np.mean(scoring)


def ask(auscult, *arguments):
    """What a command prints, a JSON object."""
    done = subprocess.run([auscult, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`auscult {' '.join(map(str, arguments))}` ended with {done.returncode}")
    return json.loads(done.stdout)


def task_of(config, name):
    """Name and ACES file of a task of the site."""
    tasks = {}
    for path in sorted((config / "tasks").glob("*.toml")):
        task = tomllib.loads(path.read_text())
        tasks[task["name"]] = path.parent / task["label"]["aces"]
    if name is None and len(tasks) == 1:
        name = next(iter(tasks))
    if name not in tasks:
        raise SystemExit(f"choose one with --task: {config} has the tasks {', '.join(tasks) or 'none'}")
    return name, tasks[name]


def fitting_once(config, folder):
    """A copy of a site whose tasks are not cross-fitted, for their counterparts are fitted once."""
    site = Path(folder) / "site"
    shutil.copytree(config, site)
    for task in (site / "tasks").glob("*.toml"):
        lines = task.read_text().splitlines(keepends=True)
        task.write_text("".join(line for line in lines if not line.startswith("crossfit")))
    return site


def labelled(features_file, labels_file):
    """Features that a model of a table reads, outcomes and subjects of the labelled rows."""
    labels = pd.read_parquet(labels_file, columns=KEY + ["boolean_value"]).dropna()
    # Two labels of one time that differ are no label, as in `auscult train`.
    labels = labels.groupby(KEY)["boolean_value"].agg(["first", "nunique"]).reset_index()
    labels = labels[labels["nunique"] == 1][KEY + ["first"]]
    rows = pd.read_parquet(features_file).drop(columns="task").merge(labels, on=KEY, validate="many_to_one")
    rows = rows.sort_values(KEY, kind="stable")
    outcomes, subjects = rows.pop("first").to_numpy(dtype=int), rows["subject_id"].to_numpy()
    columns = [name for name in rows.columns if name not in KEY and not name.startswith("grid.")]
    return rows[columns].to_numpy(dtype=np.float32), outcomes, subjects


def folds_of(subjects, outcomes, count, seed):
    """Rows to fit on, to choose the threshold by and to judge by, fold by fold."""
    fold, every = deal(subjects, outcomes, count, seed), np.arange(len(outcomes))
    for k in range(count):
        others = every[fold != k]
        inner = deal(subjects[others], outcomes[others], 9, seed)
        yield others[inner != 0], others[inner == 0], every[fold == k]


def figure(values):
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def line(family, ours, name, theirs):
    """A family beside one counterpart, as cells of the table."""
    mine = np.array([[fold[key] for key in ("auroc", "auprc", "min_se_ppv")] for fold in ours["by_fold"]], dtype=float)
    figures, fit, score = theirs
    scored = SCORED / ours["rows_per_second"]
    cells = [f"`{family}`", name, figure(mine[:, 0]), figure(figures[:, 0]), figure(mine[:, 0] - figures[:, 0])]
    cells += [f"{np.mean(mine[:, i]):.3f} / {np.mean(figures[:, i]):.3f}" for i in (1, 2)]
    return cells + [f"{ours['fit_seconds']:.2f} / {fit:.2f}", f"{scored:.4f} / {score:.4f}"]


def compare(args):
    if alone := set(args.families.split(",")) - set(FAMILIES.split(",")):
        raise SystemExit(f"{', '.join(sorted(alone))} has no counterpart here; there are {FAMILIES}")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    threadpool_limits(args.threads)
    task, aces = task_of(args.config, args.task)
    with tempfile.TemporaryDirectory() as folder:
        site = ("--config", fitting_once(args.config, folder))
        features, labels = Path(args.keep or folder) / "features.parquet", Path(args.keep or folder) / "labels.parquet"
        ask(args.auscult, "features", *site, "--task", task, "--out", features)
        ask(args.auscult, "label", *site, "--aces", aces, "--out", labels)
        x, y, subjects = labelled(features, labels)
        crossval = ("crossval", *site, "--task", task, "--split", "all", "--folds", args.folds)
        report = ask(args.auscult, *crossval, "--families", args.families)
    found, want = (len(y), int(y.sum())), (report["rows"], report["positives"])
    if found != want:
        raise SystemExit(f"{found} rows and positives are not crossval's {want}; it left out {report['left_out']}")
    folds = list(folds_of(subjects, y, args.folds, report["seed"]))
    print(f"{task}: {len(y)} rows, {y.sum()} positive, {x.shape[1]} columns; mean ± standard deviation over", end=" ")
    print(f"{args.folds} folds by subject; ours / theirs; threads: {args.threads}\n")
    head = ["family", "counterpart", "AUROC ours", "theirs", "difference", "AUPRC", "min(Se,+P)", "fit s", "score s"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|", flush=True)
    ours = {one["family"]: one for one in report["families"]}
    for family, own in ours.items():
        if own["refused"]:
            print(f"{family}: refused, {own['refused']}", file=sys.stderr)
            continue

        def models(rows):
            return counterparts(subjects[rows], y[rows], report["seed"], args.threads)[family]

        for name in models(folds[0][0]):
            theirs = judge(lambda rows: models(rows)[name](), x, y, folds, args.threads)
            print("| " + " | ".join(line(family, own, name, theirs)) + " |", flush=True)


def patients(random, count):
    """Made-up patients with gaps, in steps that a ward would write down, and what became of them."""
    columns = {
        "age": random.uniform(18, 95, count).round(0),
        "heart_rate": random.normal(85, 18, count).round(0),
        "systolic_bp": random.normal(120, 22, count).round(0),
        "lactate": random.lognormal(0.5, 0.6, count).round(1),
        "creatinine": random.lognormal(0.1, 0.5, count).round(2),
        "gcs": random.integers(3, 16, count),
        "temperature": random.normal(37, 0.8, count).round(1),
        "urine_output": random.lognormal(4, 0.8, count).round(0),
    }
    table = pd.DataFrame(columns).astype(np.float32)
    odds = 0.03 * (table.age - 60) + 0.6 * (table.lactate - 1.5) + 0.02 * (table.heart_rate - 85) - 0.15 * table.gcs
    odds += 0.5 * ((table.temperature - 37).abs() > 1) - 1.0
    outcomes = (random.random(count) < 1 / (1 + np.exp(-odds))).to_numpy().astype(int)
    gaps = random.random(table.shape) < [0.0, 0.05, 0.05, 0.5, 0.2, 0.1, 0.15, 0.3]
    return table.mask(gaps), outcomes


def shapley(trees, row):
    """SHAP values of a row, then the expected value, by the definition: columns outside a coalition take both branches
    with the odds of the hessians. In double precision but for the comparison with a threshold, which is XGBoost's."""
    columns = len(row)

    def game(tree, coalition, at=0):
        left, right = tree["left_children"][at], tree["right_children"][at]
        if left == -1:
            return float(np.float32(tree["split_conditions"][at]))
        column = tree["split_indices"][at]
        if coalition >> column & 1:
            value, missing = row[column], np.isnan(row[column])
            goes_left = tree["default_left"][at] if missing else value < np.float32(tree["split_conditions"][at])
            return game(tree, coalition, left if goes_left else right)
        hessians = [float(np.float32(tree["sum_hessian"][child])) for child in (left, right)]
        parts = [weight * game(tree, coalition, child) for weight, child in zip(hessians, (left, right))]
        return sum(parts) / sum(hessians)

    values = [sum(game(tree, coalition) for tree in trees) for coalition in range(1 << columns)]
    odds = [1 / (columns * math.comb(columns - 1, size)) for size in range(columns)]
    out = [0.0] * columns + [values[0]]
    for column in range(columns):
        for coalition in range(1 << columns):
            if not coalition >> column & 1:
                gained = values[coalition | 1 << column] - values[coalition]
                out[column] += odds[coalition.bit_count()] * gained
    return out


def shown(model, table, random):
    """Rows of every kind: all missing, all but one, as they come, and on and just below the thresholds."""
    frame = model.get_booster().trees_to_dataframe()
    splits = {name: frame.Split[frame.Feature == name].to_numpy(np.float32) for name in table.columns}
    on = [{name: random.choice(splits[name]) for name in table.columns} for _ in range(10)]
    below = [{name: np.nextafter(x, np.float32(-np.inf)) for name, x in row.items()} for row in on]
    few = [{}] + [{name: table[name].median()} for name in table.columns]
    rows = pd.DataFrame(few + on + below, columns=table.columns)
    return pd.concat([rows, table.head(31)], ignore_index=True).astype(np.float32)


def fixture(args):
    import shap  # slow to import, and not needed elsewhere

    args.folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    (table, outcomes), (fresh, _) = patients(random, 600), patients(random, 31)
    settings = {"n_estimators": 20, "max_depth": 4, "learning_rate": 0.3, "subsample": 0.9, "tree_method": "hist"}
    model = xgboost.XGBClassifier(**settings, n_jobs=1, random_state=7).fit(table, outcomes)
    booster, rows = model.get_booster(), shown(model, fresh, random)
    booster.save_model(args.folder / "model.json")
    rows.to_csv(args.folder / "rows.csv", index=False)
    matrix = xgboost.DMatrix(rows)
    single = pd.DataFrame(booster.predict(matrix, pred_contribs=True), columns=[*rows.columns, "base"])
    single.insert(0, "margin", booster.predict(matrix, output_margin=True))
    single.to_csv(args.folder / "xgboost.csv", index=False)
    explainer = shap.TreeExplainer(model)
    # Else it would ask XGBoost; its own code takes the trees as they are.
    explainer.model.model_type = "internal"
    double = pd.DataFrame(explainer.shap_values(rows, check_additivity=False), columns=rows.columns)
    double.insert(0, "margin", explainer.model.predict(rows))
    double["base"] = double["margin"] - double[rows.columns].sum(axis=1)
    double.to_csv(args.folder / "shap.csv", index=False, float_format="%.12f")

    learner = json.loads((args.folder / "model.json").read_text())["learner"]
    trees = learner["gradient_booster"]["model"]["trees"]
    share = json.loads(learner["learner_model_param"]["base_score"])[0]
    exact = pd.DataFrame([shapley(trees, row) for row in rows.to_numpy()], columns=[*rows.columns, "base"])
    exact["base"] += math.log(share / (1 - share))
    exact.insert(0, "margin", exact.sum(axis=1))
    print(f"{len(rows)} rows; furthest from the definition:")
    print(pd.DataFrame({"xgboost": (single - exact).abs().max(), "shap": (double - exact).abs().max()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    mode = modes.add_parser("compare", help="both sides on the same rows and folds")
    mode.add_argument("--auscult", required=True, help="the program")
    mode.add_argument("--config", type=Path, required=True, help="folder of the site")
    mode.add_argument("--task", help="task of the site [default: its only one]")
    mode.add_argument("--families", default=FAMILIES)
    mode.add_argument("--folds", type=int, default=5)
    mode.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores of either side")
    mode.add_argument("--keep", type=Path, metavar="DIR", help="leave features.parquet and labels.parquet there")
    mode.set_defaults(run=compare)
    mode = modes.add_parser("fixture", help="a small XGBoost model with its SHAP values")
    mode.add_argument("folder", type=Path)
    mode.set_defaults(run=fixture)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
