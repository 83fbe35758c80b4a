use std::sync::Arc;

use quintet_onnx::{ModelFolder, Repository, Runtime};
use quintet_open_inference::Graph;
use quintet_proto::anomaly::v1::anomaly_service_server::AnomalyServiceServer;
use quintet_serving::{command::BuildError, component::Component, server::Server};

use crate::{
    Config, Error, Settings,
    engine::Vae,
    service::{AnomalyService, Model},
};

/// The service's full name.
const NAME: &str = "quintet.anomaly.v1.AnomalyService";

/// The service, ready to be served, and its graphs for raw tensors.
#[derive(Debug)]
pub struct Served {
    /// The service.
    pub component: Component,
    /// Its graphs.
    pub graphs: Vec<Graph>,
}

/// Loads every VAE of the repository.
pub fn build(config: &Config, server: &Server, runtime: &Runtime, repository: &Repository) -> Result<Served, Error> {
    let load = |folder: &ModelFolder| -> Result<Model, Error> {
        let vae = Vae::load(folder, runtime, config, server.tasks(), repository.verifies())?;
        tracing::info!(model = folder.id(), providers = ?vae.provider_nodes(), "an anomaly model is ready");
        Ok(Model { folder: folder.clone(), vae })
    };
    let models = repository.load(|folder| folder.manifest.kind == "vae", load)?;
    if models.is_empty() && !repository.keeps_going() {
        let reason = "no folder of kind vae is in it".to_owned();
        return Err(quintet_onnx::Error::Repository { path: repository.path().to_owned(), reason }.into());
    }
    let known: Vec<String> = models.iter().map(|model| model.folder.name.clone()).collect();
    if !config.default_model.is_empty() && !known.is_empty() && !known.contains(&config.default_model) {
        return Err(Error::Setup(format!("anomaly.default_model = {:?}: no such model; there are: {}", config.default_model, known.join(", "))));
    }
    let graphs = models.iter().flat_map(graphs).collect();
    let ready = !models.is_empty();
    let service = AnomalyService { models: Arc::new(models), default: config.default_model.clone() };
    let grpc = AnomalyServiceServer::new(service)
        .max_decoding_message_size(server.config().max_request_bytes)
        .max_encoding_message_size(server.config().max_response_bytes);
    let component = Component::new(NAME).ready(ready).register(move |routes| {
        routes.add_service(grpc);
    });
    Ok(Served { component, graphs })
}

fn graphs(model: &Model) -> Vec<Graph> {
    let each = model.vae.graphs().iter().zip([false, true]);
    each.map(|((file, inputs, outputs), decoder)| Graph::new(&model.folder, file, inputs.clone(), outputs.clone(), model.vae.raw(decoder))).collect()
}

/// Builds the service alone: what its own program does.
pub async fn serve(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    let built = || -> Result<Vec<Component>, Error> {
        let runtime = Runtime::load(&settings.runtime)?;
        let repository = Repository::open(&settings.models)?;
        let served = build(&settings.anomaly, server, &runtime, &repository)?;
        Ok(vec![served.component, quintet_open_inference::component(&settings.server, served.graphs)])
    };
    // Loading blocks; nothing else runs on this thread yet.
    tokio::task::block_in_place(built).map_err(BuildError::from)
}
