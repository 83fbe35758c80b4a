//! The tokens of a model, as grammars need them.

use std::{fmt, sync::Arc};

use llguidance::{
    ParserFactory,
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};

use super::GuideError;

/// A trie of tokens counts each node's subtree in 22 bits, and panics beyond.
const MAX_NODES: usize = (1 << 22) - 1;
/// It counts depth in 10 bits.
const MAX_TOKEN_BYTES: usize = 1 << 10;
/// It keeps ids in 24 bits, of which the last means none.
const MAX_TOKENS: usize = (1 << 24) - 1;
/// `llguidance` reads tokens that begin with this byte as special. It is never part of UTF-8, so no text needs it.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The tokens of a model. Built once per model: for a hundred thousand tokens it takes some tens of milliseconds.
pub struct Vocabulary {
    factory: ParserFactory,
    end: Vec<u32>,
    size: usize,
}

impl Vocabulary {
    /// A vocabulary of tokens with these bytes, by id; an empty one is never drawn. Special tokens stand for no text, whatever their
    /// bytes: the ones that end a text are allowed where it may end, and the others nowhere.
    pub fn new(mut tokens: Vec<Vec<u8>>, special: &[u32], end: &[u32]) -> Result<Self, GuideError> {
        let size = tokens.len();
        let refused = |why: String| Err(GuideError::Vocabulary(why));
        if size > MAX_TOKENS {
            return refused(format!("it has {size} tokens; at most {MAX_TOKENS} are possible"));
        }
        let Some(&first) = end.first() else {
            return refused("no token ends a text".to_owned());
        };
        if let Some(id) = end.iter().find(|id| **id as usize >= size) {
            return refused(format!("token {id}, which ends a text, is beyond its {size} tokens"));
        }
        special.iter().chain(end).filter_map(|id| usize::try_from(*id).ok()).for_each(|id| {
            if let Some(bytes) = tokens.get_mut(id) {
                bytes.clear();
            }
        });
        tokens.iter_mut().filter(|bytes| bytes.len() > MAX_TOKEN_BYTES || bytes.contains(&MARKER)).for_each(Vec::clear);
        let nodes = nodes(&tokens);
        if nodes == 0 || nodes >= MAX_NODES {
            return refused(format!("its tokens make a trie of {nodes} nodes; from 1 to {} are possible", MAX_NODES - 1));
        }

        // The size fits: it is at most 2^24.
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, first), &tokens).with_eos_tokens(end);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| GuideError::Vocabulary(error.to_string()))?;
        // It would write to standard error.
        factory.quiet();
        Ok(Self { factory, end: end.to_vec(), size })
    }

    /// How many tokens there are: the bits of a mask.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The tokens that end a text.
    pub fn end(&self) -> &[u32] {
        &self.end
    }

    pub(super) fn factory(&self) -> &ParserFactory {
        &self.factory
    }
}

/// The nodes of a trie of these tokens, without its root: each token's bytes beyond those that it shares with the one before it. One
/// that is there twice has a node of its own.
fn nodes(tokens: &[Vec<u8>]) -> usize {
    let mut sorted: Vec<&[u8]> = tokens.iter().map(Vec::as_slice).filter(|bytes| !bytes.is_empty()).collect();
    sorted.sort_unstable();
    let shared = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let pairs = sorted.iter().zip(sorted.iter().skip(1));
    sorted.first().map_or(0, |first| first.len()) + pairs.map(|(before, token)| (token.len() - shared(before, token)).max(1)).sum::<usize>()
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("size", &self.size).field("end", &self.end).finish_non_exhaustive()
    }
}
