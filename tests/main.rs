//! Behaviour through public interfaces: one binary, a module each.
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed expectation is what a test is for"
)]

mod broker;
mod chart;
mod layering;
mod own_topics;
mod peer;
mod predictions;
#[path = "benches/process.rs"]
#[allow(dead_code, reason = "benchmarks ask for more")]
mod process;

mod abstain;
mod bad_input;
mod bounds;
mod chaos;
mod csv;
mod daemon;
mod features;
mod identity;
mod labels;
mod mortality;
mod panel;
mod redrive;
mod synthea;
mod verify;
