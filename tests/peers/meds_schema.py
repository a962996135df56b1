#!/usr/bin/env python3
"""Checks what auscult writes against the schemas of MEDS itself.

usage: meds_schema.py DATASET [--labels FILE...] [--predictions FILE...]
    python3 -m venv V && V/bin/pip install meds==0.4.1 && V/bin/python tests/peers/meds_schema.py exported \\
        --labels labels.parquet --predictions predictions.parquet

DATASET is the root of an export. Checked by the `meds` package: the schemas of data/**/*.parquet, metadata/codes.parquet,
metadata/subject_splits.parquet and metadata/dataset.json, and LabelSchema of the labels. Checked here, since they are
rules across rows: a subject lies in one file, its rows are contiguous and sorted by time with static rows first, every
code of the data is in codes.parquet, every subject has one split. A file of predictions is LabelSchema without its
prediction columns, of which at least one must be there (meds-evaluation's PredictionSchema, in words: that package is
not on PyPI). Prints one JSON line; exit code 1 and the problems on stderr if there are any.
"""

import argparse
import json
import sys
from pathlib import Path

import meds
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PREDICTIONS = {"predicted_boolean_value": pa.types.is_boolean, "predicted_boolean_probability": pa.types.is_floating}


def validated(problems, what, schema, table):
    try:
        schema.validate(table)
    except Exception as error:  # the package's own errors have no common class
        problems.append(f"{what}: {type(error).__name__}: {error}")


def data(problems, root):
    home, codes, rows = {}, set(), 0
    files = sorted((root / "data").rglob("*.parquet"))
    if not files:
        problems.append(f"{root}/data: no parquet file")
    for path in files:
        name = str(path.relative_to(root))
        table = pq.ParquetFile(path).read()
        rows += table.num_rows
        validated(problems, name, meds.DataSchema, table)
        codes.update(pc.unique(table["code"]).to_pylist())
        last = None
        for subject, time in zip(table["subject_id"].to_pylist(), table["time"].cast(pa.int64()).to_pylist()):
            if last is None or subject != last[0]:
                if subject in home:
                    problems.append(f"{name}: a subject comes again, or is in {home[subject]} too")
                home[subject] = name
            elif last[1] is not None and (time is None or time < last[1]):
                problems.append(f"{name}: a subject's rows are not sorted by time")
            last = (subject, time)
    return home, codes, rows, len(files)


def metadata(problems, root, home, codes):
    folder = root / "metadata"
    table = pq.ParquetFile(folder / "codes.parquet").read()
    validated(problems, "codes.parquet", meds.CodeMetadataSchema, table)
    missing = codes - set(table["code"].to_pylist())
    if missing:
        problems.append(f"codes.parquet: {len(missing)} codes of the data are missing")
    table = pq.ParquetFile(folder / "subject_splits.parquet").read()
    validated(problems, "subject_splits.parquet", meds.SubjectSplitSchema, table)
    split = table["subject_id"].to_pylist()
    if len(split) != len(set(split)) or set(split) != set(home):
        problems.append("subject_splits.parquet: not every subject of the data has one split")
    described = json.loads((folder / "dataset.json").read_text())
    try:
        meds.DatasetMetadataSchema.validate(described)
    except Exception as error:
        problems.append(f"dataset.json: {type(error).__name__}: {error}")


def predictions(problems, path):
    table = pq.ParquetFile(path).read()
    there = [name for name in table.column_names if name in PREDICTIONS]
    if not there:
        problems.append(f"{path}: has none of {', '.join(PREDICTIONS)}")
    for name in there:
        if not PREDICTIONS[name](table.schema.field(name).type):
            problems.append(f"{path}: {name} has another type")
    validated(problems, path, meds.LabelSchema, table.drop_columns(there))
    return table.num_rows


def main():
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("dataset", type=Path)
    arguments.add_argument("--labels", nargs="*", type=Path, default=[])
    arguments.add_argument("--predictions", nargs="*", type=Path, default=[])
    arguments = arguments.parse_args()
    problems = []
    home, codes, rows, files = data(problems, arguments.dataset)
    metadata(problems, arguments.dataset, home, codes)
    told = {"files": files, "subjects": len(home), "events": rows, "codes": len(codes), "labels": 0, "predictions": 0}
    for path in arguments.labels:
        table = pq.ParquetFile(path).read()
        validated(problems, path, meds.LabelSchema, table)
        told["labels"] += table.num_rows
    for path in arguments.predictions:
        told["predictions"] += predictions(problems, path)
    told["problems"] = len(problems)
    print(json.dumps(told))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
