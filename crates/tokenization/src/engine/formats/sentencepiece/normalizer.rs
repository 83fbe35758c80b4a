use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{charsmap::Charsmap, compose, pieces::Pieces, regex};

/// The meta symbol that stands for a space.
pub(super) const SPACE: &str = "\u{2581}";
/// The first of the private characters that stand for user-defined pieces while the text is normalized.
const PROTECTED: u32 = 0x10_0000;

/// Stands for the dummy at the end until all else is done: an unassigned code point, as in `compose`.
const END: &str = "\u{FFF2}";

/// What the model says of normalization.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whitespace {
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) as_suffix: bool,
}

/// The normalizer: the steps of `normalizer.cc`, `Normalizer::Normalize`, in its order.
pub(super) fn normalizer(charsmap: &Charsmap, blob: &[u8], pieces: &Pieces, whitespace: Whitespace) -> (Value, Vec<String>) {
    let (mapping, differences) = compose::normalizers(charsmap, blob);
    let mut steps = Vec::new();
    // User-defined pieces are taken as they are, so those that would be changed are hidden meanwhile.
    let edges = charsmap.edges();
    let changed = |text: &str| {
        charsmap.by_character(text) != text
            || charsmap.multiple_in(text)
            || text.chars().next_back().is_some_and(|last| edges.first.contains(&last))
            || text.chars().next().is_some_and(|first| edges.later.contains(&first))
    };
    let hidden: Vec<_> = pieces
        .user_defined()
        .into_iter()
        .filter(|text| changed(text))
        .zip(PROTECTED..)
        .filter_map(|(text, code)| Some((text, char::from_u32(code)?.to_string())))
        .collect();
    steps.extend(hidden.iter().map(|(text, character)| replace(text, character)));
    // The dummy is there even if nothing is left of the text; where it would be stripped again, that does not matter.
    let (prefix, suffix) = (whitespace.add_dummy_prefix && !whitespace.as_suffix, whitespace.add_dummy_prefix && whitespace.as_suffix);
    let strip = whitespace.remove_extra_whitespaces;
    let prepend = json!({"type": "Prepend", "prepend": SPACE});
    if prefix && !strip {
        steps.push(prepend.clone());
    }
    if suffix {
        if strip {
            // Of spaces alone nothing is left, not even the dummy.
            let spaces = charsmap.single().filter(|(_, right)| *right == " ").map(|(left, _)| left).chain([' ']);
            steps.push(replace_regex(&format!(r"\A{}+\z", regex::class(spaces)), ""));
        }
        steps.push(replace_regex(r"(?<=[\s\S])\z", END));
    }
    steps.extend(mapping);
    steps.extend(hidden.iter().map(|(text, character)| replace(character, text)));
    if strip {
        // Only spaces: the charsmap has made spaces of what else is one.
        steps.push(replace_regex(r"\A +", ""));
        steps.push(replace_regex(" {2,}", " "));
    }
    steps.push(replace(" ", SPACE));
    if prefix && strip {
        steps.push(prepend);
    }
    if strip {
        // After the prefix, as there: of "▁" alone nothing is left.
        steps.push(replace_regex(&if suffix { format!(r"{SPACE}+(?={END}\z)") } else { format!(r"{SPACE}+\z") }, ""));
    }
    if suffix {
        steps.push(replace(END, SPACE));
    }
    (json!({"type": "Sequence", "normalizers": steps}), differences)
}

pub(super) fn replace(text: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": text}, "content": content})
}

pub(super) fn replace_regex(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
}

pub(super) fn remove(character: char) -> Value {
    replace_regex(&regex::escape(&character.to_string()), "")
}

pub(super) fn precompiled(blob: &[u8]) -> Value {
    json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(blob)})
}
