use futures_util::TryStreamExt;
use quintet_proto::image::v1::{ClassSelection, GenerateRequest, GenerateStreamRequest, GenerateStreamResponse, Grid, Image, ImageFormat};

use super::{SERVICE, Subject, request};
use crate::conformance::{
    check::{Checked, Verdict, ensure},
    every::Refusal,
    target::Call,
};

pub(super) async fn drawn_seed(subject: &Subject) -> Checked {
    let drawn = subject.generate(GenerateRequest { seed: None, ..request(&subject.model, 2) }).await?;
    let again = subject.generate(GenerateRequest { seed: Some(drawn.seed), ..request(&subject.model, 2) }).await?;
    ensure!(again.images == drawn.images, "the seed {} that was named gives other images", drawn.seed);
    Ok(())
}

pub(super) async fn more_begin_with_fewer(subject: &Subject) -> Checked {
    let (few, many) = (subject.generate(request(&subject.model, 3)).await?.images, subject.generate(request(&subject.model, 9)).await?.images);
    ensure!((few.len(), many.len()) == (3, 9), "requests for 3 and 9 images give {} and {}", few.len(), many.len());
    let differs = few.iter().zip(&many).position(|(one, other)| one != other);
    ensure!(differs.is_none(), "image {} of 3 is another one than of 9", differs.unwrap_or_default());
    let indices: Vec<u32> = many.iter().map(|image| image.index).collect();
    ensure!(indices.iter().copied().eq(0..9), "9 images have the indices {indices:?}");
    Ok(())
}

pub(super) async fn streamed(subject: &Subject) -> Checked {
    let whole = subject.generate(request(&subject.model, 9)).await?;
    let asked = GenerateStreamRequest { request: Some(request(&subject.model, 9)) };
    let streamed: Vec<GenerateStreamResponse> = subject.client().generate_stream(asked).await?.into_inner().try_collect().await?;
    let indices: Vec<u32> = streamed.iter().map(|answer| answer.image.clone().unwrap_or_default().index).collect();
    ensure!(indices.iter().copied().eq(0..9), "a stream of 9 images sends the indices {indices:?}");
    let named = streamed.iter().all(|answer| (&answer.model, &answer.model_version, answer.seed) == (&whole.model, &whole.model_version, whole.seed));
    ensure!(named, "an answer of the stream names another model, version or seed than Generate");
    let images: Vec<Image> = streamed.into_iter().filter_map(|answer| answer.image).collect();
    ensure!(images == whole.images, "a streamed image has other bytes than Generate gives");
    Ok(())
}

pub(super) async fn grid(subject: &Subject) -> Checked {
    let model = &subject.model;
    let grid = Some(Grid { columns: 2, border: Some(1) });
    let asked = GenerateRequest { grid, format: ImageFormat::RawU8.into(), ..request(model, 4) };
    let images = subject.generate(asked.clone()).await?.images;
    let [picture] = images.as_slice() else { return Err(Verdict::failed(format!("a grid has {} pictures", images.len()))) };
    let size = picture.width as usize * picture.height as usize * picture.channels as usize;
    ensure!(picture.data.len() == size, "a grid of {} x {} x {} has {} bytes", picture.width, picture.height, picture.channels, picture.data.len());
    let is_large = picture.width >= 2 * model.width && picture.height >= 2 * model.height;
    ensure!(is_large, "a grid of 2 by 2 images has {} x {} pixels, and an image {} x {}", picture.width, picture.height, model.width, model.height);
    let call = Call::new(SERVICE, "GenerateStream", &GenerateStreamRequest { request: Some(asked) });
    Refusal::invalid("I1", call, &["request.grid"]).hold(&subject.ground.target).await?;
    Ok(())
}

pub(super) async fn formats(subject: &Subject) -> Checked {
    let model = &subject.model;
    let values = model.width as usize * model.height as usize * model.channels as usize;
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp, ImageFormat::RawU8, ImageFormat::RawF32] {
        let images = subject.generate(GenerateRequest { format: format.into(), ..request(model, 1) }).await?.images;
        let [image] = images.as_slice() else { return Err(Verdict::failed(format!("a request for one image gives {}", images.len()))) };
        ensure!(image.format() == format, "an image that was asked for as {format:?} says that it is {:?}", image.format());
        let (size, given) = ((model.width, model.height, model.channels), (image.width, image.height, image.channels));
        ensure!(given == size, "an image is of {given:?}, and the model of {size:?}");
        match format {
            ImageFormat::RawU8 => ensure!(image.data.len() == values, "{format:?} has {} bytes for {values} values", image.data.len()),
            ImageFormat::RawF32 => ensure!(image.data.len() == 4 * values, "{format:?} has {} bytes for {values} values", image.data.len()),
            _ => {
                let kind = match format {
                    ImageFormat::Jpeg => ::image::ImageFormat::Jpeg,
                    ImageFormat::Webp => ::image::ImageFormat::WebP,
                    _ => ::image::ImageFormat::Png,
                };
                let picture = ::image::load_from_memory_with_format(&image.data, kind);
                let picture = picture.map_err(|error| Verdict::failed(format!("what was asked for as {format:?} is none: {error}")))?;
                let read = (picture.width(), picture.height());
                ensure!(read == (model.width, model.height), "a picture as {format:?} has {read:?} pixels");
            }
        }
    }
    Ok(())
}

pub(super) async fn classes(subject: &Subject) -> Checked {
    let model = &subject.model;
    let nobody = "no such class".to_owned();
    let of = |names: Vec<String>| GenerateRequest { classes: Some(ClassSelection { names }), ..request(model, 3) };
    let Some(first) = model.classes.first() else {
        let call = Call::new(SERVICE, "Generate", &of(vec![nobody]));
        Refusal::invalid("I3", call, &["classes"]).hold(&subject.ground.target).await?;
        return Ok(());
    };
    let call = Call::new(SERVICE, "Generate", &of(vec![first.clone(), nobody]));
    Refusal::invalid("I3", call, &["classes.names[1]"]).hold(&subject.ground.target).await?;
    let last = model.classes.last().unwrap_or(first);
    let images = subject.generate(of(vec![first.clone(), last.clone()])).await?.images;
    let drawn: Vec<&String> = images.iter().map(|image| &image.class_name).collect();
    ensure!(drawn == [first, last, first], "the classes {first} and {last} in turn are {drawn:?}");
    Ok(())
}
