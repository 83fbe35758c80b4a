//! The fast encoder: the rewritten crate `tokenizers` 1.0, on what it supports. It gives ids alone; offsets, pairs' frames
//! and decoding are not asked of it. It is a release candidate: [`super::agreement`] has proved at load that it gives what
//! the complete one gives, and a panic in it is caught and ends its use.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::Value;
use tokenizers_fast::{
    canonicalize_value, from_json,
    pipeline::{EncodeOptions, Override, PipelineTokenizer},
};

/// Encodes text to ids.
pub(super) struct Fast {
    full: PipelineTokenizer,
    /// Where the model itself holds special tokens: one whose model does not. Else `full`.
    literal: PipelineTokenizer,
    broken: AtomicBool,
}

impl Fast {
    /// Reads the definition of a tokenizer, and the model that user text is encoded with where that is another.
    pub(super) fn load(mut definition: Value, literal_model: Option<Value>) -> Result<Self, String> {
        let Some(model) = literal_model else {
            let full = pipeline(definition)?;
            return Ok(Self { literal: full.clone(), full, broken: AtomicBool::new(false) });
        };
        let full = pipeline(definition.clone())?;
        if let Some(definition) = definition.as_object_mut() {
            definition.insert("model".to_owned(), model);
        }
        let literal = pipeline(definition)?;
        Ok(Self { full, literal, broken: AtomicBool::new(false) })
    }

    /// The ids of a text, with nothing around them; None = ask the complete encoder.
    pub(super) fn encode(&self, text: &str, allow_special_tokens: bool) -> Option<Vec<u32>> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        match self.attempt(text, allow_special_tokens) {
            Ok(ids) => Some(ids),
            Err(Fault::Refused(reason)) => {
                tracing::warn!(reason, bytes = text.len(), "the fast encoder refused a text; the complete one takes it");
                None
            }
            Err(Fault::Panicked) => {
                self.broken.store(true, Ordering::Relaxed);
                tracing::error!(bytes = text.len(), "the fast encoder panicked; this tokenizer goes on with the complete one");
                None
            }
        }
    }

    /// The ids of a text, if the encoder gives any.
    pub(super) fn attempt(&self, text: &str, allow_special_tokens: bool) -> Result<Vec<u32>, Fault> {
        let options = EncodeOptions {
            add_special_tokens: false,
            encode_special_tokens: !allow_special_tokens,
            padding: Override::Off,
            truncation: Override::Off,
        };
        let tokenizer = if allow_special_tokens { &self.full } else { &self.literal };
        let encode = || {
            // English has four bytes a token, and other scripts have fewer tokens than bytes.
            let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
            tokenizer.encode_into(text, &options, &mut tokens).map(|()| tokens)
        };
        match catch_unwind(AssertUnwindSafe(encode)) {
            // In place: a token is its id.
            Ok(Ok(tokens)) => Ok(tokens.into_iter().map(u32::from).collect()),
            Ok(Err(error)) => Err(Fault::Refused(error.to_string())),
            Err(_) => Err(Fault::Panicked),
        }
    }
}

/// Why the encoder gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not take the text, or the tokenizer's definition after all.
    Refused(String),
    /// It has a fault.
    Panicked,
}

fn pipeline(mut definition: Value) -> Result<PipelineTokenizer, String> {
    if let Some(definition) = definition.as_object_mut() {
        for part in ["post_processor", "padding", "truncation"] {
            definition.insert(part.to_owned(), Value::Null);
        }
    }
    canonicalize_value(&mut definition).map_err(|error| error.to_string())?;
    from_json(&definition.to_string()).map_err(|error| error.to_string())
}
