use quintet_onnx::{ModelsConfig, RuntimeConfig};
use quintet_serving::{
    command::HasServer,
    config::{PeersConfig, ServerConfig, Validate},
};
use serde::Deserialize;

/// The commented defaults of the section `[anomaly]`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Section `[anomaly]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model that an empty `model` means; empty = the first by name.
    pub default_model: String,
    /// Copies of a model that run at once; 0 = as the processors and its size suggest.
    pub instances: usize,
    /// Most samples that are run together.
    pub max_batch_rows: usize,
    /// Most samples that may wait.
    pub max_queue_rows: usize,
    /// How long the first sample of a batch waits for company, in milliseconds.
    pub max_delay_ms: u64,
    /// The part of normals that may score above the threshold of the calibration made at load.
    pub false_positive_rate: f64,
    /// Most calibrations that clients may make for one model.
    pub max_calibrations: usize,
}

impl Config {
    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                faults.push(format!("anomaly.{key} = {value}: must be {least} to {most}"));
            }
        };
        within("instances", self.instances, 0, 64);
        within("max_batch_rows", self.max_batch_rows, 1, 65_536);
        within("max_queue_rows", self.max_queue_rows, 4096, 1 << 24);
        within("max_delay_ms", self.max_delay_ms as usize, 0, 10_000);
        within("max_calibrations", self.max_calibrations, 0, 65_536);
        if !(self.false_positive_rate > 0.0 && self.false_positive_rate <= 0.5) {
            faults.push(format!("anomaly.false_positive_rate = {}: must be above 0 and at most 0.5", self.false_positive_rate));
        }
        faults
    }
}

/// The configuration of the anomaly service's own program.
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
    /// Section `[anomaly]`.
    pub anomaly: Config,
}

impl HasServer for Settings {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        [self.server.validate(), self.peers.validate(), self.models.validate(), self.anomaly.validate()].concat()
    }
}
