use std::{borrow::Cow, collections::BTreeMap, fmt, path::Path, sync::Arc};

use ndarray::ArrayViewD;
use ort::{
    session::{NoSelectedOutputs, RunOptions, SessionInputValue, SessionOutputs, builder::GraphOptimizationLevel},
    value::{DynValue, PrimitiveTensorElementType, ValueType},
};

use crate::{Canceller, ElementType, Error, ModelFolder, Runtime, ServingSettings, Tensor, golden, native, tensor::bytes_of};

/// A graph, loaded and ready to run on the thread that owns it.
pub struct Session {
    pub(crate) inner: ort::session::Session,
    pub(crate) options: Arc<RunOptions<NoSelectedOutputs>>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    provider_nodes: BTreeMap<String, u32>,
    graph: String,
    gpu: Option<u16>,
    records: bool,
}

/// What a graph says of one of its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: ElementType,
    /// Its shape; `None` where it varies from run to run.
    pub shape: Vec<Option<usize>>,
    /// The names of the dimensions that vary; empty where one has none.
    pub symbols: Vec<String>,
}

/// What a graph says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphInfo {
    /// Its file.
    pub file: String,
    /// Its inputs, in its order.
    pub inputs: Vec<TensorInfo>,
    /// Its outputs, in its order.
    pub outputs: Vec<TensorInfo>,
    /// How many of its nodes each provider runs.
    pub provider_nodes: BTreeMap<String, u32>,
}

impl GraphInfo {
    /// How many nodes of several graphs each provider runs.
    pub fn provider_nodes(graphs: &[Self]) -> BTreeMap<String, u32> {
        let mut nodes = BTreeMap::new();
        for (provider, count) in graphs.iter().flat_map(|graph| &graph.provider_nodes) {
            *nodes.entry(provider.clone()).or_default() += count;
        }
        nodes
    }
}

impl Session {
    /// Opens a graph of a model folder as its settings say; with `verify`, it must reproduce its golden pair.
    pub fn of(folder: &ModelFolder, file: &str, runtime: &Runtime, verify: bool) -> Result<Self, Error> {
        let mut session = Self::open(runtime, &folder.file(file)?, &folder.manifest.serving)?;
        if verify {
            golden::verify(folder, &mut session)?;
        }
        Ok(session)
    }

    /// The same, with runs of fixed shapes recorded where that can be: on a GPU that runs the whole graph. See [`Self::records`].
    pub fn recording(folder: &ModelFolder, file: &str, runtime: &Runtime, verify: bool) -> Result<Self, Error> {
        let (path, settings) = (folder.file(file)?, &folder.manifest.serving);
        let mut session = match Self::open_on(runtime, &path, settings, runtime.cuda_graphs) {
            Err(Error::Runtime { message, .. }) if message.contains("graph capture") => {
                tracing::warn!(model = folder.id(), file, reason = message, "its runs are not recorded");
                Self::open(runtime, &path, settings)?
            }
            opened => opened?,
        };
        if verify {
            golden::verify(folder, &mut session)?;
        }
        Ok(session)
    }

    /// Opens a graph as the model's settings say, else on the runtime's provider with the threads that all share.
    pub fn open(runtime: &Runtime, graph: &Path, settings: &ServingSettings) -> Result<Self, Error> {
        Self::open_on(runtime, graph, settings, false)
    }

    fn open_on(runtime: &Runtime, graph: &Path, settings: &ServingSettings, records: bool) -> Result<Self, Error> {
        let provider = settings.provider.unwrap_or(runtime.provider);
        let mut refusal = None;
        for (gpu, candidate) in provider.candidates(records) {
            let doing = Error::runtime("open a session");
            let mut builder = ort::session::Session::builder(&runtime.environment).map_err(doing)?;
            if let Some(threads) = settings.threads.filter(|threads| *threads > 0) {
                builder = builder.with_independent_thread_pool().map_err(Error::runtime("open a session"))?;
                builder = builder.with_intra_threads(threads).map_err(Error::runtime("open a session"))?;
                // Left alone the threads of such a pool spin.
                builder = builder.with_intra_op_spinning(runtime.spin).map_err(Error::runtime("open a session"))?;
            }
            match builder.with_execution_providers([candidate]) {
                Ok(builder) => return Self::commit(builder, graph, gpu, records && gpu.is_some()),
                Err(error) => refusal = Some(error.message().to_owned()),
            }
        }
        Err(Error::ProviderUnavailable { provider: provider.to_string(), reason: refusal.unwrap_or_else(|| "no provider to try".to_owned()) })
    }

    fn commit(builder: ort::session::builder::SessionBuilder, graph: &Path, gpu: Option<u16>, records: bool) -> Result<Self, Error> {
        let doing = || format!("load {}", graph.display());
        let inner = builder
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(Error::runtime(doing()))?
            .with_config_entry("session.record_ep_graph_assignment_info", "1")
            .map_err(Error::runtime(doing()))?
            .commit_from_file(graph)
            .map_err(Error::runtime(doing()))?;
        let inputs = inner.inputs().iter().map(TensorInfo::from_outlet).collect::<Result<_, _>>()?;
        let outputs = inner.outputs().iter().map(TensorInfo::from_outlet).collect::<Result<_, _>>()?;
        let provider_nodes = native::provider_nodes(&inner).map_err(Error::runtime("read the graph's assignment"))?;
        let mut options = RunOptions::new().map_err(Error::runtime("make run options"))?;
        if records {
            // Runs are recorded only where they ask for it, by a number of their own.
            options.set("gpu_graph_id", "-1").map_err(Error::runtime("make run options"))?;
        }
        let options = Arc::new(options);
        let graph = graph.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { inner, options, inputs, outputs, provider_nodes, graph, gpu, records })
    }

    /// The graph's file name.
    pub fn graph(&self) -> &str {
        &self.graph
    }

    /// The index of the GPU that it was opened on; `None` where that is the processor.
    pub fn gpu(&self) -> Option<u16> {
        self.gpu
    }

    /// Whether it can record runs: [`KvCache::play`](crate::KvCache::play) does.
    pub fn records(&self) -> bool {
        self.records
    }

    /// What the graph says of itself.
    pub fn info(&self) -> GraphInfo {
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        GraphInfo { file: self.graph.clone(), inputs, outputs, provider_nodes: self.provider_nodes.clone() }
    }

    /// The graph's inputs, in its order.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// The graph's outputs, in its order.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// How many of the graph's nodes each provider runs, as the runtime reports it.
    pub fn provider_nodes(&self) -> &BTreeMap<String, u32> {
        &self.provider_nodes
    }

    /// What cancels this session's runs from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.options))
    }

    /// Takes back a cancellation. The owner calls it when it takes up new work: whatever was cancelled before
    /// is over by then.
    pub fn arm(&mut self) {
        if let Err(error) = self.options.unterminate() {
            tracing::error!(error = error.message(), "a session cannot be armed");
        }
    }

    /// Runs the graph on named inputs and answers with all its outputs.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs<'_>, Error> {
        let inputs: Vec<(&str, Input<'_>)> = inputs.iter().map(|(name, tensor)| (*name, Input::Tensor(tensor))).collect();
        self.run_mixed(&inputs)
    }

    /// The same, where some inputs are another run's outputs.
    pub fn run_mixed(&mut self, inputs: &[(&str, Input<'_>)]) -> Result<Outputs<'_>, Error> {
        let mut values = Vec::with_capacity(inputs.len());
        for (name, input) in inputs {
            let value = match input {
                Input::Tensor(tensor) => tensor.as_input().map_err(|error| Error::tensor(*name, error.message()))?,
                Input::Value(value) => SessionInputValue::from(&value.0),
            };
            values.push((Cow::Borrowed(*name), value));
        }
        let result = self.inner.run_with_options(values, &*self.options);
        result.map(Outputs).map_err(|error| run_error(&self.graph, &error))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("graph", &self.graph).field("provider_nodes", &self.provider_nodes).finish_non_exhaustive()
    }
}

pub(crate) fn run_error(graph: &str, error: &ort::Error) -> Error {
    // The runtime has no code of its own for a terminated run.
    if error.message().contains("terminate flag") {
        Error::Cancelled
    } else {
        Error::Runtime { doing: format!("run {graph}"), message: error.message().to_owned() }
    }
}

/// A tensor in the runtime's memory that came out of a run.
#[derive(Debug)]
pub struct Value(DynValue);

/// An input of a run.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A tensor of ours.
    Tensor(&'a Tensor),
    /// An output of an earlier run.
    Value(&'a Value),
}

/// The outputs of one run, still in the runtime's memory.
#[derive(Debug)]
pub struct Outputs<'a>(pub(crate) SessionOutputs<'a>);

impl Outputs<'_> {
    /// An output of 32-bit floats, without a copy.
    pub fn f32(&self, name: &str) -> Result<ArrayViewD<'_, f32>, Error> {
        self.array(name)
    }

    /// An output of 64-bit integers, without a copy.
    pub fn i64(&self, name: &str) -> Result<ArrayViewD<'_, i64>, Error> {
        self.array(name)
    }

    fn array<T: PrimitiveTensorElementType>(&self, name: &str) -> Result<ArrayViewD<'_, T>, Error> {
        let value = self.0.get(name).ok_or_else(|| Error::tensor(name, "the graph has no such output"))?;
        value.try_extract_array::<T>().map_err(|error| Error::tensor(name, error.message()))
    }

    /// Takes an output as it is, to be another run's input without a copy.
    pub fn take(&mut self, name: &str) -> Result<Value, Error> {
        self.0.remove(name).map(Value).ok_or_else(|| Error::tensor(name, "the graph has no such output"))
    }

    /// An output's type, its shape, and its elements as little-endian bytes: see [`Tensor::to_le_bytes`].
    pub fn le_bytes(&self, name: &str) -> Result<(ElementType, Vec<usize>, Vec<u8>), Error> {
        let value = self.0.get(name).ok_or_else(|| Error::tensor(name, "the graph has no such output"))?;
        bytes_of(value).map_err(|error| Error::tensor(name, error.message()))
    }
}

impl TensorInfo {
    fn from_outlet(outlet: &ort::value::Outlet) -> Result<Self, Error> {
        let unsupported = || Error::tensor(outlet.name(), format!("values of type {} are not supported", outlet.dtype()));
        let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else { return Err(unsupported()) };
        Ok(Self {
            name: outlet.name().to_owned(),
            element: ElementType::from_ort(*ty).ok_or_else(unsupported)?,
            shape: shape.iter().map(|size| usize::try_from(*size).ok()).collect(),
            symbols: dimension_symbols.iter().cloned().collect(),
        })
    }
}
