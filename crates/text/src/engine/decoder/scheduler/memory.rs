//! Who gets a row of the cache, and who gives one up where its memory runs out.

use std::{cmp::Reverse, time::Instant};

use metrics::{counter, histogram};
use quintet_onnx::Error;

use super::{
    super::{
        prefixes::BLOCK,
        sequence::{Sequence, Work},
        speculation::DraftModel,
    },
    Scheduler,
};

impl Scheduler {
    /// The bytes that a sequence's token takes, in the cache of what drafts for it too.
    pub(super) fn token_bytes(&self) -> usize {
        self.graphs.cache().token_bytes() + self.draft_model.as_ref().map_or(0, DraftModel::token_bytes)
    }

    fn budget(&self) -> usize {
        self.settings.cache_bytes / self.token_bytes().max(1)
    }

    /// Gives waiting sequences rows, the first in rank first, while there are rows and memory for their prompts and some tokens.
    pub(super) fn admit(&mut self) {
        while let Some(index) = (0..self.waiting.len()).min_by_key(|index| self.waiting.get(*index).map(|sequence| sequence.rank)) {
            let Some((row, in_place)) = self.free_row(index) else { return };
            let needed = |sequence: &Sequence| (sequence.tokens.len() + BLOCK) * (1 + sequence.reserved);
            let wanted: usize = self.rows.iter().flatten().map(needed).sum();
            let Some(next) = self.waiting.get(index).map(needed) else { return };
            if wanted > 0 && wanted + next > self.budget() {
                return;
            }
            let taken: usize = self.rows.iter().flatten().map(|sequence| 1 + sequence.reserved).sum();
            let reserved = self.waiting.get(index).map_or(0, |sequence| sequence.reserved);
            if taken + 1 + reserved > self.rows.len() {
                return;
            }
            let lacks = self.graphs.cache().committed_tokens() + next.saturating_sub(self.graphs.cache().committed(row)) > self.budget();
            if lacks {
                self.release_free_rows();
            }
            let mut sequence = self.waiting.swap_remove(index);
            sequence.in_place = if lacks { 0 } else { in_place };
            drop(sequence.place.take());
            if sequence.times.started.is_none() {
                sequence.times.started = Some(Instant::now());
                histogram!("quintet_text_queue_seconds", "model" => self.model.clone()).record(sequence.times.came.elapsed());
            }
            if let Some(free) = self.rows.get_mut(row) {
                *free = Some(sequence);
            }
        }
    }

    /// The free row that holds most of what a waiting sequence begins with, and how much that is.
    fn free_row(&self, waiting: usize) -> Option<(usize, usize)> {
        let sequence = self.waiting.get(waiting)?;
        let shared = |row: usize| {
            let remains = self.remains.get(row).and_then(Option::as_ref);
            remains.map_or(0, |remains| remains.shared(&sequence.scope, &sequence.tokens))
        };
        let free = (self.decoding..self.rows.len()).filter(|row| self.rows.get(*row).is_some_and(Option::is_none));
        // The first of several, next to those that decode.
        free.map(|row| (row, shared(row))).max_by_key(|(row, shared)| (*shared, Reverse(*row)))
    }

    pub(super) fn release_free_rows(&mut self) {
        for row in 0..self.rows.len() {
            if self.rows.get(row).is_some_and(Option::is_none) {
                self.graphs.cache_mut().release(row);
            }
        }
        self.remains.fill(None);
        let used = self.draft_rows();
        if let Some(model) = &mut self.draft_model {
            model.release_all_but(&used);
        }
    }

    /// Gives back the memory of free rows, and in the others what earlier sequences left behind those that have them now.
    fn trim_rows(&mut self) {
        self.release_free_rows();
        for (row, sequence) in self.rows.iter_mut().enumerate() {
            if let Some(sequence) = sequence {
                sequence.in_place = 0;
                self.graphs.cache_mut().trim(row, sequence.done);
            }
        }
        self.trim_draft_rows();
    }

    /// Makes memory for as many more tokens as are needed, which that of earlier sequences counts against: that of free rows, then that of
    /// the sequence that is last in rank, which begins anew later. One sequence alone always fits.
    pub(in super::super) fn make_room(&mut self, needed: impl Fn(&Self) -> usize) {
        let lacks = |scheduler: &Self| scheduler.graphs.cache().committed_tokens() + needed(scheduler) > scheduler.budget();
        if !lacks(self) {
            return;
        }
        self.trim_rows();
        while lacks(self) {
            let occupied = || (0..self.rows.len()).filter(|row| self.rows.get(*row).is_some_and(Option::is_some));
            if occupied().count() < 2 {
                return;
            }
            let Some(last) = occupied().max_by_key(|row| self.rows.get(*row).and_then(Option::as_ref).map(|sequence| sequence.rank)) else { return };
            counter!("quintet_text_preemptions_total", "model" => self.model.clone()).increment(1);
            self.preempt(last);
            self.trim_rows();
        }
    }

    /// Takes a sequence's row away; it begins anew when its turn comes.
    fn preempt(&mut self, row: usize) {
        let search = |sequence: &Sequence| match &sequence.work {
            Work::Beam(beam) => Some(beam.search),
            _ => None,
        };
        let number = self.rows.get(row).and_then(Option::as_ref).and_then(search);
        match number {
            None => {
                if let Some(mut sequence) = self.leave(row) {
                    sequence.done = 0;
                    if let Some(speculator) = &mut sequence.speculator {
                        speculator.restart();
                    }
                    self.waiting.push(sequence);
                }
            }
            Some(number) if self.rows.iter().flatten().all(|sequence| search(sequence) == Some(number)) => {
                let message = "its beams together do not fit text.kv_cache_mb".to_owned();
                self.fail_search(number, &Error::Runtime { doing: "search".to_owned(), message });
            }
            Some(number) => self.restart_search(number),
        }
    }
}
