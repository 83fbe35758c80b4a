use quintet_onnx::{ModelsConfig, RuntimeConfig};
use quintet_serving::{
    command::HasServer,
    config::{PeersConfig, ServerConfig, Validate},
};
use serde::Deserialize;

/// The commented defaults of the section `[text]`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Section `[text]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model that an empty `model` means; empty = the first decoder by name, else the first model.
    pub default_model: String,
    /// The tokenization service's URL; empty = the one in this process.
    pub tokenization_endpoint: String,
    /// Sequences that a decoder runs at once: 1 to 1,024.
    pub slots: usize,
    /// Most prompt tokens in one step of the decode loop: 2 to 65,536.
    pub prefill_chunk: usize,
    /// Requests that may wait for a slot: at least 1.
    pub max_waiting: usize,
    /// Copies of an encoder that run at once; 0 = as the processors and its size suggest.
    pub instances: usize,
    /// Most tokens that an encoder runs together.
    pub max_batch_tokens: usize,
    /// Most tokens that may wait for an encoder.
    pub max_queue_tokens: usize,
    /// Most tokens of one Score request.
    pub max_score_tokens: usize,
}

impl Config {
    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                faults.push(format!("text.{key} = {value}: must be {least} to {most}"));
            }
        };
        within("slots", self.slots, 1, 1024);
        within("prefill_chunk", self.prefill_chunk, 2, 65_536);
        within("max_waiting", self.max_waiting, 1, 1 << 20);
        within("instances", self.instances, 0, 64);
        within("max_batch_tokens", self.max_batch_tokens, 1, 1 << 20);
        within("max_queue_tokens", self.max_queue_tokens, 1, 1 << 28);
        within("max_score_tokens", self.max_score_tokens, 1, 1 << 24);
        faults
    }
}

/// The configuration of the text service's own program.
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
    /// Section `[text]`.
    pub text: Config,
}

impl HasServer for Settings {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        [self.server.validate(), self.peers.validate(), self.models.validate(), self.text.validate()].concat()
    }
}
