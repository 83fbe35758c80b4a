//! What is checked of a JSON schema before `llguidance` sees it.
//!
//! It bounds most of its work by fuel. What is refused here is what it does not bound: recursion on the stack, steps whose number grows
//! with the square of the schema, and numbers that it does not hold.

use llguidance::JsonCompileOptions;
use serde_json::{Map, Value};

use super::{GuideError, Limits, multiples::Multiples};

/// At most so much white space between two parts of a value: a model that likes it best would otherwise write it for ever.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,40}";

/// The schema in this text, ready for `llguidance`.
pub(super) fn parse(text: &str, kind: &'static str, limits: &Limits) -> Result<Value, GuideError> {
    check_depth(text, kind, limits)?;
    let invalid = |message: String| GuideError::Invalid { kind, message };
    match serde_json::from_str(text).map_err(|error| invalid(error.to_string()))? {
        Value::Object(schema) => {
            let schema = Value::Object(schema);
            check(&schema, kind, limits)?;
            let Value::Object(schema) = schema else { return Err(invalid("it is not an object".to_owned())) };
            Ok(prepared(schema))
        }
        Value::Bool(true) => Ok(prepared(Map::new())),
        Value::Bool(false) => Err(invalid("nothing satisfies it".to_owned())),
        _ => Err(invalid("it must be an object or a boolean".to_owned())),
    }
}

/// The schema with the options of `llguidance` that go into it. Whatever the client wrote there goes: `lenient`, for one, would leave
/// keywords unenforced.
fn prepared(schema: Map<String, Value>) -> Value {
    let mut schema = Value::Object(schema);
    JsonCompileOptions { whitespace_pattern: Some(WHITE_SPACE.to_owned()), ..JsonCompileOptions::default() }.apply_to(&mut schema);
    schema
}

/// Refuses text whose brackets nest too deep, before anything recurses into it.
pub(super) fn check_depth(text: &str, kind: &'static str, limits: &Limits) -> Result<(), GuideError> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits.max_depth {
            return Err(GuideError::TooComplex { kind, message: format!("it nests deeper than {}", limits.max_depth) });
        }
    }
    Ok(())
}

/// Refuses what would take long. It looks at keys wherever they stand, so a property that is called like a keyword counts as one.
pub(super) fn check(schema: &Value, kind: &'static str, limits: &Limits) -> Result<(), GuideError> {
    let mut found = Found { limits, patterns: 0, properties: 0, counts: false, multiples: Multiples::default(), combines: false, ways: 1 };
    found.visit(schema).and_then(|()| found.totals()).map_err(|message| GuideError::TooComplex { kind, message })
}

struct Found<'a> {
    limits: &'a Limits,
    patterns: usize,
    properties: usize,
    counts: bool,
    multiples: Multiples,
    combines: bool,
    /// In how many ways alternatives and references may be combined: more than they are.
    ways: u64,
}

impl Found<'_> {
    /// The depth is checked, so it may recurse.
    fn visit(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.visit(item)),
            Value::Object(map) => map.iter().try_for_each(|(key, value)| {
                self.keyword(key, value)?;
                self.visit(value)
            }),
            _ => Ok(()),
        }
    }

    fn keyword(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let Limits { max_properties, max_required, max_regex_bytes, .. } = *self.limits;
        let pattern = |text: &str| match text.len() {
            bytes if bytes > max_regex_bytes => Err(format!("a pattern has {bytes} bytes; at most {max_regex_bytes} are allowed")),
            _ => Ok(()),
        };
        match (key, value) {
            ("properties", Value::Object(map)) => {
                self.properties += map.len();
                if map.len() > max_properties {
                    return Err(format!("an object has {} properties; at most {max_properties} are allowed", map.len()));
                }
            }
            ("required", Value::Array(names)) if names.len() > max_required => {
                return Err(format!("{} names are required; at most {max_required} are allowed", names.len()));
            }
            ("required", Value::Array(names)) => self.properties += names.len(),
            ("patternProperties", Value::Object(map)) => {
                self.patterns += map.len();
                map.keys().try_for_each(|text| pattern(text))?;
            }
            ("pattern", Value::String(text)) => pattern(text)?,
            ("multipleOf", Value::Number(number)) => number.as_f64().map_or(Ok(()), |value| self.multiples.add(value))?,
            ("anyOf" | "oneOf" | "enum" | "type", Value::Array(options)) => {
                self.combines = true;
                self.ways = self.ways.saturating_mul((options.len() as u64).max(1));
            }
            ("$ref", _) => {
                self.combines = true;
                self.ways = self.ways.saturating_add(self.ways.max(1));
            }
            ("allOf" | "const", _) => self.combines = true,
            ("minProperties" | "maxProperties", Value::Number(_)) => self.counts = true,
            _ => {}
        }
        Ok(())
    }

    fn totals(&self) -> Result<(), String> {
        let Limits { max_pattern_properties, max_counted_properties, .. } = *self.limits;
        if self.patterns > max_pattern_properties {
            return Err(format!("it has {} patterns for properties; at most {max_pattern_properties} are allowed", self.patterns));
        }
        if self.combines {
            self.multiples.merge(self.ways)?;
        }
        if self.counts && self.properties > max_counted_properties {
            return Err(format!(
                "minProperties and maxProperties are allowed beside at most {max_counted_properties} named properties; it has {}",
                self.properties
            ));
        }
        Ok(())
    }
}
