//! The integration tests: one binary, a file a feature, all through real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod access;
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
mod failures;
mod forwarding;
mod h2;
mod harness;
mod hostile;
mod limits;
mod logs;
mod metrics;
mod paths;
mod proxy_protocol;
mod rejects;
mod reload;
mod restart;
mod shared;
mod shipped;
mod streams;
mod strictness;
mod stuffing;
mod suspicion;
mod tidy;
mod tls;
mod users;
mod watch_room;
mod websocket;
