use futures_util::future::BoxFuture;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// How a check ended.
pub(super) type Checked = Result<(), Verdict>;

/// Why a check did not pass.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// The rule does not hold; what was seen.
    Failed(String),
    /// The target cannot show it; why not.
    Skipped(String),
}

/// A rule of the contract, and what holds a target to it.
pub(super) struct Check<S> {
    /// The rule's number in the contract.
    pub(super) rule: &'static str,
    /// What the contract says.
    pub(super) says: &'static str,
    /// Holds the subject to it.
    pub(super) run: for<'a> fn(&'a S) -> BoxFuture<'a, Checked>,
}

/// An entry of a table of checks.
macro_rules! check {
    ($rule:literal, $says:literal, $function:path) => {
        $crate::conformance::check::Check { rule: $rule, says: $says, run: |subject| Box::pin($function(subject)) }
    };
}

/// Fails the check, with what was seen, unless a condition holds.
macro_rules! ensure {
    ($holds:expr, $($seen:tt)+) => {{
        let holds: bool = $holds;
        if !holds {
            return Err($crate::conformance::check::Verdict::Failed(format!($($seen)+)));
        }
    }};
}

pub(super) use {check, ensure};

/// The most of a text from the target that a report repeats.
const SHOWN: usize = 240;

impl Verdict {
    pub(super) fn failed(seen: impl Into<String>) -> Self {
        Self::Failed(seen.into())
    }

    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }
}

/// A call that should have been answered was not.
impl From<Status> for Verdict {
    fn from(status: Status) -> Self {
        if status.code() == Code::Unimplemented {
            return Self::Skipped("the target does not have the rpc".to_owned());
        }
        Self::Failed(format!("a call that should be answered ended with {}", shown(&status)))
    }
}

/// A status, for a report.
pub(super) fn shown(status: &Status) -> String {
    let fields = fields(status);
    let named = if fields.is_empty() { String::new() } else { format!(" (fields: {})", fields.join(", ")) };
    format!("{:?}: {}{named}", status.code(), cut(status.message()))
}

/// The fields that a status names.
pub(super) fn fields(status: &Status) -> Vec<String> {
    let named = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    named.into_iter().map(|violation| violation.field).collect()
}

/// The beginning of a text, for a report.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
