//! Bad things that have to be set up one by one: each has a test of its own.
//!
//! Elsewhere: a record above `limits.record_bytes` and above what the dead-letter topic takes is in
//! `redrive`, records of every broken kind are in `bad_input`.

mod hands;
mod processes;
mod store;
mod topics;
