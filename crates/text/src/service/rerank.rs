use quintet_proto::{
    text::v1::{RerankRequest, RerankResponse, RerankResult},
    tokenization::v1::{EncodeInput, EncodeRequest},
};
use quintet_serving::error::Checks;

use super::{
    TextService,
    encodings::{MOST_INPUTS, ask, check_count, check_text, check_texts, count, in_groups, length, tokens},
    models::changed_kind,
};
use crate::{
    Error,
    engine::{
        Engine,
        encoder::{Head, sigmoid},
    },
    refusal::Part,
};

impl TextService {
    pub(super) async fn rerank_documents(&self, request: RerankRequest) -> Result<RerankResponse, Error> {
        let can = |engine: &Engine| {
            engine.encoder().is_some_and(|encoder| matches!(encoder.head(), Head::Classification { labels, .. } if labels.len() == 1))
        };
        let loaded = self.models.find(&request.model, &request.model_version, "rerank documents", can)?;
        let Some(encoder) = loaded.model.encoder() else { return Err(changed_kind(&loaded)) };
        let folder = &loaded.folder;
        let mut checks = Checks::new();
        check_text("query", &request.query, &mut checks);
        check_texts("documents", request.documents.iter().map(String::as_str), MOST_INPUTS, &mut checks);
        check_count("top_n", request.top_n, MOST_INPUTS, &mut checks);
        checks.finish().map_err(Error::Invalid)?;

        // The query goes with each document.
        let documents = request.documents.len();
        let bytes = request.documents.iter().map(String::len).sum::<usize>().saturating_add(request.query.len().saturating_mul(documents));
        self.encodable(folder, "documents", documents, bytes)?;
        let pair = |document: &String| EncodeInput { text: request.query.clone(), pair: Some(document.clone()), ..EncodeInput::default() };
        let pairs = request.documents.iter().map(pair).collect();
        let limit = (encoder.max_tokens(), request.truncate);
        let field = |index| format!("documents[{index}]");
        let pairs = self.read(folder, pairs, limit, EncodeRequest::default(), field).await;
        let pairs = pairs.map_err(|error| {
            error.of_inputs("documents", |index, part| match part {
                Part::Text => "query".to_owned(),
                Part::Pair => field(index),
            })
        })?;
        let prompt_tokens = count(&pairs);
        let ask = ask();
        let logits = in_groups(encoder, pairs, length, |pair| encoder.classify(tokens(pair), ask)).await?;

        let logit = |logits: &Vec<f32>| logits.first().copied().unwrap_or(f32::NEG_INFINITY);
        let mut order: Vec<(u32, f32)> = (0..).zip(logits.iter().map(logit)).collect();
        // Stable, and by logits: the sigmoids of large ones are all 1.
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        order.truncate(request.top_n.map_or(order.len(), |top_n| top_n as usize));
        let mut documents = request.documents;
        let results = order.into_iter().map(|(index, logit)| RerankResult {
            index,
            relevance_score: if request.raw_scores { logit } else { sigmoid(logit) },
            document: if request.return_documents {
                documents.get_mut(index as usize).map(std::mem::take).unwrap_or_default()
            } else {
                String::new()
            },
        });
        Ok(RerankResponse { model: folder.name.clone(), model_version: folder.version.clone(), results: results.collect(), prompt_tokens })
    }
}
