use std::path::PathBuf;

use quintet_onnx::{ModelsConfig, RuntimeConfig};
use quintet_serving::{
    command::HasServer,
    config::{PeersConfig, ServerConfig, Validate},
};
use serde::Deserialize;

/// The commented defaults of the section `[evaluation]`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Section `[evaluation]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the data sets are.
    pub datasets: PathBuf,
    /// The folder that evaluations are noted in; empty = none.
    pub journal: PathBuf,
    /// The text service's URL; empty = the one in this process.
    pub text_endpoint: String,
    /// The image service's URL; empty = the one in this process.
    pub image_endpoint: String,
    /// The anomaly service's URL; empty = the one in this process.
    pub anomaly_endpoint: String,
    /// Evaluations that run at once.
    pub max_running: usize,
    /// Evaluations that may wait.
    pub max_waiting: usize,
    /// Evaluations that have ended and are kept.
    pub keep_ended: usize,
    /// How long one call to another service may take.
    pub call_seconds: u64,
}

impl Config {
    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                faults.push(format!("evaluation.{key} = {value}: must be {least} to {most}"));
            }
        };
        within("max_running", self.max_running, 1, 64);
        within("max_waiting", self.max_waiting, 0, 4096);
        within("keep_ended", self.keep_ended, 1, 65_536);
        within("call_seconds", self.call_seconds as usize, 1, 86_400);
        faults
    }
}

/// The configuration of the evaluation service's own program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Section `[server]`.
    pub server: ServerConfig,
    /// Section `[peers]`.
    pub peers: PeersConfig,
    /// Section `[runtime]`.
    pub runtime: RuntimeConfig,
    /// Section `[models]`.
    pub models: ModelsConfig,
    /// Section `[evaluation]`.
    pub evaluation: Config,
}

impl HasServer for Settings {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        [self.server.validate(), self.peers.validate(), self.models.validate(), self.evaluation.validate()].concat()
    }
}
