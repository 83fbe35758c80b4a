use quintet_proto::image::v1::{DiscriminateRequest, DiscriminateResponse};
use quintet_serving::error::Checks;

use super::{ImageService, request::MAX_COUNT};
use crate::{Error, engine::picture::Picture};

impl ImageService {
    pub(super) async fn judge(&self, request: DiscriminateRequest) -> Result<DiscriminateResponse, Error> {
        let model = self.find(&request.model, &request.model_version)?;
        if !model.has_discriminator() {
            return Err(Error::NoDiscriminator(model.folder.name.clone()));
        }
        let count = request.inputs.len();
        if !(1..=MAX_COUNT).contains(&count) {
            return Err(Error::invalid("inputs", format!("{count} images: must be 1 to {MAX_COUNT}")));
        }
        let [channels, height, width] = model.shape().map(|size| size as u32);
        let known = model.classes();
        let mut checks = Checks::new();
        let (mut images, mut classes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (index, input) in request.inputs.iter().enumerate() {
            match Picture::decode(&input.data, width, height, channels) {
                Ok(picture) => images.push(picture.to_values(model.value_range())),
                Err(reason) => checks.require(false, format!("inputs[{index}].data"), || reason),
            }
            let class = known.iter().position(|class| *class == input.class_name);
            let fits = if known.is_empty() { input.class_name.is_empty() } else { class.is_some() };
            checks.require(fits, format!("inputs[{index}].class_name"), || {
                format!("'{}' is no class; there are: {}", input.class_name, known.join(", "))
            });
            classes.push(class.unwrap_or(0));
        }
        checks.finish().map_err(Error::Invalid)?;
        let scores = model.discriminate(images, classes).await?;
        Ok(DiscriminateResponse { model: model.folder.name.clone(), model_version: model.folder.version.clone(), scores })
    }
}
