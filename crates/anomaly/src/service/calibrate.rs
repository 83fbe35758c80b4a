use std::sync::Arc;

use quintet_proto::anomaly::v1::{
    CalibrateRequest, CalibrateResponse, Calibration as CalibrationMessage, ListCalibrationsRequest, ListCalibrationsResponse,
};
use quintet_serving::error::Checks;

use super::{AnomalyService, ask, samples};
use crate::{
    Error,
    engine::{
        calibration::Calibration,
        score::{ScoreKind, Scores},
    },
};

/// Fewer normals than this say too little about a tail.
const MIN_NORMALS: usize = 20;

impl AnomalyService {
    pub(super) async fn calibrate_on(&self, request: CalibrateRequest) -> Result<CalibrateResponse, Error> {
        let loaded = self.find(&request.model, &request.model_version)?;
        let (folder, vae) = (&loaded.folder, &loaded.model);
        let rate = request.false_positive_rate.unwrap_or(0.05);
        let name = request.name;
        let mut checks = Checks::new();
        let plain = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '-' | '_');
        let named = (1..=64).contains(&name.len()) && name.chars().all(plain);
        checks.require(named, "name", || format!("'{name}': must be 1 to 64 of a-z, 0-9, '-' and '_'"));
        checks.require(name != "default", "name", || "'default' is the calibration made at load".to_owned());
        checks.require(rate > 0.0 && rate <= 0.5, "false_positive_rate", || format!("{rate}: must be above 0 and at most 0.5"));
        let least = 1.0 / (request.normals.len() + 1) as f64;
        checks.require(rate.is_nan() || rate >= least, "false_positive_rate", || {
            format!("{rate}: {} normals can show no rate below {least:.6}", request.normals.len())
        });
        checks.finish().map_err(Error::Invalid)?;
        let normals = samples::read_all("normals", request.normals, MIN_NORMALS, vae)?;
        let scores: Vec<Scores> = vae.reconstruct_all(normals, ask()).await?.into_iter().map(|reconstruction| reconstruction.scores).collect();
        let calibration = Arc::new(Calibration::new(&scores, rate));
        vae.keep(name.clone(), Arc::clone(&calibration))?;
        Ok(CalibrateResponse { model: folder.name.clone(), model_version: folder.version.clone(), calibration: Some(message(name, &calibration)) })
    }

    pub(super) fn calibrations(&self, request: &ListCalibrationsRequest) -> Result<ListCalibrationsResponse, Error> {
        let loaded = self.find(&request.model, &request.model_version)?;
        let (folder, vae) = (&loaded.folder, &loaded.model);
        let calibrations = vae.calibrations().into_iter().map(|(name, calibration)| message(name, &calibration)).collect();
        Ok(ListCalibrationsResponse { model: folder.name.clone(), model_version: folder.version.clone(), calibrations })
    }
}

fn message(name: String, calibration: &Calibration) -> CalibrationMessage {
    CalibrationMessage {
        name,
        normals: calibration.normals() as u32,
        false_positive_rate: calibration.false_positive_rate,
        reconstruction_error_threshold: calibration.threshold(ScoreKind::ReconstructionError),
        negative_elbo_threshold: calibration.threshold(ScoreKind::NegativeElbo),
    }
}
