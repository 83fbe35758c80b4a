//! What a folder says of its encoder: `quintet.toml`, and where that is silent the files of sentence-transformers and transformers.

use std::collections::BTreeMap;

use quintet_onnx::{Error as OnnxError, ModelFolder};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    head::HeadKind,
    pooling::{Pooling, SentencePooling},
};
use crate::{Error, engine::read_json};

/// Most tokens of a text where nothing says how many the model takes.
const MOST_TOKENS: usize = 512;

/// A `model_max_length` from here on is a placeholder: transformers writes 1e30 where it knows none.
const NO_LENGTH: f64 = 1e9;

/// Where a graph lies in folders without a manifest.
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// The table `[encoder]` of a model folder.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Section {
    graph: Option<String>,
    head: Option<HeadKind>,
    pooling: Option<Pooling>,
    normalize: Option<bool>,
    dimensions: Option<usize>,
    max_tokens: Option<usize>,
    batch_invariant: Option<bool>,
    prompts: Option<BTreeMap<String, String>>,
    default_prompt_name: Option<String>,
}

/// `modules.json`: the parts of a sentence-transformers model, in order.
#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

/// `config_sentence_transformers.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SentenceConfig {
    prompts: BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

/// `sentence_bert_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Lengths {
    max_seq_length: Option<usize>,
}

/// `tokenizer_config.json`, of which only the length is of interest here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

/// `config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    model_type: String,
    // Some write -1 for what they do not have.
    max_position_embeddings: Option<i64>,
    pad_token_id: Option<i64>,
    hidden_size: Option<usize>,
    dim: Option<usize>,
    id2label: BTreeMap<String, String>,
    problem_type: Option<String>,
}

/// What a folder says of its encoder.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) graph: String,
    /// Where the folder says it; else the graph's outputs do.
    pub(super) head: Option<HeadKind>,
    pub(super) pooling: Pooling,
    pub(super) normalize: bool,
    pub(super) dimensions: Option<usize>,
    pub(super) max_tokens: usize,
    pub(super) batch_invariant: bool,
    pub(super) prompts: BTreeMap<String, String>,
    pub(super) default_prompt_name: Option<String>,
    /// The classes' names by their number.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) problem_type: Option<String>,
}

impl Settings {
    pub(super) fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let section: Section = folder.section()?;
        let config: Config = optional(folder, "config.json")?;
        let sentences: SentenceConfig = optional(folder, "config_sentence_transformers.json")?;
        let modules: Vec<Module> = optional(folder, "modules.json")?;
        let (pooling, normalize) = assembled(folder, &modules)?;
        let graph = match section.graph {
            Some(graph) => graph,
            None => GRAPHS
                .iter()
                .find(|graph| folder.has(graph))
                .map(|graph| (*graph).to_owned())
                .ok_or_else(|| folder.broken(GRAPHS[0], format!("it is missing: an encoder's graph is {}", GRAPHS.join(" or "))))?,
        };
        let max_tokens = match section.max_tokens {
            Some(most) => most,
            None => max_tokens(folder, &config)?,
        };
        if max_tokens == 0 {
            return Err(folder.broken("quintet.toml", "encoder.max_tokens = 0: must be at least 1").into());
        }
        let prompts = section.prompts.unwrap_or(sentences.prompts);
        let default_prompt_name = section.default_prompt_name.or(sentences.default_prompt_name);
        if let Some(name) = default_prompt_name.as_ref().filter(|name| !prompts.contains_key(*name)) {
            return Err(folder.broken("config_sentence_transformers.json", format!("default_prompt_name {name:?} is not among its prompts")).into());
        }
        Ok(Self {
            graph,
            head: section.head,
            pooling: section.pooling.or(pooling).unwrap_or(Pooling::Mean),
            normalize: section.normalize.unwrap_or(normalize),
            dimensions: section.dimensions.or(config.hidden_size).or(config.dim),
            max_tokens,
            batch_invariant: section.batch_invariant.unwrap_or(true),
            prompts,
            default_prompt_name,
            labels: config.id2label,
            problem_type: config.problem_type,
        })
    }
}

/// The pooling that sentence-transformers' files ask for, and whether the vectors are scaled to length 1.
fn assembled(folder: &ModelFolder, modules: &[Module]) -> Result<(Option<Pooling>, bool), Error> {
    let (mut pooling, mut normalize) = (None, false);
    for module in modules {
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "MLMTransformer" | "SpladePooling" | "CrossEncoder" => {}
            "Normalize" => normalize = true,
            "Pooling" => {
                let file = format!("{}/config.json", module.path);
                let config: SentencePooling = read_json(folder, &file)?;
                pooling = Some(config.pooling().map_err(|reason| folder.broken(&file, reason))?);
            }
            // Left out in silence, the vectors would be others.
            kind => return Err(folder.broken("modules.json", format!("the module {kind:?} is not supported")).into()),
        }
    }
    Ok((pooling, normalize))
}

/// The most tokens of a text: as few as any of the files says.
fn max_tokens(folder: &ModelFolder, config: &Config) -> Result<usize, Error> {
    let lengths: Lengths = optional(folder, "sentence_bert_config.json")?;
    let tokenizer: TokenizerConfig = optional(folder, "tokenizer_config.json")?;
    let named = tokenizer.model_max_length.filter(|length| (1.0..NO_LENGTH).contains(length)).map(|length| length as usize);
    // RoBERTa and MPNet begin to count behind their padding token's id.
    let counts_late = ["camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"].contains(&config.model_type.as_str());
    let skipped = if counts_late { config.pad_token_id.unwrap_or(1).saturating_add(1) } else { 0 };
    let positions = config.max_position_embeddings.map(|positions| positions.saturating_sub(skipped)).filter(|positions| *positions > 0);
    let positions = positions.and_then(|positions| usize::try_from(positions).ok());
    Ok([lengths.max_seq_length, named, positions].into_iter().flatten().min().unwrap_or(MOST_TOKENS))
}

/// A folder's JSON file, or what its absence means.
fn optional<T: Default + DeserializeOwned>(folder: &ModelFolder, file: &str) -> Result<T, Error> {
    if folder.has(file) { read_json(folder, file) } else { Ok(T::default()) }
}

/// The names of a classifier's classes by their number; "LABEL_" and the number where there is none.
pub(super) fn label_names(folder: &ModelFolder, names: &BTreeMap<String, String>, count: usize) -> Result<Vec<String>, OnnxError> {
    if names.len() > count {
        return Err(folder.broken("config.json", format!("id2label has {} names, the graph {count} classes", names.len())));
    }
    Ok((0..count).map(|index| names.get(&index.to_string()).cloned().unwrap_or_else(|| format!("LABEL_{index}"))).collect())
}
