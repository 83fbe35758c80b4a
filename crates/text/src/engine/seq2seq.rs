//! Encoder–decoders: the encoder reads the input once, the decoder answers token by token.
//!
//! Both sessions have one owner thread. Each sequence is a task that hands the thread one step at a time, so
//! sequences take turns; keys and values stay in the runtime's memory between steps.

use std::{collections::BTreeMap, sync::Arc};

use ndarray::Array2;
use quintet_onnx::{Error as OnnxError, Full, Input, ModelFolder, Owner, Runtime, Session, Sessions, Tensor, TensorInfo, Ticket, Value, golden};
use quintet_open_inference::Job;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{
    Event, FinishReason, Generation, GenerationDefaults, Queue,
    generation::{events, read_defaults},
    sampler::Sampler,
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
}

/// What an encoder–decoder says of itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// The most tokens of an input, and of an output.
    pub max_tokens: usize,
    /// What its folder says about sampling.
    pub defaults: GenerationDefaults,
    /// Each graph's file, inputs and outputs.
    pub graphs: [(String, Vec<TensorInfo>, Vec<TensorInfo>); 2],
    /// How many nodes each provider runs, in both graphs together.
    pub provider_nodes: BTreeMap<String, u32>,
    vocabulary: usize,
    start: u32,
    eos: Arc<[u32]>,
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
    sampler: Sampler,
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
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (opened, runtime, files) = (folder.clone(), runtime.clone(), section.clone());
        let owner = Owner::spawn::<Error>(&folder.name, config.max_waiting + 16, move || {
            let mut pair = Pair {
                encoder: Session::open(&runtime, &opened.file(&files.encoder)?)?,
                decoder: Session::open(&runtime, &opened.file(&files.decoder)?)?,
            };
            if verify {
                golden::verify(&opened, &mut pair.encoder)?;
                golden::verify(&opened, &mut pair.decoder)?;
            }
            let mut nodes = pair.encoder.provider_nodes().clone();
            for (provider, count) in pair.decoder.provider_nodes() {
                *nodes.entry(provider.clone()).or_default() += count;
            }
            let graph = |file: &str, session: &Session| (file.to_owned(), session.inputs().to_vec(), session.outputs().to_vec());
            drop(sender.send(([graph(&files.encoder, &pair.encoder), graph(&files.decoder, &pair.decoder)], nodes)));
            Ok(pair)
        })?;
        let (graphs, provider_nodes) = receiver.recv().map_err(|_| Error::Ended)?;
        let info = Info {
            max_tokens: json.n_positions,
            defaults,
            graphs,
            provider_nodes,
            vocabulary: json.vocab_size,
            start: json.decoder_start_token_id,
            eos: json.eos_token_id.into_vec().into(),
        };
        Ok(Self { owner: Arc::new(owner), tasks: tasks.clone(), queue: Queue::new(config.max_waiting), info })
    }

    /// What the model says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Hands a raw run of one of the graphs to the sessions' thread.
    pub(crate) fn raw(&self, decoder: bool) -> impl Fn(Job) -> Result<Ticket, Full> + Send + Sync + 'static {
        let owner = Arc::clone(&self.owner);
        move |job| owner.submit(move |pair: &mut Pair| job(pair.graph(decoder)))
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

async fn sequence(owner: &Owner<Pair>, info: &Info, generation: Generation, events: &mpsc::Sender<Event>) -> Result<(), OnnxError> {
    let Generation { prompt, sampling, max_new_tokens, ignore_eos } = generation;
    let sampler = Sampler::new(sampling, info.vocabulary, &[]);
    let start = info.start;
    let mut state = on_thread(owner, move |pair| begin(pair, &prompt, sampler, start)).await?;
    for generated in 1..=max_new_tokens {
        let (next, token) = on_thread(owner, move |pair| step(pair, state)).await?;
        state = next;
        // The channel has room for every event; it fails only where the client has gone.
        if info.eos.contains(&token) && !ignore_eos {
            drop(events.try_send(Event::Finished { reason: FinishReason::Eos, generated }));
            return Ok(());
        }
        drop(events.try_send(Event::Token(token)));
    }
    drop(events.try_send(Event::Finished { reason: FinishReason::Length, generated: max_new_tokens }));
    Ok(())
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

fn begin(pair: &mut Pair, prompt: &[u32], sampler: Sampler, start: u32) -> Result<State, OnnxError> {
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
    Ok(State { sampler, mask, cross, past, token: start })
}

fn step(pair: &mut Pair, mut state: State) -> Result<(State, u32), OnnxError> {
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
    state.token = state.sampler.draw(&last);
    for (name, past) in &mut state.past {
        *past = Past::Value(outputs.take(&name.replace("past_key_values.", "present."))?);
    }
    let token = state.token;
    Ok((state, token))
}

fn row(values: Vec<i64>) -> ndarray::ArrayD<i64> {
    let count = values.len();
    Array2::from_shape_vec((1, count), values).unwrap_or_default().into_dyn()
}
