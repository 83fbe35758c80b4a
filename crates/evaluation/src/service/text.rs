use std::{borrow::Cow, collections::BTreeMap};

use quintet_proto::evaluation::v1::{CreateEvaluationRequest, TextEvaluation};
use sha2::{Digest, Sha256};

use super::{Draws, Evaluator};
use crate::{
    Error,
    engine::{
        Metric,
        datasets::Kind,
        job::Progress,
        metrics::{
            bootstrap,
            likelihood::{Document, bits_per_byte, perplexity},
        },
        signature,
    },
};

/// Documents in one call.
const CHUNK: usize = 4;

impl Evaluator {
    /// Fills in the defaults and checks what can be checked before the job begins.
    pub(super) fn check_text(&self, asked: TextEvaluation) -> Result<TextEvaluation, Error> {
        let dataset = self.dataset(&asked.dataset, Kind::Text)?;
        let documents = asked.documents.unwrap_or(dataset.size as u32);
        if !(1..=dataset.size).contains(&(documents as usize)) {
            return Err(Error::invalid("text.documents", format!("{documents}: '{}' has {}, and at least 1 is needed", dataset.name, dataset.size)));
        }
        Ok(TextEvaluation { model: asked.model, dataset: dataset.name.clone(), documents: Some(documents) })
    }

    pub(super) async fn run_text(
        &self,
        asked: TextEvaluation,
        draws: Draws,
        progress: Progress<CreateEvaluationRequest>,
    ) -> Result<Vec<Metric>, Error> {
        let dataset = self.dataset(&asked.dataset, Kind::Text)?;
        let mut texts = dataset.documents()?;
        texts.truncate(asked.documents.unwrap_or_default() as usize);
        progress.stage("scoring documents", texts.len());
        let mut documents: Vec<Document> = Vec::with_capacity(texts.len());
        let (mut model, mut windows) = (String::new(), (0, 0));
        for chunk in texts.chunks(CHUNK) {
            let scored = self.peers.score_texts(&asked.model, chunk.to_vec()).await?;
            if scored.documents.len() != chunk.len() {
                return Err(Error::Mismatch(format!("'{}' scored {} of {} documents", scored.model, scored.documents.len(), chunk.len())));
            }
            (model, windows) = (scored.model, (scored.context, scored.stride));
            documents.extend(scored.documents);
            progress.done(documents.len());
        }
        if let Some(index) = documents.iter().position(|document| !document.log_likelihood.is_finite()) {
            return Err(Error::Mismatch(format!("'{model}' gave document {index} a log-likelihood that is no number")));
        }
        let mut hasher = Sha256::new();
        documents.iter().for_each(|document| hasher.update(document.log_likelihood.to_le_bytes()));
        let measured_with =
            BTreeMap::from([(format!("{model} log-likelihoods"), hex::encode(hasher.finalize())), (dataset.name.clone(), dataset.sha256.clone())]);

        let Draws { seed, resamples } = draws;
        let signature = |unit: &str| {
            signature(&[
                ("unit", unit.to_owned()),
                ("window", windows.0.to_string()),
                ("stride", windows.1.to_string()),
                ("first", "from-bos".to_owned()),
                ("resamples", resamples.to_string()),
            ])
        };
        let metric = |name, unit: &str, measure: fn(&[&Document]) -> f64| {
            let all: Vec<&Document> = documents.iter().collect();
            let interval = bootstrap::interval(&[documents.len()], resamples, seed, |drawn| {
                let drawn: Vec<&Document> = drawn.iter().flatten().filter_map(|index| documents.get(*index)).collect();
                measure(&drawn)
            });
            Metric {
                name: Cow::Borrowed(name),
                value: measure(&all),
                interval,
                signature: signature(unit),
                sample_size: documents.len(),
                seed,
                higher_is_better: false,
                measured_with: measured_with.clone(),
            }
        };
        Ok(vec![
            metric("perplexity", "token", |documents| perplexity(documents.iter().copied())),
            metric("bits_per_byte", "byte", |documents| bits_per_byte(documents.iter().copied())),
        ])
    }
}
