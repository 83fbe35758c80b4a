//! Generate and `GenerateStream`: one path, from the prompt to pieces of text.

use std::sync::Arc;

use quintet_onnx::Loaded;
use quintet_proto::text::v1::{
    FinishReason as FinishMessage, GenerateRequest, GenerateResponse, GenerateStreamResponse, Sampling as SamplingMessage, Stopping, Usage,
};
use quintet_serving::{
    context::Context,
    error::{Checks, status},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;
use tracing::Instrument;

use super::{TextService, models::changed_kind};
use crate::{
    Error,
    engine::{Engine, Event, FinishReason, Generation, GenerationDefaults, sampler::Sampling, stop::StopMatcher},
    tokenizer::Decoding,
};

/// Pieces of text that may wait for a slow client.
const PIECES: usize = 32;

/// A sequence under way, and what its client is to be told first.
struct Started {
    model: String,
    version: String,
    seed: u64,
    prompt_tokens: u32,
    text: TextEvents,
}

/// The engine's tokens as text.
struct TextEvents {
    events: mpsc::Receiver<Event>,
    decoding: Option<Decoding>,
    stops: StopMatcher,
    generated: u32,
    /// Held, so that the model is not taken away before the text ends.
    _model: Arc<Loaded<Engine>>,
}

enum Piece {
    Text(String),
    Last { text: String, reason: FinishMessage, completion_tokens: u32 },
}

impl TextService {
    pub(super) async fn generate_whole(&self, request: GenerateRequest) -> Result<GenerateResponse, Error> {
        let Started { model, version, seed, prompt_tokens, text: mut pieces } = self.start(request).await?;
        let mut whole = String::new();
        loop {
            match pieces.next().await? {
                Piece::Text(text) => whole += &text,
                Piece::Last { text, reason, completion_tokens } => {
                    return Ok(GenerateResponse {
                        model,
                        model_version: version,
                        text: whole + &text,
                        finish_reason: reason.into(),
                        usage: Some(Usage { prompt_tokens, completion_tokens }),
                        seed,
                    });
                }
            }
        }
    }

    pub(super) async fn generate_pieces(
        &self,
        request: GenerateRequest,
    ) -> Result<impl Stream<Item = Result<GenerateStreamResponse, Status>> + Send + use<>, Error> {
        let Started { model, version, seed, prompt_tokens, text: mut pieces } = self.start(request).await?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let task = async move {
            let first = GenerateStreamResponse { model, model_version: version, seed, ..GenerateStreamResponse::default() };
            let mut open = sender.send(Ok(first)).await.is_ok();
            while open {
                // A client that has gone ends the sequence at once, not at its next piece.
                let piece = tokio::select! { piece = pieces.next() => piece, () = sender.closed() => return };
                let (message, last) = match piece {
                    Ok(Piece::Text(text)) if text.is_empty() => continue,
                    Ok(Piece::Text(text)) => (Ok(GenerateStreamResponse { text, ..GenerateStreamResponse::default() }), false),
                    Ok(Piece::Last { text, reason, completion_tokens }) => {
                        let usage = Some(Usage { prompt_tokens, completion_tokens });
                        (Ok(GenerateStreamResponse { text, finish_reason: reason.into(), usage, ..GenerateStreamResponse::default() }), true)
                    }
                    Err(error) => (Err(status(&error)), true),
                };
                open = sender.send(message).await.is_ok() && !last;
            }
        };
        // What belongs to the call goes on with its task.
        self.tasks.spawn(Context::current().scope(task).in_current_span());
        Ok(ReceiverStream::new(receiver))
    }

    /// Checks the request, encodes its prompt and starts the sequence.
    async fn start(&self, request: GenerateRequest) -> Result<Started, Error> {
        let can = |engine: &Engine| matches!(engine, Engine::Decoder(_) | Engine::Seq2Seq(_));
        let loaded = self.models.find(&request.model, &request.model_version, "generate text", can)?;
        let (folder, engine) = (&loaded.folder, &loaded.model);
        let defaults = match engine {
            Engine::Decoder(decoder) => decoder.info().defaults,
            Engine::Seq2Seq(pair) => pair.info().defaults,
            Engine::Encoder(_) => return Err(changed_kind(&loaded)),
        };
        let stopping = request.stopping.unwrap_or_default();
        let sampling = check(&request.prompt, request.sampling.as_ref(), &stopping, &defaults)?;

        let mut prompt = self.tokenizer.encode(folder, vec![request.prompt], None).await?.pop().unwrap_or_default();
        let (room, context) = match engine {
            Engine::Decoder(decoder) => {
                if let Some(bos) = decoder.info().bos
                    && prompt.first() != Some(&bos)
                {
                    prompt.insert(0, bos);
                }
                let context = decoder.info().context;
                (context.saturating_sub(prompt.len()), context)
            }
            Engine::Seq2Seq(pair) => {
                let most = pair.info().max_tokens;
                (if prompt.len() > most { 0 } else { most }, most)
            }
            Engine::Encoder(_) => return Err(changed_kind(&loaded)),
        };
        if room == 0 {
            return Err(Error::invalid("prompt", format!("{} tokens: the model's context is {context}", prompt.len())));
        }
        let max_new_tokens = match stopping.max_new_tokens {
            Some(asked) if asked as usize > room => {
                let description = format!("{asked}: the prompt's {} tokens leave {room} of the model's {context}", prompt.len());
                return Err(Error::invalid("stopping.max_new_tokens", description));
            }
            Some(asked) => asked as usize,
            None => defaults.max_new_tokens.min(room),
        };

        let prompt_tokens = prompt.len() as u32;
        let seed = sampling.seed;
        let decoding = self.tokenizer.decode(folder).await?;
        let generation = Generation { prompt, sampling, max_new_tokens, ignore_eos: stopping.ignore_eos };
        let events = match engine {
            Engine::Decoder(decoder) => decoder.generate(generation)?,
            Engine::Seq2Seq(pair) => pair.generate(generation)?,
            Engine::Encoder(_) => return Err(changed_kind(&loaded)),
        };
        let (model, version) = (folder.name.clone(), folder.version.clone());
        let text = TextEvents { events, decoding: Some(decoding), stops: StopMatcher::new(stopping.stop), generated: 0, _model: loaded };
        Ok(Started { model, version, seed, prompt_tokens, text })
    }
}

impl TextEvents {
    /// The next piece of text. Tokens that came meanwhile are decoded together.
    async fn next(&mut self) -> Result<Piece, Error> {
        let mut ids = Vec::new();
        let mut end = None;
        let mut event = self.events.recv().await.ok_or(Error::Ended)?;
        loop {
            match event {
                Event::Token(id) => ids.push(id),
                Event::Finished { reason, generated } => {
                    end = Some((reason, generated as u32));
                    break;
                }
                Event::Failed(error) => return Err(error.into()),
            }
            match self.events.try_recv() {
                Ok(next) => event = next,
                Err(_) => break,
            }
        }
        let mut text = String::new();
        // One token at a time: a stop string must cut the count of tokens where it is complete.
        for id in ids {
            self.generated += 1;
            let decoding = self.decoding.as_mut().ok_or(Error::Ended)?;
            let settled = self.stops.push(&decoding.push(vec![id]).await?);
            text += &settled.text;
            if settled.stopped {
                return Ok(self.stopped(text));
            }
        }
        let Some((reason, generated)) = end else { return Ok(Piece::Text(text)) };
        let decoding = self.decoding.take().ok_or(Error::Ended)?;
        let settled = self.stops.push(&decoding.finish().await?);
        text += &settled.text;
        if settled.stopped {
            return Ok(self.stopped(text));
        }
        text += &self.stops.finish();
        let reason = match reason {
            FinishReason::Eos => FinishMessage::Eos,
            FinishReason::Length => FinishMessage::Length,
        };
        Ok(Piece::Last { text, reason, completion_tokens: generated })
    }

    /// The end by a stop string: the engine's sequence ends with its receiver.
    fn stopped(&mut self, text: String) -> Piece {
        self.events.close();
        Piece::Last { text, reason: FinishMessage::Stop, completion_tokens: self.generated }
    }
}

/// Checks every field, and fills in the defaults.
fn check(prompt: &str, sampling: Option<&SamplingMessage>, stopping: &Stopping, defaults: &GenerationDefaults) -> Result<Sampling, Error> {
    let mut checks = Checks::new();
    checks.require(!prompt.is_empty(), "prompt", || "empty: at least one character is needed".to_owned());
    checks.require(stopping.max_new_tokens != Some(0), "stopping.max_new_tokens", || "0: must be at least 1".to_owned());
    checks.require(stopping.stop.len() <= 16, "stopping.stop", || format!("{} strings: at most 16", stopping.stop.len()));
    for (index, stop) in stopping.stop.iter().enumerate() {
        checks.require((1..=256).contains(&stop.len()), format!("stopping.stop[{index}]"), || format!("{} bytes: must be 1 to 256", stop.len()));
    }
    let given = sampling.copied().unwrap_or_default();
    // A range check that a NaN fails.
    let mut number = |field: &str, value: Option<f32>, default: f32, ok: fn(f32) -> bool, range: &str| {
        let value = value.unwrap_or(default);
        checks.require(ok(value), format!("sampling.{field}"), || format!("{value}: must be {range}"));
        value
    };
    let defaults = defaults.sampling;
    let sampling = Sampling {
        repetition_penalty: number(
            "repetition_penalty",
            given.repetition_penalty,
            defaults.repetition_penalty,
            |v| (0.1..=10.0).contains(&v),
            "0.1 to 10",
        ),
        temperature: number("temperature", given.temperature, defaults.temperature, |v| (0.0..=100.0).contains(&v), "0 to 100"),
        top_k: given.top_k.map_or(defaults.top_k, |k| k as usize),
        top_p: number("top_p", given.top_p, defaults.top_p, |v| v > 0.0 && v <= 1.0, "above 0 and at most 1"),
        min_p: number("min_p", given.min_p, defaults.min_p, |v| (0.0..=1.0).contains(&v), "0 to 1"),
        seed: given.seed.unwrap_or_else(rand::random),
    };
    checks.finish().map_err(Error::Invalid)?;
    Ok(sampling)
}
