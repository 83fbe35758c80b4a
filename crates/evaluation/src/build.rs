use std::{sync::Arc, time::Duration};

use quintet_onnx::{ModelFolder, Repository, Runtime};
use quintet_open_inference::Graph;
use quintet_proto::evaluation::v1::evaluation_service_server::EvaluationServiceServer;
use quintet_serving::{command::BuildError, component::Component, server::Server};
use tonic::transport::{Channel, Endpoint};

use crate::{
    Config, Error, Settings,
    engine::{classifier::Classifier, datasets, jobs::Jobs},
    peers::Peers,
    service::{EvaluationService, Evaluator},
};

/// The service's full name.
const NAME: &str = "quintet.evaluation.v1.EvaluationService";

/// The service, ready to be served, and its graphs for raw tensors.
#[derive(Debug)]
pub struct Served {
    /// The service.
    pub component: Component,
    /// Its graphs.
    pub graphs: Vec<Graph>,
}

/// Loads the data sets and every image classifier of the repository. `own` is a channel to the services of this
/// process: they are evaluated unless the configuration names others.
pub fn build(config: &Config, server: &Server, runtime: &Runtime, repository: &Repository, own: &Channel) -> Result<Served, Error> {
    let load = |folder: &ModelFolder| -> Result<(ModelFolder, Classifier), Error> {
        let classifier = Classifier::load(folder, runtime, repository.verifies())?;
        tracing::info!(model = classifier.id, providers = ?classifier.provider_nodes(), "an image classifier is ready");
        Ok((folder.clone(), classifier))
    };
    let classifiers = repository.load(|folder| folder.manifest.kind == "image-classifier", load)?;
    let datasets = datasets::scan(&config.datasets, repository.keeps_going())?;
    let channel = |key: &str, url: &str| -> Result<Channel, Error> {
        if url.is_empty() {
            return Ok(own.clone());
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| Error::Setup(format!("evaluation.{key} = {url:?}: {error}")))?;
        Ok(endpoint.connect_lazy())
    };
    let peers = Peers {
        text: channel("text_endpoint", &config.text_endpoint)?,
        image: channel("image_endpoint", &config.image_endpoint)?,
        anomaly: channel("anomaly_endpoint", &config.anomaly_endpoint)?,
        timeout: Duration::from_secs(config.call_seconds),
        max_message_bytes: server.config().max_response_bytes,
    };
    let graphs = classifiers
        .iter()
        .map(|(folder, classifier)| {
            let (file, inputs, outputs) = classifier.graph();
            Graph::new(folder, file, inputs.to_vec(), outputs.to_vec(), classifier.raw())
        })
        .collect();
    let jobs = Jobs::new(config.max_running, config.max_waiting, config.keep_ended, server.tasks().clone());
    let classifiers = classifiers.into_iter().map(|(_, classifier)| classifier).collect();
    let evaluator = Arc::new(Evaluator { peers, classifiers, datasets });
    let service = EvaluationService { evaluator, jobs: jobs.clone() };
    let grpc = EvaluationServiceServer::new(service)
        .max_decoding_message_size(server.config().max_request_bytes)
        .max_encoding_message_size(server.config().max_response_bytes);
    let component = Component::new(NAME)
        .register(move |routes| {
            routes.add_service(grpc);
        })
        .on_drain(move || async move { jobs.shut_down() });
    Ok(Served { component, graphs })
}

/// Builds the service alone: what its own program does.
pub async fn serve(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    let built = || -> Result<Vec<Component>, Error> {
        let config = &settings.evaluation;
        for (key, url) in [("text", &config.text_endpoint), ("image", &config.image_endpoint), ("anomaly", &config.anomaly_endpoint)] {
            if url.is_empty() {
                return Err(Error::Setup(format!("evaluation.{key}_endpoint = \"\": this program has no {key} service of its own; name one's URL")));
            }
        }
        let runtime = Runtime::load(&settings.runtime)?;
        let repository = Repository::open(&settings.models)?;
        let served = build(config, server, &runtime, &repository, &server.local_channel())?;
        Ok(vec![served.component, quintet_open_inference::component(&settings.server, served.graphs)])
    };
    // Loading blocks; nothing else runs on this thread yet.
    tokio::task::block_in_place(built).map_err(BuildError::from)
}
