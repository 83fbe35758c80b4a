//! The server: every component on one port.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{extract::State, http::StatusCode, middleware, routing::get};
use futures_util::future::join_all;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

pub use crate::config::ServerConfig;
use crate::{
    component::{Component, Ready},
    energy::Meters,
    gate::{self, Admission, Cache, Gate, Methods, Public},
    health::Health,
    listener::Listening,
    local,
    peer::{self, Peer},
    security::{Acceptor, Guard},
    telemetry,
};

/// How long calls that were cut at the drain's limit, hooks and tasks may take to end.
const AFTER_CUT: Duration = Duration::from_secs(2);

/// How often histograms are folded, so that they do not grow where nobody reads them, and meters are read.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often components are asked whether they are ready.
const LOOK: Duration = Duration::from_millis(250);

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
    /// TLS or the API keys cannot be set up.
    #[error("security cannot be set up: {0}")]
    Security(String),
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
    local: local::Services,
    tasks: TaskTracker,
    guard: Guard,
    tls: Option<Acceptor>,
}

impl Server {
    /// Binds the listener. Connections wait until [`Self::serve`].
    pub async fn bind(config: &ServerConfig) -> Result<Self, Error> {
        let refused = |reason| Error::Listen { address: config.listen, reason };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let guard = Guard::new(&config.auth, address).map_err(Error::Security)?;
        let tls = Acceptor::new(&config.tls).map_err(Error::Security)?;
        if !address.ip().is_loopback() && (config.auth.keys.as_os_str().is_empty() || tls.is_none()) {
            tracing::warn!(%address, "anybody who reaches this address is let in, or can listen: see server.auth.keys and server.tls");
        }
        let (local, tasks) = (local::Services::closed(), TaskTracker::new());
        Ok(Self { config: config.clone(), listener, address, local, tasks, guard, tls })
    }

    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The server's configuration.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// A way to the services of this very server. Calls wait until it serves, and work while it drains.
    pub fn local_channel(&self) -> Peer {
        peer::own(self.local.way())
    }

    /// Where the services spawn their tasks. They are awaited when the server has stopped, so each must end when
    /// its service is dropped.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Serves the components until `shutdown` is cancelled, then lets calls in progress finish.
    pub async fn serve(self, components: Vec<Component>, descriptors: &'static [u8], shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, listener, local, tasks, guard, tls, .. } = self;
        let Parts { routes, health, readiness, on_drain, on_stop, methods } = Parts::of(components, descriptors)?;
        let admission = Admission::new(config.max_concurrent_requests);
        let gate = Gate {
            methods: Arc::new(methods),
            in_progress: Arc::default(),
            public: Some(Public { guard: guard.clone(), admission }),
            cache: (config.cache.bytes > 0).then(|| Cache::new(config.cache.bytes, config.max_request_bytes)),
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
            patience: Duration::from_secs(config.request_idle_seconds),
        };
        let is_ready = Arc::new(AtomicBool::new(readiness.all()));
        let close = CancellationToken::new();

        // No keys and no admission: the call that causes one of these has been let in already.
        let inner = Gate { public: None, cache: None, ..gate.clone() };
        local.open(routes.clone().into_axum_router().layer(middleware::from_fn_with_state(inner, gate::pass)));
        let listening =
            Listening { tls: tls.clone(), max_connections: config.max_connections, patience: Duration::from_secs(config.handshake_seconds) };
        let incoming = listening.accept(listener, &tasks, close.clone());
        let outer = serve_listener(&config, routes, &gate, &is_ready, incoming, close.clone());
        // A listener that fails takes the process with it.
        let outer = async {
            let outcome = outer.await;
            shutdown.cancel();
            outcome
        };
        let drain = async {
            shutdown.cancelled().await;
            is_ready.store(false, Ordering::SeqCst);
            readiness.turn_away(&health);
            tokio::time::sleep(Duration::from_secs(config.drain_delay_seconds)).await;
            // Who watched the health has heard of it by now; their streams must not hold up the rest.
            gate.draining.cancel();
            close.cancel();
            join_all(on_drain.into_iter().map(|hook| hook())).await;
        };
        let limit = async {
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_secs(config.drain_delay_seconds.saturating_add(config.drain_seconds))).await;
            let unfinished = gate.in_progress.load(Ordering::Relaxed);
            tracing::warn!(unfinished, seconds = config.drain_seconds, "the drain's limit has passed: the rest is cut");
            close.cancel();
            gate.cut.cancel();
            tokio::time::sleep(AFTER_CUT).await;
        };
        let outcome = tokio::select! {
            (outcome, ()) = async { tokio::join!(outer, drain) } => outcome,
            () = limit => Ok(()),
            () = keep_up(&config, &guard, tls.as_ref()) => Ok(()),
            () = readiness.follow(&health, &is_ready, &shutdown) => Ok(()),
        };
        drop(local);
        let stops = join_all(on_stop.into_iter().map(|hook| hook()));
        if tokio::time::timeout(AFTER_CUT, stops).await.is_err() {
            tracing::warn!("some services did not stop in time");
        }
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
    health: Health,
    readiness: Readiness,
    methods: Methods,
    on_drain: Hooks,
    on_stop: Hooks,
}

impl Parts {
    fn of(components: Vec<Component>, descriptors: &'static [u8]) -> Result<Self, Error> {
        let mut builder = Routes::builder();
        let health = Health::new();
        builder.add_service(health.server());
        let names: Vec<&'static str> = components.iter().map(|component| component.name).collect();
        let reflection = || {
            let listed = names.iter().copied().chain(["grpc.health.v1.Health"]);
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            listed.fold(builder, tonic_reflection::server::Builder::with_service_name)
        };
        builder.add_service(reflection().build_v1()?);
        builder.add_service(reflection().build_v1alpha()?);

        let (mut on_drain, mut on_stop): (Hooks, Hooks) = (Vec::new(), Vec::new());
        let (mut marks, mut ready) = (Vec::new(), Vec::new());
        for component in components {
            ready.push((component.name, component.ready));
            marks.push((component.name, component.marks));
            component.register.into_iter().for_each(|register| register(&mut builder));
            on_drain.extend(component.on_drain);
            on_stop.extend(component.on_stop);
        }
        let readiness = Readiness(ready);
        readiness.report(&health);
        let sets = [
            descriptors,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let methods = Methods::new(&sets, &marks);
        Ok(Self { routes: builder.routes().prepare(), health, readiness, methods, on_drain, on_stop })
    }
}

/// Which components can do their work.
struct Readiness(Vec<(&'static str, Ready)>);

impl Readiness {
    fn all(&self) -> bool {
        self.0.iter().all(|(_, ready)| ready.get())
    }

    fn report(&self, health: &Health) {
        health.set(self.0.iter().map(|(name, ready)| (*name, ready.get())).chain([("", self.all())]));
    }

    /// Tells everybody that nothing is ready any more.
    fn turn_away(&self, health: &Health) {
        health.set(self.0.iter().map(|(name, _)| (*name, false)).chain([("", false)]));
    }

    /// Keeps the health up to date, as models come and go, until the drain begins.
    async fn follow(&self, health: &Health, is_ready: &AtomicBool, shutdown: &CancellationToken) {
        // What was reported first may have changed before it is followed.
        let mut last = Vec::new();
        loop {
            let now: Vec<bool> = self.0.iter().map(|(_, ready)| ready.get()).collect();
            if now != last && !shutdown.is_cancelled() {
                is_ready.store(self.all(), Ordering::SeqCst);
                self.report(health);
                last = now;
            }
            tokio::select! { () = shutdown.cancelled() => break, () = tokio::time::sleep(LOOK) => () }
        }
        std::future::pending::<()>().await;
    }
}

/// What is to be done again and again.
async fn keep_up(config: &ServerConfig, guard: &Guard, tls: Option<&Acceptor>) {
    let mut meters = Meters::find();
    let upkeep = async {
        loop {
            meters.read();
            telemetry::metrics().into_iter().for_each(PrometheusHandle::run_upkeep);
            tokio::time::sleep(UPKEEP).await;
        }
    };
    let reload = async {
        loop {
            tokio::time::sleep(Duration::from_secs(config.tls.reload_seconds)).await;
            guard.refresh();
            tls.into_iter().for_each(Acceptor::refresh);
        }
    };
    tokio::join!(upkeep, reload);
}

async fn serve_listener(
    config: &ServerConfig,
    routes: Routes,
    gate: &Gate,
    is_ready: &Arc<AtomicBool>,
    incoming: mpsc::Receiver<std::io::Result<crate::listener::Connection>>,
    close: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let router = routes
        .into_axum_router()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health_page).with_state(Arc::clone(is_ready)))
        .layer(middleware::from_fn_with_state(gate.clone(), gate::pass));
    let mut server = tonic::transport::Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(config.max_streams_per_connection)
        .http2_keepalive_interval(Some(Duration::from_secs(config.keep_alive_interval_seconds)))
        .http2_keepalive_timeout(Some(Duration::from_secs(config.keep_alive_timeout_seconds)));
    if config.max_connection_age_seconds > 0 {
        server = server
            .max_connection_age(Duration::from_secs(config.max_connection_age_seconds))
            .max_connection_age_grace(Duration::from_secs(config.max_connection_age_grace_seconds));
    }
    server.add_routes(Routes::from(router)).serve_with_incoming_shutdown(ReceiverStream::new(incoming), close.cancelled_owned()).await
}

async fn metrics_page() -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let text = telemetry::metrics().map(PrometheusHandle::render);
    let status = if text.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [("content-type", "text/plain; version=0.0.4")], text.unwrap_or_default())
}

async fn health_page(State(state): State<Arc<AtomicBool>>) -> (StatusCode, &'static str) {
    if state.load(Ordering::SeqCst) { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

#[cfg(test)]
mod tests;
