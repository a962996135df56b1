//! What a process has used so far.

use std::fs;

/// CPU seconds of a process so far.
pub fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // USER_HZ is 100 on every Linux that this runs on.
    (ticks(11) + ticks(12)) / 100.0
}

/// Most memory that a process has had so far, in MiB.
pub fn peak_mib(pid: u32) -> u64 {
    peak_if_running(pid).expect("a process that runs")
}

/// The same; `None` once the process has ended.
pub fn peak_if_running(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// To two digits.
pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
