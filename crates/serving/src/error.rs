//! One list of what can go wrong, and the one place where it becomes a gRPC status.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The most bytes of a status's message, of a field or its description, and of all violations together. A status travels in
/// headers, of which clients take some kilobytes; what it repeats of a request may be as long as the client likes.
const MAX_MESSAGE: usize = 1024;
const MAX_FIELD: usize = 512;
const MAX_DETAILS: usize = 2048;

/// The domain of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "quintet";

/// What kind of error it is to the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The request is wrong and will stay wrong: these fields, for these reasons.
    InvalidArgument(Vec<FieldViolation>),
    /// What the request names does not exist.
    NotFound,
    /// What the request would make exists.
    AlreadyExists,
    /// What the request names exists but cannot do this.
    FailedPrecondition,
    /// The service is full.
    ResourceExhausted {
        /// When to try again.
        retry_after: Duration,
    },
    /// Something the service needs cannot be reached.
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// The client did not say who it is, or is not known.
    Unauthenticated,
    /// The client may not do this.
    PermissionDenied,
    /// The client's deadline has passed.
    DeadlineExceeded,
    /// The client has gone, or the work was cancelled.
    Cancelled,
    /// The service does not do this.
    Unimplemented,
    /// The work was given up because of something that happened meanwhile.
    Aborted,
    /// A fault of the service's own.
    Internal,
}

/// A field of a request that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's path, such as `samples[3].values[7]`.
    pub field: String,
    /// The value and the limit.
    pub description: String,
}

/// What every service's error says of itself.
pub trait ServiceError: std::error::Error + Send + Sync + 'static {
    /// What kind of error it is.
    fn kind(&self) -> Kind;
    /// A constant in `UPPER_SNAKE_CASE` that programs can test for.
    fn reason(&self) -> &'static str;
}

/// The status that a client gets for an error, with `google.rpc` details.
///
/// An internal fault is logged with its chain of causes under a fresh id, and the client gets the id alone.
pub fn status(error: &dyn ServiceError) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason(), DOMAIN, [] as [(String, String); 0]);
    let code = match error.kind() {
        Kind::InvalidArgument(violations) => {
            let mut room = MAX_DETAILS;
            let count = violations.len();
            for (index, violation) in violations.into_iter().enumerate() {
                let (field, description) = (shortened(&violation.field, MAX_FIELD), shortened(&violation.description, MAX_FIELD));
                room = room.saturating_sub(field.len() + description.len());
                details.add_bad_request_violation(field, description);
                if room == 0 && index + 1 < count {
                    details.add_bad_request_violation("", format!("and {} more", count - index - 1));
                    break;
                }
            }
            Code::InvalidArgument
        }
        Kind::ResourceExhausted { retry_after } => {
            details.set_retry_info(Some(retry_after));
            Code::ResourceExhausted
        }
        Kind::Unavailable { retry_after } => {
            details.set_retry_info(Some(retry_after));
            Code::Unavailable
        }
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Aborted => Code::Aborted,
        Kind::Internal => {
            let id = fresh_id();
            tracing::error!(fault_id = id, chain = chain(error), "internal fault");
            details.set_request_info(id.clone(), "");
            return Status::with_error_details(Code::Internal, format!("internal fault, id {id}"), details);
        }
    };
    Status::with_error_details(code, shortened(&error.to_string(), MAX_MESSAGE), details)
}

/// A text that is cut where it is too long, between two characters.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len())
}

/// An id for a request or a fault: 16 hexadecimal digits.
pub(crate) fn fresh_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn chain(error: &dyn ServiceError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Collects what is wrong with a request, so that the client learns everything at once.
#[derive(Debug, Default)]
pub struct Checks(Vec<FieldViolation>);

impl Checks {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes the field unless `ok`.
    pub fn require(&mut self, ok: bool, field: impl Into<String>, description: impl FnOnce() -> String) {
        if !ok {
            self.0.push(FieldViolation { field: field.into(), description: description() });
        }
    }

    /// All that is wrong, if anything is.
    pub fn finish(self) -> Result<(), Vec<FieldViolation>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the queue is full: 9 of 9 wait")]
    struct Example(Kind, #[source] Option<std::fmt::Error>);

    impl ServiceError for Example {
        fn kind(&self) -> Kind {
            self.0.clone()
        }
        fn reason(&self) -> &'static str {
            "EXAMPLE"
        }
    }

    fn of(kind: Kind) -> Status {
        status(&Example(kind, None))
    }

    #[test]
    fn a_full_queue_says_when_to_try_again() {
        let status = of(Kind::ResourceExhausted { retry_after: Duration::from_millis(250) });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "the queue is full: 9 of 9 wait");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(250)));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("EXAMPLE", DOMAIN));
    }

    #[test]
    fn bad_input_names_every_field() {
        let mut checks = Checks::new();
        checks.require(false, "count", || "-1: must be 1 to 8".into());
        checks.require(true, "model", || unreachable!());
        checks.require(false, "samples[3].values[7]", || "NaN: must be finite".into());
        let violations = checks.finish().unwrap_err();
        let status = of(Kind::InvalidArgument(violations));
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>(), ["count", "samples[3].values[7]"]);
        assert_eq!(fields[1].description, "NaN: must be finite");
    }

    #[test]
    fn what_a_status_repeats_is_short() {
        let violation = |index: usize| FieldViolation { field: format!("f{index}"), description: "é".repeat(5000) };
        let status = of(Kind::InvalidArgument((0..50).map(violation).collect()));
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert!(fields.len() < 10 && fields[0].description.starts_with("éé") && fields[0].description.len() < 600, "{}", fields.len());
        assert!(fields.last().unwrap().description.ends_with("more"), "{fields:?}");
        assert!(status.details().len() < 8000);
        assert!(shortened(&"x".repeat(9999), MAX_MESSAGE).ends_with("… (9999 bytes)"));
    }

    #[test]
    fn an_internal_fault_is_only_an_id_to_the_client() {
        let status = status(&Example(Kind::Internal, Some(std::fmt::Error)));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("queue"), "{}", status.message());
        let id = status.get_details_request_info().unwrap().request_id;
        assert!(status.message().ends_with(&id) && id.len() == 16);
    }

    #[test]
    fn each_kind_has_its_code() {
        for (kind, code) in [
            (Kind::Unauthenticated, Code::Unauthenticated),
            (Kind::PermissionDenied, Code::PermissionDenied),
            (Kind::NotFound, Code::NotFound),
            (Kind::AlreadyExists, Code::AlreadyExists),
            (Kind::FailedPrecondition, Code::FailedPrecondition),
            (Kind::Unavailable { retry_after: Duration::ZERO }, Code::Unavailable),
            (Kind::DeadlineExceeded, Code::DeadlineExceeded),
            (Kind::Cancelled, Code::Cancelled),
            (Kind::Unimplemented, Code::Unimplemented),
            (Kind::Aborted, Code::Aborted),
        ] {
            assert_eq!(of(kind).code(), code);
        }
    }
}
