use std::{sync::Arc, time::Duration};

use quintet_batching::Rejected;
use quintet_onnx::{Error as OnnxError, Missing};
use quintet_serving::error::{FieldViolation, Kind, ServiceError};

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such graph is loaded.
    #[error("no graph '{name}' is loaded; there are: {}", known.join(", "))]
    UnknownGraph {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The repository has nothing to load for a model.
    #[error("the repository holds no version of '{name}' that is to be served; it holds: {}", known.join(", "))]
    NotInRepository {
        /// The model asked for.
        name: String,
        /// What the repository holds, as NAME@VERSION.
        known: Vec<String>,
    },
    /// The model is not loaded in that version.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The request does not make sense.
    #[error("{field}: {description}")]
    Invalid {
        /// The field at fault.
        field: String,
        /// What is wrong with it, with the value and the limit.
        description: String,
    },
    /// The graph's queue is full.
    #[error("the graph's queue is full: {waiting} of {limit} rows wait")]
    Full {
        /// How many wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// As many regions of shared memory are registered as may be.
    #[error("{limit} shared memory regions are registered, as many as may be: unregister one")]
    Regions {
        /// How many may be.
        limit: usize,
    },
    /// The deadline passed while the request waited.
    #[error("the deadline passed while the request waited")]
    Expired,
    /// The graph could not run on these tensors.
    #[error(transparent)]
    Run(Arc<OnnxError>),
    /// A model could not be loaded.
    #[error(transparent)]
    Load(OnnxError),
    /// The repository is not managed by clients.
    #[error("models are not loaded and unloaded by clients here: models.control = {0:?}; \"explicit\" allows it")]
    NotExplicit(&'static str),
    /// What is to be made exists.
    #[error("{0}")]
    Exists(String),
    /// The server does not do this.
    #[error("{0}")]
    Unsupported(String),
    /// A GPU's memory that is shared with a client cannot be used.
    #[error("{0}")]
    SharedMemory(String),
    /// Files could not be kept.
    #[error("a file cannot be kept: {0}")]
    Disk(#[from] std::io::Error),
    /// The graph's thread has ended.
    #[error("the graph's thread has ended")]
    Ended,
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        let invalid = |field: &str, description: &str| {
            Kind::InvalidArgument(vec![FieldViolation { field: field.to_owned(), description: description.to_owned() }])
        };
        match self {
            Self::UnknownGraph { .. } | Self::NotInRepository { .. } | Self::Missing(_) => Kind::NotFound,
            Self::Invalid { field, description } => invalid(field, description),
            Self::Full { .. } | Self::Regions { .. } => Kind::ResourceExhausted { retry_after: Duration::from_millis(100) },
            Self::Expired => Kind::DeadlineExceeded,
            // What a graph refuses at run time are its client's shapes and values: raw tensors are not checked
            // any further than the graph itself checks them.
            Self::Run(error) => match &**error {
                OnnxError::Tensor { name, reason } => invalid(name, reason),
                OnnxError::Runtime { message, .. } => invalid("inputs", message),
                OnnxError::Cancelled => Kind::Cancelled,
                _ => Kind::Internal,
            },
            Self::Load(_) | Self::NotExplicit(_) | Self::SharedMemory(_) => Kind::FailedPrecondition,
            Self::Exists(_) => Kind::AlreadyExists,
            Self::Unsupported(_) => Kind::Unimplemented,
            Self::Disk(_) | Self::Ended => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownGraph { .. } | Self::NotInRepository { .. } => "UNKNOWN_MODEL",
            Self::Missing(missing) => missing.reason(),
            Self::Invalid { .. } => "INVALID_REQUEST",
            Self::Full { .. } => "QUEUE_FULL",
            Self::Regions { .. } => "TOO_MANY_REGIONS",
            Self::Expired => "DEADLINE_PASSED",
            Self::Run(_) => "INFERENCE_FAILED",
            Self::Load(_) => "LOAD_FAILED",
            Self::NotExplicit(_) => "NOT_EXPLICIT",
            Self::Exists(_) => "EXISTS",
            Self::Unsupported(_) => "UNSUPPORTED",
            Self::SharedMemory(_) => "SHARED_MEMORY",
            Self::Disk(_) => "DISK",
            Self::Ended => "MODEL_THREAD_ENDED",
        }
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Full { waiting, limit } => Self::Full { waiting, limit },
            Rejected::Expired => Self::Expired,
            Rejected::Unanswered => Self::Ended,
        }
    }
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), description: description.into() }
    }
}
