//! Values as Python writes them: what a template prints of a number or a list is part of the prompt that a model knows.

use std::fmt::{Result, Write};

use minijinja::{Value, value::ValueKind};

/// How deep values are written out.
const MAX_DEPTH: usize = 100;

/// A number as Python's `repr` has it.
pub(super) fn write_number(out: &mut dyn Write, value: &Value) -> Result {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => write_float(out, number),
        _ => write!(out, "{value}"),
    }
}

/// The shortest digits that read back as the number, with an exponent from 1e16 on and below 1e-4.
fn write_float(out: &mut dyn Write, number: f64) -> Result {
    if !number.is_finite() {
        return out.write_str(if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        });
    }
    if number == 0.0 || (1e-4..1e16).contains(&number.abs()) {
        return write!(out, "{number:?}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    write!(out, "{digits}e{sign}{exponent:0>2}")
}

/// A list, a dictionary or a number as Python's `str` has it; what else there is as the engine writes it.
pub(super) fn write_value(out: &mut dyn Write, value: &Value, depth: usize) -> Result {
    if depth > MAX_DEPTH {
        return Err(std::fmt::Error);
    }
    match value.kind() {
        ValueKind::Number => write_number(out, value),
        ValueKind::Seq if depth > 0 || holds_floats(value, 0) => write_list(out, value, depth),
        ValueKind::Map if depth > 0 || holds_floats(value, 0) => write_dictionary(out, value, depth),
        // Within a container texts are quoted, as its own writing of a list of one shows.
        ValueKind::String if depth > 0 => {
            let quoted = Value::from(vec![value.clone()]).to_string();
            out.write_str(quoted.strip_prefix('[').and_then(|quoted| quoted.strip_suffix(']')).unwrap_or(&quoted))
        }
        _ => write!(out, "{value}"),
    }
}

fn write_list(out: &mut dyn Write, value: &Value, depth: usize) -> Result {
    out.write_char('[')?;
    for (index, item) in value.try_iter().map_err(|_| std::fmt::Error)?.enumerate() {
        if index > 0 {
            out.write_str(", ")?;
        }
        write_value(out, &item, depth + 1)?;
    }
    out.write_char(']')
}

fn write_dictionary(out: &mut dyn Write, value: &Value, depth: usize) -> Result {
    out.write_char('{')?;
    for (index, key) in value.try_iter().map_err(|_| std::fmt::Error)?.enumerate() {
        if index > 0 {
            out.write_str(", ")?;
        }
        write_value(out, &key, depth + 1)?;
        out.write_str(": ")?;
        write_value(out, &value.get_item(&key).map_err(|_| std::fmt::Error)?, depth + 1)?;
    }
    out.write_char('}')
}

/// Whether a value holds a number that the engine writes otherwise than Python.
fn holds_floats(value: &Value, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    match value.kind() {
        ValueKind::Number => !value.is_integer(),
        ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|item| holds_floats(&item, depth + 1))),
        ValueKind::Map => {
            value.try_iter().is_ok_and(|mut keys| keys.any(|key| value.get_item(&key).is_ok_and(|item| holds_floats(&item, depth + 1))))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_does() {
        let text = |number: f64| {
            let mut out = String::new();
            write_float(&mut out, number).unwrap();
            out
        };
        let cases = [
            (1.0, "1.0"),
            (1e-5, "1e-05"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (-1.5e-7, "-1.5e-07"),
            (1e100, "1e+100"),
            (-0.0, "-0.0"),
        ];
        for (number, written) in cases {
            assert_eq!(text(number), written);
        }
    }
}
