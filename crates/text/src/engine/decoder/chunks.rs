/// How many prompt tokens a sequence takes in a step, of those it has left, within the step's budget.
///
/// No chunk but a whole prompt has one token: such a chunk would take another path through the attention than the
/// same token beside others. So a budget that would leave one takes that one too.
pub(super) fn chunk(left: usize, budget: usize) -> usize {
    if left <= budget {
        return left;
    }
    match (left - budget, budget) {
        (_, 0 | 1) => 0,
        (1, _) => left,
        _ => budget,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_prompt_is_taken_whole_and_never_by_one(prompt in 1usize..500, budget in 2usize..64) {
            let (mut left, mut chunks) = (prompt, Vec::new());
            while left > 0 {
                let taken = chunk(left, budget);
                prop_assert!(taken > 0 && taken <= budget + 1);
                chunks.push(taken);
                left -= taken;
            }
            prop_assert!(prompt == 1 || chunks.iter().all(|taken| *taken > 1), "{chunks:?}");
        }
    }

    #[test]
    fn a_spent_budget_takes_nothing() {
        assert_eq!((chunk(10, 0), chunk(10, 1), chunk(2, 1)), (0, 0, 0));
        assert_eq!(chunk(1, 1), 1);
    }
}
