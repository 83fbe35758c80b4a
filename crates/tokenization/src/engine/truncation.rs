//! Which tokens an input keeps when it is too long, and in which pieces the rest comes.

use std::ops::Range;

/// Which text of a pair loses tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The longer one until both are equal, then both.
    LongestFirst,
    /// The first.
    OnlyFirst,
    /// The second.
    OnlySecond,
}

/// Cuts long inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truncation {
    /// The most tokens of an encoding, added ones included.
    pub(crate) max_tokens: usize,
    /// Whether the beginning is cut.
    pub(crate) left: bool,
    /// Which text of a pair loses tokens.
    pub(crate) strategy: Strategy,
    /// How many tokens a piece repeats of the one before it; None = what is cut off is not answered.
    pub(crate) overflow: Option<usize>,
}

/// A piece of an input: the tokens of its first and of its second text.
pub(crate) type Piece = [Range<usize>; 2];

/// Why an input cannot be cut: the field at fault, and what is wrong.
pub(crate) type Fault = (&'static str, String);

impl Truncation {
    /// The pieces of an input whose texts have `lengths` tokens and `added` ones around them, the kept one first; a fault where
    /// no piece fits, or where there are more than `most`.
    pub(crate) fn pieces(&self, lengths: [usize; 2], added: usize, most: usize) -> Result<Vec<Piece>, Fault> {
        let [first, second] = lengths;
        if first + second + added <= self.max_tokens {
            return Ok(vec![[0..first, 0..second]]);
        }
        let max = self.max_tokens;
        let no_room = || ("truncation.max_tokens", format!("{max} leaves no room for the {added} special tokens that the tokenizer adds"));
        let budget = max.checked_sub(added).ok_or_else(no_room)?;
        match self.strategy {
            Strategy::LongestFirst if second > 0 => {
                let (keep_first, keep_second) = kept(first, second, budget);
                Ok(vec![[self.part(first, keep_first), self.part(second, keep_second)]])
            }
            Strategy::LongestFirst | Strategy::OnlyFirst => {
                Ok(self.windows(first, room(budget, second, "second")?, most)?.into_iter().map(|part| [part, 0..second]).collect())
            }
            Strategy::OnlySecond => Ok(self.windows(second, room(budget, first, "first")?, most)?.into_iter().map(|part| [0..first, part]).collect()),
        }
    }

    /// The part of `length` tokens that stays.
    fn part(&self, length: usize, keep: usize) -> Range<usize> {
        let cut = length.saturating_sub(keep);
        if self.left { cut..length } else { 0..length - cut }
    }

    /// Windows of `size` over `length` tokens, the kept one first, and the others as far as they are wanted.
    fn windows(&self, length: usize, size: usize, most: usize) -> Result<Vec<Range<usize>>, Fault> {
        let Some(stride) = self.overflow else { return Ok(vec![self.part(length, size)]) };
        let step = size.checked_sub(stride).filter(|step| *step > 0);
        let step = step.ok_or_else(|| {
            let reason = format!("{stride} tokens repeated leave no room in pieces of {size}, added tokens not counted");
            ("truncation.stride", reason)
        })?;
        let count = length.saturating_sub(size).div_ceil(step) + 1;
        if count > most {
            return Err(("truncation.max_tokens", format!("{length} tokens in pieces of {size} are {count} pieces: {most} is what an answer holds")));
        }
        let window = |index: usize| {
            let (from, to) = (index * step, (index * step + size).min(length));
            if self.left { length - to..length - from } else { from..to }
        };
        Ok((0..count).map(window).collect())
    }
}

/// What is left of a budget beside a text that must stay whole.
fn room(budget: usize, whole: usize, which: &str) -> Result<usize, Fault> {
    // Nothing left is an empty encoding where nothing else is in it, and a fault where a text cannot be cut to fit.
    match budget.checked_sub(whole) {
        Some(room) if room > 0 || whole == 0 => Ok(room),
        _ => Err(("truncation.strategy", format!("the {which} text alone has {whole} tokens, and it is not to be cut"))),
    }
}

/// How many tokens of the first and the second text stay, so that both together have at most `budget`: the longer
/// one is cut until they are equal, then both.
fn kept(first: usize, second: usize, budget: usize) -> (usize, usize) {
    if first + second <= budget {
        return (first, second);
    }
    let (short, long) = (first.min(second), first.max(second));
    // The odd token goes to the longer one, and to the second of two equal ones, as transformers has it.
    let (short, long) = if 2 * short <= budget { (short, long.min(budget - short)) } else { (budget / 2, budget - budget / 2) };
    if first <= second { (short, long) } else { (long, short) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Strategy, *};

    #[test]
    fn the_longer_text_is_cut_first() {
        assert_eq!(kept(3, 4, 7), (3, 4));
        assert_eq!(kept(2, 10, 8), (2, 6));
        assert_eq!(kept(10, 2, 8), (6, 2));
        assert_eq!(kept(10, 9, 7), (4, 3));
        assert_eq!(kept(9, 10, 7), (3, 4));
        assert_eq!(kept(9, 9, 7), (3, 4));
        assert_eq!(kept(5, 0, 0), (0, 0));
    }

    fn cut(max_tokens: usize, left: bool, strategy: Strategy, overflow: Option<usize>) -> Truncation {
        Truncation { max_tokens, left, strategy, overflow }
    }

    #[test]
    fn either_end_can_be_cut() {
        let pieces = |max_tokens, left| cut(max_tokens, left, Strategy::LongestFirst, None).pieces([5, 0], 1, 99).unwrap();
        assert_eq!(pieces(3, false), [[0..2, 0..0]]);
        assert_eq!(pieces(3, true), [[3..5, 0..0]]);
        assert_eq!(pieces(6, true), [[0..5, 0..0]]);
        assert_eq!(pieces(1, true), [[5..5, 0..0]]);
        assert!(cut(0, true, Strategy::LongestFirst, None).pieces([5, 0], 1, 99).unwrap_err().1.contains("the 1 special tokens"));
    }

    #[test]
    fn what_is_cut_off_comes_in_pieces_that_overlap() {
        let pieces = |left| cut(4, left, Strategy::OnlyFirst, Some(1)).pieces([10, 0], 0, 99).unwrap();
        assert_eq!(pieces(false), [[0..4, 0..0], [3..7, 0..0], [6..10, 0..0]]);
        assert_eq!(pieces(true), [[6..10, 0..0], [3..7, 0..0], [0..4, 0..0]]);
        let second = cut(8, false, Strategy::OnlySecond, Some(0)).pieces([3, 5], 3, 99).unwrap();
        assert_eq!(second, [[0..3, 0..2], [0..3, 2..4], [0..3, 4..5]]);
        assert!(cut(6, false, Strategy::OnlySecond, None).pieces([3, 5], 3, 99).unwrap_err().1.contains("first text alone has 3"));
        assert!(cut(4, false, Strategy::OnlyFirst, Some(3)).pieces([10, 0], 0, 6).unwrap_err().1.contains("are 7 pieces"));
        assert!(cut(4, false, Strategy::OnlyFirst, Some(4)).pieces([10, 0], 0, 99).unwrap_err().1.contains("leave no room"));
    }

    proptest! {
        #[test]
        fn what_is_kept_fills_the_budget(first in 0usize..50, second in 0usize..50, budget in 0usize..120) {
            let (a, b) = kept(first, second, budget);
            prop_assert!(a <= first && b <= second);
            prop_assert_eq!(a + b, budget.min(first + second));
        }

        #[test]
        fn windows_cover_everything_in_order(length in 0usize..200, size in 1usize..40, stride in 0usize..40, left: bool) {
            let truncation = cut(size, left, Strategy::OnlyFirst, Some(stride));
            let Ok(pieces) = truncation.pieces([length, 0], 0, 999) else { prop_assert!(stride >= size); return Ok(()) };
            let mut covered = vec![false; length];
            for [part, _] in &pieces {
                prop_assert!(part.len() <= size);
                covered[part.clone()].fill(true);
            }
            prop_assert!(covered.into_iter().all(|is| is));
            for pair in pieces.windows(2) {
                let ([before, _], [after, _]) = (&pair[0], &pair[1]);
                let shared = if left { after.end.saturating_sub(before.start) } else { before.end.saturating_sub(after.start) };
                prop_assert_eq!(shared, stride);
            }
        }
    }
}
