/// Tokens that a model's `generation_config.json` puts at the ends of every text, as transformers' `generate` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forced {
    /// The first token: BART's beginning-of-text token, mBART's language.
    pub first: Option<u32>,
    /// The token at the length limit: the end-of-text token.
    pub last: Option<u32>,
}

impl Forced {
    /// The token that must come where so many are generated already, of at most so many.
    pub(in crate::engine) fn at(&self, generated: usize, most: usize) -> Option<u32> {
        let last = self.last.filter(|_| generated + 1 >= most);
        if generated == 0 { self.first.or(last) } else { last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_forced_and_the_first_wins_in_a_text_of_one() {
        let forced = Forced { first: Some(5), last: Some(2) };
        assert_eq!([0, 1, 2].map(|generated| forced.at(generated, 3)), [Some(5), None, Some(2)]);
        assert_eq!(forced.at(0, 1), Some(5));
        assert_eq!(Forced { first: None, ..forced }.at(0, 1), Some(2));
        assert_eq!(Forced::default().at(0, 1), None);
    }
}
