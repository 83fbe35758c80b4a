mod memory;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, gauge, histogram};
use quintet_onnx::{Cancel, Error};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Command,
    beams::BeamSearch,
    chunks::chunk,
    graphs::Graphs,
    pace::Pace,
    prefixes::{BLOCK, Prefixes},
    remains::Remains,
    searches::{Beam, Search},
    sequence::{Rank, Sequence, Times, Work},
    speculation::{DraftModel, Speculator, cost},
};
use crate::engine::{
    Speculation,
    decode_thread::{DecodeLoop, Start},
    drawing::Drawing,
    guided::Ahead,
    sampling::Sampler,
};

/// The decode loop.
///
/// The first rows of the cache hold the sequences that decode, without gaps, so that a step runs over just them; the rows after
/// them hold sequences whose prompts are being run, or nothing.
pub(super) struct Scheduler {
    pub(super) graphs: Graphs,
    /// What drafts for it, where the folder names such a model.
    pub(super) draft_model: Option<DraftModel>,
    eos: Arc<[u32]>,
    settings: Settings,
    pub(super) model: String,
    pub(super) rows: Vec<Option<Sequence>>,
    /// What each free row still holds.
    remains: Vec<Option<Remains>>,
    /// How many of the first rows decode.
    pub(super) decoding: usize,
    pub(super) waiting: Vec<Sequence>,
    pub(super) searches: Vec<Search>,
    prefixes: Prefixes,
    /// Started with the first guided sequence.
    ahead: Option<Arc<Ahead>>,
    pub(super) pace: Pace,
    /// Prompt tokens that came so far: the clock of [`Rank::due`].
    taken: u64,
    came: u64,
}

/// How the loop runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Most prompt tokens in a run.
    pub(super) prefill_chunk: usize,
    /// The longest time between two tokens of a sequence that prompts may cause; zero = no bound.
    pub(super) max_token_gap: Duration,
    /// Bytes of keys and values for sequences.
    pub(super) cache_bytes: usize,
    /// Bytes of keys and values of prefixes that are kept.
    pub(super) prefix_bytes: usize,
    /// Whether a sequence's bits must not depend on what else runs.
    pub(super) exact: bool,
}

impl DecodeLoop for Scheduler {
    type Command = Command;

    fn take(&mut self, command: Command) {
        match command {
            Command::Raw(job) => {
                self.graphs.session_mut().arm();
                job(self.graphs.session_mut(), &Cancel::nothing());
            }
            Command::Start(Start::Text { mut generation, events, place }) => {
                let tokens = std::mem::take(&mut generation.prompt);
                if generation.constraint.is_some() && self.ahead.is_none() {
                    self.ahead = Ahead::start().map(Arc::new);
                }
                let ahead = self.ahead.clone();
                let speculator = self.speculator(generation.speculation, tokens.len() + generation.max_new_tokens);
                let drawing = Box::new(Drawing::new(&mut generation, self.graphs.vocabulary(), Arc::clone(&self.eos), &tokens, ahead));
                counter!("quintet_text_tokens_total", "model" => self.model.clone(), "kind" => "prompt").increment(tokens.len() as u64);
                let work = Work::Generate { drawing, events, scores_prompt: generation.scores_prompt, scored: Vec::new(), finished: None };
                self.enqueue(tokens, generation.scope, generation.priority, work, 0, place);
                if let Some(sequence) = self.waiting.last_mut() {
                    sequence.speculator = speculator;
                }
            }
            Command::Start(Start::Search { mut generation, beams, events, place }) => {
                let tokens = std::mem::take(&mut generation.prompt);
                let eos: Arc<[u32]> = if generation.ignore_eos { Arc::default() } else { Arc::clone(&self.eos) };
                counter!("quintet_text_tokens_total", "model" => self.model.clone(), "kind" => "prompt").increment(tokens.len() as u64);
                let sampler = Sampler::new(generation.sampling.clone(), self.graphs.vocabulary(), &tokens);
                let fresh = BeamSearch::new(beams, Arc::clone(&eos), generation.max_new_tokens);
                let number = self.came + 1;
                self.searches.push(Search {
                    number,
                    beams: fresh.clone(),
                    fresh,
                    prompt: tokens.len(),
                    min_new_tokens: generation.min_new_tokens,
                    eos,
                    width: beams.width,
                    sampler: sampler.clone(),
                    events,
                });
                let work = Work::Beam(Box::new(Beam { search: number, index: 0, sampler, candidates: None }));
                self.enqueue(tokens, generation.scope, generation.priority, work, beams.width - 1, place);
            }
            Command::Score { tokens, from, scope, priority, answer, place } => {
                let scores = Vec::with_capacity(tokens.len().saturating_sub(from));
                self.enqueue(tokens, scope, priority, Work::Score { from, scores, answer }, 0, place);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.rows.iter().all(Option::is_none)
    }

    fn turn(&mut self) {
        self.drop_abandoned();
        self.admit();
        self.prefill();
        let began = Instant::now();
        if self.speculate() {
            self.verify(began);
        } else {
            self.decode();
        }
        self.report();
    }

    fn rest(&mut self) {
        self.release_free_rows();
        self.report();
    }
}

impl Scheduler {
    pub(super) fn new(mut graphs: Graphs, draft_model: Option<DraftModel>, eos: Arc<[u32]>, settings: Settings, model: String) -> Self {
        let rows = graphs.cache().rows();
        if !settings.exact {
            graphs.choose_by_rows();
        }
        Self {
            eos,
            pace: Pace::new(settings.prefill_chunk, settings.max_token_gap),
            prefixes: Prefixes::new(settings.prefix_bytes),
            settings,
            model,
            rows: (0..rows).map(|_| None).collect(),
            remains: vec![None; rows],
            decoding: 0,
            waiting: Vec::new(),
            searches: Vec::new(),
            ahead: None,
            taken: 0,
            came: 0,
            graphs,
            draft_model,
        }
    }

    fn report(&self) {
        let gauge = |name: &'static str, value: usize| gauge!(name, "model" => self.model.clone()).set(value as f64);
        gauge("quintet_text_slots_busy", self.rows.iter().flatten().count());
        gauge("quintet_text_kv_bytes", self.graphs.cache().committed_tokens() * self.token_bytes());
        gauge("quintet_text_prefix_bytes", self.prefixes.bytes());
    }

    fn enqueue(&mut self, tokens: Vec<u32>, scope: Arc<str>, priority: u8, work: Work, reserved: usize, place: OwnedSemaphorePermit) {
        self.came += 1;
        self.taken += tokens.len() as u64;
        let rank = Rank { priority, due: self.taken, number: self.came };
        let prompt = tokens.len();
        self.waiting.push(Sequence {
            tokens,
            prompt,
            done: 0,
            in_place: 0,
            scope,
            rank,
            work,
            reserved,
            place: Some(place),
            cached: 0,
            times: Times::now(),
            speculator: None,
        });
    }

    /// What drafts for a sequence of at most so many tokens, where something shall.
    fn speculator(&self, speculation: Speculation, limit: usize) -> Option<Box<Speculator>> {
        let cost = cost(self.graphs.form);
        match (speculation, &self.draft_model) {
            (Speculation::PromptLookup, _) => Some(Box::new(Speculator::lookup(cost, limit))),
            (Speculation::Draft, Some(model)) => Some(Box::new(Speculator::model(cost + model.cost(), limit, model.context()))),
            (Speculation::Draft, None) | (Speculation::Off, _) => None,
        }
    }

    /// Frees the rows of sequences that nobody waits for.
    fn drop_abandoned(&mut self) {
        self.drop_abandoned_searches();
        self.waiting.retain(|sequence| !sequence.is_abandoned());
        for row in (0..self.rows.len()).rev() {
            if self.rows.get(row).and_then(Option::as_ref).is_some_and(Sequence::is_abandoned) {
                self.leave(row);
            }
        }
    }

    /// Takes a sequence out of its row, and fills the gap where it left one among those that decode.
    pub(super) fn leave(&mut self, row: usize) -> Option<Sequence> {
        let sequence = self.rows.get_mut(row).and_then(Option::take)?;
        self.note_remains(row, &sequence);
        if row < self.decoding {
            self.decoding -= 1;
            self.relocate(self.decoding, row);
        }
        Some(sequence)
    }

    /// Moves a sequence to a row that is free.
    fn relocate(&mut self, from: usize, to: usize) {
        if from != to
            && let Some(sequence) = self.rows.get_mut(from).and_then(Option::take)
        {
            self.graphs.cache_mut().copy_row(from, to, sequence.done);
            self.note_remains(from, &sequence);
            if let Some(free) = self.rows.get_mut(to) {
                *free = Some(sequence);
            }
        }
    }

    /// A sequence has left a row: what it leaves there that another may go on from.
    fn note_remains(&mut self, row: usize, sequence: &Sequence) {
        // Few tokens are not worth it, and a prompt of one alone took another path through the attention than the first of several.
        let is_worth = |tokens: &&[u32]| self.settings.prefix_bytes > 0 && tokens.len() >= BLOCK;
        let tokens = sequence.tokens.get(..self.reusable(sequence)).filter(is_worth);
        let remains = tokens.map(|tokens| Remains::new(&sequence.scope, tokens));
        if let Some(noted) = self.remains.get_mut(row) {
            *noted = remains;
        }
    }

    /// How many tokens of a sequence others may go on from: of a prompt that has been run, or where bits do not matter of all that has.
    fn reusable(&self, sequence: &Sequence) -> usize {
        if self.settings.exact { sequence.prompt.min(sequence.done) } else { sequence.done }
    }

    /// A sequence's prompt has been run: it goes behind those that decode.
    pub(super) fn begin_to_decode(&mut self, row: usize) {
        let target = self.decoding;
        if let Some(mut other) = self.rows.get_mut(target).filter(|_| row != target).and_then(Option::take) {
            // Another prompt is under way there: they change places.
            let held = self.graphs.cache().read(target, 0..other.done);
            other.in_place = 0;
            self.relocate(row, target);
            self.graphs.cache_mut().write(row, 0, &held);
            if let Some(free) = self.rows.get_mut(row) {
                *free = Some(other);
            }
        } else {
            self.relocate(row, target);
        }
        self.decoding += 1;
    }

    /// A sequence cannot go on.
    fn fail(&mut self, sequence: Sequence, error: Error) {
        match &sequence.work {
            Work::Beam(beam) => self.fail_search(beam.search, &error),
            _ => sequence.fail(error),
        }
    }

    /// Runs a chunk of the prompt that is first in rank.
    fn prefill(&mut self) {
        let first = |scheduler: &Self| {
            let rank = |row: &usize| scheduler.rows.get(*row).and_then(Option::as_ref).map(|sequence| sequence.rank);
            (scheduler.decoding..scheduler.rows.len()).filter(|row| rank(row).is_some()).min_by_key(rank)
        };
        let Some(row) = first(self) else { return };
        if self.prefill_draft(row) {
            return;
        }
        self.find_prefix(row);
        let Some(sequence) = self.rows.get(row).and_then(Option::as_ref) else { return };
        let (done, end) = (sequence.done, sequence.prefill_end(self.settings.exact));
        let taken = chunk(end - done, self.pace.chunk(self.decoding));
        self.make_room(|scheduler| {
            let is_there = scheduler.rows.get(row).is_some_and(Option::is_some);
            if is_there { (done + taken).saturating_sub(scheduler.graphs.cache().committed(row)) } else { 0 }
        });
        // Making room may have moved or removed it.
        let Some(row) = first(self) else { return };
        let Some(sequence) = self.rows.get_mut(row).and_then(Option::as_mut) else { return };
        if sequence.done != done {
            return;
        }

        let began = Instant::now();
        let tokens = done..done + taken;
        let wanted = sequence.first_wanted().saturating_sub(done).min(taken - 1);
        let outcome = self.graphs.prefill(row, done, sequence.tokens.get(tokens.clone()).unwrap_or_default(), wanted);
        sequence.done = tokens.end;
        let mut ended = false;
        let mut at = done + wanted;
        let first_wanted = sequence.first_wanted();
        let outcome = outcome.and_then(|logits| {
            logits.rows(|logits| {
                if !ended && at >= first_wanted {
                    ended = sequence.advance(at, logits, &self.model, &self.searches);
                }
                at += 1;
            })
        });
        self.pace.prefilled(taken, began.elapsed());
        if let Err(error) = outcome {
            tracing::error!(%error, model = self.model, "a prompt's run failed");
            if let Some(sequence) = self.leave(row) {
                self.fail(sequence, error);
            }
            // What a run that failed has written is not known.
            self.remains.fill(None);
            return;
        }
        if tokens.end >= end {
            self.keep_prefix(row);
        }
        if ended {
            if let Some(sequence) = self.leave(row) {
                sequence.finish();
            }
        } else if tokens.end >= end {
            self.begin_to_decode(row);
            self.advance_searches();
        }
    }

    /// Writes what is known of a prompt into its row, before its first chunk.
    fn find_prefix(&mut self, row: usize) {
        let Some(sequence) = self.rows.get_mut(row).and_then(Option::as_mut).filter(|sequence| sequence.done == 0) else { return };
        let end = sequence.prefill_end(self.settings.exact);
        // A rest of one token would take another path through the attention, and what is wanted must be run.
        let usable = end.saturating_sub(2).min(sequence.first_wanted());
        let in_place = usable.min(sequence.in_place);
        let cache = self.graphs.cache_mut();
        let blocks = self.prefixes.find(&sequence.scope, &sequence.tokens).into_iter().take(usable / BLOCK).enumerate();
        for (index, block) in blocks.skip(in_place / BLOCK) {
            cache.write(row, index * BLOCK, block);
            sequence.done = (index + 1) * BLOCK;
        }
        sequence.done = sequence.done.max(in_place);
        let (found, prompt) = (sequence.done, sequence.prompt);
        if sequence.times.first_token.is_none() {
            sequence.cached = found;
        }
        let count = |kind: &'static str, tokens: usize| {
            counter!("quintet_text_prefix_tokens_total", "model" => self.model.clone(), "kind" => kind).increment(tokens as u64);
        };
        count("hit", found);
        count("miss", prompt.saturating_sub(found));
    }

    /// Keeps the keys and values of what others may go on from.
    fn keep_prefix(&mut self, row: usize) {
        let Some(sequence) = self.rows.get(row).and_then(Option::as_ref) else { return };
        let cache = self.graphs.cache();
        let tokens = sequence.tokens.get(..self.reusable(sequence)).unwrap_or_default();
        self.prefixes.keep(&sequence.scope, tokens, |at| cache.read(row, at..at + BLOCK));
    }

    /// Runs the next token of every sequence that decodes.
    fn decode(&mut self) {
        let grows = |scheduler: &Self| {
            let rows = scheduler.rows.iter().take(scheduler.decoding).enumerate();
            rows.filter(|(row, sequence)| sequence.as_ref().is_some_and(|sequence| sequence.done >= scheduler.graphs.cache().committed(*row))).count()
        };
        self.make_room(grows);
        let running: Vec<&Sequence> = self.rows.iter().take(self.decoding).flatten().collect();
        if running.is_empty() {
            return;
        }
        histogram!("quintet_text_batch_size", "model" => self.model.clone()).record(running.len() as f64);
        let began = Instant::now();
        let tokens: Vec<u32> = running.iter().filter_map(|sequence| sequence.tokens.get(sequence.done).copied()).collect();
        let pasts: Vec<usize> = running.iter().map(|sequence| sequence.done).collect();
        let outcome = self.graphs.decode(&tokens, &pasts);
        let (rows, model, searches) = (&mut self.rows, &self.model, &self.searches);
        let mut ended = Vec::new();
        let mut row = 0;
        let outcome = outcome.and_then(|logits| {
            logits.rows(|logits| {
                if let Some(sequence) = rows.get_mut(row).and_then(Option::as_mut) {
                    sequence.done += 1;
                    if sequence.advance(sequence.done - 1, logits, model, searches) {
                        ended.push(row);
                    }
                }
                row += 1;
            })
        });
        self.pace.decoded(began.elapsed());
        if let Err(error) = outcome {
            self.fail_decoding(&error);
            return;
        }
        self.end_rows(ended);
        self.advance_searches();
    }

    /// A run of the sequences that decode has failed: each has lost its place in the cache.
    pub(super) fn fail_decoding(&mut self, error: &Error) {
        tracing::error!(%error, model = self.model, "a decode step failed");
        let message = error.to_string();
        while self.decoding > 0 {
            if let Some(sequence) = self.leave(self.decoding - 1) {
                self.fail(sequence, Error::Runtime { doing: "decode".to_owned(), message: message.clone() });
            }
        }
        self.remains.fill(None);
    }

    /// Takes sequences that have ended out of their rows, which are in ascending order.
    pub(super) fn end_rows(&mut self, ended: Vec<usize>) {
        // From the last on, so that a gap is filled by one that goes on.
        for row in ended.into_iter().rev() {
            if !self.settings.exact {
                self.keep_prefix(row);
            }
            if let Some(sequence) = self.leave(row) {
                sequence.finish();
            }
        }
    }
}
