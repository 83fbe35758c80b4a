use std::{path::PathBuf, time::Duration};

use quintet_onnx::Missing;
use quintet_serving::{
    command::BuildError,
    error::{FieldViolation, Kind, ServiceError},
};

use crate::engine::{Refused, Violation};

/// Why a request was refused or failed, or the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No model folder has a tokenizer.
    #[error("the model repository {} has no model folder with a tokenizer.json", .0.display())]
    NoTokenizer(PathBuf),
    /// The configured default is not among the tokenizers.
    #[error("tokenization.default_model = {name:?}: {missing}")]
    UnknownDefault {
        /// The name configured.
        name: String,
        /// What there is.
        missing: Missing,
    },
    /// The tokenizer that was asked for is not loaded.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Fields of the request are out of range.
    #[error("{}", .0.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldViolation>),
    /// Too much text waits.
    #[error("too much text is being worked on to take {bytes} bytes more: {limit} bytes is the limit")]
    Full {
        /// The bytes of this request.
        bytes: usize,
        /// The most bytes in work and waiting.
        limit: usize,
    },
    /// The tokenizer cannot do what is asked of it.
    #[error("{0}")]
    Unable(String),
    /// The client has gone.
    #[error("the call was cancelled")]
    Cancelled,
    /// A tokenizer failed at something that no input should make it fail at.
    #[error("{doing}: {reason}")]
    Tokenizer {
        /// What was being done.
        doing: &'static str,
        /// The tokenizer's own words.
        reason: String,
    },
    /// A model folder is broken.
    #[error(transparent)]
    Onnx(#[from] quintet_onnx::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.into(), description: description.into() }])
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::invalid(violation.field, violation.description)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full { bytes, limit } => Self::Full { bytes, limit },
            Refused::Ended => Self::Tokenizer { doing: "a large request", reason: "its thread has ended".to_owned() },
        }
    }
}

impl From<Error> for BuildError {
    fn from(error: Error) -> Self {
        let is_setup = match &error {
            Error::NoTokenizer(_) | Error::UnknownDefault { .. } => true,
            Error::Onnx(error) => error.is_setup(),
            _ => false,
        };
        Self { message: error.to_string(), is_setup }
    }
}

impl ServiceError for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) => Kind::NotFound,
            Self::Invalid(violations) => Kind::InvalidArgument(violations.clone()),
            Self::Full { .. } => Kind::ResourceExhausted { retry_after: Duration::from_millis(250) },
            Self::Unable(_) => Kind::FailedPrecondition,
            Self::Cancelled => Kind::Cancelled,
            Self::NoTokenizer(_) | Self::UnknownDefault { .. } | Self::Tokenizer { .. } | Self::Onnx(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoTokenizer(_) | Self::UnknownDefault { .. } => "SETUP",
            Self::Missing(Missing::Version { .. }) => "UNKNOWN_TOKENIZER_VERSION",
            Self::Missing(_) => "UNKNOWN_TOKENIZER",
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::Full { .. } => "QUEUE_FULL",
            Self::Unable(_) => "UNABLE",
            Self::Cancelled => "CANCELLED",
            Self::Tokenizer { .. } => "TOKENIZER_FAILED",
            Self::Onnx(_) => "BROKEN_MODEL",
        }
    }
}
