//! Layered configuration: compiled-in defaults, a file, the environment, flags; each over the one before.
//!
//! The defaults name every key and its type, so every unknown key and every value of a wrong type is found in one
//! go, with where it came from.

mod layers;
mod loaded;

use serde::Deserialize;

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
    /// How long calls in progress may take to finish when the process drains.
    pub drain_seconds: u64,
    /// What is logged.
    pub log: String,
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
