//! The calls that clients make, and what comes of them.

use std::{fmt::Write as _, time::Duration};

use quintet_proto::{
    anomaly::v1::{SampleData, ScoreRequest, Values, anomaly_service_client::AnomalyServiceClient, sample_data::Data},
    evaluation::v1::{
        AnomalyEvaluation, CreateEvaluationRequest, EvaluationState, ImageEvaluation, TextEvaluation, WatchEvaluationRequest,
        create_evaluation_request::Evaluation as What, evaluation_service_client::EvaluationServiceClient,
    },
    image::v1::{GenerateRequest as ImageRequest, image_service_client::ImageServiceClient},
    text::v1::{GenerateRequest, GenerateStreamRequest, Sampling, Stopping, text_service_client::TextServiceClient},
    tokenization::v1::{EncodeInput, EncodeRequest, tokenization_service_client::TokenizationServiceClient},
};
use tonic::{Code, Request, Status, transport::Channel};

use super::{
    jobs::Jobs,
    sites::{Fault, Service, Sites},
};

/// The deadline that clients give their calls: longer than any may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Encode,
    Write,
    Stream,
    Draw,
    Score,
    MeasureAnomaly,
    MeasureText,
    MeasureImage,
}

/// What goes wrong with a call.
#[derive(Debug)]
pub(super) enum Failure {
    /// It ends with a status.
    Status(Status),
    /// It was an evaluation, which ended without metrics.
    Ended(EvaluationState, String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Kind {
    pub(super) const ALL: [Self; 8] =
        [Self::Encode, Self::Write, Self::Stream, Self::Draw, Self::Score, Self::MeasureAnomaly, Self::MeasureText, Self::MeasureImage];

    /// The service that is called, and those behind it.
    fn path(self) -> &'static [Service] {
        match self {
            Self::Encode => &[Service::Tokenization],
            Self::Write | Self::Stream => &[Service::Text, Service::Tokenization],
            Self::Draw => &[Service::Image],
            Self::Score => &[Service::Anomaly],
            Self::MeasureAnomaly => &[Service::Evaluation, Service::Anomaly],
            Self::MeasureText => &[Service::Evaluation, Service::Text, Service::Tokenization],
            Self::MeasureImage => &[Service::Evaluation, Service::Image],
        }
    }

    pub(super) fn needs(self, service: Service) -> bool {
        self.path().contains(&service)
    }

    pub(super) fn channel(self, sites: &Sites) -> Channel {
        sites.channel(self.path()[0])
    }

    /// How long such a call may take while a service that it needs is away. An evaluation asks four times, and may wait for others.
    pub(super) fn longest(self) -> Duration {
        if self.path()[0] == Service::Evaluation { Duration::from_mins(1) } else { Duration::from_secs(10) }
    }

    /// Whether a call may go wrong this way when this happens to a service.
    pub(super) fn may(self, failure: &Failure, service: Service, fault: Fault) -> bool {
        let is_called = self.path()[0] == service;
        match failure {
            _ if !self.needs(service) => false,
            // What a connection that breaks off looks like is up to the client's own library.
            Failure::Status(status) if is_called => {
                matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal)
            }
            Failure::Status(status) => matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded),
            Failure::Ended(EvaluationState::Failed, _) if !is_called => true,
            Failure::Ended(EvaluationState::Failed, error) => fault == Fault::Killed && error.contains("process ended"),
            Failure::Ended(state, _) => is_called && fault == Fault::Restarted && *state == EvaluationState::Cancelled,
        }
    }

    /// Makes such a call: its answer in words. What a stream gives before it fails must begin `expected`.
    pub(super) async fn make(self, channel: Channel, expected: &str, jobs: &Jobs) -> Result<String, Failure> {
        Ok(match self {
            Self::Encode => {
                let inputs = vec![EncodeInput { text: "In the beginning".into(), ..EncodeInput::default() }];
                let encoded = TokenizationServiceClient::new(channel).encode(timed(EncodeRequest { inputs, ..EncodeRequest::default() })).await?;
                format!("{:?}", encoded.into_inner().encodings[0].ids)
            }
            Self::Write => TextServiceClient::new(channel).generate(timed(text())).await?.into_inner().text,
            Self::Stream => {
                let mut pieces =
                    TextServiceClient::new(channel).generate_stream(timed(GenerateStreamRequest { request: Some(text()) })).await?.into_inner();
                let mut written = String::new();
                while let Some(piece) = pieces.message().await? {
                    written += &piece.text;
                    assert!(expected.is_empty() || expected.starts_with(&written), "{written:?} does not begin {expected:?}");
                }
                written
            }
            Self::Draw => {
                let drawn = ImageServiceClient::new(channel).generate(timed(ImageRequest { seed: Some(3), ..ImageRequest::default() })).await?;
                format!("{:?}", drawn.into_inner().images[0].data)
            }
            Self::Score => {
                let samples = vec![SampleData { data: Some(Data::Values(Values { values: vec![0.5; 64] })) }];
                let scored = AnomalyServiceClient::new(channel)
                    .score(timed(ScoreRequest { model: "vae-digits".into(), samples, ..ScoreRequest::default() }))
                    .await?;
                format!("{:?}", scored.into_inner().scores[0].score)
            }
            Self::MeasureAnomaly => {
                measure(channel, What::Anomaly(AnomalyEvaluation { model: "vae-digits".into(), dataset: String::new() }), jobs).await?
            }
            Self::MeasureText => measure(channel, What::Text(TextEvaluation { documents: Some(1), ..TextEvaluation::default() }), jobs).await?,
            Self::MeasureImage => measure(channel, What::Image(ImageEvaluation { samples: Some(64), ..ImageEvaluation::default() }), jobs).await?,
        })
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn text() -> GenerateRequest {
    GenerateRequest {
        prompt: "And Moses".into(),
        sampling: Some(Sampling { temperature: Some(0.0), ..Sampling::default() }),
        stopping: Some(Stopping { max_new_tokens: Some(24), ignore_eos: true, ..Stopping::default() }),
        ..GenerateRequest::default()
    }
}

/// Runs an evaluation and follows it to its end.
async fn measure(channel: Channel, what: What, jobs: &Jobs) -> Result<String, Failure> {
    let mut client = EvaluationServiceClient::new(channel);
    let request = CreateEvaluationRequest { evaluation: Some(what), bootstrap_resamples: Some(100), ..CreateEvaluationRequest::default() };
    let id = client.create_evaluation(timed(request)).await?.into_inner().evaluation.unwrap().id;
    jobs.accepted(&id);
    let mut states = client.watch_evaluation(WatchEvaluationRequest { id: id.clone() }).await?.into_inner();
    let mut last = None;
    while let Some(state) = states.message().await? {
        last = state.evaluation;
    }
    let last = last.unwrap();
    jobs.ended(&id, last.state());
    if last.state() != EvaluationState::Succeeded {
        return Err(Failure::Ended(last.state(), last.error));
    }
    let mut metrics = String::new();
    for metric in last.metrics {
        write!(metrics, "{} {:?} {:?}; ", metric.name, metric.value, metric.interval).unwrap();
    }
    Ok(metrics)
}
