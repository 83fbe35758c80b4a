use std::time::Duration;

use quintet_serving::{
    command::BuildError,
    error::{FieldViolation, Kind, ServiceError},
};

/// Why a request was refused or failed, or the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such model is loaded.
    #[error("no anomaly model '{name}' is loaded; there are: {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No model is loaded at all.
    #[error("no anomaly model is loaded")]
    NoModel,
    /// The model has no such calibration.
    #[error("'{model}' has no calibration '{name}'; there are: {}", known.join(", "))]
    UnknownCalibration {
        /// The model.
        model: String,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The model has as many calibrations as it may.
    #[error("'{model}' has {limit} calibrations: no more are kept")]
    TooManyCalibrations {
        /// The model.
        model: String,
        /// The most it may have.
        limit: usize,
    },
    /// Fields of the request are out of range.
    #[error("{}", .0.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldViolation>),
    /// The queue is full.
    #[error("the model's queue is full: {waiting} of {limit} samples wait")]
    Full {
        /// How many wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// A model could not be loaded or run.
    #[error(transparent)]
    Onnx(#[from] quintet_onnx::Error),
    /// A heat map could not be drawn.
    #[error("a heat map cannot be drawn: {0}")]
    Drawing(String),
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
            Self::UnknownModel { .. } | Self::NoModel | Self::UnknownCalibration { .. } => Kind::NotFound,
            Self::Invalid(violations) => Kind::InvalidArgument(violations.clone()),
            Self::Full { .. } => Kind::ResourceExhausted { retry_after: Duration::from_millis(250) },
            Self::TooManyCalibrations { .. } => Kind::FailedPrecondition,
            Self::Onnx(quintet_onnx::Error::Cancelled) => Kind::Cancelled,
            Self::Onnx(_) | Self::Drawing(_) | Self::Ended | Self::Setup(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownModel { .. } | Self::NoModel => "UNKNOWN_MODEL",
            Self::UnknownCalibration { .. } => "UNKNOWN_CALIBRATION",
            Self::TooManyCalibrations { .. } => "TOO_MANY_CALIBRATIONS",
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::Full { .. } => "QUEUE_FULL",
            Self::Onnx(_) => "INFERENCE_FAILED",
            Self::Drawing(_) => "DRAWING_FAILED",
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
