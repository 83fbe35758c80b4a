//! Small tokenizers of every kind, for tests, beside the ones of the model repository.

use std::{path::PathBuf, sync::LazyLock};

use serde_json::{Value, json};

use super::Tokenizer;

/// Texts in many scripts, with everything that is hard to put together again.
pub(crate) const TEXTS: [&str; 16] = [
    "",
    " ",
    "hello",
    "Hello, world! It's 3.14 o'clock; don't panic.",
    "  two  spaces   and\ttabs\r\nand lines\n\n",
    "Съешь ещё этих мягких французских булок",
    "日本語のテキスト、中文字符，한국어",
    "مرحبا بالعالم עברית",
    "naïve café — ﬁancé “quotes” …",
    "👩‍👩‍👧‍👦 🇩🇪 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👍🏽 ☕️",
    "e\u{301}\u{323} combining, zero\u{200b}width \u{feff}bom",
    "control \u{0}\u{1}\u{7f}\u{85} chars",
    "[CLS] and [SEP] and <|endoftext|> and </s> and <unk> [UNK]",
    "<|endoftext|>",
    "a <|endoftext|>\u{1f600}<|endoftext|> b",
    "x\u{fffd}y <0x0A> ▁ Ġ ##ing",
];

/// The tokenizer of a `tokenizer.json` that has nothing beside it.
pub(crate) fn load(json: &str) -> Tokenizer {
    Tokenizer::load(json, &Value::Null).unwrap()
}

fn special(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
}

fn file(mut parts: Value) -> String {
    let object = parts.as_object_mut().unwrap();
    object.insert("version".into(), json!("1.0"));
    for part in ["truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        object.entry(part).or_insert(Value::Null);
    }
    object.entry("added_tokens").or_insert(json!([]));
    parts.to_string()
}

/// The byte-level alphabet in order of byte.
pub(crate) fn alphabet() -> Vec<char> {
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| {
            if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
        })
        .collect()
}

/// Byte-level BPE as GPT-2 has it, with a special token that the model's vocabulary holds too and an added
/// word that is not special.
pub(crate) fn byte_level() -> String {
    let mut tokens: Vec<String> = alphabet().into_iter().map(String::from).collect();
    let merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "hello"), ("Ð", "¾"), ("ð", "Ł"), ("ðŁ", "ĺ"), ("ã", "ģ")];
    tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
    tokens.push("<|endoftext|>".into());
    let vocabulary: serde_json::Map<String, Value> = tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let size = tokens.len() as u32;
    file(json!({
        "added_tokens": [special(size - 1, "<|endoftext|>"), {"id": size, "content": "⟨word⟩", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary,
            "merges": merges.iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>()},
    }))
}

/// Bytes alone, after a normalizer: the ids show what it made of a text.
pub(crate) fn normalized(normalizer: &Value) -> String {
    let vocabulary: serde_json::Map<String, Value> = alphabet().into_iter().enumerate().map(|(id, byte)| (byte.to_string(), json!(id))).collect();
    file(json!({
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": []},
    }))
}

/// Whole words, nearly all unknown, after a pre-tokenizer: the ids show where it split a text.
pub(crate) fn split_words(pre_tokenizer: &Value) -> String {
    file(json!({
        "pre_tokenizer": pre_tokenizer,
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1, "b": 2}},
    }))
}

fn unigram_pieces() -> Vec<(String, f64)> {
    let mut pieces: Vec<(String, f64)> = ["<unk>", "<s>", "</s>"].map(|token| (token.to_owned(), 0.0)).into();
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), -20.0)));
    let words = ["▁", "▁hello", "▁world", "hel", "lo", "▁и", "日本", "語", ".", "▁and", "<", ">", "/", "s"];
    pieces.extend(words.iter().map(|word| ((*word).to_owned(), -3.0)));
    pieces.extend(('a'..='z').map(|letter| (letter.to_string(), -6.0)));
    pieces
}

/// Unigram with byte fallback, as T5 and its like have it; the special tokens are pieces of the model.
pub(crate) fn unigram(decoder: &Value) -> String {
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    file(json!({
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "pre_tokenizer": metaspace,
        "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "</s>", "type_id": 1}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}},
        "decoder": if decoder.is_null() { &metaspace } else { decoder },
        "model": {"type": "Unigram", "unk_id": 0, "vocab": unigram_pieces(), "byte_fallback": !decoder.is_null()},
    }))
}

/// The decoder of Llama's tokenizers.
pub(crate) fn llama_decoder() -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
}

/// WordPiece over words split at blanks, so that the model itself meets "[SEP]".
pub(crate) fn word_piece() -> String {
    let tokens =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "##s", "wor", "##ld", ".", "and", "don", "##'t", "n't", "[", "##S", "##E", "##P", "##]"];
    let vocabulary: serde_json::Map<String, Value> = tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    file(json!({
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
    }))
}

/// Whole words with no decoder, and a hole in the ids.
pub(crate) fn word_level() -> String {
    file(json!({
        "added_tokens": [special(0, "<unk>"), special(5, "<mask>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "hello": 1, "日本語": 2, "and": 3, "<mask>": 5}},
    }))
}

/// BPE whose tokens end words: the last one decodes differently.
pub(crate) fn word_ends() -> String {
    file(json!({
        "added_tokens": [special(0, "<unk>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": {"type": "BPEDecoder", "suffix": "</w>"},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {"<unk>": 0, "a": 1, "b": 2, "a</w>": 3, "b</w>": 4, "ab</w>": 5, "日</w>": 6}, "merges": ["a b</w>"]},
    }))
}

/// A decoder that looks at neighbours, so that nothing can be streamed.
pub(crate) fn ctc() -> String {
    file(json!({
        "added_tokens": [special(3, "<s>")],
        "decoder": {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true},
        "model": {"type": "WordLevel", "unk_token": "<pad>", "vocab": {"<pad>": 0, "a": 1, "|": 2, "<s>": 3}},
    }))
}

/// The tokenizer files of the model repository, with the name of each.
pub(crate) fn embedded() -> Vec<(String, PathBuf)> {
    let models = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/models"));
    let mut found = Vec::new();
    for folder in std::fs::read_dir(models).unwrap() {
        let path = folder.unwrap().path();
        let file = path.join("1/tokenizer.json");
        if file.is_file() {
            found.push((path.file_name().unwrap().to_str().unwrap().to_owned(), file));
        }
    }
    found.sort();
    found
}

/// Every tokenizer there is: those above and those of the model repository.
pub(crate) fn all() -> &'static [(String, Tokenizer)] {
    static ALL: LazyLock<Vec<(String, Tokenizer)>> = LazyLock::new(|| {
        let made = [
            ("byte-level", byte_level()),
            ("metaspace", unigram(&Value::Null)),
            ("llama", unigram(&llama_decoder())),
            ("word-piece", word_piece()),
            ("word-level", word_level()),
            ("word-ends", word_ends()),
            ("ctc", ctc()),
        ];
        let made = made.into_iter().map(|(name, json)| (name.to_owned(), json));
        let embedded = embedded().into_iter().map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()));
        made.chain(embedded).map(|(name, json)| (name, load(&json))).collect()
    });
    &ALL
}
