use quintet_proto::anomaly::v1::{ExplainRequest, ExplainResponse, FeatureShare};

use super::{AnomalyService, ask, samples, score::message};
use crate::{
    Error,
    engine::{Data, Vae, explanation},
};

/// The most pixels of a heat map.
const MAX_PIXELS: usize = 1 << 24;

impl AnomalyService {
    pub(super) async fn explain_sample(&self, request: ExplainRequest) -> Result<ExplainResponse, Error> {
        let loaded = self.find(&request.model, &request.model_version)?;
        let (folder, vae) = (&loaded.folder, &loaded.model);
        let section = vae.section();
        let scale = request.scale.unwrap_or(8) as usize;
        if !(1..=64).contains(&scale) {
            return Err(Error::invalid("scale", format!("{scale}: must be 1 to 64")));
        }
        let sample = samples::read_one("sample", request.sample, vae).map_err(Error::Invalid)?;
        let reconstruction = vae.reconstruct(sample.clone(), ask()).await?;
        let shares = explanation::shares(&sample, &reconstruction.values);
        let (mut features, mut heat_map) = (Vec::new(), Vec::new());
        match (section.data, section.shape.as_slice(), section.value_range) {
            (Data::Image, &[channels, height, width], Some(range)) => {
                let pixels = 3 * width * height * scale * scale;
                if pixels > MAX_PIXELS {
                    return Err(Error::invalid("scale", format!("{scale}: the heat map would have {pixels} pixels, at most {MAX_PIXELS}")));
                }
                heat_map = explanation::heat_map(&sample, &reconstruction.values, [channels, height, width], range, scale)?;
            }
            _ => features = feature_shares(&sample, &reconstruction.values, &shares, vae),
        }
        let calibration = vae.calibration("")?;
        Ok(ExplainResponse {
            model: folder.name.clone(),
            model_version: folder.version.clone(),
            score: Some(message(&reconstruction.scores, section.default_score, &calibration)),
            shares,
            features,
            heat_map,
        })
    }
}

/// Each feature in the client's units, the largest share first.
fn feature_shares(sample: &[f32], reconstruction: &[f32], shares: &[f64], vae: &Vae) -> Vec<FeatureShare> {
    let back = |value: f32, mean: f64, scale: f64| f64::from(value) * scale + mean;
    let mut features: Vec<FeatureShare> = vae
        .section()
        .features
        .iter()
        .zip(sample.iter().zip(reconstruction))
        .zip(shares)
        .map(|((feature, (value, expected)), share)| FeatureShare {
            name: feature.name.clone(),
            value: back(*value, feature.mean, feature.scale),
            expected: back(*expected, feature.mean, feature.scale),
            share: *share,
        })
        .collect();
    features.sort_by(|a, b| b.share.total_cmp(&a.share));
    features
}
