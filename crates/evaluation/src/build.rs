use std::{sync::Arc, time::Duration};

use quintet_onnx::{Hosting, ModelFolder, Registry, Repository, Runtime};
use quintet_open_inference::Host;
use quintet_proto::evaluation::v1::evaluation_service_server::EvaluationServiceServer;
use quintet_serving::{
    command::BuildError,
    component::Component,
    config::{PeersConfig, environment},
    peer::{self, Peer},
    server::Server,
};

use tonic::codec::CompressionEncoding;

use crate::{
    Config, Error, Settings,
    database::{Standing, Tables},
    engine::{
        classifier::Classifier,
        datasets,
        jobs::Jobs,
        shared::{Limits, SharedJobs},
    },
    peers::Peers,
    service::{EvaluationService, Evaluator, Folder, Kept},
};

/// The service's full name.
const NAME: &str = "quintet.evaluation.v1.EvaluationService";

/// The service, ready to be served, and its classifiers.
#[derive(Debug)]
pub struct Served {
    /// The service.
    pub component: Component,
    /// Its classifiers.
    pub models: Registry<Classifier>,
}

/// Loads the data sets and every image classifier of the repository. The services of this process are evaluated, unless the
/// configuration names others.
pub fn build(config: &Config, peers: &PeersConfig, server: &Server, runtime: &Runtime, repository: &Repository) -> Result<Served, Error> {
    let (runtime, verify) = (runtime.clone(), repository.verifies());
    let load = move |folder: &ModelFolder| -> Result<Classifier, Error> {
        let classifier = Classifier::load(folder, &runtime, verify)?;
        tracing::info!(model = classifier.id, providers = ?classifier.provider_nodes(), "an image classifier is ready");
        Ok(classifier)
    };
    let models = Registry::open("image classifier", repository, |folder| folder.manifest.kind == "image-classifier", load)?;
    let datasets = datasets::scan(&config.datasets, repository.keeps_going())?;
    let channel = |key: &str, url: &str| -> Result<Peer, Error> {
        if url.is_empty() {
            return Ok(server.local_channel());
        }
        peer::connect(url, peers).map_err(|reason| Error::Setup(format!("evaluation.{key} = {reason}")))
    };
    let peers = Peers {
        text: channel("text_endpoint", &config.text_endpoint)?,
        image: channel("image_endpoint", &config.image_endpoint)?,
        anomaly: channel("anomaly_endpoint", &config.anomaly_endpoint)?,
        timeout: Duration::from_secs(config.call_seconds),
        max_message_bytes: server.config().max_response_bytes,
    };
    let evaluator = Arc::new(Evaluator { peers, classifiers: models.clone(), datasets });
    let (jobs, standing) = keep(config, &evaluator, server)?;
    let service = EvaluationService { evaluator, jobs: jobs.clone() };
    let grpc = EvaluationServiceServer::new(service)
        .max_decoding_message_size(server.config().max_request_bytes)
        .max_encoding_message_size(server.config().max_response_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    let mut component = Component::new(NAME);
    if let Some(standing) = standing {
        // Without its database it can do next to nothing.
        component = component.ready_while(move || standing.is_reachable());
    }
    let component = component
        .register(move |routes| {
            routes.add_service(grpc);
        })
        .on_drain(move || async move { jobs.shut_down() });
    Ok(Served { component, models })
}

/// The jobs, where the configuration has them kept; and how their database fares.
fn keep(config: &Config, evaluator: &Arc<Evaluator>, server: &Server) -> Result<(Kept, Option<Arc<Standing>>), Error> {
    let tasks = server.tasks().clone();
    if !config.database.url.is_empty() {
        let tables = Tables::open(&config.database, tasks.clone())?;
        let limits = Limits { running: config.max_running, waiting: config.max_waiting, ended: config.keep_ended };
        let (standing, worker) = (tables.standing(), Arc::clone(evaluator));
        let jobs = SharedJobs::new(Arc::new(tables), Box::new(move |request: &_| Box::new(worker.work(Clone::clone(request)))), limits, tasks);
        return Ok((Kept::Shared(jobs), Some(standing)));
    }
    let mut jobs = Jobs::new(config.max_running, config.max_waiting, config.keep_ended, tasks);
    if !config.journal.as_os_str().is_empty() {
        let (journal, noted) = Folder::open(&config.journal)?;
        jobs = jobs.noted_in(Arc::new(journal));
        jobs.take_up(noted, |request| evaluator.work(request.clone()))?;
    }
    Ok((Kept::Own(jobs), None))
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
        let repository = quintet_sources::open(&settings.models, environment())?;
        let served = build(config, &settings.peers, server, &runtime, &repository)?;
        let hosting: Vec<Arc<dyn Hosting>> = vec![Arc::new(served.models.clone())];
        let hosts: Vec<Arc<dyn Host>> = vec![Arc::new(served.models)];
        Ok(vec![served.component, quintet_open_inference::component(server, Some(&runtime), &repository, hosting, hosts)?])
    };
    // Loading blocks; nothing else runs on this thread yet.
    tokio::task::block_in_place(built).map_err(BuildError::from)
}
