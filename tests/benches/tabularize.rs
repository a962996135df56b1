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

mod process;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use process::{cpu, round};
use serde_json::{Value, json};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/meds/mimic_iv_demo_meds_events.parquet");

fn main() {
    let demo = Path::new(DEMO);
    if !demo.exists() {
        eprintln!("SKIPPED, shared/data/meds/mimic_iv_demo_meds_events.parquet is not beside this checkout");
        return;
    }
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
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

/// Writes the events of a file several times, each time under other ids.
fn copy(file: &Path, copies: u64, to: &Path) {
    let batches = || ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap();
    let mut writer: Option<ArrowWriter<File>> = None;
    for copy in 0..copies as i64 {
        for batch in batches() {
            let batch = batch.unwrap();
            let at = batch.schema_ref().index_of("subject_id").unwrap();
            let mut columns = batch.columns().to_vec();
            assert_eq!((columns[at].data_type(), columns[at].null_count()), (&DataType::Int64, 0));
            let ids = columns[at].as_primitive::<Int64Type>().values().iter().map(|id| id + copy * 1_000_000_000);
            columns[at] = Arc::new(Int64Array::from_iter_values(ids)) as ArrayRef;
            let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
            let new = || ArrowWriter::try_new(File::create(to).unwrap(), batch.schema(), None).unwrap();
            writer.get_or_insert_with(new).write(&batch).unwrap();
        }
    }
    writer.unwrap().close().unwrap();
}

/// Runs the command, and adds to what it prints what it used.
fn tabularize(file: &Path, min_count: u64, out: &Path) -> Value {
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(["tabularize", "--min-count", &min_count.to_string(), "--meds"]).arg(file).arg("--out").arg(out);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    // Until it is waited for, a process that has ended still has its times, though not its memory.
    let mut peak = 0;
    while let Some(now) = peak_kib(pid) {
        peak = now;
        sleep(Duration::from_millis(2));
    }
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu(pid));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let mut line: Value = serde_json::from_slice(&output.stdout).unwrap();
    line["kind"] = json!("tabularize");
    line["wall_s"] = json!(round(wall));
    line["cpu_s"] = json!(round(cpu));
    line["peak_mib"] = json!(peak / 1024);
    fs::remove_dir_all(out).unwrap();
    line
}

/// Most memory that a process has had so far; none once it has ended.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok())
}
