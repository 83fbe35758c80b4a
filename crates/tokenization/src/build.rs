use std::sync::Arc;

use quintet_onnx::{Control, Hosting, Repository};
use quintet_serving::{command::BuildError, component::Component, config::environment, server::Server};

use crate::{
    Config, Error, Settings,
    engine::{Catalog, Workers},
    service,
};

/// What the service hands to the process.
pub struct Served {
    /// The service itself.
    pub component: Component,
    /// Its tokenizers.
    pub models: Arc<dyn Hosting>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("component", &self.component).finish_non_exhaustive()
    }
}

/// Loads the tokenizers of `repository` and makes the service over them.
pub fn build(config: &Config, server: &Server, repository: &Repository) -> Result<Served, Error> {
    let catalog = Catalog::load(repository, config)?;
    let tokenizers = catalog.registry().clone();
    if tokenizers.is_empty() && !repository.may_be_empty() {
        return Err(Error::NoTokenizer(repository.path().to_owned()));
    }
    if !tokenizers.is_empty()
        && let Err(missing) = catalog.get("", "")
    {
        return Err(Error::UnknownDefault { name: config.default_model.clone(), missing });
    }
    let workers = Workers::new(server.tasks().clone(), config.worker_threads(), config.max_pending_bytes);
    // Where models come and go, having none is no fault.
    let comes_and_goes = repository.control() != Control::None;
    let (ready, generation) = (tokenizers.clone(), tokenizers.clone());
    let component = service::component(config, server.config(), catalog, workers)
        .ready_while(move || comes_and_goes || !ready.is_empty())
        .cacheable(&["Encode", "Decode", "CountTokens", "Chunk"], move || generation.generation());
    Ok(Served { component, models: Arc::new(tokenizers) })
}

/// Builds the service as the only one of its process. It has no graphs, and so needs no ONNX Runtime library.
pub async fn serve(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    let built = || -> Result<Vec<Component>, Error> {
        let repository = quintet_sources::open(&settings.models, environment())?;
        let served = build(&settings.tokenization, server, &repository)?;
        let management = quintet_open_inference::component(server, None, &repository, vec![served.models], Vec::new())?;
        Ok(vec![served.component, management])
    };
    // Loading blocks; nothing else runs on this thread yet.
    tokio::task::block_in_place(built).map_err(BuildError::from)
}
