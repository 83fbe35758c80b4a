use serde_json::{Value, json};

/// One entry of a tokenizer.json's `added_tokens`: found in the text as it is, before any normalization.
pub(crate) fn token(id: u32, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
}
