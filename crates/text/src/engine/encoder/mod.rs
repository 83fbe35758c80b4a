//! Encoders: token ids to embeddings, classes, or tokens for masks.
//!
//! Texts of one length run together, without padding, so that a text's bits are its own; a text of another length runs alone. That costs
//! little: from some dozens of tokens on, the processor does as many tokens a second with one text as with many. Folders whose graph takes
//! a mask may allow some padding (`serving.max_padding`), at the price of last bits.

mod head;
mod pooling;
mod run;
mod settings;
pub mod vector;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ndarray::Array2;
use quintet_batching::{Ask, Batcher, Limits, Work, apart};
use quintet_onnx::{Cancel, Error as OnnxError, GraphInfo, Instances, ModelFolder, Runtime, Session};
use quintet_open_inference::Graph;

use self::{
    run::{Found, Text, Want, run},
    settings::Settings,
};
use crate::{Config, Error};

pub use head::{Activation, Head, sigmoid};
pub use run::Masks;

/// Rows of raw requests that run together.
const RAW_ROWS: usize = 64;

/// Batches that may wait for an instance: more than are ever handed out.
const CAPACITY: usize = 1024;

/// The most logits over a vocabulary in one run: 128 MiB. A text that has more runs alone.
const MOST_LOGITS: usize = 1 << 25;

type Answer = Result<Found, Arc<OnnxError>>;

/// A text as a model reads it.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// The ids of its tokens; at most [`Encoder::max_tokens`].
    pub ids: Vec<u32>,
    /// 0 for the first text of a pair and 1 for the second; empty where all are 0.
    pub types: Vec<u32>,
}

/// A tokenizer's mask: its id, and how it is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// The id.
    pub id: u32,
    /// The spelling.
    pub content: String,
}

/// What an encoder's tokenizer says of its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// How many ids it has: 0 to one less. The graph may have rows for more.
    pub size: u32,
    /// The ids of its special tokens, ascending.
    pub special_ids: Vec<u32>,
    /// Its mask, if it has one.
    pub mask: Option<Mask>,
}

/// A loaded encoder.
#[derive(Debug)]
pub struct Encoder {
    batcher: Batcher<Text, Answer>,
    settings: Settings,
    head: Head,
    graphs: Vec<Graph>,
    provider_nodes: BTreeMap<String, u32>,
    vocabulary: OnceLock<Vocabulary>,
    max_queue_tokens: usize,
}

impl Encoder {
    /// Loads an encoder.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, verify: bool) -> Result<Self, Error> {
        let folder = &folder.arranged(config.instances);
        let settings = Settings::read(folder)?;
        let instances = folder.instances();
        let (opened, runtime, file) = (folder.clone(), runtime.clone(), settings.graph.clone());
        // A bare folder has nothing to be held against.
        let verify = verify && !folder.is_bare();
        let open = move |is_first: bool| -> Result<(Session, GraphInfo), Error> {
            let session = Session::of(&opened, &file, &runtime, verify && is_first)?;
            let info = session.info();
            Ok((session, info))
        };
        let (instances, info) = Instances::spawn(&folder.name, instances, CAPACITY, open)?;
        let instances = Arc::new(instances);
        let (head, plan) = head::read(folder, &settings, &info)?;
        let limits = limits(folder, config, &settings, &head);
        if limits.max_padding > 0.0 && !plan.takes_mask {
            let reason = "serving.max_padding: the graph takes no attention_mask, so that nothing may be filled up";
            return Err(folder.broken("quintet.toml", reason).into());
        }
        let provider_nodes = info.provider_nodes.clone();
        let raw = Arc::clone(&instances);
        // A raw row may be as long as its client likes, so few of them run together.
        let rows = Limits { max_batch_cost: limits.max_batch_cost.min(RAW_ROWS), ..limits.clone() };
        let graph = Graph::new(folder, info, rows, move |job| raw.submit_cancellable(job));
        let (plan, model) = (Arc::new(plan), folder.name.clone());
        let max_queue_tokens = limits.max_queue_cost;
        let batcher = Batcher::new(&folder.name, limits, move |work: Work<Text, Answer>| {
            let plan = Arc::clone(&plan);
            let job = move |session: &mut Session, cancel: &Cancel| {
                let cancel = cancel.clone();
                work.run(
                    move || cancel.cancel(),
                    |batch| {
                        let run = |texts: &[Text]| run(session, &plan, texts).map_err(Arc::new);
                        apart(&batch.requests, run, |error| matches!(**error, OnnxError::Cancelled))
                    },
                );
            };
            if instances.submit_cancellable(job).is_err() {
                tracing::error!(model, "the model's threads take no work");
            }
        });
        Ok(Self { batcher, settings, head, graphs: vec![graph], provider_nodes, vocabulary: OnceLock::new(), max_queue_tokens })
    }

    /// The most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.settings.max_tokens
    }

    /// What the model has behind its layers.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether embeddings are scaled to length 1 unless a request says otherwise.
    pub fn normalizes(&self) -> bool {
        self.settings.normalize
    }

    /// What may stand in front of texts, by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        &self.settings.prompts
    }

    /// The name of what stands in front of texts unless a request says otherwise.
    pub fn default_prompt_name(&self) -> Option<&str> {
        self.settings.default_prompt_name.as_deref()
    }

    /// The most tokens that may wait for it; a text that alone has more waits where nothing else does.
    pub fn max_queue_tokens(&self) -> usize {
        self.max_queue_tokens
    }

    /// Where what the tokenizer says is kept once somebody has asked for it.
    pub fn vocabulary(&self) -> &OnceLock<Vocabulary> {
        &self.vocabulary
    }

    /// How many nodes each provider runs.
    pub fn provider_nodes(&self) -> &BTreeMap<String, u32> {
        &self.provider_nodes
    }

    pub(crate) fn graphs(&self) -> &[Graph] {
        &self.graphs
    }

    /// The embedding of a text. `ask` says when it is to be run, here and below.
    pub async fn embed(&self, tokens: Tokens, ask: Ask) -> Result<Vec<f32>, Error> {
        match self.find(tokens, Want::Pooled(self.settings.pooling), ask).await? {
            Found::Vector(vector) => self.whole(vector.len()).map(|()| vector),
            _ => Err(Error::Ended),
        }
    }

    /// The vectors of a text's tokens `[tokens, dimensions]`.
    pub async fn embed_tokens(&self, tokens: Tokens, ask: Ask) -> Result<Array2<f32>, Error> {
        match self.find(tokens, Want::Tokens, ask).await? {
            Found::Vectors(vectors) => self.whole(vectors.ncols()).map(|()| vectors),
            _ => Err(Error::Ended),
        }
    }

    /// A text's weights over the vocabulary, those above 0, by ascending id.
    pub async fn embed_sparse(&self, tokens: Tokens, ask: Ask) -> Result<Vec<(u32, f32)>, Error> {
        match self.find(tokens, Want::Sparse, ask).await? {
            Found::Sparse(weights) => Ok(weights),
            _ => Err(Error::Ended),
        }
    }

    /// The logits of a text's classes.
    pub async fn classify(&self, tokens: Tokens, ask: Ask) -> Result<Vec<f32>, Error> {
        match self.find(tokens, Want::Classes, ask).await? {
            Found::Vector(logits) => Ok(logits),
            _ => Err(Error::Ended),
        }
    }

    /// The likeliest tokens for each mask with their probabilities, likeliest first.
    pub async fn fill_masks(&self, tokens: Tokens, masks: Masks, ask: Ask) -> Result<Vec<Vec<(u32, f32)>>, Error> {
        match self.find(tokens, Want::Masks(masks), ask).await? {
            Found::Masks(masks) => Ok(masks),
            _ => Err(Error::Ended),
        }
    }

    async fn find(&self, tokens: Tokens, want: Want, ask: Ask) -> Result<Found, Error> {
        let ask = Ask { width: tokens.ids.len(), ..ask };
        let text = Text { ids: tokens.ids, types: tokens.types, want };
        self.batcher.submit(text, ask).await?.map_err(Error::Run)
    }

    /// Whether a vector has as many values as the model says.
    fn whole(&self, length: usize) -> Result<(), Error> {
        match self.head {
            Head::Tokens { dimensions } if dimensions != length => {
                let message = format!("{length} dimensions, the folder says {dimensions}");
                Err(OnnxError::Runtime { doing: "embed".to_owned(), message }.into())
            }
            _ => Ok(()),
        }
    }
}

/// How many tokens run together and may wait.
fn limits(folder: &ModelFolder, config: &Config, settings: &Settings, head: &Head) -> Limits {
    let serving = &folder.manifest.serving;
    let most = serving.max_batch_rows.unwrap_or(config.max_batch_tokens);
    let most = match head {
        // Where rows mix, each text runs alone.
        _ if !settings.batch_invariant => 1,
        Head::MaskedLm { vocabulary } => most.min((MOST_LOGITS / vocabulary).max(1)),
        _ => most,
    };
    Limits {
        max_delay: Duration::from_secs_f64(serving.max_delay_ms.unwrap_or(0.0) / 1e3),
        preferred_rows: serving.preferred_batch_rows.clone(),
        instances: folder.instances(),
        // Without padding only texts of one length run together, and a text's bits are its own.
        max_padding: serving.max_padding.unwrap_or(0.0),
        ..Limits::rows(most, serving.max_queue_rows.unwrap_or(config.max_queue_tokens))
    }
}
