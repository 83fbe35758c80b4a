use std::{collections::BTreeMap, sync::Arc};

use quintet_onnx::ModelFolder;
use quintet_proto::{
    text::v1::{FillMaskRequest, FillMaskResponse, FilledMask, FilledText, MaskToken},
    tokenization::v1::{EncodeRequest, Encoding},
};
use quintet_serving::error::Checks;

use super::{
    TextService,
    encodings::{ask, check_count, check_texts, count, in_groups, length, single, tokens},
    models::changed_kind,
};
use crate::{
    Error,
    engine::{
        Engine,
        encoder::{Head, Masks, Vocabulary},
    },
};

/// Most texts of one request.
const MOST_TEXTS: usize = 256;

/// Most masks of one text, most tokens for each, and most tokens to choose among.
const MOST_MASKS: usize = 64;
const MOST_TOKENS: usize = 1024;
const MOST_TARGETS: usize = 1024;

/// How many tokens are given for a mask where nothing is said.
const DEFAULT_TOKENS: usize = 5;

/// Bytes that a token takes in an answer, its text included.
const PER_TOKEN: usize = 48;

impl TextService {
    pub(super) async fn fill_masks(&self, request: FillMaskRequest) -> Result<FillMaskResponse, Error> {
        let can = |engine: &Engine| engine.encoder().is_some_and(|encoder| matches!(encoder.head(), Head::MaskedLm { .. }));
        let loaded = self.models.find(&request.model, &request.model_version, "fill masks", can)?;
        let Some(encoder) = loaded.model.encoder() else { return Err(changed_kind(&loaded)) };
        let folder = &loaded.folder;
        let mut checks = Checks::new();
        check_texts("inputs", request.inputs.iter().map(String::as_str), MOST_TEXTS, &mut checks);
        check_texts_to_choose(&request.targets, &mut checks);
        check_count("top_k", request.top_k, MOST_TOKENS, &mut checks);
        checks.finish().map_err(Error::Invalid)?;
        let vocabulary = self.vocabulary(&loaded, encoder).await?;
        let Some(mask) = &vocabulary.mask else {
            let reason = format!("the tokenizer of '{}' has no mask token", folder.name);
            return Err(Error::Tokenization(tonic::Status::not_found(reason)));
        };
        let targets = self.targets(folder, request.targets, vocabulary).await?;

        let asked = EncodeRequest { allowed_special_token: mask.content.clone(), ..EncodeRequest::default() };
        self.encodable(folder, "inputs", request.inputs.len(), request.inputs.iter().map(String::len).sum())?;
        let inputs = request.inputs.into_iter().map(single).collect();
        let field = |index| format!("inputs[{index}]");
        let texts = self.read(folder, inputs, (encoder.max_tokens(), request.truncate), asked, field).await;
        let texts = texts.map_err(|error| error.of_inputs("inputs", |index, _| field(index)))?;
        let places: Vec<Vec<usize>> =
            texts.iter().map(|text| (0..).zip(&text.ids).filter(|(_, id)| **id == mask.id).map(|(at, _)| at).collect()).collect();
        let mut checks = Checks::new();
        for (index, places) in places.iter().enumerate() {
            checks.require((1..=MOST_MASKS).contains(&places.len()), format!("inputs[{index}]"), || match places.len() {
                0 if texts.get(index).is_some_and(|text| text.truncated_tokens > 0) => format!("what is left of it has no {}", mask.content),
                0 => format!("it has no {}: write one where a token is to be found", mask.content),
                count => format!("{count} times {}: at most {MOST_MASKS}", mask.content),
            });
        }
        checks.finish().map_err(Error::Invalid)?;
        let top_k = request.top_k.map_or(if targets.is_empty() { DEFAULT_TOKENS } else { targets.len() }, |top_k| top_k as usize);
        self.fits("inputs", places.iter().map(Vec::len).sum::<usize>().saturating_mul(top_k).saturating_mul(PER_TOKEN))?;

        let prompt_tokens = count(&texts);
        let ask = ask();
        let run = |(text, places): (Encoding, Vec<usize>)| {
            let masks = Masks { places, top_k, targets: Arc::clone(&targets), vocabulary: vocabulary.size };
            encoder.fill_masks(tokens(text), masks, ask)
        };
        let texts = texts.into_iter().zip(places).collect();
        let filled = in_groups(encoder, texts, |(text, _)| length(text), run).await?;
        let mut ids: Vec<u32> = filled.iter().flatten().flatten().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let words: BTreeMap<u32, String> = ids.iter().copied().zip(self.tokenizer.texts(folder, &ids).await?).collect();
        let word = |id: u32| words.get(&id).cloned().unwrap_or_default();
        let fill = |masks: Vec<Vec<(u32, f32)>>| {
            let tokens = |tokens: Vec<(u32, f32)>| tokens.into_iter().map(|(id, score)| MaskToken { token_id: id, token: word(id), score }).collect();
            FilledText { masks: masks.into_iter().map(|mask| FilledMask { tokens: tokens(mask) }).collect() }
        };
        let texts = filled.into_iter().map(fill).collect();
        Ok(FillMaskResponse { model: folder.name.clone(), model_version: folder.version.clone(), texts, prompt_tokens })
    }

    /// The token of each word that may be chosen.
    async fn targets(&self, folder: &ModelFolder, words: Vec<String>, vocabulary: &Vocabulary) -> Result<Arc<[u32]>, Error> {
        if words.is_empty() {
            return Ok(Arc::default());
        }
        let asked = EncodeRequest { add_special_tokens: Some(false), ..EncodeRequest::default() };
        let encodings = self.tokenizer.encode_inputs(folder, words.into_iter().map(single).collect(), None, asked).await;
        let encodings = encodings.map_err(|error| error.of_inputs("targets", |index, _| format!("targets[{index}]")))?;
        let mut checks = Checks::new();
        for (index, encoding) in encodings.iter().enumerate() {
            let count = encoding.ids.len();
            checks.require(count == 1, format!("targets[{index}]"), || format!("{count} tokens: must be one token of the model's vocabulary"));
            // No text spells a special token, so that it stands for what the tokenizer does not know.
            let is_special = count == 1 && encoding.ids.iter().any(|id| vocabulary.special_ids.binary_search(id).is_ok());
            checks.require(!is_special, format!("targets[{index}]"), || "not known: must be one token of the model's vocabulary".to_owned());
        }
        checks.finish().map_err(Error::Invalid)?;
        let mut ids: Vec<u32> = encodings.into_iter().flat_map(|encoding| encoding.ids).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids.into())
    }
}

fn check_texts_to_choose(targets: &[String], checks: &mut Checks) {
    if !targets.is_empty() {
        check_texts("targets", targets.iter().map(String::as_str), MOST_TARGETS, checks);
    }
}
