//! The integration tests: one binary, a file a feature, all through real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod adversary;
mod binary;
mod config;
mod demo;
mod harness;
mod logs;
mod metrics;
mod reload;
mod shipped;
mod tidy;
