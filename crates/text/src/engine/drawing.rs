use std::sync::Arc;

use quintet_onnx::Error;

use super::{
    FinishReason, Generation,
    guided::{Ahead, Lent},
    sampling::{Drawn, Limits, Sampler, likeliest_token, log_probability, top_log_probabilities},
    seq2seq::Forced,
};

/// How the tokens of one sequence are chosen, and when it ends.
#[derive(Debug)]
pub(super) struct Drawing {
    sampler: Sampler,
    constraint: Option<Lent>,
    /// What works out its masks while the model runs.
    ahead: Option<Arc<Ahead>>,
    eos: Arc<[u32]>,
    ignore_eos: bool,
    min_new_tokens: usize,
    max_new_tokens: usize,
    log_probabilities: Option<usize>,
    forced: Forced,
    generated: usize,
}

/// A step of a sequence.
#[derive(Debug)]
pub(super) struct Step {
    /// The token.
    pub(super) drawn: Drawn,
    /// Whether it belongs to the text: the end-of-text token that ends it does not.
    pub(super) is_text: bool,
    /// Set where the sequence ends with it.
    pub(super) finish: Option<FinishReason>,
}

impl Drawing {
    /// The drawing that a request asks for, from a model with these end-of-text tokens.
    pub(super) fn new(generation: &mut Generation, vocabulary: usize, eos: Arc<[u32]>, prompt: &[u32], ahead: Option<Arc<Ahead>>) -> Self {
        Self {
            sampler: Sampler::new(generation.sampling.clone(), vocabulary, prompt).with_stream(generation.stream),
            constraint: generation.constraint.take().map(|constraint| Lent::Here(Box::new(constraint))),
            ahead,
            eos,
            ignore_eos: generation.ignore_eos,
            min_new_tokens: generation.min_new_tokens,
            max_new_tokens: generation.max_new_tokens,
            log_probabilities: generation.log_probabilities,
            forced: Forced::default(),
            generated: 0,
        }
    }

    /// The same with tokens that the model puts at the ends of every text. Where the end-of-text token is passed over, or the text is
    /// guided, none is put at its end.
    #[must_use]
    pub(super) fn with_forced(mut self, forced: Forced) -> Self {
        let last = forced.last.filter(|_| !self.ignore_eos && self.constraint.is_none());
        self.forced = Forced { last, ..forced };
        self
    }

    /// How many tokens there are so far.
    pub(super) fn generated(&self) -> usize {
        self.generated
    }

    /// How many of the likeliest tokens are reported; none where no log-probabilities are wanted.
    pub(super) fn log_probabilities(&self) -> Option<usize> {
        self.log_probabilities
    }

    /// The next token for these logits.
    pub(super) fn next(&mut self, logits: &[f32]) -> Result<Step, Error> {
        if let Some(token) = self.forced.at(self.generated, self.max_new_tokens) {
            return self.put(token, logits);
        }
        let barred = if self.generated < self.min_new_tokens { &*self.eos } else { &[] };
        let limits = Limits { allowed: None, barred, log_probability: self.log_probabilities.is_some(), top: self.log_probabilities.unwrap_or(0) };
        let is_guided = self.constraint.is_some();
        let (drawn, constraint) = match self.constraint.take() {
            None => (self.sampler.draw(logits, limits), None),
            Some(lent) => {
                let mut constraint = lent.back().ok_or_else(|| failed("the thread that works out masks has ended"))?;
                let allowed = constraint.mask().map_err(|error| failed(&error.to_string()))?;
                (self.sampler.draw(logits, Limits { allowed: Some(allowed), ..limits }), Some(constraint))
            }
        };
        let drawn = drawn.ok_or_else(|| failed("no token can be drawn: the model's logits are not numbers, or all tokens are ruled out"))?;
        self.generated += 1;
        let ends = self.eos.contains(&drawn.token) && (!self.ignore_eos || is_guided);
        let mut is_complete = ends;
        if let Some(mut constraint) = constraint.filter(|_| !ends) {
            constraint.accept(drawn.token).map_err(|error| failed(&error.to_string()))?;
            is_complete = constraint.must_stop();
            self.constraint = Some(match &self.ahead {
                Some(ahead) if !is_complete => ahead.lend(constraint),
                _ => Lent::Here(constraint),
            });
        }
        let finish = if is_complete { Some(FinishReason::Eos) } else { (self.generated >= self.max_new_tokens).then_some(FinishReason::Length) };
        Ok(Step { drawn, is_text: !ends, finish })
    }

    /// A step with a token that is not drawn, whatever the request's sampling rules out. A guide does not see it.
    fn put(&mut self, token: u32, logits: &[f32]) -> Result<Step, Error> {
        let mut allowed = vec![0u32; token as usize / u32::BITS as usize + 1];
        if let Some(last) = allowed.last_mut() {
            *last = 1 << (token % u32::BITS);
        }
        let top = self.log_probabilities.unwrap_or(0);
        let limits = Limits { allowed: Some(&allowed), barred: &[], log_probability: self.log_probabilities.is_some(), top };
        let drawn = match self.sampler.draw(logits, limits) {
            Some(drawn) => drawn,
            None if likeliest_token(logits).is_none() => return Err(failed("the model's logits are not numbers")),
            None => {
                self.sampler.mark(token);
                let log_probability = self.log_probabilities.map_or(f32::NAN, |_| log_probability(logits, token));
                Drawn { token, log_probability, top: top_log_probabilities(logits, top) }
            }
        };
        self.generated += 1;
        let ends = self.eos.contains(&token) && !self.ignore_eos;
        let finish = if ends { Some(FinishReason::Eos) } else { (self.generated >= self.max_new_tokens).then_some(FinishReason::Length) };
        Ok(Step { drawn, is_text: !ends, finish })
    }
}

fn failed(reason: &str) -> Error {
    Error::Runtime { doing: "draw a token".to_owned(), message: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Speculation, sampling::Sampling};

    /// The drawing of a text that begins with the token 2, which its sampling rules out from then on.
    fn drawing() -> Drawing {
        let sampling = Sampling {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram_size: 1,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            seed: 0,
        };
        let mut generation = Generation {
            prompt: Vec::new(),
            sampling,
            stream: 0,
            max_new_tokens: 3,
            min_new_tokens: 0,
            ignore_eos: false,
            constraint: None,
            log_probabilities: Some(1),
            scores_prompt: false,
            speculation: Speculation::Off,
            scope: "".into(),
            priority: 5,
        };
        let forced = Forced { first: Some(2), last: Some(2) };
        Drawing::new(&mut generation, 4, Arc::new([2]), &[2], None).with_forced(forced)
    }

    #[test]
    fn a_forced_token_comes_even_where_sampling_rules_it_out() {
        let mut drawing = Drawing { eos: Arc::new([]), ..drawing() };
        let logits = [0.0; 4];
        let steps = [0, 1, 2].map(|_| drawing.next(&logits).unwrap());
        assert_eq!([0, 1, 2].map(|step: usize| steps[step].drawn.token), [2, 0, 2]);
        assert!(steps.iter().all(|step| (step.drawn.log_probability - 0.25f32.ln()).abs() < 1e-5 && step.drawn.top.len() == 1), "{steps:?}");
        assert_eq!(steps[2].finish, Some(FinishReason::Length));
    }

    #[test]
    fn a_forced_token_does_not_hide_that_logits_are_not_numbers() {
        assert!(drawing().next(&[f32::NAN; 4]).is_err());
    }
}
