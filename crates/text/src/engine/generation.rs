use std::{sync::Arc, time::Duration};

use quintet_onnx::ModelFolder;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    decoder::BeamStopping,
    guided::Constraint,
    sampling::{Drawn, Sampling},
};
use crate::Error;

/// What to generate: what every generating engine is asked.
#[derive(Debug)]
pub struct Generation {
    /// The prompt's token ids, or the encoder's input.
    pub prompt: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Which of the seed's streams the draws come from: 0 for the first of several sequences for one prompt.
    pub stream: u64,
    /// The most tokens to generate; the prompt and these fit the model's context.
    pub max_new_tokens: usize,
    /// The fewest tokens before the text may end by itself.
    pub min_new_tokens: usize,
    /// Whether the end-of-text token is passed over.
    pub ignore_eos: bool,
    /// What the text must be, if it is not free.
    pub constraint: Option<Constraint>,
    /// Whether each token's log-probability is wanted, and with how many of the likeliest ones beside it.
    pub log_probabilities: Option<usize>,
    /// Whether the prompt's tokens are scored too, but for the first one.
    pub scores_prompt: bool,
    /// Where drafts of its tokens come from.
    pub speculation: Speculation,
    /// Who asks: prompts' prefixes are shared between requests of one scope.
    pub scope: Arc<str>,
    /// 1 is served first, 9 last.
    pub priority: u8,
}

/// Where drafts of a sequence's next tokens come from. The model verifies them, so that they change how long a text takes and not what
/// it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// Nothing is drafted.
    #[default]
    Off,
    /// From what followed in the text so far, the prompt included, where it ended as it does now.
    PromptLookup,
    /// From the smaller model that the model's folder names.
    Draft,
}

/// How drafts of a sequence have fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drafts {
    /// Tokens that were drafted.
    pub drafted: usize,
    /// Those of them that were drawn too.
    pub accepted: usize,
}

/// What a model's `generation_config.json` says about defaults.
#[derive(Clone, Debug)]
pub struct GenerationDefaults {
    /// How tokens are drawn; the seed is unused.
    pub sampling: Sampling,
    /// The most tokens to generate.
    pub max_new_tokens: usize,
    /// The fewest before the text may end by itself.
    pub min_new_tokens: usize,
    /// The power of a text's length by which a beam search divides its score.
    pub length_penalty: f32,
    /// When a beam search ends.
    pub stopping: BeamStopping,
}

/// `generation_config.json`, in Hugging Face's names; other keys are for features that are not here.
#[derive(Default, Deserialize)]
struct GenerationConfig {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repetition_penalty: Option<f32>,
    no_repeat_ngram_size: Option<usize>,
    max_new_tokens: Option<usize>,
    min_new_tokens: Option<usize>,
    length_penalty: Option<f32>,
    early_stopping: Option<EarlyStopping>,
}

/// When a beam search ends, as Hugging Face spells it: true, false, "never".
#[derive(Deserialize)]
#[serde(untagged)]
enum EarlyStopping {
    Bool(bool),
    Word(String),
}

impl From<EarlyStopping> for BeamStopping {
    fn from(early: EarlyStopping) -> Self {
        match early {
            EarlyStopping::Bool(true) => Self::First,
            EarlyStopping::Word(word) if word == "never" => Self::Never,
            EarlyStopping::Bool(false) | EarlyStopping::Word(_) => Self::Estimate,
        }
    }
}

/// The defaults of a model folder: those of its `generation_config.json`, else the model's own distribution and 128
/// tokens. As in Hugging Face, `do_sample = false` means greedy.
pub(super) fn read_defaults(folder: &ModelFolder) -> Result<GenerationDefaults, Error> {
    const FILE: &str = "generation_config.json";
    let config: GenerationConfig = if folder.has(FILE) { super::read_json(folder, FILE)? } else { GenerationConfig::default() };
    let temperature = if config.do_sample == Some(false) { 0.0 } else { config.temperature.unwrap_or(1.0) };
    Ok(GenerationDefaults {
        sampling: Sampling {
            logit_bias: Vec::new(),
            repetition_penalty: config.repetition_penalty.unwrap_or(1.0),
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram_size: config.no_repeat_ngram_size.unwrap_or(0),
            temperature,
            top_k: config.top_k.unwrap_or(0),
            top_p: config.top_p.unwrap_or(1.0),
            min_p: config.min_p.unwrap_or(0.0),
            typical_p: config.typical_p.unwrap_or(1.0),
            seed: 0,
        },
        max_new_tokens: config.max_new_tokens.unwrap_or(128),
        min_new_tokens: config.min_new_tokens.unwrap_or(0),
        length_penalty: config.length_penalty.filter(|penalty| (-10.0..=10.0).contains(penalty)).unwrap_or(1.0),
        stopping: config.early_stopping.map_or(BeamStopping::Estimate, BeamStopping::from),
    })
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its text, or what the text had to be is complete.
    Eos,
    /// The length limit was reached.
    Length,
}

/// What a sequence took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Tokens generated, the end-of-text token included.
    pub generated: usize,
    /// Tokens of the prompt whose keys and values were known already.
    pub cached: usize,
    /// Until it got its place in the cache.
    pub queued: Duration,
    /// From there to its first token.
    pub prefill: Duration,
    /// From its first token to its last.
    pub decode: Duration,
}

/// A token of the prompt under the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Its log-probability, given those before it.
    pub log_probability: f32,
    /// The likeliest tokens at its place, if they are wanted.
    pub top: Vec<(u32, f32)>,
}

/// What a generating engine answers with.
#[derive(Debug)]
pub enum Event {
    /// The scores of the prompt's tokens from the second on, before the first token.
    Prompt(Vec<Scored>),
    /// What it took until its first token, which comes next.
    Begun(Account),
    /// The next token.
    Token(Drawn),
    /// How its drafts have fared so far, after each that was verified for the first time.
    Drafted(Drafts),
    /// The sequence has ended.
    Finished(FinishReason, Account),
    /// The model failed.
    Failed(quintet_onnx::Error),
}

/// The bounded places of an engine's waiting room.
#[derive(Clone, Debug)]
pub struct Queue {
    places: Arc<Semaphore>,
    limit: usize,
}

impl Queue {
    /// A waiting room with this many places.
    pub fn new(limit: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Takes a place, or says at once that there is none. The sequence gives it back when it gets a slot.
    pub fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Full {
            waiting: self.limit - self.places.available_permits(),
            limit: self.limit,
            unit: "sequences",
        })
    }
}

/// The channel of a sequence's events. It holds every event that the sequence can have, so that the engine never
/// waits for a slow client, and no more: a token, and a verified draft for each token at most.
pub(crate) fn events(max_new_tokens: usize) -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(2 * max_new_tokens + 4)
}
