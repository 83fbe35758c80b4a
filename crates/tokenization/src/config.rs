use quintet_onnx::{ModelsConfig, RuntimeConfig};
use quintet_serving::{
    command::HasServer,
    config::{PeersConfig, ServerConfig, Validate},
};
use serde::Deserialize;

/// The commented defaults of the section `[tokenization]`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Section `[tokenization]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The tokenizer that an empty `model` means; empty = the first by name.
    pub default_model: String,
    /// The most inputs or sequences of one request: 1 to 4,096.
    pub max_inputs: usize,
    /// The longest text in bytes.
    pub max_text_bytes: usize,
    /// The most ids of a Decode request or of one message of a stream.
    pub max_ids: usize,
    /// The most tokens that one answer of Encode may have, padding included.
    pub max_tokens: usize,
    /// Requests with at most this many bytes of text are worked on at once, where they arrive.
    pub inline_bytes: usize,
    /// Threads for larger requests; 0 = one for each core.
    pub threads: usize,
    /// The most bytes of larger requests in work and waiting.
    pub max_pending_bytes: usize,
    /// Whether tokenizers that the fast encoder is shown to encode as the complete one does are encoded by it.
    pub fast_encoder: bool,
    /// The most work that a chat template may do for one conversation: a unit is a step, or 64 bytes of data.
    pub chat_template_work: u64,
}

impl Config {
    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                faults.push(format!("tokenization.{key} = {value}: must be {least} to {most}"));
            }
        };
        within("max_inputs", self.max_inputs, 1, 4096);
        // Offsets are 32 bits wide.
        within("max_text_bytes", self.max_text_bytes, 1, 1 << 30);
        within("max_ids", self.max_ids, 1, 1 << 28);
        within("max_tokens", self.max_tokens, 1, 1 << 28);
        within("inline_bytes", self.inline_bytes, 0, 1 << 20);
        within("threads", self.threads, 0, 256);
        within("max_pending_bytes", self.max_pending_bytes, 1 << 10, 1 << 36);
        within("chat_template_work", usize::try_from(self.chat_template_work).unwrap_or(usize::MAX), 1_000, 1 << 32);
        faults
    }

    pub(crate) fn worker_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// The configuration of the tokenization service's own program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Section `[server]`.
    pub server: ServerConfig,
    /// Section `[peers]`.
    pub peers: PeersConfig,
    /// Section `[runtime]`: not used, but one file may configure all services.
    pub runtime: RuntimeConfig,
    /// Section `[models]`.
    pub models: ModelsConfig,
    /// Section `[tokenization]`.
    pub tokenization: Config,
}

impl HasServer for Settings {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        [self.server.validate(), self.peers.validate(), self.models.validate(), self.tokenization.validate()].concat()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use quintet_serving::config::{Layers, SERVER_DEFAULTS, load};

    use super::*;

    /// The compiled-in defaults.
    pub(crate) fn defaults() -> Settings {
        let defaults = [SERVER_DEFAULTS, quintet_onnx::DEFAULTS, DEFAULTS];
        load(&Layers { defaults: &defaults, ..Layers::default() }).unwrap().value
    }

    #[test]
    fn the_defaults_are_in_range() {
        assert_eq!(Validate::validate(&defaults()), [] as [String; 0]);
    }

    #[test]
    fn every_fault_is_named() {
        let mut config = defaults().tokenization;
        (config.max_inputs, config.max_text_bytes, config.threads) = (5000, 0, 257);
        let faults = config.validate();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert_eq!(faults[0], "tokenization.max_inputs = 5000: must be 1 to 4096");
    }
}
