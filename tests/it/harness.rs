//! What the integration tests stand on: a scripted backend that keeps every byte it was sent, and a client
//! that sends exactly what a test says.
//!
//! Nothing here sleeps or retries: waiting is always for an event, and bounded by [`PATIENCE`].

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod gateway;
mod wire;

mod tests;

pub(crate) use wire::{Headers, PATIENCE};
