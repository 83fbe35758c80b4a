use quintet_onnx::{Error, ModelFolder};
use serde::Deserialize;
use serde_json::Value;

/// Hugging Face's file, the ending of tiktoken's, and SentencePiece's.
const JSON: &str = "tokenizer.json";
const TIKTOKEN: &str = ".tiktoken";
const MODELS: [&str; 3] = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];

/// What of a `tokenizer.json` says which token an id is. The rest is about texts.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Identities {
    model: Value,
    #[serde(default)]
    added_tokens: Value,
}

/// Refuses a draft model whose token ids are not known to mean what the decoder's mean: its drafts would be noise.
pub(in super::super) fn check(decoder: &ModelFolder, draft: &ModelFolder) -> Result<(), Error> {
    let refused = |reason: String| {
        let way_out = "name a decoder with the same tokenizer, or leave `draft` out";
        Err(decoder.broken("quintet.toml", format!("[causal_lm] draft = {:?}: {reason}; {way_out}", draft.name)))
    };
    let defines = |file: &&str| *file == JSON || file.ends_with(TIKTOKEN) || MODELS.contains(file);
    let mut shared: Vec<&str> = decoder.files().filter(|file| draft.has(file)).filter(defines).collect();
    // Where there are several, this is what defines the tokenizer.
    shared.sort_by_key(|file| *file != JSON);
    let Some(&file) = shared.first() else {
        return refused(format!("the two have no file of a tokenizer in common ({JSON}, {TIKTOKEN} or {})", MODELS.join(", ")));
    };
    let is_same = if file == JSON {
        let read = |folder: &ModelFolder| -> Result<Identities, Error> {
            serde_json::from_str(&folder.read_to_string(JSON)?).map_err(|error| folder.broken(JSON, error.to_string()))
        };
        read(decoder)? == read(draft)?
    } else {
        decoder.read(file)? == draft.read(file)?
    };
    if is_same { Ok(()) } else { refused(format!("its tokenizer is another one: {file} has other tokens")) }
}
