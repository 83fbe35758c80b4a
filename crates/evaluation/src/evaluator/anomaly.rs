use std::sync::Arc;

use super::{Evaluator, Shared};
use crate::{
    Error,
    engine::{
        AnomalyPlan, Metric, Plan,
        datasets::{Data, Kind, Rows},
        jobs::Progress,
        metrics::{bootstrap, ranking},
        signature,
    },
};

/// Most samples of one request.
const SAMPLES: usize = 256;

/// How often, in resamples, the computation hears of a cancellation.
const REPORT: usize = 50;

/// The data set named after a model: "vae-digits" means "digits-heldout".
pub(crate) fn dataset_of(model: &str) -> String {
    format!("{}-heldout", model.strip_prefix("vae-").unwrap_or(model))
}

impl Evaluator {
    pub(super) async fn anomaly(&self, progress: &Progress, subject: &AnomalyPlan, plan: &Plan) -> Result<Vec<Metric>, Error> {
        progress.stage("asking the anomaly service", 0)?;
        let model = self.peers.anomaly.resolve(&subject.model).await?;
        let name = if subject.dataset.is_empty() { dataset_of(&model.name) } else { subject.dataset.clone() };
        let dataset = self.catalog.find(Kind::Rows, &name)?;
        let Data::Rows(rows) = &dataset.data else { return Err(Error::Ended) };
        progress.found(&model.name, &dataset.name)?;

        let count = rows.anomalous.len();
        progress.stage("scoring samples", count)?;
        let mut scores = Vec::with_capacity(count);
        let mut kind = String::new();
        for request in rows.values.chunks(SAMPLES * rows.width) {
            let answer = self.peers.anomaly.score(&model.name, request, rows.width).await?;
            if answer.model != model {
                return Err(Error::Mismatch(format!("the model {} was replaced by {} meanwhile", model.id(), answer.model.id())));
            }
            scores.extend(answer.values);
            kind = answer.kind;
            progress.done(scores.len())?;
        }
        let shared = Shared {
            sample_size: count,
            seed: plan.seed,
            measured_with: [(dataset.id(), dataset.sha256.clone()), self.hash(&model, self.peers.anomaly.is_here)].into(),
        };
        let scored_by = [("model", model.id()), ("score", kind)];
        let (progress, rows, resamples) = (progress.clone(), Arc::clone(rows), plan.resamples);
        self.compute(move || measure(&scores, &rows, &scored_by, resamples, &shared, &progress)).await
    }
}

fn measure(
    scores: &[f64],
    rows: &Rows,
    scored_by: &[(&str, String)],
    resamples: usize,
    shared: &Shared,
    progress: &Progress,
) -> Result<Vec<Metric>, Error> {
    progress.stage("resampling samples", 2 * resamples)?;
    let metrics: [(&'static str, &str, fn(&[f64], &[bool]) -> Option<f64>); 2] =
        [("roc_auc", "half", ranking::roc_auc), ("average_precision", "grouped", ranking::average_precision)];
    let of = |anomalous: bool| scores.iter().zip(&rows.anomalous).filter(|(_, label)| **label == anomalous).map(|(score, _)| *score).collect::<Vec<f64>>();
    let (anomalies, normals) = (of(true), of(false));
    // Resampled rows are the anomalies drawn, then the normals drawn.
    let labels: Vec<bool> = (0..scores.len()).map(|index| index < anomalies.len()).collect();
    let mut drawn_scores = Vec::with_capacity(scores.len());
    let mut measured = Vec::new();
    for (place, (name, ties, of)) in metrics.into_iter().enumerate() {
        let mut round = 0;
        let resampled = bootstrap::resample(&[anomalies.len(), normals.len()], resamples, shared.seed, |drawn| {
            round += 1;
            if round % REPORT == 0 {
                progress.done(place * resamples + round)?;
            }
            drawn_scores.clear();
            for (indices, scores) in drawn.iter().zip([&anomalies, &normals]) {
                drawn_scores.extend(indices.iter().filter_map(|index| scores.get(*index)));
            }
            Ok::<_, Error>(of(&drawn_scores, &labels).unwrap_or(f64::NAN))
        })?;
        let first = [("metric", name.to_owned()), ("ties", ties.to_owned())];
        let last = [
            ("samples", scores.len().to_string()),
            ("prevalence", format!("{:.4}", anomalies.len() as f64 / scores.len() as f64)),
            ("bootstrap", format!("{resamples}-stratified")),
        ];
        measured.push(Metric {
            name,
            value: of(scores, &rows.anomalous).ok_or_else(|| Error::Mismatch("there must be normals and anomalies".to_owned()))?,
            interval: bootstrap::percentiles(resampled, bootstrap::METHOD),
            signature: signature(&[first.as_slice(), scored_by, &last].concat()),
            sample_size: shared.sample_size,
            seed: shared.seed,
            higher_is_better: true,
            measured_with: shared.measured_with.clone(),
        });
    }
    Ok(measured)
}
