//! Log-probabilities, which are reported and draw nothing.

use super::{
    exp::exp2_all,
    lanes,
    likeliest::{Candidate, likeliest},
    with_scratch,
};

/// The log-probability of a token in the model's own distribution: the softmax of its logits before any step. Logits that
/// are not numbers have probability 0, as has a token outside the vocabulary.
pub fn log_probability(logits: &[f32], token: u32) -> f32 {
    LogSum::of(logits).of_token(logits, token)
}

/// The k likeliest tokens of the model's own distribution with their log-probabilities, likeliest first, equals in order of
/// token. Tokens of probability 0 are not among them.
pub fn top_log_probabilities(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    with_scratch(|scratch| LogSum::of(logits).likeliest(logits, k, &mut scratch.candidates))
}

/// The logarithm of the sum of the exponentials, in two parts that keep it finite.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogSum {
    highest: f32,
    /// Of the sum relative to the highest; at least 0.
    rest: f64,
}

impl LogSum {
    pub(super) fn of(logits: &[f32]) -> Self {
        const BLOCK: usize = 512;
        let highest = lanes::highest(logits);
        let total = if highest == f32::INFINITY {
            // What is certain shares the whole.
            logits.iter().filter(|logit| **logit == highest).count() as f64
        } else {
            let mut weights = [0.0; BLOCK];
            let sum = |block: &[f32]| {
                let weights = weights.get_mut(..block.len()).unwrap_or_default();
                exp2_all(block, highest, std::f32::consts::LOG2_E, weights);
                lanes::sum(weights)
            };
            logits.chunks(BLOCK).map(sum).sum()
        };
        Self { highest, rest: total.ln() }
    }

    /// The log-probability that a logit stands for.
    pub(super) fn of_logit(self, logit: f32) -> f32 {
        if logit.is_nan() || logit == f32::NEG_INFINITY {
            f32::NEG_INFINITY
        } else if logit == self.highest {
            -self.rest as f32
        } else {
            (f64::from(logit) - f64::from(self.highest) - self.rest) as f32
        }
    }

    pub(super) fn of_token(self, logits: &[f32], token: u32) -> f32 {
        self.of_logit(logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY))
    }

    pub(super) fn likeliest(self, logits: &[f32], k: usize, candidates: &mut Vec<Candidate>) -> Vec<(u32, f32)> {
        likeliest(logits, k, candidates);
        candidates.sort_unstable_by(|a, b| a.likelier(*b));
        candidates.iter().map(|candidate| (candidate.token, self.of_logit(candidate.score))).collect()
    }
}
