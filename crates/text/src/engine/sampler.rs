//! Drawing the next token from logits.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// How tokens are drawn. The steps run in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the positive scores of tokens that have occurred, and multiplies the negative ones
    /// (Keskar et al. 2019); 1 = off.
    pub repetition_penalty: f32,
    /// Divides the logits; 0 = take the likeliest token.
    pub temperature: f32,
    /// Keeps the k likeliest; 0 = all.
    pub top_k: usize,
    /// Keeps the likeliest whose probabilities add up to this (Holtzman et al. 2020); 1 = all.
    pub top_p: f32,
    /// Keeps those at least this fraction as likely as the likeliest; 0 = all.
    pub min_p: f32,
    /// The seed of the draws.
    pub seed: u64,
}

/// Draws the tokens of one sequence.
///
/// Each token takes one uniform number from a `ChaCha12` stream of the request's seed, so a sequence depends on
/// its own logits and seed alone.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha12Rng,
    occurred: Vec<bool>,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: u32,
    /// The logit; once the draw begins, its exponential.
    weight: f32,
}

impl Sampler {
    /// A sampler for a vocabulary of this size. Tokens of the prompt count as occurred.
    pub fn new(sampling: Sampling, vocabulary: usize, prompt: &[u32]) -> Self {
        let mut sampler = Self { sampling, random: ChaCha12Rng::seed_from_u64(sampling.seed), occurred: Vec::new(), candidates: Vec::new() };
        if (sampling.repetition_penalty - 1.0).abs() > f32::EPSILON {
            sampler.occurred = vec![false; vocabulary];
            prompt.iter().for_each(|token| sampler.mark(*token));
        }
        sampler
    }

    fn mark(&mut self, token: u32) {
        if let Some(occurred) = self.occurred.get_mut(token as usize) {
            *occurred = true;
        }
    }

    /// The next token for these logits. Logits that are not numbers are never drawn; where none is a number the
    /// token is 0.
    pub fn draw(&mut self, logits: &[f32]) -> u32 {
        let token = self.choose(logits);
        self.mark(token);
        token
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        let Sampling { repetition_penalty, temperature, top_k, top_p, min_p, .. } = self.sampling;
        let occurred = &self.occurred;
        let penalised = logits.iter().enumerate().map(|(token, &logit)| match occurred.get(token) {
            Some(true) if logit > 0.0 => logit / repetition_penalty,
            Some(true) => logit * repetition_penalty,
            _ => logit,
        });
        if temperature == 0.0 {
            // The first of equals wins, so that greedy decoding is one function of the logits.
            let best = penalised.enumerate().filter(|(_, logit)| !logit.is_nan()).reduce(|best, next| if next.1 > best.1 { next } else { best });
            return best.map_or(0, |(token, _)| token as u32);
        }

        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend((0u32..).zip(penalised).filter(|(_, logit)| !logit.is_nan()).map(|(token, weight)| Candidate { token, weight }));
        // Likelier first; equals in order of token, so that the order is one function of the logits.
        let likelier = |a: &Candidate, b: &Candidate| b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token));
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, likelier);
            candidates.truncate(top_k);
        }
        let sorted = top_p < 1.0;
        if sorted {
            candidates.sort_unstable_by(likelier);
        }
        let highest = candidates.iter().map(|candidate| candidate.weight).fold(f32::NEG_INFINITY, f32::max);
        if !highest.is_finite() {
            // Everything is ruled out, or something is certain: there is nothing to draw.
            return candidates.iter().find(|candidate| candidate.weight == highest).map_or(0, |candidate| candidate.token);
        }
        for candidate in &mut *candidates {
            candidate.weight = ((candidate.weight - highest) / temperature).exp();
        }
        if sorted {
            let total: f32 = candidates.iter().map(|candidate| candidate.weight).sum();
            let mut reached = 0.0;
            let within = candidates.iter().take_while(|candidate| {
                let below = reached < top_p * total;
                reached += candidate.weight;
                below
            });
            let kept = within.count().max(1);
            candidates.truncate(kept);
        }
        if min_p > 0.0 {
            // The likeliest has weight 1.
            candidates.retain(|candidate| candidate.weight >= min_p);
        }

        let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        let mut left = self.random.random::<f64>() * total;
        for candidate in &*candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return candidate.token;
            }
        }
        candidates.last().map_or(0, |candidate| candidate.token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Sampling = Sampling { repetition_penalty: 1.0, temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7 };

    fn drawn(sampling: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        let mut sampler = Sampler::new(sampling, logits.len(), &[]);
        for _ in 0..draws {
            counts[sampler.draw(logits) as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_draws_follow_the_softmax() {
        let logits = [1.0f32, 2.0, 0.0, -1.0];
        let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
        for (count, logit) in drawn(PLAIN, &logits, 40_000).into_iter().zip(logits) {
            let expected = logit.exp() / total;
            assert!((count as f32 / 40_000.0 - expected).abs() < 0.01, "{count} of 40000 for {expected}");
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        let greedy = Sampling { temperature: 0.0, ..PLAIN };
        assert_eq!(drawn(greedy, &[0.0, 3.0, 3.0, f32::NAN], 5), [0, 5, 0, 0]);
    }

    #[test]
    fn filters_keep_what_they_say() {
        let logits = [0.6f32.ln(), 0.25f32.ln(), 0.1f32.ln(), 0.05f32.ln()];
        let kept = |sampling| drawn(sampling, &logits, 4_000).into_iter().map(|count| count > 0).collect::<Vec<_>>();
        assert_eq!(kept(Sampling { top_k: 2, ..PLAIN }), [true, true, false, false]);
        assert_eq!(kept(Sampling { top_p: 0.8, ..PLAIN }), [true, true, false, false]);
        assert_eq!(kept(Sampling { top_p: 0.5, ..PLAIN }), [true, false, false, false]);
        assert_eq!(kept(Sampling { min_p: 0.15, ..PLAIN }), [true, true, true, false]);
        assert_eq!(kept(PLAIN), [true, true, true, true]);
    }

    #[test]
    fn the_repetition_penalty_follows_keskar() {
        let mut sampler = Sampler::new(Sampling { temperature: 0.0, repetition_penalty: 2.0, ..PLAIN }, 3, &[0]);
        // 3.0 / 2 = 1.5 is below 2.0; a negative score of a token that occurred falls further.
        assert_eq!(sampler.draw(&[3.0, 2.0, 1.9]), 1);
        assert_eq!(sampler.draw(&[-1.0, -1.0, -1.5]), 2);
    }

    #[test]
    fn what_is_not_a_number_is_never_drawn() {
        assert_eq!(drawn(PLAIN, &[f32::NAN, f32::NEG_INFINITY, 0.0], 50), [0, 0, 50]);
        assert_eq!(drawn(PLAIN, &[f32::NEG_INFINITY, f32::INFINITY, 0.0], 5), [0, 5, 0]);
        assert_eq!(drawn(PLAIN, &[f32::NAN; 3], 5), [5, 0, 0]);
    }

    proptest! {
        #[test]
        fn the_same_seed_draws_the_same(seed: u64, logits in prop::collection::vec(-20f32..20.0, 2..200), top_p in 0.05f32..1.0, top_k in 0usize..50) {
            let sampling = Sampling { seed, top_p, top_k, temperature: 0.7, ..PLAIN };
            prop_assert_eq!(drawn(sampling, &logits, 20), drawn(sampling, &logits, 20));
        }
    }
}
