use std::{collections::BTreeMap, sync::Arc};

use quintet_onnx::ModelFolder;
use quintet_proto::text::v1::{Model as ModelMessage, ModelKind};

use crate::{
    Error,
    engine::{decoder::Decoder, encoder::Encoder, seq2seq::Seq2Seq},
};

/// A loaded model.
pub(crate) struct Model {
    pub(crate) folder: ModelFolder,
    pub(crate) engine: Engine,
}

pub(crate) enum Engine {
    Decoder(Decoder),
    Seq2Seq(Seq2Seq),
    Encoder(Encoder),
}

impl Model {
    pub(crate) fn provider_nodes(&self) -> &BTreeMap<String, u32> {
        match &self.engine {
            Engine::Decoder(decoder) => &decoder.info().provider_nodes,
            Engine::Seq2Seq(pair) => &pair.info().provider_nodes,
            Engine::Encoder(encoder) => encoder.provider_nodes(),
        }
    }

    fn kind(&self) -> ModelKind {
        match self.engine {
            Engine::Decoder(_) => ModelKind::CausalLm,
            Engine::Seq2Seq(_) => ModelKind::Seq2seq,
            Engine::Encoder(_) => ModelKind::Encoder,
        }
    }

    fn kind_in_words(&self) -> &'static str {
        match self.engine {
            Engine::Decoder(_) => "a decoder",
            Engine::Seq2Seq(_) => "an encoder-decoder",
            Engine::Encoder(_) => "an encoder",
        }
    }

    fn max_tokens(&self) -> usize {
        match &self.engine {
            Engine::Decoder(decoder) => decoder.info().context,
            Engine::Seq2Seq(pair) => pair.info().max_tokens,
            Engine::Encoder(encoder) => encoder.max_tokens(),
        }
    }
}

/// The loaded models, in order of name.
#[derive(Clone)]
pub(crate) struct Models(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    models: Vec<Model>,
    default: String,
}

impl Models {
    /// `default` is what an empty name means; empty itself, it is the first decoder, else the first model.
    pub(crate) fn new(models: Vec<Model>, default: &str) -> Result<Self, Error> {
        let first = || models.iter().find(|model| matches!(model.engine, Engine::Decoder(_))).or_else(|| models.first());
        let default = if default.is_empty() { first().map(|model| model.folder.name.clone()).unwrap_or_default() } else { default.to_owned() };
        if !default.is_empty() && !models.iter().any(|model| model.folder.name == default) && !models.is_empty() {
            let known: Vec<&str> = models.iter().map(|model| model.folder.name.as_str()).collect();
            return Err(Error::Setup(format!("text.default_model = {default:?}: no such model; there are: {}", known.join(", "))));
        }
        Ok(Self(Arc::new(Inner { models, default })))
    }

    /// The model of this name that can do `action`: `able` picks its engine. An empty name means the default model
    /// if that can, else the first that can.
    pub(crate) fn find<'a, T>(
        &'a self,
        name: &str,
        action: &'static str,
        able: impl Fn(&'a Engine) -> Option<T>,
    ) -> Result<(&'a ModelFolder, T), Error> {
        let models = &self.0.models;
        if models.is_empty() {
            return Err(Error::NoModel);
        }
        let found = |model: &'a Model| able(&model.engine).map(|engine| (&model.folder, engine));
        if name.is_empty() {
            let default = models.iter().find(|model| model.folder.name == self.0.default).and_then(found);
            if let Some(found) = default.or_else(|| models.iter().find_map(found)) {
                return Ok(found);
            }
        }
        let name = if name.is_empty() { &self.0.default } else { name };
        let Some(model) = models.iter().find(|model| model.folder.name == name) else {
            return Err(Error::UnknownModel { name: name.to_owned(), known: models.iter().map(|model| model.folder.name.clone()).collect() });
        };
        found(model).ok_or_else(|| Error::WrongKind {
            model: name.to_owned(),
            kind: model.kind_in_words(),
            action,
            able: models.iter().filter(|model| able(&model.engine).is_some()).map(|model| model.folder.name.clone()).collect(),
        })
    }

    /// What an empty name means.
    pub(crate) fn default_model(&self) -> &str {
        &self.0.default
    }

    pub(crate) fn describe(&self) -> Vec<ModelMessage> {
        self.0
            .models
            .iter()
            .map(|model| ModelMessage {
                name: model.folder.name.clone(),
                version: model.folder.version.clone(),
                kind: model.kind().into(),
                description: model.folder.manifest.description.clone(),
                license: model.folder.manifest.license.clone(),
                max_tokens: model.max_tokens() as u32,
                provider_nodes: model.provider_nodes().iter().map(|(provider, count)| (provider.clone(), *count)).collect(),
            })
            .collect()
    }
}
