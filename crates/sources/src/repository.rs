//! A process's model repository: a local folder, and what the sources bring.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use quintet_onnx::{Error as OnnxError, ModelsConfig, Repository};
use tokio::runtime::Handle;

use crate::{Config, Progress, Sources, default_cache};

/// A try has failed where nothing comes for so long.
const STALL: Duration = Duration::from_secs(30);

/// How often something is tried, and the pause after the first time.
const TRIES: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(500);

/// How often it is logged how far a file has come.
const REPORT: Duration = Duration::from_secs(2);

/// Opens the repository of a configuration, with everything that its sources have. Blocks until that has come; call it
/// within the async runtime, where blocking is allowed.
pub fn open(config: &ModelsConfig, environment: Vec<(String, String)>) -> Result<Repository, OnnxError> {
    let repository = Repository::open(config)?;
    if config.sources.is_empty() {
        return Ok(repository);
    }
    let wrong = |reason: String| OnnxError::Sources(reason);
    let cache = if config.cache.as_os_str().is_empty() { default_cache(&environment) } else { Some(config.cache.clone()) };
    let cache = cache.ok_or_else(|| wrong("there is no home folder for the cache: set models.cache".to_owned()))?;
    let (urls, max_bytes) = (config.sources.clone(), config.cache_bytes);
    let sources = Sources::open(Config { urls, cache, max_bytes, environment, stall: STALL, tries: TRIES, backoff: BACKOFF });
    let sources = sources.map_err(|error| wrong(error.to_string()))?;
    let (roots, runtime) = (sources.roots(), Handle::current());
    let refill = move || runtime.block_on(sources.sync(&Reports::default().reporter())).map_err(|error| error.to_string());
    match refill() {
        Ok(()) => (),
        Err(reason) if config.keep_going => tracing::error!(reason, "the model sources cannot be had; what is in the cache is served"),
        Err(reason) => return Err(wrong(reason)),
    }
    Ok(repository.supplied(roots, refill))
}

/// Says now and then how far a file has come.
#[derive(Debug, Default)]
struct Reports(Mutex<Option<Instant>>);

impl Reports {
    fn reporter(self) -> impl Fn(Progress<'_>) + Send + Sync {
        move |progress| {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_whole = progress.bytes >= progress.total;
            if is_whole || last.is_none_or(|last| last.elapsed() >= REPORT) {
                *last = Some(Instant::now());
                let Progress { source, file, bytes, total } = progress;
                tracing::info!(source, file, bytes, total, "{}", if is_whole { "a model file is there" } else { "a model file is coming" });
            }
        }
    }
}
