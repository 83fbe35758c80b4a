use std::sync::Arc;

use quintet_onnx::{Control, Hosting, ModelFolder, Registry, Repository, Runtime};
use quintet_open_inference::Host;
use quintet_proto::image::v1::image_service_server::ImageServiceServer;
use quintet_serving::{command::BuildError, component::Component, config::environment, server::Server};

use tonic::codec::CompressionEncoding;

use crate::{Config, Error, Settings, engine::Gan, service::ImageService};

/// The service's full name.
const NAME: &str = "quintet.image.v1.ImageService";

/// The service, ready to be served, and its models.
#[derive(Debug)]
pub struct Served {
    /// The service.
    pub component: Component,
    /// Its models.
    pub models: Registry<Gan>,
}

/// Loads every GAN of the repository.
pub fn build(config: &Config, server: &Server, runtime: &Runtime, repository: &Repository) -> Result<Served, Error> {
    let (runtime, settings, verify) = (runtime.clone(), config.clone(), repository.verifies());
    let load = move |folder: &ModelFolder| -> Result<Gan, Error> {
        let gan = Gan::load(folder, &runtime, &settings, verify)?;
        tracing::info!(model = folder.id(), providers = ?gan.provider_nodes(), "an image model is ready");
        Ok(gan)
    };
    let models = Registry::open("image model", repository, |folder| folder.manifest.kind == "gan", load)?;
    if models.is_empty() && !repository.may_be_empty() {
        let reason = "no folder of kind gan is in it".to_owned();
        return Err(quintet_onnx::Error::Repository { path: repository.path().to_owned(), reason }.into());
    }
    if !models.is_empty()
        && let Err(missing) = models.pick("", &config.default_model, "")
    {
        return Err(Error::Setup(format!("image.default_model = {:?}: {missing}", config.default_model)));
    }
    let service = ImageService { models: models.clone(), default: config.default_model.clone(), tasks: server.tasks().clone() };
    let grpc = ImageServiceServer::new(service)
        .max_decoding_message_size(server.config().max_request_bytes)
        .max_encoding_message_size(server.config().max_response_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    // Where models come and go, having none is no fault.
    let comes_and_goes = repository.control() != Control::None;
    let (ready, generation) = (models.clone(), models.clone());
    let component = Component::new(NAME)
        .ready_while(move || comes_and_goes || !ready.is_empty())
        .cacheable(&["Discriminate"], move || generation.generation())
        .register(move |routes| {
            routes.add_service(grpc);
        });
    Ok(Served { component, models })
}

/// Builds the service alone: what its own program does.
pub async fn serve(settings: &Settings, server: &Server) -> Result<Vec<Component>, BuildError> {
    let built = || -> Result<Vec<Component>, Error> {
        let runtime = Runtime::load(&settings.runtime)?;
        let repository = quintet_sources::open(&settings.models, environment())?;
        let served = build(&settings.image, server, &runtime, &repository)?;
        let hosting: Vec<Arc<dyn Hosting>> = vec![Arc::new(served.models.clone())];
        let hosts: Vec<Arc<dyn Host>> = vec![Arc::new(served.models)];
        Ok(vec![served.component, quintet_open_inference::component(server, Some(&runtime), &repository, hosting, hosts)?])
    };
    // Loading blocks; nothing else runs on this thread yet.
    tokio::task::block_in_place(built).map_err(BuildError::from)
}
