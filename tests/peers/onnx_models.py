#!/usr/bin/env python3
"""Makes the ONNX models of tests/fixtures/onnx: pipelines as hospitals export them, and what they say of some rows.

usage: onnx_models.py FOLDER
    python3 -m venv V && V/bin/pip install scikit-learn==1.9.1 skl2onnx==1.20.0 onnx==1.23.2 onnxruntime==1.32.0 \\
        xgboost==3.2.0 lightgbm==4.7.0 onnxmltools==1.16.0
    V/bin/python tests/peers/onnx_models.py tests/fixtures/onnx

The data are made up from a seed: eight columns on the scales of vital signs and laboratory values, with gaps. Each
model is one JSON file: the ONNX file in base64, rows (null: a gap), and the probability that the library which fitted
the model gives for each row; of a model of several classes, those of all, row by row, and the names of the classes.
onnxruntime must say the same within 1e-6, or nothing is written.
"""

import base64
import json
import sys
import warnings
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import onnxmltools
import onnxruntime
import skl2onnx.common._container as container
import sklearn
import xgboost
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from skl2onnx import to_onnx

COLUMNS, ROWS, SHOWN = 8, 400, 8
make_node = container.make_node


def plain_integers(value):
    if isinstance(value, list):
        return [plain_integers(item) for item in value]
    return int(value) if isinstance(value, (np.integer, bool)) else value


# skl2onnx 1.20 hands numpy's integers to onnx 1.23, which takes Python's only.
container.make_node = lambda *args, **attributes: make_node(
    *args, **{name: plain_integers(value) for name, value in attributes.items()}
)


def data():
    random = np.random.default_rng(11)
    scale, centre = [1, 2, 3, 1, 20, 0.1, 1, 10], [0, 0, 5, 1, 140, 7.4, 1, 80]
    x = random.normal(size=(ROWS, COLUMNS)) * scale + centre
    x[:, 6] = random.integers(0, 3, ROWS)
    x = np.round(x, 3).astype(np.float32)
    odds = x[:, 0] + 0.7 * x[:, 1] + 2.0 * (x[:, 2] > 6) - 0.08 * (x[:, 4] - 140) + (x[:, 6] == 2)
    y = (odds + random.normal(size=ROWS) > 1).astype(int)
    gaps = x.copy()
    gaps[random.random(x.shape) < 0.15] = np.nan
    # Never nothing: onnxruntime takes a cast of NaN to an integer as it comes.
    gaps[:, 6] = x[:, 6]
    ends = np.array(["died", "home", "ward"])[np.digitize(odds, [0, 2])]
    return x, gaps, y, ends


def pipelines():
    """Each name with its pipeline, and whether it is fitted on rows with gaps."""
    filled = lambda *steps: make_pipeline(SimpleImputer(strategy="median"), *steps)
    scaled = lambda *steps: filled(StandardScaler(), *steps)
    tree = {"max_depth": 3, "random_state": 1}
    network = {"max_iter": 400, "random_state": 1, "learning_rate_init": 0.01}
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    mixed = ColumnTransformer([("code", OneHotEncoder(), [6]), ("numbers", numbers, [5, 4, 2, 1, 0])])
    columns = lambda encoder: ColumnTransformer([("code", encoder, [6]), ("rest", StandardScaler(), [0, 1, 2, 3, 4])])
    return {
        "logistic": (scaled(LogisticRegression()), True),
        "forest": (scaled(RandomForestClassifier(3, **tree)), True),
        "forest_regressor": (filled(RandomForestRegressor(2, **tree)), True),
        "mlp": (scaled(MLPClassifier((6, 4), **network)), True),
        "mlp_tanh": (scaled(MLPClassifier((5,), activation="tanh", **network)), True),
        "hist_boosting": (HistGradientBoostingClassifier(max_iter=5, max_leaf_nodes=6), True),
        "gradient_boosting": (filled(GradientBoostingClassifier(n_estimators=5, max_depth=2)), True),
        "raw_forest": (RandomForestClassifier(3, **tree), False),
        "svc": (scaled(SVC(probability=True, random_state=1)), True),
        "calibrated": (scaled(CalibratedClassifierCV(LogisticRegression(), cv=2)), True),
        "bagging": (filled(BaggingClassifier(LogisticRegression(), n_estimators=2, random_state=1)), True),
        "bayes": (filled(GaussianNB()), True),
        "components": (scaled(PCA(4), LogisticRegression()), True),
        "selected": (filled(SelectKBest(k=4), StandardScaler(), LogisticRegression()), True),
        "normalized": (filled(Normalizer(), LogisticRegression(C=100)), True),
        "unit_range": (filled(MinMaxScaler(clip=True), LogisticRegression()), True),
        "one_hot": (make_pipeline(columns(OneHotEncoder()), LogisticRegression()), False),
        "ordinal": (make_pipeline(columns(OrdinalEncoder()), LogisticRegression()), False),
        "mixed_forest": (make_pipeline(mixed, RandomForestClassifier(3, **tree)), True),
    }


def of_classes():
    """Pipelines that tell which of three classes."""
    filled = lambda *steps: make_pipeline(SimpleImputer(strategy="median"), *steps)
    tree = {"max_depth": 2, "random_state": 1}
    return {
        "classes_forest": filled(RandomForestClassifier(3, **tree)),
        "classes_boosting": filled(GradientBoostingClassifier(n_estimators=2, **tree)),
        "classes_linear": filled(StandardScaler(), LogisticRegression()),
        "classes_mlp": filled(StandardScaler(), MLPClassifier((4,), max_iter=400, random_state=1)),
    }


def torch_like(random, x):
    """A network as PyTorch exports it: Gemm with the weights of each output together, and softmax over two."""
    weight = lambda *shape: random.normal(size=shape).astype(np.float32)
    constants = {
        "mean": x.mean(axis=0),
        "std": x.std(axis=0),
        "0.weight": weight(6, COLUMNS),
        "0.bias": weight(6),
        "2.weight": weight(2, 6),
        "2.bias": weight(2),
    }
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "0.weight", "0.bias"], ["h"], alpha=1.0, beta=1.0, transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "2.weight", "2.bias"], ["z"], alpha=1.0, beta=1.0, transB=1),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "torch", [value("x", COLUMNS)], [value("p", 2)], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    c = {name: array.astype(np.float64) for name, array in constants.items()}
    hidden = np.maximum((x - c["mean"]) / c["std"] @ c["0.weight"].T + c["0.bias"], 0)
    z = hidden @ c["2.weight"].T + c["2.bias"]
    return model, 1 / (1 + np.exp(z[:, 0] - z[:, 1]))


def tree_ensemble(forest):
    """A forest as the operator TreeEnsemble, to which no converter turns one yet."""
    nodes = {name: [] for name in ("featureids", "splits", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")}
    weights, roots = [], []

    def put(tree, at):
        """Puts a node of a tree in place; its number, and whether it is a leaf."""
        if tree.children_left[at] < 0:
            weights.append(tree.value[at].item())
            return len(weights) - 1, 1
        here = len(nodes["splits"])
        for held in nodes.values():
            held.append(0)
        nodes["featureids"][here] = int(tree.feature[at])
        # The largest f32 that is not above.
        split = np.float32(tree.threshold[at])
        nodes["splits"][here] = np.nextafter(split, np.float32(-np.inf)) if split > tree.threshold[at] else split
        for side, child in (("true", tree.children_left[at]), ("false", tree.children_right[at])):
            nodes[f"{side}nodeids"][here], nodes[f"{side}leafs"][here] = put(tree, child)
        return here, 0

    for member in forest.estimators_:
        roots.append(put(member.tree_, 0)[0])
    tensor = lambda values, kind: numpy_helper.from_array(np.array(values, dtype=kind))
    splits = tensor(nodes.pop("splits"), np.float32)
    node = helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        aggregate_function=0,
        n_targets=1,
        tree_roots=roots,
        nodes_splits=splits,
        nodes_modes=tensor([0] * len(nodes["featureids"]), np.uint8),
        leaf_targetids=[0] * len(weights),
        leaf_weights=tensor(weights, np.float32),
        **{f"nodes_{name}": held for name, held in nodes.items()},
    )
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph([node], "forest", [value("x", COLUMNS)], [value("y", 1)])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def probabilities(model, x):
    return model.predict_proba(x)[:, 1] if hasattr(model, "predict_proba") else model.predict(x)


def of_onnxruntime(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    last = session.run(None, {session.get_inputs()[0].name: x})[-1]
    # Of the output of a ZipMap, a dictionary a row.
    return np.array([list(row.values()) for row in last]) if isinstance(last, list) else np.asarray(last)


def write(folder, name, model, rows, expected, classes=None):
    said = of_onnxruntime(model, rows).reshape(len(rows), -1)
    off = np.abs((said if classes is not None else said[:, -1]) - expected).max()
    if not off < 1e-6:
        sys.exit(f"{name}: onnxruntime is off by {off}")
    known = lambda value: None if np.isnan(value) else float(f"{value:.6g}")
    told = {
        "rows": [[known(value) for value in row] for row in rows],
        "probabilities": [float(f"{p:.8f}") for p in np.ravel(expected)],
        **({} if classes is None else {"classes": [str(name) for name in classes]}),
        "onnx": base64.b64encode(model.SerializeToString()).decode(),
    }
    text = json.dumps(told, separators=(",", ":")).replace("],[", "],\n[").replace('"onnx"', '\n"onnx"')
    (folder / f"{name}.json").write_text(text + "\n")
    print(f"{name}: {len(text)} bytes, off by {off:.1e}")


def main(folder):
    warnings.filterwarnings("ignore")
    onnxruntime.set_default_logger_severity(3)
    x, gaps, y, ends = data()
    for name, (model, with_gaps) in pipelines().items():
        rows, few = (gaps if with_gaps else x), (60 if name == "svc" else ROWS)
        model.fit(rows[:few], y[:few])
        options = {"zipmap": False} if hasattr(model, "predict_proba") else None
        converted = to_onnx(model, x[:1], options=options)
        write(folder, name, converted, rows[:SHOWN], probabilities(model, rows[:SHOWN]))
        if name == "logistic":
            write(folder, "zipmap", to_onnx(model, x[:1]), rows[:SHOWN], probabilities(model, rows[:SHOWN]))
    for name, model in of_classes().items():
        # Names in the one, numbers in the other.
        model.fit(gaps, np.unique(ends, return_inverse=True)[1] if name == "classes_boosting" else ends)
        converted = to_onnx(model, x[:1], options=None if name == "classes_linear" else {"zipmap": False})
        write(folder, name, converted, gaps[:SHOWN], model.predict_proba(gaps[:SHOWN]), model.classes_)
    takes = [("x", FloatTensorType([None, COLUMNS]))]
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=2).fit(gaps, y)
    converted = onnxmltools.convert_xgboost(model, initial_types=takes)
    write(folder, "xgboost", converted, gaps[:SHOWN], probabilities(model, gaps[:SHOWN]))
    model = lightgbm.LGBMClassifier(n_estimators=4, num_leaves=4, verbose=-1).fit(gaps, y)
    converted = onnxmltools.convert_lightgbm(model, initial_types=takes)
    write(folder, "lightgbm", converted, gaps[:SHOWN], probabilities(model, gaps[:SHOWN]))
    model = RandomForestRegressor(3, max_depth=3, random_state=2).fit(x, y)
    write(folder, "tree_ensemble", tree_ensemble(model), x[:SHOWN], model.predict(x[:SHOWN]))
    model, expected = torch_like(np.random.default_rng(3), x)
    write(folder, "torch", model, x[:SHOWN], expected[:SHOWN])
    print("scikit-learn", sklearn.__version__, "onnx", onnx.__version__, "xgboost", xgboost.__version__)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
