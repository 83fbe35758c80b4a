//! The models themselves: token ids in, token ids and vectors out.

mod decode_thread;
pub mod decoder;
mod drawing;
pub mod encoder;
mod family;
mod generation;
pub mod guided;
mod heads;
pub mod sampling;
pub mod seq2seq;
pub mod stop;
mod tokens;
pub mod windows;

use quintet_onnx::ModelFolder;
use serde::{Deserialize, de::DeserializeOwned};

use crate::Error;

pub use family::Engine;
pub use generation::{Account, Drafts, Event, FinishReason, Generation, GenerationDefaults, Queue, Scored, Speculation};
pub use tokens::{Tokens, TokensCell};

/// A value that Hugging Face writes as one or as a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }
}

/// One of a folder's JSON files.
fn read_json<T: DeserializeOwned>(folder: &ModelFolder, file: &str) -> Result<T, Error> {
    let text = folder.read_to_string(file)?;
    serde_json::from_str(&text).map_err(|error| folder.broken(file, error.to_string()).into())
}
