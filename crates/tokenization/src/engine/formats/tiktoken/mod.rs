//! tiktoken files: a byte-level BPE vocabulary whose ranks are both ids and merge order.

mod bytes;
mod merges;
mod pattern;
mod ranks;

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::engine::formats::Error;
pub(crate) use pattern::Pattern;
use ranks::Ranks;

/// What a tiktoken file does not say of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tiktoken {
    /// How text is split before the merges.
    pub(crate) pattern: Pattern,
    /// Tokens outside the ranks, each with its id.
    pub(crate) special_tokens: Vec<(String, u32)>,
}

impl Tiktoken {
    /// What is known of the files that are published under fixed names: the pattern and the special tokens of `OpenAI`'s.
    /// `qwen.tiktoken` has its pattern and the three tokens its config does not list. Others, `tokenizer.model` among
    /// them, are not told by their name.
    pub(crate) fn by_file_name(name: &str) -> Option<Self> {
        let special = |tokens: &[(&str, u32)]| tokens.iter().map(|(token, id)| ((*token).to_owned(), *id)).collect();
        let (pattern, special_tokens) = match name {
            "gpt2.tiktoken" => (Pattern::Gpt2, special(&[("<|endoftext|>", 50_256)])),
            "r50k_base.tiktoken" => (Pattern::R50kBase, special(&[("<|endoftext|>", 50_256)])),
            "p50k_base.tiktoken" => (Pattern::P50kBase, special(&[("<|endoftext|>", 50_256)])),
            "cl100k_base.tiktoken" => (
                Pattern::Cl100kBase,
                special(&[
                    ("<|endoftext|>", 100_257),
                    ("<|fim_prefix|>", 100_258),
                    ("<|fim_middle|>", 100_259),
                    ("<|fim_suffix|>", 100_260),
                    ("<|endofprompt|>", 100_276),
                ]),
            ),
            "o200k_base.tiktoken" => (Pattern::O200kBase, special(&[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)])),
            "qwen.tiktoken" => (Pattern::Qwen2, special(&[("<|endoftext|>", 151_643), ("<|im_start|>", 151_644), ("<|im_end|>", 151_645)])),
            _ => return None,
        };
        Some(Self { pattern, special_tokens })
    }

    /// The tokenizer.json of the ranks in `file`.
    pub(crate) fn convert(&self, file: &[u8]) -> Result<Value, Error> {
        let ranks = Ranks::parse(file)?;
        let mut vocab: Map<String, Value> = ranks.tokens().map(|(token, rank)| (bytes::visible(token), rank.into())).collect();
        let added = self.added(&ranks, &mut vocab)?;
        let merges = merges::of(&ranks)?;
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": self.pattern.regex()}, "behavior": "Isolated", "invert": false},
                    byte_level(),
                ],
            },
            "post_processor": null,
            "decoder": byte_level(),
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                // tiktoken looks a whole split up before it merges.
                "ignore_merges": true,
                "vocab": vocab,
                "merges": merges,
            },
        }))
    }

    /// The special tokens as added tokens. They also enter the vocabulary: a tokenizer.json cannot give an added token an
    /// id of its own, it takes that of the vocabulary or the next free one. No merge makes them.
    fn added(&self, ranks: &Ranks, vocab: &mut Map<String, Value>) -> Result<Vec<Value>, Error> {
        let mut ids = HashSet::new();
        let mut sorted: Vec<_> = self.special_tokens.iter().collect();
        sorted.sort_by_key(|(_, id)| *id);
        for (token, id) in &sorted {
            if token.is_empty() {
                return Err(Error::Ranks(format!("the special token of id {id} is empty")));
            }
            if ranks.has_rank(*id) || !ids.insert(*id) {
                return Err(Error::Ranks(format!("the special token {token:?} has the id {id} of another token")));
            }
            if vocab.insert(token.clone(), (*id).into()).is_some() {
                return Err(Error::Ranks(format!("the special token {token:?} is in the vocabulary already")));
            }
        }
        Ok(sorted.into_iter().map(|(token, id)| crate::engine::formats::added::token(*id, token, true)).collect())
    }
}

/// Bytes as visible characters, both ways. The regular expression is the `Split`'s, and no space is put in front.
fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false})
}
