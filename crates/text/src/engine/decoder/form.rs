use std::fmt;

use quintet_onnx::{Error, ModelFolder};
use serde::Deserialize;

/// How a decoder's graph takes its tokens and its past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// Written by `scripts/export/text.py`: tokens one after the other, the head on the rows that are asked for, the past in
    /// place.
    Packed,
    /// Written by onnxruntime-genai's model builder: `[rows, tokens]` with a mask, the past in place.
    Builder,
    /// Written by Optimum, transformers.js and others: `[rows, tokens]` with a mask; the past is given and comes out longer, so
    /// that each step copies it.
    Concat,
}

impl Form {
    /// The inputs that every graph of this form has, besides the past.
    pub(super) fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Packed => &["input_ids", "pad_index", "unpad_index", "logit_index", "seqlens_k", "total_sequence_length"],
            Self::Builder | Self::Concat => &["input_ids", "attention_mask"],
        }
    }

    /// Whether this is an input that a graph of this form may have.
    pub(super) fn knows(self, input: &str) -> bool {
        let optional: &[&str] = match self {
            Self::Packed => &["query_seqlens", "position_ids"],
            Self::Builder => &["position_ids"],
            Self::Concat => &["position_ids", "use_cache_branch"],
        };
        self.inputs().contains(&input) || optional.contains(&input)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Packed => "packed",
            Self::Builder => "builder",
            Self::Concat => "concat",
        })
    }
}

/// The table `[causal_lm]` of a model folder: its graphs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    /// The graph.
    pub(super) graph: String,
    /// How it takes its tokens and its past.
    pub(super) form: Form,
    /// Another graph of the same model and form for single decode steps, where one is quicker at those: with weights in blocks,
    /// say.
    pub(super) decode_graph: Option<String>,
    /// A smaller decoder of the same tokenizer that drafts for this one, by its folder's name in the repository.
    pub(super) draft: Option<String>,
    /// Whether a row's bits do not depend on what shares its run. Where they do, the model is never exact.
    #[serde(default = "holds")]
    pub(super) batch_invariant: bool,
}

fn holds() -> bool {
    true
}

/// What onnxruntime-genai's builder writes of a model.
pub(super) const GENAI: &str = "genai_config.json";

/// What it says of the graph, in its own names.
#[derive(Deserialize)]
struct GenaiConfig {
    model: GenaiModel,
}

#[derive(Deserialize)]
struct GenaiModel {
    decoder: GenaiDecoder,
}

#[derive(Deserialize)]
struct GenaiDecoder {
    filename: String,
}

/// Where Optimum and transformers.js put a decoder's graph, the best first.
const CONCAT_FILES: [&str; 4] = ["decoder_model_merged.onnx", "model.onnx", "onnx/decoder_model_merged.onnx", "onnx/model.onnx"];

impl Files {
    /// What the folder says in `[causal_lm]`; where it has no `quintet.toml`, what the files in it are.
    pub(super) fn of(folder: &ModelFolder) -> Result<Self, Error> {
        if !folder.is_bare() {
            return folder.section();
        }
        if folder.has(GENAI) {
            let config: GenaiConfig =
                serde_json::from_str(&folder.read_to_string(GENAI)?).map_err(|error| folder.broken(GENAI, error.to_string()))?;
            return Ok(Self { graph: config.model.decoder.filename, form: Form::Builder, decode_graph: None, draft: None, batch_invariant: true });
        }
        let graph = CONCAT_FILES.into_iter().find(|file| folder.has(file));
        let graph = graph.ok_or_else(|| folder.broken("quintet.toml", format!("it is missing, and so is a graph: {}", CONCAT_FILES.join(", "))))?;
        Ok(Self { graph: graph.to_owned(), form: Form::Concat, decode_graph: None, draft: None, batch_invariant: true })
    }
}
