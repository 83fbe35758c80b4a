//! The parameters of requests and tensors: a map of names to values of several types.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use quintet_batching::Ask;
use quintet_proto::inference::{InferParameter, infer_parameter::ParameterChoice as Choice};
use quintet_serving::context::Context;

use crate::Error;

pub(crate) type Parameters = HashMap<String, InferParameter>;

/// A whole number from 0.
pub(crate) fn number(parameters: &Parameters, name: &str) -> Result<Option<u64>, Error> {
    match choice(parameters, name) {
        None => Ok(None),
        Some(Choice::Uint64Param(value)) => Ok(Some(*value)),
        Some(Choice::Int64Param(value)) if *value >= 0 => Ok(Some(*value as u64)),
        Some(other) => Err(wrong(name, other, "a whole number from 0")),
    }
}

/// A text.
pub(crate) fn text<'a>(parameters: &'a Parameters, name: &str) -> Result<Option<&'a str>, Error> {
    match choice(parameters, name) {
        None => Ok(None),
        Some(Choice::StringParam(value)) => Ok(Some(value)),
        Some(other) => Err(wrong(name, other, "a text")),
    }
}

fn choice<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a Choice> {
    parameters.get(name)?.parameter_choice.as_ref()
}

fn wrong(name: &str, value: &Choice, expected: &str) -> Error {
    Error::invalid(format!("parameters[{name}]"), format!("{value:?}: must be {expected}"))
}

/// When a request is to be run, as its parameters and its call say.
pub(crate) fn ask(parameters: &Parameters) -> Result<Ask, Error> {
    // Graphs keep nothing between requests; a client that counts on it must hear of it.
    for name in ["sequence_id", "sequence_start", "sequence_end"] {
        let is_set = match choice(parameters, name) {
            None | Some(Choice::BoolParam(false) | Choice::Int64Param(0) | Choice::Uint64Param(0)) => false,
            Some(Choice::StringParam(text)) => !text.is_empty(),
            Some(_) => true,
        };
        if is_set {
            return Err(Error::invalid(format!("parameters[{name}]"), "sequences are not supported: graphs keep no state between requests here"));
        }
    }
    let context = Context::current();
    let priority = match number(parameters, "priority")? {
        None | Some(0) => context.priority,
        // A key's best priority stays the best that its holder can have.
        Some(asked) => u8::try_from(asked).unwrap_or(u8::MAX).clamp(1, 9).max(context.best_priority),
    };
    let timeout = number(parameters, "timeout")?.filter(|timeout| *timeout > 0);
    let until = timeout.and_then(|timeout| Instant::now().checked_add(Duration::from_micros(timeout)));
    let deadline = context.deadline.into_iter().chain(until).min();
    Ok(Ask::rows(1).until(deadline).priority(priority))
}
