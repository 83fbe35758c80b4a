use std::path::PathBuf;

use serde::Deserialize;

use crate::{Control, Provider, VersionPolicy};

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
    /// Whether a GPU's runs of fixed shapes, which a decoder's steps are, are recorded once and then played as a whole.
    pub cuda_graphs: bool,
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
    /// Which versions of a model are served, unless its folder says otherwise.
    pub versions: VersionPolicy,
    /// How models come and go while the process runs.
    pub control: Control,
    /// How often the repository is looked at where `control` is "poll".
    pub poll_seconds: u64,
    /// The models to load at start where `control` is "explicit".
    pub load: Vec<String>,
    /// Models from elsewhere, as URLs.
    pub sources: Vec<String>,
    /// Where models from elsewhere, and those that clients hand over, are kept; empty = in the user's cache folder.
    pub cache: PathBuf,
    /// The most bytes that the cache keeps; what was used longest ago goes first.
    pub cache_bytes: u64,
}

impl ModelsConfig {
    /// A folder on this machine, with the defaults of everything else.
    pub fn local(path: PathBuf) -> Self {
        Self {
            path,
            keep_going: false,
            verify: true,
            versions: VersionPolicy::Latest(1),
            control: Control::None,
            poll_seconds: 15,
            load: Vec::new(),
            sources: Vec::new(),
            cache: PathBuf::new(),
            cache_bytes: 1 << 36,
        }
    }

    /// Every setting that is out of range, in words.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=86_400).contains(&self.poll_seconds) {
            faults.push(format!("models.poll_seconds = {}: must be 1 to 86400", self.poll_seconds));
        }
        if self.control != Control::Explicit && !self.load.is_empty() {
            faults.push(format!("models.load = {:?}: only with models.control = \"explicit\"", self.load));
        }
        faults
    }
}
