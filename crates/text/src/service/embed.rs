use futures_util::future::try_join_all;
use quintet_batching::Ask;
use quintet_proto::text::v1::{EmbedRequest, EmbedResponse, Embedding};
use quintet_serving::{context::Context, error::Checks};

use super::{TextService, models::changed_kind};
use crate::{Error, engine::Engine};

impl TextService {
    pub(super) async fn embed_texts(&self, request: EmbedRequest) -> Result<EmbedResponse, Error> {
        let can = |engine: &Engine| matches!(engine, Engine::Encoder(_));
        let loaded = self.models.find(&request.model, &request.model_version, "embed text", can)?;
        let Engine::Encoder(encoder) = &loaded.model else { return Err(changed_kind(&loaded)) };
        let folder = &loaded.folder;
        let most = encoder.max_tokens();
        let mut checks = Checks::new();
        let count = request.inputs.len();
        checks.require((1..=1024).contains(&count), "inputs", || format!("{count} texts: must be 1 to 1024"));
        for (index, text) in request.inputs.iter().enumerate() {
            checks.require(!text.is_empty(), format!("inputs[{index}]"), || "empty: at least one character is needed".to_owned());
        }
        checks.finish().map_err(Error::Invalid)?;

        let texts = self.tokenizer.encode(folder, request.inputs, request.truncate.then_some(most)).await?;
        let mut checks = Checks::new();
        for (index, text) in texts.iter().enumerate() {
            let length = text.len();
            checks.require(length <= most, format!("inputs[{index}]"), || {
                format!("{length} tokens: at most {most}; set `truncate` to have the end cut off")
            });
        }
        checks.finish().map_err(Error::Invalid)?;
        let prompt_tokens = texts.iter().map(Vec::len).sum::<usize>() as u32;
        let normalize = request.normalize.unwrap_or_else(|| encoder.normalizes());
        let context = Context::current();
        let ask = Ask::rows(1).until(context.deadline).priority(context.priority);
        let embeddings = try_join_all(texts.into_iter().map(|tokens| encoder.embed(tokens, normalize, ask))).await?;
        Ok(EmbedResponse {
            model: folder.name.clone(),
            model_version: folder.version.clone(),
            embeddings: embeddings.into_iter().map(|values| Embedding { values }).collect(),
            prompt_tokens,
        })
    }
}
