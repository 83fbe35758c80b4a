//! `tojson` as transformers has it: Python's `json.dumps(value, ensure_ascii=False, …)`, whose spaces and numbers end up in
//! prompts that models were trained on.

use std::fmt::Write as _;

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, ValueKind},
};

/// How deep values may be nested.
const MAX_DEPTH: usize = 100;

/// The layout of a JSON text.
struct Layout {
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
    ensure_ascii: bool,
}

/// The filter, `tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
#[allow(clippy::needless_pass_by_value, reason = "the engine hands arguments over so")]
pub(super) fn tojson(state: &State, value: &Value, given: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let argument = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let value = match given.get(place) {
            Some(value) => Some(value.clone()),
            None => kwargs.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let ensure_ascii = argument(0, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = argument(1, "indent")?;
    let separators = argument(2, "separators")?;
    let sort_keys = argument(3, "sort_keys")?.is_some_and(|value| value.is_true());
    kwargs.assert_all_used()?;
    let indent = match indent {
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(i64::try_from(indent)?).unwrap_or(0).min(64)),
        }),
        None => None,
    };
    let (item_separator, key_separator) = match separators {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(separators) => match separators.try_iter()?.map(|text| text.to_string()).collect::<Vec<_>>().as_slice() {
            [item, key] => (item.clone(), key.clone()),
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two texts")),
        },
    };
    let layout = Layout { indent, item_separator, key_separator, sort_keys, ensure_ascii };
    let mut text = String::new();
    write_value(state, value, &layout, 0, &mut text)?;
    Ok(Value::from(text))
}

fn write_value(state: &State, value: &Value, layout: &Layout, depth: usize, text: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::BadSerialization, "the value is nested too deeply for JSON"));
    }
    // What is written here is paid for before it has grown far.
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::Undefined => return Err(Error::new(ErrorKind::BadSerialization, "an undefined value has no JSON")),
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            let _ = match f64::try_from(value.clone()) {
                Ok(number) if number.is_nan() => text.write_str("NaN"),
                Ok(number) if number.is_infinite() => text.write_str(if number > 0.0 { "Infinity" } else { "-Infinity" }),
                _ => super::python::write_number(text, value),
            };
        }
        ValueKind::String => {
            let string = value.as_str().unwrap_or_default();
            state.consume_fuel(string.len() as u64 / 64)?;
            write_string(string, layout, text);
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()? {
                state.consume_fuel(1)?;
                items.push(item);
            }
            enclose(state, '[', ']', &items, layout, depth, text, |state, item, text| write_value(state, item, layout, depth + 1, text))?;
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                state.consume_fuel(1)?;
                entries.push((key_text(&key)?, value.get_item(&key)?));
            }
            if layout.sort_keys {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            enclose(state, '{', '}', &entries, layout, depth, text, |state, (key, item), text| {
                write_string(key, layout, text);
                text.push_str(&layout.key_separator);
                write_value(state, item, layout, depth + 1, text)
            })?;
        }
        kind => return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} has no JSON"))),
    }
    Ok(())
}

/// Keys are texts; Python writes the others as it writes the values.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number => Ok(key.to_string()),
        kind => Err(Error::new(ErrorKind::BadSerialization, format!("{kind} is no key of JSON"))),
    }
}

#[allow(clippy::too_many_arguments, reason = "one place for both kinds of brackets")]
fn enclose<T>(
    state: &State,
    open: char,
    close: char,
    items: &[T],
    layout: &Layout,
    depth: usize,
    text: &mut String,
    write: impl Fn(&State, &T, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    text.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(&layout.item_separator);
        }
        line(state, layout, depth + 1, text)?;
        write(state, item, text)?;
    }
    if !items.is_empty() {
        line(state, layout, depth, text)?;
    }
    text.push(close);
    Ok(())
}

fn line(state: &State, layout: &Layout, depth: usize, text: &mut String) -> Result<(), Error> {
    if let Some(indent) = &layout.indent {
        state.consume_fuel((depth * indent.len()) as u64 / 64)?;
        text.push('\n');
        (0..depth).for_each(|_| text.push_str(indent));
    }
    Ok(())
}

fn write_string(string: &str, layout: &Layout, text: &mut String) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            control if control < ' ' => {
                let _ = write!(text, "\\u{:04x}", control as u32);
            }
            other if layout.ensure_ascii && !other.is_ascii() => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            other => text.push(other),
        }
    }
    text.push('"');
}
