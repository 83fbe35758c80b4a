use std::sync::Arc;

use quintet_onnx::{Loaded, Missing, Registry};
use quintet_proto::text::v1::{Model as ModelMessage, ModelKind};

use crate::{
    Error,
    engine::{
        Engine,
        encoder::{Encoder, Head},
    },
};

fn kind(engine: &Engine) -> ModelKind {
    match engine {
        Engine::Decoder(_) => ModelKind::CausalLm,
        Engine::Seq2Seq(_) => ModelKind::Seq2seq,
        Engine::Encoder(encoder) => match encoder.head() {
            Head::Tokens { .. } => ModelKind::Encoder,
            Head::MaskedLm { .. } => ModelKind::MaskedLm,
            Head::Classification { .. } => ModelKind::SequenceClassifier,
        },
    }
}

fn kind_in_words(engine: &Engine) -> &'static str {
    match engine {
        Engine::Decoder(_) => "a decoder",
        Engine::Seq2Seq(_) => "an encoder-decoder",
        Engine::Encoder(encoder) => match encoder.head() {
            Head::Tokens { .. } => "an encoder",
            Head::MaskedLm { .. } => "a masked language model",
            Head::Classification { labels, .. } if labels.len() == 1 => "a sequence classifier of one label",
            Head::Classification { .. } => "a sequence classifier",
        },
    }
}

/// The loaded models. Cheap to clone; clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Models {
    registry: Registry<Engine>,
    default: String,
}

impl Models {
    /// `default` is what an empty name means; empty itself, it is the first decoder, else the first model.
    pub(crate) fn new(registry: Registry<Engine>, default: &str) -> Result<Self, Error> {
        if !default.is_empty()
            && !registry.is_empty()
            && let Err(missing) = registry.find(default, "")
        {
            return Err(Error::Setup(format!("text.default_model = {default:?}: {missing}")));
        }
        Ok(Self { registry, default: default.to_owned() })
    }

    /// The model of this name and version, which must be one that can do `action`. An empty name means the default model if
    /// that can, else the first that can.
    pub(crate) fn find(&self, name: &str, version: &str, action: &'static str, able: fn(&Engine) -> bool) -> Result<Arc<Loaded<Engine>>, Error> {
        let all = self.registry.all();
        let mut name = name.to_owned();
        if name.is_empty() {
            let default = self.default_model();
            let mut able = all.iter().filter(|loaded| able(loaded)).map(|loaded| loaded.folder.name.clone());
            let first = able.next();
            name = first.filter(|first| *first != default && !able.any(|name| name == default)).unwrap_or(default);
        }
        let loaded = self.registry.find(&name, version)?;
        if able(&loaded) {
            return Ok(loaded);
        }
        let able = all.iter().filter(|loaded| able(loaded)).map(|loaded| loaded.folder.name.clone());
        Err(Error::WrongKind { model: name, kind: kind_in_words(&loaded), action, able: able.collect() })
    }

    /// What an empty name means; empty where nothing is loaded.
    pub(crate) fn default_model(&self) -> String {
        if !self.default.is_empty() {
            return self.default.clone();
        }
        let all = self.registry.all();
        let first = all.iter().find(|loaded| matches!(loaded.model, Engine::Decoder(_))).or_else(|| all.first());
        first.map(|loaded| loaded.folder.name.clone()).unwrap_or_default()
    }

    pub(crate) fn describe(&self) -> Vec<ModelMessage> {
        let describe = |loaded: &Arc<Loaded<Engine>>| ModelMessage {
            name: loaded.folder.name.clone(),
            version: loaded.folder.version.clone(),
            kind: kind(loaded).into(),
            description: loaded.folder.manifest.description.clone(),
            license: loaded.folder.manifest.license.clone(),
            max_tokens: loaded.max_tokens() as u32,
            provider_nodes: loaded.provider_nodes().iter().map(|(provider, count)| (provider.clone(), *count)).collect(),
            prompt_names: loaded.encoder().map(|encoder| encoder.prompts().keys().cloned().collect()).unwrap_or_default(),
            labels: match loaded.encoder().map(Encoder::head) {
                Some(Head::Classification { labels, .. }) => labels.clone(),
                _ => Vec::new(),
            },
            dimensions: match loaded.encoder().map(Encoder::head) {
                Some(Head::Tokens { dimensions }) => *dimensions as u32,
                _ => 0,
            },
        };
        self.registry.all().iter().map(describe).collect()
    }
}

/// What a model that was found is not after all: nothing that a registry gives leads here.
pub(crate) fn changed_kind(loaded: &Loaded<Engine>) -> Error {
    Error::Missing(Missing::Model { what: "text model", name: loaded.folder.name.clone(), known: Vec::new() })
}
