use std::path::PathBuf;

use quintet_onnx::{ModelsConfig, RuntimeConfig};
use quintet_serving::{
    command::HasServer,
    config::{ServerConfig, Validate},
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
    /// Evaluations that have ended and are kept to be read; they are in memory and do not survive a restart.
    pub keep_finished: usize,
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
        within("keep_finished", self.keep_finished, 1, 65_536);
        within("call_seconds", usize::try_from(self.call_seconds).unwrap_or(usize::MAX), 1, 86_400);
        faults
    }
}

/// The configuration of the evaluation service's own program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Section `[server]`.
    pub server: ServerConfig,
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
        [self.server.validate(), self.evaluation.validate()].concat()
    }
}

#[cfg(test)]
mod tests {
    use quintet_serving::config::{Layers, Override, SERVER_DEFAULTS, load};

    use super::*;

    fn settings(overrides: Vec<Override>) -> Result<Settings, quintet_serving::config::ConfigError> {
        let layers = Layers { defaults: &[SERVER_DEFAULTS, quintet_onnx::DEFAULTS, DEFAULTS], overrides, ..Layers::default() };
        load::<Settings>(&layers).map(|loaded| loaded.value)
    }

    #[test]
    fn the_defaults_load() {
        let config = settings(Vec::new()).unwrap().evaluation;
        assert_eq!((config.max_running, config.max_waiting, config.keep_finished), (1, 16, 256));
        assert_eq!(config.datasets, PathBuf::from("deploy/datasets"));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let zero = |key: &str| Override { key: format!("evaluation.{key}"), value: "0".to_owned(), flag: "--set".to_owned() };
        let faults = settings(["max_running", "keep_finished", "call_seconds"].map(zero).into()).unwrap_err().to_string();
        assert!(["max_running = 0", "keep_finished = 0", "call_seconds = 0"].iter().all(|fault| faults.contains(fault)), "{faults}");
    }
}
