use std::sync::Arc;

use quintet_onnx::Repository;
use quintet_serving::{command::BuildError, component::Component, server::Server};

use crate::{
    Config, Error, Settings,
    engine::{Catalog, Workers},
    service,
};

/// What the service hands to the process.
#[derive(Debug)]
pub struct Served {
    /// The service itself.
    pub component: Component,
}

/// Loads the tokenizers of `repository` and makes the service over them.
pub fn build(config: &Config, server: &Server, repository: &Repository) -> Result<Served, Error> {
    let catalog = Catalog::load(repository, &config.default_model)?;
    if catalog.is_empty() && !repository.keeps_going() {
        return Err(Error::NoTokenizer(repository.path().to_owned()));
    }
    if catalog.get("").is_none() && !catalog.is_empty() {
        return Err(Error::UnknownDefault { name: config.default_model.clone(), known: catalog.names() });
    }
    for entry in catalog.iter() {
        tracing::info!(tokenizer = entry.name, version = entry.version, vocabulary = entry.tokenizer.vocabulary_size(), "loaded");
    }
    let workers = Workers::new(server.tasks().clone(), config.worker_threads(), config.max_pending_bytes);
    let ready = !catalog.is_empty();
    Ok(Served { component: service::component(config, server.config(), Arc::new(catalog), workers).ready(ready) })
}

/// Builds the service as the only one of its process.
#[allow(clippy::unused_async, reason = "every service has this shape")]
pub async fn serve(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    let repository = Repository::open(&settings.models).map_err(Error::from)?;
    Ok(vec![build(&settings.tokenization, server, &repository)?.component])
}
