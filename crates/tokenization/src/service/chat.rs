//! `ApplyChatTemplate`: a conversation as the contract has it becomes one as templates have it.

use std::time::{SystemTime, UNIX_EPOCH};

use quintet_proto::tokenization::v1::{self as proto, ApplyChatTemplateRequest, ApplyChatTemplateResponse, ChatMessage};
use quintet_serving::error::Checks;
use serde_json::{Map, Value};

use super::{Limits, checks, convert};
use crate::{
    Error,
    engine::{
        Entry, Policy,
        chat::{Conversation, Failure, Marks},
    },
};

/// Messages, tools and documents are at most this many each.
const MOST: usize = 4096;

/// What a template is given by other fields.
const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// How a message's own fields are called in a template.
const MESSAGE_FIELDS: [&str; 6] = ["role", "content", "tool_calls", "name", "tool_call_id", "reasoning_content"];

/// Applies the template; it takes as long as the template does.
pub(super) fn apply(entry: &Entry, request: ApplyChatTemplateRequest, limits: &Limits) -> Result<ApplyChatTemplateResponse, Error> {
    let templates = entry.templates.as_ref().ok_or_else(|| Error::Unable(format!("the tokenizer '{}' has no chat template", entry.name)))?;
    let mut checks = Checks::new();
    let policy = checks::policy(request.special_tokens, &mut checks);
    let truncation = request.truncation.as_ref().map(|given| checks::truncation(given, &entry.tokenizer, false, &mut checks));
    checks
        .require(truncation.is_none() || request.return_encoding, "truncation", || "it cuts the encoding, and return_encoding is not set".to_owned());
    checks.require(truncation.is_none_or(|truncation| truncation.overflow.is_none()), "truncation.return_overflow", || {
        "a conversation is not answered in pieces".to_owned()
    });
    let (name, return_encoding) = (request.template.clone(), request.return_encoding);
    let mut conversation = conversation(request, &mut checks);
    checks.finish().map_err(Error::Invalid)?;

    if policy == Policy::Refuse {
        refuse(&conversation, entry)?;
    }
    // Where they are refused, texts side by side could still spell one.
    let protected = (policy != Policy::Allow).then_some(&entry.tokenizer);
    let mut marks = Marks::default();
    let marked = conversation.messages.iter_mut().try_for_each(|message| marks.mark_fields(message, protected));
    let lists = [&mut conversation.tools, &mut conversation.documents].into_iter().flatten().flatten();
    let marked = marked.and_then(|()| lists.into_iter().try_for_each(|value| marks.mark_value(value, protected)));
    let marked = marked.and_then(|()| marks.mark_fields(&mut conversation.variables, protected));
    marked.map_err(|_| Error::invalid("messages", "they spell too many different special tokens and private characters: 65,520 is the limit"))?;

    let rendered = templates.apply(&name, conversation).map_err(|failure| failed(&failure))?;
    let mut spans = rendered.generation;
    let text = marks.restore_with(&rendered.text, &mut spans);
    let encoding = return_encoding
        .then(|| {
            let ids = if marks.is_empty() {
                entry.tokenizer.encode(&text, true, false).map(|tokens| tokens.ids)
            } else {
                entry.tokenizer.encode_between(&rendered.text, |part| marks.restore(part))
            };
            let mut ids = ids.map_err(|reason| Error::invalid("messages", format!("the tokenizer cannot encode the text: {reason}")))?;
            let length = ids.len();
            if let Some(truncation) = truncation
                && let Some([kept, _]) =
                    truncation.pieces([length, 0], 0, 1).map_err(|(field, reason)| Error::invalid(field, reason))?.into_iter().next()
            {
                ids = ids.get(kept).unwrap_or_default().to_vec();
            }
            if ids.len() > limits.max_tokens {
                return Err(Error::invalid("messages", format!("the text has {} tokens: {} is the limit", ids.len(), limits.max_tokens)));
            }
            Ok(proto::Encoding { truncated_tokens: (length - ids.len()) as u32, ids, ..proto::Encoding::default() })
        })
        .transpose()?;
    Ok(ApplyChatTemplateResponse {
        model: entry.name.clone(),
        model_version: entry.version.clone(),
        template: rendered.template,
        text,
        generation_spans: spans.into_iter().map(convert::span).collect(),
        encoding,
    })
}

/// How much a request is to read, in bytes.
pub(super) fn bytes(request: &ApplyChatTemplateRequest) -> usize {
    prost::Message::encoded_len(request)
}

fn conversation(request: ApplyChatTemplateRequest, checks: &mut Checks) -> Conversation {
    for (field, count, least) in
        [("messages", request.messages.len(), 1), ("tools", request.tools.len(), 0), ("documents", request.documents.len(), 0)]
    {
        checks.require((least..=MOST).contains(&count), field, || format!("{count} {field}: must be {least} to {MOST}"));
    }
    checks.require(!(request.add_generation_prompt && request.continue_final_message), "continue_final_message", || {
        "true, as add_generation_prompt is: the model goes on with the last message or begins one of its own".to_owned()
    });
    let messages = request.messages.into_iter().enumerate().map(|(index, given)| message(given, &format!("messages[{index}]"), checks)).collect();
    let mut objects = |field: &str, texts: Vec<String>| -> Option<Vec<Value>> {
        let parse = |(index, text): (usize, String)| Value::Object(object(&text, &format!("{field}[{index}]"), checks));
        (!texts.is_empty()).then(|| texts.into_iter().enumerate().map(parse).collect())
    };
    let (tools, documents) = (objects("tools", request.tools), objects("documents", request.documents));
    let variables = optional(&request.variables, "variables", checks);
    for name in RESERVED {
        checks.require(!variables.contains_key(name), "variables", || format!("it sets '{name}', which has a field of its own"));
    }
    // The clock's own steps are no matter: what a template prints of it is the date.
    let now = request.now_seconds.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64));
    Conversation {
        messages,
        tools,
        documents,
        add_generation_prompt: request.add_generation_prompt,
        continue_final_message: request.continue_final_message,
        variables,
        now,
    }
}

fn message(given: ChatMessage, field: &str, checks: &mut Checks) -> Map<String, Value> {
    let mut message = Map::new();
    checks.require(!given.role.is_empty(), format!("{field}.role"), || "empty: each message must say who speaks".to_owned());
    message.insert("role".to_owned(), given.role.into());
    if given.parts.is_empty() {
        message.insert("content".to_owned(), given.content.into());
    } else {
        checks.require(given.content.is_empty(), format!("{field}.content"), || format!("{} parts are given beside it", given.parts.len()));
        let part = |part: proto::ChatContentPart| {
            let mut object = Map::from_iter([("type".to_owned(), Value::from(part.r#type))]);
            if !part.text.is_empty() {
                object.insert("text".to_owned(), part.text.into());
            }
            Value::Object(object)
        };
        message.insert("content".to_owned(), given.parts.into_iter().map(part).collect());
    }
    if !given.tool_calls.is_empty() {
        let calls = given.tool_calls.into_iter().enumerate();
        message
            .insert("tool_calls".to_owned(), calls.map(|(index, call)| tool_call(call, &format!("{field}.tool_calls[{index}]"), checks)).collect());
    }
    for (name, value) in [("name", given.name), ("tool_call_id", given.tool_call_id), ("reasoning_content", given.reasoning_content)] {
        if !value.is_empty() {
            message.insert(name.to_owned(), value.into());
        }
    }
    for (name, value) in optional(&given.extra, &format!("{field}.extra"), checks) {
        checks.require(!MESSAGE_FIELDS.contains(&name.as_str()), format!("{field}.extra"), || {
            format!("it sets '{name}', which has a field of its own")
        });
        message.insert(name, value);
    }
    message
}

fn tool_call(given: proto::ChatToolCall, field: &str, checks: &mut Checks) -> Value {
    checks.require(!given.name.is_empty(), format!("{field}.name"), || "empty: a call must name its function".to_owned());
    let arguments = optional(&given.arguments, &format!("{field}.arguments"), checks);
    let mut call = Map::new();
    if !given.id.is_empty() {
        call.insert("id".to_owned(), given.id.into());
    }
    call.insert("type".to_owned(), "function".into());
    call.insert("function".to_owned(), serde_json::json!({"name": given.name, "arguments": arguments}));
    Value::Object(call)
}

fn optional(text: &str, field: &str, checks: &mut Checks) -> Map<String, Value> {
    if text.is_empty() { Map::new() } else { object(text, field, checks) }
}

fn object(text: &str, field: &str, checks: &mut Checks) -> Map<String, Value> {
    let parsed = serde_json::from_str::<Map<String, Value>>(text);
    checks.require(parsed.is_ok(), field, || format!("it is no JSON object: {}", parsed.as_ref().err().map(ToString::to_string).unwrap_or_default()));
    parsed.unwrap_or_default()
}

/// Refuses a conversation that spells a special token.
fn refuse(conversation: &Conversation, entry: &Entry) -> Result<(), Error> {
    let messages = conversation
        .messages
        .iter()
        .enumerate()
        .flat_map(|(index, message)| message.values().map(move |value| (format!("messages[{index}]"), value)));
    let lists = [("tools", &conversation.tools), ("documents", &conversation.documents)];
    let lists = lists
        .into_iter()
        .flat_map(|(field, values)| values.iter().flatten().enumerate().map(move |(index, value)| (format!("{field}[{index}]"), value)));
    let variables = conversation.variables.values().map(|value| ("variables".to_owned(), value));
    for (field, value) in messages.chain(lists).chain(variables) {
        if let Some(special) = spelled(value, entry) {
            return Err(Error::invalid(field, format!("it spells the special token {special:?}, and special_tokens is REFUSE")));
        }
    }
    Ok(())
}

fn spelled(value: &Value, entry: &Entry) -> Option<String> {
    match value {
        Value::String(text) => entry.tokenizer.find_special(text).map(|(_, special)| special.content.clone()),
        Value::Array(values) => values.iter().find_map(|value| spelled(value, entry)),
        Value::Object(object) => {
            let key = object.keys().find_map(|key| entry.tokenizer.find_special(key).map(|(_, special)| special.content.clone()));
            key.or_else(|| object.values().find_map(|value| spelled(value, entry)))
        }
        _ => None,
    }
}

fn failed(failure: &Failure) -> Error {
    let field = match failure {
        Failure::Unknown { .. } | Failure::Ambiguous(_) => "template",
        Failure::Continue(_) => "continue_final_message",
        Failure::Raised(_) | Failure::Work(_) | Failure::Broken(_) => "messages",
    };
    Error::invalid(field, failure.to_string())
}
