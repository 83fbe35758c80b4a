use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, histogram};
use quintet_onnx::Error;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    TokenScore,
    searches::{Beam, Search},
    speculation::Speculator,
};
use crate::engine::{
    Account, Event, FinishReason, Scored,
    drawing::Drawing,
    sampling::{log_probability, top_log_probabilities},
};

/// A sequence that waits for a row of the cache, or has one.
pub(super) struct Sequence {
    /// The tokens so far: the prompt, then what was generated.
    pub(super) tokens: Vec<u32>,
    /// How many of them are the prompt.
    pub(super) prompt: usize,
    /// How many of them its row holds.
    pub(super) done: usize,
    /// How many of them its row held already when it got it, before it looks for its prefix.
    pub(super) in_place: usize,
    /// Whose prompts it shares prefixes with.
    pub(super) scope: Arc<str>,
    pub(super) rank: Rank,
    pub(super) work: Work,
    /// Rows that it will need beside its own.
    pub(super) reserved: usize,
    /// Its place in the waiting room, given back when it gets a row for the first time.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// Tokens of the prompt that were found.
    pub(super) cached: usize,
    pub(super) times: Times,
    /// What drafts its next tokens.
    pub(super) speculator: Option<Box<Speculator>>,
}

/// Who goes first: the better priority, then who would have been done first if all prompts were worked on in the order of their
/// arrival and their length. So a short prompt passes a long one that has only just come, and no one waits for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Rank {
    pub(in crate::engine) priority: u8,
    /// Prompt tokens that the engine had taken when it came, and its own.
    pub(in crate::engine) due: u64,
    pub(in crate::engine) number: u64,
}

pub(super) enum Work {
    Generate { drawing: Box<Drawing>, events: mpsc::Sender<Event>, scores_prompt: bool, scored: Vec<Scored>, finished: Option<FinishReason> },
    Beam(Box<Beam>),
    Score { from: usize, scores: Vec<TokenScore>, answer: oneshot::Sender<Result<Vec<TokenScore>, Error>> },
}

/// When it came, got its row, had its first and its latest token.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Times {
    pub(in crate::engine) came: Instant,
    pub(in crate::engine) started: Option<Instant>,
    pub(in crate::engine) first_token: Option<Instant>,
    pub(in crate::engine) latest_token: Option<Instant>,
}

impl Times {
    pub(in crate::engine) fn now() -> Self {
        Self { came: Instant::now(), started: None, first_token: None, latest_token: None }
    }
}

impl Sequence {
    /// One past the last token that is run in chunks. What it generated itself is run step by step, as it was the first time,
    /// unless bits do not matter.
    pub(super) fn prefill_end(&self, exact: bool) -> usize {
        match self.work {
            Work::Beam(_) => self.prompt,
            Work::Generate { .. } if exact => self.prompt,
            Work::Generate { .. } => self.tokens.len(),
            // The last token is predicted but predicts nothing itself.
            Work::Score { .. } => self.tokens.len() - 1,
        }
    }

    /// The first token whose logits are wanted.
    pub(super) fn first_wanted(&self) -> usize {
        match &self.work {
            Work::Generate { scores_prompt: true, scored, .. } if self.tokens.len() == self.prompt && scored.is_empty() => 0,
            Work::Generate { scores_prompt: true, scored, .. } if self.tokens.len() == self.prompt => scored.len(),
            Work::Generate { .. } | Work::Beam(_) => self.tokens.len() - 1,
            Work::Score { from, .. } => from.saturating_sub(1),
        }
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.work {
            Work::Generate { events, .. } => events.is_closed(),
            // Its search is.
            Work::Beam(_) => false,
            Work::Score { answer, .. } => answer.is_closed(),
        }
    }

    /// Takes the logits of the token at `at`; says whether the sequence has ended.
    pub(super) fn advance(&mut self, at: usize, logits: &[f32], model: &str, searches: &[Search]) -> bool {
        match &mut self.work {
            Work::Beam(beam) => {
                if at + 1 == self.tokens.len()
                    && let Some(search) = searches.iter().find(|search| search.number == beam.search)
                {
                    beam.advance(logits, search, self.tokens.len() - self.prompt);
                }
                false
            }
            Work::Score { scores, from, .. } => {
                if at + 1 == *from + scores.len()
                    && let Some(next) = self.tokens.get(at + 1)
                {
                    let own = logits.get(*next as usize).copied().unwrap_or(f32::NAN);
                    let is_likeliest = logits.iter().all(|other| *other <= own);
                    scores.push(TokenScore { log_probability: log_probability(logits, *next), is_likeliest });
                }
                at + 2 >= self.tokens.len()
            }
            Work::Generate { drawing, events, scores_prompt, scored, finished } => {
                if *scores_prompt && at + 1 < self.prompt {
                    if scored.len() == at {
                        let token = self.tokens.get(at + 1).copied().unwrap_or(0);
                        let top = drawing.log_probabilities().unwrap_or(0);
                        let top = if top > 0 { top_log_probabilities(logits, top) } else { Vec::new() };
                        scored.push(Scored { log_probability: log_probability(logits, token), top });
                    }
                    return false;
                }
                // What it generated before it lost its row is run again and not drawn again.
                if at + 1 < self.tokens.len() {
                    return false;
                }
                if *scores_prompt && drawing.generated() == 0 {
                    drop(events.try_send(Event::Prompt(std::mem::take(scored))));
                }
                let step = match drawing.next(logits) {
                    Ok(step) => step,
                    Err(error) => {
                        drop(events.try_send(Event::Failed(error)));
                        return true;
                    }
                };
                self.tokens.push(step.drawn.token);
                let now = Instant::now();
                match self.times.latest_token {
                    None => {
                        self.times.first_token = Some(now);
                        drop(events.try_send(Event::Begun(account(0, self.cached, &self.times))));
                        histogram!("quintet_text_time_to_first_token_seconds", "model" => model.to_owned()).record(now - self.times.came);
                    }
                    Some(before) => histogram!("quintet_text_inter_token_seconds", "model" => model.to_owned()).record(now - before),
                }
                self.times.latest_token = Some(now);
                counter!("quintet_text_tokens_total", "model" => model.to_owned(), "kind" => "completion").increment(1);
                // The channel has room for every event; it fails only where the client has gone.
                let sent = if step.is_text { events.try_send(Event::Token(step.drawn)).is_ok() } else { true };
                *finished = step.finish;
                step.finish.is_some() || !sent
            }
        }
    }

    /// Notes how many tokens of its draft were what was drawn, in a run before which it had `length` tokens. Where the run drew nothing,
    /// it was a run again of what had been drawn and told before the sequence lost its row.
    pub(super) fn settle(&mut self, accepted: usize, length: usize) {
        let Some(drafts) = self.speculator.as_mut().map(|speculator| speculator.settle(accepted)) else { return };
        if let Work::Generate { events, .. } = &self.work
            && self.tokens.len() > length
        {
            drop(events.try_send(Event::Drafted(drafts)));
        }
    }

    /// Answers what comes at the end.
    pub(super) fn finish(self) {
        match self.work {
            Work::Score { scores, answer, .. } => drop(answer.send(Ok(scores))),
            Work::Generate { drawing, events, finished: Some(reason), .. } => {
                let account = account(drawing.generated(), self.cached, &self.times);
                drop(events.try_send(Event::Finished(reason, account)));
            }
            Work::Generate { .. } | Work::Beam(_) => (),
        }
    }

    /// The beam that goes on from this one with a token.
    pub(super) fn child(&self, index: usize, token: u32, now: Instant) -> Option<Self> {
        let Work::Beam(beam) = &self.work else { return None };
        let mut tokens = self.tokens.clone();
        tokens.push(token);
        let mut sampler = beam.sampler.clone();
        sampler.mark(token);
        let work = Work::Beam(Box::new(Beam { search: beam.search, index, sampler, candidates: None }));
        let times = Times { first_token: self.times.first_token.or(Some(now)), latest_token: Some(now), ..self.times };
        Some(Self { tokens, work, reserved: 0, place: None, scope: Arc::clone(&self.scope), times, speculator: None, ..*self })
    }

    pub(super) fn fail(self, error: Error) {
        match self.work {
            // Its search answers.
            Work::Beam(_) => (),
            Work::Generate { events, .. } => drop(events.try_send(Event::Failed(error))),
            Work::Score { answer, .. } => drop(answer.send(Err(error))),
        }
    }
}

pub(in crate::engine) fn account(generated: usize, cached: usize, times: &Times) -> Account {
    let between = |from: Option<Instant>, to: Option<Instant>| from.zip(to).map_or(Duration::ZERO, |(from, to)| to.saturating_duration_since(from));
    Account {
        generated,
        cached,
        queued: between(Some(times.came), times.started),
        prefill: between(times.started, times.first_token),
        decode: between(times.first_token, times.latest_token),
    }
}
