use std::time::Duration;

use quintet_proto::image::v1::{
    ClassSelection, GenerateRequest, GenerateStreamRequest, ImageFormat, ListModelsRequest, image_service_client::ImageServiceClient,
};
use tonic::transport::Channel;

use super::{ModelId, Peer};
use crate::Error;

pub(super) const SERVICE: &str = "image";

/// The image service.
pub(crate) type ImagePeer = Peer<ImageServiceClient<Channel>>;

/// A generator of images.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    pub(crate) model: ModelId,
    /// Its classes; none for an unconditional model.
    pub(crate) classes: Vec<String>,
    /// Channels, height and width.
    pub(crate) shape: [usize; 3],
}

/// What to draw in one call.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    pub(crate) count: usize,
    pub(crate) seed: u64,
    /// The classes to draw in turn; none for an unconditional model.
    pub(crate) classes: Vec<String>,
}

pub(super) fn connect((channel, is_here): (Channel, bool), limit: Duration, max_message_bytes: usize) -> ImagePeer {
    let client = ImageServiceClient::new(channel).max_decoding_message_size(max_message_bytes);
    Peer { client, service: SERVICE, limit, is_here }
}

impl ImagePeer {
    /// Whether the service has the model.
    pub(crate) async fn check(&self, model: &str) -> Result<(), Error> {
        let listed = self.call(|mut client| async move { client.list_models(ListModelsRequest {}).await }).await?.into_inner().models;
        self.expect(model, listed.into_iter().map(|model| model.name).collect())
    }

    /// Which generator a name means: empty = the service's default one, which only an image tells.
    pub(crate) async fn resolve(&self, model: &str) -> Result<Generator, Error> {
        let request = GenerateRequest { model: model.to_owned(), count: Some(1), seed: Some(0), format: ImageFormat::RawU8.into(), ..GenerateRequest::default() };
        let used = self.call(|mut client| { let request = request.clone(); async move { client.generate(request).await } }).await?.into_inner();
        let listed = self.call(|mut client| async move { client.list_models(ListModelsRequest {}).await }).await?.into_inner().models;
        let known = listed.into_iter().find(|known| known.name == used.model);
        let known = known.ok_or_else(|| self.fault(format!("it does not list '{}', which it used", used.model)))?;
        Ok(Generator {
            model: ModelId { name: known.name, version: known.version },
            classes: known.classes,
            shape: [known.channels as usize, known.height as usize, known.width as usize],
        })
    }

    /// Draws images: a byte for each pixel and channel, image by image.
    pub(crate) async fn draw(&self, generator: &Generator, drawn: &Drawn) -> Result<Vec<u8>, Error> {
        let request = GenerateStreamRequest {
            request: Some(GenerateRequest {
                model: generator.model.name.clone(),
                count: Some(u32::try_from(drawn.count).unwrap_or(u32::MAX)),
                classes: (!drawn.classes.is_empty()).then(|| ClassSelection { names: drawn.classes.clone() }),
                seed: Some(drawn.seed),
                format: ImageFormat::RawU8.into(),
                ..GenerateRequest::default()
            }),
        };
        let images = self.call(|mut client| {
            let request = request.clone();
            async move {
                let mut stream = client.generate_stream(request).await?.into_inner();
                let mut images = Vec::with_capacity(drawn.count);
                while let Some(answer) = stream.message().await? {
                    images.push(answer);
                    // More than was asked for is the service's fault, told below; it must not fill the memory.
                    if images.len() > drawn.count {
                        break;
                    }
                }
                Ok(images)
            }
        });
        let images = images.await?;
        if images.len() != drawn.count {
            return Err(self.fault(format!("{} images were asked for and {} came", drawn.count, images.len())));
        }
        let size: usize = generator.shape.iter().product();
        let mut pixels = Vec::with_capacity(drawn.count * size);
        for (index, answer) in images.into_iter().enumerate() {
            let used = ModelId { name: answer.model, version: answer.model_version };
            if used != generator.model {
                return Err(self.fault(format!("the model {} was replaced by {} meanwhile", generator.model.id(), used.id())));
            }
            let image = answer.image.unwrap_or_default();
            let class = if drawn.classes.is_empty() { None } else { drawn.classes.get(index % drawn.classes.len()) };
            if image.data.len() != size || image.index as usize != index || class.is_some_and(|class| *class != image.class_name) {
                let (bytes, name) = (image.data.len(), image.class_name);
                return Err(self.fault(format!("image {index} came as number {} of class '{name}' with {bytes} bytes: {size} were expected", image.index)));
            }
            pixels.extend_from_slice(&image.data);
        }
        Ok(pixels)
    }
}
