//! What an operator sees of the daemon: metrics, health, log lines; and the one way to stop it.
//!
//! Promises that nothing here is global but the subscriber of the log: a [`Metrics`], a [`Health`]
//! and a [`Stop`] are made once and passed around, so that tests run side by side. Must never hold
//! a patient: no label, name or log line may be made of an identifier, a value or a message.

mod fault;
mod health;
mod log;
mod metrics;
mod stop;
mod table;

pub use fault::{clock_shift, compact_every, fault, is_loose};
pub use health::{Beat, Health};
pub use log::{LogError, init_tracing};
pub use metrics::Metrics;
pub use stop::Stop;
pub use table::{Kind, PREFIX, Spec, TABLE};
