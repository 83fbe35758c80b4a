//! Layered configuration: compiled-in defaults, a file, the environment, flags; each over the one before.
//!
//! The defaults name every key and its type, so every unknown key and every value of a wrong type is found in one
//! go, with where it came from.

mod layers;
mod loaded;

use std::path::PathBuf;

use serde::Deserialize;

use crate::telemetry;

pub use layers::{Layers, Override, environment};
pub use loaded::{Loaded, load};

/// The commented defaults of the section `[server]`.
pub const SERVER_DEFAULTS: &str = include_str!("../defaults.toml");

/// Section `[server]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: std::net::SocketAddr,
    /// The largest request message in bytes.
    pub max_request_bytes: usize,
    /// The largest response message in bytes.
    pub max_response_bytes: usize,
    /// Calls in progress over all services.
    pub max_concurrent_requests: usize,
    /// Calls at once on one connection.
    pub max_streams_per_connection: u32,
    /// How often an idle connection is asked for a sign of life.
    pub keep_alive_interval_seconds: u64,
    /// How long it may take to give one.
    pub keep_alive_timeout_seconds: u64,
    /// Open connections; more wait to be taken up.
    pub max_connections: usize,
    /// How long a TLS handshake, and then the first byte of a connection, may take.
    pub handshake_seconds: u64,
    /// How long a client may send nothing of a request that it has begun.
    pub request_idle_seconds: u64,
    /// A connection is asked to close after so long, so that balancers can spread; 0 = never.
    pub max_connection_age_seconds: u64,
    /// How long its calls may take to finish then.
    pub max_connection_age_grace_seconds: u64,
    /// How long the process still takes calls up after it has said that it is not ready any more.
    pub drain_delay_seconds: u64,
    /// How long calls in progress may take to finish when the process drains.
    pub drain_seconds: u64,
    /// TLS for the listener.
    pub tls: TlsConfig,
    /// API keys.
    pub auth: AuthConfig,
    /// The response cache.
    pub cache: CacheConfig,
    /// Traces.
    pub traces: TracesConfig,
    /// What is logged.
    pub log: String,
}

/// Section `[server.tls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain (PEM); empty = no TLS.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// The authorities that clients' certificates must be signed by (PEM); empty = clients need none.
    pub client_ca: PathBuf,
    /// How often the files, and the key file, are looked at again.
    pub reload_seconds: u64,
}

/// Section `[server.auth]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The file of API keys; empty = none is needed.
    pub keys: PathBuf,
    /// Who may call admin rpcs.
    pub admin: Admin,
}

/// Who may call admin rpcs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// Keys with the scope "admin"; where there are no keys, everybody if the listener is on loopback, else nobody.
    Auto,
    /// Nobody.
    Off,
    /// Everybody whom the keys let in.
    On,
}

/// Section `[server.cache]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes of answers that are kept; 0 = none.
    pub bytes: u64,
}

/// Section `[server.traces]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Where traces are sent, over OTLP and gRPC; empty = nowhere.
    pub endpoint: String,
    /// The part of the traces begun here that is recorded: 0 to 1.
    pub sample: f64,
}

/// Section `[peers]`: how other services are called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersConfig {
    /// The authority that signed the certificates of `https://` endpoints (PEM).
    pub ca_certificate: PathBuf,
    /// Our own certificate, where they ask for one (PEM); empty = none.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// A file with our API key; empty = none.
    pub api_key_file: PathBuf,
    /// How long connecting may take.
    pub connect_seconds: u64,
    /// How often a connection is asked for a sign of life.
    pub keep_alive_interval_seconds: u64,
    /// How long it may take to give one.
    pub keep_alive_timeout_seconds: u64,
}

impl PeersConfig {
    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, value) in [
            ("connect_seconds", self.connect_seconds),
            ("keep_alive_interval_seconds", self.keep_alive_interval_seconds),
            ("keep_alive_timeout_seconds", self.keep_alive_timeout_seconds),
        ] {
            if value == 0 {
                faults.push(format!("peers.{key} = 0: must be at least 1"));
            }
        }
        if self.certificate.as_os_str().is_empty() != self.key.as_os_str().is_empty() {
            faults.push(format!("peers.key = '{}': a certificate and its key go together", self.key.display()));
        }
        faults
    }
}

impl ServerConfig {
    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut positive = |key: &str, value: u64| {
            if value == 0 {
                faults.push(format!("server.{key} = 0: must be at least 1"));
            }
        };
        positive("max_request_bytes", self.max_request_bytes as u64);
        positive("max_response_bytes", self.max_response_bytes as u64);
        positive("max_concurrent_requests", self.max_concurrent_requests as u64);
        positive("max_streams_per_connection", u64::from(self.max_streams_per_connection));
        positive("keep_alive_interval_seconds", self.keep_alive_interval_seconds);
        positive("keep_alive_timeout_seconds", self.keep_alive_timeout_seconds);
        positive("max_connections", self.max_connections as u64);
        positive("handshake_seconds", self.handshake_seconds);
        positive("request_idle_seconds", self.request_idle_seconds);
        positive("max_connection_age_grace_seconds", self.max_connection_age_grace_seconds);
        positive("tls.reload_seconds", self.tls.reload_seconds);
        if self.tls.certificate.as_os_str().is_empty() != self.tls.key.as_os_str().is_empty() {
            faults.push(format!("server.tls.key = '{}': a certificate and its key go together", self.tls.key.display()));
        }
        if !self.tls.client_ca.as_os_str().is_empty() && self.tls.certificate.as_os_str().is_empty() {
            faults.push(format!("server.tls.client_ca = '{}': needs server.tls.certificate", self.tls.client_ca.display()));
        }
        if !(0.0..=1.0).contains(&self.traces.sample) {
            faults.push(format!("server.traces.sample = {}: must be 0 to 1", self.traces.sample));
        }
        if let Err(reason) = telemetry::check_directives(&self.log) {
            faults.push(format!("server.log = {:?}: {reason}", self.log));
        }
        faults
    }
}

/// A configuration that can say what is out of range.
pub trait Validate {
    /// Every setting that is out of range, in words.
    fn validate(&self) -> Vec<String>;
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is wrong:\n  {}", .0.join("\n  "))]
pub struct ConfigError(pub Vec<String>);

#[cfg(test)]
pub(crate) fn server_defaults() -> ServerConfig {
    #[derive(Deserialize)]
    struct Only {
        server: ServerConfig,
    }
    impl Validate for Only {
        fn validate(&self) -> Vec<String> {
            self.server.validate()
        }
    }
    load::<Only>(&Layers { defaults: &[SERVER_DEFAULTS], ..Layers::default() }).unwrap().value.server
}
