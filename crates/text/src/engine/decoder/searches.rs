//! Beam searches: several rows that go on together, in lock step.

use std::{sync::Arc, time::Instant};

use quintet_onnx::Error;
use tokio::sync::mpsc;

use super::{
    beams::{BeamSearch, Next},
    scheduler::Scheduler,
    sequence::{Sequence, Work, account},
};
use crate::engine::{
    Event, FinishReason,
    sampling::{Drawn, Limits, Sampler},
};

/// A search under way. Its beams are sequences of their own, which name it.
pub(super) struct Search {
    pub(super) number: u64,
    pub(super) beams: BeamSearch,
    /// As it was at its beginning, to which it returns where it loses its rows.
    pub(super) fresh: BeamSearch,
    pub(super) prompt: usize,
    pub(super) min_new_tokens: usize,
    pub(super) eos: Arc<[u32]>,
    pub(super) width: usize,
    /// That of a beam before its first token.
    pub(super) sampler: Sampler,
    /// One for each text that is asked for, the best first.
    pub(super) events: Vec<mpsc::Sender<Event>>,
}

/// What a sequence is to its search.
pub(super) struct Beam {
    pub(super) search: u64,
    /// Its place among the beams.
    pub(super) index: usize,
    pub(super) sampler: Sampler,
    /// The likeliest tokens after it, once they are known.
    pub(super) candidates: Option<Vec<(u32, f32)>>,
}

impl Beam {
    /// Takes the logits after its last token.
    pub(super) fn advance(&mut self, logits: &[f32], search: &Search, generated: usize) {
        let barred = if generated < search.min_new_tokens { &*search.eos } else { &[] };
        self.candidates = Some(self.sampler.best(logits, search.beams.candidates(), Limits { barred, ..Limits::default() }));
    }
}

impl Search {
    pub(super) fn is_abandoned(&self) -> bool {
        self.events.iter().all(mpsc::Sender::is_closed)
    }
}

impl Scheduler {
    /// The rows of a search's beams, in the beams' order.
    fn beams_of(&self, number: u64) -> Vec<usize> {
        let index = |row: &usize| match self.rows.get(*row)?.as_ref()?.work {
            Work::Beam(ref beam) if beam.search == number => Some(beam.index),
            _ => None,
        };
        let mut rows: Vec<usize> = (0..self.rows.len()).filter(|row| index(row).is_some()).collect();
        rows.sort_by_key(index);
        rows
    }

    /// Takes a step in each search all of whose beams have been run.
    pub(super) fn advance_searches(&mut self) {
        let mut at = 0;
        while let Some(search) = self.searches.get(at) {
            let number = search.number;
            let rows = self.beams_of(number);
            let candidates = |row: &usize| match &self.rows.get(*row)?.as_ref()?.work {
                Work::Beam(beam) => beam.candidates.clone(),
                _ => None,
            };
            let known: Option<Vec<Vec<(u32, f32)>>> = rows.iter().map(candidates).collect();
            let Some(known) = known.filter(|known| !known.is_empty()) else {
                at += 1;
                continue;
            };
            if known.iter().all(Vec::is_empty) {
                self.fail_search(number, &nothing_drawn());
                continue;
            }
            let next = self.searches.get_mut(at).map_or(Next::Done, |search| search.beams.advance(&known));
            match next {
                Next::Done => self.finish_search(at, &rows),
                Next::Beams(beams) => {
                    self.rearrange(number, &rows, &beams);
                    at += 1;
                }
            }
        }
    }

    /// Puts the beams that come next into rows: the first child of a beam stays in its parent's, the others take rows of beams
    /// without children, or rows that the search has kept free.
    fn rearrange(&mut self, number: u64, rows: &[usize], next: &[(usize, u32)]) {
        let mut placed: Vec<(usize, Sequence)> = Vec::with_capacity(next.len());
        let mut spare: Vec<usize> =
            (0..rows.len()).filter(|parent| !next.iter().any(|(other, _)| other == parent)).filter_map(|parent| rows.get(parent).copied()).collect();
        let mut kept = vec![false; rows.len()];
        let mut copies = Vec::new();
        let mut homeless = Vec::new();
        let now = Instant::now();
        for (index, (parent, token)) in next.iter().enumerate() {
            let Some(&parent_row) = rows.get(*parent) else { continue };
            let Some(child) = self.rows.get(parent_row).and_then(Option::as_ref).and_then(|parent| parent.child(index, *token, now)) else {
                continue;
            };
            let is_first = kept.get_mut(*parent).is_some_and(|kept| !std::mem::replace(kept, true));
            if is_first {
                placed.push((parent_row, child));
            } else if let Some(row) = spare.pop() {
                copies.push((parent_row, row, child.done));
                placed.push((row, child));
            } else {
                homeless.push((parent_row, child));
            }
        }
        for (from, to, tokens) in copies {
            self.graphs.cache_mut().copy_row(from, to, tokens);
        }
        for (row, child) in placed {
            if let Some(place) = self.rows.get_mut(row) {
                *place = Some(child);
            }
        }
        for (from, child) in homeless {
            let Some(row) = (self.decoding..self.rows.len()).find(|row| self.rows.get(*row).is_some_and(Option::is_none)) else {
                self.fail_search(number, &Error::Runtime { doing: "search".to_owned(), message: "its rows are taken".to_owned() });
                return;
            };
            self.graphs.cache_mut().copy_row(from, row, child.done);
            if let Some(place) = self.rows.get_mut(row) {
                *place = Some(child);
            }
            self.begin_to_decode(row);
        }
        // From the last on: a gap is filled from the end.
        spare.sort_unstable();
        for row in spare.into_iter().rev() {
            self.leave(row);
        }
    }

    fn finish_search(&mut self, at: usize, rows: &[usize]) {
        let search = self.searches.swap_remove(at);
        let (cached, times) = rows
            .first()
            .and_then(|row| self.rows.get(*row)?.as_ref())
            .map_or((0, super::sequence::Times::now()), |sequence| (sequence.cached, sequence.times));
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        for row in rows.into_iter().rev() {
            self.leave(row);
        }
        let whole = search.beams.best(search.events.len());
        if whole.is_empty() {
            fail(search.events, &nothing_drawn());
            return;
        }
        for (whole, events) in whole.into_iter().zip(search.events) {
            let generated = whole.tokens.len() + usize::from(whole.by_eos);
            drop(events.try_send(Event::Begun(account(0, cached, &times))));
            for (token, log_probability) in whole.tokens {
                drop(events.try_send(Event::Token(Drawn { token, log_probability, top: Vec::new() })));
            }
            let reason = if whole.by_eos { FinishReason::Eos } else { FinishReason::Length };
            drop(events.try_send(Event::Finished(reason, account(generated, cached, &times))));
        }
    }

    /// Ends a search, its beams and what waits of it.
    pub(super) fn fail_search(&mut self, number: u64, error: &Error) {
        self.drop_search(number);
        let Some(at) = self.searches.iter().position(|search| search.number == number) else { return };
        fail(self.searches.swap_remove(at).events, error);
    }

    /// Takes a search's beams out of their rows, and gives one of them back.
    fn drop_search(&mut self, number: u64) -> Option<Sequence> {
        let mut rows = self.beams_of(number);
        rows.sort_unstable();
        let mut last = None;
        for row in rows.into_iter().rev() {
            last = self.leave(row).or(last);
        }
        self.waiting.retain(|sequence| !matches!(&sequence.work, Work::Beam(beam) if beam.search == number));
        last
    }

    pub(super) fn drop_abandoned_searches(&mut self) {
        let abandoned: Vec<u64> = self.searches.iter().filter(|search| search.is_abandoned()).map(|search| search.number).collect();
        for number in abandoned {
            self.drop_search(number);
            self.searches.retain(|search| search.number != number);
        }
    }

    /// A search loses its rows: it begins anew later, and ends as it would have.
    pub(super) fn restart_search(&mut self, number: u64) {
        let Some(mut sequence) = self.drop_search(number) else { return };
        let Some(search) = self.searches.iter_mut().find(|search| search.number == number) else { return };
        search.beams = search.fresh.clone();
        sequence.tokens.truncate(search.prompt);
        sequence.done = 0;
        sequence.reserved = search.width - 1;
        if let Work::Beam(beam) = &mut sequence.work {
            beam.index = 0;
            beam.candidates = None;
            beam.sampler = search.sampler.clone();
        }
        self.waiting.push(sequence);
    }
}

/// Why a search has no text.
pub(in crate::engine) fn nothing_drawn() -> Error {
    let message = "no token can be drawn: the model's logits are not numbers, or all tokens are ruled out".to_owned();
    Error::Runtime { doing: "search".to_owned(), message }
}

/// Tells all who wait for a search's texts that it has failed.
pub(in crate::engine) fn fail(events: Vec<mpsc::Sender<Event>>, error: &Error) {
    for events in events {
        drop(events.try_send(Event::Failed(Error::Runtime { doing: "search".to_owned(), message: error.to_string() })));
    }
}
