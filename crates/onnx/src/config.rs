use std::path::PathBuf;

use serde::Deserialize;

use crate::Provider;

/// The commented defaults of the sections `[runtime]` and `[models]`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Section `[runtime]`: which ONNX Runtime, on what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// The library's path; empty = look for it.
    pub library: PathBuf,
    /// Where graphs run.
    pub provider: Provider,
    /// Threads of the pool that all graphs share; 0 = one for each core.
    pub threads: usize,
    /// Whether waiting pool threads spin for a moment before they sleep.
    pub spin: bool,
}

/// Section `[models]`: where model folders are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsConfig {
    /// The model repository: a folder of `NAME/` or `NAME/VERSION/`.
    pub path: PathBuf,
    /// Whether a broken folder is reported and left out instead of ending the program.
    pub keep_going: bool,
    /// Whether each file's SHA-256 and each graph's golden pair are checked at load.
    pub verify: bool,
}
