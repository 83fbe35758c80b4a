use std::{borrow::Cow, collections::BTreeMap};

use quintet_proto::evaluation::v1::{AnomalyEvaluation, CreateEvaluationRequest};
use sha2::{Digest, Sha256};

use super::{Draws, Evaluator};
use crate::{
    Error,
    engine::{
        Metric,
        datasets::Kind,
        job::Progress,
        metrics::{bootstrap, ranking},
        signature,
    },
};

/// Samples in one call.
const CHUNK: usize = 512;

impl Evaluator {
    /// Fills in the defaults and checks what can be checked before the job begins.
    pub(super) async fn check_anomaly(&self, mut asked: AnomalyEvaluation) -> Result<AnomalyEvaluation, Error> {
        if asked.model.is_empty() {
            asked.model = self.peers.default_anomaly_model().await?;
        }
        let dataset = if asked.dataset.is_empty() {
            // "vae-digits" means "digits-heldout", and where that is not there the only one.
            let own = self.dataset(&format!("{}-heldout", asked.model.trim_start_matches("vae-")), Kind::LabelledSamples);
            own.or_else(|missing| self.dataset("", Kind::LabelledSamples).map_err(|_| missing))?
        } else {
            self.dataset(&asked.dataset, Kind::LabelledSamples)?
        };
        Ok(AnomalyEvaluation { model: asked.model, dataset: dataset.name.clone() })
    }

    pub(super) async fn run_anomaly(
        &self,
        asked: AnomalyEvaluation,
        draws: Draws,
        progress: Progress<CreateEvaluationRequest>,
    ) -> Result<Vec<Metric>, Error> {
        let dataset = self.dataset(&asked.dataset, Kind::LabelledSamples)?;
        let (samples, anomalous) = dataset.samples()?;
        progress.stage("scoring samples", samples.len());
        let (mut scores, mut model, mut kind) = (Vec::with_capacity(samples.len()), String::new(), String::new());
        for chunk in samples.chunks(CHUNK) {
            let scored = self.peers.score_samples(&asked.model, chunk).await?;
            if scored.scores.len() != chunk.len() {
                return Err(Error::Mismatch(format!("'{}' scored {} of {} samples", scored.model, scored.scores.len(), chunk.len())));
            }
            scores.extend(scored.scores);
            (model, kind) = (scored.model, scored.score);
            progress.done(scores.len());
        }
        if let Some(index) = scores.iter().position(|score: &f64| !score.is_finite()) {
            return Err(Error::Mismatch(format!("'{model}' gave sample {index} the score {}", scores.get(index).copied().unwrap_or(f64::NAN))));
        }
        let mut hasher = Sha256::new();
        scores.iter().for_each(|score: &f64| hasher.update(score.to_le_bytes()));
        let measured_with =
            BTreeMap::from([(format!("{model} scores"), hex::encode(hasher.finalize())), (dataset.name.clone(), dataset.sha256.clone())]);

        // Resampled within normals and within anomalies, so that the prevalence stays.
        let of = |label: bool| -> Vec<usize> { (0..scores.len()).filter(|index| anomalous.get(*index) == Some(&label)).collect() };
        let (normals, anomalies) = (of(false), of(true));
        let Draws { seed, resamples } = draws;
        let prevalence = anomalies.len() as f64 / scores.len().max(1) as f64;
        let metric = |name, ties: &str, measure: fn(&[f64], &[bool]) -> Option<f64>| -> Result<Metric, Error> {
            let value = measure(&scores, &anomalous).ok_or_else(|| {
                Error::Mismatch(format!("'{}' has {} normals and {} anomalies: both are needed", dataset.name, normals.len(), anomalies.len()))
            })?;
            let interval = bootstrap::interval(&[normals.len(), anomalies.len()], resamples, seed, |drawn| {
                let (mut values, mut labels) = (Vec::with_capacity(scores.len()), Vec::with_capacity(scores.len()));
                for ((drawn, group), label) in drawn.iter().zip([&normals, &anomalies]).zip([false, true]) {
                    for index in drawn {
                        if let Some(score) = group.get(*index).and_then(|index| scores.get(*index)) {
                            values.push(*score);
                            labels.push(label);
                        }
                    }
                }
                measure(&values, &labels).unwrap_or(f64::NAN)
            });
            let signature = signature(&[
                ("score", kind.clone()),
                ("ties", ties.to_owned()),
                ("prevalence", format!("{prevalence:.4}")),
                ("resamples", format!("{resamples}-stratified")),
            ]);
            Ok(Metric {
                name: Cow::Borrowed(name),
                value,
                interval,
                signature,
                sample_size: scores.len(),
                seed,
                higher_is_better: true,
                measured_with: measured_with.clone(),
            })
        };
        Ok(vec![metric("roc_auc", "half", ranking::roc_auc)?, metric("average_precision", "grouped", ranking::average_precision)?])
    }
}
