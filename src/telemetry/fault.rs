//! Named points at which tests break the daemon: crashes, stalls, lost answers.
//!
//! They do something only with the feature `faults`, which building the tests turns on. There the
//! environment variable `AUSCULT_FAULTS` says what happens at which passage of which point, as in
//! `score.committed=3:abort,archive.appended=1:lost,normalize.made=2:sleep 5000`.

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

#[cfg(feature = "faults")]
mod planned {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    struct Fault {
        point: String,
        /// At which passage, from 1 on.
        at: u64,
        what: What,
        passed: AtomicU64,
    }

    #[derive(Copy, Clone, PartialEq, Debug)]
    enum What {
        Abort,
        Lost,
        Sleep(Duration),
    }

    static PLAN: LazyLock<Vec<Fault>> = LazyLock::new(|| {
        let text = std::env::var("AUSCULT_FAULTS").unwrap_or_default();
        parse(&text).unwrap_or_else(|| {
            tracing::error!("AUSCULT_FAULTS cannot be read; nothing is broken");
            Vec::new()
        })
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
            _ => return None,
        };
        Some(Fault { point: point.to_owned(), at: at.parse().ok()?, what, passed: AtomicU64::new(0) })
    }

    pub(super) fn pass(role: &str, step: &str) -> bool {
        let is_here = |fault: &&Fault| fault.point.split_once('.') == Some((role, step));
        let mut is_lost = false;
        for fault in PLAN.iter().filter(is_here) {
            if fault.passed.fetch_add(1, Ordering::Relaxed) + 1 != fault.at {
                continue;
            }
            tracing::warn!(role, step, "broken here, as a test planned");
            match fault.what {
                What::Abort => std::process::abort(),
                What::Lost => is_lost = true,
                What::Sleep(long) => std::thread::sleep(long),
            }
        }
        is_lost
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_plan_is_read_whole_or_not_at_all() {
            let plan = parse("score.committed=3:abort,archive.appended=1:lost,a.b=2:sleep 50").unwrap();
            let read: Vec<_> = plan.iter().map(|fault| (fault.point.as_str(), fault.at, fault.what)).collect();
            let sleep = What::Sleep(Duration::from_millis(50));
            assert_eq!(
                read,
                [("score.committed", 3, What::Abort), ("archive.appended", 1, What::Lost), ("a.b", 2, sleep)]
            );
            for wrong in ["score.committed", "score.committed=abort", "a.b=1:burn", "a.b=1:sleep", "a.b=x:lost"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}
