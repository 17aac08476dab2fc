//! Where spans go, if anywhere.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::SpansSpec;
use crate::proxy::Edge;
use crate::telemetry::Metrics;

/// Has the edge tell of its requests, and sends what it tells until `stopped` and a little longer.
#[cfg(feature = "otlp")]
pub(super) fn export(
    spec: Option<&SpansSpec>,
    edge: Edge,
    metrics: &Metrics,
    stopped: &watch::Receiver<bool>,
) -> (Edge, Option<JoinHandle<()>>) {
    let Some(SpansSpec { url, headers }) = spec else { return (edge, None) };
    let (spans, exporter) = crate::telemetry::otlp::spans(url.clone(), headers.clone(), metrics.spans());
    (edge.with_spans(spans), Some(tokio::spawn(exporter.run(stopped.clone()))))
}

/// A configuration that asks for spans is refused by a binary without them.
#[cfg(not(feature = "otlp"))]
pub(super) fn export(
    _: Option<&SpansSpec>,
    edge: Edge,
    _: &Metrics,
    _: &watch::Receiver<bool>,
) -> (Edge, Option<JoinHandle<()>>) {
    (edge, None)
}
