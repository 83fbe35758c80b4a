//! Logs, metrics and traces: the one thing that a process has once.

use std::{
    collections::HashMap,
    io::IsTerminal,
    sync::{Mutex, OnceLock, PoisonError},
};

use http::HeaderMap;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::{
    KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::metadata::{MetadataKey, MetadataMap};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::LevelFilter, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::config::TracesConfig;

/// Upper ends of the histograms' buckets, in seconds, and of those that count things.
const SECONDS: [f64; 16] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
static LOG: OnceLock<Log> = OnceLock::new();
static TRACES: OnceLock<SdkTracerProvider> = OnceLock::new();

struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    directives: Mutex<String>,
}

/// Whether these are directives that a log can follow; else what is wrong.
pub(crate) fn check_directives(directives: &str) -> Result<(), String> {
    EnvFilter::try_new(directives).map(drop).map_err(|error| error.to_string())
}

/// Starts logs to standard error (for people where that is a terminal, else as JSON) and, where an endpoint is named,
/// traces over OTLP. A second call does nothing. Call it within the async runtime.
pub fn start(name: &'static str, directives: &str, traces: &TracesConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(directives).map_err(|error| format!("server.log = {directives:?}: {error}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let people = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> =
        if people { lines.with_target(false).with_filter(filter).boxed() } else { lines.json().flatten_event(true).with_filter(filter).boxed() };
    let spans = if traces.endpoint.is_empty() { None } else { Some(exporter(name, traces)?) };
    let spans = spans.map(|provider| {
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("quintet")).with_filter(LevelFilter::INFO);
        // Kept so that what is left can be sent at the end.
        drop(TRACES.set(provider));
        layer
    });
    // Somebody else's subscriber, a test's say, is as good as ours.
    if tracing_subscriber::registry().with(lines).with(spans).try_init().is_ok() {
        drop(LOG.set(Log { filter: handle, directives: Mutex::new(directives.to_owned()) }));
    }
    Ok(())
}

fn exporter(name: &'static str, config: &TracesConfig) -> Result<SdkTracerProvider, String> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(config.endpoint.clone()).build();
    let exporter = exporter.map_err(|error| format!("server.traces.endpoint = {:?}: {error}", config.endpoint))?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample))))
        .with_resource(Resource::builder().with_service_name(name).with_attribute(version).build())
        .build())
}

/// Sends the traces that are left.
pub fn finish() {
    if let Some(provider) = TRACES.get()
        && let Err(error) = provider.shutdown()
    {
        tracing::warn!(%error, "the last traces could not be sent");
    }
}

/// What is logged now, as directives; empty where the log is somebody else's.
pub fn log_directives() -> String {
    LOG.get().map_or_else(String::new, |log| log.directives.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Changes what is logged.
pub fn set_log_directives(directives: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(directives).map_err(|error| error.to_string())?;
    let Some(log) = LOG.get() else { return Err("the log of this process is not ours".to_owned()) };
    log.filter.reload(filter).map_err(|error| error.to_string())?;
    directives.clone_into(&mut log.directives.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

/// Makes a call's span a child of the one that its headers name, as W3C's Trace Context spells it.
pub(crate) fn continue_trace(span: &tracing::Span, headers: &HeaderMap) {
    struct Headers<'a>(&'a HeaderMap);
    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }
        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(http::HeaderName::as_str).collect()
        }
    }
    if TRACES.get().is_some() && headers.contains_key("traceparent") {
        // Fails only where no layer takes traces.
        drop(span.set_parent(TraceContextPropagator::new().extract(&Headers(headers))));
    }
}

/// Makes a span a child of the present one in its trace, for work that goes on when the present one has ended: as its child in this
/// process it would hold it open. Make it with `parent: None`.
pub fn go_on_from_here(span: &tracing::Span) {
    if TRACES.get().is_some() {
        // Fails only where no layer takes traces.
        drop(span.set_parent(tracing::Span::current().context()));
    }
}

/// Writes the present span into a request's metadata.
pub(crate) fn send_trace(metadata: &mut MetadataMap) {
    struct Pairs(HashMap<String, String>);
    impl Injector for Pairs {
        fn set(&mut self, key: &str, value: String) {
            self.0.insert(key.to_owned(), value);
        }
    }
    if TRACES.get().is_none() {
        return;
    }
    let mut pairs = Pairs(HashMap::new());
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut pairs);
    for (key, value) in pairs.0 {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            metadata.insert(key, value);
        }
    }
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
            crate::gate::describe();
            metrics::describe_gauge!("quintet_connections", "Open connections");
            metrics::describe_counter!("quintet_handshakes_failed_total", "Connections that failed or gave up their TLS handshake");
            metrics::describe_counter!("quintet_energy_joules_total", "Energy used by a processor package (RAPL) or a GPU (NVML), where readable");
            metrics::describe_gauge!("quintet_device_memory_bytes", "Memory of a GPU in use (NVML), where readable");
            Some(handle)
        })
        .as_ref()
}
