use std::time::Duration;

use quintet_serving::error::{FieldViolation, Kind, ServiceError};

/// Why an inference request was refused or failed.
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
    /// The graph is loaded in another version.
    #[error("version '{asked}' of '{name}' is not loaded; version '{loaded}' is")]
    UnknownVersion {
        /// The graph.
        name: String,
        /// The version asked for.
        asked: String,
        /// The version there is.
        loaded: String,
    },
    /// The request does not make sense.
    #[error("{field}: {description}")]
    Invalid {
        /// The field at fault.
        field: String,
        /// What is wrong with it, with the value and the limit.
        description: String,
    },
    /// The graph's queue is full.
    #[error("the graph's queue is full")]
    Full,
    /// The graph could not run on these tensors.
    #[error(transparent)]
    Onnx(#[from] quintet_onnx::Error),
    /// The graph's thread has ended.
    #[error("the graph's thread has ended")]
    Ended,
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownGraph { .. } | Self::UnknownVersion { .. } => Kind::NotFound,
            Self::Invalid { field, description } => {
                Kind::InvalidArgument(vec![FieldViolation { field: field.clone(), description: description.clone() }])
            }
            Self::Full => Kind::ResourceExhausted { retry_after: Duration::from_millis(100) },
            // What a graph refuses at run time are its client's shapes and values: raw tensors are not checked
            // any further than the graph itself checks them.
            Self::Onnx(quintet_onnx::Error::Tensor { name, reason }) => {
                Kind::InvalidArgument(vec![FieldViolation { field: name.clone(), description: reason.clone() }])
            }
            Self::Onnx(quintet_onnx::Error::Runtime { message, .. }) => {
                Kind::InvalidArgument(vec![FieldViolation { field: "inputs".to_owned(), description: message.clone() }])
            }
            Self::Onnx(quintet_onnx::Error::Cancelled) => Kind::Cancelled,
            Self::Onnx(_) | Self::Ended => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownGraph { .. } => "UNKNOWN_MODEL",
            Self::UnknownVersion { .. } => "UNKNOWN_MODEL_VERSION",
            Self::Invalid { .. } => "INVALID_REQUEST",
            Self::Full => "QUEUE_FULL",
            Self::Onnx(_) => "INFERENCE_FAILED",
            Self::Ended => "MODEL_THREAD_ENDED",
        }
    }
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), description: description.into() }
    }
}
