use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::{Boundary, Span};

/// Where a text may be cut, from the finest to the coarsest kind of place, and how many tokens stand before each byte.
pub(super) struct Borders<'a> {
    text: &'a str,
    /// The ends of tokens, in order; one that has several tokens stands here as often.
    tokens: Vec<u32>,
    /// The ends of words, sentences and paragraphs, up to the kind asked for; the finest first.
    units: Vec<Vec<u32>>,
}

impl<'a> Borders<'a> {
    pub(super) fn new(text: &'a str, tokens: &[Span], boundary: Boundary) -> Self {
        // Normalisation can make tokens stand out of order; what is left of a text never shrinks.
        let mut latest = 0;
        let tokens = tokens.iter().map(|&(_, end)| {
            latest = latest.max(end);
            latest
        });
        let tokens = tokens.collect();
        let mut units = Vec::new();
        if boundary >= Boundary::Word {
            units.push(ends(text.split_word_bounds()));
        }
        if boundary >= Boundary::Sentence {
            units.push(sentences(text));
        }
        if boundary >= Boundary::Paragraph {
            units.push(paragraphs(text));
        }
        Self { text, tokens, units }
    }

    /// The end of a piece from `from` with about `tokens` tokens: the last coarse border within them, else the last finer one,
    /// and one character at least.
    pub(super) fn end(&self, from: usize, tokens: usize) -> usize {
        let first = self.tokens.partition_point(|&end| end as usize <= from);
        // No token ends behind the text's last one, but the text may go on: with spaces that its normaliser drops, say.
        let Some(&last) = self.tokens.get(first + tokens) else { return self.text.len() };
        // A character that has several tokens stands in all of them: the last token that ends before the first one too many.
        let whole = self.tokens.partition_point(|&end| end < last);
        let limit = whole.checked_sub(1).filter(|_| whole > first).and_then(|place| self.tokens.get(place)).map_or(from, |&end| end as usize);
        self.last_within(from, limit)
    }

    /// The last border up to `limit`: of the coarsest kind that has one behind `from`, and one character at least.
    pub(super) fn last_within(&self, from: usize, limit: usize) -> usize {
        if limit >= self.text.len() {
            return self.text.len();
        }
        for ends in self.units.iter().rev() {
            let within = ends.partition_point(|&end| end as usize <= limit);
            if let Some(&end) = within.checked_sub(1).and_then(|place| ends.get(place))
                && end as usize > from
            {
                return end as usize;
            }
        }
        self.whole_character(from, limit)
    }

    /// The end of the shortest piece from `from` that cuts no character.
    pub(super) fn least(&self, from: usize) -> usize {
        let first = self.text.get(from..).and_then(|rest| rest.chars().next());
        from + first.map_or(0, char::len_utf8)
    }

    /// Where the piece after `from..to` begins, so that it repeats at most `tokens` tokens, in whole units.
    pub(super) fn overlap(&self, from: usize, to: usize, tokens: usize) -> usize {
        if tokens == 0 {
            return to;
        }
        let before = self.tokens.partition_point(|&end| end as usize <= to);
        let earliest = before.checked_sub(tokens + 1).and_then(|place| self.tokens.get(place)).map_or(0, |&end| end as usize).max(from + 1);
        match self.units.last() {
            Some(ends) => {
                let next = ends.partition_point(|&end| (end as usize) < earliest);
                ends.get(next).map_or(to, |&end| (end as usize).min(to))
            }
            None => self.next_whole_character(from, to, earliest),
        }
    }

    /// The last border of a grapheme cluster up to `limit`; where the first cluster is longer, the last border of a character;
    /// where there is none, the first. Clusters are looked for from `from` on, which is a border, so that a text made of one
    /// endless cluster is not gone through again and again.
    fn whole_character(&self, from: usize, limit: usize) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        let place = rest.floor_char_boundary(limit.saturating_sub(from));
        let mut cursor = GraphemeCursor::new(place, rest.len(), true);
        if place > 0 && cursor.is_boundary(rest, 0) == Ok(true) {
            return from + place;
        }
        // A cursor that has been asked one thing is not to be asked another.
        match GraphemeCursor::new(place, rest.len(), true).prev_boundary(rest, 0) {
            Ok(Some(border)) if border > 0 => from + border,
            _ => (from + place).max(self.least(from)),
        }
    }

    /// The first border of a grapheme cluster from `at` on within `from..to`, which is between borders; where there is none, the
    /// first border of a character.
    fn next_whole_character(&self, from: usize, to: usize, at: usize) -> usize {
        let piece = self.text.get(from..to).unwrap_or_default();
        let place = piece.ceil_char_boundary(at.saturating_sub(from));
        let mut cursor = GraphemeCursor::new(place, piece.len(), true);
        if cursor.is_boundary(piece, 0) == Ok(true) {
            return from + place;
        }
        match GraphemeCursor::new(place, piece.len(), true).next_boundary(piece, 0) {
            Ok(Some(border)) if border < piece.len() => from + border,
            _ => from + place,
        }
    }
}

/// The most bytes in which the end of a sentence is looked for at once. The segmentation looks ahead from each full stop, so that what
/// it is given must be short; a sentence that is longer has its end found from its middle on.
const SENTENCE_WINDOW: usize = 1024;

/// The ends of sentences.
fn sentences(text: &str) -> Vec<u32> {
    let (mut found, mut from) = (Vec::new(), 0);
    while from < text.len() {
        let to = text.floor_char_boundary(from + SENTENCE_WINDOW);
        let window = text.get(from..to).unwrap_or_default();
        let mut end = from;
        let mut within: Vec<u32> = window
            .split_sentence_bounds()
            .map(|sentence| {
                end += sentence.len();
                end as u32
            })
            .collect();
        // The last one ends with the window, unless the text does.
        if to < text.len() {
            within.pop();
        }
        match within.last() {
            Some(&last) => {
                from = last as usize;
                found.append(&mut within);
            }
            None => from = to.max(from + 1),
        }
    }
    found
}

fn ends<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let mut end = 0;
    parts
        .map(|part| {
            end += part.len() as u32;
            end
        })
        .collect()
}

/// The ends of paragraphs, the blank lines after them included.
fn paragraphs(text: &str) -> Vec<u32> {
    let (mut ends, mut at, mut after_blank, mut begun) = (Vec::new(), 0, false, false);
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        if !blank && after_blank && begun {
            ends.push(at as u32);
        }
        begun |= !blank;
        after_blank = blank;
        at += line.len();
    }
    ends.push(text.len() as u32);
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_belong_to_the_paragraph_before_them() {
        let text = "\n\none\ntwo\n \n\nthree\n\nfour";
        let ends = paragraphs(text);
        let parts: Vec<&str> = ends.iter().scan(0, |from, &to| text.get(std::mem::replace(from, to as usize)..to as usize)).collect();
        assert_eq!(parts, ["\n\none\ntwo\n \n\n", "three\n\n", "four"]);
    }

    #[test]
    fn sentences_are_found_however_long_the_text() {
        let text = "One two. Three! ".repeat(500) + &"word ".repeat(1000) + "end. Last";
        let found = sentences(&text);
        let whole = ends(text.split_sentence_bounds());
        // The long one may be cut where a window ended, never elsewhere.
        assert!(whole.iter().all(|end| found.contains(end)));
        assert_eq!((found.len(), whole.len()), (1002, 1002));
        assert_eq!(sentences(&(".".to_owned() + &")".repeat(20_000))).last(), Some(&20_001));
    }

    #[test]
    fn a_piece_ends_at_the_coarsest_border_that_fits() {
        let text = "One two. Three four five. Six";
        // A token for each word with the space before it, and one for each full stop.
        let tokens = [(0, 3), (3, 7), (7, 8), (8, 14), (14, 19), (19, 24), (24, 25), (25, 29)];
        let end = |boundary, count| Borders::new(text, &tokens, boundary).end(0, count);
        assert_eq!((end(Boundary::Token, 2), end(Boundary::Token, 5), end(Boundary::Token, 8)), (7, 19, 29));
        // The sentence's own space counts for the token after it.
        assert_eq!((end(Boundary::Sentence, 3), end(Boundary::Sentence, 5), end(Boundary::Sentence, 8)), (8, 9, 29));
        assert_eq!(end(Boundary::Token, 0), 1);
    }
}
