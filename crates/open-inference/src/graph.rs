use std::{any::Any, fmt, sync::Arc};

use quintet_onnx::{Full, ModelFolder, Session, TensorInfo};

/// What a graph's owner runs for a request. The owner's thread calls it with the graph's session.
pub type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// Keeps a submitted job alive: dropping it cancels the job.
pub(crate) type Guard = Box<dyn Any + Send + Sync>;

/// A loaded graph that can be run on raw tensors.
#[derive(Clone)]
pub struct Graph {
    pub(crate) model: String,
    pub(crate) stem: String,
    pub(crate) version: String,
    pub(crate) inputs: Vec<TensorInfo>,
    pub(crate) outputs: Vec<TensorInfo>,
    pub(crate) submit: Arc<dyn Fn(Job) -> Result<Guard, Full> + Send + Sync>,
}

impl Graph {
    /// A graph of a model folder. `file` is its file name; `submit` hands a job to the thread that owns its
    /// session, and answers with what cancels the job when dropped.
    pub fn new<G: Any + Send + Sync>(
        folder: &ModelFolder,
        file: &str,
        inputs: Vec<TensorInfo>,
        outputs: Vec<TensorInfo>,
        submit: impl Fn(Job) -> Result<G, Full> + Send + Sync + 'static,
    ) -> Self {
        Self {
            model: folder.name.clone(),
            stem: file.trim_end_matches(".onnx").to_owned(),
            version: folder.version.clone(),
            inputs,
            outputs,
            submit: Arc::new(move |job| submit(job).map(|guard| Box::new(guard) as Guard)),
        }
    }

    /// "MODEL/GRAPH".
    pub fn name(&self) -> String {
        format!("{}/{}", self.model, self.stem)
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("name", &self.name()).field("version", &self.version).finish_non_exhaustive()
    }
}
