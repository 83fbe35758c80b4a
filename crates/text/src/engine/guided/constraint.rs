//! One text as it grows under a guide.

use std::{fmt, thread};

use llguidance::{Logger, Matcher, api::GrammarInit, toktrie::InferenceCapabilities};

use super::{Guide, GuideError, Limits, Vocabulary, source};

/// The stack that a guide is compiled on. `llguidance` recurses once for each `$ref`, rule or terminal that leads to the next, and the
/// longest chains that fit a guide's size end a process whose threads have the common 2 MiB. This holds them, also without
/// optimisation. It is address space: only what is used is ever backed by memory.
const STACK: usize = 256 << 20;

/// What may follow a text that is being written. It is `Send`: a mask may be computed on one thread while the model runs on another.
pub struct Constraint {
    matcher: Matcher,
    kind: &'static str,
    end: Vec<u32>,
    size: usize,
    /// The mask for this position, once it is computed; otherwise of one before.
    mask: Vec<u32>,
    fresh: bool,
    complete: bool,
    ended: bool,
    failed: Option<GuideError>,
}

impl Constraint {
    /// A constraint for a text that begins. It may take a second or two for input that means harm: call it where that may block, and
    /// not for many requests at once.
    pub fn new(vocabulary: &Vocabulary, guide: &Guide, limits: &Limits) -> Result<Self, GuideError> {
        let grammar = source::grammar(guide, limits)?;
        let kind = guide.kind();
        let compile = || {
            let parser = vocabulary
                .factory()
                .create_parser_from_init_ext(GrammarInit::Serialized(grammar), Logger::new(0, 0), InferenceCapabilities::default(), limits.parser())
                .map_err(|error| GuideError::from_message(kind, &error.to_string()))?;
            // They would let a grammar write what only templates may.
            if parser.parser.grammar().lexer_spec().special_token_rx.is_some() {
                return Err(GuideError::Unsupported { kind, message: "tokens by name or number, such as <[1]>".to_owned() });
            }
            let mut constraint = Self {
                matcher: Matcher::new(Ok(parser)),
                kind,
                end: vocabulary.end().to_vec(),
                size: vocabulary.size(),
                mask: Vec::new(),
                fresh: false,
                complete: false,
                ended: false,
                failed: None,
            };
            // What no text satisfies is told now, and the first token needs not wait for its mask.
            constraint.settle()?;
            match constraint.mask() {
                Err(GuideError::DeadEnd { .. }) => {
                    Err(GuideError::Invalid { kind, message: "no text that the vocabulary can write satisfies it".to_owned() })
                }
                Err(error) => Err(error),
                Ok(_) => Ok(constraint),
            }
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("guide".to_owned()).stack_size(STACK).spawn_scoped(scope, compile);
            thread
                .map_err(|error| GuideError::Failed(error.to_string()))?
                .join()
                .unwrap_or_else(|_| Err(GuideError::Failed("the thread panicked".to_owned())))
        })
    }

    /// A constraint for another text under the same guide, as this one stands: it costs less than compiling the guide again. The two
    /// share nothing, so that neither's cost counts against the other.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { matcher: self.matcher.deep_clone(), end: self.end.clone(), mask: self.mask.clone(), failed: self.failed.clone(), ..*self }
    }

    /// The tokens that may follow: token `i` is bit `i % 32` of word `i / 32`. Those that end the text are among them where it is
    /// complete, and are all there is where [`must_stop`](Self::must_stop) holds. Computed once for each position.
    pub fn mask(&mut self) -> Result<&[u32], GuideError> {
        self.check()?;
        if !self.fresh {
            let computed = if self.must_stop() { self.only_end() } else { self.computed()? };
            self.mask = computed;
            self.fresh = true;
        }
        Ok(&self.mask)
    }

    /// Takes the token that was drawn. One that may not follow is refused, and changes nothing.
    pub fn accept(&mut self, token: u32) -> Result<(), GuideError> {
        self.check()?;
        if !self.allows(token)? {
            return Err(GuideError::NotAllowed { token });
        }
        if self.end.contains(&token) {
            self.ended = true;
        } else {
            let taken = self.matcher.consume_token(token).map_err(|error| error.to_string());
            self.held(taken)?;
            self.settle()?;
        }
        self.fresh = false;
        Ok(())
    }

    /// Whether the text is complete as it is: it may end here.
    pub fn is_finished(&self) -> bool {
        self.complete
    }

    /// Whether the text is complete and nothing can follow: it must end here, and no further step of the model is needed.
    pub fn must_stop(&self) -> bool {
        self.ended || self.complete && self.matcher.is_stopped()
    }

    fn allows(&mut self, token: u32) -> Result<bool, GuideError> {
        if token as usize >= self.size || self.ended {
            return Ok(false);
        }
        if self.end.contains(&token) {
            return Ok(self.complete);
        }
        if self.fresh {
            return Ok(self.mask.get(token as usize / 32).is_some_and(|word| word & (1 << (token % 32)) != 0));
        }
        if self.must_stop() {
            return Ok(false);
        }
        let taken = self.matcher.validate_tokens(&[token]).map_err(|error| error.to_string());
        self.held(taken).map(|taken| taken == 1)
    }

    fn computed(&mut self) -> Result<Vec<u32>, GuideError> {
        let computed = self.matcher.compute_mask().map_err(|error| error.to_string());
        let mut mask: Vec<u32> = self.held(computed)?.into();
        // It has room for one token more than there are.
        mask.truncate(self.size.div_ceil(32));
        Ok(mask)
    }

    fn only_end(&self) -> Vec<u32> {
        let mut mask = vec![0; self.size.div_ceil(32)];
        for token in &self.end {
            if let Some(word) = mask.get_mut(*token as usize / 32) {
                *word |= 1_u32 << (token % 32);
            }
        }
        mask
    }

    /// Asks whether the text is complete now.
    fn settle(&mut self) -> Result<(), GuideError> {
        let complete = self.matcher.is_accepting().map_err(|error| error.to_string());
        self.complete = self.held(complete)?;
        Ok(())
    }

    /// Holds on to a failure: a parser that failed once is in no state to go on.
    fn held<T>(&mut self, result: Result<T, String>) -> Result<T, GuideError> {
        result.map_err(|message| {
            let error = GuideError::from_message(self.kind, &message);
            self.failed = Some(error.clone());
            error
        })
    }

    fn check(&self) -> Result<(), GuideError> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, complete, ended, failed, .. } = self;
        f.debug_struct("Constraint")
            .field("kind", kind)
            .field("complete", complete)
            .field("ended", ended)
            .field("failed", failed)
            .finish_non_exhaustive()
    }
}
