/// Why a tokenizer file was not converted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A line of a tiktoken file is not `base64 rank`, or contradicts another line.
    #[error("line {line}: {reason}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A tiktoken file as a whole is not a vocabulary.
    #[error("{0}")]
    Ranks(String),
    /// A `SentencePiece` file is not a protobuf message of its kind.
    #[error("this is not a SentencePiece model: {0}")]
    Proto(#[from] prost::DecodeError),
    /// A `SentencePiece` model contradicts itself; `SentencePiece` would not load it either.
    #[error("the SentencePiece model is broken: {0}")]
    Broken(String),
    /// A `SentencePiece` model uses something that a tokenizer.json cannot say.
    #[error("the SentencePiece model cannot be converted: {0}")]
    Unsupported(String),
    /// The conversion would give other tokens for some texts, and that was not allowed.
    #[error("the conversion would not be exact: {}", .0.join("; "))]
    Inexact(Vec<String>),
    /// What stands beside the model contradicts it.
    #[error("tokenizer_config.json: {0}")]
    Config(String),
}
