//! Decoders: many sequences over one session.
//!
//! One thread owns the session and the key–value buffers, which are divided into slots. In each step it takes the
//! next token of every sequence that decodes, and prompt chunks of those that begin, runs them together, and
//! draws from the logits. Sequences join and leave between steps.
//!
//! What must hold:
//!
//! * A sequence's bytes do not depend on what ran beside it: the graph's linear layers see each token alone, the
//!   attention sees each slot alone, the padded width is never one and a prompt chunk never has a single token
//!   unless the prompt has (both take another path through the attention), and each sequence draws from a stream
//!   of its own.
//! * A sequence whose client has gone is dropped before the next step.
//! * The thread never waits for a client: a sequence's channel holds every event it can have.

mod chunks;
mod graph;
mod raw;
mod scheduler;

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use quintet_batching::Limits;
use quintet_onnx::{Error as OnnxError, Full, GraphInfo, ModelFolder, Runtime, Session};
use quintet_open_inference::{Graph, Job};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Event, Generation, GenerationDefaults, Queue, generation::events};
use crate::{Config, Error};
use graph::PackedGraph;
use scheduler::Scheduler;

/// The table `[causal_lm]` of a model folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    graph: String,
    form: String,
}

/// A loaded decoder.
#[derive(Debug)]
pub struct Decoder {
    commands: Option<Arc<SyncSender<Command>>>,
    thread: Option<JoinHandle<()>>,
    queue: Queue,
    info: Info,
    graphs: Vec<Graph>,
}

/// What a decoder says of itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// The most tokens of a sequence, prompt and output together.
    pub context: usize,
    /// The token that stands before every text, if the model has one.
    pub bos: Option<u32>,
    /// What its folder says about sampling.
    pub defaults: GenerationDefaults,
    /// The graph.
    pub graph: GraphInfo,
}

/// What the decoder's thread is told.
pub(super) enum Command {
    Generate { generation: Generation, events: mpsc::Sender<Event>, place: OwnedSemaphorePermit },
    Score { tokens: Vec<u32>, from: usize, answer: oneshot::Sender<Result<Vec<f32>, OnnxError>>, place: OwnedSemaphorePermit },
    Raw(Job),
}

impl Decoder {
    /// Loads a decoder and starts its thread.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, verify: bool) -> Result<Self, Error> {
        let section: Section = folder.section()?;
        if section.form != "packed" {
            return Err(folder.broken("quintet.toml", format!("causal_lm.form = \"{}\": \"packed\" is the one that is served", section.form)).into());
        }
        let shape = ModelShape::read(folder)?;
        let defaults = super::generation::read_defaults(folder)?;
        // Room for every waiting sequence and a few raw runs; places are taken before, so this never fills.
        let (commands, queue) = sync_channel(config.max_waiting + 16);
        let (opened, ready) = sync_channel::<Result<Info, Error>>(1);
        let source = folder;
        let (folder, runtime, config) = (folder.clone(), runtime.clone(), config.clone());
        let (context, bos, eos) = (shape.context, shape.bos, shape.eos);
        let limit = config.max_waiting;
        // A chunk may take one token more than its budget: see `chunks`.
        let prefill_chunk = config.prefill_chunk.min(context - 1);
        let name = folder.name.clone();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let open = || -> Result<PackedGraph, Error> {
                    let session = Session::of(&folder, &section.graph, &runtime, verify)?;
                    let mut graph = PackedGraph::new(session, config.slots, context, prefill_chunk + 1)
                        .map_err(|reason| folder.broken(&section.graph, reason))?;
                    graph.warm_up()?;
                    Ok(graph)
                };
                match open() {
                    Ok(graph) => {
                        let info = Info { context, bos, defaults, graph: graph.session().info() };
                        if opened.send(Ok(info)).is_ok() {
                            Scheduler::new(graph, eos, prefill_chunk, folder.name.clone()).run(&queue);
                        }
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            })
            .map_err(|_| OnnxError::Thread(name.clone()))?;
        let info = ready.recv().unwrap_or_else(|_| Err(OnnxError::Thread(name).into()))?;
        let commands = Arc::new(commands);
        // Weak: whoever holds the graph must not keep the thread from ending.
        let raw = Arc::downgrade(&commands);
        let submit = move |job: Job| raw.upgrade().ok_or(Full)?.try_send(Command::Raw(job)).map_err(|_| Full);
        let graph = Graph::new(source, info.graph.clone(), Limits::rows(1, limit), submit).checked(raw::check);
        Ok(Self { commands: Some(commands), thread: Some(thread), queue: Queue::new(limit), info, graphs: vec![graph] })
    }

    /// What the decoder says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Starts a sequence. Dropping the receiver ends it.
    pub fn generate(&self, generation: Generation) -> Result<mpsc::Receiver<Event>, Error> {
        let place = self.queue.enter()?;
        let (sender, receiver) = events(generation.max_new_tokens);
        self.send(Command::Generate { generation, events: sender, place })?;
        Ok(receiver)
    }

    /// The natural log-probability of each of `tokens[from..]`, given those before it. The tokens fit the context and
    /// `from` is at least 1.
    pub async fn score(&self, tokens: Vec<u32>, from: usize) -> Result<Vec<f32>, Error> {
        let place = self.queue.enter()?;
        let (answer, answered) = oneshot::channel();
        self.send(Command::Score { tokens, from, answer, place })?;
        Ok(answered.await.map_err(|_| Error::Ended)??)
    }

    pub(crate) fn graphs(&self) -> &[Graph] {
        &self.graphs
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.as_ref().ok_or(Error::Ended)?.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Error::Full { waiting: 0, limit: 0, unit: "commands" },
            TrySendError::Disconnected(_) => Error::Ended,
        })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a decoder's thread panicked");
        }
    }
}

/// What `config.json` says, in Hugging Face's names.
struct ModelShape {
    context: usize,
    bos: Option<u32>,
    eos: Vec<u32>,
}

#[derive(Deserialize)]
struct ConfigJson {
    max_position_embeddings: usize,
    bos_token_id: Option<u32>,
    eos_token_id: Option<super::OneOrMany>,
}

impl ModelShape {
    fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let config: ConfigJson = super::read_json(folder, "config.json")?;
        if !(2..=1 << 20).contains(&config.max_position_embeddings) {
            let reason = format!("max_position_embeddings = {}: must be 2 to 1048576", config.max_position_embeddings);
            return Err(folder.broken("config.json", reason).into());
        }
        let eos = config.eos_token_id.map(super::OneOrMany::into_vec).unwrap_or_default();
        Ok(Self { context: config.max_position_embeddings, bos: config.bos_token_id, eos })
    }
}
