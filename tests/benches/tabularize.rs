//! How long `tabularize` takes: `cargo bench --bench tabularize`.
//!
//! The demo of MIMIC-IV (916,166 events of 100 subjects), and 20 copies of it under new ids in one file, with
//! 20 times the count that a code needs, so that there are exactly 20 times the rows and values. All 15
//! matrices of `MEDS-Tab`'s measurement: windows 1d, 7d and full; `code/count` and `value/{count,sum,min,max}`.
//! Prints a JSON line a run. `TABULARIZE_RUNS` and `TABULARIZE_COPIES` change the sizes; the output of 20
//! copies needs 47 GB of `$TMPDIR`.
//!
//! What bounds it: the disk, and two cores that make what is written to it.
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed expectation is what a test is for"
)]

mod command;
mod copies;
mod process;

use std::fs;
use std::path::Path;
use std::process::Command;

use command::run;
use copies::copy;
use process::round;
use serde_json::{Value, json};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/meds/mimic_iv_demo_meds_events.parquet");

fn main() {
    let demo = Path::new(DEMO);
    if !demo.exists() {
        eprintln!("SKIPPED, shared/data/meds/mimic_iv_demo_meds_events.parquet is not beside this checkout");
        return;
    }
    let number = |name: &str, default: i64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (runs, copies) = (number("TABULARIZE_RUNS", 3), number("TABULARIZE_COPIES", 20));
    let folder = tempfile::tempdir().unwrap();
    let many = folder.path().join("many.parquet");
    copy(demo, copies, &many);
    for (file, copies) in [(demo, 1), (&many, copies)] {
        for run in 0..runs {
            let mut line = tabularize(file, 10 * copies, &folder.path().join("out"));
            line["copies"] = json!(copies);
            line["run"] = json!(run);
            println!("{line}");
        }
    }
}

/// Runs the command, and adds to what it prints what it used.
fn tabularize(file: &Path, min_count: i64, out: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(["tabularize", "--min-count", &min_count.to_string(), "--meds"]).arg(file).arg("--out").arg(out);
    let run = run(&mut command);
    let mut line = run.printed;
    line["kind"] = json!("tabularize");
    line["wall_s"] = json!(round(run.wall));
    line["cpu_s"] = json!(round(run.cpu));
    line["peak_mib"] = json!(run.peak_mib);
    fs::remove_dir_all(out).unwrap();
    line
}
