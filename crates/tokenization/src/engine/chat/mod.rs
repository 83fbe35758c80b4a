//! Chat templates: how a conversation is written down for the model that was trained on that writing.
//!
//! They are Jinja programs that come with a tokenizer, and are run as transformers runs them. Each render has a budget of
//! work that bounds its time and its memory, whatever the template does.

mod continuation;
mod environment;
mod failure;
mod generation;
mod json;
mod marks;
mod python;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use minijinja::Environment;
use serde_json::{Map, Value};

pub(crate) use failure::Failure;
pub(crate) use marks::Marks;

/// The name of the template that is used when none is named.
const DEFAULT: &str = "default";

/// The name of the one that is used where there are tools.
const TOOL_USE: &str = "tool_use";

/// Names of single special tokens in `tokenizer_config.json`, which templates see as variables.
const SPECIAL_TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Names that messages give their reasoning: templates read one or the other.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A conversation to be written down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    /// Objects, each with a role.
    pub(crate) messages: Vec<Map<String, Value>>,
    /// What the model may call; `None` and no tools are two things to a template.
    pub(crate) tools: Option<Vec<Value>>,
    /// What answers are to be grounded in.
    pub(crate) documents: Option<Vec<Value>>,
    /// Whether the text ends with what begins the model's turn.
    pub(crate) add_generation_prompt: bool,
    /// Whether the last message is left open.
    pub(crate) continue_final_message: bool,
    /// More variables.
    pub(crate) variables: Map<String, Value>,
    /// The time that the template sees, in seconds since 1970.
    pub(crate) now: i64,
}

/// A conversation written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The name of the template used.
    pub(crate) template: String,
    /// The text.
    pub(crate) text: String,
    /// What the assistant says in it, in bytes, as far as the template tells.
    pub(crate) generation: Vec<(u32, u32)>,
}

/// The chat templates of a tokenizer.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    /// The names, and whether each says what the assistant generates.
    sources: BTreeMap<String, String>,
    special_tokens: Map<String, Value>,
    fuel: u64,
}

impl Templates {
    /// Compiles what `tokenizer_config.json` holds and the files beside it, which come first; `None` = there is no template.
    pub(crate) fn load(config: &Value, files: Vec<(String, String)>, fuel: u64) -> Result<Option<Self>, String> {
        let mut sources = BTreeMap::new();
        match config.get("chat_template") {
            Some(Value::String(source)) => drop(sources.insert(DEFAULT.to_owned(), source.clone())),
            Some(Value::Array(named)) => {
                for entry in named {
                    let text = |key| entry.get(key).and_then(Value::as_str).map(str::to_owned);
                    let (Some(name), Some(source)) = (text("name"), text("template")) else {
                        return Err("chat_template: an entry has no name or no template".to_owned());
                    };
                    sources.insert(name, source);
                }
            }
            None | Some(Value::Null) => {}
            Some(_) => return Err("chat_template is neither a text nor a list".to_owned()),
        }
        sources.extend(files);
        if sources.is_empty() {
            return Ok(None);
        }
        let mut environment = environment::new(fuel).map_err(|error| error.to_string())?;
        for (name, source) in &sources {
            let (source, _) = generation::as_calls(source);
            environment.add_template_owned(name.clone(), source).map_err(|error| format!("the chat template '{name}': {error}"))?;
        }
        Ok(Some(Self { environment, sources, special_tokens: special_tokens(config), fuel }))
    }

    /// The names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// Writes a conversation down with the template of this name; empty = as transformers picks one.
    pub(crate) fn apply(&self, name: &str, mut conversation: Conversation) -> Result<Rendered, Failure> {
        let (name, source) = self.pick(name, conversation.tools.as_ref().is_some_and(|tools| !tools.is_empty()))?;
        for message in &mut conversation.messages {
            // Templates take a missing key better than one that is null, as transformers has found.
            message.retain(|_, value| !value.is_null());
            alias_reasoning(message);
        }
        let open = match conversation.messages.last_mut() {
            Some(last) if conversation.continue_final_message => Some(continuation::mark(source, last)?),
            None if conversation.continue_final_message => return Err(Failure::Continue("there is none".to_owned())),
            _ => None,
        };
        let mut variables = self.special_tokens.clone();
        variables.extend(conversation.variables);
        let list = |values: Option<Vec<Value>>| values.map_or(Value::Null, Value::Array);
        variables.insert("messages".to_owned(), Value::Array(conversation.messages.into_iter().map(Value::Object).collect()));
        variables.insert("tools".to_owned(), list(conversation.tools));
        variables.insert("documents".to_owned(), list(conversation.documents));
        variables.insert("add_generation_prompt".to_owned(), conversation.add_generation_prompt.into());
        variables.insert(environment::NOW.to_owned(), conversation.now.into());

        let failed = |error: minijinja::Error| failure::failure(&error, self.fuel);
        let template = self.environment.get_template(name).map_err(failed)?;
        let marked = template.render(minijinja::value::Serde(&variables)).map_err(failed)?;
        let (mut text, mut generation) = generation::spans(&marked);
        if let Some(message) = open {
            text = continuation::cut(text, &message)?;
            // What is left open may be what the assistant says.
            generation.retain(|span| (span.0 as usize) < text.len());
            generation.iter_mut().for_each(|span| span.1 = span.1.min(text.len() as u32));
        }
        Ok(Rendered { template: name.to_owned(), text, generation })
    }

    fn pick(&self, name: &str, tools: bool) -> Result<(&str, &str), Failure> {
        let known = || self.sources.keys().cloned().collect();
        let find = |name: &str| self.sources.get_key_value(name).map(|(name, source)| (name.as_str(), source.as_str()));
        if !name.is_empty() {
            return find(name).ok_or_else(|| Failure::Unknown { name: name.to_owned(), known: known() });
        }
        let mut all = self.sources.iter();
        match (all.next(), all.next()) {
            (Some((name, source)), None) => Ok((name, source)),
            _ => tools.then(|| find(TOOL_USE)).flatten().or_else(|| find(DEFAULT)).ok_or_else(|| Failure::Ambiguous(known())),
        }
    }
}

/// The special tokens that templates see.
fn special_tokens(config: &Value) -> Map<String, Value> {
    let token = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
    SPECIAL_TOKENS.iter().filter_map(|&name| Some((name.to_owned(), token(config.get(name)?)?.into()))).collect()
}

/// Gives a message's reasoning every name that templates read it by, as transformers does.
fn alias_reasoning(message: &mut Map<String, Value>) {
    let found = REASONING.iter().find_map(|&name| message.get(name).filter(|value| !value.is_null()).cloned());
    if let Some(reasoning) = found {
        if !message.contains_key("thinking") {
            // In front, as there: the order shows where a template prints a whole message.
            message.shift_insert(0, "thinking".to_owned(), reasoning.clone());
        }
        message.insert("reasoning_content".to_owned(), reasoning);
    }
}
