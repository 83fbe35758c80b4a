//! The one module that names the crate `tokenizers`.

mod literal;
mod pieces;
#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc};

use serde_json::Value;
use tokenizers::{EncodeInput, Encoding, Model, ModelWrapper, OffsetReferential, OffsetType};

use super::Detokenizer;

/// Ids above this are refused at load: tables are indexed by id, so one stray id would cost gigabytes.
const MAX_VOCABULARY: u32 = 1 << 24;

/// A `model_max_length` from here on is a placeholder: transformers writes 1e30 where it knows none.
const NO_LENGTH: f64 = 1e9;

/// How a tokenizer splits text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Byte-pair encoding.
    Bpe,
    /// WordPiece.
    WordPiece,
    /// Unigram language model.
    Unigram,
    /// Whole words.
    WordLevel,
}

/// A special token: its id and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Special {
    /// The id.
    pub(crate) id: u32,
    /// The text.
    pub(crate) content: String,
}

/// What to do with the texts of one encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Whether the tokenizer adds its own special tokens.
    pub(crate) add_special_tokens: bool,
    /// Whether text that spells a special token becomes it.
    pub(crate) allow_special_tokens: bool,
    /// Whether to say where each token stands in its text.
    pub(crate) offsets: bool,
}

/// The tokens of a text or a pair, nothing cut and nothing filled up.
#[derive(Debug)]
pub(crate) struct Tokens(Encoding);

impl Tokens {
    /// The ids.
    pub(crate) fn ids(&self) -> &[u32] {
        self.0.get_ids()
    }

    /// 0 for the first text and 1 for the second.
    pub(crate) fn type_ids(&self) -> &[u32] {
        self.0.get_type_ids()
    }

    /// Where each token stands in its text, in bytes; all zero unless asked for.
    pub(crate) fn offsets(&self) -> &[(usize, usize)] {
        self.0.get_offsets()
    }

    /// Which tokens stand for the first text (0) or the second (1); the rest were added.
    pub(crate) fn member(&self, member: usize) -> Range<usize> {
        let of = |token: usize| self.0.token_to_sequence(token);
        let length = self.0.len();
        // Both lie in one piece, so the first and the last token of a member enclose it.
        let start = (0..length).find(|&token| of(token) == Some(member));
        let Some(start) = start else { return 0..0 };
        let end = (start..length).rev().find(|&token| of(token) == Some(member));
        start..end.map_or(start, |end| end + 1)
    }
}

/// A tokenizer, ready to use from any thread.
pub(crate) struct Tokenizer {
    full: Arc<tokenizers::Tokenizer>,
    literal: tokenizers::Tokenizer,
    detokenizer: Detokenizer,
    specials: Vec<Special>,
    pad_id: Option<u32>,
    max_length: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokenizer").field("algorithm", &self.algorithm()).field("size", &self.detokenizer.size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json` and, where there is one, the `tokenizer_config.json` beside it.
    pub(crate) fn load(json: &str, config: Option<&str>) -> Result<Self, String> {
        let definition: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let config: Value = config.map_or(Ok(Value::Null), serde_json::from_str).map_err(|error| format!("tokenizer_config.json: {error}"))?;
        let mut full: tokenizers::Tokenizer = json.parse().map_err(|error| format!("{error}"))?;
        // Fixed lengths in the file are those of one use in training; each request says its own.
        let file_pad = full.get_padding().map(|padding| padding.pad_id);
        full.with_padding(None);
        full.with_truncation(None).map_err(|error| error.to_string())?;
        full.set_encode_special_tokens(false);

        let mut specials: Vec<Special> = full
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| Special { id, content: token.content })
            .collect();
        specials.sort_by_key(|special| special.id);

        let size = full.get_vocab(true).into_values().max().map_or(0, |id| id.saturating_add(1));
        if size == 0 || size > MAX_VOCABULARY {
            return Err(format!("a vocabulary of {size} ids cannot be served: 1 to {MAX_VOCABULARY} can"));
        }
        let literal = literal::tokenizer(&full, definition.get("model").unwrap_or(&Value::Null), &specials)?;
        let full = Arc::new(full);
        let detokenizer = pieces::detokenizer(&full, size, &specials)?;
        let pad_id = pad_token(&config)
            .and_then(|token| full.token_to_id(token))
            .or(file_pad)
            .or_else(|| specials.iter().find(|special| ["[PAD]", "<pad>", "<|pad|>"].contains(&special.content.as_str())).map(|s| s.id))
            .filter(|&id| id < size);
        let max_length = config.get("model_max_length").and_then(Value::as_f64).filter(|length| (1.0..NO_LENGTH).contains(length));
        Ok(Self { full, literal, detokenizer, specials, pad_id, max_length: max_length.map(|length| length as u32) })
    }

    /// How it splits text.
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self.full.get_model() {
            ModelWrapper::BPE(_) => Algorithm::Bpe,
            ModelWrapper::WordPiece(_) => Algorithm::WordPiece,
            ModelWrapper::WordLevel(_) => Algorithm::WordLevel,
            ModelWrapper::Unigram(_) => Algorithm::Unigram,
        }
    }

    /// The way back from ids to text.
    pub(crate) fn detokenizer(&self) -> &Detokenizer {
        &self.detokenizer
    }

    /// Number of ids; ids are 0 to one less.
    pub(crate) fn vocabulary_size(&self) -> u32 {
        self.detokenizer.size()
    }

    /// The special tokens in order of id.
    pub(crate) fn specials(&self) -> &[Special] {
        &self.specials
    }

    /// The padding token's id, if the tokenizer has one.
    pub(crate) fn pad_id(&self) -> Option<u32> {
        self.pad_id
    }

    /// The longest input the model takes, if known.
    pub(crate) fn max_length(&self) -> Option<u32> {
        self.max_length
    }

    /// Encodes a text, or a pair.
    pub(crate) fn encode(&self, text: &str, pair: Option<&str>, how: How) -> Result<Tokens, String> {
        let tokenizer = if how.allow_special_tokens { &*self.full } else { &self.literal };
        let input: EncodeInput<'_> = match pair {
            None => text.into(),
            Some(pair) => (text, pair).into(),
        };
        let encoded =
            if how.offsets { tokenizer.encode(input, how.add_special_tokens) } else { tokenizer.encode_fast(input, how.add_special_tokens) };
        encoded.map(Tokens).map_err(|error| error.to_string())
    }

    /// The first special token that a text spells, and the byte at which it begins.
    pub(crate) fn find_special(&self, text: &str) -> Option<(usize, &Special)> {
        // What the added vocabulary would take out of the text is just what encoding with special tokens allowed
        // would turn into them: single words, stripped blanks and normalisation included.
        let parts = self.full.get_added_vocabulary().extract_and_normalize(self.full.get_normalizer(), text);
        parts.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter().find_map(|(_, (start, _), tokens)| {
            let id = tokens.as_ref()?.first()?.id;
            let special = self.specials.iter().find(|special| special.id == id)?;
            // A token that takes in the blanks before it still begins where it is written.
            let blanks = text.get(start..).map_or(0, |rest| rest.len() - rest.trim_start().len());
            let spelled = text.get(start + blanks..).is_some_and(|rest| rest.starts_with(special.content.as_str()));
            Some((if spelled { start + blanks } else { start }, special))
        })
    }
}

/// The padding token that `tokenizer_config.json` names.
fn pad_token(config: &Value) -> Option<&str> {
    let token = config.get("pad_token")?;
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// Every id and token of the model itself, before tokens were added to it.
fn model_has(tokenizer: &tokenizers::Tokenizer, content: &str) -> bool {
    tokenizer.get_model().token_to_id(content).is_some()
}
