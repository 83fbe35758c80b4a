//! What a text may be asked to look like.

/// The form that a text must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Guide {
    /// JSON that a JSON Schema describes. References stay within the schema (`#/...`): nothing is ever fetched.
    JsonSchema(String),
    /// The whole text matches this regular expression, in the syntax of Rust's `regex` without look-around. `^` and `$` may stand at
    /// its ends and change nothing; `\d` and `\w` are ASCII's, as in the patterns of schemas.
    Regex(String),
    /// A context-free grammar in `llguidance`'s dialect of Lark, from its rule `start`.
    Grammar(String),
    /// One of these texts, exactly.
    Choices(Vec<String>),
}

impl Guide {
    /// What it is called in errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "schema",
            Self::Regex(_) => "regular expression",
            Self::Grammar(_) => "grammar",
            Self::Choices(_) => "list of choices",
        }
    }
}
