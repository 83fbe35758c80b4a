use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use quintet_batching::{Ask, Batcher, Limits, Work};
use quintet_onnx::{Cancel, Error as OnnxError, Full, GraphInfo, ModelFolder, Session};

use crate::{
    Error,
    run::{self, Output},
    statistics::Statistics,
};

/// What a graph's owner runs for a batch of requests: the owner's thread calls it with the graph's session, and with what
/// ends the run.
pub type Job = Box<dyn FnOnce(&mut Session, &Cancel) + Send>;

/// An input as a request gave it, in the order of the graph's inputs.
#[derive(Clone, Debug)]
pub struct RawInput {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements as little-endian bytes, row by row.
    pub bytes: Bytes,
}

/// Refuses inputs that the graph's kernels would not check; `Err` names the input and what is wrong with it.
pub type Check = dyn Fn(&GraphInfo, &[RawInput]) -> Result<(), (String, String)> + Send + Sync;

/// A part of a request, on its way to a run.
pub(crate) struct Call {
    pub(crate) inputs: Vec<RawInput>,
    pub(crate) rows: usize,
    pub(crate) since: Instant,
}

pub(crate) type Answer = Result<Vec<Output>, Arc<OnnxError>>;

/// Rows whose run takes at least so long are worth spreading over the graph's instances.
const WORTH_SPREADING_NANOSECONDS: f64 = 1e6;

/// A loaded graph that can be run on raw tensors.
pub struct Graph {
    pub(crate) model: String,
    pub(crate) stem: String,
    pub(crate) version: String,
    pub(crate) info: GraphInfo,
    pub(crate) limits: Limits,
    /// Whether the first dimension of every tensor is the batch.
    pub(crate) batches: bool,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) about: Vec<(&'static str, String)>,
    batcher: Batcher<Call, Answer>,
    check: Option<Box<Check>>,
}

impl Graph {
    /// A graph of a model folder. `submit` hands a job to a thread that owns a session of the graph; `limits` say how many
    /// rows run together, where the graph's shapes allow it.
    pub fn new(folder: &ModelFolder, info: GraphInfo, limits: Limits, submit: impl Fn(Job) -> Result<(), Full> + Send + Sync + 'static) -> Self {
        let stem = info.file.trim_end_matches(".onnx").to_owned();
        let batches = limits.max_batch_cost > 1 && is_batched(&info);
        let limits = Limits { max_batch_cost: if batches { limits.max_batch_cost } else { 1 }, ..limits };
        let statistics = Arc::new(Statistics::default());
        let (shared, counted) = (Arc::new(info.clone()), Arc::clone(&statistics));
        let execute = move |work: Work<Call, Answer>| {
            let (info, statistics) = (Arc::clone(&shared), Arc::clone(&counted));
            let job: Job = Box::new(move |session, cancel| {
                let cancel = cancel.clone();
                work.run(move || cancel.cancel(), |batch| run::batch(session, &info, &batch.requests, &statistics));
            });
            if submit(job).is_err() {
                tracing::error!(graph = shared.file, "the graph's thread takes no work");
            }
        };
        let name = format!("{}/{stem}", folder.name);
        Self {
            model: folder.name.clone(),
            stem,
            version: folder.version.clone(),
            about: vec![("kind", folder.manifest.kind.clone()), ("license", folder.manifest.license.clone())],
            batcher: Batcher::new(&name, limits.clone(), execute),
            info,
            limits,
            batches,
            statistics,
            check: None,
        }
    }

    /// The same, whose inputs are checked before they reach the graph.
    #[must_use]
    pub fn checked(self, check: impl Fn(&GraphInfo, &[RawInput]) -> Result<(), (String, String)> + Send + Sync + 'static) -> Self {
        Self { check: Some(Box::new(check)), ..self }
    }

    /// "MODEL/GRAPH".
    pub fn name(&self) -> String {
        format!("{}/{}", self.model, self.stem)
    }

    /// Runs the graph. Rows of a batched graph are run in as many pieces as is good.
    pub(crate) async fn run(&self, inputs: Vec<RawInput>, ask: Ask) -> Result<Vec<Output>, Error> {
        if let Some(check) = &self.check {
            check(&self.info, &inputs).map_err(|(name, description)| Error::invalid(name, description))?;
        }
        let since = Instant::now();
        let rows = inputs.first().and_then(|input| input.shape.first().copied()).unwrap_or(1);
        let same = inputs.iter().all(|input| input.shape.first() == Some(&rows));
        if self.batches && !same {
            let rows: Vec<usize> = inputs.iter().filter_map(|input| input.shape.first().copied()).collect();
            return Err(Error::invalid("inputs", format!("they have {rows:?} rows: the graph's inputs are one batch, and need as many each")));
        }
        // Rows without elements cost no bytes, and so could be any number.
        let is_empty = inputs.iter().all(|input| input.bytes.is_empty());
        if !self.batches || rows == 0 || is_empty {
            let call = Call { inputs, rows: 1, since };
            // Costs as much as a whole batch, and so shares it with nobody.
            let alone = Ask { rows: self.limits.max_batch_cost, ..ask };
            return self.batcher.submit(call, alone).await?.map_err(Error::Run);
        }
        if rows > self.limits.max_queue_cost {
            let description = format!("{rows} rows: at most {} wait and run for this graph at once", self.limits.max_queue_cost);
            return Err(Error::invalid("inputs[0].shape", description));
        }
        let pieces = self.pieces(rows);
        let each = Ask { rows: rows.div_ceil(pieces), key: key(&inputs), ..ask };
        if pieces == 1 {
            return self.batcher.submit(Call { inputs, rows, since }, each).await?.map_err(Error::Run);
        }
        let mut calls: Vec<Call> = Vec::new();
        for (info, input) in self.info.inputs.iter().zip(&inputs) {
            for (index, piece) in run::pieces(info, input, each.rows)?.into_iter().enumerate() {
                match calls.get_mut(index) {
                    Some(call) => call.inputs.push(piece),
                    None => calls.push(Call { rows: piece.shape.first().copied().unwrap_or(0), inputs: vec![piece], since }),
                }
            }
        }
        let answers = self.batcher.submit_all(calls, each).await?;
        run::join(answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(Error::Run)?)
    }

    /// In how many pieces so many rows are run.
    fn pieces(&self, rows: usize) -> usize {
        let least = rows.div_ceil(self.limits.max_batch_cost.max(1));
        let worth = self.statistics.nanoseconds_per_row() * rows as f64 >= WORTH_SPREADING_NANOSECONDS;
        // Twice as many pieces as instances, so that the last one to finish has little left.
        let spread = if worth && self.limits.instances > 1 { (2 * self.limits.instances).min(rows.div_ceil(4)) } else { 1 };
        least.max(spread)
    }
}

/// Whether a graph's first dimension is the batch: it varies in every tensor, and has one name in all inputs.
fn is_batched(info: &GraphInfo) -> bool {
    let varies = |tensor: &quintet_onnx::TensorInfo| tensor.shape.first().is_some_and(Option::is_none);
    let mut names = info.inputs.iter().map(|input| input.symbols.first().map(String::as_str).unwrap_or_default());
    let first = names.next().unwrap_or_default();
    let one_name = info.inputs.len() == 1 || (!first.is_empty() && names.all(|name| name == first));
    !info.inputs.is_empty() && one_name && info.inputs.iter().chain(&info.outputs).all(varies)
}

/// Requests run together where everything but their rows is alike.
fn key(inputs: &[RawInput]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for input in inputs {
        input.shape.get(1..).hash(&mut hasher);
    }
    hasher.finish()
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("name", &self.name()).field("version", &self.version).finish_non_exhaustive()
    }
}
