use std::{sync::Arc, time::Duration};

use quintet_batching::Rejected;
use quintet_onnx::Missing;
use quintet_serving::{
    command::BuildError,
    error::{FieldViolation, Kind, ServiceError},
};

/// Why a request was refused or failed, or the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model that was asked for is not loaded.
    #[error(transparent)]
    Missing(#[from] Missing),
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
    /// The deadline passed while the request waited.
    #[error("the deadline passed while the request waited")]
    Expired,
    /// A batch could not be run.
    #[error(transparent)]
    Run(Arc<quintet_onnx::Error>),
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
            Self::Missing(_) => Kind::NotFound,
            Self::NoDiscriminator(_) => Kind::FailedPrecondition,
            Self::Invalid(violations) => Kind::InvalidArgument(violations.clone()),
            Self::Full { .. } => Kind::ResourceExhausted { retry_after: Duration::from_millis(250) },
            Self::Expired => Kind::DeadlineExceeded,
            Self::Onnx(quintet_onnx::Error::Cancelled) => Kind::Cancelled,
            Self::Run(error) if matches!(**error, quintet_onnx::Error::Cancelled) => Kind::Cancelled,
            Self::Run(_) | Self::Onnx(_) | Self::Encoding(_) | Self::Ended | Self::Setup(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Missing(missing) => missing.reason(),
            Self::NoDiscriminator(_) => "NO_DISCRIMINATOR",
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::Full { .. } => "QUEUE_FULL",
            Self::Expired => "DEADLINE_PASSED",
            Self::Run(_) | Self::Onnx(_) => "INFERENCE_FAILED",
            Self::Encoding(_) => "ENCODING_FAILED",
            Self::Ended => "MODEL_THREAD_ENDED",
            Self::Setup(_) => "SETUP",
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
