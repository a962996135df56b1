//! auscult listens to a hospital's event stream, keeps what is known of every patient, says
//! who is at risk and why, and learns from what happens next.
//!
//! ```text
//! raw topics: FHIR R4 JSON, flat JSON (any key, any order)
//!      |  roles::normalize   bytes -> decode -> Arrow -> DataFusion plan -> events
//! auscult.events             the log of record: Arrow batches, one owner partition a subject
//!      |                                        |
//!      |  roles::score  fold -> features        |  roles::archive   appends, exactly once
//!      |                -> models -> policy     |
//! auscult.scores, auscult.alerts           case library (Delta Lake)
//!      |                                        |  roles::train   the same fold -> fit -> gate
//! subscribers                              model registry -> auscult.models -> score swaps
//! ```
//!
//! # Rooms, from the top down; imports run downwards only (`tests/layering.rs` holds it)
//!
//! - [`cli`] one file a command; [`roles`] one file a role, the only place where stages meet
//! - stages: [`decode`], [`normalize`], [`features`], [`models`], [`alerts`], [`learn`]
//! - ground: [`kafka`], [`library`], [`events`], [`settings`], [`telemetry`]
//!
//! # Invariants; each has a test that carries its number
//!
//! 1. every raw message ends as events, as a dead letter, or as a counted deliberate drop
//! 2. an alert is visible to a read_committed consumer if and only if its input offset is committed
//! 3. state after a restart equals state without one, bit by bit
//! 4. a Delta commit for a partition holds exactly the rows after the last position
//! 5. two owners never commit the same partition
//! 6. online features equal offline features, bit by bit
//! 7. no patient identifier, value or message body in a log line, a metric label or an error's text
//! 8. queued bytes stay below the bound; a slow stage slows the poll
//! 9. every wait has a deadline and a name
//! 10. contributions of an explanation add up to the score

pub mod alerts;
pub mod cli;
pub mod decode;
pub mod events;
pub mod features;
pub mod kafka;
pub mod learn;
pub mod library;
pub mod models;
pub mod normalize;
pub mod roles;
pub mod settings;
pub mod telemetry;
