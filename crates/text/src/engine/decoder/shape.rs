use std::sync::Arc;

use quintet_onnx::ModelFolder;
use serde::Deserialize;

use super::form::GENAI;
use crate::{
    Error,
    engine::{OneOrMany, read_json},
};

/// What a folder says of its decoder, beside the graph.
#[derive(Debug)]
pub(super) struct ModelShape {
    pub(super) context: usize,
    pub(super) bos: Option<u32>,
    pub(super) adds_bos: bool,
    pub(super) eos: Arc<[u32]>,
    /// The size of a head, where the graph itself does not say it.
    pub(super) head_size: Option<usize>,
}

/// What `config.json` says, in Hugging Face's names.
#[derive(Deserialize)]
struct ConfigJson {
    // GPT-2 has a name of its own for it.
    #[serde(alias = "n_positions")]
    max_position_embeddings: usize,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    head_dim: Option<usize>,
}

/// Hugging Face's file about the tokenizer, of which only this is of interest here.
const TOKENIZER: &str = "tokenizer_config.json";

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    add_bos_token: Option<bool>,
}

/// What `genai_config.json` says, in onnxruntime-genai's names.
#[derive(Deserialize)]
struct GenaiConfig {
    model: GenaiModel,
}

#[derive(Deserialize)]
struct GenaiModel {
    context_length: usize,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    decoder: GenaiDecoder,
}

#[derive(Deserialize)]
struct GenaiDecoder {
    head_size: usize,
}

impl ModelShape {
    /// Reads `config.json`, or what onnxruntime-genai's builder writes in its place.
    pub(super) fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let tokenizer: TokenizerConfig = if folder.has(TOKENIZER) { read_json(folder, TOKENIZER)? } else { TokenizerConfig::default() };
        let adds_bos = tokenizer.add_bos_token.unwrap_or(false);
        let eos = |ids: Option<OneOrMany>| ids.map(OneOrMany::into_vec).unwrap_or_default().into();
        let (shape, file, key) = if folder.has(GENAI) {
            let GenaiConfig { model } = read_json(folder, GENAI)?;
            let shape = Self {
                context: model.context_length,
                bos: model.bos_token_id,
                adds_bos,
                eos: eos(model.eos_token_id),
                head_size: Some(model.decoder.head_size),
            };
            (shape, GENAI, "model.context_length")
        } else {
            let config: ConfigJson = read_json(folder, "config.json")?;
            let shape = Self {
                context: config.max_position_embeddings,
                bos: config.bos_token_id,
                adds_bos,
                eos: eos(config.eos_token_id),
                head_size: config.head_dim,
            };
            (shape, "config.json", "max_position_embeddings")
        };
        if !(2..=1 << 20).contains(&shape.context) {
            return Err(folder.broken(file, format!("{key} = {}: must be 2 to 1048576", shape.context)).into());
        }
        Ok(shape)
    }
}
