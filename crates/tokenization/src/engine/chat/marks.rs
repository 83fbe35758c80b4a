//! Keeps what a conversation spells apart from what its template writes. `<|im_end|>` in a user's message is text; the same
//! from the template ends a message. Once both stand in one text nobody can tell them apart. So, before the template sees them,
//! special tokens in the conversation are replaced by one private character each, which no template takes for anything, and are
//! put back when the text is encoded, as text. transformers does the same with `sanitize_control_tokens`. A template may put two
//! texts side by side: so where a text ends as a special token begins, its last character is replaced too.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::Tokenizer;

/// Where the characters that stand for something begin. Those of this plane that a conversation holds itself are replaced like
/// special tokens, so that each of them means one thing.
const FIRST: u32 = 0x10_0000;

/// How many different things may be replaced: the plane, without what the generation blocks use.
const MOST: usize = 0xFFF0;

/// What was replaced in a conversation.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    originals: Vec<String>,
    places: HashMap<String, usize>,
}

/// A conversation spells more different things than there are characters to stand for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Marks {
    /// Whether nothing was replaced.
    pub(crate) fn is_empty(&self) -> bool {
        self.originals.is_empty()
    }

    /// Replaces special tokens of `tokenizer`, if one is given, and characters of the plane in every text of a value.
    pub(crate) fn mark_value(&mut self, value: &mut Value, tokenizer: Option<&Tokenizer>) -> Result<(), TooMany> {
        match value {
            Value::String(text) => self.mark(text, tokenizer),
            Value::Array(values) => values.iter_mut().try_for_each(|value| self.mark_value(value, tokenizer)),
            Value::Object(object) => {
                // Keys may be anybody's too: the arguments of a call are what a model wrote.
                for (mut key, mut value) in std::mem::take(object) {
                    self.mark(&mut key, tokenizer)?;
                    self.mark_value(&mut value, tokenizer)?;
                    object.insert(key, value);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The same in every value of an object whose own keys are the program's: a message, or the variables.
    pub(crate) fn mark_fields(&mut self, object: &mut Map<String, Value>, tokenizer: Option<&Tokenizer>) -> Result<(), TooMany> {
        object.values_mut().try_for_each(|value| self.mark_value(value, tokenizer))
    }

    fn mark(&mut self, text: &mut String, tokenizer: Option<&Tokenizer>) -> Result<(), TooMany> {
        let spelled = tokenizer.map(|tokenizer| tokenizer.specials_in(text)).unwrap_or_default();
        let begins = tokenizer.is_some_and(|tokenizer| tokenizer.ends_in_a_special(text));
        if spelled.is_empty() && !begins && !text.chars().any(is_mark) {
            return Ok(());
        }
        let (mut marked, mut done) = (String::with_capacity(text.len()), 0);
        for range in spelled {
            self.characters(text.get(done..range.start).unwrap_or_default(), &mut marked)?;
            marked.push(self.stands_for(text.get(range.clone()).unwrap_or_default())?);
            done = range.end;
        }
        self.characters(text.get(done..).unwrap_or_default(), &mut marked)?;
        if begins && let Some(last) = marked.pop() {
            marked.push(if is_mark(last) { last } else { self.stands_for(last.encode_utf8(&mut [0; 4]))? });
        }
        *text = marked;
        Ok(())
    }

    fn characters(&mut self, text: &str, marked: &mut String) -> Result<(), TooMany> {
        for character in text.chars() {
            marked.push(if is_mark(character) { self.stands_for(character.encode_utf8(&mut [0; 4]))? } else { character });
        }
        Ok(())
    }

    /// The character that stands for a text from now on.
    fn stands_for(&mut self, original: &str) -> Result<char, TooMany> {
        let place = match self.places.get(original) {
            Some(place) => *place,
            None if self.originals.len() == MOST => return Err(TooMany),
            None => {
                self.places.insert(original.to_owned(), self.originals.len());
                self.originals.push(original.to_owned());
                self.originals.len() - 1
            }
        };
        char::from_u32(FIRST + place as u32).ok_or(TooMany)
    }

    /// A text with everything put back.
    pub(crate) fn restore(&self, marked: &str) -> String {
        self.restore_with(marked, &mut [])
    }

    /// The same; `spans` of the text move with it.
    pub(crate) fn restore_with(&self, marked: &str, spans: &mut [(u32, u32)]) -> String {
        if self.is_empty() {
            return marked.to_owned();
        }
        let mut text = String::with_capacity(marked.len());
        // Each border of a span that lies behind a replaced character moves by what was put in.
        let mut moves: Vec<(usize, i64)> = Vec::new();
        for (at, character) in marked.char_indices() {
            match (character as u32).checked_sub(FIRST).and_then(|place| self.originals.get(place as usize)) {
                Some(original) => {
                    text.push_str(original);
                    moves.push((at + character.len_utf8(), text.len() as i64 - (at + character.len_utf8()) as i64));
                }
                None => text.push(character),
            }
        }
        let moved = |at: u32| {
            let before = moves.partition_point(|(from, _)| *from <= at as usize);
            let by = before.checked_sub(1).and_then(|place| moves.get(place)).map_or(0, |(_, by)| *by);
            (i64::from(at) + by) as u32
        };
        spans.iter_mut().for_each(|(start, end)| (*start, *end) = (moved(*start), moved(*end)));
        text
    }
}

fn is_mark(character: char) -> bool {
    character as u32 >= FIRST
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::samples;

    #[test]
    fn special_tokens_go_and_come_back() {
        let tokenizer = samples::load(&samples::byte_level());
        let mut marks = Marks::default();
        let mut value = serde_json::json!({"a": ["x<|endoftext|>y<|endoftext|>", 1], "<|endoftext|>": "\u{10FFFE}"});
        let original = value.clone();
        marks.mark_value(&mut value, Some(&tokenizer)).unwrap();
        assert_eq!(value, serde_json::json!({"a": ["x\u{100000}y\u{100000}", 1], "\u{100000}": "\u{100001}"}));
        let text = value["a"][0].as_str().unwrap();
        let mut spans = [(0, 1), (5, 6), (5, 10)];
        assert_eq!(marks.restore_with(text, &mut spans), original["a"][0].as_str().unwrap());
        assert_eq!(spans, [(0, 1), (14, 15), (14, 28)]);
    }

    #[test]
    fn texts_side_by_side_spell_nothing() {
        let tokenizer = samples::load(&samples::byte_level());
        let mut marks = Marks::default();
        let mut parts = serde_json::json!(["a <|end", "oftext", "|>", "<", "|endoftext|>", "<|endoftext|><"]);
        marks.mark_value(&mut parts, Some(&tokenizer)).unwrap();
        let joined: String = parts.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        assert!(tokenizer.specials_in(&joined).is_empty(), "{joined:?}");
        assert_eq!(marks.restore(&joined), "a <|endoftext|><|endoftext|><|endoftext|><");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "([a-c<|>\u{100000}-\u{100003}\u{10fffe}é]|<\\|endoftext\\|>){0,24}") {
            let tokenizer = samples::load(&samples::byte_level());
            let (mut marks, mut value) = (Marks::default(), Value::String(text.clone()));
            marks.mark_value(&mut value, Some(&tokenizer)).unwrap();
            let marked = value.as_str().unwrap();
            prop_assert!(tokenizer.specials_in(marked).is_empty());
            prop_assert_eq!(marks.restore(marked), text);
        }
    }
}
