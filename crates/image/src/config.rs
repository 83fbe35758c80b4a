use quintet_onnx::{ModelsConfig, RuntimeConfig};
use quintet_serving::{
    command::HasServer,
    config::{PeersConfig, ServerConfig, Validate},
};
use serde::Deserialize;

/// The commented defaults of the section `[image]`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Section `[image]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model that an empty `model` means; empty = the first by name.
    pub default_model: String,
    /// Copies of a model that run at once; 0 = as the processors and its size suggest.
    pub instances: usize,
    /// Most images that are run together.
    pub max_batch_images: usize,
    /// Most images that may wait.
    pub max_queue_images: usize,
    /// How long the first image of a batch waits for company, in milliseconds.
    pub max_delay_ms: u64,
}

impl Config {
    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                faults.push(format!("image.{key} = {value}: must be {least} to {most}"));
            }
        };
        within("instances", self.instances, 0, 64);
        within("max_batch_images", self.max_batch_images, 1, 4096);
        within("max_queue_images", self.max_queue_images, 4096, 1 << 24);
        within("max_delay_ms", self.max_delay_ms as usize, 0, 10_000);
        faults
    }
}

/// The configuration of the image service's own program.
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
    /// Section `[image]`.
    pub image: Config,
}

impl HasServer for Settings {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        [self.server.validate(), self.peers.validate(), self.models.validate(), self.image.validate()].concat()
    }
}
