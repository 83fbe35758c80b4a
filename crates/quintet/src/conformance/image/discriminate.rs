use quintet_proto::image::v1::{DiscriminateInput, DiscriminateRequest, GenerateRequest, ImageFormat};
use tonic::Code;

use super::{SERVICE, Subject, request};
use crate::conformance::{
    check::{Checked, ensure},
    every::Refusal,
    target::Call,
};

pub(super) async fn reads(subject: &Subject) -> Checked {
    let model = &subject.model;
    let judge = |inputs| DiscriminateRequest { model: model.name.clone(), model_version: model.version.clone(), inputs };
    let mut inputs = Vec::new();
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp] {
        let images = subject.generate(GenerateRequest { format: format.into(), ..request(model, 1) }).await?.images;
        inputs.extend(images.into_iter().map(|image| DiscriminateInput { data: image.data.to_vec(), class_name: image.class_name }));
    }
    let target = &subject.ground.target;
    if !model.has_discriminator {
        let call = Call::new(SERVICE, "Discriminate", &judge(inputs));
        Refusal::with("I4", call, Code::FailedPrecondition, None).hold(target).await?;
        return Ok(());
    }
    let scores = subject.client().discriminate(judge(inputs.clone())).await?.into_inner().scores;
    ensure!(scores.len() == inputs.len() && scores.iter().all(|score| score.is_finite()), "{} images have the scores {scores:?}", inputs.len());
    let none = DiscriminateInput { data: b"no picture".to_vec(), ..inputs[0].clone() };
    let raw = GenerateRequest { format: ImageFormat::RawU8.into(), ..request(model, 1) };
    let raw = subject.generate(raw).await?.images.into_iter().map(|image| image.data.to_vec()).next().unwrap_or_default();
    let raw = DiscriminateInput { data: raw, ..inputs[0].clone() };
    let call = Call::new(SERVICE, "Discriminate", &judge(vec![inputs[0].clone(), none, raw, another_size(&inputs[0])]));
    Refusal::invalid("I4", call, &["inputs[1].data", "inputs[2].data", "inputs[3].data"]).hold(target).await?;
    Ok(())
}

/// A picture of one pixel more in each direction.
fn another_size(input: &DiscriminateInput) -> DiscriminateInput {
    let mut data = std::io::Cursor::new(Vec::new());
    if let Ok(picture) = ::image::load_from_memory(&input.data) {
        let larger = picture.resize_exact(picture.width() + 1, picture.height() + 1, ::image::imageops::FilterType::Nearest);
        // What cannot be written stays empty, which is no picture of the model's size either.
        let _ = larger.write_to(&mut data, ::image::ImageFormat::Png);
    }
    DiscriminateInput { data: data.into_inner(), ..input.clone() }
}
