//! Compiles a decoder into a table of the bytes that each id adds to a text.
//!
//! Nearly every decoder in use gives a token's text from the token alone and from whether it is the first: so
//! does WordPiece (a blank before all but the first word, "##" left out), Metaspace ("▁" is a blank, at the
//! start nothing), byte fallback ("<0x0A>" is the byte 10) and the byte-level alphabet ("Ġ" is a blank). What does
//! not fit ("CTC", a pattern over several tokens) is decoded whole.

use std::sync::Arc;

use tokenizers::{Decoder, DecoderWrapper, Tokenizer};

use super::Special;
use crate::engine::detokenizer::{Detokenizer, Edge, Piece};

/// The way from ids to text.
pub(super) fn detokenizer(tokenizer: &Arc<Tokenizer>, size: u32, specials: &[Special]) -> Result<Detokenizer, String> {
    let special = |id: u32| specials.binary_search_by_key(&id, |special| special.id).is_ok();
    let Some(plan) = Plan::of(tokenizer.get_decoder()) else {
        let pieces = (0..size).map(|id| {
            let text = tokenizer.decode(&[id], false).map_err(|error| error.to_string())?;
            Ok((Piece::plain(text.into_bytes()), special(id)))
        });
        let whole = Arc::clone(tokenizer);
        return Ok(Detokenizer::new(&pieces.collect::<Result<Vec<_>, String>>()?, None).whole(Box::new(move |ids| {
            // Decoders may not expect to be given nothing.
            if ids.is_empty() { Ok(String::new()) } else { whole.decode(ids, false).map_err(|error| error.to_string()) }
        })));
    };
    let alphabet = alphabet();
    let pieces = (0..size).map(|id| {
        let piece = tokenizer.id_to_token(id).map_or(Ok(Piece::default()), |token| plan.piece(token, &alphabet))?;
        Ok((piece, special(id)))
    });
    Ok(Detokenizer::new(&pieces.collect::<Result<Vec<_>, String>>()?, plan.edge))
}

/// What becomes of a token's text before texts are put together.
enum Bytes {
    /// It is text.
    Text,
    /// It is text, or names a byte.
    Fallback,
    /// It is written in the byte-level alphabet.
    Level,
}

/// A decoder taken apart.
struct Plan<'a> {
    /// Steps that look at one token alone, and at whether it is the first.
    steps: Vec<&'a DecoderWrapper>,
    bytes: Bytes,
    /// Ends a word: a blank, but nothing at the end of the text.
    suffix: Option<&'a str>,
    joined: bool,
    edge: Option<Edge>,
    /// Steps behind the edge that look at one character alone.
    after: Vec<&'a DecoderWrapper>,
    blanks: bool,
}

impl<'a> Plan<'a> {
    /// None = this decoder cannot be taken apart.
    fn of(decoder: Option<&'a DecoderWrapper>) -> Option<Self> {
        let mut plan =
            Self { steps: Vec::new(), bytes: Bytes::Text, suffix: None, joined: false, edge: None, after: Vec::new(), blanks: decoder.is_none() };
        match decoder {
            None => {}
            Some(DecoderWrapper::BPE(bpe)) => plan.suffix = Some(&bpe.suffix),
            Some(decoder) => plan.add(decoder)?,
        }
        Some(plan)
    }

    fn add(&mut self, decoder: &'a DecoderWrapper) -> Option<()> {
        let separate = !self.joined && matches!(self.bytes, Bytes::Text);
        match decoder {
            DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().try_for_each(|decoder| self.add(decoder))?,
            DecoderWrapper::Fuse(_) => self.joined = true,
            DecoderWrapper::Strip(strip) if self.joined && strip.stop == 0 && self.edge.is_none() => {
                self.edge = Some(Edge { content: strip.content, at_most: strip.start });
            }
            DecoderWrapper::Replace(_) if self.joined && !matches!(self.bytes, Bytes::Level) && replaces_one_character(decoder) => {
                self.after.push(decoder);
            }
            DecoderWrapper::Replace(_) | DecoderWrapper::WordPiece(_) | DecoderWrapper::Metaspace(_) if separate => {
                self.steps.push(decoder);
            }
            DecoderWrapper::Strip(strip) if separate && strip.stop == 0 => self.steps.push(decoder),
            DecoderWrapper::ByteFallback(_) if separate => self.bytes = Bytes::Fallback,
            DecoderWrapper::ByteLevel(_) if separate => (self.bytes, self.joined) = (Bytes::Level, true),
            _ => return None,
        }
        Some(())
    }

    fn piece(&self, token: String, alphabet: &[Option<u8>]) -> Result<Piece, String> {
        if let Some(suffix) = self.suffix {
            let (rest, last) = (token.replace(suffix, " "), token.replace(suffix, ""));
            return Ok(Piece { first: rest.clone().into_bytes(), rest: rest.into_bytes(), last: Some(last.into_bytes()), ends_edge: false });
        }
        let (mut first, mut rest) = (token.clone(), token);
        if self.blanks {
            rest.insert(0, ' ');
        }
        for step in &self.steps {
            // The token in front of `rest` only makes it not the first.
            let text = |tokens: Vec<String>| step.decode_chain(tokens).map(|mut texts| texts.pop().unwrap_or_default()).map_err(|e| e.to_string());
            first = text(vec![first])?;
            rest = text(vec!["a".to_owned(), rest])?;
        }
        let ends_edge = self.replaced(&rest)? != rest;
        let (first, rest) = (self.replaced(&first)?, self.replaced(&rest)?);
        Ok(Piece { first: self.bytes(first, alphabet), rest: self.bytes(rest, alphabet), last: None, ends_edge })
    }

    /// A token's text after the steps behind the edge.
    fn replaced(&self, text: &str) -> Result<String, String> {
        self.after.iter().try_fold(text.to_owned(), |text, step| {
            step.decode_chain(vec![text]).map(|mut texts| texts.pop().unwrap_or_default()).map_err(|error| error.to_string())
        })
    }

    fn bytes(&self, text: String, alphabet: &[Option<u8>]) -> Vec<u8> {
        match self.bytes {
            Bytes::Text => text.into_bytes(),
            Bytes::Fallback => fallback_byte(&text).map_or_else(|| text.into_bytes(), |byte| vec![byte]),
            // An added token may be written in other characters: it is then text as it stands.
            Bytes::Level => {
                let bytes: Option<Vec<u8>> = text.chars().map(|c| alphabet.get(c as usize).copied().flatten()).collect();
                bytes.unwrap_or_else(|| text.into_bytes())
            }
        }
    }
}

/// Whether a step replaces a single character by something: then it does not matter that texts have been joined.
fn replaces_one_character(decoder: &DecoderWrapper) -> bool {
    let definition = serde_json::to_value(decoder).unwrap_or_default();
    definition.pointer("/pattern/String").and_then(serde_json::Value::as_str).is_some_and(|pattern| pattern.chars().count() == 1)
}

/// The byte that a token such as "<0x0A>" stands for.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The byte that each character of the byte-level alphabet stands for, by code point: printable bytes stand for
/// themselves, the others follow from U+0100 in order.
fn alphabet() -> Vec<Option<u8>> {
    let mut bytes = vec![None; 0x100];
    for byte in 0..=u8::MAX {
        if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            if let Some(place) = bytes.get_mut(usize::from(byte)) {
                *place = Some(byte);
            }
        } else {
            bytes.push(Some(byte));
        }
    }
    bytes
}
