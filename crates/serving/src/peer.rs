//! Calls to other services: with the caller's deadline, id, priority and trace, and with our own credentials.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::Duration,
};

use axum::BoxError;
use futures_util::TryFutureExt;
use tonic::{
    Request, Status,
    body::Body,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use tower::Service;

use crate::{
    config::PeersConfig,
    context::{Context, PRIORITY, REQUEST_ID, TENANT, shorten},
    local, telemetry,
};

/// A client's way to another service. Cheap to clone.
pub type Peer = InterceptedService<Way, Outgoing>;

/// Where calls go.
#[derive(Clone, Debug)]
pub struct Way(To);

#[derive(Clone, Debug)]
enum To {
    /// To another service of this process.
    Own(local::Way),
    /// Over a connection.
    Other(Channel),
}

impl Service<http::Request<Body>> for Way {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, poller: &mut Poller<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.0 {
            To::Own(_) => Poll::Ready(Ok(())),
            To::Other(channel) => channel.poll_ready(poller).map_err(BoxError::from),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match &mut self.0 {
            To::Own(way) => Box::pin(way.clone().call(request).map_err(BoxError::from)),
            To::Other(channel) => Box::pin(channel.call(request).map_err(BoxError::from)),
        }
    }
}

/// Adds to each call what belongs to it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    credentials: Option<Arc<MetadataValue<Ascii>>>,
    /// Whether the other end is this very process, which believes us whom a call is for.
    is_own: bool,
}

impl Interceptor for Outgoing {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let context = Context::current();
        if let Some(remaining) = context.remaining() {
            if remaining.is_zero() {
                return Err(Status::deadline_exceeded("the call's deadline has passed"));
            }
            let timeout = shorten(request.metadata(), remaining);
            request.set_timeout(timeout);
        }
        let metadata = request.metadata_mut();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = value.parse() {
                metadata.insert(name, value);
            }
        };
        if !context.request_id.is_empty() {
            set(REQUEST_ID, &context.request_id);
        }
        set(PRIORITY, &context.priority.to_string());
        if self.is_own {
            set(TENANT, &context.tenant);
        }
        telemetry::send_trace(metadata);
        if let Some(credentials) = &self.credentials {
            metadata.insert("authorization", MetadataValue::clone(credentials));
        }
        Ok(request)
    }
}

/// A way within this process.
pub(crate) fn own(way: local::Way) -> Peer {
    InterceptedService::new(Way(To::Own(way)), Outgoing { credentials: None, is_own: true })
}

/// A way to the service at `url`, which connects when it is first used and again whenever it has to.
pub fn connect(url: &str, config: &PeersConfig) -> Result<Peer, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{url:?}: {error}");
    let read = |path: &std::path::Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| wrong(&error))?
        .connect_timeout(Duration::from_secs(config.connect_seconds))
        .http2_keep_alive_interval(Duration::from_secs(config.keep_alive_interval_seconds))
        .keep_alive_timeout(Duration::from_secs(config.keep_alive_timeout_seconds))
        .keep_alive_while_idle(true);
    if url.starts_with("https://") {
        let mut tls = ClientTlsConfig::new();
        if config.ca_certificate.as_os_str().is_empty() {
            return Err(wrong(&"https needs peers.ca_certificate, the authority that signed the service's certificate"));
        }
        tls = tls.ca_certificate(Certificate::from_pem(read(&config.ca_certificate)?));
        if !config.certificate.as_os_str().is_empty() {
            tls = tls.identity(Identity::from_pem(read(&config.certificate)?, read(&config.key)?));
        }
        endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
    }
    let credentials = if config.api_key_file.as_os_str().is_empty() {
        None
    } else {
        let key = String::from_utf8(read(&config.api_key_file)?).map_err(|_| format!("{}: it is not UTF-8", config.api_key_file.display()))?;
        let value: MetadataValue<Ascii> =
            format!("Bearer {}", key.trim()).parse().map_err(|_| format!("{}: it is no API key", config.api_key_file.display()))?;
        Some(Arc::new(value))
    };
    Ok(InterceptedService::new(Way(To::Other(endpoint.connect_lazy())), Outgoing { credentials, is_own: false }))
}
