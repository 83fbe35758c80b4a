//! Encoder–decoders: the encoder reads the input once, the decoder answers token by token.
//!
//! Both sessions have one owner thread. Each sequence is a task that hands the thread one step at a time, so
//! sequences take turns; keys and values stay in the runtime's memory between steps.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use ndarray::Array2;
use quintet_batching::Limits;
use quintet_onnx::{Cancel, Error as OnnxError, Full, GraphInfo, Input, ModelFolder, Owner, Runtime, Session, Sessions, Tensor, Value};
use quintet_open_inference::Graph;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{
    Account, Event, Generation, GenerationDefaults, Queue,
    drawing::{Drawing, Step},
    generation::{events, read_defaults},
    tokens::TokensCell,
};
use crate::{Config, Error};

/// The table `[seq2seq]` of a model folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    encoder: String,
    decoder: String,
}

#[derive(Deserialize)]
struct ConfigJson {
    n_positions: usize,
    vocab_size: usize,
    decoder_start_token_id: u32,
    eos_token_id: super::OneOrMany,
}

/// A loaded encoder–decoder.
#[derive(Debug)]
pub struct Seq2Seq {
    owner: Arc<Owner<Pair>>,
    tasks: TaskTracker,
    queue: Queue,
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
    /// How many nodes each provider runs, in both graphs together.
    pub provider_nodes: BTreeMap<String, u32>,
    /// The tokens that end a text.
    pub eos: Arc<[u32]>,
    /// How many tokens there are.
    pub vocabulary: usize,
    start: u32,
}

/// The two sessions.
#[derive(Debug)]
pub(crate) struct Pair {
    encoder: Session,
    decoder: Session,
}

impl Sessions for Pair {
    fn sessions(&mut self) -> Vec<&mut Session> {
        vec![&mut self.encoder, &mut self.decoder]
    }
}

impl Pair {
    pub(crate) fn graph(&mut self, decoder: bool) -> &mut Session {
        if decoder { &mut self.decoder } else { &mut self.encoder }
    }
}

/// A sequence between two steps.
struct State {
    drawing: Drawing,
    mask: Tensor,
    /// What every step attends to: the encoder's keys and values by input name.
    cross: Vec<(String, Value)>,
    /// The decoder's own keys and values so far, by input name.
    past: Vec<(String, Past)>,
    token: u32,
}

enum Past {
    /// Nothing yet: a tensor of no length.
    Empty(Tensor),
    Value(Value),
}

impl Seq2Seq {
    /// Loads an encoder–decoder.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, tasks: &TaskTracker, verify: bool) -> Result<Self, Error> {
        let section: Section = folder.section()?;
        let json: ConfigJson = super::read_json(folder, "config.json")?;
        let defaults = read_defaults(folder)?;
        let (opened, runtime, files) = (folder.clone(), runtime.clone(), section.clone());
        let (owner, infos) = Owner::spawn(&folder.name, config.max_waiting + 16, move || -> Result<(Pair, [GraphInfo; 2]), Error> {
            let open = |file: &str| Session::of(&opened, file, &runtime, verify);
            let pair = Pair { encoder: open(&files.encoder)?, decoder: open(&files.decoder)? };
            let infos = [pair.encoder.info(), pair.decoder.info()];
            Ok((pair, infos))
        })?;
        let owner = Arc::new(owner);
        let provider_nodes = GraphInfo::provider_nodes(&infos);
        let raw = |(info, is_decoder): (GraphInfo, bool)| {
            let owner = Arc::clone(&owner);
            let serving = &folder.manifest.serving;
            let limits = Limits::rows(serving.max_batch_rows.unwrap_or(config.slots), config.max_waiting);
            Graph::new(folder, info, limits, move |job| {
                owner.submit_cancellable(move |pair: &mut Pair, cancel: &Cancel| job(pair.graph(is_decoder), cancel))
            })
        };
        let graphs = infos.into_iter().zip([false, true]).map(raw).collect();
        let info = Info {
            max_tokens: json.n_positions,
            defaults,
            provider_nodes,
            eos: json.eos_token_id.into_vec().into(),
            vocabulary: json.vocab_size,
            start: json.decoder_start_token_id,
        };
        Ok(Self { owner, tasks: tasks.clone(), queue: Queue::new(config.max_waiting), info, graphs, tokens: TokensCell::default() })
    }

    /// What the model says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    pub(crate) fn tokens(&self) -> &TokensCell {
        &self.tokens
    }

    pub(crate) fn graphs(&self) -> &[Graph] {
        &self.graphs
    }

    /// Starts a sequence. Dropping the receiver ends it.
    pub fn generate(&self, generation: Generation) -> Result<mpsc::Receiver<Event>, Error> {
        let place = self.queue.enter()?;
        let (sender, receiver) = events(generation.max_new_tokens);
        let (owner, info) = (Arc::clone(&self.owner), self.info.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = drive(&owner, &info, generation, &sender) => (),
                () = sender.closed() => (),
            }
            drop(place);
        });
        Ok(receiver)
    }
}

async fn drive(owner: &Owner<Pair>, info: &Info, generation: Generation, events: &mpsc::Sender<Event>) {
    if let Err(error) = sequence(owner, info, generation, events).await {
        drop(events.try_send(Event::Failed(error)));
    }
}

async fn sequence(owner: &Owner<Pair>, info: &Info, mut generation: Generation, events: &mpsc::Sender<Event>) -> Result<(), OnnxError> {
    let came = Instant::now();
    // The input counts as a prompt for no penalty: it is another text.
    let drawing = Drawing::new(&mut generation, info.vocabulary, Arc::clone(&info.eos), &[], None);
    let (prompt, start) = (generation.prompt, info.start);
    let (mut state, started) = on_thread(owner, move |pair| {
        let started = Instant::now();
        Ok((begin(pair, &prompt, drawing, start)?, started))
    })
    .await?;
    let mut first = None;
    loop {
        let (next, step) = on_thread(owner, move |pair| run(pair, state)).await?;
        state = next;
        let now = Instant::now();
        let generated = state.drawing.generated();
        let begin = first.unwrap_or(now);
        let account = Account { generated, cached: 0, queued: started - came, prefill: begin - started, decode: now - begin };
        // The channel has room for every event; it fails only where the client has gone.
        if first.is_none() {
            first = Some(now);
            drop(events.try_send(Event::Begun(Account { generated: 0, ..account })));
        }
        if step.is_text {
            drop(events.try_send(Event::Token(step.drawn)));
        }
        if let Some(reason) = step.finish {
            drop(events.try_send(Event::Finished(reason, account)));
            return Ok(());
        }
    }
}

/// Runs a job on the sessions' thread. Dropping the future cancels it.
async fn on_thread<T: Send + 'static>(
    owner: &Owner<Pair>,
    job: impl FnOnce(&mut Pair) -> Result<T, OnnxError> + Send + 'static,
) -> Result<T, OnnxError> {
    let (answer, answered) = oneshot::channel();
    let full = |Full| OnnxError::Runtime { doing: "generate".to_owned(), message: Full.to_string() };
    let _ticket = owner.submit(move |pair| drop(answer.send(job(pair)))).map_err(full)?;
    answered.await.unwrap_or(Err(OnnxError::Cancelled))
}

fn begin(pair: &mut Pair, prompt: &[u32], drawing: Drawing, start: u32) -> Result<State, OnnxError> {
    let ids = Tensor::I64(row(prompt.iter().map(|id| i64::from(*id)).collect()));
    let mask = Tensor::I64(row(vec![1; prompt.len()]));
    let mut outputs = pair.encoder.run(&[("input_ids", &ids), ("attention_mask", &mask)])?;
    let (mut cross, mut past) = (Vec::new(), Vec::new());
    for input in pair.decoder.inputs() {
        let Some(rest) = input.name.strip_prefix("past_key_values.") else { continue };
        if rest.contains(".encoder.") {
            cross.push((input.name.clone(), outputs.take(&format!("present.{rest}"))?));
        } else {
            let shape: Vec<usize> = input.shape.iter().enumerate().map(|(axis, size)| size.unwrap_or(usize::from(axis == 0))).collect();
            past.push((input.name.clone(), Past::Empty(Tensor::F32(ndarray::ArrayD::zeros(shape)))));
        }
    }
    Ok(State { drawing, mask, cross, past, token: start })
}

fn run(pair: &mut Pair, mut state: State) -> Result<(State, Step), OnnxError> {
    let ids = Tensor::I64(row(vec![i64::from(state.token)]));
    let mut inputs = vec![("input_ids", Input::Tensor(&ids)), ("encoder_attention_mask", Input::Tensor(&state.mask))];
    inputs.extend(state.cross.iter().map(|(name, value)| (name.as_str(), Input::Value(value))));
    inputs.extend(state.past.iter().map(|(name, past)| {
        let input = match past {
            Past::Empty(tensor) => Input::Tensor(tensor),
            Past::Value(value) => Input::Value(value),
        };
        (name.as_str(), input)
    }));
    let mut outputs = pair.decoder.run_mixed(&inputs)?;
    drop(inputs);
    let logits = outputs.f32("logits")?;
    let last = logits.rows().into_iter().last().map(|row| row.to_vec()).unwrap_or_default();
    drop(logits);
    let step = state.drawing.next(&last)?;
    state.token = step.drawn.token;
    for (name, past) in &mut state.past {
        *past = Past::Value(outputs.take(&name.replace("past_key_values.", "present."))?);
    }
    Ok((state, step))
}

fn row(values: Vec<i64>) -> ndarray::ArrayD<i64> {
    let count = values.len();
    Array2::from_shape_vec((1, count), values).unwrap_or_default().into_dyn()
}
