//! Speculative decoding: what may come next is proposed cheaply, and the model verifies several tokens in one run.
//!
//! Every token is drawn from the model's own logits with the request's own random numbers, as it would be without speculation; a
//! drafted token counts where it is what was drawn, and the first that is not ends the run's use (see `verify.rs`). So the
//! distribution is the model's own under every setting of the sampler and every guide, with nothing to correct. A drafted token only
//! spares the run that its successor would have needed.
//!
//! How a token is run decides its last bits, so what is drafted depends on the sequence alone: on its tokens, on how its drafts fared
//! and on counts, never on time or on what runs beside it. A sequence that lost its row begins its drafts anew, and as it is run again
//! it drafts the same at the same places.

mod acceptance;
mod draft_model;
mod lookup;
mod tokenizers;
mod verify;

use acceptance::{Acceptance, Cost};
pub(super) use draft_model::{DraftModel, DraftSessions};
use lookup::{LONGEST, Lookup, SHORTEST, continuation};
pub(super) use tokenizers::check as check_tokenizers;

use super::form::Form;
use crate::engine::Drafts;

/// The most tokens of a draft.
const MOST: usize = 16;

/// What is expected of a match of two, three, and up to eight or more tokens before anything is known of the text: too little for a
/// draft, so that the first of each kind are foretold alone. A passage that comes again is long, and one match in it that was right is
/// enough.
const EXPECTED_OF_MATCHES: [f64; LONGEST - SHORTEST + 1] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6];

/// What is expected of another model before anything is known of the text.
const EXPECTED_OF_MODELS: f64 = 0.7;

/// The share of a step that a verification costs beside the steps of sequences that draft nothing: measured with a small model and
/// eight sequences. With another model nearly all sequences draft at once.
const RUN: f64 = 0.8;

/// The share of a step that one more token in a run costs.
///
/// Measured on two cores with 8-bit, 4-bit and fp32 weights of 125 million: 0.08 to 0.3 where the past is in place. Where each step copies
/// the past, it is the copy that costs.
pub(super) fn cost(form: Form) -> f64 {
    match form {
        Form::Packed | Form::Builder => 0.3,
        Form::Concat => 0.1,
    }
}

/// What a sequence drafts, and how its drafts fare.
#[derive(Debug)]
pub(super) struct Speculator {
    source: Source,
    /// For each kind of draft: matches by their length, or the model's.
    acceptance: Vec<Acceptance>,
    cost: Cost,
    /// The most tokens of the sequence.
    limit: usize,
    /// How many tokens the sequence had when it was last asked for a draft; 0 = never.
    known: usize,
    /// Which kind the draft is of, how many tokens it should have, and what they are.
    kind: usize,
    wanted: usize,
    draft: Vec<u32>,
    drafts: Drafts,
}

/// Where drafts come from.
#[derive(Debug)]
enum Source {
    /// What followed before in the text.
    Lookup {
        text: Lookup,
        /// What a match that was not worth a draft foretold: its kind and its first token. Whether that is what was drawn says as much
        /// as a draft would, and costs nothing.
        foretold: Option<(usize, u32)>,
    },
    /// Another model.
    Model {
        /// Its row of that model's cache, once it has one.
        row: Option<usize>,
        /// How many of the sequence's tokens that row holds.
        held: usize,
        /// The most that it can hold.
        context: usize,
    },
}

impl Speculator {
    /// Drafts from the text itself, of a sequence of at most `limit` tokens, where a drafted token costs so much of a step.
    pub(super) fn lookup(cost: f64, limit: usize) -> Self {
        Self::new(Source::Lookup { text: Lookup::default(), foretold: None }, Cost { run: RUN, token: cost }, limit)
    }

    /// Drafts of another model with this context.
    pub(super) fn model(cost: f64, limit: usize, context: usize) -> Self {
        Self::new(Source::Model { row: None, held: 0, context }, Cost { run: 0.0, token: cost }, limit)
    }

    fn new(source: Source, cost: Cost, limit: usize) -> Self {
        let expected: &[f64] = match source {
            Source::Lookup { .. } => &EXPECTED_OF_MATCHES,
            Source::Model { .. } => &[EXPECTED_OF_MODELS],
        };
        let acceptance = expected.iter().copied().map(Acceptance::expecting).collect();
        Self { source, acceptance, cost, limit, known: 0, kind: 0, wanted: 0, draft: Vec::new(), drafts: Drafts::default() }
    }

    /// As it was at its beginning: the sequence is run again.
    pub(super) fn restart(&mut self) {
        let source = match self.source {
            Source::Lookup { .. } => Source::Lookup { text: Lookup::default(), foretold: None },
            Source::Model { context, .. } => Source::Model { row: None, held: 0, context },
        };
        *self = Self::new(source, self.cost, self.limit);
    }

    /// Settles what is drafted behind these tokens, of which the last has not been run. Nothing happens where that is settled.
    pub(super) fn propose(&mut self, tokens: &[u32]) {
        if self.known == tokens.len() {
            return;
        }
        let before = std::mem::replace(&mut self.known, tokens.len());
        self.draft.clear();
        self.wanted = 0;
        // A run gives one token more than are drafted.
        let most = self.limit.saturating_sub(tokens.len() + 1).min(MOST);
        match &mut self.source {
            Source::Lookup { text, foretold } => {
                if let Some((kind, token)) = foretold.take()
                    && let Some(acceptance) = self.acceptance.get_mut(kind)
                    && let Some(drawn) = tokens.get(before)
                {
                    acceptance.note(1, usize::from(*drawn == token));
                }
                text.extend(tokens);
                let Some(found) = text.find(tokens) else { return };
                self.kind = found.length - SHORTEST;
                let Some(acceptance) = self.acceptance.get(self.kind) else { return };
                self.wanted = acceptance.length(self.cost, most);
                self.draft = continuation(tokens, found.distance, self.wanted.max(1));
                if self.wanted == 0 {
                    *foretold = self.draft.pop().map(|token| (self.kind, token));
                }
            }
            Source::Model { context, .. } => {
                let most = most.min(context.saturating_sub(tokens.len()));
                let Some(acceptance) = self.acceptance.get_mut(self.kind) else { return };
                self.wanted = acceptance.length(self.cost, most);
                if self.wanted == 0 && most > 0 && acceptance.is_tried() {
                    self.wanted = 1;
                }
            }
        }
    }

    /// What is drafted behind so many tokens.
    pub(super) fn draft(&self, known: usize) -> &[u32] {
        if self.known == known { &self.draft } else { &[] }
    }

    /// Notes how many tokens of the draft were what was drawn; says how drafts have fared.
    pub(super) fn settle(&mut self, accepted: usize) -> Drafts {
        let drafted = self.draft.len();
        if let Source::Model { held, .. } = &mut self.source {
            // The last token of a draft is not run by the model that drafted it.
            *held = self.known + accepted.min(drafted.saturating_sub(1));
        }
        if let Some(acceptance) = self.acceptance.get_mut(self.kind) {
            acceptance.note(drafted, accepted);
        }
        self.draft.clear();
        self.drafts.drafted += drafted;
        self.drafts.accepted += accepted;
        self.drafts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that comes where each run draws what stands in `truth`, and how many runs it took.
    fn speculated(truth: &[u32], prompt: usize) -> (usize, Drafts) {
        let mut speculator = Speculator::lookup(cost(Form::Packed), truth.len());
        let (mut known, mut runs, mut drafts) = (prompt + 1, 0, Drafts::default());
        while known < truth.len() {
            speculator.propose(&truth[..known]);
            let draft = speculator.draft(known).to_vec();
            assert!(known + draft.len() < truth.len(), "a run gives one token more than are drafted");
            let accepted = draft.iter().zip(&truth[known..]).take_while(|(drafted, drawn)| drafted == drawn).count();
            if !draft.is_empty() {
                drafts = speculator.settle(accepted);
            }
            known += accepted + 1;
            runs += 1;
        }
        (runs, drafts)
    }

    #[test]
    fn a_text_that_repeats_its_prompt_takes_few_runs() {
        let mut truth: Vec<u32> = (0..100).collect();
        truth.extend(100..110);
        truth.extend(20..90);
        let (runs, drafts) = speculated(&truth, 100);
        assert!(runs < 25, "{runs} runs for 79 tokens");
        assert!(drafts.accepted > 50 && drafts.drafted >= drafts.accepted, "{drafts:?}");
    }

    #[test]
    fn a_text_where_nothing_repeats_is_never_drafted() {
        let truth: Vec<u32> = (0..200).collect();
        assert_eq!(speculated(&truth, 50), (149, Drafts::default()));
    }

    #[test]
    fn begun_anew_it_drafts_the_same() {
        let truth: Vec<u32> = (0..300u32).map(|place| (place * place) % 23).collect();
        let mut speculator = Speculator::lookup(0.25, truth.len());
        let mut rounds = Vec::new();
        for _ in 0..2 {
            let mut drafts = Vec::new();
            let mut known = 40;
            while known < truth.len() {
                speculator.propose(&truth[..known]);
                speculator.propose(&truth[..known]);
                let draft = speculator.draft(known).to_vec();
                let accepted = draft.iter().zip(&truth[known..]).take_while(|(drafted, drawn)| drafted == drawn).count();
                if !draft.is_empty() {
                    speculator.settle(accepted);
                }
                drafts.push(draft);
                known += accepted + 1;
            }
            rounds.push(drafts);
            speculator.restart();
        }
        assert_eq!(rounds[0], rounds[1]);
        assert!(rounds[0].iter().any(|draft| !draft.is_empty()));
    }
}
