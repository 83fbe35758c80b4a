use quintet_proto::anomaly::v1::{SampleScore, ScoreRequest, ScoreResponse};

use super::{AnomalyService, ask, kind, kind_message, samples};
use crate::{
    Error,
    engine::{
        calibration::Calibration,
        score::{ScoreKind, Scores},
    },
};

impl AnomalyService {
    pub(super) async fn score_samples(&self, request: ScoreRequest) -> Result<ScoreResponse, Error> {
        let loaded = self.find(&request.model, &request.model_version)?;
        let (folder, vae) = (&loaded.folder, &loaded.model);
        let kind = kind(request.score, vae)?;
        let calibration = vae.calibration(&request.calibration)?;
        let samples = samples::read_all("samples", request.samples, 1, vae)?;
        let reconstructions = vae.reconstruct_all(samples, ask()).await?;
        Ok(ScoreResponse {
            model: folder.name.clone(),
            model_version: folder.version.clone(),
            scores: reconstructions.iter().map(|reconstruction| message(&reconstruction.scores, kind, &calibration)).collect(),
            score: kind_message(kind).into(),
            calibration: if request.calibration.is_empty() { "default".to_owned() } else { request.calibration },
        })
    }
}

pub(super) fn message(scores: &Scores, kind: ScoreKind, calibration: &Calibration) -> SampleScore {
    let (score, threshold) = (scores.of(kind), calibration.threshold(kind));
    SampleScore {
        score,
        threshold,
        is_anomaly: score > threshold,
        p_value: calibration.p_value(kind, score),
        reconstruction_error: scores.reconstruction_error,
        negative_elbo: scores.negative_elbo,
    }
}
