//! What the integration tests stand on: a scripted backend that keeps every byte it was sent, and a client
//! that sends exactly what a test says.
//!
//! Waiting is for an event, or for what the gateway says when it is asked again; bounded by [`PATIENCE`] either way.

pub(crate) mod backend;
pub(crate) mod binary;
pub(crate) mod client;
pub(crate) mod gateway;
mod wire;

mod tests;

pub(crate) use wire::{Headers, PATIENCE};
