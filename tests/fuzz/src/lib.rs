//! The rooms that decode, taken from the crate's own sources, and the plain types under them.
#![allow(missing_docs, dead_code, unused_imports, unreachable_pub)]

#[path = "../../../src/decode/mod.rs"]
pub mod decode;

#[path = "../../../src/events/terms.rs"]
pub mod events;

#[path = "../../../src/settings/format.rs"]
pub mod settings;
