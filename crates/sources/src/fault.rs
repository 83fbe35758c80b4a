//! What one try at a store met.

use std::io::ErrorKind;

use object_store::client::HttpError;

use crate::{connector::Answered, environment::Environment};

/// Why one try failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server answered with an error.
    Status(u16),
    /// The connection cannot be had, or broke.
    Lost(String),
    /// Nothing came for too long.
    Stalled,
    /// It ended too early.
    Short {
        /// The bytes that came.
        received: u64,
        /// The bytes that were announced.
        declared: u64,
    },
    /// The answer makes no sense.
    Odd(String),
}

impl Fault {
    /// Whether another try may end better.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Status(status) => *status >= 500 || matches!(*status, 408 | 429),
            Self::Lost(_) | Self::Stalled | Self::Short { .. } => true,
            Self::Odd(_) => false,
        }
    }

    /// Sorts a store's error. Its own words hold URLs with what may be secret; only their innermost part is kept.
    pub(crate) fn of(error: &object_store::Error, environment: &Environment) -> Self {
        let mut at: &(dyn std::error::Error + 'static) = error;
        let mut sorted = match error {
            object_store::Error::NotFound { .. } => Some(Self::Status(404)),
            object_store::Error::PermissionDenied { .. } => Some(Self::Status(403)),
            object_store::Error::Unauthenticated { .. } => Some(Self::Status(401)),
            _ => None,
        };
        let mut lost = false;
        loop {
            if let Some(Answered(status)) = at.downcast_ref() {
                return Self::Status(status.as_u16());
            }
            lost = lost || at.is::<HttpError>();
            if let Some(io) = at.downcast_ref::<std::io::Error>()
                && !lost
            {
                match io.kind() {
                    ErrorKind::NotFound => sorted = sorted.or(Some(Self::Status(404))),
                    ErrorKind::PermissionDenied => sorted = sorted.or(Some(Self::Status(403))),
                    _ => lost = true,
                }
            }
            match at.source() {
                Some(source) => at = source,
                None => break,
            }
        }
        if let Some(fault) = sorted {
            return fault;
        }
        let reason = environment.scrub(&at.to_string());
        if lost { Self::Lost(reason) } else { Self::Odd(reason) }
    }
}
