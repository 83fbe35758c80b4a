//! What is asked for: `prompts.json`, as models.py writes it.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

/// A text to continue.
pub(crate) struct Prompt {
    pub(crate) text: String,
    pub(crate) prompt_tokens: u32,
    pub(crate) new_tokens: u32,
}

/// The prompts of each measurement, round by round: none comes twice, but those of "prefix" begin alike.
pub(crate) fn rounds(folder: &Path) -> Vec<BTreeMap<String, Vec<Prompt>>> {
    let text = std::fs::read_to_string(folder.join("texts/prompts.json")).expect("texts/prompts.json");
    let rounds: Vec<BTreeMap<String, Vec<Value>>> = serde_json::from_str(&text).expect("rounds of prompts");
    rounds.into_iter().map(|round| round.into_iter().map(|(name, prompts)| (name, prompts.iter().map(prompt).collect())).collect()).collect()
}

fn prompt(value: &Value) -> Prompt {
    let count = |name: &str| value[name].as_u64().and_then(|count| u32::try_from(count).ok()).expect("a count");
    let text = value["prompt"].as_str().expect("a text").to_owned();
    Prompt { text, prompt_tokens: count("prompt_tokens"), new_tokens: count("new_tokens") }
}
