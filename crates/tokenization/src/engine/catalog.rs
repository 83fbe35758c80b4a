use std::{sync::Arc, time::Duration};

use quintet_onnx::{Loaded, Missing, ModelFolder, Registry, Repository};

use super::{
    Tokenizer,
    chat::Templates,
    definition::{self, Definition},
};
use crate::Config;

/// Where transformers puts the templates of older models.
const CONFIGURATION: &str = "tokenizer_config.json";

/// Where transformers puts the chat template, and where more of them.
const TEMPLATE: &str = "chat_template.jinja";
const MORE_TEMPLATES: &str = "additional_chat_templates/";

/// How long a replaced tokenizer can still be asked for by its version: longer than any text takes that was begun with it.
const LINGER: Duration = Duration::from_mins(10);

/// A loaded tokenizer, and where it comes from.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The model's name.
    pub(crate) name: String,
    /// The folder's version.
    pub(crate) version: String,
    /// SHA-256 of the file that defines it, in hexadecimal.
    pub(crate) sha256: String,
    /// The tokenizer.
    pub(crate) tokenizer: Tokenizer,
    /// How it writes conversations down, if it can.
    pub(crate) templates: Option<Templates>,
}

impl Entry {
    fn load(folder: &ModelFolder, fast_encoder: bool, chat_work: u64) -> Result<Self, quintet_onnx::Error> {
        let Definition { json, configuration, file, sha256 } = Definition::read(folder)?;
        let tokenizer = Tokenizer::load(&json, &configuration).map_err(|reason| folder.broken(&file, reason))?;
        let tokenizer = if fast_encoder { tokenizer } else { tokenizer.complete_only() };
        let templates = Templates::load(&configuration, template_files(folder)?, chat_work).map_err(|reason| folder.broken(CONFIGURATION, reason))?;
        tracing::info!(model = folder.id(), vocabulary = tokenizer.vocabulary_size(), fast = tokenizer.is_fast(), "a tokenizer is ready");
        Ok(Self { name: folder.name.clone(), version: folder.version.clone(), sha256, tokenizer, templates })
    }
}

/// The chat templates that stand in files of their own, with the name of each.
fn template_files(folder: &ModelFolder) -> Result<Vec<(String, String)>, quintet_onnx::Error> {
    let mut files = Vec::new();
    if folder.has(TEMPLATE) {
        files.push(("default".to_owned(), folder.read_to_string(TEMPLATE)?));
    }
    for file in folder.files().map(str::to_owned).collect::<Vec<_>>() {
        let name = file.strip_prefix(MORE_TEMPLATES).and_then(|name| name.strip_suffix(".jinja"));
        if let Some(name) = name {
            files.push((name.to_owned(), folder.read_to_string(&file)?));
        }
    }
    Ok(files)
}

/// The loaded tokenizers. Cheap to clone; clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    registry: Registry<Entry>,
    default: String,
}

impl Catalog {
    /// Loads the tokenizer of every model folder that has one, whatever the model's kind. An empty name then means
    /// the configured default, or, where that is empty, the first by name.
    pub(crate) fn load(repository: &Repository, config: &Config) -> Result<Self, quintet_onnx::Error> {
        let (fast_encoder, chat_work) = (config.fast_encoder, config.chat_template_work);
        let load = move |folder: &ModelFolder| Entry::load(folder, fast_encoder, chat_work);
        let registry = Registry::open_lingering("tokenizer", repository, definition::has, LINGER, load)?;
        Ok(Self { registry, default: config.default_model.clone() })
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
