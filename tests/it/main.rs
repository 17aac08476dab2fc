//! The integration tests: one binary, a file a feature, all through real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod adversary;
mod binary;
mod access;
mod answers;
mod bodies;
mod clients;
mod config;
mod demo;
mod forwarding;
mod harness;
mod logs;
mod metrics;
mod reload;
mod shipped;
mod tidy;
mod limits;
mod paths;
mod users;
