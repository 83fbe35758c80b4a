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
    /// Most tokens of a sequence, where the model allows more; 0 = as many as the model allows.
    pub max_context: usize,
    /// Memory for the keys and values of the sequences of a decoder, in MiB: at least those of one whole context.
    pub kv_cache_mb: f64,
    /// Memory for the keys and values of prefixes of prompts that may come again, in MiB for each decoder; 0 = none are kept.
    pub prefix_cache_mb: usize,
    /// Whether tenants find prefixes of each other's prompts.
    pub share_prefixes: bool,
    /// Whether a sequence's bytes must not depend on what else the decoder does.
    pub exact: bool,
    /// Where drafts of a decoder's next tokens come from, of requests that do not say.
    pub speculation: DefaultSpeculation,
    /// Most prompt tokens in one run of the decode loop: 2 to 65,536.
    pub prefill_chunk: usize,
    /// The longest time between two tokens of a sequence that others' prompts may cause, in milliseconds: 0 to 60,000; 0 = no
    /// bound.
    pub max_token_gap_ms: f64,
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

/// Where drafts of a decoder's next tokens come from, of requests that do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultSpeculation {
    /// The model that the decoder's folder names; where it names none, nothing is drafted.
    Auto,
    /// Nothing is drafted.
    Off,
    /// The text itself.
    PromptLookup,
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
        within("max_context", self.max_context, 0, 1 << 20);
        within("prefix_cache_mb", self.prefix_cache_mb, 0, 1 << 22);
        within("prefill_chunk", self.prefill_chunk, 2, 65_536);
        within("max_waiting", self.max_waiting, 1, 1 << 20);
        within("instances", self.instances, 0, 64);
        within("max_batch_tokens", self.max_batch_tokens, 1, 1 << 20);
        within("max_queue_tokens", self.max_queue_tokens, 1, 1 << 28);
        within("max_score_tokens", self.max_score_tokens, 1, 1 << 24);
        if !(0.01..=4_194_304.0).contains(&self.kv_cache_mb) {
            faults.push(format!("text.kv_cache_mb = {}: must be 0.01 to 4194304", self.kv_cache_mb));
        }
        if !(0.0..=60_000.0).contains(&self.max_token_gap_ms) {
            faults.push(format!("text.max_token_gap_ms = {}: must be 0 to 60000", self.max_token_gap_ms));
        }
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
