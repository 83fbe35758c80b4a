use std::{path::PathBuf, time::Duration};

use quintet_serving::{
    command::BuildError,
    error::{FieldViolation, Kind, ServiceError},
};

/// Why a request was refused, an evaluation failed, or the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the request names does not exist.
    #[error("no {what} '{name}'; there are: {}", known.join(", "))]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No such evaluation.
    #[error("no evaluation '{0}': it never was, or ended long ago and is no longer kept")]
    UnknownEvaluation(String),
    /// Fields of the request are out of range.
    #[error("{}", .0.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldViolation>),
    /// Too many evaluations wait.
    #[error("{waiting} evaluations wait: no more than {limit} may")]
    Full {
        /// How many wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// A data set is damaged.
    #[error("the data set {path} is broken: {reason}")]
    Dataset {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Evaluations cannot be kept, or what was kept cannot be read.
    #[error("the journal {}: {reason}", path.display())]
    Journal {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database that evaluations are kept in does not answer.
    #[error("the database of the evaluations cannot be reached")]
    Unreachable,
    /// The database that evaluations are kept in does not do what it is asked to, or what it holds cannot be read.
    #[error("the database of the evaluations: {0}")]
    Database(String),
    /// Every process that ran the evaluation was lost.
    #[error("{lost} processes were lost while they ran it, and no other is risked")]
    Abandoned {
        /// How many.
        lost: u32,
    },
    /// The process ends before the evaluation has.
    #[error("the service ends: the evaluation's turn comes when it is back")]
    Stopping,
    /// Another service refused or failed.
    #[error("the {service} service: {}", status.message())]
    Peer {
        /// Which one.
        service: &'static str,
        /// What it said.
        status: Box<tonic::Status>,
    },
    /// What was measured cannot be compared.
    #[error("{0}")]
    Mismatch(String),
    /// A model could not be loaded or run.
    #[error(transparent)]
    Onnx(#[from] quintet_onnx::Error),
    /// A computation was given up.
    #[error("the computation was given up")]
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
            Self::Unknown { .. } | Self::UnknownEvaluation(_) => Kind::NotFound,
            Self::Invalid(violations) => Kind::InvalidArgument(violations.clone()),
            Self::Full { .. } => Kind::ResourceExhausted { retry_after: Duration::from_secs(5) },
            Self::Peer { .. } | Self::Stopping | Self::Unreachable => Kind::Unavailable { retry_after: Duration::from_secs(1) },
            Self::Mismatch(_) => Kind::FailedPrecondition,
            Self::Onnx(quintet_onnx::Error::Cancelled) => Kind::Cancelled,
            Self::Dataset { .. }
            | Self::Journal { .. }
            | Self::Database(_)
            | Self::Abandoned { .. }
            | Self::Onnx(_)
            | Self::Ended
            | Self::Setup(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "UNKNOWN_NAME",
            Self::UnknownEvaluation(_) => "UNKNOWN_EVALUATION",
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::Full { .. } => "QUEUE_FULL",
            Self::Dataset { .. } => "BROKEN_DATASET",
            Self::Journal { .. } => "JOURNAL_FAILED",
            Self::Unreachable => "DATABASE_UNREACHABLE",
            Self::Database(_) => "DATABASE_FAILED",
            Self::Abandoned { .. } => "ABANDONED",
            Self::Stopping => "STOPPING",
            Self::Peer { .. } => "PEER_FAILED",
            Self::Mismatch(_) => "MISMATCH",
            Self::Onnx(_) => "INFERENCE_FAILED",
            Self::Ended => "ENDED",
            Self::Setup(_) => "SETUP",
        }
    }
}

impl From<Error> for BuildError {
    fn from(error: Error) -> Self {
        let is_setup = match &error {
            Error::Onnx(error) => error.is_setup(),
            Error::Setup(_) | Error::Dataset { .. } | Error::Journal { .. } => true,
            _ => false,
        };
        Self { message: error.to_string(), is_setup }
    }
}
