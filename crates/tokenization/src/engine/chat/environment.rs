//! The engine as transformers sets Jinja up: its whitespace, its loop controls, Python's methods, and what it adds.

use jiff::{Timestamp, fmt::strtime::BrokenDownTime, tz::TimeZone};
use minijinja::{
    Environment, Error, ErrorKind, State, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, ValueKind},
};

use super::{
    failure::raised,
    generation::{BEGIN, END, FUNCTION},
    json::tojson,
    python,
};

/// The variable that holds the time which a template sees.
pub(super) const NOW: &str = "__now";

/// How deep macros and blocks may nest.
const RECURSION: usize = 100;

/// An engine without templates, whose every render may take `fuel` units of work.
pub(super) fn new(fuel: u64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => python::write_value(out, value, 0).map_err(Error::from),
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.set_recursion_limit(RECURSION);
    environment.set_fuel(Some(fuel));
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> { Err(raised(&message)) });
    environment.add_function("strftime_now", strftime_now);
    environment.add_function(FUNCTION, |state: &mut State, kwargs: Kwargs| -> Result<String, Error> {
        let caller: Value = kwargs.get("caller")?;
        Ok(format!("{BEGIN}{}{END}", caller.call(state, &[])?))
    });
    Ok(environment)
}

fn strftime_now(state: &State, format: &str) -> Result<String, Error> {
    let seconds = state.lookup(NOW).and_then(|now| i64::try_from(now).ok()).unwrap_or_default();
    let now = Timestamp::from_second(seconds).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    let mut text = String::new();
    BrokenDownTime::from(&now.to_zoned(TimeZone::UTC))
        .format(format, &mut text)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))?;
    Ok(text)
}
