use minijinja::ErrorKind;

/// Why a template gave no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The template itself refused the conversation.
    #[error("the chat template refuses this: {0}")]
    Raised(String),
    /// There is no template of this name.
    #[error("there is no chat template '{name}'; there are: {}", .known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Several templates, and none is the default.
    #[error("one of the chat templates must be named; there are: {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// The last message cannot be left open.
    #[error("the last message cannot be continued: {0}")]
    Continue(String),
    /// The template did more than it may.
    #[error("the chat template takes more than the {0} units of work that it may: steps, and 64 bytes of data each")]
    Work(u64),
    /// The template is at fault for this conversation.
    #[error("the chat template fails: {0}")]
    Broken(String),
}

/// What a template raises travels through the engine as an error's detail, behind this.
const RAISED: &str = "raised: ";

/// An error that the template raises itself.
pub(super) fn raised(message: &str) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}"))
}

/// What an error of the engine means. Errors of macros and call blocks stand behind one another.
pub(super) fn failure(error: &minijinja::Error, fuel: u64) -> Failure {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(this) = next {
        if let Some(error) = this.downcast_ref::<minijinja::Error>() {
            if error.kind() == ErrorKind::OutOfFuel {
                return Failure::Work(fuel);
            }
            if let Some(message) = error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
                return Failure::Raised(message.to_owned());
            }
        }
        next = this.source();
    }
    Failure::Broken(error.to_string())
}
