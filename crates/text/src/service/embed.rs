use futures_util::future::try_join_all;
use quintet_proto::text::v1::{EmbedRequest, EmbedResponse, Embedding};
use quintet_serving::error::Checks;

use super::{Engine, TextService};
use crate::Error;

impl TextService {
    pub(super) async fn embed_texts(&self, request: EmbedRequest) -> Result<EmbedResponse, Error> {
        let (folder, encoder) = self.models.find(&request.model, "embed text", |engine| match engine {
            Engine::Encoder(encoder) => Some(encoder),
            _ => None,
        })?;
        let most = encoder.max_tokens();
        let mut checks = Checks::new();
        let count = request.inputs.len();
        checks.require((1..=1024).contains(&count), "inputs", || format!("{count} texts: must be 1 to 1024"));
        for (index, text) in request.inputs.iter().enumerate() {
            checks.require(!text.is_empty(), format!("inputs[{index}]"), || "empty: at least one character is needed".to_owned());
        }
        checks.finish().map_err(Error::Invalid)?;

        let texts = self.tokenizer.encode(&folder.name, request.inputs, request.truncate.then_some(most)).await?;
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
        let embeddings = try_join_all(texts.into_iter().map(|tokens| encoder.embed(tokens, normalize))).await?;
        Ok(EmbedResponse {
            model: folder.name.clone(),
            model_version: folder.version.clone(),
            embeddings: embeddings.into_iter().map(|values| Embedding { values }).collect(),
            prompt_tokens,
        })
    }
}
