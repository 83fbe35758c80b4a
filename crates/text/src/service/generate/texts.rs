use std::{sync::Arc, time::Instant};

use quintet_onnx::Loaded;
use quintet_proto::text::v1::{FinishReason as FinishMessage, Timings, TokenLogprob, Usage};
use tokio::sync::mpsc;

use crate::{
    Error,
    engine::{Account, Drafts, Engine, Event, FinishReason, Scored, Tokens, sampling::Drawn, stop::StopMatcher},
    tokenizer::Decoding,
};

/// The engine's tokens as text.
pub(super) struct Text {
    events: mpsc::Receiver<Event>,
    decoding: Option<Decoding>,
    stops: StopMatcher,
    min_new_tokens: u32,
    generated: u32,
    /// What it took until its first token, and when that came.
    begun: Option<(Account, Instant)>,
    drafts: Drafts,
    /// What the text begins with before anything is generated.
    beginning: String,
    /// The bytes of tokens, where log-probabilities are reported.
    tokens: Option<Arc<Tokens>>,
    prompt: Vec<u32>,
    /// Held, so that the model is not taken away before the text ends.
    _model: Arc<Loaded<Engine>>,
}

/// A piece of a text.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) prompt_logprobs: Vec<TokenLogprob>,
    /// Set in the last one.
    pub(super) end: Option<End>,
}

/// How a text ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) reason: FinishMessage,
    pub(super) completion_tokens: u32,
    pub(super) cached_tokens: u32,
    pub(super) drafts: Drafts,
    pub(super) timings: Timings,
}

/// A whole text.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) text: String,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) prompt_logprobs: Vec<TokenLogprob>,
    pub(super) end: End,
}

impl Whole {
    pub(super) fn mean_log_probability(&self) -> f64 {
        let sum: f64 = self.logprobs.iter().filter_map(|token| token.logprob).map(f64::from).sum();
        sum / (self.logprobs.len().max(1) as f64)
    }
}

impl Piece {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.logprobs.is_empty() && self.prompt_logprobs.is_empty() && self.end.is_none()
    }
}

impl Text {
    /// The text of a sequence's events, up to the first of these strings after so many tokens.
    pub(super) fn new(
        events: mpsc::Receiver<Event>,
        decoding: Decoding,
        stops: Vec<String>,
        min_new_tokens: usize,
        model: Arc<Loaded<Engine>>,
    ) -> Self {
        Self {
            events,
            decoding: Some(decoding),
            stops: StopMatcher::new(stops),
            min_new_tokens: min_new_tokens as u32,
            generated: 0,
            begun: None,
            drafts: Drafts::default(),
            beginning: String::new(),
            tokens: None,
            prompt: Vec::new(),
            _model: model,
        }
    }

    /// Puts this in front of what is generated.
    pub(super) fn begin_with(&mut self, text: &str) {
        text.clone_into(&mut self.beginning);
    }

    /// Reports log-probabilities, with the tokens' bytes.
    pub(super) fn with_tokens(&mut self, tokens: Arc<Tokens>) {
        self.tokens = Some(tokens);
    }

    /// The prompt whose tokens are scored.
    pub(super) fn score_prompt(&mut self, prompt: &[u32]) {
        self.prompt = prompt.to_vec();
    }

    /// The whole text, decoded at once where no stop string could end it before.
    pub(super) async fn whole(mut self) -> Result<Whole, Error> {
        let (mut text, mut logprobs, mut prompt_logprobs) = (String::new(), Vec::new(), Vec::new());
        let waits = self.stops.is_empty();
        loop {
            let piece = self.piece(waits).await?;
            text += &piece.text;
            logprobs.extend(piece.logprobs);
            prompt_logprobs.extend(piece.prompt_logprobs);
            if let Some(end) = piece.end {
                return Ok(Whole { text, logprobs, prompt_logprobs, end });
            }
        }
    }

    /// The next piece of text.
    pub(super) async fn next(&mut self) -> Result<Piece, Error> {
        self.piece(false).await
    }

    /// The next piece of text. Tokens that came meanwhile are decoded together, or all of them where it `waits` for the end.
    async fn piece(&mut self, waits: bool) -> Result<Piece, Error> {
        let mut piece = Piece { text: std::mem::take(&mut self.beginning), ..Piece::default() };
        let (mut drawn, mut end) = (Vec::new(), None);
        let mut event = self.events.recv().await.ok_or(Error::Ended)?;
        loop {
            match event {
                Event::Prompt(scored) => piece.prompt_logprobs = self.prompt_logprobs(&scored),
                Event::Begun(account) => self.begun = Some((account, Instant::now())),
                Event::Token(token) => drawn.push(token),
                Event::Drafted(drafts) => self.drafts = drafts,
                Event::Finished(reason, account) => {
                    end = Some((reason, account));
                    break;
                }
                Event::Failed(error) => return Err(error.into()),
            }
            event = match self.events.try_recv() {
                Ok(next) => next,
                Err(_) if waits => self.events.recv().await.ok_or(Error::Ended)?,
                Err(_) => break,
            };
        }
        if self.stops.is_empty() {
            self.generated += drawn.len() as u32;
            let ids: Vec<u32> = drawn.iter().map(|drawn| drawn.token).collect();
            if !ids.is_empty() {
                piece.text += &self.decoding.as_mut().ok_or(Error::Ended)?.push(ids).await?;
            }
            self.report(&mut piece, &drawn);
        } else {
            // One token at a time: a stop string must cut the count of tokens where it is complete.
            for token in drawn {
                self.generated += 1;
                let text = self.decoding.as_mut().ok_or(Error::Ended)?.push(vec![token.token]).await?;
                self.report(&mut piece, std::slice::from_ref(&token));
                if self.generated < self.min_new_tokens {
                    piece.text += &text;
                    continue;
                }
                let settled = self.stops.push(&text);
                piece.text += &settled.text;
                if settled.stopped {
                    return Ok(self.stopped(piece));
                }
            }
        }
        let Some((reason, account)) = end else { return Ok(piece) };
        let decoding = self.decoding.take().ok_or(Error::Ended)?;
        let settled = self.stops.push(&decoding.finish().await?);
        piece.text += &settled.text;
        if settled.stopped {
            return Ok(self.stopped(piece));
        }
        piece.text += &self.stops.finish();
        let reason = match reason {
            FinishReason::Eos => FinishMessage::Eos,
            FinishReason::Length => FinishMessage::Length,
        };
        piece.end = Some(End::new(reason, &account, self.drafts));
        Ok(piece)
    }

    /// The end by a stop string: the engine's sequence ends with its receiver.
    fn stopped(&mut self, mut piece: Piece) -> Piece {
        self.events.close();
        let account = self.begun.map(|(account, at)| Account { generated: self.generated as usize, decode: at.elapsed(), ..account });
        piece.end = Some(End::new(FinishMessage::Stop, &account.unwrap_or_default(), self.drafts));
        piece
    }

    fn report(&self, piece: &mut Piece, drawn: &[Drawn]) {
        // Without asking, log-probabilities are not numbers.
        let reported = drawn.iter().filter(|drawn| !drawn.log_probability.is_nan());
        piece.logprobs.extend(reported.map(|drawn| self.logprob(drawn.token, Some(drawn.log_probability), &drawn.top)));
    }

    fn prompt_logprobs(&self, scored: &[Scored]) -> Vec<TokenLogprob> {
        let first = self.prompt.first().map(|token| self.logprob(*token, None, &[]));
        let rest = self.prompt.iter().skip(1).zip(scored);
        first.into_iter().chain(rest.map(|(token, scored)| self.logprob(*token, Some(scored.log_probability), &scored.top))).collect()
    }

    fn logprob(&self, id: u32, logprob: Option<f32>, top: &[(u32, f32)]) -> TokenLogprob {
        let bytes = |id: u32| self.tokens.as_ref().map(|tokens| tokens.bytes(id).to_vec()).unwrap_or_default();
        let top = top.iter().map(|(id, logprob)| TokenLogprob { id: *id, bytes: bytes(*id), logprob: Some(*logprob), top: Vec::new() });
        TokenLogprob { id, bytes: bytes(id), logprob, top: top.collect() }
    }
}

impl End {
    /// Counts the text's tokens among those of its request.
    pub(super) fn add_to(&self, usage: &mut Usage) {
        usage.completion_tokens += self.completion_tokens;
        usage.cached_prompt_tokens = usage.cached_prompt_tokens.max(self.cached_tokens);
        usage.drafted_tokens += self.drafts.drafted as u32;
        usage.accepted_tokens += self.drafts.accepted as u32;
    }

    fn new(reason: FinishMessage, account: &Account, drafts: Drafts) -> Self {
        let timings = Timings {
            queue_seconds: account.queued.as_secs_f64(),
            prefill_seconds: account.prefill.as_secs_f64(),
            decode_seconds: account.decode.as_secs_f64(),
        };
        Self { reason, completion_tokens: account.generated as u32, cached_tokens: account.cached as u32, drafts, timings }
    }
}
