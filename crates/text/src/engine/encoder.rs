//! Encoders: token ids to sentence embeddings.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Ix3, Slice};
use quintet_batching::{Ask, Batcher, Limits, Work, apart};
use quintet_onnx::{Cancel, Error as OnnxError, GraphInfo, Instances, ModelFolder, Runtime, Session, Tensor};
use quintet_open_inference::Graph;
use serde::Deserialize;

use crate::{Config, Error};

/// Rows of raw requests that run together.
const RAW_ROWS: usize = 64;

/// Batches that may wait for an instance: more than are ever handed out.
const CAPACITY: usize = 1024;

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
    section: Section,
    graphs: Vec<Graph>,
    provider_nodes: BTreeMap<String, u32>,
}

impl Encoder {
    /// Loads an encoder.
    pub fn load(folder: &ModelFolder, runtime: &Runtime, config: &Config, verify: bool) -> Result<Self, Error> {
        let folder = &folder.arranged(config.instances);
        let section: Section = folder.section()?;
        let serving = &folder.manifest.serving;
        let limits = Limits {
            max_delay: Duration::from_secs_f64(serving.max_delay_ms.unwrap_or(0.0) / 1e3),
            preferred_rows: serving.preferred_batch_rows.clone(),
            instances: folder.instances(),
            // Without padding only texts of one length run together, and a text's bits are its own.
            max_padding: serving.max_padding.unwrap_or(0.0),
            ..Limits::rows(serving.max_batch_rows.unwrap_or(config.max_batch_tokens), serving.max_queue_rows.unwrap_or(config.max_queue_tokens))
        };
        // Where rows mix, each text runs alone.
        let limits = Limits { max_batch_cost: if section.batch_invariant { limits.max_batch_cost } else { 1 }, ..limits };
        let (opened, runtime, file) = (folder.clone(), runtime.clone(), section.graph.clone());
        let open = move |is_first: bool| -> Result<(Session, GraphInfo), Error> {
            let session = Session::of(&opened, &file, &runtime, verify && is_first)?;
            let info = session.info();
            Ok((session, info))
        };
        let (instances, info) = Instances::spawn(&folder.name, limits.instances, CAPACITY, open)?;
        let instances = Arc::new(instances);
        let provider_nodes = info.provider_nodes.clone();
        let raw = Arc::clone(&instances);
        // A raw row may be as long as its client likes, so few of them run together.
        let rows = Limits { max_batch_cost: limits.max_batch_cost.min(RAW_ROWS), ..limits.clone() };
        let graph = Graph::new(folder, info, rows, move |job| raw.submit_cancellable(job));
        let (pooling, model) = (section.pooling, folder.name.clone());
        let batcher = Batcher::new(&folder.name, limits, move |work: Work<Vec<u32>, Answer>| {
            let job = move |session: &mut Session, cancel: &Cancel| {
                let cancel = cancel.clone();
                work.run(
                    move || cancel.cancel(),
                    |batch| {
                        let run = |texts: &[Vec<u32>]| embed(session, texts, pooling).map_err(Arc::new);
                        apart(&batch.requests, run, |error| matches!(**error, OnnxError::Cancelled))
                    },
                );
            };
            if instances.submit_cancellable(job).is_err() {
                tracing::error!(model, "the model's threads take no work");
            }
        });
        Ok(Self { batcher, section, graphs: vec![graph], provider_nodes })
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

    pub(crate) fn graphs(&self) -> &[Graph] {
        &self.graphs
    }

    /// The embedding of a text of at most [`Self::max_tokens`] tokens. `ask` says when it is to be run.
    pub async fn embed(&self, tokens: Vec<u32>, normalize: bool, ask: Ask) -> Result<Vec<f32>, Error> {
        let ask = Ask { width: tokens.len(), ..ask };
        let mut embedding = self.batcher.submit(tokens, ask).await?.map_err(Error::Run)?;
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

/// The embeddings of texts. Shorter ones are padded to the longest, and the padding is masked.
fn embed(session: &mut Session, texts: &[Vec<u32>], pooling: Pooling) -> Result<Vec<Vec<f32>>, OnnxError> {
    let shape = (texts.len(), texts.iter().map(Vec::len).max().unwrap_or(0));
    let (mut ids, mut mask) = (Array2::<i64>::zeros(shape), Array2::<i64>::zeros(shape));
    for (text, (mut ids, mut mask)) in texts.iter().zip(ids.rows_mut().into_iter().zip(mask.rows_mut())) {
        for (token, (id, mask)) in text.iter().zip(ids.iter_mut().zip(mask.iter_mut())) {
            (*id, *mask) = (i64::from(*token), 1);
        }
    }
    let (ids, mask, types) = (Tensor::I64(ids.into_dyn()), Tensor::I64(mask.into_dyn()), Tensor::I64(Array2::<i64>::zeros(shape).into_dyn()));
    let all = [("input_ids", &ids), ("attention_mask", &mask), ("token_type_ids", &types)];
    let inputs: Vec<(&str, &Tensor)> = all.into_iter().filter(|(name, _)| session.inputs().iter().any(|input| input.name == *name)).collect();
    let name = session.outputs().first().map(|output| output.name.clone()).unwrap_or_default();
    let outputs = session.run(&inputs)?;
    let vectors = outputs.f32(&name)?;
    let vectors = vectors.into_dimensionality::<Ix3>().map_err(|error| OnnxError::Tensor { name, reason: error.to_string() })?;
    Ok(vectors
        .outer_iter()
        .zip(texts)
        .map(|(tokens, text)| pool(&tokens.slice_axis(Axis(0), Slice::from(..text.len().min(tokens.nrows()))), pooling))
        .collect())
}

fn pool(tokens: &ArrayView2<'_, f32>, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::Cls => tokens.outer_iter().next().map(|first: ArrayView1<'_, f32>| first.to_vec()).unwrap_or_default(),
        Pooling::Mean => tokens.mean_axis(Axis(0)).map(|mean| mean.to_vec()).unwrap_or_default(),
    }
}
