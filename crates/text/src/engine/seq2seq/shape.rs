use std::sync::Arc;

use quintet_onnx::ModelFolder;
use serde::Deserialize;

use super::Forced;
use crate::{
    Error,
    engine::{GenerationDefaults, OneOrMany, generation::read_defaults, read_json},
};

/// What a folder says of its encoder–decoder, beside the graphs.
#[derive(Clone, Debug)]
pub(super) struct ModelShape {
    /// The most tokens of an input, and of an output.
    pub(super) max_tokens: usize,
    /// The token that every output begins with; it is no part of the text.
    pub(super) start: u32,
    pub(super) eos: Arc<[u32]>,
    pub(super) forced: Forced,
    pub(super) defaults: GenerationDefaults,
}

/// What `config.json` says, in Hugging Face's names.
#[derive(Deserialize)]
struct ConfigJson {
    n_positions: Option<usize>,
    max_position_embeddings: Option<usize>,
    #[serde(flatten)]
    generation: GenerationJson,
}

/// What `generation_config.json` says, or `config.json` where that does not.
#[derive(Default, Deserialize)]
struct GenerationJson {
    decoder_start_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    forced_bos_token_id: Option<u32>,
    forced_eos_token_id: Option<OneOrMany>,
    max_new_tokens: Option<usize>,
    max_length: Option<usize>,
    min_new_tokens: Option<usize>,
    min_length: Option<usize>,
}

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";

/// What T5's checkpoints were trained with: their attention knows distances and not places, so that nothing else bounds a text.
const USUAL: usize = 512;

impl ModelShape {
    pub(super) fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let config: ConfigJson = read_json(folder, CONFIG)?;
        let own: GenerationJson = if folder.has(GENERATION) { read_json(folder, GENERATION)? } else { GenerationJson::default() };
        let older = config.generation;
        let max_tokens = config.n_positions.or(config.max_position_embeddings).unwrap_or(USUAL);
        if !(2..=1 << 20).contains(&max_tokens) {
            return Err(folder.broken(CONFIG, format!("n_positions = {max_tokens}: must be 2 to 1048576")).into());
        }
        let start = own.decoder_start_token_id.or(older.decoder_start_token_id);
        let start = start.ok_or_else(|| folder.broken(GENERATION, "decoder_start_token_id is missing, and in config.json too".to_owned()))?;
        let eos: Arc<[u32]> = own.eos_token_id.or(older.eos_token_id).map(OneOrMany::into_vec).unwrap_or_default().into();
        let last = own.forced_eos_token_id.or(older.forced_eos_token_id).and_then(|ids| ids.into_vec().first().copied());
        let forced = Forced { first: own.forced_bos_token_id.or(older.forced_bos_token_id), last };
        let mut defaults = read_defaults(folder)?;
        // Their lengths count the token that the output begins with.
        let most = own.max_new_tokens.or(own.max_length.map(|length| length.saturating_sub(1)));
        defaults.max_new_tokens = most.filter(|most| *most > 0).unwrap_or(defaults.max_new_tokens);
        defaults.min_new_tokens = own.min_new_tokens.or(own.min_length.map(|length| length.saturating_sub(1))).unwrap_or(0);
        Ok(Self { max_tokens, start, eos, forced, defaults })
    }

    /// Refuses tokens that every text would have and that the graphs do not know.
    pub(super) fn check(&self, folder: &ModelFolder, vocabulary: usize) -> Result<(), Error> {
        for (key, token) in [("forced_bos_token_id", self.forced.first), ("forced_eos_token_id", self.forced.last)] {
            if let Some(token) = token.filter(|token| *token as usize >= vocabulary) {
                return Err(folder.broken(GENERATION, format!("{key} = {token}: must be below {vocabulary}, the vocabulary's size")).into());
            }
        }
        Ok(())
    }
}
