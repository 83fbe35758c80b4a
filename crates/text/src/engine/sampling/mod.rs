//! Drawing the next token from logits.
//!
//! A vocabulary has tens or hundreds of thousands of entries and each token of each sequence goes through all of them, so
//! every pass here is a loop that LLVM vectorises, nothing sorts the vocabulary, and a step that is off costs nothing.
//!
//! Golden values come from transformers: see `scripts/golden/sampling.py`.

mod exp;
mod filters;
mod history;
mod lanes;
mod likeliest;
mod log_probabilities;
mod weights;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use self::{
    history::History,
    likeliest::{Candidate, first_of_highest, likeliest},
    log_probabilities::LogSum,
    weights::{Weighed, Weights},
};

pub use self::log_probabilities::{log_probability, top_log_probabilities};

/// How tokens are drawn. The steps run in the order of the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Added to the logits of these tokens; minus infinity = never drawn. Tokens outside the vocabulary are passed over.
    pub logit_bias: Vec<(u32, f32)>,
    /// Divides the positive scores of tokens that have occurred, in the prompt or since, and multiplies the negative ones
    /// (Keskar et al. 2019); 1 = off.
    pub repetition_penalty: f32,
    /// Taken from the scores of tokens that have been drawn; 0 = off.
    pub presence_penalty: f32,
    /// Taken from the scores of tokens for each time that they have been drawn; 0 = off.
    pub frequency_penalty: f32,
    /// No sequence of this many tokens occurs twice, the prompt included; 0 = off.
    pub no_repeat_ngram_size: usize,
    /// Divides the logits; 0 = take the likeliest token.
    pub temperature: f32,
    /// Keeps the k likeliest; 0 = all.
    pub top_k: usize,
    /// Keeps the likeliest whose probabilities add up to this (Holtzman et al. 2020); 1 = all.
    pub top_p: f32,
    /// Keeps those at least this fraction as likely as the likeliest; 0 = all.
    pub min_p: f32,
    /// Keeps those nearest the distribution's entropy whose probabilities add up to this (Meister et al. 2022); 1 = all.
    pub typical_p: f32,
    /// The seed of the draws.
    pub seed: u64,
}

/// What one draw may take and shall report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// The tokens that may be drawn, where some are ruled out: token `i` is bit `i % 32` of word `i / 32`. Tokens past the
    /// last word are ruled out.
    pub allowed: Option<&'a [u32]>,
    /// Tokens that are ruled out now, such as the end of the text before there is enough of it.
    pub barred: &'a [u32],
    /// Whether to work out the drawn token's log-probability, which takes a pass over the vocabulary.
    pub log_probability: bool,
    /// How many of the likeliest tokens to report.
    pub top: usize,
}

/// A token that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
    pub token: u32,
    /// Its log-probability in the model's own distribution, before any step; not a number where [`Limits`] did not ask.
    pub log_probability: f32,
    /// The likeliest tokens in the model's own distribution, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Draws the tokens of one sequence.
///
/// Each token takes one uniform number from a `ChaCha12` stream of the request's seed (greedy decoding takes none), so a
/// sequence depends on its own logits and seed alone.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    vocabulary: usize,
    random: ChaCha12Rng,
    history: History,
}

/// What the draws of one thread work in. It belongs to the thread rather than the sampler, so that the sequences of a batch,
/// drawn one after the other, find it in the processor's cache, and beams are cheap to clone.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    candidates: Vec<Candidate>,
    weights: Weights,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take();
    let result = work(&mut scratch);
    SCRATCH.set(scratch);
    result
}

impl Sampler {
    /// A sampler for a vocabulary of this size: logits past it, as of models that pad theirs, are passed over. Tokens of
    /// the prompt count as occurred.
    pub fn new(sampling: Sampling, vocabulary: usize, prompt: &[u32]) -> Self {
        let random = ChaCha12Rng::seed_from_u64(sampling.seed);
        let history = History::new(&sampling, prompt);
        Self { sampling, vocabulary, random, history }
    }

    /// The same sampler on another stream of its seed: each of several sequences for one prompt draws from its own. Stream
    /// 0 is that of [`Sampler::new`].
    #[must_use]
    pub fn with_stream(mut self, index: u64) -> Self {
        self.random.set_stream(index);
        self
    }

    /// Notes a token that was chosen elsewhere: forced, or by a beam search. [`Sampler::draw`] notes its own.
    pub fn mark(&mut self, token: u32) {
        self.history.mark(token);
    }

    /// The next token for these logits. Logits that are not numbers are never drawn. None where nothing can be drawn: no
    /// number above minus infinity is left.
    pub fn draw(&mut self, logits: &[f32], limits: Limits<'_>) -> Option<Drawn> {
        let logits = logits.get(..self.vocabulary).unwrap_or(logits);
        let token = with_scratch(|scratch| self.choose(logits, limits, scratch))?;
        self.mark(token);
        let mut drawn = Drawn { token, log_probability: f32::NAN, top: Vec::new() };
        if limits.log_probability || limits.top > 0 {
            let sum = LogSum::of(logits);
            if limits.log_probability {
                drawn.log_probability = sum.of_token(logits, token);
            }
            drawn.top = with_scratch(|scratch| sum.likeliest(logits, limits.top, &mut scratch.candidates));
        }
        Some(drawn)
    }

    /// The k best tokens that a beam search extends its beams by, with their scores, the best first: log-probabilities in the model's
    /// own distribution, on which the bias, the penalties and what is ruled out then work. They are not made to sum up to one again, as
    /// transformers has it. Fewer where fewer can be drawn.
    pub fn best(&mut self, logits: &[f32], k: usize, limits: Limits<'_>) -> Vec<(u32, f32)> {
        let logits = logits.get(..self.vocabulary).unwrap_or(logits);
        let sum = LogSum::of(logits);
        with_scratch(|Scratch { scores, candidates, .. }| {
            if self.is_plain(limits) {
                return sum.likeliest(logits, k, candidates);
            }
            scores.clear();
            scores.extend(logits.iter().map(|logit| sum.of_logit(*logit)));
            self.process(limits, scores);
            likeliest(scores, k, candidates);
            candidates.sort_unstable_by(|a, b| a.likelier(*b));
            candidates.iter().map(|candidate| (candidate.token, candidate.score)).collect()
        })
    }

    fn choose(&mut self, logits: &[f32], limits: Limits<'_>, scratch: &mut Scratch) -> Option<u32> {
        let Scratch { scores, candidates, weights } = scratch;
        let scores = self.score(logits, limits, scores);
        if self.is_greedy() {
            return first_of_highest(scores);
        }
        // Taken first, so that the n-th token has the n-th number whatever the steps before it did.
        let uniform = self.random.random::<f64>();
        match self.weigh(scores, candidates, weights) {
            Weighed::Nothing => None,
            Weighed::Certain(token) => Some(token),
            Weighed::Among => weights.pick(uniform),
        }
    }

    /// A temperature that is no positive number has no distribution.
    fn is_greedy(&self) -> bool {
        self.sampling.temperature.is_nan() || self.sampling.temperature <= 0.0
    }

    /// The logits after the steps that work on single tokens. They are copied only if a step is on.
    fn score<'a>(&self, logits: &'a [f32], limits: Limits<'_>, scores: &'a mut Vec<f32>) -> &'a [f32] {
        if self.is_plain(limits) {
            return logits;
        }
        scores.clear();
        scores.extend_from_slice(logits);
        self.process(limits, scores);
        scores
    }

    /// Whether no step works on single tokens.
    fn is_plain(&self, limits: Limits<'_>) -> bool {
        self.sampling.logit_bias.is_empty() && self.history.is_off() && limits.allowed.is_none() && limits.barred.is_empty()
    }

    fn process(&self, limits: Limits<'_>, scores: &mut [f32]) {
        for &(token, bias) in &self.sampling.logit_bias {
            if let Some(score) = scores.get_mut(token as usize) {
                *score += bias;
            }
        }
        self.history.apply(&self.sampling, scores);
        if let Some(allowed) = limits.allowed {
            rule_out_all_but(allowed, scores);
        }
        rule_out(limits.barred.iter().copied(), scores);
    }

    /// Leaves in `weights` what the steps that work on the whole distribution keep.
    fn weigh(&self, scores: &[f32], candidates: &mut Vec<Candidate>, weights: &mut Weights) -> Weighed {
        let Sampling { temperature, top_k, top_p, min_p, typical_p, .. } = self.sampling;
        // A positive temperature changes no order, so the k likeliest are found before it divides.
        let weighed = if top_k > 0 && top_k < scores.len() {
            likeliest(scores, top_k, candidates);
            candidates.sort_unstable_by_key(|candidate| candidate.token);
            weights.of_candidates(candidates, temperature)
        } else {
            weights.of_all(scores, temperature)
        };
        if matches!(weighed, Weighed::Among) {
            // Negated comparisons would let what is not a number switch a step on.
            if top_p < 1.0 {
                weights.keep_likeliest(top_p);
            }
            if min_p > 0.0 {
                weights.keep_at_least(min_p);
            }
            if typical_p < 1.0 {
                weights.keep_typical(scores, typical_p);
            }
        }
        weighed
    }
}

/// The likeliest token of these logits, the first of equals; none where no logit is a number above minus infinity.
pub fn likeliest_token(logits: &[f32]) -> Option<u32> {
    first_of_highest(logits)
}

fn rule_out(tokens: impl Iterator<Item = u32>, scores: &mut [f32]) {
    for token in tokens {
        if let Some(score) = scores.get_mut(token as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

fn rule_out_all_but(allowed: &[u32], scores: &mut [f32]) {
    let mut words = allowed.iter().copied();
    for scores in scores.chunks_mut(u32::BITS as usize) {
        match words.next().unwrap_or(0) {
            u32::MAX => {}
            0 => scores.fill(f32::NEG_INFINITY),
            word => {
                for (bit, score) in scores.iter_mut().enumerate() {
                    *score = if word & (1 << bit) == 0 { f32::NEG_INFINITY } else { *score };
                }
            }
        }
    }
}
