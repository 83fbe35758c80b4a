use quintet_proto::anomaly::v1::{CalibrateRequest, Calibration, ListCalibrationsRequest, ScoreRequest};

use super::{SERVICE, Subject, score_request};
use crate::conformance::{
    check::{Checked, Verdict, ensure},
    every::Refusal,
    target::Call,
};

/// The calibration that the kit makes: always the same, so that a target keeps one at most.
const NAME: &str = "conformance-kit";

impl Subject {
    fn calibrate_request(&self, name: &str) -> CalibrateRequest {
        CalibrateRequest {
            model: self.model.name.clone(),
            model_version: self.model.version.clone(),
            name: name.to_owned(),
            normals: self.samples.clone(),
            false_positive_rate: Some(0.1),
        }
    }

    async fn calibrations(&self) -> Result<Vec<Calibration>, Verdict> {
        let asked = ListCalibrationsRequest { model: self.model.name.clone(), model_version: self.model.version.clone() };
        Ok(self.client().list_calibrations(asked).await?.into_inner().calibrations)
    }

    async fn refuses(&self, request: CalibrateRequest, rule: &'static str, field: &str) -> Checked {
        Refusal::invalid(rule, Call::new(SERVICE, "Calibrate", &request), &[field]).hold(&self.ground.target).await?;
        Ok(())
    }
}

pub(super) async fn refused_does_nothing(subject: &Subject) -> Checked {
    let before = subject.calibrations().await?;
    let few = CalibrateRequest { normals: subject.samples[..5].to_vec(), false_positive_rate: Some(0.5), ..subject.calibrate_request(NAME) };
    subject.refuses(few, "O5", "normals").await?;
    subject
        .refuses(CalibrateRequest { false_positive_rate: Some(0.6), ..subject.calibrate_request("conformance-kit-2") }, "O5", "false_positive_rate")
        .await?;
    let after = subject.calibrations().await?;
    ensure!(after == before, "refused calibrations changed the list from {before:?} to {after:?}");
    Ok(())
}

pub(super) async fn is_there(subject: &Subject) -> Checked {
    let made = subject.client().calibrate(subject.calibrate_request(NAME)).await?.into_inner().calibration.unwrap_or_default();
    ensure!(made.name == NAME && made.normals as usize == subject.samples.len(), "Calibrate answers {made:?}");
    let listed = subject.calibrations().await?;
    ensure!(listed.contains(&made), "Calibrate answered {made:?}, and ListCalibrations has {listed:?}");
    let request = ScoreRequest { calibration: NAME.to_owned(), ..score_request(&subject.model, &subject.samples) };
    let scored = subject.client().score(request).await?.into_inner();
    ensure!(scored.calibration == NAME, "Score with the calibration '{NAME}' names '{}'", scored.calibration);
    let thresholds = [made.reconstruction_error_threshold, made.negative_elbo_threshold];
    let other = scored.scores.iter().find(|score| !thresholds.contains(&score.threshold)).map(|score| score.threshold);
    ensure!(other.is_none(), "Score has the threshold {other:?}, and the calibration {thresholds:?}");
    subject.refuses(subject.calibrate_request("default"), "A4", "name").await
}
