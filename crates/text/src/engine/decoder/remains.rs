//! What a row still holds of the sequence that has left it.

use std::sync::Arc;

/// The tokens at the start of a free row whose keys and values are as a prompt's run leaves them. A sequence that begins with them needs
/// neither their run nor a copy. True until the row is written or its memory given back.
#[derive(Clone, Debug)]
pub(super) struct Remains {
    scope: Arc<str>,
    tokens: Vec<u32>,
}

impl Remains {
    pub(super) fn new(scope: &Arc<str>, tokens: &[u32]) -> Self {
        Self { scope: Arc::clone(scope), tokens: tokens.to_vec() }
    }

    /// How many tokens at the start of a sequence these are.
    pub(super) fn shared(&self, scope: &str, tokens: &[u32]) -> usize {
        if *self.scope != *scope {
            return 0;
        }
        self.tokens.iter().zip(tokens).take_while(|(held, token)| held == token).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_shared_within_a_scope() {
        let tokens: Vec<u32> = (0..100).collect();
        let remains = Remains::new(&"a".into(), &tokens);
        assert_eq!(remains.shared("a", &tokens), 100);
        assert_eq!(remains.shared("a", &tokens[..95]), 95);
        assert_eq!(remains.shared("b", &tokens), 0, "another tenant's prompts are not there");
        let mut other = tokens.clone();
        other[40] = 99;
        assert_eq!(remains.shared("a", &other), 40);
        other[0] = 99;
        assert_eq!(remains.shared("a", &other), 0);
    }
}
