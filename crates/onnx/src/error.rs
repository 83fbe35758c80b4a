use std::path::PathBuf;

/// What can go wrong between a model folder and an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No ONNX Runtime library was found.
    #[error(
        "no ONNX Runtime library found; looked at: {}; run `scripts/onnxruntime` to fetch version {version}, \
         or name a library with `runtime.library` in the configuration, QUINTET_RUNTIME__LIBRARY or ORT_DYLIB_PATH",
        looked_at.join(", ")
    )]
    LibraryMissing {
        /// Every place that was tried, in order.
        looked_at: Vec<String>,
        /// The version that the project is tested with.
        version: &'static str,
    },
    /// A library was found but could not be used.
    #[error("the ONNX Runtime library {path} cannot be used: {reason}; version {version} is the one Quintet is tested with")]
    LibraryUnusable {
        /// The library.
        path: String,
        /// Why not.
        reason: String,
        /// The version that the project is tested with.
        version: &'static str,
    },
    /// A provider was asked for that this machine or this library does not have.
    #[error("the execution provider '{provider}' cannot be had: {reason}; set `runtime.provider` to \"cpu\", or to \"auto\" to take what there is")]
    ProviderUnavailable {
        /// The provider asked for.
        provider: String,
        /// Why it cannot be had.
        reason: String,
    },
    /// A model repository could not be read.
    #[error("the model repository {path} cannot be read: {reason}")]
    Repository {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Models from elsewhere could not be fetched.
    #[error("models.sources: {0}")]
    Sources(String),
    /// A model folder is incomplete, damaged or does not make sense.
    #[error("the model folder {folder} is broken: {file}: {reason}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The file at fault.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A graph gave other outputs than its golden pair says.
    #[error("the graph {graph} does not reproduce its golden pair: output '{output}' differs by {difference:.3e}, the limit is {limit:.1e}")]
    GoldenMismatch {
        /// The graph.
        graph: String,
        /// The output.
        output: String,
        /// The largest difference, absolute below 1 and relative above.
        difference: f64,
        /// The largest difference allowed.
        limit: f64,
    },
    /// A model could not be loaded.
    #[error("the model {model} cannot be loaded: {reason}")]
    Load {
        /// The model and its version.
        model: String,
        /// Why not.
        reason: String,
    },
    /// A model could not be loaded before, and has not changed since.
    #[error("the model {model} could not be loaded and has not changed since: {reason}")]
    FailedBefore {
        /// The model and its version.
        model: String,
        /// Why not.
        reason: String,
    },
    /// A tensor has another type or shape than expected.
    #[error("tensor '{name}': {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// ONNX Runtime reported an error.
    #[error("{doing}: {message}")]
    Runtime {
        /// What was being done.
        doing: String,
        /// The runtime's own words.
        message: String,
    },
    /// A thread could not be started, or ended by itself.
    #[error("the thread of '{0}' cannot be had")]
    Thread(String),
}

impl Error {
    pub(crate) fn runtime<R>(doing: impl Into<String>) -> impl FnOnce(ort::Error<R>) -> Self {
        move |error| Self::Runtime { doing: doing.into(), message: error.message().to_owned() }
    }

    /// A tensor that is not as it should be.
    pub fn tensor(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Tensor { name: name.into(), reason: reason.into() }
    }

    /// Whether the fault lies in what the operator has to provide, a library or a model folder, rather than
    /// in the program: `quintet` then ends with code 78 instead of 70.
    pub fn is_setup(&self) -> bool {
        matches!(
            self,
            Self::LibraryMissing { .. }
                | Self::LibraryUnusable { .. }
                | Self::ProviderUnavailable { .. }
                | Self::Repository { .. }
                | Self::Sources(_)
                | Self::Folder { .. }
                | Self::Load { .. }
                | Self::GoldenMismatch { .. }
        )
    }
}
