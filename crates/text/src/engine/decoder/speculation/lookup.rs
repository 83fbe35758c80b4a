use std::collections::HashMap;

/// The shortest end of a text that is looked for in it, and the longest that matters.
pub(super) const SHORTEST: usize = 2;
pub(super) const LONGEST: usize = 8;

/// Places that a search looks at, the latest first.
const DEPTH: usize = 32;

/// A place that nothing stands before.
const NOWHERE: u32 = u32::MAX;

/// Where the tokens of a text have stood before: what follows there may follow here (prompt look-up, Saxena 2023).
///
/// As in deflate: each pair of tokens leads to its latest place, and each place to the one before with the same pair. A token costs
/// one insertion, a search a bounded number of steps.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    latest: HashMap<[u32; 2], u32>,
    /// For the second token of each pair: where such a pair stood before.
    before: Vec<u32>,
}

/// What a text ends on and held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// How many tokens back.
    pub(super) distance: usize,
    /// How many tokens are the same, at most [`LONGEST`].
    pub(super) length: usize,
}

impl Lookup {
    /// Notes the tokens that came since the last time.
    pub(super) fn extend(&mut self, tokens: &[u32]) {
        if self.before.is_empty() && !tokens.is_empty() {
            self.before.push(NOWHERE);
        }
        for pair in tokens.windows(2).skip(self.before.len().saturating_sub(1)) {
            let &[first, second] = pair else { continue };
            let place = self.before.len() as u32;
            self.before.push(self.latest.insert([first, second], place).unwrap_or(NOWHERE));
        }
    }

    /// Where what these tokens end on stood before: the longest match, the latest of several. They have been noted.
    pub(super) fn find(&self, tokens: &[u32]) -> Option<Match> {
        let end = tokens.len().checked_sub(1)?;
        let mut found: Option<Match> = None;
        let mut place = self.before.get(end).copied().unwrap_or(NOWHERE);
        for _ in 0..DEPTH {
            if place == NOWHERE {
                break;
            }
            let length = common(tokens, place as usize, end);
            if found.is_none_or(|found| length > found.length) {
                found = Some(Match { distance: end - place as usize, length });
            }
            if length == LONGEST {
                break;
            }
            place = self.before.get(place as usize).copied().unwrap_or(NOWHERE);
        }
        found
    }
}

/// How many tokens up to two places are the same, at most [`LONGEST`].
fn common(tokens: &[u32], place: usize, end: usize) -> usize {
    let back = |from: usize| tokens.get(..=from).unwrap_or_default().iter().rev();
    back(place).zip(back(end)).take(LONGEST).take_while(|(a, b)| a == b).count()
}

/// What follows at a distance back, which may overlap with itself: a text that ends on a period goes on with it.
pub(super) fn continuation(tokens: &[u32], distance: usize, length: usize) -> Vec<u32> {
    let mut continued: Vec<u32> = Vec::with_capacity(length);
    for place in 0..length {
        let from = (tokens.len() + place).wrapping_sub(distance);
        let token = if from < tokens.len() { tokens.get(from) } else { continued.get(from - tokens.len()) };
        let Some(token) = token.copied() else { break };
        continued.push(token);
    }
    continued
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(tokens: &[u32]) -> Option<Match> {
        let mut lookup = Lookup::default();
        lookup.extend(tokens);
        lookup.find(tokens)
    }

    #[test]
    fn the_longest_match_goes_before_the_latest() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[1]), None);
        assert_eq!(found(&[1, 2, 3]), None);
        assert_eq!(found(&[1, 2, 9, 1, 2]), Some(Match { distance: 3, length: 2 }));
        // "8 1 2" stood earlier than the latest "1 2".
        assert_eq!(found(&[8, 1, 2, 7, 1, 2, 6, 8, 1, 2]), Some(Match { distance: 7, length: 3 }));
        assert_eq!(found(&[1, 2, 3, 1, 2, 4, 1, 2]), Some(Match { distance: 3, length: 2 }), "the latest of several");
    }

    #[test]
    fn a_period_goes_on() {
        let tokens = [9, 1, 2, 1, 2, 1, 2];
        let found = found(&tokens).unwrap();
        assert_eq!(found.distance, 2);
        assert_eq!(continuation(&tokens, found.distance, 5), [1, 2, 1, 2, 1]);
        assert_eq!(continuation(&[5, 6, 7, 8], 3, 2), [6, 7]);
        assert_eq!(continuation(&[5], 0, 2), [0u32; 0], "nothing is known at no distance");
        assert_eq!(continuation(&[5], 4, 2), [0u32; 0], "nor before the beginning");
    }

    proptest! {
        /// However the tokens came, what is found is right, and where a search sees all places it is the longest.
        #[test]
        fn what_is_found_stands_there(tokens in prop::collection::vec(0u32..4, 0..40), step in 1usize..7) {
            let mut lookup = Lookup::default();
            for end in (0..tokens.len()).step_by(step) {
                lookup.extend(&tokens[..end]);
            }
            lookup.extend(&tokens);
            prop_assert_eq!(lookup.before.len(), tokens.len());
            let longest = (0..tokens.len().saturating_sub(1)).map(|place| common(&tokens, place, tokens.len() - 1)).max().unwrap_or(0);
            match lookup.find(&tokens) {
                None => prop_assert!(longest < SHORTEST),
                Some(Match { distance, length }) => {
                    prop_assert!(distance > 0 && length >= SHORTEST);
                    let end = tokens.len();
                    prop_assert_eq!(&tokens[end - length..], &tokens[end - length - distance..end - distance]);
                    prop_assert!(tokens.len() > DEPTH || length == longest);
                }
            }
        }
    }
}
