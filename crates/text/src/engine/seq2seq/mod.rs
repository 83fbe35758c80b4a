//! Encoder–decoders: the encoder reads an input once, the decoder answers token by token, many texts at once.
//!
//! One thread owns the sessions and two key–value caches of the same rows: that of the texts so far, and that of their inputs. Again and
//! again it takes up inputs that wait, each in an encoder run of its own, then runs the next token of every text under way, and draws
//! from the logits. Texts join and leave between steps; those under way hold the first rows, without gaps.
//!
//! What must hold:
//!
//! * A text's bytes do not depend on what ran beside it, or on whether it lost its row for a while: an input is encoded alone, a step
//!   sees each row alone, what was generated is run again step by step, and each text draws from a stream of its own.
//! * An input that a row holds already is copied and not run again, within one tenant's requests.
//! * A text whose client has gone is dropped before the next step.
//! * The thread never waits for a client: a text's channel holds every event it can have.

mod concat;
mod files;
mod forced;
mod graphs;
mod raw;
mod scheduler;
mod searches;
mod shape;
mod slots;
mod task;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quintet_batching::Limits;
use quintet_onnx::{GraphInfo, ModelFolder, Runtime};
use quintet_open_inference::{Graph, Job};
use tokio::sync::mpsc;

use super::{
    Event, Generation, GenerationDefaults,
    decode_thread::{DecodeThread, Start},
    decoder::Beams,
    heads::threads_within_heads,
    tokens::TokensCell,
};
use crate::{Config, Error};
use files::{Files, Form};
pub(crate) use forced::Forced;
use graphs::Graphs;
use scheduler::{Scheduler, Settings};
use shape::ModelShape;

/// A loaded encoder–decoder.
#[derive(Debug)]
pub struct Seq2Seq {
    thread: DecodeThread<Command>,
    info: Info,
    graphs: Vec<Graph>,
    tokens: TokensCell,
}

/// What an encoder–decoder says of itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// The most tokens of an input, and of an output.
    pub max_tokens: usize,
    /// What its folder says about sampling.
    pub defaults: GenerationDefaults,
    /// How many nodes each provider runs, in all graphs together.
    pub provider_nodes: BTreeMap<String, u32>,
    /// The tokens that end a text.
    pub eos: Arc<[u32]>,
    /// How many tokens there are.
    pub vocabulary: usize,
    /// The most beams of a search.
    pub slots: usize,
}

/// What the sessions' thread is told.
enum Command {
    Start(Start),
    /// Of the graph at this place among the model's.
    Raw(usize, Job),
}

impl Seq2Seq {
    /// Loads an encoder–decoder and starts its thread.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, verify: bool) -> Result<Self, Error> {
        let files = Files::of(folder)?;
        let mut shape = ModelShape::read(folder)?;
        if config.max_context > 0 {
            shape.max_tokens = shape.max_tokens.min(config.max_context);
        }
        let settings = Settings {
            rows: config.slots,
            cache_bytes: (config.kv_cache_mb * f64::from(1 << 20)) as usize,
            max_token_gap: Duration::from_secs_f64(config.max_token_gap_ms / 1e3),
        };
        let (name, form, batch_invariant) = (folder.name.clone(), files.form, files.batch_invariant);
        let is_exact = config.exact && batch_invariant && form == Form::Slots;
        let source = if is_exact { threads_within_heads(folder, runtime)? } else { folder.clone() };
        let (runtime, read) = (runtime.clone(), shape.clone());
        let limit = config.max_waiting;
        let (thread, (vocabulary, infos)) = DecodeThread::start(&name, limit, move || {
            let graphs = open(&source, &files, &runtime, verify, &read, settings)?;
            let info = (graphs.vocabulary(), graphs.infos());
            Ok((Scheduler::new(graphs, read, settings, source.name), info))
        })?;
        if form == Form::Concat {
            tracing::warn!(
                model = name,
                "the graphs copy their cache at every step and run one text at a time; scripts/export/text.py writes graphs that do not"
            );
        }
        if !batch_invariant {
            tracing::info!(model = name, "a text's last bits depend on what runs beside it: its weights' form takes all rows of a step together");
        }
        let info = Info {
            max_tokens: shape.max_tokens,
            defaults: shape.defaults,
            provider_nodes: GraphInfo::provider_nodes(&infos),
            eos: shape.eos,
            vocabulary,
            slots: config.slots,
        };
        let raw = |(at, info): (usize, GraphInfo)| {
            let graph = Graph::new(folder, info, Limits::rows(1, limit), thread.raw(move |job| Command::Raw(at, job)));
            // The operators of the others check their inputs' shapes themselves.
            if form == Form::Slots && at == graphs::STEP { graph.checked(raw::check) } else { graph }
        };
        let graphs = infos.into_iter().enumerate().map(raw).collect();
        Ok(Self { thread, info, graphs, tokens: TokensCell::default() })
    }

    /// What the model says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Starts a text. Dropping the receiver ends it.
    pub fn generate(&self, generation: Generation) -> Result<mpsc::Receiver<Event>, Error> {
        self.thread.generate(generation)
    }

    /// Searches for the likeliest texts and gives the `n` best, each in a channel of its own. Dropping all receivers ends it. There are
    /// at most as many beams as slots, and at most as many texts as beams.
    pub fn search(&self, generation: Generation, beams: Beams, n: usize) -> Result<Vec<mpsc::Receiver<Event>>, Error> {
        self.thread.search(generation, beams, n)
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

/// Opens the graphs, with memory for one whole input and output at least.
fn open(folder: &ModelFolder, files: &Files, runtime: &Runtime, verify: bool, shape: &ModelShape, settings: Settings) -> Result<Graphs, Error> {
    let graphs = Graphs::open(folder, files, runtime, verify, settings.rows, shape)?;
    shape.check(folder, graphs.vocabulary())?;
    let needed = graphs.bytes(shape.max_tokens, shape.max_tokens);
    if settings.cache_bytes < needed {
        let megabytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        return Err(Error::Setup(format!(
            "text.kv_cache_mb = {}: an input and an output of {}, {} tokens each, take {}; give it that, or set a smaller text.max_context",
            megabytes(settings.cache_bytes),
            folder.id(),
            shape.max_tokens,
            megabytes(needed),
        )));
    }
    Ok(graphs)
}
