use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use quintet_proto::image::v1::{GenerateRequest, GenerateResponse, GenerateStreamResponse, Image, ImageFormat};
use quintet_serving::error::status;
use tonic::Status;

use super::{
    ImageService, ask,
    request::{GridOrder, Order},
};
use crate::{
    Error,
    engine::{
        Gan, grid,
        picture::{Format, Picture},
    },
};

/// Images that a stream computes ahead of its client: enough for a full batch.
const AHEAD: usize = 64;

/// Images of a whole answer that are in the queue at once: one request does not fill it.
const AT_ONCE: usize = 256;

impl ImageService {
    pub(super) async fn generate_images(&self, request: GenerateRequest) -> Result<GenerateResponse, Error> {
        let model = self.find(&request.model, &request.model_version)?;
        let order = Order::of(&request, &model)?;
        let ask = ask();
        let mut images = Vec::with_capacity(order.count);
        let mut pictures = Vec::new();
        for start in (0..order.count).step_by(AT_ONCE) {
            let latents: Vec<_> = (start..order.count.min(start + AT_ONCE)).map(|index| order.latent(index, &model)).collect();
            let classes: Vec<usize> = latents.iter().map(|latent| latent.class).collect();
            let values = model.generate_all(latents, ask).await?;
            if order.grid.is_some() {
                pictures.extend(values.iter().map(|values| picture(values, &model)));
            } else {
                for (offset, (values, class)) in values.iter().zip(classes).enumerate() {
                    images.push(image(values, class, start + offset, order.format, &model)?);
                }
            }
            // Encoding hundreds of images must not hold up the other requests of this thread.
            tokio::task::yield_now().await;
        }
        if let Some(GridOrder { columns, border }) = order.grid {
            let format = order.format;
            // A large grid takes a while to compress.
            let composed = self.tasks.spawn_blocking(move || {
                let whole = grid::compose(&pictures, columns, border);
                whole.encode(file_format(format)).map(|data| message(data, &whole, format))
            });
            images.push(composed.await.map_err(|error| Error::Encoding(error.to_string()))??);
        }
        Ok(GenerateResponse { model: model.folder.name.clone(), model_version: model.folder.version.clone(), images, seed: order.seed })
    }

    pub(super) fn stream_images(
        &self,
        request: &GenerateRequest,
    ) -> Result<impl Stream<Item = Result<GenerateStreamResponse, Status>> + Send + use<>, Error> {
        if request.grid.is_some() {
            return Err(Error::invalid("request.grid", "must be unset: a stream sends each image by itself"));
        }
        // The version that the stream begins with is the one that it ends with.
        let model = self.find(&request.model, &request.model_version)?;
        let order = Order::of(request, &model)?;
        let ask = ask();
        // The stream is driven by its client: images are computed as far ahead as a batch, and no further.
        Ok(stream::iter(0..order.count)
            .map(move |index| {
                let (model, order) = (Arc::clone(&model), order.clone());
                async move {
                    let latent = order.latent(index, &model);
                    let class = latent.class;
                    let values = model.generate(latent, ask).await?;
                    let image = image(&values, class, index, order.format, &model)?;
                    let (name, model_version) = (model.folder.name.clone(), model.folder.version.clone());
                    Ok(GenerateStreamResponse { model: name, model_version, image: Some(image), seed: order.seed })
                }
            })
            .buffered(AHEAD)
            .map(|result: Result<_, Error>| result.map_err(|error| status(&error))))
    }
}

fn picture(values: &[f32], gan: &Gan) -> Picture {
    let [channels, height, width] = gan.shape();
    Picture::from_values(values, channels, height, width, gan.value_range())
}

fn image(values: &[f32], class: usize, index: usize, format: ImageFormat, gan: &Gan) -> Result<Image, Error> {
    let [channels, height, width] = gan.shape().map(|size| size as u32);
    let data = match format {
        ImageFormat::RawF32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => picture(values, gan).encode(file_format(format))?,
    };
    let class_name = gan.classes().get(class).cloned().unwrap_or_default();
    Ok(Image { data: data.into(), format: format.into(), width, height, channels, class_name, index: index as u32 })
}

fn message(data: Vec<u8>, whole: &Picture, format: ImageFormat) -> Image {
    let Picture { width, height, channels, .. } = *whole;
    Image { data: data.into(), format: format.into(), width, height, channels, ..Image::default() }
}

fn file_format(format: ImageFormat) -> Format {
    match format {
        ImageFormat::Jpeg => Format::Jpeg,
        ImageFormat::Webp => Format::WebP,
        ImageFormat::RawU8 => Format::RawU8,
        ImageFormat::Unspecified | ImageFormat::Png | ImageFormat::RawF32 => Format::Png,
    }
}
