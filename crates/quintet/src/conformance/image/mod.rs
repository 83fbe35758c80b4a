//! The image service: I1 to I4.

mod discriminate;
mod generate;
mod names;
mod refusals;

use quintet_proto::image::v1::{
    GenerateRequest, GenerateResponse, GenerateStreamRequest, ImageFormat, ListModelsRequest, ListModelsResponse, Model,
    image_service_client::ImageServiceClient,
};

use super::{
    check::{Check, Verdict, check},
    every::{Ground, as_it_is},
    service::Service,
    target::{Call, Target},
};
use crate::client::{Channel, MAX_MESSAGE_BYTES};

const SERVICE: &str = Service::Image.full_name();

/// The most images of a request.
const MOST: u32 = 4096;

/// What a target has of image models.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) ground: Ground,
    listed: ListModelsResponse,
    /// The one that is asked.
    model: Model,
}

pub(super) const CHECKS: &[Check<Subject>] = &[
    check!("N1", "An empty model means the default one, an empty version the highest.", names::defaults),
    check!("N2", "Answers name the model and the version that were used.", names::answers),
    check!("N3", "Listings are in order of name, then version.", names::order),
    check!("R2", "Where a request leaves the seed out, the answer names the one that gives it again.", generate::drawn_seed),
    check!("R3", "A request for more images begins with what a request for fewer gives.", generate::more_begin_with_fewer),
    check!("I1", "GenerateStream sends the images in order of index, the same bytes as Generate.", generate::streamed),
    check!("I1", "A grid is one picture, and for Generate alone.", generate::grid),
    check!("I2", "data is in the format asked for, of width x height x channels.", generate::formats),
    check!(
        "I3",
        "A class that is not the model's is INVALID_ARGUMENT at classes.names[i], for an unconditional model at classes.",
        generate::classes
    ),
    check!("I4", "Discriminate reads PNG, JPEG and WebP of the model's own size, and nothing else.", discriminate::reads),
];

impl Subject {
    /// Finds what the target has.
    pub(super) async fn find(target: &Target) -> Result<Self, Verdict> {
        let listed = client(target.channel()).list_models(ListModelsRequest {}).await?.into_inner();
        let wanted = if target.model.is_empty() { &listed.default_model } else { &target.model };
        let Some(model) = listed.models.iter().rfind(|model| model.name == *wanted).cloned() else {
            return Err(Verdict::failed(format!("ListModels does not have '{wanted}'")));
        };
        let generate = |request: &GenerateRequest| Call::new(SERVICE, "Generate", request);
        let raw = |count, seed| GenerateRequest { seed: Some(seed), format: ImageFormat::RawF32.into(), ..request(&model, count) };
        let many = GenerateStreamRequest { request: Some(request(&model, MOST)) };
        let ground = Ground {
            target: target.clone(),
            service: SERVICE,
            ordinary: generate(&request(&model, 3)),
            company: vec![generate(&raw(1, 5)), generate(&raw(9, 6)), generate(&raw(2, u64::MAX))],
            refusals: refusals::of(&model),
            long_name: Some(generate(&GenerateRequest { model: "ü".repeat(32 << 10), ..request(&model, 1) })),
            endless: Some(Call::new(SERVICE, "GenerateStream", &many)),
            settled: as_it_is,
        };
        target.answer(&ground.ordinary).await?;
        Ok(Self { ground, listed, model })
    }

    fn client(&self) -> ImageServiceClient<Channel> {
        client(self.ground.target.channel())
    }

    async fn generate(&self, request: GenerateRequest) -> Result<GenerateResponse, Verdict> {
        Ok(self.client().generate(request).await?.into_inner())
    }
}

fn client(channel: Channel) -> ImageServiceClient<Channel> {
    ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Some images with a seed.
fn request(model: &Model, count: u32) -> GenerateRequest {
    GenerateRequest {
        model: model.name.clone(),
        model_version: model.version.clone(),
        count: Some(count),
        seed: Some(3),
        ..GenerateRequest::default()
    }
}
