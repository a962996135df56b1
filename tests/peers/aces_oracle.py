#!/usr/bin/env python3
"""Labels made by es-aces, the reference implementation of ACES, as facts to compare with.

usage: aces_oracle.py EVENTS TASK.yaml... > oracle.jsonl
    python3 -m venv V && V/bin/pip install es-aces==0.7.3 && V/bin/python tests/peers/aces_oracle.py \\
        tests/fixtures/aces/events.csv tests/fixtures/aces/*.yaml

EVENTS is a Parquet file of MEDS events (numeric_value, or value in its place) or a CSV file with a header.
Prints a JSON line a task: labels, positives (null: no window has a label), subjects, and a sha256 of the sorted
lines "subject_id,prediction_time,boolean_value". A task that es-aces cannot read gives {"task","error"}.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl


def events(path):
    """The events as es-aces reads them: static rows first, then by time."""
    if path.suffix == ".csv":
        table = pl.read_csv(path, schema_overrides={"numeric_value": pl.Float32, "time": pl.String})
        table = table.with_columns(pl.col("time").str.to_datetime(time_unit="us", strict=True))
    else:
        table = pl.read_parquet(path)
    if "numeric_value" not in table.columns:
        table = table.rename({"value": "numeric_value"})
    table = table.with_columns(pl.col("numeric_value").cast(pl.Float32))
    return table.sort("subject_id", "time", nulls_last=False, maintain_order=True)


def line(row):
    subject, time, value = row
    return f"{subject},{time.isoformat() if time else ''},{'' if value is None else int(value)}"


def oracle(data, task, folder):
    command = [str(Path(sys.executable).with_name("aces-cli")), "data=single_file", f"data.path={data}"]
    command += ["data.standard=meds", f"cohort_dir={folder}", f"cohort_name={task.stem}", f"config_path={task.resolve()}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    labels = folder / f"{task.stem}.parquet"
    if done.returncode != 0 or not labels.exists():
        said = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
        return {"task": task.stem, "error": said[-1] if said else "no file of labels was written"}
    table = pl.read_parquet(labels).select("subject_id", "prediction_time", "boolean_value")
    values = table["boolean_value"]
    lines = "\n".join(sorted(line(row) for row in table.rows()))
    return {
        "task": task.stem,
        "labels": table.height,
        "positives": None if table.height and values.null_count() == table.height else int(values.sum() or 0),
        "subjects": table["subject_id"].n_unique(),
        "content_sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = folder / "events.parquet"
        events(Path(sys.argv[1])).write_parquet(data)
        for task in sys.argv[2:]:
            print(json.dumps({"data": Path(sys.argv[1]).stem} | oracle(data, Path(task), folder)))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main()
