//! What a sequence holds so far, and the steps that follow from it.

use std::iter;

use super::{Sampling, rule_out};

/// The tokens of one sequence, as far as a step asks for them.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// In order of token: sequences hold few of a vocabulary's tokens, and beams clone this.
    seen: Option<Vec<Seen>>,
    /// The prompt and all since, in order.
    tokens: Option<Vec<u32>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    token: u32,
    /// How often it was drawn; 0 = it is of the prompt alone.
    drawn: u32,
}

impl History {
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let counts = sampling.repetition_penalty != 1.0 || sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0;
        let seen = counts.then(|| {
            let mut tokens = prompt.to_vec();
            tokens.sort_unstable();
            tokens.dedup();
            tokens.into_iter().map(|token| Seen { token, drawn: 0 }).collect()
        });
        Self { seen, tokens: (sampling.no_repeat_ngram_size > 0).then(|| prompt.to_vec()) }
    }

    /// Whether no step asks for the history.
    pub(super) fn is_off(&self) -> bool {
        self.seen.is_none() && self.tokens.is_none()
    }

    pub(super) fn mark(&mut self, token: u32) {
        if let Some(seen) = &mut self.seen {
            match seen.binary_search_by_key(&token, |seen| seen.token) {
                Ok(place) => seen.iter_mut().skip(place).take(1).for_each(|seen| seen.drawn = seen.drawn.saturating_add(1)),
                Err(place) => seen.insert(place, Seen { token, drawn: 1 }),
            }
        }
        if let Some(tokens) = &mut self.tokens {
            tokens.push(token);
        }
    }

    pub(super) fn apply(&self, sampling: &Sampling, scores: &mut [f32]) {
        let &Sampling { repetition_penalty, presence_penalty, frequency_penalty, no_repeat_ngram_size, .. } = sampling;
        for &Seen { token, drawn } in self.seen.iter().flatten() {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = if *score > 0.0 { *score / repetition_penalty } else { *score * repetition_penalty };
                if drawn > 0 {
                    *score -= presence_penalty + frequency_penalty * drawn as f32;
                }
            }
        }
        if let Some(tokens) = &self.tokens {
            rule_out(completions(tokens, no_repeat_ngram_size), scores);
        }
    }
}

/// The tokens that followed before what the sequence now ends on: each would make a sequence of `size` tokens occur again.
fn completions(tokens: &[u32], size: usize) -> impl Iterator<Item = u32> {
    let end = tokens.len().checked_sub(size.saturating_sub(1)).and_then(|start| tokens.get(start..));
    let mut windows = end.map(|_| tokens.windows(size.max(1)));
    iter::from_fn(move || windows.as_mut()?.find_map(|window| window.split_last().filter(|(_, before)| Some(*before) == end).map(|(last, _)| *last)))
}
