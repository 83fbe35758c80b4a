use std::sync::Arc;

use quintet_onnx::Loaded;
use quintet_proto::text::v1::GenerateRequest;
use quintet_serving::context::Context;

use super::{
    ask::{Able, Ask},
    texts::Text,
};
use crate::{
    Error,
    engine::{
        Engine, Generation, Tokens,
        guided::{Constraint, Guide, GuideError, Limits},
    },
    service::{TextService, models::changed_kind},
};

/// The texts of a request under way, and what its client is to be told first.
pub(super) struct Started {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) seed: u64,
    pub(super) prompt_tokens: u32,
    pub(super) logprobs: bool,
    /// How many of the texts are answered with.
    pub(super) n: usize,
    pub(super) texts: Vec<Text>,
}

impl TextService {
    /// Checks the request, encodes its prompt and starts its sequences.
    pub(super) async fn start(&self, request: GenerateRequest) -> Result<Started, Error> {
        let can = |engine: &Engine| matches!(engine, Engine::Decoder(_) | Engine::Seq2Seq(_));
        let loaded = self.models.find(&request.model, &request.model_version, "generate text", can)?;
        let (folder, engine) = (&loaded.folder, &loaded.model);
        let able = match engine {
            Engine::Decoder(decoder) => {
                let info = decoder.info();
                let (beams, has_draft) = (info.slots, info.draft.is_some());
                Able { defaults: &info.defaults, vocabulary: info.vocabulary, beams, goes_on: true, has_draft, speculation: self.speculation }
            }
            Engine::Seq2Seq(pair) => {
                let info = pair.info();
                let beams = info.slots;
                Able { defaults: &info.defaults, vocabulary: info.vocabulary, beams, goes_on: false, has_draft: false, speculation: self.speculation }
            }
            Engine::Encoder(_) => return Err(changed_kind(&loaded)),
        };
        let ask = Ask::new(&request, able)?;
        let stopping = request.stopping.unwrap_or_default();
        let echoed = if ask.echo { request.prompt.clone() } else { String::new() };

        let field = if request.prompt_ids.is_empty() { "prompt" } else { "prompt_ids" };
        let prompt = if request.prompt_ids.is_empty() {
            let encoded = self.tokenizer.encode(folder, vec![request.prompt], None).await;
            let prompt = encoded.map_err(|error| error.of_inputs("prompt", |_, _| "prompt".to_owned()))?.pop().unwrap_or_default();
            begun(engine, prompt)
        } else {
            request.prompt_ids
        };
        let (room, context) = room(engine, prompt.len());
        if prompt.is_empty() {
            return Err(Error::invalid("prompt", "its text has no tokens"));
        }
        if room == 0 {
            return Err(Error::invalid(field, format!("{} tokens: the model's context is {context}", prompt.len())));
        }
        let max_new_tokens = match stopping.max_new_tokens {
            Some(asked) if asked as usize > room => {
                let description = format!("{asked}: the prompt's {} tokens leave {room} of the model's {context}", prompt.len());
                return Err(Error::invalid("stopping.max_new_tokens", description));
            }
            Some(asked) => asked as usize,
            None => able.defaults.max_new_tokens.min(room),
        };
        let min_new_tokens = if ask.min_new_tokens > 0 { ask.min_new_tokens } else { able.defaults.min_new_tokens.min(max_new_tokens) };
        if ask.min_new_tokens > max_new_tokens {
            let description = format!("{}: at most {max_new_tokens} tokens are generated", ask.min_new_tokens);
            return Err(Error::invalid("stopping.min_new_tokens", description));
        }

        let tokens = if ask.logprobs || ask.guide.is_some() { Some(self.tokens(&loaded).await?) } else { None };
        let constraint = match (&ask.guide, &tokens) {
            (Some(guide), Some(tokens)) => Some(self.constraint(Arc::clone(tokens), guide.clone()).await?),
            _ => None,
        };
        let call = Context::current();
        let scope: Arc<str> = if self.share_prefixes { "".into() } else { Arc::clone(&call.tenant) };
        let reported = ask.logprobs || ask.best_of > ask.n;
        let generation = |stream: usize| Generation {
            prompt: prompt.clone(),
            sampling: ask.sampling.clone(),
            stream: stream as u64,
            max_new_tokens,
            min_new_tokens,
            ignore_eos: stopping.ignore_eos,
            constraint: constraint.as_ref().map(Constraint::fork),
            log_probabilities: reported.then_some(ask.top),
            scores_prompt: ask.echo && ask.logprobs && stream == 0,
            speculation: ask.speculation,
            scope: Arc::clone(&scope),
            priority: call.priority,
        };
        let sequences = match (engine, ask.beams) {
            (Engine::Decoder(decoder), Some(beams)) => decoder.search(generation(0), beams, ask.n)?,
            (Engine::Decoder(decoder), None) => (0..ask.best_of).map(|stream| decoder.generate(generation(stream))).collect::<Result<_, _>>()?,
            (Engine::Seq2Seq(pair), Some(beams)) => pair.search(generation(0), beams, ask.n)?,
            (Engine::Seq2Seq(pair), None) => (0..ask.best_of).map(|stream| pair.generate(generation(stream))).collect::<Result<_, _>>()?,
            (Engine::Encoder(_), _) => return Err(changed_kind(&loaded)),
        };
        let mut texts = Vec::with_capacity(sequences.len());
        for (index, events) in sequences.into_iter().enumerate() {
            let decoding = self.tokenizer.decode(folder).await?;
            let mut text = Text::new(events, decoding, ask.stops.clone(), min_new_tokens, Arc::clone(&loaded));
            text.begin_with(&echoed);
            if let Some(tokens) = &tokens {
                text.with_tokens(Arc::clone(tokens));
            }
            if index == 0 && ask.echo && ask.logprobs {
                text.score_prompt(&prompt);
            }
            texts.push(text);
        }
        Ok(Started {
            model: folder.name.clone(),
            version: folder.version.clone(),
            seed: ask.sampling.seed,
            prompt_tokens: prompt.len() as u32,
            logprobs: ask.logprobs,
            n: ask.n,
            texts,
        })
    }

    /// The model's tokens, which the tokenization service tells once.
    async fn tokens(&self, loaded: &Loaded<Engine>) -> Result<Arc<Tokens>, Error> {
        let cell = loaded.model.tokens().ok_or(Error::Ended)?;
        let told = cell.get_or_try_init(|| async {
            let (bytes, special) = self.tokenizer.vocabulary(&loaded.folder).await?;
            Ok::<_, Error>(Arc::new(Tokens::new(bytes, special, loaded.model.eos())))
        });
        told.await.cloned()
    }

    /// Compiles a guide, where that may take a second without holding others up.
    async fn constraint(&self, tokens: Arc<Tokens>, guide: Guide) -> Result<Constraint, Error> {
        let field = match &guide {
            Guide::JsonSchema(_) => "guide.json_schema",
            Guide::Regex(_) => "guide.regex",
            Guide::Grammar(_) => "guide.grammar",
            Guide::Choices(_) => "guide.choices",
        };
        let turn = Arc::clone(&self.guides).acquire_owned().await.map_err(|_| Error::Ended)?;
        let compiled = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            Constraint::new(tokens.vocabulary()?, &guide, &Limits::default())
        });
        match compiled.await.map_err(|_| Error::Ended)? {
            Ok(constraint) => Ok(constraint),
            Err(GuideError::Failed(reason)) => Err(Error::Guide(reason)),
            Err(refused) => Err(Error::invalid(field, refused.to_string())),
        }
    }
}

/// The prompt with the token that stands before every text, if the model has one that its tokenizer does not put there.
fn begun(engine: &Engine, mut prompt: Vec<u32>) -> Vec<u32> {
    if let Engine::Decoder(decoder) = engine
        && let Some(bos) = decoder.info().bos.filter(|_| decoder.info().adds_bos)
        && prompt.first() != Some(&bos)
    {
        prompt.insert(0, bos);
    }
    prompt
}

/// How many tokens may follow so many, and the most that there may be.
fn room(engine: &Engine, prompt: usize) -> (usize, usize) {
    let most = engine.max_tokens();
    let room = match engine {
        Engine::Decoder(_) => most.saturating_sub(prompt),
        Engine::Seq2Seq(_) | Engine::Encoder(_) if prompt > most => 0,
        Engine::Seq2Seq(_) | Engine::Encoder(_) => most,
    };
    (room, most)
}
