use quintet_proto::anomaly::v1::{ExplainRequest, ScoreRequest};

use super::{Subject, score_request};
use crate::conformance::check::{Checked, ensure};

/// What shares may add up to beside 1.
const TOLERANCE: f64 = 1e-6;

pub(super) async fn alone_or_together(subject: &Subject) -> Checked {
    let together = subject.scored(&subject.samples).await?.scores;
    let backwards: Vec<_> = subject.samples.iter().rev().cloned().collect();
    let mut again = subject.scored(&backwards).await?.scores;
    again.reverse();
    ensure!(again == together, "the same samples in another order have other scores");
    for (index, (sample, score)) in subject.samples.iter().zip(&together).enumerate().take(8) {
        let alone = subject.scored(std::slice::from_ref(sample)).await?.scores;
        ensure!(alone == [*score], "sample {index} has the score {:?} alone and {score:?} among others", alone.first());
    }
    Ok(())
}

pub(super) async fn consistent(subject: &Subject) -> Checked {
    let answer = subject.scored(&subject.samples).await?;
    ensure!(!answer.calibration.is_empty(), "Score names no calibration");
    for (index, score) in answer.scores.iter().enumerate() {
        let is_above = score.score > score.threshold;
        ensure!(score.is_anomaly == is_above, "sample {index} has is_anomaly = {}: {} > {}", score.is_anomaly, score.score, score.threshold);
        ensure!(score.p_value > 0.0 && score.p_value <= 1.0, "sample {index} has the p_value {}", score.p_value);
    }
    let named = ScoreRequest { calibration: answer.calibration.clone(), ..score_request(&subject.model, &subject.samples) };
    let again = subject.client().score(named).await?.into_inner();
    ensure!(again == answer, "the calibration '{}' that was named gives other scores", answer.calibration);
    Ok(())
}

pub(super) async fn shares(subject: &Subject) -> Checked {
    for (index, sample) in subject.samples.iter().enumerate().take(4) {
        let (model, model_version) = (subject.model.name.clone(), subject.model.version.clone());
        let explained = ExplainRequest { model, model_version, sample: Some(sample.clone()), ..ExplainRequest::default() };
        let shares = subject.client().explain(explained).await?.into_inner().shares;
        let expected = super::size(&subject.model);
        ensure!(shares.len() == expected, "sample {index} of {expected} values has {} shares", shares.len());
        let (least, sum) = (shares.iter().copied().fold(f64::INFINITY, f64::min), shares.iter().sum::<f64>());
        ensure!(least >= 0.0, "sample {index} has the share {least}");
        ensure!(sum == 0.0 || (sum - 1.0).abs() <= TOLERANCE, "the shares of sample {index} add up to {sum}");
    }
    Ok(())
}
