//! Named points at which tests break the daemon: crashes, stalls, lost answers, jumps of the clock.
//!
//! They do something only with the feature `faults`, which building the tests turns on. There the
//! environment variable `AUSCULT_FAULTS` says what happens at which passage of which point, as in
//! `score.committed=3:abort,archive.appended=1:lost,normalize.made=2:sleep 5000`, and how many
//! milliseconds after the start the wall clock jumps by how many, as in `clock=5000:jump -86400000`.
//! `AUSCULT_COMPACT_EVERY` makes compactions frequent enough to be broken.

/// Passes the point `role.step`. Does not return if the process is to end there as by kill -9.
/// True: whatever was just done, its answer is lost, and the caller must fail.
#[cfg(feature = "faults")]
pub fn fault(role: &str, step: &str) -> bool {
    planned::pass(role, step)
}

/// Nothing, in a build without tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn fault(_role: &str, _step: &str) -> bool {
    false
}

/// Whether outputs and offsets are published without transactions, at least once: only where a benchmark
/// of a test build asks for it (`AUSCULT_AT_LEAST_ONCE=1`), to measure what exactly-once costs.
#[cfg(feature = "faults")]
pub fn is_loose() -> bool {
    std::env::var_os("AUSCULT_AT_LEAST_ONCE").is_some_and(|value| value == "1")
}

/// Never, in a build without tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn is_loose() -> bool {
    false
}

/// How far the wall clock is off by now, in microseconds.
#[cfg(feature = "faults")]
pub fn clock_shift() -> i64 {
    planned::shift()
}

/// Nothing, in a build without tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn clock_shift() -> i64 {
    0
}

/// The number of commits between two compactions: as many as given, unless a test says another number.
#[cfg(feature = "faults")]
pub fn compact_every(commits: u32) -> u32 {
    std::env::var("AUSCULT_COMPACT_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(commits)
}

/// As many as given, in a build without tests.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn compact_every(commits: u32) -> u32 {
    commits
}

#[cfg(feature = "faults")]
mod planned {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    struct Plan {
        begun: Instant,
        faults: Vec<Fault>,
    }

    struct Fault {
        point: String,
        /// At which passage, from 1 on; of the clock: after how many milliseconds.
        at: u64,
        what: What,
        passed: AtomicU64,
    }

    #[derive(Copy, Clone, PartialEq, Debug)]
    enum What {
        Abort,
        Lost,
        Sleep(Duration),
        /// Milliseconds.
        Jump(i64),
    }

    static PLAN: LazyLock<Plan> = LazyLock::new(|| {
        let text = std::env::var("AUSCULT_FAULTS").unwrap_or_default();
        let faults = parse(&text).unwrap_or_else(|| {
            tracing::error!("AUSCULT_FAULTS cannot be read; nothing is broken");
            Vec::new()
        });
        Plan { begun: Instant::now(), faults }
    });

    fn parse(text: &str) -> Option<Vec<Fault>> {
        text.split(',').filter(|one| !one.is_empty()).map(one).collect()
    }

    fn one(text: &str) -> Option<Fault> {
        let (point, rest) = text.split_once('=')?;
        let (at, what) = rest.split_once(':')?;
        let what = match what.split_once(' ') {
            None if what == "abort" => What::Abort,
            None if what == "lost" => What::Lost,
            Some(("sleep", ms)) => What::Sleep(Duration::from_millis(ms.parse().ok()?)),
            Some(("jump", ms)) => What::Jump(ms.parse().ok()?),
            _ => return None,
        };
        Some(Fault { point: point.to_owned(), at: at.parse().ok()?, what, passed: AtomicU64::new(0) })
    }

    pub(super) fn pass(role: &str, step: &str) -> bool {
        let is_here = |fault: &&Fault| fault.point.split_once('.') == Some((role, step));
        let mut is_lost = false;
        for fault in PLAN.faults.iter().filter(is_here) {
            if fault.passed.fetch_add(1, Ordering::Relaxed) + 1 != fault.at {
                continue;
            }
            tell(&fault.point, fault.what);
            match fault.what {
                What::Abort => std::process::abort(),
                What::Lost => is_lost = true,
                What::Sleep(long) => std::thread::sleep(long),
                What::Jump(_) => {}
            }
        }
        is_lost
    }

    pub(super) fn shift() -> i64 {
        let mut shift = 0;
        for fault in &PLAN.faults {
            let What::Jump(ms) = fault.what else { continue };
            if PLAN.begun.elapsed() < Duration::from_millis(fault.at) {
                continue;
            }
            if fault.passed.fetch_add(1, Ordering::Relaxed) == 0 {
                tell(&fault.point, fault.what);
            }
            shift += ms * 1000;
        }
        shift
    }

    /// Tests count these lines: what was planned need not have been reached.
    fn tell(point: &str, what: What) {
        let what = match what {
            What::Abort => "abort",
            What::Lost => "lost",
            What::Sleep(_) => "sleep",
            What::Jump(_) => "jump",
        };
        tracing::warn!(point, what, "broken here, as a test planned");
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_plan_is_read_whole_or_not_at_all() {
            let text = "score.committed=3:abort,archive.appended=1:lost,a.b=2:sleep 50,clock=900:jump -5";
            let plan = parse(text).unwrap();
            let read: Vec<_> = plan.iter().map(|fault| (fault.point.as_str(), fault.at, fault.what)).collect();
            let sleep = What::Sleep(Duration::from_millis(50));
            assert_eq!(
                read,
                [
                    ("score.committed", 3, What::Abort),
                    ("archive.appended", 1, What::Lost),
                    ("a.b", 2, sleep),
                    ("clock", 900, What::Jump(-5))
                ]
            );
            for wrong in ["score.committed", "score.committed=abort", "a.b=1:burn", "a.b=1:sleep", "a.b=x:lost"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}
