//! Why a guide is refused, or a constraint cannot go on.

/// The most characters of `llguidance`'s own messages that are passed on: they quote the guide, which may be long.
const MAX_MESSAGE: usize = 500;

/// Parts of `llguidance`'s messages that say a limit was reached. It has no types for them; the tests pin those that matter.
const TOO_COMPLEX: [&str; 15] = [
    "too big",
    "too large",
    "fuel exhausted",
    "precomputation failed",
    "stack level exceeded",
    "too deeply nested",
    "maximum number of nested",
    "too many expressions",
    "Too many items",
    "too many states",
    "lexer error: ",
    "; max is ",
    "Unable to determine if regex is empty",
    "can't determine if patternProperty",
    "exceeds the supported range",
];

/// Those that say something is valid and not supported.
const UNSUPPORTED: [&str; 7] =
    ["Unimplemented keys", "not supported", "only supported", "are supported", "Unknown format", "lookarounds", "are not disjoint"];

/// Why a guide is refused, or a constraint cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuideError {
    /// The guide is longer than is allowed.
    #[error("the {kind} has {bytes} bytes; at most {limit} are allowed")]
    TooLarge {
        /// What it is.
        kind: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The guide is within its size and still too costly.
    #[error("the {kind} is too complex: {message}")]
    TooComplex {
        /// What it is.
        kind: &'static str,
        /// Which limit it reached.
        message: String,
    },
    /// The guide is not what it says it is, or no text can satisfy it.
    #[error("the {kind} is not valid: {message}")]
    Invalid {
        /// What it is.
        kind: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The guide asks for something valid that cannot be enforced.
    #[error("the {kind} uses what is not supported: {message}")]
    Unsupported {
        /// What it is.
        kind: &'static str,
        /// What it uses.
        message: String,
    },
    /// The text has come to where no token of the vocabulary may follow and it is not complete.
    #[error("no token of the vocabulary can continue the text as the {kind} asks")]
    DeadEnd {
        /// What asks.
        kind: &'static str,
    },
    /// The token may not follow; the constraint is as it was.
    #[error("token {token} may not follow here")]
    NotAllowed {
        /// The token.
        token: u32,
    },
    /// The model's tokens cannot be used for guided decoding.
    #[error("the vocabulary cannot guide: {0}")]
    Vocabulary(String),
    /// The machine, not the guide, is at fault.
    #[error("the guide could not be compiled: {0}")]
    Failed(String),
}

impl GuideError {
    /// What `llguidance` said about a guide of this kind.
    pub(super) fn from_message(kind: &'static str, message: &str) -> Self {
        let message = reason(message);
        let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
        if message == "NoExtensionBias" {
            Self::DeadEnd { kind }
        } else if says(&TOO_COMPLEX) {
            Self::TooComplex { kind, message }
        } else if says(&UNSUPPORTED) {
            Self::Unsupported { kind, message }
        } else {
            Self::Invalid { kind, message }
        }
    }
}

/// The part of a message that says why: without the state of `llguidance`, a backtrace, or the guide that it quotes in full.
fn reason(message: &str) -> String {
    let message = ["\n<non-verbose/>", "\n<backtrace>", "\n<state>"]
        .iter()
        .fold(message, |rest, mark| rest.split_once(mark).map_or(rest, |(before, _)| before));
    // `regex-syntax` repeats the expression over several lines and ends in the reason.
    let message = message.split_once("\nerror: ").map_or(message, |(_, after)| after.lines().next().unwrap_or(after));
    // Before its own reasons, `llguidance` quotes the expression on one line.
    let message = message.split_once("(in regex): ").map_or(message, |(_, after)| after);
    message.trim().chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_to_the_reason() {
        assert_eq!(reason("panic: a\n<backtrace>\n0: f\n</backtrace>"), "panic: a");
        assert_eq!(reason("at 1(8): invalid regex \"a(\" (in regex): regex parse error:\n    a(\n     ^\nerror: unclosed group"), "unclosed group");
        assert_eq!(reason(&"é".repeat(4000)).chars().count(), MAX_MESSAGE);
    }
}
