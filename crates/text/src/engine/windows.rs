//! Scoring texts that are longer than a model's context, in overlapping windows.

use std::ops::Range;

/// A part of a text that is run at once: the tokens of `input`, of which those of `scored` are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The tokens that the model sees, as a range of the text with its beginning-of-text token.
    pub input: Range<usize>,
    /// The tokens that are scored; each is predicted from those before it in `input`.
    pub scored: Range<usize>,
}

/// The windows of a text of `tokens` tokens, its beginning-of-text token included: every token but that one is
/// scored exactly once. The first window scores all it holds; each further one scores `stride` tokens and has
/// the rest of `context` before them.
pub fn windows(tokens: usize, context: usize, stride: usize) -> Vec<Window> {
    let stride = stride.clamp(1, context.saturating_sub(1).max(1));
    let mut windows = Vec::new();
    let mut done = 1;
    while done < tokens {
        let end = if done == 1 { tokens.min(context.max(2)) } else { tokens.min(done + stride) };
        windows.push(Window { input: end.saturating_sub(context.max(2))..end, scored: done..end });
        done = end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_text_is_one_window() {
        assert_eq!(windows(5, 8, 4), [Window { input: 0..5, scored: 1..5 }]);
        assert_eq!(windows(1, 8, 4), []);
    }

    #[test]
    fn a_long_text_keeps_context_before_each_stride() {
        let expected = [Window { input: 0..8, scored: 1..8 }, Window { input: 4..12, scored: 8..12 }, Window { input: 5..13, scored: 12..13 }];
        assert_eq!(windows(13, 8, 4), expected);
    }

    proptest! {
        #[test]
        fn each_token_is_scored_once_and_fits(tokens in 1usize..2000, context in 2usize..300, stride in 1usize..400) {
            let windows = windows(tokens, context, stride);
            let scored: Vec<usize> = windows.iter().flat_map(|window| window.scored.clone()).collect();
            prop_assert_eq!(scored, (1..tokens).collect::<Vec<_>>());
            for window in windows {
                prop_assert!(window.input.len() <= context);
                prop_assert!(window.input.start < window.scored.start && window.scored.end == window.input.end);
            }
        }
    }
}
