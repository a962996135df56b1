//! What one run of a command costs.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::{cpu, peak_if_running};

/// What one run of a command took, and the JSON that it printed.
pub struct Run {
    pub wall: f64,
    pub cpu: f64,
    pub peak_mib: u64,
    pub printed: Value,
}

/// Runs a command to its end. CPU is exact; the peak is looked up every two milliseconds.
pub fn run(command: &mut Command) -> Run {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    let mut peak = 0;
    // A process that has ended keeps its times, but not its memory, until it is waited for.
    while !fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ") {
        peak = peak.max(peak_if_running(pid).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu(pid));
    let printed = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
    Run { wall, cpu, peak_mib: peak, printed: serde_json::from_str(printed.trim()).unwrap() }
}
