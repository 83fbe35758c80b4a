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
    /// The model cannot do what was asked.
    #[error("'{model}' is {kind}: it cannot {action}; {}", able_in_words(able))]
    WrongKind {
        /// The model.
        model: String,
        /// What it is.
        kind: &'static str,
        /// What was asked.
        action: &'static str,
        /// The models that can.
        able: Vec<String>,
    },
    /// Fields of the request are out of range.
    #[error("{}", .0.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldViolation>),
    /// The queue is full.
    #[error("the model's queue is full: {waiting} of {limit} {unit} wait")]
    Full {
        /// How much waits.
        waiting: usize,
        /// The most that may wait.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// The tokenization service refused these fields of a request to it.
    #[error("the tokenization service refused {}", .0.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect::<Vec<_>>().join("; "))]
    Refused(Vec<FieldViolation>),
    /// The tokenization service cannot be reached or failed.
    #[error("the tokenization service: {}", .0.message())]
    Tokenization(tonic::Status),
    /// The deadline passed while the request waited.
    #[error("the deadline passed while the request waited")]
    Expired,
    /// A batch could not be run.
    #[error(transparent)]
    Run(Arc<quintet_onnx::Error>),
    /// A model could not be loaded or run.
    #[error(transparent)]
    Onnx(#[from] quintet_onnx::Error),
    /// A guide could not be compiled, through no fault of its own.
    #[error("the guide could not be compiled: {0}")]
    Guide(String),
    /// The model's thread has ended.
    #[error("the model's thread has ended")]
    Ended,
    /// The service's own configuration does not work.
    #[error("{0}")]
    Setup(String),
}

fn able_in_words(able: &[String]) -> String {
    if able.is_empty() { "no model that is loaded can".to_owned() } else { format!("{} can", able.join(", ")) }
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.into(), description: description.into() }])
    }
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        let retry_after = Duration::from_millis(250);
        match self {
            Self::Missing(_) => Kind::NotFound,
            // What was refused of no field of the request: the model and its tokenizer do not fit.
            Self::WrongKind { .. } | Self::Refused(_) => Kind::FailedPrecondition,
            Self::Invalid(violations) => Kind::InvalidArgument(violations.clone()),
            Self::Full { .. } => Kind::ResourceExhausted { retry_after },
            Self::Tokenization(status) => match status.code() {
                // A model without a tokenizer, or whose tokenizer has no chat template: trying again does not help.
                tonic::Code::NotFound | tonic::Code::FailedPrecondition => Kind::FailedPrecondition,
                tonic::Code::ResourceExhausted => Kind::ResourceExhausted { retry_after },
                tonic::Code::DeadlineExceeded => Kind::DeadlineExceeded,
                // CANCELLED among them: nobody there cancels a call by itself, so its connection went with the process at the other
                // end. Where this call's own client has gone, nobody reads what this says.
                _ => Kind::Unavailable { retry_after },
            },
            Self::Expired => Kind::DeadlineExceeded,
            Self::Onnx(quintet_onnx::Error::Cancelled) => Kind::Cancelled,
            Self::Run(error) if matches!(**error, quintet_onnx::Error::Cancelled) => Kind::Cancelled,
            Self::Run(_) | Self::Onnx(_) | Self::Ended | Self::Guide(_) | Self::Setup(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Missing(missing) => missing.reason(),
            Self::WrongKind { .. } => "WRONG_MODEL_KIND",
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::Full { .. } => "QUEUE_FULL",
            Self::Refused(_) | Self::Tokenization(_) => "TOKENIZATION_FAILED",
            Self::Expired => "DEADLINE_PASSED",
            Self::Run(_) | Self::Onnx(_) => "INFERENCE_FAILED",
            Self::Guide(_) => "GUIDE_FAILED",
            Self::Ended => "MODEL_THREAD_ENDED",
            Self::Setup(_) => "SETUP",
        }
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Full { waiting, limit } => Self::Full { waiting, limit, unit: "tokens" },
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
