use std::{
    collections::VecDeque,
    ops::Range,
    sync::mpsc::{Receiver, TryRecvError},
    time::Instant,
};

use metrics::{counter, gauge, histogram};
use quintet_onnx::{Cancel, Error};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    Command,
    chunks::chunk,
    graph::{PackedGraph, Row},
};
use crate::engine::{Event, FinishReason, sampler::Sampler};

/// The decode loop.
pub(super) struct Scheduler {
    graph: PackedGraph,
    eos: Vec<u32>,
    prefill_chunk: usize,
    model: String,
    slots: Vec<Option<Sequence>>,
    waiting: VecDeque<Sequence>,
}

/// A sequence in a slot, or on its way to one.
struct Sequence {
    /// The tokens so far: the prompt, then what was generated.
    tokens: Vec<u32>,
    /// How many of them the slot's buffers hold.
    done: usize,
    work: Work,
    /// Its place in the waiting room, given back when it gets a slot.
    place: Option<OwnedSemaphorePermit>,
    since: Instant,
}

enum Work {
    Generate { prompt: usize, max_new_tokens: usize, ignore_eos: bool, sampler: Box<Sampler>, events: mpsc::Sender<Event> },
    Score { from: usize, scores: Vec<f32>, answer: oneshot::Sender<Result<Vec<f32>, Error>> },
}

/// What a sequence does in one step.
struct Plan {
    slot: usize,
    past: usize,
    tokens: Range<usize>,
    logits_from: usize,
}

impl Scheduler {
    pub(super) fn new(graph: PackedGraph, eos: Vec<u32>, prefill_chunk: usize, model: String) -> Self {
        let slots = (0..graph.slots()).map(|_| None).collect();
        Self { graph, eos, prefill_chunk, model, slots, waiting: VecDeque::new() }
    }

    /// Runs until every sender of commands is gone and all sequences have ended.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut open = true;
        loop {
            // Where nothing runs there is nothing to do but wait.
            if open && self.is_idle() {
                match commands.recv() {
                    Ok(command) => self.take(command),
                    Err(_) => open = false,
                }
            }
            while open {
                match commands.try_recv() {
                    Ok(command) => self.take(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => open = false,
                }
            }
            if !open && self.is_idle() {
                return;
            }
            self.drop_abandoned();
            self.fill_slots();
            self.step();
            let busy = self.slots.iter().filter(|slot| slot.is_some()).count();
            gauge!("quintet_text_slots_busy", "model" => self.model.clone()).set(busy as f64);
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.slots.iter().all(Option::is_none)
    }

    fn take(&mut self, command: Command) {
        let since = Instant::now();
        match command {
            Command::Raw(job) => {
                self.graph.session_mut().arm();
                job(self.graph.session_mut(), &Cancel::nothing());
            }
            Command::Generate { generation, events, place } => {
                let sampler = Box::new(Sampler::new(generation.sampling, self.graph.vocabulary(), &generation.prompt));
                let prompt = generation.prompt.len();
                counter!("quintet_text_tokens_total", "model" => self.model.clone(), "kind" => "prompt").increment(prompt as u64);
                let work = Work::Generate { prompt, max_new_tokens: generation.max_new_tokens, ignore_eos: generation.ignore_eos, sampler, events };
                self.waiting.push_back(Sequence { tokens: generation.prompt, done: 0, work, place: Some(place), since });
            }
            Command::Score { mut tokens, from, answer, place } => {
                let scores = Vec::with_capacity(tokens.len().saturating_sub(from));
                // The last token is predicted but predicts nothing itself; it stays in `tokens` to be looked up.
                tokens.shrink_to_fit();
                self.waiting.push_back(Sequence { tokens, done: 0, work: Work::Score { from, scores, answer }, place: Some(place), since });
            }
        }
    }

    /// Frees the slots of sequences that nobody waits for.
    fn drop_abandoned(&mut self) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(Sequence::is_abandoned) {
                *slot = None;
            }
        }
        self.waiting.retain(|sequence| !sequence.is_abandoned());
    }

    fn fill_slots(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.is_none()) {
            let Some(mut sequence) = self.waiting.pop_front() else { break };
            drop(sequence.place.take());
            histogram!("quintet_text_queue_seconds", "model" => self.model.clone()).record(sequence.since.elapsed());
            *slot = Some(sequence);
        }
    }

    /// One run of the graph: every sequence that decodes, and prompt chunks within the budget, the oldest first.
    fn step(&mut self) {
        let mut budget = self.prefill_chunk;
        let mut order: Vec<(Instant, usize)> =
            self.slots.iter().enumerate().filter_map(|(slot, sequence)| Some((sequence.as_ref()?.since, slot))).collect();
        order.sort_unstable();
        let mut plans = Vec::with_capacity(order.len());
        for (_, slot) in order {
            let Some(sequence) = self.slots.get(slot).and_then(Option::as_ref) else { continue };
            let end = sequence.input_end();
            let left = end - sequence.done;
            let decodes = sequence.decodes();
            let taken = if decodes { left } else { chunk(left, budget) };
            if taken == 0 {
                continue;
            }
            if !decodes {
                budget = budget.saturating_sub(taken);
            }
            let tokens = sequence.done..sequence.done + taken;
            let first_wanted = sequence.first_wanted();
            plans.push(Plan { slot, past: sequence.done, logits_from: first_wanted.saturating_sub(tokens.start), tokens });
        }
        if plans.is_empty() {
            return;
        }
        histogram!("quintet_text_batch_size", "model" => self.model.clone()).record(plans.len() as f64);

        let rows: Vec<Row<'_>> = plans
            .iter()
            .filter_map(|plan| {
                let sequence = self.slots.get(plan.slot)?.as_ref()?;
                let tokens = sequence.tokens.get(plan.tokens.clone())?;
                Some(Row { slot: plan.slot, past: plan.past, tokens, logits_from: plan.logits_from })
            })
            .collect();
        // Each row of logits belongs to the token at this place of this slot's sequence.
        let places: Vec<(usize, usize)> =
            plans.iter().flat_map(|plan| plan.tokens.clone().skip(plan.logits_from).map(|place| (plan.slot, place))).collect();
        let outcome = self.graph.run(&rows);
        for plan in &plans {
            if let Some(Some(sequence)) = self.slots.get_mut(plan.slot) {
                sequence.done = plan.tokens.end;
            }
        }
        let mut places = places.into_iter();
        let (slots, eos, model) = (&mut self.slots, &self.eos, &self.model);
        let outcome = outcome.and_then(|logits| {
            logits.rows(|row| {
                if let Some((slot, place)) = places.next()
                    && let Some(occupied) = slots.get_mut(slot)
                    && let Some(sequence) = occupied.take()
                {
                    *occupied = sequence.advance(place, row, eos, model);
                }
            })
        });
        if let Err(error) = outcome {
            // Every sequence that was in this run has lost its place in the buffers.
            tracing::error!(%error, model = self.model, "a step failed");
            let message = error.to_string();
            for plan in &plans {
                if let Some(sequence) = self.slots.get_mut(plan.slot).and_then(Option::take) {
                    sequence.fail(Error::Runtime { doing: "decode".to_owned(), message: message.clone() });
                }
            }
        }
    }
}

impl Sequence {
    /// One past the last token to be run: all of them, but the last one of a text that is only scored.
    fn input_end(&self) -> usize {
        match self.work {
            Work::Generate { .. } => self.tokens.len(),
            Work::Score { .. } => self.tokens.len() - 1,
        }
    }

    /// Whether its prompt has been run and it goes on token by token.
    fn decodes(&self) -> bool {
        matches!(self.work, Work::Generate { prompt, .. } if self.done >= prompt)
    }

    /// The first token whose logits are wanted.
    fn first_wanted(&self) -> usize {
        match self.work {
            Work::Generate { .. } => self.tokens.len() - 1,
            Work::Score { from, .. } => from.saturating_sub(1),
        }
    }

    fn is_abandoned(&self) -> bool {
        match &self.work {
            Work::Generate { events, .. } => events.is_closed(),
            Work::Score { answer, .. } => answer.is_closed(),
        }
    }

    /// Takes the logits of the token at `place`; gives the sequence back while it goes on.
    fn advance(mut self, place: usize, logits: &[f32], eos: &[u32], model: &str) -> Option<Self> {
        let finished = match &mut self.work {
            Work::Generate { prompt, max_new_tokens, ignore_eos, sampler, events } => {
                let token = sampler.draw(logits);
                self.tokens.push(token);
                let generated = self.tokens.len() - *prompt;
                if generated == 1 {
                    histogram!("quintet_text_time_to_first_token_seconds", "model" => model.to_owned()).record(self.since.elapsed());
                }
                counter!("quintet_text_tokens_total", "model" => model.to_owned(), "kind" => "completion").increment(1);
                let ended = eos.contains(&token);
                let reason =
                    if ended && !*ignore_eos { Some(FinishReason::Eos) } else { (generated >= *max_new_tokens).then_some(FinishReason::Length) };
                // The channel has room for every event; it fails only where the client has gone.
                let sent = if reason == Some(FinishReason::Eos) { Ok(()) } else { events.try_send(Event::Token(token)) };
                if let Some(reason) = reason {
                    drop(events.try_send(Event::Finished { reason, generated }));
                }
                reason.is_some() || sent.is_err()
            }
            Work::Score { scores, .. } => {
                if let Some(next) = self.tokens.get(place + 1) {
                    scores.push(log_probability(logits, *next));
                }
                place + 2 >= self.tokens.len()
            }
        };
        if !finished {
            return Some(self);
        }
        if let Work::Score { scores, answer, .. } = self.work {
            drop(answer.send(Ok(scores)));
        }
        None
    }

    fn fail(self, error: Error) {
        match self.work {
            Work::Generate { events, .. } => drop(events.try_send(Event::Failed(error))),
            Work::Score { answer, .. } => drop(answer.send(Err(error))),
        }
    }
}

/// The natural log-probability of a token: logit minus log-sum-exp, in f64 so that long sums stay exact.
fn log_probability(logits: &[f32], token: u32) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    logits.get(token as usize).map_or(f32::NEG_INFINITY, |logit| (f64::from(logit - highest) - sum.ln()) as f32)
}

#[cfg(test)]
mod tests {
    use super::log_probability;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits = [1000.0f32, 1001.0, 998.0];
        let total: f64 = [-1.0f64, 0.0, -3.0].into_iter().map(f64::exp).sum();
        for (token, shifted) in [-1.0f64, 0.0, -3.0].into_iter().enumerate() {
            assert!((f64::from(log_probability(&logits, token as u32)) - (shifted - total.ln())).abs() < 1e-6);
        }
        assert_eq!(log_probability(&logits, 9), f32::NEG_INFINITY);
    }
}
