//! Beam searches: several rows that go on together, in lock step.

use std::{sync::Arc, time::Instant};

use quintet_onnx::Error;
use tokio::sync::mpsc;

use super::Forced;
use crate::engine::{
    Event, FinishReason, Generation,
    decoder::{
        Beams,
        beams::{BeamSearch, Next},
        searches::{fail, nothing_drawn},
        sequence::{Times, account},
    },
    sampling::{Drawn, Limits, Sampler},
};

/// A search under way.
pub(super) struct Search {
    beams: BeamSearch,
    states: Vec<Beam>,
    /// As it was at its beginning, to which it returns where it loses its rows.
    fresh: (BeamSearch, Beam),
    width: usize,
    eos: Arc<[u32]>,
    min_new_tokens: usize,
    max_new_tokens: usize,
    forced: Forced,
    /// Tokens that each beam has.
    generated: usize,
    /// One for each text that is asked for, the best first.
    events: Vec<mpsc::Sender<Event>>,
}

/// A text that is followed.
#[derive(Clone)]
struct Beam {
    /// Its last token, which is run next.
    token: u32,
    sampler: Sampler,
    /// The likeliest tokens after it, once they are known.
    candidates: Vec<(u32, f32)>,
}

/// What comes after a step.
pub(super) enum Step {
    /// These beams: the parent of each.
    Beams(Vec<usize>),
    /// Nothing: the search is over.
    Done,
}

impl Search {
    /// A search for a model whose outputs begin with `start` and end with `eos`.
    pub(super) fn new(
        generation: &Generation,
        asked: Beams,
        (start, eos, forced): (u32, Arc<[u32]>, Forced),
        vocabulary: usize,
        events: Vec<mpsc::Sender<Event>>,
    ) -> Self {
        let eos = if generation.ignore_eos { Arc::default() } else { eos };
        let forced = if generation.ignore_eos { Forced { last: None, ..forced } } else { forced };
        let beams = BeamSearch::new(asked, Arc::clone(&eos), generation.max_new_tokens);
        let sampler = Sampler::new(generation.sampling.clone(), vocabulary, &[start]);
        let first = Beam { token: start, sampler, candidates: Vec::new() };
        Self {
            beams: beams.clone(),
            states: vec![first.clone()],
            fresh: (beams, first),
            width: asked.width,
            eos,
            min_new_tokens: generation.min_new_tokens,
            max_new_tokens: generation.max_new_tokens,
            forced,
            generated: 0,
            events,
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.events.iter().all(mpsc::Sender::is_closed)
    }

    pub(super) fn token(&self, beam: usize) -> Option<u32> {
        self.states.get(beam).map(|beam| beam.token)
    }

    /// Takes the logits after a beam's last token.
    pub(super) fn take(&mut self, beam: usize, logits: &[f32]) {
        let (wanted, forced) = (self.beams.candidates(), self.forced.at(self.generated, self.max_new_tokens));
        let barred = if self.generated < self.min_new_tokens { &*self.eos } else { &[] };
        if let Some(beam) = self.states.get_mut(beam) {
            beam.candidates = match forced {
                // It is certain.
                Some(token) => vec![(token, 0.0)],
                None => beam.sampler.best(logits, wanted, Limits { barred, ..Limits::default() }),
            };
        }
    }

    /// Goes on from the logits that its beams have taken.
    pub(super) fn advance(&mut self) -> Result<Step, Error> {
        let candidates: Vec<Vec<(u32, f32)>> = self.states.iter_mut().map(|beam| std::mem::take(&mut beam.candidates)).collect();
        if candidates.iter().all(Vec::is_empty) {
            return Err(nothing_drawn());
        }
        let next = match self.beams.advance(&candidates) {
            Next::Done => return Ok(Step::Done),
            Next::Beams(next) => next,
        };
        let child = |(parent, token): &(usize, u32)| {
            let mut sampler = self.states.get(*parent)?.sampler.clone();
            sampler.mark(*token);
            Some(Beam { token: *token, sampler, candidates: Vec::new() })
        };
        self.states = next.iter().filter_map(child).collect();
        self.generated += 1;
        Ok(Step::Beams(next.into_iter().map(|(parent, _)| parent).collect()))
    }

    pub(super) fn restart(&mut self) {
        let (beams, first) = self.fresh.clone();
        self.beams = beams;
        self.states = vec![first];
        self.generated = 0;
    }

    /// Answers with the best texts.
    pub(super) fn finish(self, cached: usize, times: Times) {
        let now = Some(Instant::now());
        let times = Times { first_token: times.first_token.or(now), latest_token: now, ..times };
        let whole = self.beams.best(self.events.len());
        if whole.is_empty() {
            fail(self.events, &nothing_drawn());
            return;
        }
        for (whole, events) in whole.into_iter().zip(self.events) {
            let generated = whole.tokens.len() + usize::from(whole.by_eos);
            drop(events.try_send(Event::Begun(account(0, cached, &times))));
            for (token, log_probability) in whole.tokens {
                drop(events.try_send(Event::Token(Drawn { token, log_probability, top: Vec::new() })));
            }
            let reason = if whole.by_eos { FinishReason::Eos } else { FinishReason::Length };
            drop(events.try_send(Event::Finished(reason, account(generated, cached, &times))));
        }
    }

    pub(super) fn fail(self, error: &Error) {
        fail(self.events, error);
    }
}
