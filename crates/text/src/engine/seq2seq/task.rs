use std::{sync::Arc, time::Instant};

use metrics::{counter, histogram};
use quintet_onnx::Error;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::searches::Search;
use crate::engine::{
    Event,
    decoder::sequence::{Rank, Times, account},
    drawing::Drawing,
};

/// A request that waits for rows of the caches, or has some.
pub(super) struct Task {
    pub(super) input: Arc<[u32]>,
    /// Within which inputs are shared.
    pub(super) scope: Arc<str>,
    /// Who goes first. Its number names the task.
    pub(super) rank: Rank,
    pub(super) work: Work,
    /// Its place in the waiting room, given back when it gets a row for the first time.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// Tokens of the input that were found in another row.
    pub(super) cached: usize,
    pub(super) times: Times,
}

pub(super) enum Work {
    Generate(Box<Text>),
    Search(Box<Search>),
}

/// A text that is drawn.
pub(super) struct Text {
    /// The token that it begins with, and what was drawn.
    pub(super) tokens: Vec<u32>,
    pub(super) drawing: Drawing,
    pub(super) events: mpsc::Sender<Event>,
}

impl Task {
    /// The rows that it may come to hold.
    pub(super) fn width(&self) -> usize {
        match &self.work {
            Work::Generate(_) => 1,
            Work::Search(search) => search.width(),
        }
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.work {
            Work::Generate(text) => text.events.is_closed(),
            Work::Search(search) => search.is_abandoned(),
        }
    }

    /// The token that is run next in the row of this beam, behind so many.
    pub(super) fn token(&self, beam: usize, done: usize) -> Option<u32> {
        match &self.work {
            Work::Generate(text) => text.tokens.get(done).copied(),
            Work::Search(search) => search.token(beam),
        }
    }

    /// Takes the logits behind so many tokens of a beam; says whether the task has ended. Searches end elsewhere.
    pub(super) fn advance(&mut self, beam: usize, done: usize, logits: &[f32], model: &str) -> bool {
        match &mut self.work {
            Work::Generate(text) => text.advance(done, logits, self.cached, &mut self.times, model),
            Work::Search(search) => {
                search.take(beam, logits);
                false
            }
        }
    }

    /// It begins anew when its turn comes: what was drawn stays, what was searched is searched again.
    pub(super) fn restart(&mut self) {
        if let Work::Search(search) = &mut self.work {
            search.restart();
        }
    }

    pub(super) fn fail(self, error: Error) {
        match self.work {
            Work::Generate(text) => drop(text.events.try_send(Event::Failed(error))),
            Work::Search(search) => search.fail(&error),
        }
    }
}

impl Text {
    fn advance(&mut self, done: usize, logits: &[f32], cached: usize, times: &mut Times, model: &str) -> bool {
        // What it generated before it lost its row is run again and not drawn again.
        if done < self.tokens.len() {
            return false;
        }
        let step = match self.drawing.next(logits) {
            Ok(step) => step,
            Err(error) => {
                drop(self.events.try_send(Event::Failed(error)));
                return true;
            }
        };
        self.tokens.push(step.drawn.token);
        let now = Instant::now();
        match times.latest_token {
            None => {
                times.first_token = Some(now);
                drop(self.events.try_send(Event::Begun(account(0, cached, times))));
                histogram!("quintet_text_time_to_first_token_seconds", "model" => model.to_owned()).record(now - times.came);
            }
            Some(before) => histogram!("quintet_text_inter_token_seconds", "model" => model.to_owned()).record(now - before),
        }
        times.latest_token = Some(now);
        counter!("quintet_text_tokens_total", "model" => model.to_owned(), "kind" => "completion").increment(1);
        // The channel has room for every event; it fails only where the client has gone.
        let sent = if step.is_text { self.events.try_send(Event::Token(step.drawn)).is_ok() } else { true };
        if let Some(reason) = step.finish {
            drop(self.events.try_send(Event::Finished(reason, account(self.drawing.generated(), cached, times))));
        }
        step.finish.is_some() || !sent
    }
}
