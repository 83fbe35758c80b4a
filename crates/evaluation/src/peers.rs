//! The other services, as this service calls them: the client adapters.

use std::time::Duration;

use quintet_proto::{
    anomaly::v1::{
        ListModelsRequest as AnomalyListModelsRequest, SampleData, ScoreKind, ScoreRequest as AnomalyScoreRequest, Values,
        anomaly_service_client::AnomalyServiceClient, sample_data::Data,
    },
    image::v1::{ClassSelection, GenerateRequest, GenerateStreamRequest, ImageFormat, ListModelsRequest, image_service_client::ImageServiceClient},
    text::v1::{ScoreRequest as TextScoreRequest, text_service_client::TextServiceClient},
};
use quintet_serving::peer::Peer;
use tonic::{Code, Request, Response, Status};

use crate::{Error, engine::metrics::likelihood::Document};

/// Tries of a call to a service that cannot be reached or is full, and the pause after the first.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// Channels to the services that evaluations draw from.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    pub(crate) text: Peer,
    pub(crate) image: Peer,
    pub(crate) anomaly: Peer,
    pub(crate) timeout: Duration,
    pub(crate) max_message_bytes: usize,
}

/// What the image service says of a model.
#[derive(Clone, Debug)]
pub(crate) struct ImageModel {
    pub(crate) name: String,
    pub(crate) classes: Vec<String>,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) channels: u32,
}

/// A generated image: one byte a pixel, and the class that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct GeneratedImage {
    pub(crate) pixels: Vec<u8>,
    pub(crate) class: String,
}

/// The scores of a text model, and what scored them.
#[derive(Clone, Debug)]
pub(crate) struct ScoredDocuments {
    pub(crate) model: String,
    pub(crate) context: u32,
    pub(crate) stride: u32,
    pub(crate) documents: Vec<Document>,
}

/// The scores of an anomaly model, and what scored them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScoredSamples {
    pub(crate) model: String,
    pub(crate) score: String,
    pub(crate) scores: Vec<f64>,
}

impl Peers {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// The model of this name, or the service's first.
    pub(crate) async fn image_model(&self, name: &str) -> Result<ImageModel, Error> {
        let client = ImageServiceClient::new(self.image.clone());
        let answer = retried("image", || {
            let (mut client, request) = (client.clone(), self.request(ListModelsRequest {}));
            async move { client.list_models(request).await }
        });
        let answer = answer.await?;
        let name = if name.is_empty() { &answer.default_model } else { name };
        let known = answer.models.iter().map(|model| model.name.clone()).collect();
        let found = answer.models.into_iter().find(|model| model.name == name);
        let model = found.ok_or_else(|| Error::Unknown { what: "image model", name: name.to_owned(), known })?;
        Ok(ImageModel {
            name: model.name,
            classes: model.classes,
            width: model.width as usize,
            height: model.height as usize,
            channels: model.channels,
        })
    }

    /// `count` images from one seed, all classes in turn; `each` is called with how many have come. Also the id of the
    /// model that drew them.
    pub(crate) async fn generate(
        &self,
        model: &ImageModel,
        count: usize,
        seed: u64,
        mut each: impl FnMut(usize),
    ) -> Result<(String, Vec<GeneratedImage>), Error> {
        let request = GenerateRequest {
            model: model.name.clone(),
            count: Some(count as u32),
            classes: (!model.classes.is_empty()).then(|| ClassSelection { names: model.classes.clone() }),
            seed: Some(seed),
            format: ImageFormat::RawU8.into(),
            ..GenerateRequest::default()
        };
        let client = ImageServiceClient::new(self.image.clone()).max_decoding_message_size(self.max_message_bytes);
        let message = GenerateStreamRequest { request: Some(request) };
        let mut stream = retried("image", || {
            let (mut client, request) = (client.clone(), self.request(message.clone()));
            async move { client.generate_stream(request).await }
        })
        .await?;
        let (mut id, mut images) = (String::new(), Vec::with_capacity(count));
        // The call's own deadline ends with its headers; a stream that stalls must not hold the job up.
        let stalled = |_| failed("image")(Status::deadline_exceeded("no image came in time"));
        while let Some(answer) = tokio::time::timeout(self.timeout, stream.message()).await.map_err(stalled)?.map_err(failed("image"))? {
            let Some(image) = answer.image else { continue };
            id = format!("{}@{}", answer.model, answer.model_version);
            images.push(GeneratedImage { pixels: image.data.to_vec(), class: image.class_name });
            each(images.len());
        }
        Ok((id, images))
    }

    /// The anomaly service's default model.
    pub(crate) async fn default_anomaly_model(&self) -> Result<String, Error> {
        let client = AnomalyServiceClient::new(self.anomaly.clone());
        let answer = retried("anomaly", || {
            let (mut client, request) = (client.clone(), self.request(AnomalyListModelsRequest {}));
            async move { client.list_models(request).await }
        });
        Ok(answer.await?.default_model)
    }

    /// The log-likelihoods of documents.
    pub(crate) async fn score_texts(&self, model: &str, texts: Vec<String>) -> Result<ScoredDocuments, Error> {
        let client = TextServiceClient::new(self.text.clone()).max_decoding_message_size(self.max_message_bytes);
        let message = TextScoreRequest { model: model.to_owned(), texts, ..TextScoreRequest::default() };
        let answer = retried("text", || {
            let (mut client, request) = (client.clone(), self.request(message.clone()));
            async move { client.score(request).await }
        })
        .await?;
        Ok(ScoredDocuments {
            model: format!("{}@{}", answer.model, answer.model_version),
            context: answer.context,
            stride: answer.stride,
            documents: answer
                .scores
                .into_iter()
                .map(|score| Document { log_likelihood: score.log_likelihood, tokens: u64::from(score.tokens), bytes: u64::from(score.bytes) })
                .collect(),
        })
    }

    /// The anomaly scores of samples.
    pub(crate) async fn score_samples(&self, model: &str, samples: &[Vec<f32>]) -> Result<ScoredSamples, Error> {
        let client = AnomalyServiceClient::new(self.anomaly.clone()).max_decoding_message_size(self.max_message_bytes);
        let samples = samples.iter().map(|values| SampleData { data: Some(Data::Values(Values { values: values.clone() })) }).collect();
        let message = AnomalyScoreRequest { model: model.to_owned(), samples, ..AnomalyScoreRequest::default() };
        let answer = retried("anomaly", || {
            let (mut client, request) = (client.clone(), self.request(message.clone()));
            async move { client.score(request).await }
        })
        .await?;
        let score = ScoreKind::try_from(answer.score).unwrap_or_default().as_str_name().trim_start_matches("SCORE_KIND_").to_lowercase();
        Ok(ScoredSamples {
            model: format!("{}@{}", answer.model, answer.model_version),
            score,
            scores: answer.scores.into_iter().map(|score| score.score).collect(),
        })
    }
}

fn failed(service: &'static str) -> impl Fn(Status) -> Error {
    move |status| Error::Peer { service, status: Box::new(status) }
}

/// Calls a service, again where it cannot be reached or is full for the moment.
async fn retried<T, F: Future<Output = Result<Response<T>, Status>>>(service: &'static str, mut call: impl FnMut() -> F) -> Result<T, Error> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            // The services themselves never say CANCELLED or UNKNOWN to a call that still waits: its connection broke off.
            Err(status) if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Cancelled | Code::Unknown) => {
                tokio::time::sleep(pause).await;
            }
            Err(status) => return Err(failed(service)(status)),
        }
        pause *= 2;
    }
    call().await.map(Response::into_inner).map_err(failed(service))
}
