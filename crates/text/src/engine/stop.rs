//! Stop strings over text that comes in pieces.

/// Finds stop strings in streamed text. What may be the beginning of one is held back until it is settled.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Text that is certainly before any stop string.
    pub text: String,
    /// Whether a stop string has been found: `text` ends before it, and nothing more follows.
    pub stopped: bool,
}

impl StopMatcher {
    /// A matcher for these strings; none may be empty.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Whether there is no string to find.
    pub fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) -> Settled {
        if self.stops.is_empty() {
            return Settled { text: piece.to_owned(), stopped: false };
        }
        self.held.push_str(piece);
        // The string that is complete first wins, so that the outcome does not depend on how the text is cut.
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at + stop.len(), at))).min();
        if let Some((_, at)) = found {
            self.held.truncate(at);
            return Settled { text: std::mem::take(&mut self.held), stopped: true };
        }
        let rest = self.held.split_off(self.settled());
        Settled { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// The text that was still held back when the sequence ended by itself.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// How many bytes of the held text cannot be part of a stop string any more.
    fn settled(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        self.held
            .char_indices()
            .map(|(at, _)| at)
            .filter(|at| *at >= from)
            .find(|at| self.held.get(*at..).is_some_and(|tail| self.stops.iter().any(|stop| stop.starts_with(tail))))
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn streamed(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(ToString::to_string).collect());
        let mut text = String::new();
        for piece in pieces {
            let settled = matcher.push(piece);
            text += &settled.text;
            if settled.stopped {
                return (text, true);
            }
        }
        (text + &matcher.finish(), false)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_left_out() {
        assert_eq!(streamed(&["END"], &["the E", "N", "D of it"]), ("the ".to_owned(), true));
        assert_eq!(streamed(&["END"], &["the E", "Nglish"]), ("the ENglish".to_owned(), false));
        assert_eq!(streamed(&["аб", "é"], &["xа", "é"]), ("xа".to_owned(), true));
        assert_eq!(streamed(&[], &["a", "b"]), ("ab".to_owned(), false));
    }

    #[test]
    fn the_first_to_be_complete_wins() {
        assert_eq!(streamed(&["bc", "abcd"], &["xabcd"]), ("xa".to_owned(), true));
        assert_eq!(streamed(&["cd", "abcd"], &["xabcd"]), ("x".to_owned(), true));
    }

    proptest! {
        /// However the text is cut into pieces, the outcome is that of the whole text at once.
        #[test]
        fn pieces_do_not_matter(text in "[abé]{0,40}", stops in prop::collection::vec("[abé]{1,4}", 0..4), cuts in prop::collection::vec(0usize..41, 0..8)) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let (streamed, stopped) = streamed(&stops, &pieces);
            if let Some((_, at)) = stops.iter().filter_map(|stop| text.find(stop).map(|at| (at + stop.len(), at))).min() { prop_assert_eq!((streamed.as_str(), stopped), (&text[..at], true)) } else { prop_assert_eq!((streamed, stopped), (text, false)) }
        }
    }
}
