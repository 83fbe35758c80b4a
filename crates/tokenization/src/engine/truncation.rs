//! Which tokens a text loses when it is too long.

use std::ops::Range;

/// How many tokens of the first and the second text stay, so that both together have at most `budget`: the longer
/// one is cut until they are equal, then both.
pub(crate) fn kept(first: usize, second: usize, budget: usize) -> (usize, usize) {
    if first + second <= budget {
        return (first, second);
    }
    let (short, long) = (first.min(second), first.max(second));
    // The odd token goes to the longer one, and to the second of two equal ones, as transformers has it.
    let (short, long) = if 2 * short <= budget { (short, long.min(budget - short)) } else { (budget / 2, budget - budget / 2) };
    if first <= second { (short, long) } else { (long, short) }
}

/// The part of a member's tokens that stays.
pub(crate) fn part(member: &Range<usize>, keep: usize, cut_left: bool) -> Range<usize> {
    let cut = member.len().saturating_sub(keep);
    if cut_left { member.start + cut..member.end } else { member.start..member.end - cut }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn either_end_can_be_cut() {
        assert_eq!(part(&(1..6), 2, false), 1..3);
        assert_eq!(part(&(1..6), 2, true), 4..6);
        assert_eq!(part(&(1..6), 9, true), 1..6);
    }

    proptest! {
        #[test]
        fn what_is_kept_fills_the_budget(first in 0usize..50, second in 0usize..50, budget in 0usize..120) {
            let (a, b) = kept(first, second, budget);
            prop_assert!(a <= first && b <= second);
            prop_assert_eq!(a + b, budget.min(first + second));
        }
    }
}
