//! Where tokens stand in a text, in bytes and in characters.
//!
//! The reference counts in characters, and what trims a token's blanks takes characters off it: so that is what is asked for,
//! and bytes follow from it. A token that is a part of a character's bytes stands where the character stands.

/// A half-open range of bytes or characters.
pub(crate) type Span = (u32, u32);

/// Spans of characters in bytes.
pub(crate) fn in_bytes(text: &str, spans: &[Span]) -> Vec<Span> {
    if text.is_ascii() {
        return spans.to_vec();
    }
    let mut cursor = Cursor { text, byte: 0, character: 0 };
    spans.iter().map(|&(start, end)| (cursor.byte_of(start), cursor.byte_of(end))).collect()
}

/// Spans of bytes in characters. `spans` must lie on borders of characters.
pub(crate) fn in_characters(text: &str, spans: &[Span]) -> Vec<Span> {
    if text.is_ascii() {
        return spans.to_vec();
    }
    let mut cursor = Cursor { text, byte: 0, character: 0 };
    spans.iter().map(|&(start, end)| (cursor.character_at(start), cursor.character_at(end))).collect()
}

/// A place in a text. Tokens come in the order of the text, so it moves over it once, going back only within a word.
struct Cursor<'a> {
    text: &'a str,
    byte: usize,
    character: u32,
}

impl Cursor<'_> {
    fn byte_of(&mut self, character: u32) -> u32 {
        let (before, after) = self.text.split_at(self.byte);
        if character >= self.character {
            let ahead = (character - self.character) as usize;
            self.byte += after.char_indices().nth(ahead).map_or(after.len(), |(at, _)| at);
        } else {
            let back = (self.character - character) as usize;
            self.byte = before.char_indices().nth_back(back - 1).map_or(0, |(at, _)| at);
        }
        self.character = character;
        self.byte as u32
    }

    fn character_at(&mut self, byte: u32) -> u32 {
        let to = byte as usize;
        let count = |from, to| self.text.get(from..to).map_or(0, |between| between.chars().count() as u32);
        if to >= self.byte {
            self.character += count(self.byte, to);
        } else {
            self.character -= count(to, self.byte);
        }
        self.byte = to;
        self.character
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_any_order_and_both_ways() {
        let text = "aя€b";
        let (bytes, characters) =
            ([(0, 1), (1, 3), (3, 6), (1, 3), (6, 7), (0, 7), (7, 7)], [(0, 1), (1, 2), (2, 3), (1, 2), (3, 4), (0, 4), (4, 4)]);
        assert_eq!(in_characters(text, &bytes), characters);
        assert_eq!(in_bytes(text, &characters), bytes);
        assert_eq!((in_characters("abc", &[(1, 2)]), in_bytes("abc", &[(1, 2)])), (vec![(1, 2)], vec![(1, 2)]));
    }
}
