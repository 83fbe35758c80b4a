//! A tokenizer without its special tokens: what user text is encoded with.
//!
//! Not splitting text at special tokens is not enough. A model whose own vocabulary holds them finds them again:
//! Unigram takes "</s>" whole, a model of whole words and WordPiece look words up. So they are taken out of the model as well.
//! A special token of one character stays: it may be the only way to write that character (the "!" that
//! some tokenizers pad with).

use std::collections::HashSet;

use serde_json::{Map, Value};
use tokenizers::{AddedVocabulary, Model, ModelWrapper, PreTokenizerWrapper, Tokenizer, models::wordlevel::WordLevel};

use super::Special;

/// The name of the unknown token where its own is taken out: two noncharacters, which text that is interchanged does not have. A text
/// that has them would be unknown anyhow.
const UNSPELLABLE: &str = "\u{10FFFF}\u{10FFFF}";

/// The definition of a model without those special tokens that it holds itself; None = it holds none. `model` is its
/// definition in `tokenizer.json`.
pub(super) fn model(full: &Tokenizer, model: &Value, specials: &[Special]) -> Option<Value> {
    let held = |content: &str| full.get_model().token_to_id(content).is_some();
    let hidden: HashSet<&str> = specials.iter().map(|special| special.content.as_str()).filter(|s| s.chars().count() > 1 && held(s)).collect();
    (!hidden.is_empty()).then(|| without(model, &hidden))
}

/// `full` without its special tokens; `model` is the definition of its model where that changes.
pub(super) fn tokenizer(full: &Tokenizer, model: Option<&Value>) -> Result<Tokenizer, String> {
    let mut literal = full.clone();
    let ids = WordLevel::builder().vocab(full.get_vocab(true).into_iter().collect()).build().map_err(|error| error.to_string())?;
    let mut added: Vec<_> = full.get_added_tokens_decoder().into_iter().filter(|(_, token)| !token.special).collect();
    added.sort_by_key(|(id, _)| *id);
    let mut vocabulary = AddedVocabulary::new();
    // Looked up in `ids`, so that each keeps the id it has.
    vocabulary.add_tokens(added.into_iter().map(|(_, token)| token), &ids, full.get_normalizer()).map_err(|error| error.to_string())?;
    literal.with_added_vocabulary(vocabulary);

    if let Some(model) = model {
        let model: ModelWrapper = serde_json::from_value(model.clone()).map_err(|error| error.to_string())?;
        literal.with_model(model);
    }
    Ok(literal)
}

/// `literal` for text that is not the beginning, where the pre-tokenizer puts a blank before the beginning alone.
pub(super) fn continued(literal: &Tokenizer, definition: &Value) -> Result<Option<Tokenizer>, String> {
    let Some(mut pre_tokenizer) = definition.get("pre_tokenizer").cloned() else { return Ok(None) };
    if !without_first_blank(&mut pre_tokenizer) {
        return Ok(None);
    }
    let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(pre_tokenizer).map_err(|error| error.to_string())?;
    let mut continued = literal.clone();
    continued.with_pre_tokenizer(Some(pre_tokenizer));
    Ok(Some(continued))
}

/// Sets every `prepend_scheme` of "first" to "never"; whether there was one.
fn without_first_blank(definition: &mut Value) -> bool {
    match definition {
        Value::Object(object) => {
            let mut found = false;
            if let Some(scheme) = object.get_mut("prepend_scheme").filter(|scheme| scheme.as_str() == Some("first")) {
                *scheme = "never".into();
                found = true;
            }
            object.values_mut().fold(found, |found, value| without_first_blank(value) | found)
        }
        Value::Array(values) => values.iter_mut().fold(false, |found, value| without_first_blank(value) | found),
        _ => false,
    }
}

/// A model's definition without the tokens of `hidden`; ids stay as they are.
fn without(model: &Value, hidden: &HashSet<&str>) -> Value {
    let Value::Object(model) = model else { return model.clone() };
    let is_hidden = |token: &Value| token.as_str().is_some_and(|token| hidden.contains(token));
    let mut model = model.clone();
    let byte_fallback = model.get("byte_fallback").and_then(Value::as_bool).unwrap_or(false);
    let unknown = model.get("unk_token").and_then(Value::as_str).filter(|token| hidden.contains(token)).map(str::to_owned);
    match model.get_mut("vocab") {
        // Unigram: the id is the place in the list, and no text spells the empty piece.
        Some(Value::Array(pieces)) => {
            for piece in pieces {
                if let Some(token) = piece.get_mut(0).filter(|token| is_hidden(token)) {
                    *token = Value::String(String::new());
                }
            }
        }
        Some(Value::Object(vocabulary)) => hide(vocabulary, hidden, unknown.as_deref(), byte_fallback),
        _ => {}
    }
    if unknown.is_some() {
        model.insert("unk_token".to_owned(), UNSPELLABLE.into());
    }
    if let Some(Value::Array(merges)) = model.get_mut("merges") {
        merges.retain(|merge| !touches(merge, hidden));
    }
    Value::Object(model)
}

fn hide(vocabulary: &mut Map<String, Value>, hidden: &HashSet<&str>, unknown: Option<&str>, byte_fallback: bool) {
    // The model still has to say "unknown", so that entry moves to a token that no text spells.
    let unknown = unknown.and_then(|token| vocabulary.get(token).cloned());
    vocabulary.retain(|token, _| !hidden.contains(token.as_str()) || (byte_fallback && super::pieces::fallback_byte(token).is_some()));
    if let Some(id) = unknown {
        vocabulary.insert(UNSPELLABLE.to_owned(), id);
    }
}

/// Whether a merge makes or takes one of `hidden`: written as "a b", or as a list of the two.
fn touches(merge: &Value, hidden: &HashSet<&str>) -> bool {
    let pair = match merge {
        Value::String(merge) => merge.split_once(' '),
        Value::Array(pair) => pair.first().and_then(Value::as_str).zip(pair.get(1).and_then(Value::as_str)),
        _ => None,
    };
    pair.is_some_and(|(left, right)| hidden.contains(left) || hidden.contains(right) || hidden.contains(format!("{left}{right}").as_str()))
}
