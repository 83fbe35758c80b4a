//! Decoders: many sequences over one session.
//!
//! One thread owns the session and the key–value cache, which is divided into rows. Again and again it runs a chunk of the
//! prompt that is first in rank, if there is one, then the next token of every sequence that decodes, and draws from the
//! logits. Sequences join and leave between runs.
//!
//! What must hold:
//!
//! * A sequence's bytes do not depend on what ran beside it, how its prompt was cut into chunks, how much of it was known
//!   already, or whether it lost its row for a while: the graph's linear layers see each token alone, the attention sees each
//!   row alone, a prompt's tokens are always run as a prompt's (see [`chunks`]) and generated ones always step by step, only
//!   prompts' keys and values are kept for others, and each sequence draws from a stream of its own. `text.exact = false` gives
//!   up the parts of this that cost something.
//! * A sequence whose client has gone is dropped before the next step.
//! * The thread never waits for a client: a sequence's channel holds every event it can have.

pub(super) mod beams;
mod chunks;
mod form;
mod graphs;
mod pace;
mod prefixes;
mod ragged;
mod raw;
mod remains;
mod scheduler;
pub(super) mod searches;
pub(super) mod sequence;
mod shape;
mod speculation;

use std::{sync::Arc, time::Duration};

use quintet_batching::Limits;
use quintet_onnx::{Error as OnnxError, GraphInfo, ModelFolder, Runtime};
use quintet_open_inference::{Graph, Job};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    Event, Generation, GenerationDefaults,
    decode_thread::{DecodeThread, Start},
    heads::threads_within_heads,
    tokens::TokensCell,
};
use crate::{Config, Error};
pub use beams::{BeamStopping, Beams};
use form::{Files, Form};
use graphs::{Graphs, Room, Sessions};
use scheduler::{Scheduler, Settings};
use shape::ModelShape;
use speculation::{DraftModel, DraftSessions, check_tokenizers};

/// A loaded decoder.
#[derive(Debug)]
pub struct Decoder {
    thread: DecodeThread<Command>,
    info: Info,
    graphs: Vec<Graph>,
    tokens: TokensCell,
}

/// A token of a given text under the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// Its natural log-probability, given those before it.
    pub log_probability: f32,
    /// Whether no other token is likelier at its place.
    pub is_likeliest: bool,
}

/// What a decoder says of itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// The most tokens of a sequence, prompt and output together.
    pub context: usize,
    /// The token that stands before every text, if the model has one.
    pub bos: Option<u32>,
    /// Whether it is put in front of prompts that do not begin with it: as the tokenizer's configuration says, and not where a model has
    /// such a token and was not trained to see it.
    pub adds_bos: bool,
    /// The tokens that end a text.
    pub eos: Arc<[u32]>,
    /// The most beams of a search.
    pub slots: usize,
    /// How many tokens it gives logits for.
    pub vocabulary: usize,
    /// What its folder says about sampling.
    pub defaults: GenerationDefaults,
    /// The model that drafts for it, if its folder names one.
    pub draft: Option<String>,
    /// The graph.
    pub graph: GraphInfo,
}

/// What the decoder's thread is told.
pub(super) enum Command {
    Start(Start),
    Score {
        tokens: Vec<u32>,
        from: usize,
        scope: Arc<str>,
        priority: u8,
        answer: oneshot::Sender<Result<Vec<TokenScore>, OnnxError>>,
        place: OwnedSemaphorePermit,
    },
    Raw(Job),
}

impl Decoder {
    /// The name of the model that drafts for a folder's decoder, if it names one.
    pub fn draft_of(folder: &ModelFolder) -> Result<Option<String>, Error> {
        Ok(Files::of(folder)?.draft)
    }

    /// Loads a decoder and starts its thread, with the folder of the model that drafts for it.
    pub fn load(folder: &ModelFolder, draft: Option<&ModelFolder>, runtime: &Runtime, config: &Config, verify: bool) -> Result<Self, Error> {
        if let Some(draft) = draft {
            check_tokenizers(folder, draft)?;
        }
        let files = Files::of(folder)?;
        // What is drafted decides how tokens are run.
        let is_invariant = files.batch_invariant && draft.map(Files::of).transpose()?.is_none_or(|files| files.batch_invariant);
        let shape = ModelShape::read(folder)?;
        let defaults = super::generation::read_defaults(folder)?;
        let source = folder;
        let exact = config.exact && is_invariant;
        let opened = |folder: &ModelFolder, form| match form {
            // Its rows run one by one, and are alone in any company.
            Form::Packed | Form::Builder if exact => threads_within_heads(folder, runtime),
            _ => Ok(folder.clone()),
        };
        let folder = opened(folder, files.form)?;
        let draft = draft.map(|draft| opened(draft, Files::of(draft)?.form)).transpose()?;
        let (runtime, config) = (runtime.clone(), config.clone());
        let context = if config.max_context == 0 { shape.context } else { shape.context.min(config.max_context) };
        let (bos, adds_bos, eos, head_size, form) = (shape.bos, shape.adds_bos, shape.eos, shape.head_size, files.form);
        let limit = config.max_waiting;
        let settings = Settings {
            prefill_chunk: config.prefill_chunk,
            max_token_gap: Duration::from_secs_f64(config.max_token_gap_ms / 1e3),
            cache_bytes: (config.kv_cache_mb * f64::from(1 << 20)) as usize,
            prefix_bytes: config.prefix_cache_mb << 20,
            exact,
        };
        let name = folder.name.clone();
        let (thread, info) = DecodeThread::start(&name, limit, move || {
            let room = Room { rows: config.slots, context, head_size, bytes: settings.cache_bytes };
            let (graphs, draft_model) = open(&folder, draft.as_ref(), &files, &runtime, verify, room, &settings)?;
            let (slots, vocabulary) = (graphs.cache().rows(), graphs.vocabulary());
            let (graph, draft) = (graphs.session().info(), draft.map(|draft| draft.name));
            let info = Info { context, bos, adds_bos, eos: Arc::clone(&eos), slots, vocabulary, defaults, draft, graph };
            Ok((Scheduler::new(graphs, draft_model, eos, settings, folder.name), info))
        })?;
        if form == Form::Concat {
            tracing::warn!(
                model = name,
                "the graph copies its cache at every step, so that a token costs the more the longer the text is; scripts/export/text.py or \
                 onnxruntime-genai's model builder write graphs that do not"
            );
        }
        let mut graph = Graph::new(source, info.graph.clone(), Limits::rows(1, limit), thread.raw(Command::Raw));
        match form {
            Form::Packed => graph = graph.checked(raw::check),
            Form::Builder => graph = graph.checked(raw::refuse),
            // Its operators check their inputs' shapes themselves.
            Form::Concat => (),
        }
        Ok(Self { thread, info, graphs: vec![graph], tokens: TokensCell::default() })
    }

    /// What the decoder says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Starts a sequence. Dropping the receiver ends it.
    pub fn generate(&self, generation: Generation) -> Result<mpsc::Receiver<Event>, Error> {
        self.thread.generate(generation)
    }

    /// Searches for the likeliest texts and gives the `n` best, each in a channel of its own. Dropping all receivers ends it. There are
    /// at most as many beams as slots, and at most as many texts as beams.
    pub fn search(&self, generation: Generation, beams: Beams, n: usize) -> Result<Vec<mpsc::Receiver<Event>>, Error> {
        self.thread.search(generation, beams, n)
    }

    /// The scores of each of `tokens[from..]`, given those before it. The tokens fit the context and
    /// `from` is at least 1.
    pub async fn score(&self, tokens: Vec<u32>, from: usize, scope: Arc<str>, priority: u8) -> Result<Vec<TokenScore>, Error> {
        let place = self.thread.enter()?;
        let (answer, answered) = oneshot::channel();
        self.thread.send(Command::Score { tokens, from, scope, priority, answer, place })?;
        Ok(answered.await.map_err(|_| Error::Ended)??)
    }

    pub(crate) fn tokens(&self) -> &TokensCell {
        &self.tokens
    }

    pub(crate) fn graphs(&self) -> &[Graph] {
        &self.graphs
    }
}

impl From<Start> for Command {
    fn from(start: Start) -> Self {
        Self::Start(start)
    }
}

/// Opens the graphs, and those of the model that drafts, with memory for one whole context at least.
fn open(
    folder: &ModelFolder,
    draft: Option<&ModelFolder>,
    files: &Files,
    runtime: &Runtime,
    verify: bool,
    room: Room,
    settings: &Settings,
) -> Result<(Graphs, Option<DraftModel>), Error> {
    let sessions = Sessions::open(folder, files, runtime, verify)?;
    let draft = draft.map(|draft| DraftSessions::open(draft, folder, runtime, verify, room.context)).transpose()?;
    // A GPU's memory is shared between the two caches so that both have room for the same tokens.
    let own = sessions.token_bytes(room.head_size)?;
    let other = draft.as_ref().map_or(Ok(0), DraftSessions::token_bytes)?;
    let (budget, needed) = (settings.cache_bytes, room.context * (own + other));
    let megabytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    if budget < needed {
        return Err(Error::Setup(format!(
            "text.kv_cache_mb = {}: a context of {}, {} tokens, takes {}; give it that, or set a smaller text.max_context",
            megabytes(budget),
            folder.id(),
            room.context,
            megabytes(needed),
        )));
    }
    let tokens = budget / (own + other).max(1);
    let graphs = sessions.with_cache(Room { bytes: tokens * own, ..room })?;
    let rows = graphs.cache().rows();
    let draft = draft.map(|draft| draft.with_cache(rows, tokens * other, graphs.vocabulary())).transpose()?;
    // Where the one keeps its keys and values in this process and the other on the GPU.
    if let Some(fewer) = draft.as_ref().map(DraftModel::rows).filter(|drafts| *drafts < rows) {
        return Err(Error::Setup(format!(
            "text.kv_cache_mb = {}: the draft model of {} gets room for {fewer} sequences, and {rows} are to run at once; give it more, \
             or set a smaller text.slots",
            megabytes(budget),
            folder.id(),
        )));
    }
    Ok((graphs, draft))
}
