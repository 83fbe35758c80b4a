//! The gRPC face: the only place that names generated types. Each rpc converts, calls the engine, and converts back.

mod discriminate;
mod generate;
mod request;

use std::{pin::Pin, sync::Arc};

use quintet_batching::Ask;
use quintet_onnx::{Loaded, Registry};
use quintet_proto::image::v1::{
    DiscriminateRequest, DiscriminateResponse, GenerateRequest, GenerateResponse, GenerateStreamRequest, GenerateStreamResponse, ListModelsRequest,
    ListModelsResponse, Model as ModelMessage, image_service_server,
};
use quintet_serving::{context::Context, error::status};
use tokio_stream::Stream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::{Error, engine::Gan};

#[derive(Clone, Debug)]
pub(crate) struct ImageService {
    pub(crate) models: Registry<Gan>,
    /// What an empty name means; empty = the first by name.
    pub(crate) default: String,
    pub(crate) tasks: TaskTracker,
}

impl ImageService {
    fn find(&self, name: &str, version: &str) -> Result<Arc<Loaded<Gan>>, Error> {
        Ok(self.models.pick(name, &self.default, version)?)
    }
}

/// An image's place in the queue, as its call says.
fn ask() -> Ask {
    let context = Context::current();
    Ask::rows(1).until(context.deadline).priority(context.priority)
}

#[tonic::async_trait]
impl image_service_server::ImageService for ImageService {
    type GenerateStreamStream = Pin<Box<dyn Stream<Item = Result<GenerateStreamResponse, Status>> + Send>>;

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.models.all();
        let models = models.iter().map(|model| {
            let [channels, height, width] = model.shape().map(|size| size as u32);
            ModelMessage {
                name: model.folder.name.clone(),
                version: model.folder.version.clone(),
                description: model.folder.manifest.description.clone(),
                license: model.folder.manifest.license.clone(),
                classes: model.classes().to_vec(),
                width,
                height,
                channels,
                latent_size: model.latent_size() as u32,
                has_discriminator: model.has_discriminator(),
                provider_nodes: model.provider_nodes().iter().map(|(provider, count)| (provider.clone(), *count)).collect(),
            }
        });
        Ok(Response::new(ListModelsResponse {
            models: models.collect(),
            default_model: self.find("", "").map_or_else(|_| String::new(), |model| model.folder.name.clone()),
        }))
    }

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<GenerateResponse>, Status> {
        self.generate_images(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn generate_stream(&self, request: Request<GenerateStreamRequest>) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let request = request.into_inner().request.unwrap_or_default();
        let stream = self.stream_images(&request).map_err(|error| status(&error))?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn discriminate(&self, request: Request<DiscriminateRequest>) -> Result<Response<DiscriminateResponse>, Status> {
        self.judge(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }
}

#[cfg(test)]
mod tests;
