//! The texts, with the tokens that the model's own tokenizer makes of them.

use std::path::Path;

use serde::Deserialize;

/// A text and its ids.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) ids: Vec<i64>,
}

/// What `models.py` drew.
#[derive(Debug, Deserialize)]
pub(crate) struct Texts {
    /// Of 16 tokens.
    pub(crate) short: Vec<Text>,
    /// Of 8 to 256 tokens.
    pub(crate) mixed: Vec<Text>,
}

pub(crate) fn read(folder: &Path) -> Texts {
    let text = std::fs::read_to_string(folder.join("texts.json")).expect("the texts: scripts/bench makes them");
    serde_json::from_str(&text).expect("the texts")
}
