use quintet_onnx::ModelFolder;
use serde::Deserialize;

use crate::Error;

/// How an encoder–decoder's graphs take an input and the text so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// Written by `scripts/export/text.py`: an input without padding; a step of many rows, whose caches stay in place.
    Slots,
    /// Written by Optimum and others: an input with a mask; the past is given and comes out longer, so that each step copies it, and
    /// texts take turns.
    #[default]
    Concat,
}

/// The table `[seq2seq]` of a model folder: its graphs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    /// What reads an input.
    pub(super) encoder: String,
    /// What takes a step, or, where there is another for those with a past, the first one.
    pub(super) decoder: String,
    /// Of form "concat": the graph of the steps after the first, where `decoder` takes no past.
    pub(super) decoder_with_past: Option<String>,
    #[serde(default)]
    pub(super) form: Form,
    /// Whether a row's bits do not depend on what shares its step.
    #[serde(default = "holds")]
    pub(super) batch_invariant: bool,
}

fn holds() -> bool {
    true
}

/// Optimum's names of the graphs, and where transformers.js puts them.
const ENCODER: &str = "encoder_model.onnx";
const MERGED: &str = "decoder_model_merged.onnx";
const FIRST: &str = "decoder_model.onnx";
const LATER: &str = "decoder_with_past_model.onnx";
const PLACES: [&str; 2] = ["", "onnx/"];

impl Files {
    /// What the folder says in `[seq2seq]`; where it has no `quintet.toml`, what the files in it are.
    pub(super) fn of(folder: &ModelFolder) -> Result<Self, Error> {
        if !folder.is_bare() {
            return folder.section().map_err(Error::from);
        }
        let found = |name: &str| PLACES.iter().map(|place| format!("{place}{name}")).find(|file| folder.has(file));
        let missing = |name: &str| folder.broken("quintet.toml", format!("it is missing, and so is the graph {name}"));
        let encoder = found(ENCODER).ok_or_else(|| missing(ENCODER))?;
        let (decoder, decoder_with_past) = match found(MERGED) {
            Some(merged) => (merged, None),
            None => (found(FIRST).ok_or_else(|| missing(MERGED))?, Some(found(LATER).ok_or_else(|| missing(LATER))?)),
        };
        Ok(Self { encoder, decoder, decoder_with_past, form: Form::Concat, batch_invariant: true })
    }
}
