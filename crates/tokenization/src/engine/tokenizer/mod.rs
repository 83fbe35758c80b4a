//! A tokenizer, ready to use. This is the one module that knows what is behind it: the crate `tokenizers` 0.23, which is
//! complete, and its successor's release candidate, which is some twenty times faster on what it supports. Which encodes is
//! settled for each tokenizer at load, by comparing the two on text.

mod agreement;
mod doubt;
mod fast;
mod frame;
mod literal;
mod pieces;
#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc};

use serde_json::Value;
use tokenizers::{Encoding, ModelWrapper, OffsetReferential, OffsetType};

use self::{
    fast::{Fast, Fault},
    frame::Frames,
};
use super::{Detokenizer, Span};
pub(crate) use frame::{Frame, Part};

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

/// The tokens of one text, nothing cut, filled up or laid around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// The ids.
    pub(crate) ids: Vec<u32>,
    /// Where each token stands in the text, in characters; empty unless asked for.
    pub(crate) offsets: Vec<Span>,
}

/// A tokenizer, ready to use from any thread.
pub(crate) struct Tokenizer {
    full: Arc<tokenizers::Tokenizer>,
    literal: tokenizers::Tokenizer,
    /// `literal` for text that something stands before, where that makes a difference.
    continued: Option<tokenizers::Tokenizer>,
    fast: Option<Fast>,
    frames: Frames,
    detokenizer: Detokenizer,
    specials: Vec<Special>,
    pad_id: Option<u32>,
    mask_id: Option<u32>,
    max_length: Option<u32>,
    cuts_left: bool,
    pads_left: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokenizer").field("algorithm", &self.algorithm()).field("size", &self.detokenizer.size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Makes a tokenizer of what a `tokenizer.json` holds and of the `tokenizer_config.json` beside it (null: there is none).
    pub(crate) fn load(json: &str, config: &Value) -> Result<Self, String> {
        let definition: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
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
        let literal_model = literal::model(&full, definition.get("model").unwrap_or(&Value::Null), &specials);
        let literal = literal::tokenizer(&full, literal_model.as_ref())?;
        let continued = literal::continued(&literal, &definition)?;
        let frames = Frames::of(&full);
        let fast = Fast::load(definition, literal_model);
        let full = Arc::new(full);
        let detokenizer = pieces::detokenizer(&full, size, &specials)?;
        let named = |key| named_token(config, key).and_then(|token| full.token_to_id(token));
        let spelled = |any: &[&str]| specials.iter().find(|special| any.contains(&special.content.as_str())).map(|special| special.id);
        let pad_id = named("pad_token").or(file_pad).or_else(|| spelled(&["[PAD]", "<pad>", "<|pad|>"])).filter(|&id| id < size);
        let mask_id = named("mask_token").filter(|id| specials.iter().any(|special| special.id == *id)).or_else(|| spelled(&["[MASK]", "<mask>"]));
        let max_length = config.get("model_max_length").and_then(Value::as_f64).filter(|length| (1.0..NO_LENGTH).contains(length));
        let is_left = |key| config.get(key).and_then(Value::as_str) == Some("left");
        let mut tokenizer = Self {
            full,
            literal,
            continued,
            fast: None,
            frames,
            detokenizer,
            specials,
            pad_id,
            mask_id,
            max_length: max_length.map(|length| length as u32),
            cuts_left: is_left("truncation_side"),
            pads_left: is_left("padding_side"),
        };
        match fast.and_then(|fast| tokenizer.proven(fast)) {
            Ok(fast) => tokenizer.fast = Some(fast),
            Err(reason) => tracing::info!(reason, "the fast encoder does not take this tokenizer; the complete one does"),
        }
        Ok(tokenizer)
    }

    /// The same without the fast encoder.
    pub(crate) fn complete_only(self) -> Self {
        Self { fast: None, ..self }
    }

    /// `fast`, if it encodes as the complete one does.
    fn proven(&self, fast: Fast) -> Result<Fast, String> {
        let spelled = |id| self.full.id_to_token(id).map(|_| String::from_utf8_lossy(self.detokenizer.bytes(id)).into_owned());
        let mut added: Vec<(u32, String)> = self.full.get_added_tokens_decoder().into_iter().map(|(id, token)| (id, token.content)).collect();
        added.sort_unstable();
        let texts = agreement::texts(self.vocabulary_size(), spelled).into_iter().chain(agreement::around(&added));
        for text in texts.filter(|text| !doubt::has_doubtful(text)) {
            for allow in [false, true] {
                match fast.attempt(&text, allow) {
                    Ok(ids) if ids == self.complete(&text, allow, false)?.ids => {}
                    Ok(_) => return Err(format!("it differs on {text:?}")),
                    Err(Fault::Refused(reason)) => return Err(reason),
                    Err(Fault::Panicked) => return Err(format!("it panics on {text:?}")),
                }
            }
        }
        Ok(fast)
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

    /// The id that stands for what is to be filled in, if the tokenizer has one.
    pub(crate) fn mask_id(&self) -> Option<u32> {
        self.mask_id
    }

    /// The longest input the model takes, if known.
    pub(crate) fn max_length(&self) -> Option<u32> {
        self.max_length
    }

    /// Whether long inputs lose their beginning, where a request does not say.
    pub(crate) fn cuts_left(&self) -> bool {
        self.cuts_left
    }

    /// Whether short inputs are filled up in front, where a request does not say.
    pub(crate) fn pads_left(&self) -> bool {
        self.pads_left
    }

    /// Whether the fast encoder is in use.
    pub(crate) fn is_fast(&self) -> bool {
        self.fast.is_some()
    }

    /// What stands around a text or a pair; an error where the tokenizer does not take one.
    pub(crate) fn frame(&self, pair: bool, add_special_tokens: bool) -> Result<&Frame, String> {
        self.frames.get(pair, add_special_tokens)
    }

    /// Encodes a text. `allow_special_tokens`: text that spells a special token becomes it. `offsets`: whether to say where
    /// tokens stand, which takes the complete encoder.
    pub(crate) fn encode(&self, text: &str, allow_special_tokens: bool, offsets: bool) -> Result<Tokens, String> {
        if let Some(fast) = self.fast.as_ref().filter(|_| !offsets && !doubt::has_doubtful(text))
            && let Some(ids) = fast.encode(text, allow_special_tokens)
        {
            return Ok(Tokens { ids, offsets: Vec::new() });
        }
        self.complete(text, allow_special_tokens, offsets)
    }

    fn complete(&self, text: &str, allow_special_tokens: bool, offsets: bool) -> Result<Tokens, String> {
        let tokenizer = if allow_special_tokens { &*self.full } else { &self.literal };
        let encoded: Result<Encoding, _> = if offsets { tokenizer.encode_char_offsets(text, false) } else { tokenizer.encode_fast(text, false) };
        let encoded = encoded.map_err(|error| error.to_string())?;
        let spans = encoded.get_offsets().iter().map(|&(start, end)| (start as u32, end as u32));
        Ok(Tokens { ids: encoded.get_ids().to_vec(), offsets: if offsets { spans.collect() } else { Vec::new() } })
    }

    /// The first special token that a text spells, and the byte at which it begins.
    pub(crate) fn find_special(&self, text: &str) -> Option<(usize, &Special)> {
        self.spelled(text).into_iter().find_map(|(range, id)| {
            let special = self.special(id)?;
            // A token that takes in the blanks before it still begins where it is written.
            let blanks = text.get(range.start..).map_or(0, |rest| rest.len() - rest.trim_start().len());
            let written = text.get(range.start + blanks..).is_some_and(|rest| rest.starts_with(special.content.as_str()));
            Some((if written { range.start + blanks } else { range.start }, special))
        })
    }

    /// Where a text spells special tokens, in bytes and in order, with blanks around them that they take in.
    pub(crate) fn specials_in(&self, text: &str) -> Vec<Range<usize>> {
        self.spelled(text).into_iter().filter(|(_, id)| self.special(*id).is_some()).map(|(range, _)| range).collect()
    }

    /// Whether a text ends with what a special token begins with.
    pub(crate) fn ends_in_a_special(&self, text: &str) -> bool {
        let begins = |special: &Special| {
            let borders = special.content.char_indices().map(|(at, _)| at).skip(1);
            borders.into_iter().any(|at| special.content.get(..at).is_some_and(|beginning| text.ends_with(beginning)))
        };
        self.specials.iter().any(begins)
    }

    fn special(&self, id: u32) -> Option<&Special> {
        self.specials.binary_search_by_key(&id, |special| special.id).ok().and_then(|place| self.specials.get(place))
    }

    /// Where a text spells added tokens, and which. What the added vocabulary would take out of the text is just what encoding
    /// would turn into them: single words, stripped blanks and normalisation included.
    fn spelled(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        let parts = self.full.get_added_vocabulary().extract_and_normalize(self.full.get_normalizer(), text);
        let splits = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().filter_map(|(_, (start, end), tokens)| Some((start..end, tokens.as_ref()?.first()?.id))).collect()
    }

    /// Encodes a text in which one special token may be spelled; all others that it spells are text.
    pub(crate) fn encode_with(&self, text: &str, allowed: u32) -> Result<Tokens, String> {
        let places = self.spelled(text).into_iter().filter(|(_, id)| *id == allowed).collect();
        Ok(Tokens { ids: self.encode_around(text, places, str::to_owned)?, offsets: Vec::new() })
    }

    /// Encodes a text that a program has put together: special tokens that it spells become such, but for those that `restore`
    /// brings back in the text between them.
    pub(crate) fn encode_between(&self, text: &str, restore: impl Fn(&str) -> String) -> Result<Vec<u32>, String> {
        self.encode_around(text, self.spelled(text), restore)
    }

    /// The ids of `tokens` at their places, and between them those of what `restore` makes of the text there.
    fn encode_around(&self, text: &str, tokens: Vec<(Range<usize>, u32)>, restore: impl Fn(&str) -> String) -> Result<Vec<u32>, String> {
        let (mut ids, mut done) = (Vec::new(), 0);
        let between = |ids: &mut Vec<u32>, range: Range<usize>| -> Result<(), String> {
            let part = restore(text.get(range.clone()).unwrap_or_default());
            match &self.continued {
                _ if part.is_empty() => {}
                Some(continued) if range.start > 0 => {
                    ids.extend_from_slice(continued.encode_fast(part.as_str(), false).map_err(|error| error.to_string())?.get_ids());
                }
                _ => ids.extend(self.encode(&part, false, false)?.ids),
            }
            Ok(())
        };
        for (range, id) in tokens {
            between(&mut ids, done..range.start)?;
            ids.push(id);
            done = range.end;
        }
        between(&mut ids, done..text.len())?;
        Ok(ids)
    }
}

/// A token that `tokenizer_config.json` names.
fn named_token<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    let token = config.get(key)?;
    token.as_str().or_else(|| token.get("content")?.as_str())
}
