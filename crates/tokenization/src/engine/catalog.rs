use std::{collections::BTreeMap, sync::Arc};

use quintet_onnx::{ModelFolder, Repository};
use sha2::{Digest, Sha256};

use super::Tokenizer;

/// The file that makes a model folder one with a tokenizer.
const DEFINITION: &str = "tokenizer.json";

/// What transformers writes beside it.
const CONFIGURATION: &str = "tokenizer_config.json";

/// A loaded tokenizer, and where it comes from.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The model's name.
    pub(crate) name: String,
    /// The folder's version.
    pub(crate) version: String,
    /// SHA-256 of `tokenizer.json` in hexadecimal.
    pub(crate) sha256: String,
    /// The tokenizer.
    pub(crate) tokenizer: Tokenizer,
}

impl Entry {
    fn load(folder: &ModelFolder) -> Result<Self, quintet_onnx::Error> {
        let definition = folder.read_to_string(DEFINITION)?;
        let configuration = if folder.has(CONFIGURATION) { Some(folder.read_to_string(CONFIGURATION)?) } else { None };
        let tokenizer = Tokenizer::load(&definition, configuration.as_deref()).map_err(|reason| folder.broken(DEFINITION, reason))?;
        let sha256 = hex::encode(Sha256::digest(&definition));
        Ok(Self { name: folder.name.clone(), version: folder.version.clone(), sha256, tokenizer })
    }
}

/// The loaded tokenizers by name.
#[derive(Debug)]
pub(crate) struct Catalog {
    entries: BTreeMap<String, Arc<Entry>>,
    default: String,
}

impl Catalog {
    /// Loads the tokenizer of every model folder that has one, whatever the model's kind.
    pub(crate) fn load(repository: &Repository, default: &str) -> Result<Self, quintet_onnx::Error> {
        let entries = repository.load(|folder| folder.has(DEFINITION), Entry::load)?;
        Ok(Self::new(entries, default))
    }

    /// A catalog in which an empty name means `default`, or, where that is empty, the first by name.
    pub(crate) fn new(entries: Vec<Entry>, default: &str) -> Self {
        let entries: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.name.clone(), Arc::new(entry))).collect();
        let default = if default.is_empty() { entries.keys().next().cloned().unwrap_or_default() } else { default.to_owned() };
        Self { entries, default }
    }

    /// The tokenizer of this name; empty = the default one.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get(if name.is_empty() { self.default.as_str() } else { name })
    }

    /// The name that an empty name means.
    pub(crate) fn default_name(&self) -> &str {
        &self.default
    }

    /// The names in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// The tokenizers in order of name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
