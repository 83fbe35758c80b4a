//! Prometheus' text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! Own code, because `prometheus-parse` 0.2.5 splits labels at every `,` and `=`, also inside quotes.

use std::{
    collections::{BTreeMap, HashMap},
    num::ParseFloatError,
};

/// Names and values, by name.
pub(super) type Labels = BTreeMap<String, String>;

/// What a metrics page says: of each name, the value of each set of labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Page(HashMap<String, BTreeMap<Labels, f64>>);

/// Why a page cannot be read.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {reason}: `{text}`")]
pub(super) struct Malformed {
    /// Counted from 1.
    line: usize,
    /// What is wrong.
    reason: &'static str,
    /// The line, or its beginning.
    text: String,
}

impl Page {
    /// Reads a page. Comments, types and timestamps are passed over.
    pub(super) fn parse(page: &str) -> Result<Self, Malformed> {
        let mut families: HashMap<String, BTreeMap<Labels, f64>> = HashMap::new();
        for (index, line) in page.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let malformed = |reason| Malformed { line: index + 1, reason, text: line.chars().take(80).collect() };
            let (name, labels, value) = sample(line).map_err(malformed)?;
            families.entry(name.to_owned()).or_default().insert(labels, value);
        }
        Ok(Self(families))
    }

    /// Every sample of a name.
    pub(super) fn series(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        self.0.get(name).into_iter().flatten().map(|(labels, value)| (labels, *value))
    }

    /// The sample of a name with exactly these labels.
    pub(super) fn value(&self, name: &str, labels: &Labels) -> Option<f64> {
        self.0.get(name)?.get(labels).copied()
    }
}

/// A number as Prometheus writes it: also `+Inf`, `-Inf` and `NaN`.
pub(super) fn number(text: &str) -> Result<f64, ParseFloatError> {
    text.parse()
}

fn sample(line: &str) -> Result<(&str, Labels, f64), &'static str> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace()).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
        return Err("not a metric's name");
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = rest.split_whitespace().next().ok_or("no value")?;
    Ok((name, labels, number(value).map_err(|_| "not a number")?))
}

/// Labels up to and with their closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once('=').ok_or("labels without an end")?;
        let quoted = after.trim_start().strip_prefix('"').ok_or("a label without quotes")?;
        let (value, after) = unquote(quoted)?;
        labels.insert(name.trim().to_owned(), value);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("no comma between labels"),
        }
    }
}

/// A label's value up to its closing quote, and what follows that.
fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(index + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c)) => value.push(c),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("a label without its closing quote")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn samples_are_read_and_comments_passed_over() {
        let page =
            Page::parse("# HELP a {not=\"a sample\"} 1\n# TYPE a counter\na{x=\"1\",y=\"2\",} 3 1395066363000\na { x = \"2\" } 4e-3\n\n  b 5\r\n")
                .unwrap();
        assert_eq!(page.value("a", &labels([("x", "1"), ("y", "2")])), Some(3.0));
        assert_eq!(page.value("a", &labels([("x", "2")])), Some(0.004));
        assert_eq!(page.value("b", &labels([])), Some(5.0));
        assert_eq!(page.value("c", &labels([])), None);
        assert_eq!(page.series("a").count(), 2);
    }

    #[test]
    fn labels_may_hold_anything() {
        let page = Page::parse("a{x=\"q\\\"b\\\\n\\nl\",y=\"a=1,b={2}\",z=\"é\"} 1").unwrap();
        assert_eq!(page.value("a", &labels([("x", "q\"b\\n\nl"), ("y", "a=1,b={2}"), ("z", "é")])), Some(1.0));
    }

    #[test]
    fn numbers_may_be_infinite_or_none() {
        let page = Page::parse("a +Inf\nb -Inf\nc NaN\nd{le=\"+Inf\"} 2").unwrap();
        assert_eq!(page.value("a", &labels([])), Some(f64::INFINITY));
        assert_eq!(page.value("b", &labels([])), Some(f64::NEG_INFINITY));
        assert!(page.value("c", &labels([])).is_some_and(f64::is_nan));
        assert_eq!(number("+Inf"), Ok(f64::INFINITY));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (page, message) in [
            ("a 1\n<html> 2", "line 2: not a metric's name: `<html> 2`"),
            ("a", "line 1: no value: `a`"),
            ("a{x=\"1\"}", "line 1: no value: `a{x=\"1\"}`"),
            ("a one", "line 1: not a number: `a one`"),
            ("a{x=1} 1", "line 1: a label without quotes: `a{x=1} 1`"),
            ("a{x=\"1 1", "line 1: a label without its closing quote: `a{x=\"1 1`"),
            ("a{x=\"1\\", "line 1: a label without its closing quote: `a{x=\"1\\`"),
            ("a{x=\"1\" y=\"2\"} 1", "line 1: no comma between labels: `a{x=\"1\" y=\"2\"} 1`"),
            ("a{", "line 1: labels without an end: `a{`"),
        ] {
            assert_eq!(Page::parse(page).unwrap_err().to_string(), message);
        }
    }
}
