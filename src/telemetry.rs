//! What operators see of the gateway: metrics and log lines.

mod access;
mod blocks;
mod connections;
mod failures;
mod lines;
pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod refusals;

pub use self::access::{AccessLines, AccessLog, Account};
pub use self::blocks::{BlockLine, BlockLog};
pub use self::connections::ConnectionLog;
pub use self::failures::FailureLog;
pub use self::metrics::{
    AccessMetrics, DataDirMetrics, Dropped, EdgeMetrics, JournalMetrics, KeptOut, LimitLabels, Metrics,
    MirrorDropped, MirrorMetrics, Mirrored, ProviderLabels, ProviderMetrics, RouteMetrics, ServerMetrics,
    SmsMetrics, StoreFailure, StoreGauges, StoreMetrics, UpstreamCounts, UpstreamFailure, UpstreamMetrics,
    Verdict, WebhookMetrics,
};
pub use self::refusals::{RefusalLine, RefusalLog};
