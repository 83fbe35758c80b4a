//! Where tokens stand in a text, in bytes and in characters.

/// A half-open range of bytes or characters.
pub(crate) type Span = (u32, u32);

/// The spans with both ends on borders of characters: a token that is a part of a character's bytes stands where
/// the character stands.
pub(crate) fn on_borders(text: &str, offsets: &[(usize, usize)]) -> Vec<Span> {
    let span = |&(start, end): &(usize, usize)| {
        let first = text.floor_char_boundary(start);
        let end = if end <= start { first } else { text.ceil_char_boundary(end) };
        (first as u32, end as u32)
    };
    offsets.iter().map(span).collect()
}

/// The same in characters. `spans` must lie on borders of characters.
pub(crate) fn in_characters(text: &str, spans: &[Span]) -> Vec<Span> {
    if text.is_ascii() {
        return spans.to_vec();
    }
    // Tokens come in the order of the text, so the cursor moves over it once, going back only within a word.
    let (mut byte, mut character) = (0, 0);
    let mut count = |to: u32| {
        let to = to as usize;
        if to >= byte {
            character += text.get(byte..to).map_or(0, |between| between.chars().count());
        } else {
            character -= text.get(to..byte).map_or(0, |between| between.chars().count());
        }
        byte = to;
        character as u32
    };
    spans.iter().map(|&(start, end)| (count(start), count(end))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_snap_to_whole_characters() {
        let text = "aя€b";
        assert_eq!(
            on_borders(text, &[(0, 1), (1, 2), (2, 3), (4, 5), (6, 7), (99, 99), (2, 2)]),
            [(0, 1), (1, 3), (1, 3), (3, 6), (6, 7), (7, 7), (1, 1)]
        );
    }

    #[test]
    fn characters_are_counted_in_any_order() {
        let text = "aя€b";
        assert_eq!(in_characters(text, &[(0, 1), (1, 3), (3, 6), (1, 3), (6, 7), (0, 7)]), [(0, 1), (1, 2), (2, 3), (1, 2), (3, 4), (0, 4)]);
        assert_eq!(in_characters("abc", &[(1, 2)]), [(1, 2)]);
    }
}
