//! `{% generation %}` … `{% endgeneration %}`, transformers' own tags around what the assistant says.
//!
//! There the tag is a call block in disguise, so that is what it becomes here: `{% call __generation() %}`. What it encloses
//! comes out between two characters that occur nowhere else, and is found by them in the text.

use std::fmt::Write as _;

/// The function that the tags become a call of.
pub(super) const FUNCTION: &str = "__generation";

/// The characters around what a block gave: noncharacters are for use within a program, never for interchange.
pub(super) const BEGIN: char = '\u{10FFFE}';
pub(super) const END: char = '\u{10FFFF}';

/// What encloses statements, expressions and comments.
const BRACKETS: [(&str, &str); 3] = [("{%", "%}"), ("{{", "}}"), ("{#", "#}")];

/// A template's source with the tags as call blocks, and whether it has any. Comments, expressions and raw blocks stay.
pub(super) fn as_calls(source: &str) -> (String, bool) {
    let (mut written, mut rest, mut found, mut raw) = (String::with_capacity(source.len()), source, false, false);
    while let Some(at) = BRACKETS.iter().filter(|(open, _)| !raw || *open == "{%").filter_map(|(open, _)| rest.find(open)).min() {
        let (before, tag) = rest.split_at(at);
        written.push_str(before);
        let close = BRACKETS.iter().find(|(open, _)| tag.starts_with(open)).map_or("%}", |(_, close)| close);
        let Some(end) = tag.find(close) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let inner = tag.get(2..end).unwrap_or_default();
        let name = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match name {
            _ if close != "%}" => written.push_str(tag),
            "raw" | "endraw" => {
                raw = name == "raw";
                written.push_str(tag);
            }
            "generation" | "endgeneration" if !raw => {
                found = true;
                let call = if name == "generation" { "call __generation()" } else { "endcall" };
                let _ = write!(written, "{{%{}%}}", inner.replacen(name, call, 1));
            }
            _ => written.push_str(tag),
        }
        rest = after;
    }
    written.push_str(rest);
    (written, found)
}

/// The text without the characters that enclose generated parts, and where those parts are, in bytes.
pub(super) fn spans(text: &str) -> (String, Vec<(u32, u32)>) {
    let (mut plain, mut spans, mut open) = (String::with_capacity(text.len()), Vec::new(), Vec::new());
    for piece in text.split_inclusive([BEGIN, END]) {
        let (piece, mark) = match piece.chars().next_back() {
            Some(mark @ (BEGIN | END)) => (piece.strip_suffix(mark).unwrap_or(piece), Some(mark)),
            _ => (piece, None),
        };
        plain.push_str(piece);
        match mark {
            Some(BEGIN) => open.push(plain.len() as u32),
            Some(_) => spans.extend(open.pop().map(|start| (start, plain.len() as u32))),
            None => {}
        }
    }
    spans.sort_unstable();
    (plain, spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_call_blocks_with_their_whitespace_control() {
        let (written, found) =
            as_calls("a{%- generation -%}b{% endgeneration %}c{# {% generation %} #}{% raw %}{% generation %}{{{% endraw %}{{ '{% generation %}' }}");
        assert_eq!(
            written,
            "a{%- call __generation() -%}b{% endcall %}c{# {% generation %} #}{% raw %}{% generation %}{{{% endraw %}{{ '{% generation %}' }}"
        );
        assert!(found);
        assert_eq!(as_calls("{% if generation %}{% endif %}{% open"), ("{% if generation %}{% endif %}{% open".to_owned(), false));
    }

    #[test]
    fn spans_are_found_and_their_marks_taken_out() {
        let marked = format!("ä{BEGIN}bc{BEGIN}d{END}{END}e{BEGIN}{END}");
        assert_eq!(spans(&marked), ("äbcde".to_owned(), vec![(2, 5), (4, 5), (6, 6)]));
    }
}
