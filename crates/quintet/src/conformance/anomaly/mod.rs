//! The anomaly service: A1 to A4, and what its stream is.

mod calibrate;
mod names;
mod refusals;
mod samples;
mod scores;
mod stream;

use quintet_proto::anomaly::v1::{
    ListModelsRequest, ListModelsResponse, Model, ReconstructRequest, SampleData, SampleRequest, ScoreRequest, ScoreResponse, Values,
    anomaly_service_client::AnomalyServiceClient, sample_data::Data,
};

use super::{
    check::{Check, Verdict, check, ensure},
    every::{Ground, as_it_is},
    service::Service,
    target::{Call, Target},
};
use crate::client::{Channel, MAX_MESSAGE_BYTES};

const SERVICE: &str = Service::Anomaly.full_name();

/// The most samples of a request.
const MOST: usize = 4096;

/// Samples that checks are made with.
const SAMPLES: u32 = 40;

/// What a target has of anomaly models.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) ground: Ground,
    listed: ListModelsResponse,
    /// The one that is asked.
    model: Model,
    /// Samples of its own prior: they surely fit.
    samples: Vec<SampleData>,
}

pub(super) const CHECKS: &[Check<Subject>] = &[
    check!("N1", "An empty model means the default one, an empty version the highest.", names::defaults),
    check!("N2", "Answers name the model and the version that were used.", names::answers),
    check!("N3", "Listings are in order of name, then version.", names::order),
    check!("O5", "A request that is refused has done nothing: no calibration is made or replaced.", calibrate::refused_does_nothing),
    check!("S2", "A later message of ScoreStream that sets what the first settled is INVALID_ARGUMENT with that field.", stream::settles),
    check!("S3", "ScoreStream answers each message in order, whether or not others follow.", stream::in_order),
    check!("S4", "The first fault ends a stream: the answers to earlier messages come, then the status.", stream::first_fault),
    check!("S5", "A stream of no messages is OK, with no answer.", stream::of_nothing),
    check!("R2", "Where a request leaves the seed out, the answer names the one that gives it again.", samples::drawn_seed),
    check!("R3", "A request for more samples begins with what a request for fewer gives.", samples::more_begin_with_fewer),
    check!("R4", "Scores depend on the sample alone: one by one, all at once or by stream, in any order.", scores::alone_or_together),
    check!("A1", "is_anomaly is score > threshold; p_value is in (0, 1].", scores::consistent),
    check!("A2", "ScoreStream's answers are Score's, with index from 0; a sample that does not fit is refused at its value.", stream::same_as_score),
    check!("A3", "Explain's shares are each at least 0 and add up to 1, or are all 0.", scores::shares),
    check!("A4", "A calibration is there when Calibrate has answered; \"default\" cannot be replaced.", calibrate::is_there),
];

impl Subject {
    /// Finds what the target has.
    pub(super) async fn find(target: &Target) -> Result<Self, Verdict> {
        let mut client = client(target.channel());
        let listed = client.list_models(ListModelsRequest {}).await?.into_inner();
        let wanted = if target.model.is_empty() { &listed.default_model } else { &target.model };
        let Some(model) = listed.models.iter().rfind(|model| model.name == *wanted).cloned() else {
            return Err(Verdict::failed(format!("ListModels does not have '{wanted}'")));
        };
        let drawn = client.sample(sample_request(&model, SAMPLES)).await?.into_inner().samples;
        ensure!(drawn.len() == SAMPLES as usize, "Sample of {SAMPLES} gives {}", drawn.len());
        let samples: Vec<SampleData> = drawn.into_iter().map(|values| SampleData { data: Some(Data::Values(values)) }).collect();
        let score = |samples: &[SampleData]| Call::new(SERVICE, "Score", &score_request(&model, samples));
        let reconstruct = ReconstructRequest { model: model.name.clone(), samples: samples.clone(), ..ReconstructRequest::default() };
        let ground = Ground {
            target: target.clone(),
            service: SERVICE,
            ordinary: score(&samples[..3]),
            company: vec![
                score(&samples),
                score(&samples[5..6]),
                Call::new(SERVICE, "Reconstruct", &reconstruct),
                Call::new(SERVICE, "Sample", &sample_request(&model, 7)),
            ],
            refusals: refusals::of(&model, &samples),
            long_name: Some(Call::new(SERVICE, "Score", &ScoreRequest { model: "ü".repeat(32 << 10), ..score_request(&model, &samples[..1]) })),
            endless: Some(Call::new(SERVICE, "ScoreStream", &stream::first(&model, &samples[0]))),
            settled: as_it_is,
        };
        target.answer(&ground.ordinary).await?;
        Ok(Self { ground, listed, model, samples })
    }

    fn client(&self) -> AnomalyServiceClient<Channel> {
        client(self.ground.target.channel())
    }

    async fn scored(&self, samples: &[SampleData]) -> Result<ScoreResponse, Verdict> {
        let answer = self.client().score(score_request(&self.model, samples)).await?.into_inner();
        ensure!(answer.scores.len() == samples.len(), "Score of {} samples gives {}", samples.len(), answer.scores.len());
        Ok(answer)
    }
}

fn client(channel: Channel) -> AnomalyServiceClient<Channel> {
    AnomalyServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn score_request(model: &Model, samples: &[SampleData]) -> ScoreRequest {
    ScoreRequest { model: model.name.clone(), model_version: model.version.clone(), samples: samples.to_vec(), ..ScoreRequest::default() }
}

fn sample_request(model: &Model, count: u32) -> SampleRequest {
    SampleRequest { model: model.name.clone(), model_version: model.version.clone(), count: Some(count), seed: Some(3) }
}

/// A sample with other values.
fn sample(values: Vec<f32>) -> SampleData {
    SampleData { data: Some(Data::Values(Values { values })) }
}

/// How many values a sample has.
fn size(model: &Model) -> usize {
    model.shape.iter().map(|length| *length as usize).product()
}
