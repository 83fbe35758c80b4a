//! Encoders: token ids to sentence embeddings.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use metrics::histogram;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Ix3};
use quintet_batching::{Batch, Batcher, Limits, Rejected, batcher};
use quintet_onnx::{Error as OnnxError, Full, ModelFolder, Owner, Runtime, Session, Tensor, TensorInfo, Ticket, golden};
use quintet_open_inference::Job;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::{Config, Error};

/// The table `[encoder]` of a model folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    graph: String,
    pooling: Pooling,
    normalize: bool,
    dimensions: usize,
    max_tokens: usize,
    batch_invariant: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pooling {
    /// The mean of the token vectors.
    Mean,
    /// The vector of the first token.
    Cls,
}

type Answer = Result<Vec<f32>, Arc<OnnxError>>;

/// A loaded encoder.
#[derive(Debug)]
pub struct Encoder {
    batcher: Batcher<Vec<u32>, Answer>,
    owner: Arc<Owner<Session>>,
    section: Section,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    provider_nodes: BTreeMap<String, u32>,
}

impl Encoder {
    /// Loads an encoder, and spawns its batcher on `tasks`.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, tasks: &TaskTracker, verify: bool) -> Result<Self, Error> {
        let section: Section = folder.section()?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (opened, runtime, graph) = (folder.clone(), runtime.clone(), section.graph.clone());
        let owner = Owner::spawn::<Error>(&folder.name, config.max_waiting, move || {
            let mut session = Session::open(&runtime, &opened.file(&graph)?)?;
            if verify {
                golden::verify(&opened, &mut session)?;
            }
            drop(sender.send((session.inputs().to_vec(), session.outputs().to_vec(), session.provider_nodes().clone())));
            Ok(session)
        })?;
        let (inputs, outputs, provider_nodes) = receiver.recv().map_err(|_| Error::Ended)?;
        let owner = Arc::new(owner);
        let limits = Limits { max_batch_cost: config.max_batch_tokens, max_queue_cost: config.max_queue_tokens, max_delay: Duration::ZERO };
        let (batcher, worker) = batcher(limits);
        let (running, pooling, invariant, model) = (Arc::clone(&owner), section.pooling, section.batch_invariant, folder.name.clone());
        tasks.spawn(worker.run(move |batch: Batch<Vec<u32>>| {
            histogram!("quintet_text_batch_size", "model" => model.clone()).record(batch.requests.len() as f64);
            histogram!("quintet_text_queue_seconds", "model" => model.clone()).record(batch.waited);
            run_batch(Arc::clone(&running), batch.requests, pooling, invariant)
        }));
        Ok(Self { batcher, owner, section, inputs, outputs, provider_nodes })
    }

    /// The most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.section.max_tokens
    }

    /// Whether embeddings are scaled to length 1 unless a request says otherwise.
    pub fn normalizes(&self) -> bool {
        self.section.normalize
    }

    /// How many nodes each provider runs.
    pub fn provider_nodes(&self) -> &BTreeMap<String, u32> {
        &self.provider_nodes
    }

    /// The graph's file, inputs and outputs.
    pub fn graph(&self) -> (&str, &[TensorInfo], &[TensorInfo]) {
        (&self.section.graph, &self.inputs, &self.outputs)
    }

    /// Hands a raw run to the session's thread.
    pub(crate) fn raw(&self) -> impl Fn(Job) -> Result<Ticket, Full> + Send + Sync + 'static {
        let owner = Arc::clone(&self.owner);
        move |job| owner.submit(job)
    }

    /// The embedding of a text of at most [`Self::max_tokens`] tokens.
    pub async fn embed(&self, tokens: Vec<u32>, normalize: bool) -> Result<Vec<f32>, Error> {
        let cost = tokens.len();
        let answer = self.batcher.submit(tokens, cost).await.map_err(|rejected| match rejected {
            Rejected::Full { waiting, limit } => Error::Full { waiting, limit, unit: "tokens" },
            Rejected::Unanswered => Error::Ended,
        })?;
        let mut embedding = answer.map_err(|error| OnnxError::Runtime { doing: "embed".to_owned(), message: error.to_string() })?;
        if embedding.len() != self.section.dimensions {
            let message = format!("{} dimensions, the folder says {}", embedding.len(), self.section.dimensions);
            return Err(OnnxError::Runtime { doing: "embed".to_owned(), message }.into());
        }
        if normalize {
            let length = embedding.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(1e-12);
            embedding.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
        Ok(embedding)
    }
}

/// Runs a batch on the session's thread. Dropping the future cancels it.
async fn run_batch(owner: Arc<Owner<Session>>, texts: Vec<Vec<u32>>, pooling: Pooling, invariant: bool) -> Vec<Answer> {
    let count = texts.len();
    let failed = |error: OnnxError| {
        let error = Arc::new(error);
        (0..count).map(|_| Err(Arc::clone(&error))).collect()
    };
    let (answer, answered) = oneshot::channel();
    let job = move |session: &mut Session| drop(answer.send(embed_all(session, &texts, pooling, invariant)));
    match owner.submit(job) {
        Err(Full) => failed(OnnxError::Runtime { doing: "embed".to_owned(), message: Full.to_string() }),
        Ok(_ticket) => match answered.await {
            Ok(answers) => answers,
            Err(_) => failed(OnnxError::Cancelled),
        },
    }
}

/// Texts of one length run together, so that nothing is padded; those of a graph whose rows depend on each other run
/// alone.
fn embed_all(session: &mut Session, texts: &[Vec<u32>], pooling: Pooling, invariant: bool) -> Vec<Answer> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|index| texts.get(*index).map_or(0, Vec::len));
    let same = |a: &usize, b: &usize| invariant && texts.get(*a).map(Vec::len) == texts.get(*b).map(Vec::len);
    let mut answers: Vec<Answer> = (0..texts.len()).map(|_| Err(Arc::new(OnnxError::Cancelled))).collect();
    for group in order.chunk_by(same) {
        let rows: Vec<&[u32]> = group.iter().filter_map(|index| texts.get(*index)).map(Vec::as_slice).collect();
        match embed_equal(session, &rows, pooling) {
            Ok(embeddings) => {
                for (index, embedding) in group.iter().zip(embeddings) {
                    if let Some(answer) = answers.get_mut(*index) {
                        *answer = Ok(embedding);
                    }
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for index in group {
                    if let Some(answer) = answers.get_mut(*index) {
                        *answer = Err(Arc::clone(&error));
                    }
                }
            }
        }
    }
    answers
}

/// The embeddings of texts of one length.
fn embed_equal(session: &mut Session, rows: &[&[u32]], pooling: Pooling) -> Result<Vec<Vec<f32>>, OnnxError> {
    let shape = (rows.len(), rows.first().map_or(0, |row| row.len()));
    let ids = Array2::from_shape_vec(shape, rows.iter().flat_map(|row| row.iter().map(|id| i64::from(*id))).collect())
        .map_err(|error| OnnxError::Tensor { name: "input_ids".to_owned(), reason: error.to_string() })?;
    let mask = Tensor::I64(Array2::<i64>::ones(shape).into_dyn());
    let types = Tensor::I64(Array2::<i64>::zeros(shape).into_dyn());
    let ids = Tensor::I64(ids.into_dyn());
    let all = [("input_ids", &ids), ("attention_mask", &mask), ("token_type_ids", &types)];
    let inputs: Vec<(&str, &Tensor)> = all.into_iter().filter(|(name, _)| session.inputs().iter().any(|input| input.name == *name)).collect();
    let name = session.outputs().first().map(|output| output.name.clone()).unwrap_or_default();
    let outputs = session.run(&inputs)?;
    let vectors = outputs.f32(&name)?;
    let vectors = vectors.into_dimensionality::<Ix3>().map_err(|error| OnnxError::Tensor { name, reason: error.to_string() })?;
    Ok(vectors.outer_iter().map(|tokens| pool(&tokens, pooling)).collect())
}

fn pool(tokens: &ArrayView2<'_, f32>, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::Cls => tokens.outer_iter().next().map(|first: ArrayView1<'_, f32>| first.to_vec()).unwrap_or_default(),
        Pooling::Mean => tokens.mean_axis(Axis(0)).map(|mean| mean.to_vec()).unwrap_or_default(),
    }
}
