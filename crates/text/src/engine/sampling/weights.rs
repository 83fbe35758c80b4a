//! The distribution that a token is drawn from.

use super::{exp::exp2_all, filters, lanes, likeliest::Candidate};

/// Weights per partial sum.
const BLOCK: usize = 512;

/// What is left to draw from.
pub(super) enum Weighed {
    /// Nothing.
    Nothing,
    /// This token: its score is infinite.
    Certain(u32),
    /// The tokens with a weight.
    Among,
}

/// Weights in proportion to probabilities: the likeliest has 1, and what a step has dropped 0.
#[derive(Default)]
pub(super) struct Weights {
    /// The tokens that the weights are of, in order; empty where they are of the whole vocabulary.
    tokens: Vec<u32>,
    scores: Vec<f32>,
    values: Vec<f32>,
    /// What the scores are multiplied by to have the exponents of 2.
    scale: f32,
    highest: f32,
    /// The sum of each block of weights.
    sums: Vec<f64>,
    keys: Vec<f32>,
    scratch: filters::Scratch,
}

impl Weights {
    /// The weights of a whole vocabulary.
    pub(super) fn of_all(&mut self, scores: &[f32], temperature: f32) -> Weighed {
        self.tokens.clear();
        self.weigh(scores, temperature)
    }

    /// The weights of some of its tokens.
    pub(super) fn of_candidates(&mut self, candidates: &[Candidate], temperature: f32) -> Weighed {
        self.tokens.clear();
        self.tokens.extend(candidates.iter().map(|candidate| candidate.token));
        let mut scores = std::mem::take(&mut self.scores);
        scores.clear();
        scores.extend(candidates.iter().map(|candidate| candidate.score));
        let weighed = self.weigh(&scores, temperature);
        self.scores = scores;
        weighed
    }

    fn weigh(&mut self, scores: &[f32], temperature: f32) -> Weighed {
        self.highest = lanes::highest(scores);
        if self.highest == f32::NEG_INFINITY {
            return Weighed::Nothing;
        }
        if self.highest == f32::INFINITY {
            let first = scores.iter().position(|score| *score == f32::INFINITY).and_then(|place| self.token(place));
            return first.map_or(Weighed::Nothing, Weighed::Certain);
        }
        // Finite even where the temperature is tiny: the likeliest's 0 times infinity would not be a number.
        self.scale = (std::f32::consts::LOG2_E / temperature).min(f32::MAX);
        self.values.resize(scores.len(), 0.0);
        self.sums.clear();
        for (scores, weights) in scores.chunks(BLOCK).zip(self.values.chunks_mut(BLOCK)) {
            exp2_all(scores, self.highest, self.scale, weights);
            self.sums.push(lanes::sum(weights));
        }
        Weighed::Among
    }

    fn token(&self, place: usize) -> Option<u32> {
        if self.tokens.is_empty() { u32::try_from(place).ok() } else { self.tokens.get(place).copied() }
    }

    fn total(&self) -> f64 {
        self.sums.iter().sum()
    }

    /// Changes each block of weights, given where it begins, and adds it up.
    fn change(&mut self, mut change: impl FnMut(usize, &mut [f32])) {
        self.sums.clear();
        for (first, weights) in (0..).step_by(BLOCK).zip(self.values.chunks_mut(BLOCK)) {
            change(first, weights);
            self.sums.push(lanes::sum(weights));
        }
    }

    /// Keeps the fewest of the likeliest that have this share of the whole.
    pub(super) fn keep_likeliest(&mut self, share: f32) {
        let share = share.max(0.0);
        // All below this together cannot make up what may go, whatever their number. Half of it, for the rounding.
        let floor = 0.5 * f64::from(1.0 - share) * self.total() / self.values.len() as f64;
        let cut = filters::cut(&self.values, &self.values, floor as f32, share, self.total(), &mut self.scratch);
        self.change(|first, weights| cut.apply_to_keys(first, weights));
    }

    /// Keeps those that have at least this weight; the likeliest in any case.
    pub(super) fn keep_at_least(&mut self, least: f32) {
        let least = least.min(1.0);
        self.change(|_, weights| weights.iter_mut().for_each(|weight| *weight = if *weight >= least { *weight } else { 0.0 }));
    }

    /// Keeps the fewest of the nearest the entropy that have this share of the whole. `all` is the scores where the weights
    /// are of the whole vocabulary.
    pub(super) fn keep_typical(&mut self, all: &[f32], share: f32) {
        let scores = if self.tokens.is_empty() { all } else { &self.scores };
        let total = self.total();
        filters::typical_keys(scores, &self.values, self.highest, self.scale, total, &mut self.keys);
        let cut = filters::cut(&self.keys, &self.values, f32::MIN_POSITIVE, share, total, &mut self.scratch);
        let keys = std::mem::take(&mut self.keys);
        self.change(|first, weights| cut.apply(first, keys.get(first..).unwrap_or_default(), weights));
        self.keys = keys;
    }

    /// The token at this share of the whole, in order of token.
    pub(super) fn pick(&self, uniform: f64) -> Option<u32> {
        let mut left = uniform * self.total();
        let mut place = None;
        for ((first, sum), weights) in (0..).step_by(BLOCK).zip(&self.sums).zip(self.values.chunks(BLOCK)) {
            // Rounding can leave a little past the last block: it then goes to the last with a weight.
            if *sum > 0.0 {
                place = Some((first, weights, left));
            }
            if left < *sum {
                break;
            }
            left -= sum;
        }
        let (first, weights, mut left) = place?;
        let mut last = None;
        for (place, weight) in (first..).zip(weights) {
            if *weight > 0.0 {
                last = Some(place);
                left -= f64::from(*weight);
                if left < 0.0 {
                    break;
                }
            }
        }
        self.token(last?)
    }

    /// The tokens that can be drawn and their probabilities.
    #[cfg(test)]
    pub(super) fn distribution(&self) -> Vec<(u32, f64)> {
        let total = self.total();
        let kept = self.values.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
        kept.map(|(place, weight)| (self.token(place).unwrap(), f64::from(*weight) / total)).collect()
    }
}
