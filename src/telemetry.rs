//! What operators see of the gateway: metrics and log lines.

mod failures;
mod lines;
pub mod log;
pub mod metrics;
pub mod refusals;

pub use self::failures::FailureLog;
pub use self::metrics::{
    DataDirMetrics, LimitLabels, Metrics, RouteMetrics, StoreFailure, StoreGauges, StoreMetrics,
    UpstreamFailure, UpstreamMetrics, Verdict,
};
pub use self::refusals::{RefusalLine, RefusalLog};
