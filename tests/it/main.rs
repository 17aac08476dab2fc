//! The integration tests: one binary, a file a feature, all through real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod access;
mod access_log;
mod adversary;
mod answers;
mod binary;
mod blocks;
mod bodies;
mod clients;
mod config;
mod conformance;
mod dashboard;
mod demo;
mod desk;
mod explain;
mod failures;
mod forwarding;
mod harness;
mod limits;
mod logs;
mod metrics;
mod otp;
mod paths;
mod rejects;
mod reload;
mod restart;
mod shared;
mod shipped;
mod sms;
#[cfg(feature = "otlp")]
mod spans;
mod stuffing;
mod suspicion;
mod tidy;
mod tracing;
mod users;
mod watch_room;
