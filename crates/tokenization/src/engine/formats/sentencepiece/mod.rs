//! `SentencePiece` models: a protobuf message with the pieces and how text is normalized.

mod bpe;
mod charsmap;
mod compose;
mod config;
mod decoder;
mod normalizer;
mod pieces;
mod pretokenizer;
pub(crate) mod proto;
mod regex;
mod unigram;

use prost::Message as _;
use serde_json::{Value, json};

use crate::engine::formats::Error;
use charsmap::Charsmap;
use config::Config;
use normalizer::Whitespace;
use pieces::Pieces;
use proto::{ModelProto, Type};

/// What stands beside a model, and what is asked of its conversion.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    /// `tokenizer_config.json`.
    pub(crate) tokenizer_config: Option<&'a Value>,
    /// `added_tokens.json`.
    pub(crate) added_tokens: Option<&'a Value>,
    /// Convert even where some texts would get other tokens; [`Converted::differences`] then says where.
    pub(crate) allow_inexact: bool,
}

/// A converted model.
#[derive(Debug, Clone)]
pub(crate) struct Converted {
    /// The tokenizer.json.
    pub(crate) json: Value,
    /// Where it is known to give other tokens than `SentencePiece`. Empty unless [`Options::allow_inexact`].
    pub(crate) differences: Vec<String>,
}

/// Converts a `SentencePiece` model.
///
/// Control symbols are special added tokens, as in every tokenizer.json: in a text they are found as such. `SentencePiece`
/// takes them for text like any other; so does a tokenizer after `set_encode_special_tokens(true)`.
pub(crate) fn convert(file: &[u8], options: Options<'_>) -> Result<Converted, Error> {
    let model = ModelProto::decode(file)?;
    let spec = model.trainer_spec.clone().unwrap_or_default();
    let normalization = model.normalizer_spec.clone().unwrap_or_default();
    let kind = Kind::of(spec.model_type())?;
    let pieces = Pieces::new(&model)?;
    let byte_fallback = check(&model, &pieces)?;
    let whitespace = Whitespace {
        add_dummy_prefix: normalization.add_dummy_prefix(),
        remove_extra_whitespaces: normalization.remove_extra_whitespaces(),
        as_suffix: spec.treat_whitespace_as_suffix(),
    };
    let blob = normalization.precompiled_charsmap();
    let charsmap = Charsmap::parse(blob)?;
    let config = Config::new(&pieces, &spec, options.tokenizer_config, options.added_tokens)?;
    let (normalizer, mut differences) = normalizer::normalizer(&charsmap, blob, &pieces, whitespace);
    let beyond = config.beyond(&pieces);
    let (mut model, pre_tokenizer, more) = match kind {
        Kind::Unigram => {
            let last = beyond.last_key_value().map_or(pieces.len() as u32, |(id, _)| id + 1);
            let names: Vec<_> =
                (pieces.len() as u32..last).map(|id| beyond.get(&id).map_or_else(|| unigram::gap(id), |name| (*name).to_owned())).collect();
            let (pre_tokenizer, more) = pretokenizer::unigram(&pieces, byte_fallback);
            (unigram::model(&pieces, byte_fallback, &names), pre_tokenizer, more)
        }
        Kind::Bpe => {
            let (pre_tokenizer, mut more) = pretokenizer::bpe(&pieces)?;
            more.extend(bpe::differences(&pieces));
            (bpe::model(&pieces, byte_fallback)?, pre_tokenizer, more)
        }
    };
    if kind == Kind::Bpe {
        // An added token has the id that the vocabulary gives it.
        for (id, name) in beyond {
            model["vocab"][name] = id.into();
        }
    }
    differences.extend(more);
    if !differences.is_empty() && !options.allow_inexact {
        return Err(Error::Inexact(differences));
    }
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": config.added_tokens(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": config.post_processor(),
        "decoder": decoder::decoder(whitespace, &pieces, spec.unk_surface()),
        "model": model,
    });
    Ok(Converted { json, differences })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unigram,
    Bpe,
}

impl Kind {
    /// `sentencepiece.TrainerSpec.ModelType`.
    fn of(number: i32) -> Result<Self, Error> {
        match number {
            1 => Ok(Self::Unigram),
            2 => Ok(Self::Bpe),
            3 => Err(Error::Unsupported("it is a word model; only Unigram and BPE models are converted".to_owned())),
            4 => Err(Error::Unsupported("it is a character model; only Unigram and BPE models are converted".to_owned())),
            other => Err(Error::Broken(format!("the model type {other} is unknown"))),
        }
    }
}

/// What cannot be said in a tokenizer.json, or is broken; otherwise whether unknown characters become bytes.
fn check(model: &ModelProto, pieces: &Pieces) -> Result<bool, Error> {
    let normalization = model.normalizer_spec.clone().unwrap_or_default();
    let byte_fallback = model.trainer_spec.as_ref().is_some_and(proto::TrainerSpec::byte_fallback);
    if !normalization.escape_whitespaces() {
        return Err(Error::Unsupported("escape_whitespaces is false".to_owned()));
    }
    if model.denormalizer_spec.as_ref().is_some_and(|spec| !spec.precompiled_charsmap().is_empty()) {
        return Err(Error::Unsupported("it has a denormalizer, which changes decoded text".to_owned()));
    }
    if pieces.of_kind(Type::UserDefined).any(|(_, piece)| piece.text.contains(' ')) {
        return Err(Error::Unsupported("a user-defined piece has a space in it".to_owned()));
    }
    let bytes = pieces.of_kind(Type::Byte).count();
    if byte_fallback && bytes != 256 {
        return Err(Error::Broken(format!("unknown characters become bytes, of which {bytes} are pieces")));
    }
    if !byte_fallback && bytes != 0 {
        return Err(Error::Broken("there are byte pieces without byte_fallback".to_owned()));
    }
    Ok(byte_fallback)
}
