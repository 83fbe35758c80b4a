use std::{sync::Arc, time::Duration};

use quintet_onnx::{Loaded, Missing, ModelFolder, Registry, Repository};
use sha2::{Digest, Sha256};

use super::Tokenizer;

/// The file that makes a model folder one with a tokenizer.
const DEFINITION: &str = "tokenizer.json";

/// What transformers writes beside it.
const CONFIGURATION: &str = "tokenizer_config.json";

/// How long a replaced tokenizer can still be asked for by its version: longer than any text takes that was begun with it.
const LINGER: Duration = Duration::from_mins(10);

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
        tracing::info!(model = folder.id(), vocabulary = tokenizer.vocabulary_size(), "a tokenizer is ready");
        Ok(Self { name: folder.name.clone(), version: folder.version.clone(), sha256, tokenizer })
    }
}

/// The loaded tokenizers. Cheap to clone; clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    registry: Registry<Entry>,
    default: String,
}

impl Catalog {
    /// Loads the tokenizer of every model folder that has one, whatever the model's kind. An empty name then means
    /// `default`, or, where that is empty, the first by name.
    pub(crate) fn load(repository: &Repository, default: &str) -> Result<Self, quintet_onnx::Error> {
        let registry = Registry::open_lingering("tokenizer", repository, |folder| folder.has(DEFINITION), LINGER, Entry::load)?;
        Ok(Self { registry, default: default.to_owned() })
    }

    /// The tokenizer of this name and version; empty = the default one, and the highest.
    pub(crate) fn get(&self, name: &str, version: &str) -> Result<Arc<Loaded<Entry>>, Missing> {
        self.registry.pick(name, &self.default, version)
    }

    /// The tokenizers in order of name and version.
    pub(crate) fn all(&self) -> Vec<Arc<Loaded<Entry>>> {
        self.registry.all()
    }

    /// The tokenizers, as whoever manages models sees them.
    pub(crate) fn registry(&self) -> &Registry<Entry> {
        &self.registry
    }
}
