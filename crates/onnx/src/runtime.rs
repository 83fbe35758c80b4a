use std::path::{Path, PathBuf};

use ort::environment::{Environment, GlobalThreadPoolOptions};

use crate::{Error, LIBRARY_VERSION, Provider, RuntimeConfig, library};

/// The loaded ONNX Runtime library and its one environment. Cheap to clone.
///
/// ONNX Runtime allows one environment in a process, so a program loads the runtime once and hands it down.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(crate) environment: Environment,
    pub(crate) provider: Provider,
    pub(crate) cuda_graphs: bool,
    pub(crate) threads: usize,
    pub(crate) spin: bool,
    library: PathBuf,
}

impl Runtime {
    /// Finds and loads the library, and starts the thread pool that all sessions share.
    pub fn load(config: &RuntimeConfig) -> Result<Self, Error> {
        let library = library::find(&config.library)?;
        let unusable = |reason: String| Error::LibraryUnusable { path: library.display().to_string(), reason, version: LIBRARY_VERSION };
        let builder = ort::init_from(&library).map_err(|error| unusable(error.to_string()))?;
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if config.threads == 0 { processors } else { config.threads };
        // One pool for all graphs: with a pool in each session, five models on two cores would start a
        // dozen threads that compete for them.
        let pool = GlobalThreadPoolOptions::default()
            .with_intra_threads(threads)
            .and_then(|pool| pool.with_inter_threads(1))
            .and_then(|pool| pool.with_spin_control(config.spin))
            .map_err(|error| unusable(error.message().to_owned()))?;
        let environment = builder
            .with_name("quintet")
            .with_telemetry(false)
            .with_global_thread_pool(pool)
            .build()
            .map_err(|error| unusable(error.message().to_owned()))?;
        tracing::info!(library = %library.display(), build = ort::info(), threads, provider = %config.provider, "ONNX Runtime loaded");
        let RuntimeConfig { provider, spin, cuda_graphs, .. } = *config;
        Ok(Self { environment, provider, cuda_graphs, threads, spin, library })
    }

    /// The library in use.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The provider that sessions are opened on.
    pub fn provider(&self) -> Provider {
        self.provider
    }
}
