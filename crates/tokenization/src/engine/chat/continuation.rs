//! Leaves the last message open, so that a model goes on with it: the message gets a mark at its end, and the text is cut
//! where the mark came out. The steps are those of transformers' `render_jinja_template`, mark included.

use serde_json::{Map, Value};

use super::Failure;

/// The space at its end tells whether the template trims what it is given.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Marks the end of a message's content; what is to be continued.
pub(super) fn mark(source: &str, message: &mut Map<String, Value>) -> Result<String, Failure> {
    let refused = |reason: &str| Err(Failure::Continue(reason.to_owned()));
    if !source.contains("content") {
        return refused("the chat template reads no content");
    }
    let last = match message.get_mut("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let texts = parts.iter_mut().rev().filter_map(|part| part.get_mut("text"));
            match texts.into_iter().next() {
                Some(Value::String(text)) => text,
                _ => return refused("none of its parts has text"),
            }
        }
        _ => return refused("it has no content"),
    };
    let text = last.clone();
    last.push_str(MARK);
    Ok(text)
}

/// The text up to the end of the message that was marked.
pub(super) fn cut(mut rendered: String, message: &str) -> Result<String, Failure> {
    let trimmed = MARK.trim_end();
    let Some(at) = rendered.rfind(trimmed).filter(|_| rendered.contains(message.trim())) else {
        return Err(Failure::Continue("the chat template does not write it out".to_owned()));
    };
    let is_whole = rendered.get(at..).is_some_and(|rest| rest.starts_with(MARK));
    rendered.truncate(at);
    if !is_whole {
        rendered.truncate(rendered.trim_end().len());
    }
    Ok(rendered)
}
