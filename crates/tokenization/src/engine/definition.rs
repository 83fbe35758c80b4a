//! What defines the tokenizer of a model folder: one of the files that tokenizers come in, as the JSON of a `tokenizer.json`.

use std::collections::BTreeMap;

use quintet_onnx::{Error, ModelFolder};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::formats::{
    Format, detect, sentencepiece,
    tiktoken::{Pattern, Tiktoken},
};

/// Hugging Face's own file.
const JSON: &str = "tokenizer.json";

/// How files of tiktoken end.
const TIKTOKEN: &str = ".tiktoken";

/// Names of SentencePiece's files; Llama 3 has a file of tiktoken under the first.
const MODELS: [&str; 3] = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];

/// What transformers writes beside them.
const CONFIGURATION: &str = "tokenizer_config.json";
const ADDED: &str = "added_tokens.json";

/// The table [tokenizer] of `quintet.toml`: what the files do not say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Section {
    /// The file that defines it; empty = the first there is of tokenizer.json, one of tiktoken's, one of SentencePiece's.
    file: String,
    /// How a tiktoken vocabulary splits text: the name of an encoding, or a regular expression. Needed unless the file's name
    /// tells.
    pattern: String,
    /// The special tokens of a tiktoken vocabulary, each with its id.
    special_tokens: BTreeMap<String, u32>,
    /// Take a SentencePiece model even where it is known that some texts get other tokens than with the original.
    allow_inexact: bool,
}

/// A tokenizer's definition.
#[derive(Debug)]
pub(crate) struct Definition {
    /// The `tokenizer.json`.
    pub(crate) json: String,
    /// `tokenizer_config.json`; null where there is none.
    pub(crate) configuration: Value,
    /// The file that it comes from.
    pub(crate) file: String,
    /// SHA-256 of that file in hexadecimal.
    pub(crate) sha256: String,
}

/// Whether a folder has a tokenizer.
pub(crate) fn has(folder: &ModelFolder) -> bool {
    file(folder).is_some()
}

fn file(folder: &ModelFolder) -> Option<&str> {
    let find = |holds: &dyn Fn(&str) -> bool| folder.files().find(|file| holds(file));
    find(&|file| file == JSON).or_else(|| find(&|file| file.ends_with(TIKTOKEN))).or_else(|| find(&|file| MODELS.contains(&file)))
}

impl Definition {
    /// Reads the definition of a folder that has one.
    pub(crate) fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let section: Section = folder.tokenizer_section()?;
        let file = match section.file.as_str() {
            "" => file(folder).ok_or_else(|| folder.broken(JSON, "it is not there, nor is another file that defines a tokenizer"))?,
            file => file,
        };
        let configuration = read_json(folder, CONFIGURATION)?;
        let bytes = folder.read(file)?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let json = if has_json_name(file) {
            String::from_utf8(bytes).map_err(|error| folder.broken(file, error.to_string()))?
        } else {
            converted(folder, file, &bytes, &configuration, &section)?
        };
        Ok(Self { json, configuration, file: file.to_owned(), sha256 })
    }
}

fn has_json_name(file: &str) -> bool {
    std::path::Path::new(file).extension().is_some_and(|extension| extension == "json")
}

fn read_json(folder: &ModelFolder, file: &str) -> Result<Value, Error> {
    if !folder.has(file) {
        return Ok(Value::Null);
    }
    serde_json::from_str(&folder.read_to_string(file)?).map_err(|error| folder.broken(file, error.to_string()))
}

fn converted(folder: &ModelFolder, file: &str, bytes: &[u8], configuration: &Value, section: &Section) -> Result<String, Error> {
    let broken = |reason: String| folder.broken(file, reason);
    match detect(bytes) {
        Format::Tiktoken => {
            let known = Tiktoken::by_file_name(file);
            let pattern = match section.pattern.as_str() {
                "" => known.as_ref().map(|known| known.pattern.clone()).ok_or_else(|| {
                    broken(
                        "it is a tiktoken vocabulary, and nothing says how it splits text: [tokenizer] needs `pattern`, such as \"cl100k_base\""
                            .to_owned(),
                    )
                })?,
                name => Pattern::by_name(name).unwrap_or_else(|| Pattern::Regex(name.to_owned())),
            };
            let special_tokens = if section.special_tokens.is_empty() {
                known.map(|known| known.special_tokens).unwrap_or_default()
            } else {
                section.special_tokens.iter().map(|(token, id)| (token.clone(), *id)).collect()
            };
            Tiktoken { pattern, special_tokens }.convert(bytes).map(|json| json.to_string()).map_err(|error| broken(error.to_string()))
        }
        Format::SentencePiece => {
            let added = read_json(folder, ADDED)?;
            let options = sentencepiece::Options {
                tokenizer_config: (!configuration.is_null()).then_some(configuration),
                added_tokens: (!added.is_null()).then_some(&added),
                allow_inexact: section.allow_inexact,
            };
            let converted = sentencepiece::convert(bytes, options).map_err(|error| broken(error.to_string()))?;
            for difference in &converted.differences {
                tracing::warn!(model = folder.id(), difference, "the tokenizer is not quite SentencePiece's");
            }
            Ok(converted.json.to_string())
        }
        Format::Unknown => Err(broken("it is neither a SentencePiece model nor a tiktoken vocabulary".to_owned())),
    }
}
