use std::time::Duration;

use quintet_proto::anomaly::v1::{
    ListCalibrationsRequest, ListModelsRequest, SampleData, ScoreRequest, Values, anomaly_service_client::AnomalyServiceClient, sample_data,
};
use tonic::transport::Channel;

use super::{ModelId, Peer};
use crate::Error;

pub(super) const SERVICE: &str = "anomaly";

/// The anomaly service.
pub(crate) type AnomalyPeer = Peer<AnomalyServiceClient<Channel>>;

/// Scores of samples, and which score it is.
#[derive(Clone, Debug)]
pub(crate) struct Scores {
    pub(crate) model: ModelId,
    pub(crate) values: Vec<f64>,
    /// Its kind, in lower case.
    pub(crate) kind: String,
}

pub(super) fn connect((channel, is_here): (Channel, bool), limit: Duration, max_message_bytes: usize) -> AnomalyPeer {
    let client = AnomalyServiceClient::new(channel).max_decoding_message_size(max_message_bytes);
    Peer { client, service: SERVICE, limit, is_here }
}

impl AnomalyPeer {
    /// Whether the service has the model.
    pub(crate) async fn check(&self, model: &str) -> Result<(), Error> {
        let listed = self.call(|mut client| async move { client.list_models(ListModelsRequest {}).await }).await?.into_inner().models;
        self.expect(model, listed.into_iter().map(|model| model.name).collect())
    }

    /// Which model a name means: empty = the service's default one.
    pub(crate) async fn resolve(&self, model: &str) -> Result<ModelId, Error> {
        let request = ListCalibrationsRequest { model: model.to_owned() };
        let answer = self.call(|mut client| { let request = request.clone(); async move { client.list_calibrations(request).await } }).await?.into_inner();
        Ok(ModelId { name: answer.model, version: answer.model_version })
    }

    /// The model's own kind of score for samples of `width` values each.
    pub(crate) async fn score(&self, model: &str, values: &[f32], width: usize) -> Result<Scores, Error> {
        let sample = |values: &[f32]| SampleData { data: Some(sample_data::Data::Values(Values { values: values.to_vec() })) };
        let samples: Vec<SampleData> = values.chunks_exact(width).map(sample).collect();
        let count = samples.len();
        let request = ScoreRequest { model: model.to_owned(), samples, ..ScoreRequest::default() };
        let answer = self.call(|mut client| { let request = request.clone(); async move { client.score(request).await } }).await?.into_inner();
        if answer.scores.len() != count {
            return Err(self.fault(format!("it gave {} scores for {count} samples", answer.scores.len())));
        }
        let values: Vec<f64> = answer.scores.iter().map(|score| score.score).collect();
        if let Some(score) = values.iter().find(|score| !score.is_finite()) {
            return Err(self.fault(format!("a sample scored {score}: it must be finite")));
        }
        let kind = answer.score().as_str_name().trim_start_matches("SCORE_KIND_").to_lowercase();
        Ok(Scores { model: ModelId { name: answer.model, version: answer.model_version }, values, kind })
    }
}
