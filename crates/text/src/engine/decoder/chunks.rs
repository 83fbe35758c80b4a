/// How many prompt tokens a sequence takes in a run, of those it has left, within the run's budget of at least two.
///
/// `GroupQueryAttention` takes a row's new tokens in tiles of an even size, and a token that is alone in its tile takes another path
/// through it than the same token beside others. So that a token's bits do not depend on how its prompt was cut, every chunk has an
/// even number of tokens, or three: an odd prompt ends in a chunk of three, and only a prompt of one token has a chunk of one.
pub(super) fn chunk(left: usize, budget: usize) -> usize {
    match left {
        0..=3 => left,
        _ if left <= budget && left.is_multiple_of(2) => left,
        // Three are left for the end.
        _ if left <= budget + 3 && !left.is_multiple_of(2) => left - 3,
        _ => (budget & !1).max(2),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks(prompt: usize, budget: usize) -> Vec<usize> {
        let (mut left, mut chunks) = (prompt, Vec::new());
        while left > 0 {
            let taken = chunk(left, budget);
            chunks.push(taken);
            left -= taken;
        }
        chunks
    }

    proptest! {
        #[test]
        fn no_token_is_ever_alone_in_a_tile(prompt in 1usize..500, budget in 2usize..64) {
            let chunks = chunks(prompt, budget);
            prop_assert!(chunks.iter().all(|taken| *taken > 0 && *taken <= budget + 2), "{chunks:?}");
            prop_assert!(prompt == 1 || chunks.iter().all(|taken| taken % 2 == 0 || *taken == 3), "{chunks:?}");
            // Not cut more often than the budget asks for, but for the three at the end.
            prop_assert!(chunks.len() <= prompt.div_ceil(budget & !1) + 1, "{chunks:?}");
        }
    }

    #[test]
    fn prompts_are_cut_evenly() {
        assert_eq!(chunks(128, 512), [128]);
        assert_eq!(chunks(129, 512), [126, 3]);
        assert_eq!(chunks(5, 512), [2, 3]);
        assert_eq!(chunks(9, 4), [4, 2, 3]);
        assert_eq!(chunks(1, 2), [1]);
    }
}
