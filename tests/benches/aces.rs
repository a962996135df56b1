//! Labels of six ACES tasks, start of the process included: `cargo bench --bench aces`.
//!
//! Over the MIMIC-IV demo (916,166 events of 100 subjects) and twenty copies of it under new ids, from MEDS files and
//! from the case library. Prints a JSON line each: the median of three runs, the greatest peak. `ACES_COPIES` changes
//! the number of copies (0: none), `ACES_TASK` picks one task. es-aces 0.7.3 on the same data, two cores: 1.4-1.7 s and
//! 0.4 GB, for the copies 5-11 s and 3.4-4.3 GB (`../shared/peers/README.md`).
//!
//! What bounds it: decoding Parquet; from the library that of the keys of facts, and keeping them, too.
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed expectation is what a bench stops at"
)]

mod command;
mod copies;
#[allow(dead_code, reason = "other benchmarks ask for more")]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;

use command::{Run, run};
use copies::copy;
use process::round;
use serde_json::{Value, json};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
/// How often each is run.
const RUNS: usize = 3;

fn main() {
    let demo = Path::new(SHARED).join("data/meds/mimic_iv_demo_meds_events.parquet");
    let Ok(tasks) = std::fs::read_dir(Path::new(SHARED).join("peers/aces_configs")) else {
        eprintln!("skipped: the tasks and data of ../shared are not there");
        return;
    };
    if !demo.exists() {
        eprintln!("skipped: {} is not there", demo.display());
        return;
    }
    let only = std::env::var("ACES_TASK").unwrap_or_default();
    let mut tasks: Vec<PathBuf> = tasks.map(|entry| entry.unwrap().path()).collect();
    tasks.retain(|task| task.to_string_lossy().contains(&only));
    tasks.sort();
    let folder = tempfile::tempdir().unwrap();
    let copies = std::env::var("ACES_COPIES").map_or(20, |copies| copies.parse().unwrap());
    let copied = folder.path().join("copies.parquet");
    if copies > 0 {
        copy(&demo, copies, &copied);
    }
    let data = [(1, &demo), (copies, &copied)].into_iter().filter(|(copies, _)| *copies > 0);
    for (copies, data) in data {
        let library = folder.path().join(format!("library{copies}"));
        let imported = auscult(&library, &["import", "--format", "meds", &data.display().to_string()]);
        print(json!({"copies": copies, "from": "meds", "command": "import"}), &[imported]);
        for task in &tasks {
            let out = folder.path().join("labels.parquet");
            let arguments = ["label", "--aces", task.to_str().unwrap(), "--out", out.to_str().unwrap()];
            for (from, more) in [("meds", ["--meds", data.to_str().unwrap()].as_slice()), ("library", [].as_slice())] {
                let runs: Vec<Run> =
                    (0..RUNS).map(|_| auscult(&library, &[arguments.as_slice(), more].concat())).collect();
                let name = task.file_stem().unwrap().to_string_lossy();
                print(json!({"copies": copies, "from": from, "command": "label", "task": name}), &runs);
            }
        }
    }
}

/// Runs the binary over a library to its end.
fn auscult(library: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(arguments).env("AUSCULT__LIBRARY__URL", format!("file://{}", library.display()));
    run(command.env("AUSCULT__IDENTITY__KEY", "a secret of a bench"))
}

fn print(mut what: Value, runs: &[Run]) {
    let mut order: Vec<&Run> = runs.iter().collect();
    order.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    let median = order[runs.len() / 2];
    let figures = json!({
        "wall_s": round(median.wall),
        "cpu_s": round(median.cpu),
        "peak_rss_mib": runs.iter().map(|run| run.peak_mib).max(),
        "runs": runs.len(),
        "printed": median.printed,
    });
    what.as_object_mut().unwrap().extend(figures.as_object().unwrap().clone());
    println!("{what}");
}
