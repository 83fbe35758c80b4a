//! A guide as `llguidance` reads it.

use llguidance::{api::TopLevelGrammar, regex_to_lark};
use serde_json::Value;

use super::{Guide, GuideError, Limits, schema};

/// The grammar for this guide, if it is within the limits that can be told from its text.
pub(super) fn grammar(guide: &Guide, limits: &Limits) -> Result<TopLevelGrammar, GuideError> {
    let kind = guide.kind();
    match guide {
        Guide::JsonSchema(text) => {
            check_size(kind, text.len(), limits.max_bytes)?;
            Ok(TopLevelGrammar::from_json_schema(schema::parse(text, kind, limits)?))
        }
        Guide::Regex(text) => {
            check_size(kind, text.len(), limits.max_regex_bytes)?;
            check_regex(kind, text)?;
            // As in the patterns of schemas, digits and words are ASCII's: a date in Bengali digits helps nobody.
            Ok(TopLevelGrammar::from_lark(format!("start: /{}/", regex_to_lark(text, "dw"))))
        }
        Guide::Grammar(text) => {
            check_size(kind, text.len(), limits.max_grammar_bytes)?;
            check_embedded(kind, text, limits)?;
            Ok(TopLevelGrammar::from_lark(text.clone()))
        }
        Guide::Choices(texts) => {
            check_size(kind, texts.iter().map(String::len).sum(), limits.max_bytes)?;
            choices(kind, texts)
        }
    }
}

fn check_size(kind: &'static str, bytes: usize, limit: usize) -> Result<(), GuideError> {
    if bytes > limit { Err(GuideError::TooLarge { kind, bytes, limit }) } else { Ok(()) }
}

/// Three things that `llguidance` takes in silence.
fn check_regex(kind: &'static str, text: &str) -> Result<(), GuideError> {
    // Between slashes, nothing is a comment.
    if text.is_empty() {
        return Err(GuideError::Invalid { kind, message: "it is empty".to_owned() });
    }
    // It drops the backslash.
    let backslashes = text.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if backslashes % 2 == 1 {
        return Err(GuideError::Invalid { kind, message: "it ends in a backslash that escapes nothing".to_owned() });
    }
    // A group of this name means something of its own to it: text that is matched and taken back, which a stream cannot do.
    if text.contains("<stop>") {
        return Err(GuideError::Unsupported { kind, message: "a group called 'stop'".to_owned() });
    }
    Ok(())
}

/// A grammar may hold schemas, which are checked as any other. What only looks like one, in a string, is refused.
fn check_embedded(kind: &'static str, text: &str, limits: &Limits) -> Result<(), GuideError> {
    text.match_indices("%json").try_for_each(|(at, mark)| {
        // As `llguidance` does: the JSON begins right after the word, and ends by itself.
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        match serde_json::Deserializer::from_str(rest).into_iter::<Value>().next() {
            Some(Ok(value @ Value::Object(_))) => {
                let found = value.to_string();
                schema::check_depth(&found, kind, limits)?;
                schema::check(&value, kind, limits)
            }
            _ => Err(GuideError::Invalid { kind, message: "%json must be followed by a JSON object".to_owned() }),
        }
    })
}

/// One terminal for all choices: as rules of their own they would each be an item of the parser.
fn choices(kind: &'static str, texts: &[String]) -> Result<TopLevelGrammar, GuideError> {
    let invalid = |message: &str| GuideError::Invalid { kind, message: message.to_owned() };
    if texts.is_empty() {
        return Err(invalid("it is empty"));
    }
    if texts.iter().any(String::is_empty) {
        return Err(invalid("a choice is empty"));
    }
    // Lark's strings are JSON's, but for one character.
    let quoted: Vec<String> = texts.iter().map(|text| Value::from(text.as_str()).to_string().replace('\u{7f}', r"\u007f")).collect();
    Ok(TopLevelGrammar::from_lark(format!("start: CHOICE\nCHOICE: {}\n", quoted.join(" | "))))
}
