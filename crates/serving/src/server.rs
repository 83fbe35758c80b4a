//! The server: every component on one port.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{extract::State, http::StatusCode, middleware, routing::get};
use tokio::{io::DuplexStream, net::TcpListener, sync::mpsc};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    service::Routes,
    transport::{Channel, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use crate::config::ServerConfig;
use crate::{
    component::Component,
    layers::{self, Admission, Calls},
    local, telemetry,
};

/// How long calls that were cut at the drain's limit may take to end.
const AFTER_CUT: Duration = Duration::from_secs(2);

/// How often histograms are folded, so that they do not grow where nobody reads them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why a server could not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        reason: std::io::Error,
    },
    /// Server reflection cannot be built from the contracts' descriptors.
    #[error("the contracts' descriptors cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A listener, bound, with what the services to come need: a channel to each other, and a place for their tasks.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    listener: TcpListener,
    address: SocketAddr,
    connector: local::Connector,
    connections: Mutex<Option<mpsc::Receiver<DuplexStream>>>,
    tasks: TaskTracker,
}

impl Server {
    /// Binds the listener. Connections wait until [`Self::serve`].
    pub async fn bind(config: &ServerConfig) -> Result<Self, Error> {
        let refused = |reason| Error::Listen { address: config.listen, reason };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (connector, connections) = local::transport();
        Ok(Self { config: config.clone(), listener, address, connector, connections: Mutex::new(Some(connections)), tasks: TaskTracker::new() })
    }

    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The server's configuration.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// A channel to the services of this very server, in memory. It connects when it is first used, and works
    /// while the server drains.
    pub fn local_channel(&self) -> Channel {
        self.connector.channel()
    }

    /// Where the services spawn their tasks. They are awaited when the server has stopped, so each must end when
    /// its service is dropped.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Serves the components until `shutdown` is cancelled, then lets calls in progress finish.
    pub async fn serve(self, components: Vec<Component>, descriptors: &'static [u8], shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, listener, connector, connections, tasks, .. } = self;
        let connections = connections.into_inner().unwrap_or_else(PoisonError::into_inner);
        let parts = Parts::of(components, descriptors).await?;
        let Parts { routes, calls, health, names, state, on_drain, on_stop } = parts;

        let stopped = CancellationToken::new();
        let inner = serve_local(routes.clone(), connections, stopped.clone());
        let outer = serve_listener(&config, routes, &calls, &state, listener, shutdown.clone());
        let drain = async {
            shutdown.cancelled().await;
            state.store(false, Ordering::SeqCst);
            for name in names.iter().copied().chain([""]) {
                health.set_service_status(name, ServingStatus::NotServing).await;
            }
            for hook in on_drain {
                hook().await;
            }
            tokio::time::sleep(Duration::from_secs(config.drain_seconds)).await;
            let unfinished = calls.in_progress.load(Ordering::Relaxed);
            tracing::warn!(unfinished, seconds = config.drain_seconds, "the drain's limit has passed: the rest is cut");
            calls.cut.cancel();
            tokio::time::sleep(AFTER_CUT).await;
        };
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                telemetry::metrics().into_iter().for_each(metrics_exporter_prometheus::PrometheusHandle::run_upkeep);
            }
        };
        let serving = async {
            let outcome = tokio::select! { outcome = outer => outcome, () = drain => Ok(()) };
            for hook in on_stop {
                hook().await;
            }
            stopped.cancel();
            outcome
        };
        let outcome = tokio::select! {
            (outcome, local) = async { tokio::join!(serving, inner) } => outcome.and(local),
            () = upkeep => Ok(()),
        };
        drop(connector);
        tasks.close();
        if tokio::time::timeout(AFTER_CUT, tasks.wait()).await.is_err() {
            tracing::warn!(tasks = tasks.len(), "some tasks did not end");
        }
        outcome.map_err(Error::from)
    }
}

type Hooks = Vec<Box<dyn FnOnce() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send>>;

/// The components' routes with health and reflection, and what else came with them.
struct Parts {
    routes: Routes,
    calls: Calls,
    health: HealthReporter,
    names: Arc<Vec<&'static str>>,
    /// Whether the process is ready: what `/healthz` says.
    state: Arc<AtomicBool>,
    on_drain: Hooks,
    on_stop: Hooks,
}

impl Parts {
    async fn of(components: Vec<Component>, descriptors: &'static [u8]) -> Result<Self, Error> {
        let mut builder = Routes::builder();
        let (health, health_service) = tonic_health::server::health_reporter();
        builder.add_service(health_service);
        let names = Arc::new(components.iter().map(|component| component.name).collect::<Vec<_>>());
        let reflection = || {
            let listed = names.iter().copied().chain(["grpc.health.v1.Health"]);
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            listed.fold(builder, tonic_reflection::server::Builder::with_service_name)
        };
        builder.add_service(reflection().build_v1()?);
        builder.add_service(reflection().build_v1alpha()?);

        let all_ready = components.iter().all(|component| component.ready);
        let (mut on_drain, mut on_stop): (Hooks, Hooks) = (Vec::new(), Vec::new());
        for component in components {
            let status = if component.ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            health.set_service_status(component.name, status).await;
            component.register.into_iter().for_each(|register| register(&mut builder));
            on_drain.extend(component.on_drain);
            on_stop.extend(component.on_stop);
        }
        let overall = if all_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", overall).await;
        let calls = Calls { services: Arc::clone(&names), ..Calls::default() };
        let state = Arc::new(AtomicBool::new(all_ready));
        Ok(Self { routes: builder.routes().prepare(), calls, health, names, state, on_drain, on_stop })
    }
}

/// The services for each other: no admission, since the call that caused this one has been let in already.
async fn serve_local(
    routes: Routes,
    connections: Option<mpsc::Receiver<DuplexStream>>,
    stopped: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let Some(connections) = connections else { return Ok(()) };
    let incoming = ReceiverStream::new(connections).map(Ok::<_, std::io::Error>);
    tonic::transport::Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, stopped.cancelled()).await
}

async fn serve_listener(
    config: &ServerConfig,
    routes: Routes,
    calls: &Calls,
    state: &Arc<AtomicBool>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let router = routes
        .into_axum_router()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health_page).with_state(Arc::clone(state)))
        .layer(middleware::from_fn_with_state(Admission::new(config.max_concurrent_requests), layers::admit))
        .layer(middleware::from_fn_with_state(calls.clone(), layers::observe));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(config.max_streams_per_connection)
        .http2_keepalive_interval(Some(Duration::from_secs(config.keep_alive_interval_seconds)))
        .http2_keepalive_timeout(Some(Duration::from_secs(config.keep_alive_timeout_seconds)))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
}

async fn metrics_page() -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let text = telemetry::metrics().map(metrics_exporter_prometheus::PrometheusHandle::render);
    let status = if text.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [("content-type", "text/plain; version=0.0.4")], text.unwrap_or_default())
}

async fn health_page(State(state): State<Arc<AtomicBool>>) -> (StatusCode, &'static str) {
    if state.load(Ordering::SeqCst) { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

#[cfg(test)]
mod tests;
