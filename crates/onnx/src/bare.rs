//! Folders without a manifest, as other tools write them: what each is, by the files in it.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{
    folder::{CAUSAL_LM_KIND, GRAPH_KIND, TOKENIZER_KIND},
    repository::is_plain,
};

/// A bare graph, as Triton's repositories hold them.
const GRAPH: &str = "model.onnx";

/// Where transformers.js keeps a model's graphs.
const ONNX: &str = "onnx";

/// The names of the files that make a folder with nothing but a tokenizer, as they are found beside models everywhere.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "tokenizer.model"];
const TIKTOKEN: &str = ".tiktoken";

/// onnxruntime-genai's description of a decoder.
const GENAI: &str = "genai_config.json";

/// Hugging Face's description of a model, of which only the class is of interest here.
const CONFIG: &str = "config.json";
const MAX_CONFIG_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architectures: Vec<String>,
}

/// What a folder without a manifest is.
pub(crate) fn kind(path: &Path) -> Option<&'static str> {
    let has = |name: &str| path.join(name).is_file();
    let graphs = [path.join(ONNX), path.to_owned()];
    let has_graph = || graphs.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten().any(|file| is_graph(&file.path()));
    if has(GENAI) || (is_causal_lm(path) && has_graph()) {
        return Some(CAUSAL_LM_KIND);
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

fn is_causal_lm(path: &Path) -> bool {
    let config = path.join(CONFIG);
    let is_small = std::fs::metadata(&config).is_ok_and(|data| data.len() <= MAX_CONFIG_BYTES);
    let config = is_small.then(|| std::fs::read_to_string(&config).ok()).flatten();
    let config: Option<Config> = config.and_then(|text| serde_json::from_str(&text).ok());
    config.is_some_and(|config| config.architectures.iter().any(|class| class.ends_with("ForCausalLM") || class.ends_with("LMHeadModel")))
}

/// The folder's files and those of its `onnx/`, with what shows a change of each: its size and date.
pub(crate) fn files(path: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for (folder, prefix) in [(path.to_owned(), String::new()), (path.join(ONNX), format!("{ONNX}/"))] {
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

/// Whether a file that a folder names lies directly in it, or in its `onnx/`.
pub(crate) fn is_within(name: &str) -> bool {
    is_plain(name.strip_prefix(ONNX).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name))
}
