//! Folders without a manifest, as other tools write them: what each is, by the files in it.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{
    folder::{CAUSAL_LM_KIND, ENCODER_KIND, GRAPH_KIND, SEQ2SEQ_KIND, TOKENIZER_KIND},
    repository::is_plain,
};

/// A bare graph, as Triton's repositories hold them.
const GRAPH: &str = "model.onnx";

/// Where transformers.js keeps a model's graphs.
const ONNX: &str = "onnx";

/// Folders in a model's folder whose files belong to it: transformers.js' graphs, and how sentence-transformers pools.
const WITHIN: [&str; 2] = [ONNX, "1_Pooling"];

/// The names of the files that make a folder with nothing but a tokenizer, as they are found beside models everywhere.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "tokenizer.model"];
const TIKTOKEN: &str = ".tiktoken";

/// onnxruntime-genai's description of a decoder.
const GENAI: &str = "genai_config.json";

/// Optimum's name for the graph that reads an encoder–decoder's input.
const ENCODER: &str = "encoder_model.onnx";

/// sentence-transformers' description of what its models are made of.
const MODULES: &str = "modules.json";

/// Encoders, by transformers' `model_type`, that need no head to be of use.
const ENCODERS: [&str; 12] =
    ["albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "nomic_bert", "roberta", "xlm-roberta"];

/// Hugging Face's description of a model, of which only the class and the type are of interest here.
const CONFIG: &str = "config.json";
const MAX_CONFIG_BYTES: u64 = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    architectures: Vec<String>,
    model_type: String,
    is_encoder_decoder: bool,
}

/// What a folder without a manifest is.
pub(crate) fn kind(path: &Path) -> Option<&'static str> {
    let has = |name: &str| path.join(name).is_file();
    let graphs = [path.join(ONNX), path.to_owned()];
    let has_graph = || graphs.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten().any(|file| is_graph(&file.path()));
    let config = config(path);
    if has(GENAI) || (config.is_causal_lm() && has_graph()) {
        return Some(CAUSAL_LM_KIND);
    }
    if config.is_encoder_decoder && graphs.iter().any(|folder| folder.join(ENCODER).is_file()) {
        return Some(SEQ2SEQ_KIND);
    }
    let is_encoder = config.is_encoder() || (has(MODULES) && !config.architectures.is_empty());
    if is_encoder && graphs.iter().any(|folder| folder.join(GRAPH).is_file()) {
        return Some(ENCODER_KIND);
    }
    if has(GRAPH) {
        return Some(GRAPH_KIND);
    }
    let is_tokenizer = |name: &str| TOKENIZERS.contains(&name) || name.ends_with(TIKTOKEN);
    let mut files = std::fs::read_dir(path).ok()?.flatten();
    files.any(|file| file.file_name().to_str().is_some_and(is_tokenizer) && file.path().is_file()).then_some(TOKENIZER_KIND)
}

fn is_graph(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "onnx") && path.is_file()
}

fn config(path: &Path) -> Config {
    let config = path.join(CONFIG);
    let is_small = std::fs::metadata(&config).is_ok_and(|data| data.len() <= MAX_CONFIG_BYTES);
    let config = is_small.then(|| std::fs::read_to_string(&config).ok()).flatten();
    config.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

impl Config {
    fn is_causal_lm(&self) -> bool {
        self.architectures.iter().any(|class| class.ends_with("ForCausalLM") || class.ends_with("LMHeadModel"))
    }

    fn is_encoder(&self) -> bool {
        let has_head = |class: &String| class.ends_with("ForMaskedLM") || class.ends_with("ForSequenceClassification");
        self.architectures.iter().any(has_head)
            || (ENCODERS.contains(&self.model_type.as_str()) && self.architectures.iter().all(|class| class.ends_with("Model")))
    }
}

/// The folder's files and those of the folders in it that count, with what shows a change of each: its size and date.
pub(crate) fn files(path: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let within = WITHIN.iter().map(|name| (path.join(name), format!("{name}/")));
    for (folder, prefix) in std::iter::once((path.to_owned(), String::new())).chain(within) {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let data = std::fs::metadata(entry.path())?;
            if let Some(name) = entry.file_name().to_str().filter(|name| is_plain(name) && data.is_file()) {
                files.insert(format!("{prefix}{name}"), format!("{} {:?}", data.len(), data.modified().ok()));
            }
        }
    }
    Ok(files)
}

/// Whether a file that a folder names lies directly in it, or in a folder in it that counts.
pub(crate) fn is_within(name: &str) -> bool {
    let inner = WITHIN.iter().find_map(|folder| name.strip_prefix(folder)?.strip_prefix('/'));
    is_plain(inner.unwrap_or(name))
}
