use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;

use super::guided::{GuideError, Vocabulary};

/// A model's tokens as its tokenizer has them.
#[derive(Debug)]
pub struct Tokens {
    bytes: Vec<Vec<u8>>,
    special: Vec<u32>,
    end: Arc<[u32]>,
    /// Made at the first guide: it takes longer than the bytes alone.
    vocabulary: OnceLock<Result<Vocabulary, GuideError>>,
}

/// Where a model keeps its tokens once somebody has asked for them.
pub type TokensCell = OnceCell<Arc<Tokens>>;

impl Tokens {
    /// The tokens of these bytes, by id, with the special ones and those that end a text.
    pub fn new(bytes: Vec<Vec<u8>>, special: Vec<u32>, end: Arc<[u32]>) -> Self {
        Self { bytes, special, end, vocabulary: OnceLock::new() }
    }

    /// The bytes that a token stands for; none for one that the tokenizer does not have.
    pub fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// The tokens as guides need them. Making them blocks for some tens of milliseconds the first time.
    pub fn vocabulary(&self) -> Result<&Vocabulary, GuideError> {
        let made = self.vocabulary.get_or_init(|| Vocabulary::new(self.bytes.clone(), &self.special, &self.end));
        made.as_ref().map_err(Clone::clone)
    }
}
