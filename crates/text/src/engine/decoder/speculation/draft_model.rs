//! A smaller model of the same tokens that drafts.

use quintet_onnx::{Error, ModelFolder, Runtime};

use super::{
    super::{
        chunks::chunk,
        form::Files,
        graphs::{Graphs, Room, Sessions},
        ragged::Extension,
        scheduler::Scheduler,
        sequence::Sequence,
        shape::ModelShape,
    },
    MOST, Source, Speculator,
};
use crate::engine::sampling::likeliest_token;

/// The most tokens of a sequence that it reads in one run to catch up with it.
const CATCH_UP: usize = 512;

/// A model that drafts before there is a cache for it.
pub(in super::super) struct DraftSessions {
    sessions: Sessions,
    /// The most tokens of a sequence that it can read.
    context: usize,
    head_size: Option<usize>,
    cost: f64,
}

impl DraftSessions {
    /// Opens the folder's graphs, for a decoder whose sequences have at most so many tokens.
    pub(in super::super) fn open(
        folder: &ModelFolder,
        decoder: &ModelFolder,
        runtime: &Runtime,
        verify: bool,
        context: usize,
    ) -> Result<Self, crate::Error> {
        let shape = ModelShape::read(folder)?;
        let sessions = Sessions::open(folder, &Files::of(folder)?, runtime, verify)?;
        let cost = (weights(folder) as f64 / weights(decoder).max(1) as f64).min(1.0);
        Ok(Self { sessions, context: shape.context.min(context), head_size: shape.head_size, cost })
    }

    /// The bytes of a token's keys and values.
    pub(in super::super) fn token_bytes(&self) -> Result<usize, Error> {
        self.sessions.token_bytes(self.head_size)
    }

    /// The model for a decoder of this vocabulary, with a cache of so many rows or as many as so many bytes of a GPU's memory have room
    /// for.
    pub(in super::super) fn with_cache(self, rows: usize, bytes: usize, vocabulary: usize) -> Result<DraftModel, Error> {
        let Self { sessions, context, head_size, cost } = self;
        let graphs = sessions.with_cache(Room { rows, context, head_size, bytes })?;
        let vocabulary = vocabulary.min(graphs.vocabulary()) as u32;
        Ok(DraftModel { graphs, vocabulary, context, cost })
    }
}

/// The model that drafts, with a cache of its own. It runs on the decoder's thread, between the decoder's runs.
pub(in super::super) struct DraftModel {
    graphs: Graphs,
    /// The tokens that both models have: one may pad its vocabulary.
    vocabulary: u32,
    /// The most tokens of a sequence that it can read.
    context: usize,
    /// The share of the decoder's step that one of its own takes: by the bytes of their weights, which a step reads.
    cost: f64,
}

impl DraftModel {
    /// How many sequences it can draft for at once.
    pub(in super::super) fn rows(&self) -> usize {
        self.graphs.cache().rows()
    }

    pub(in super::super) fn context(&self) -> usize {
        self.context
    }

    pub(in super::super) fn cost(&self) -> f64 {
        self.cost
    }

    /// The bytes of a token's keys and values.
    pub(in super::super) fn token_bytes(&self) -> usize {
        self.graphs.cache().token_bytes()
    }

    /// Gives the memory of rows that no sequence has back to the system.
    pub(in super::super) fn release_all_but(&mut self, used: &[usize]) {
        for row in (0..self.graphs.cache().rows()).filter(|row| !used.contains(row)) {
            self.graphs.cache_mut().release(row);
        }
    }

    /// Runs tokens that a row lacks, in pieces, until those of the sequence that are left can be run together with their logits. Counts
    /// alone decide how, so that what is drafted then depends on the sequence alone.
    fn catch_up(&mut self, row: usize, held: &mut usize, tokens: &[u32]) -> Result<(), Error> {
        while tokens.len() > *held + MOST + 1 {
            let until = *held + chunk(tokens.len() - 1 - *held, CATCH_UP);
            self.read(row, *held, tokens.get(*held..until).unwrap_or_default())?;
            *held = until;
        }
        Ok(())
    }

    /// Runs a chunk of a prompt in a row.
    fn read(&mut self, row: usize, past: usize, tokens: &[u32]) -> Result<(), Error> {
        let tokens: Vec<u32> = tokens.iter().map(|token| self.known(*token)).collect();
        self.graphs.prefill(row, past, &tokens, tokens.len().saturating_sub(1)).map(drop)
    }

    /// A token as the model knows it: one that only the decoder's padding has is no text, and any other may stand for it.
    fn known(&self, token: u32) -> u32 {
        if token < self.vocabulary { token } else { 0 }
    }

    /// Extends rows, which need not be in order, and gives the likeliest token behind each.
    fn next(&mut self, extensions: Vec<Extension>) -> Result<Vec<Option<u32>>, Error> {
        let mut order: Vec<(usize, Extension)> = extensions.into_iter().enumerate().collect();
        order.sort_by_key(|(_, extension)| extension.row);
        let (order, mut extensions): (Vec<usize>, Vec<Extension>) = order.into_iter().unzip();
        for token in extensions.iter_mut().flat_map(|extension| &mut extension.tokens) {
            *token = self.known(*token);
        }
        let vocabulary = self.vocabulary as usize;
        let mut next = vec![None; extensions.len()];
        self.graphs.extend(&extensions, |index, place, logits| {
            let is_last = extensions.get(index).is_some_and(|extension| place + 1 == extension.tokens.len());
            if let Some(next) = order.get(index).filter(|_| is_last).and_then(|place| next.get_mut(*place)) {
                *next = likeliest_token(logits.get(..vocabulary).unwrap_or(logits));
            }
        })?;
        Ok(next)
    }
}

/// Bytes of a folder's graphs and of what lies beside them.
fn weights(folder: &ModelFolder) -> u64 {
    let graphs = folder.files().filter(|file| file.contains(".onnx"));
    graphs.filter_map(|file| Some(std::fs::metadata(folder.file(file).ok()?).ok()?.len())).sum()
}

/// A sequence that is drafted for.
struct Drafting {
    row: usize,
    draft_row: usize,
    known: usize,
    wanted: usize,
    draft: Vec<u32>,
}

impl Scheduler {
    /// The rows of the drafting model's cache that sequences have.
    pub(in super::super) fn draft_rows(&self) -> Vec<usize> {
        self.rows.iter().flatten().filter_map(|sequence| sequence.speculator.as_ref()?.row()).collect()
    }

    /// Gives back what earlier sequences left in rows of the drafting model's cache behind those that have them now.
    pub(in super::super) fn trim_draft_rows(&mut self) {
        let Some(model) = &mut self.draft_model else { return };
        for speculator in self.rows.iter().flatten().filter_map(|sequence| sequence.speculator.as_ref()) {
            if let Source::Model { row: Some(row), held, .. } = speculator.source {
                // A draft under way stands behind what is known.
                model.graphs.cache_mut().trim(row, held.max(speculator.known + speculator.draft.len()));
            }
        }
    }

    /// Has the drafting model read a chunk of the prompt in this row; says whether there was one. The decoder's own run of the prompt
    /// comes when it has read all, so that from the first token on what it drafts depends on the sequence alone.
    pub(in super::super) fn prefill_draft(&mut self, row: usize) -> bool {
        let used = self.draft_rows();
        let budget = self.pace.chunk(self.decoding);
        let Some(model) = &mut self.draft_model else { return false };
        let Some(sequence) = self.rows.get_mut(row).and_then(Option::as_mut) else { return false };
        let (prompt, Some(speculator)) = (sequence.prompt, &mut sequence.speculator) else { return false };
        let Source::Model { row: place, held, context } = &mut speculator.source else { return false };
        if *held >= prompt || prompt >= *context {
            return false;
        }
        let Some(free) = place.or_else(|| (0..model.graphs.cache().rows()).find(|row| !used.contains(row))) else { return false };
        *place = Some(free);
        let until = *held + chunk(prompt - *held, budget);
        let outcome = model.read(free, *held, sequence.tokens.get(*held..until).unwrap_or_default());
        *held = until;
        if let Err(error) = outcome {
            self.stop_drafting(&[row], &error);
        }
        true
    }

    /// Has the drafting model write what sequences want: it reads what they have become since, and then goes on one token at a time.
    pub(super) fn draft(&mut self) {
        let Some(model) = &mut self.draft_model else { return };
        let (mut work, mut extensions, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
        for (row, sequence) in self.rows.iter_mut().take(self.decoding).enumerate() {
            let Some(Sequence { tokens, done, speculator: Some(speculator), .. }) = sequence else { continue };
            let Source::Model { row: Some(draft_row), held, .. } = &mut speculator.source else { continue };
            let (draft_row, known) = (*draft_row, speculator.known);
            if speculator.wanted == 0 || !speculator.draft.is_empty() || known != *done + 1 {
                continue;
            }
            let tokens = tokens.get(..known).unwrap_or_default();
            work.push(Drafting { row, draft_row, known, wanted: speculator.wanted, draft: Vec::new() });
            outcome = model.catch_up(draft_row, held, tokens);
            if outcome.is_err() {
                break;
            }
            extensions.push(Extension { row: draft_row, past: *held, tokens: tokens.get(*held..).unwrap_or_default().to_vec() });
        }
        let mut open: Vec<usize> = (0..work.len()).collect();
        while outcome.is_ok() && !open.is_empty() {
            match model.next(std::mem::take(&mut extensions)) {
                Ok(next) => {
                    for (index, token) in open.iter().zip(next) {
                        let Some(drafting) = work.get_mut(*index) else { continue };
                        match token {
                            Some(token) => drafting.draft.push(token),
                            // Its logits are not numbers: the draft ends here.
                            None => drafting.wanted = drafting.draft.len(),
                        }
                    }
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            (open, extensions) = extensions_left(&work, &open);
        }
        if let Err(error) = outcome {
            let rows: Vec<usize> = work.iter().map(|drafting| drafting.row).collect();
            self.stop_drafting(&rows, &error);
            return;
        }
        for drafting in work {
            if let Some(speculator) = self.rows.get_mut(drafting.row).and_then(Option::as_mut).and_then(|sequence| sequence.speculator.as_mut()) {
                speculator.draft = drafting.draft;
            }
        }
    }

    /// The drafting model has failed: these sequences go on without it.
    fn stop_drafting(&mut self, rows: &[usize], error: &Error) {
        tracing::error!(%error, model = self.model, "a run of the draft model failed: sequences go on without drafts");
        for row in rows {
            if let Some(sequence) = self.rows.get_mut(*row).and_then(Option::as_mut) {
                sequence.speculator = None;
            }
        }
    }
}

/// Who wants another token, of those that were given one, and what is run for it.
fn extensions_left(work: &[Drafting], open: &[usize]) -> (Vec<usize>, Vec<Extension>) {
    let next = |index: &usize| {
        let drafting = work.get(*index).filter(|drafting| drafting.draft.len() < drafting.wanted)?;
        let token = *drafting.draft.last()?;
        let past = drafting.known + drafting.draft.len() - 1;
        Some((*index, Extension { row: drafting.draft_row, past, tokens: vec![token] }))
    };
    open.iter().filter_map(next).unzip()
}

impl Speculator {
    /// The row of the drafting model's cache that it has.
    fn row(&self) -> Option<usize> {
        match self.source {
            Source::Model { row, .. } => row,
            Source::Lookup { .. } => None,
        }
    }
}
