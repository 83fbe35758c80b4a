use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    pieces::Pieces,
    proto::{TrainerSpec, Type},
};
use crate::engine::formats::{Error, added};

/// The classes of transformers that give the pieces other ids or normalize the text themselves.
const OTHERS: [&str; 20] = [
    "AlbertTokenizer",
    "BarthezTokenizer",
    "BigBirdTokenizer",
    "CamembertTokenizer",
    "DebertaV2Tokenizer",
    "FNetTokenizer",
    "M2M100Tokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MarianTokenizer",
    "NllbTokenizer",
    "PLBartTokenizer",
    "PegasusTokenizer",
    "RemBertTokenizer",
    "SeamlessM4TTokenizer",
    "Speech2TextTokenizer",
    "UdopTokenizer",
    "XGLMTokenizer",
    "XLMRobertaTokenizer",
    "XLNetTokenizer",
];
/// The most ids after the last piece.
const MAX_ADDED: u32 = 1 << 16;

/// A token outside the pieces, or a piece that is looked for in the text first.
struct Added {
    content: String,
    special: bool,
    lstrip: bool,
    rstrip: bool,
}

/// What the files beside the model add to it.
pub(super) struct Config {
    added: BTreeMap<u32, Added>,
    bos: Option<(String, u32)>,
    eos: Option<(String, u32)>,
}

impl Config {
    /// Reads `tokenizer_config.json` and `added_tokens.json`; control symbols are added tokens without them, too.
    pub(super) fn new(pieces: &Pieces, spec: &TrainerSpec, config: Option<&Value>, more: Option<&Value>) -> Result<Self, Error> {
        let class = config.and_then(|config| config.get("tokenizer_class")).and_then(Value::as_str).unwrap_or_default();
        let class = class.strip_suffix("Fast").unwrap_or(class);
        if OTHERS.contains(&class) {
            return Err(Error::Config(format!("{class} changes ids or text beyond what the SentencePiece model says")));
        }
        let mut added: BTreeMap<u32, Added> = pieces
            .of_kind(Type::Control)
            .map(|(id, piece)| (id, Added { content: piece.text.clone(), special: true, lstrip: false, rstrip: false }))
            .collect();
        let mut wanted = Vec::new();
        for (content, id) in more.and_then(Value::as_object).into_iter().flatten() {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| Error::Config(format!("added_tokens.json: {content:?} has no id")))?;
            wanted.push((id, Added { content: content.clone(), special: false, lstrip: false, rstrip: false }));
        }
        for (id, token) in config.and_then(|config| config.get("added_tokens_decoder")).and_then(Value::as_object).into_iter().flatten() {
            let number = id.parse().map_err(|_| Error::Config(format!("added_tokens_decoder: {id:?} is no id")))?;
            let content = token.get("content").and_then(Value::as_str);
            let content = content.ok_or_else(|| Error::Config(format!("added_tokens_decoder: {id} has no content")))?.to_owned();
            let flag = |name| token.get(name).and_then(Value::as_bool).unwrap_or_default();
            wanted.push((number, Added { content, special: flag("special"), lstrip: flag("lstrip"), rstrip: flag("rstrip") }));
        }
        if matches!(class, "T5Tokenizer" | "MT5Tokenizer") && !wanted.iter().any(|(_, token)| token.content.starts_with("<extra_id_")) {
            // transformers' `T5Tokenizer`: they follow the pieces, the last one first.
            let count =
                config.and_then(|config| config.get("extra_ids")).map_or(Some(100), Value::as_u64).and_then(|count| u32::try_from(count).ok());
            let count = count.filter(|count| *count <= MAX_ADDED).ok_or_else(|| Error::Config("extra_ids is out of range".to_owned()))?;
            for (id, number) in (pieces.len() as u32..).zip((0..count).rev()) {
                wanted.push((id, Added { content: format!("<extra_id_{number}>"), special: true, lstrip: false, rstrip: false }));
            }
        }
        for (id, token) in wanted {
            add(pieces, &mut added, id, token)?;
        }
        let mut done = Self { added, bos: None, eos: None };
        let (bos, eos) = match class {
            "LlamaTokenizer" | "CodeLlamaTokenizer" | "GemmaTokenizer" | "Phi3Tokenizer" => (true, false),
            "T5Tokenizer" | "MT5Tokenizer" => (false, true),
            _ => (false, false),
        };
        let flag = |name: &str, default| config.and_then(|config| config.get(name)).and_then(Value::as_bool).unwrap_or(default);
        let named = |name: &str, default: &str| {
            let token = config.and_then(|config| config.get(name)).and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
            token.unwrap_or(default).to_owned()
        };
        if flag("add_bos_token", bos) {
            done.bos = Some(done.id(pieces, named("bos_token", spec.bos_piece()))?);
        }
        if flag("add_eos_token", eos) {
            done.eos = Some(done.id(pieces, named("eos_token", spec.eos_piece()))?);
        }
        Ok(done)
    }

    fn id(&self, pieces: &Pieces, token: String) -> Result<(String, u32), Error> {
        let outside = self.added.iter().find(|(_, added)| added.content == token).map(|(id, _)| *id);
        let id = outside.or_else(|| pieces.get(&token).map(|(id, _)| id));
        let id = id.ok_or_else(|| Error::Config(format!("{token:?} is to be added to every text and is no token")))?;
        Ok((token, id))
    }

    /// `added_tokens`.
    pub(super) fn added_tokens(&self) -> Vec<Value> {
        let entry = |(id, token): (&u32, &Added)| {
            let mut value = added::token(*id, &token.content, token.special);
            value["lstrip"] = token.lstrip.into();
            value["rstrip"] = token.rstrip.into();
            value
        };
        self.added.iter().map(entry).collect()
    }

    /// The tokens after the last piece, by id.
    pub(super) fn beyond(&self, pieces: &Pieces) -> BTreeMap<u32, &str> {
        self.added.range(pieces.len() as u32..).map(|(id, token)| (*id, token.content.as_str())).collect()
    }

    /// The template that puts the begin and the end around a text, or `null`.
    pub(super) fn post_processor(&self) -> Value {
        let around = |name: &str, type_id: u32| {
            let special = |token: &Option<(String, u32)>| token.as_ref().map(|(token, _)| json!({"SpecialToken": {"id": token, "type_id": type_id}}));
            let text = json!({"Sequence": {"id": name, "type_id": type_id}});
            special(&self.bos).into_iter().chain([text]).chain(special(&self.eos)).collect::<Vec<_>>()
        };
        if self.bos.is_none() && self.eos.is_none() {
            return Value::Null;
        }
        // T5 has one type; transformers' template of Llama has two.
        let second = u32::from(self.bos.is_some());
        let special: serde_json::Map<String, Value> = [&self.bos, &self.eos]
            .into_iter()
            .flatten()
            .map(|(token, id)| (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]})))
            .collect();
        let pair: Vec<_> = around("A", 0).into_iter().chain(around("B", second)).collect();
        json!({"type": "TemplateProcessing", "single": around("A", 0), "pair": pair, "special_tokens": special})
    }
}

/// Adds a token, unless it says what the model says otherwise.
fn add(pieces: &Pieces, added: &mut BTreeMap<u32, Added>, id: u32, token: Added) -> Result<(), Error> {
    if token.content.is_empty() {
        return Err(Error::Config(format!("the token of id {id} is empty")));
    }
    if id as usize >= pieces.len() + MAX_ADDED as usize {
        return Err(Error::Config(format!("the token {:?} has the id {id}, far beyond the pieces", token.content)));
    }
    match pieces.get(&token.content) {
        Some((known, _)) if known != id => {
            return Err(Error::Config(format!("the token {:?} has the id {id} here and {known} in the model", token.content)));
        }
        // SentencePiece decodes the unknown piece to its surface; a special token would be left out.
        Some((_, piece)) if piece.kind == Type::Unknown => return Ok(()),
        // They are found in normalized text, which an added token is not.
        Some((_, piece)) if piece.kind == Type::UserDefined && !token.special => return Ok(()),
        None if (id as usize) < pieces.len() => {
            return Err(Error::Config(format!("the token {:?} has the id {id} of another piece", token.content)));
        }
        _ => {}
    }
    if added.iter().any(|(other, known)| *other != id && known.content == token.content) {
        return Err(Error::Config(format!("the token {:?} has two ids", token.content)));
    }
    added.insert(id, token);
    Ok(())
}
