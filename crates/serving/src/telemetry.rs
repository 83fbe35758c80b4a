//! Logs and metrics: the one thing that a process has once.

use std::{io::IsTerminal, sync::OnceLock};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Upper ends of the histograms' buckets, in seconds, and of those that count things.
const SECONDS: [f64; 16] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Sends logs to standard error: for people where that is a terminal, else as JSON. A second call does nothing.
pub fn log(directives: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(directives).map_err(|error| format!("server.log = {directives:?}: {error}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let outcome = if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).try_init()
    } else {
        registry.with(fmt::layer().with_writer(std::io::stderr).json().flatten_event(true)).try_init()
    };
    // Somebody else's subscriber, a test's say, is as good as ours.
    drop(outcome);
    Ok(())
}

/// Starts to record metrics, once in a process; later calls give the same handle. `None` where another recorder
/// was there first.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    METRICS
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(metrics_exporter_prometheus::Matcher::Suffix("_seconds".into()), &SECONDS)
                .and_then(|builder| builder.set_buckets_for_metric(metrics_exporter_prometheus::Matcher::Suffix("_size".into()), &COUNTS))
                .ok()?;
            let handle = builder.install_recorder().ok()?;
            crate::layers::describe();
            Some(handle)
        })
        .as_ref()
}
