use std::time::Duration;

use quintet_serving::{
    command::BuildError,
    error::{FieldViolation, Kind, ServiceError},
};

/// Why a request was refused or failed, or the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such model is loaded.
    #[error("no image model '{name}' is loaded; there are: {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No model is loaded at all.
    #[error("no image model is loaded")]
    NoModel,
    /// The model has no discriminator.
    #[error("'{0}' has no discriminator")]
    NoDiscriminator(String),
    /// Fields of the request are out of range.
    #[error("{}", .0.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldViolation>),
    /// The queue is full.
    #[error("the model's queue is full: {waiting} of {limit} images wait")]
    Full {
        /// How many wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// A model could not be loaded or run.
    #[error(transparent)]
    Onnx(#[from] quintet_onnx::Error),
    /// A picture could not be encoded.
    #[error("a picture cannot be encoded: {0}")]
    Encoding(String),
    /// The model's thread has ended.
    #[error("the model's thread has ended")]
    Ended,
    /// The service's own configuration does not work.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.into(), description: description.into() }])
    }
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownModel { .. } | Self::NoModel => Kind::NotFound,
            Self::NoDiscriminator(_) => Kind::FailedPrecondition,
            Self::Invalid(violations) => Kind::InvalidArgument(violations.clone()),
            Self::Full { .. } => Kind::ResourceExhausted { retry_after: Duration::from_millis(250) },
            Self::Onnx(quintet_onnx::Error::Cancelled) => Kind::Cancelled,
            Self::Onnx(_) | Self::Encoding(_) | Self::Ended | Self::Setup(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownModel { .. } | Self::NoModel => "UNKNOWN_MODEL",
            Self::NoDiscriminator(_) => "NO_DISCRIMINATOR",
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::Full { .. } => "QUEUE_FULL",
            Self::Onnx(_) => "INFERENCE_FAILED",
            Self::Encoding(_) => "ENCODING_FAILED",
            Self::Ended => "MODEL_THREAD_ENDED",
            Self::Setup(_) => "SETUP",
        }
    }
}

impl From<Error> for BuildError {
    fn from(error: Error) -> Self {
        let is_setup = match &error {
            Error::Onnx(error) => error.is_setup(),
            Error::Setup(_) => true,
            _ => false,
        };
        Self { message: error.to_string(), is_setup }
    }
}
