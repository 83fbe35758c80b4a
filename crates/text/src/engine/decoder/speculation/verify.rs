//! The run that verifies drafts.

use std::time::Instant;

use metrics::{counter, histogram};

use super::super::{ragged::Extension, scheduler::Scheduler, sequence::Sequence};

impl Scheduler {
    /// Settles what each sequence that decodes drafts; says whether there is a draft at all.
    pub(in super::super) fn speculate(&mut self) -> bool {
        for sequence in self.rows.iter_mut().take(self.decoding).flatten() {
            sequence.propose();
        }
        self.draft();
        self.rows.iter().take(self.decoding).flatten().any(|sequence| !sequence.draft().is_empty())
    }

    /// Runs the next token of every sequence that decodes, and behind it what is drafted: each one's tokens are drawn one after the
    /// other for as long as they are what was drafted. The keys and values of the rest are written over by what comes.
    /// The drafts were begun at `began`, which counts for the time between two tokens.
    pub(in super::super) fn verify(&mut self, began: Instant) {
        let grows = |scheduler: &Self| {
            let rows = scheduler.rows.iter().take(scheduler.decoding).enumerate();
            let of = |(row, sequence): (usize, &Option<Sequence>)| {
                let needed = sequence.as_ref().map_or(0, |sequence| sequence.done + 1 + sequence.draft().len());
                needed.saturating_sub(scheduler.graphs.cache().committed(row))
            };
            rows.map(of).sum()
        };
        self.make_room(grows);
        let extensions: Vec<Extension> =
            self.rows.iter().take(self.decoding).enumerate().filter_map(|(row, sequence)| sequence.as_ref()?.extension(row)).collect();
        if extensions.is_empty() {
            return;
        }
        histogram!("quintet_text_batch_size", "model" => self.model.clone()).record(extensions.len() as f64);
        let length = |sequence: &Option<Sequence>| sequence.as_ref().map_or(0, |sequence| sequence.tokens.len());
        let lengths: Vec<usize> = extensions.iter().map(|extension| self.rows.get(extension.row).map_or(0, length)).collect();
        let (rows, model, searches) = (&mut self.rows, &self.model, &self.searches);
        let (mut ended, mut goes_on, mut accepted) = (Vec::new(), true, vec![0; extensions.len()]);
        let outcome = self.graphs.extend(&extensions, |index, place, logits| {
            goes_on |= place == 0;
            let Some(extension) = extensions.get(index).filter(|_| goes_on) else { return };
            let Some(sequence) = rows.get_mut(extension.row).and_then(Option::as_mut) else { return };
            sequence.done += 1;
            let is_over = sequence.advance(sequence.done - 1, logits, model, searches);
            if is_over {
                ended.push(extension.row);
            }
            let is_drafted = extension.tokens.get(place + 1).is_some_and(|drafted| sequence.tokens.get(sequence.done) == Some(drafted));
            if let Some(accepted) = accepted.get_mut(index).filter(|_| is_drafted) {
                *accepted += 1;
            }
            goes_on = is_drafted && !is_over;
        });
        self.pace.decoded(began.elapsed());
        if let Err(error) = outcome {
            self.fail_decoding(&error);
            return;
        }
        let count = |kind: &'static str, tokens: usize| {
            counter!("quintet_text_draft_tokens_total", "model" => self.model.clone(), "kind" => kind).increment(tokens as u64);
        };
        for ((extension, accepted), length) in extensions.iter().zip(accepted).zip(lengths) {
            let drafted = extension.tokens.len().saturating_sub(1);
            let sequence = self.rows.get_mut(extension.row).and_then(Option::as_mut);
            if let Some(sequence) = sequence.filter(|_| drafted > 0) {
                sequence.settle(accepted, length);
                count("drafted", drafted);
                count("accepted", accepted);
            }
        }
        ended.sort_unstable();
        self.end_rows(ended);
        self.advance_searches();
    }
}

impl Sequence {
    /// Settles what is drafted behind the tokens that have been run and the one that comes next.
    fn propose(&mut self) {
        if let (Some(speculator), Some(known)) = (&mut self.speculator, self.tokens.get(..=self.done)) {
            speculator.propose(known);
        }
    }

    /// What is drafted behind the token that comes next.
    fn draft(&self) -> &[u32] {
        self.speculator.as_ref().map_or(&[], |speculator| speculator.draft(self.done + 1))
    }

    /// What is run of it next, in this row.
    fn extension(&self, row: usize) -> Option<Extension> {
        let next = self.tokens.get(self.done)?;
        let tokens = std::iter::once(next).chain(self.draft()).copied().collect();
        Some(Extension { row, past: self.done, tokens })
    }
}
