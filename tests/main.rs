//! Behaviour through public interfaces: one binary, a module each.

mod broker;
mod layering;
mod peer;

mod bad_input;
mod daemon;
mod mortality;
mod synthea;
