//! The gRPC face: the only place that names generated types. Each rpc converts, calls the engine, and converts back.

mod calibrate;
mod explain;
mod samples;
mod score;
mod score_stream;

use std::{pin::Pin, sync::Arc};

use quintet_batching::Ask;
use quintet_onnx::{Loaded, Registry};
use quintet_proto::anomaly::v1::{
    CalibrateRequest, CalibrateResponse, DataKind, ExplainRequest, ExplainResponse, ListCalibrationsRequest, ListCalibrationsResponse,
    ListModelsRequest, ListModelsResponse, Model as ModelMessage, ReconstructRequest, ReconstructResponse, SampleRequest, SampleResponse,
    ScoreKind as KindMessage, ScoreRequest, ScoreResponse, ScoreStreamRequest, ScoreStreamResponse, Values, anomaly_service_server,
};
use quintet_serving::{context::Context, error::status};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Error,
    engine::{Data, Vae, score::ScoreKind},
};

/// The most samples of a request.
const MAX_SAMPLES: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct AnomalyService {
    pub(crate) models: Registry<Vae>,
    /// What an empty name means; empty = the first by name.
    pub(crate) default: String,
}

/// A sample's place in the queue, as its call says.
fn ask() -> Ask {
    let context = Context::current();
    Ask::rows(1).until(context.deadline).priority(context.priority)
}

impl AnomalyService {
    fn find(&self, name: &str, version: &str) -> Result<Arc<Loaded<Vae>>, Error> {
        Ok(self.models.pick(name, &self.default, version)?)
    }

    async fn reconstruct_samples(&self, request: ReconstructRequest) -> Result<ReconstructResponse, Error> {
        let loaded = self.find(&request.model, &request.model_version)?;
        let (folder, vae) = (&loaded.folder, &loaded.model);
        let samples = samples::read_all("samples", request.samples, 1, vae)?;
        let reconstructions = vae.reconstruct_all(samples, ask()).await?.into_iter().map(|reconstruction| client_units(reconstruction.values, vae));
        Ok(ReconstructResponse { model: folder.name.clone(), model_version: folder.version.clone(), reconstructions: reconstructions.collect() })
    }

    async fn sample_prior(&self, request: SampleRequest) -> Result<SampleResponse, Error> {
        let loaded = self.find(&request.model, &request.model_version)?;
        let (folder, vae) = (&loaded.folder, &loaded.model);
        let count = request.count.unwrap_or(1) as usize;
        if !(1..=MAX_SAMPLES).contains(&count) {
            return Err(Error::invalid("count", format!("{count}: must be 1 to {MAX_SAMPLES}")));
        }
        let seed = request.seed.unwrap_or_else(rand::random);
        let samples = vae.sample(seed, count).await?.into_iter().map(|values| client_units(values, vae)).collect();
        Ok(SampleResponse { model: folder.name.clone(), model_version: folder.version.clone(), samples, seed })
    }
}

fn client_units(mut values: Vec<f32>, vae: &Vae) -> Values {
    vae.section().unstandardise(&mut values);
    Values { values }
}

fn kind_message(kind: ScoreKind) -> KindMessage {
    match kind {
        ScoreKind::ReconstructionError => KindMessage::ReconstructionError,
        ScoreKind::NegativeElbo => KindMessage::NegativeElbo,
    }
}

/// The score asked for; unspecified = the model's own choice.
fn kind(value: i32, vae: &Vae) -> Result<ScoreKind, Error> {
    match KindMessage::try_from(value) {
        Ok(KindMessage::Unspecified) => Ok(vae.section().default_score),
        Ok(KindMessage::ReconstructionError) => Ok(ScoreKind::ReconstructionError),
        Ok(KindMessage::NegativeElbo) => Ok(ScoreKind::NegativeElbo),
        Err(_) => Err(Error::invalid("score", format!("{value} is no score kind: 0 to 2 are"))),
    }
}

#[tonic::async_trait]
impl anomaly_service_server::AnomalyService for AnomalyService {
    type ScoreStreamStream = Pin<Box<dyn Stream<Item = Result<ScoreStreamResponse, Status>> + Send>>;

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.models.all();
        let models = models.iter().map(|loaded| {
            let (folder, vae) = (&loaded.folder, &loaded.model);
            let section = vae.section();
            ModelMessage {
                name: folder.name.clone(),
                version: folder.version.clone(),
                description: folder.manifest.description.clone(),
                license: folder.manifest.license.clone(),
                data: match section.data {
                    Data::Tabular => DataKind::Tabular,
                    Data::Image => DataKind::Image,
                }
                .into(),
                shape: section.shape.iter().map(|size| *size as u32).collect(),
                feature_names: section.features.iter().map(|feature| feature.name.clone()).collect(),
                latent_size: section.latent_size as u32,
                default_score: kind_message(section.default_score).into(),
                provider_nodes: vae.provider_nodes().iter().map(|(provider, count)| (provider.clone(), *count)).collect(),
            }
        });
        Ok(Response::new(ListModelsResponse {
            models: models.collect(),
            default_model: self.find("", "").map_or_else(|_| String::new(), |model| model.folder.name.clone()),
        }))
    }

    async fn score(&self, request: Request<ScoreRequest>) -> Result<Response<ScoreResponse>, Status> {
        self.score_samples(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn score_stream(&self, request: Request<Streaming<ScoreStreamRequest>>) -> Result<Response<Self::ScoreStreamStream>, Status> {
        Ok(Response::new(Box::pin(self.clone().score_pieces(request.into_inner()))))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        self.explain_sample(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn reconstruct(&self, request: Request<ReconstructRequest>) -> Result<Response<ReconstructResponse>, Status> {
        self.reconstruct_samples(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn sample(&self, request: Request<SampleRequest>) -> Result<Response<SampleResponse>, Status> {
        self.sample_prior(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn calibrate(&self, request: Request<CalibrateRequest>) -> Result<Response<CalibrateResponse>, Status> {
        self.calibrate_on(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn list_calibrations(&self, request: Request<ListCalibrationsRequest>) -> Result<Response<ListCalibrationsResponse>, Status> {
        self.calibrations(&request.into_inner()).map(Response::new).map_err(|error| status(&error))
    }
}

#[cfg(test)]
mod tests;
