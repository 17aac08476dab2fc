//! What operators see of the gateway: metrics and log lines.

mod lines;
pub mod log;
pub mod metrics;
pub mod refusals;
